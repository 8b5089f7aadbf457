"""Measure throughput, padding and memory during training, and check that all numbers are finite."""

import time
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor

from xner.backbone.weights import first_not_finite
from xner.batch import Batch
from xner.errors import RunError

MEASURED = ("sentences_per_second", "pieces_per_second", "padding", "gpu_memory")
"""The measurements of ``Throughput``; the last one is made on a GPU only."""


class Throughput:
    """Measure sentences and pieces per second, padding, and a GPU's memory.

    Counts stay on the device until they are read, so that nothing waits for a GPU in between.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start to measure; what happened since the last reading, such as a validation, is left out."""
        self.began = time.perf_counter()
        self.sentences = 0
        self.places = 0
        self.pieces: Tensor | int = 0

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        self.sentences += len(batch.sentences)
        self.places += batch.windows.numel()
        self.pieces = self.pieces + (batch.windows > 0).sum()

    def read(self, processes: int) -> dict[str, float]:
        """Read the measurements and restart.

        Args:
            processes: Number of processes that train.

        Returns:
            ``sentences_per_second`` and ``pieces_per_second`` of all processes (padding is not a piece), ``padding`` as
            a fraction of all places in the rows, and on a GPU ``gpu_memory``, the peak of allocated memory in GB.
        """
        pieces = float(self.pieces)
        seconds = time.perf_counter() - self.began
        found = {
            "sentences_per_second": processes * self.sentences / seconds,
            "pieces_per_second": processes * pieces / seconds,
            "padding": 1 - pieces / max(self.places, 1),
        }
        if isinstance(self.pieces, Tensor) and self.pieces.is_cuda:
            found["gpu_memory"] = torch.cuda.max_memory_allocated(self.pieces.device) / 1e9
        self.restart()
        return found


class Diverged(RunError):
    """A training whose loss, gradient or weights are not finite; the text names step, learning rate and sentences."""


class _Watched(NamedTuple):
    """A number that must be finite, the same in every process, and what led to it."""

    name: str
    value: Tensor
    step: int
    learning_rate: float
    sentences: Tensor | None


class MonitoredModule(pl.LightningModule):
    """A LightningModule that logs its throughput and checks that the numbers of its training are finite."""

    def __init__(self) -> None:
        super().__init__()
        self.throughput = Throughput()
        self._watched: list[_Watched] = []
        self._step_loss: Tensor | float = 0.0

    def expect_finite(self, name: str, value: Tensor, sentences: Tensor | None = None) -> None:
        """Check a number of this step: at once on a CPU, on a GPU where something waits for it anyway.

        Args:
            name: Its name, for the error's text.
            value: The number, the same in every process. *Shape:* ()
            sentences: The numbers of the batch's sentences, for the error's text. *Shape:* (sentences,)

        Raises:
            Diverged: If it is not finite.
        """
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self._watched.append(_Watched(name, value.detach(), self.trainer.global_step, rate, sentences))
        if value.is_cpu:
            self.check_finite()

    def check_finite(self) -> None:
        """Check all numbers since the last check.

        Raises:
            Diverged: If one is not finite.
        """
        watched, self._watched = self._watched, []
        if not watched:
            return
        if torch.stack([each.value for each in watched]).isfinite().all():
            # The sentences of the last step are those of its next number as well.
            self._watched = [each for each in watched if each.step == watched[-1].step]
            return
        found = next(each for each in watched if not each.value.isfinite())
        batches = [each.sentences for each in watched if each.step == found.step and each.sentences is not None]
        numbers: list[int] = torch.cat(batches).tolist() if batches else []
        if self.trainer.world_size > 1:
            # The number is the same in every process, so all of them get here.
            gathered: list[list[int]] = [[] for _ in range(self.trainer.world_size)]
            torch.distributed.all_gather_object(gathered, numbers)
            numbers = [number for each in gathered for number in each]
        raise Diverged(
            f"training diverged: the {found.name} of step {found.step + 1} is {float(found.value)}, at a learning rate "
            f"of {found.learning_rate:.4g} and in training sentences {', '.join(map(str, sorted(numbers)))} (counted "
            "from 0 in source order, one language after another); use a lower model.learning_rate, or inspect these "
            "sentences"
        )

    def log_loss(self, loss: Tensor, batch: Batch) -> None:
        """Check that a batch's training loss is finite, and log that of each whole optimizer step.

        Args:
            loss: The batch's part of the step's mean loss, multiplied by the number of processes, detached. *Shape:* ()
            batch: The batch.
        """
        if self.trainer.world_size > 1:
            # Lightning's sync_dist has all processes wait for one another first.
            loss = loss / self.trainer.world_size
            torch.distributed.all_reduce(loss)
        self.expect_finite("loss", loss, batch.sentences)
        begun = self.trainer.fit_loop.batch_idx % self.trainer.accumulate_grad_batches > 0
        self._step_loss = self._step_loss + loss if begun else loss
        if self._step_ends():
            self.log("train/loss", self._step_loss, prog_bar=True, batch_size=len(batch.sentences))

    def _step_ends(self) -> bool:
        """Return whether the batch is the last of its optimizer step, which may have fewer at the end of an epoch."""
        done = self.trainer.fit_loop.batch_idx + 1
        return done % self.trainer.accumulate_grad_batches == 0 or self.trainer.is_last_batch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the weights and the numbers of the last steps are finite."""
        self.check_finite()
        if name := first_not_finite(checkpoint["state_dict"]):
            raise Diverged(
                f"training diverged: {name} is not finite after step {self.trainer.global_step}; use a lower "
                "model.learning_rate"
            )

    def on_fit_start(self) -> None:
        """Forget the numbers of an earlier fit."""
        self._watched = []

    def on_train_epoch_start(self) -> None:
        """Measure the throughput of the epoch."""
        self.throughput.restart()

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        """Log the throughput as often as the loss."""
        self.throughput.add(batch)
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined] # set by Lightning
        # Only where Lightning logs: reading the counts waits for the GPU.
        if every and self._step_ends() and self.trainer.global_step % every == 0:
            self.check_finite()
            for name, value in self.throughput.read(self.trainer.world_size).items():
                self.log(f"train/{name}", value, prog_bar=name == "sentences_per_second")

    def on_train_epoch_end(self) -> None:
        """Check the last steps of the epoch."""
        self.check_finite()

    def on_validation_start(self) -> None:
        """Check the last steps before the validation."""
        self.check_finite()

    def on_validation_end(self) -> None:
        """Leave the duration of the validation out of the throughput of training."""
        self.throughput.restart()
