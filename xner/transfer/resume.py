"""Stages that go on where they were stopped, with the same result to the bit: checkpoints that hold random states."""

import errno
import json
import os
import random
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.types import STEP_OUTPUT

from xner.batch import Batch
from xner.errors import RunError, UserError
from xner.files import file_atomically, write_atomically
from xner.transfer.signals import leave, on_signals

RandomStates = dict[str, Any]

_LAST, _BEGUN = "last.ckpt", "definition.json"


def random_states() -> RandomStates:
    """The states of Python's, NumPy's and torch's random numbers, as what ``torch.load`` takes with weights only."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: RandomStates) -> None:
    """Let random numbers go on from where ``random_states`` saw them."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def write_begun(checkpoints: Path, definition: Mapping[str, Any]) -> None:
    """Say beside a stage's checkpoints what they are of, before there is one."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    write_atomically(checkpoints / _BEGUN, json.dumps(definition))


def read_begun(checkpoints: Path) -> dict[str, Any] | None:
    """Read what a stage's checkpoints are of; ``None`` where there is nothing to go on from.

    Raises:
        RunError: If they do not say it.
    """
    if not (checkpoints / _LAST).is_file():
        return None
    path = checkpoints / _BEGUN
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise RunError(f"{path} is missing or damaged: delete {checkpoints} to begin the stage anew") from error


class ResumeCheckpoint(Checkpoint):
    """Keeps what a stage needs to go on: ``last.ckpt``, after every epoch and where a signal asks to stop.

    A signal to any process ends all of them after the step that it comes in, or after the epoch where no step is left;
    a second one ends it at once. Several GPUs end after the next step that is logged, or the epoch. The checkpoints
    hold the random states of every process.

    Args:
        folder: Where the checkpoints are kept.
        best: Whether to keep ``best.ckpt`` as well, the epoch with the highest F1 on validation.
    """

    def __init__(self, folder: Path, *, best: bool) -> None:
        self.last, self.best = folder / _LAST, folder / "best.ckpt" if best else None
        self.best_f1 = -1.0
        self.asked = 0
        self.found: RandomStates | None = None
        self.handlers = ExitStack()

    def state_dict(self) -> dict[str, float]:
        """The F1 of ``best.ckpt``."""
        return {"best_f1": self.best_f1}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """As ``state_dict``."""
        self.best_f1 = state_dict["best_f1"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the random states of all processes, and whether a callback has found that it is enough."""
        states: list[Any] = [random_states()]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, random_states())
        checkpoint["random_states"] = states
        checkpoint["should_stop"] = trainer.should_stop

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember those of this process: between here and the first step, random numbers may still be drawn."""
        states = checkpoint["random_states"]
        if len(states) == trainer.world_size:
            self.found = states[trainer.global_rank]
        trainer.should_stop = checkpoint["should_stop"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to choose an epoch where none is validated."""
        if self.best and not trainer.enable_validation:
            raise UserError("select=best needs F1 on validation: leave trainer.limit_val_batches as it is")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen for signals in Lightning's place, whose handler sends to other processes amid what they do."""
        self.handlers.enter_context(on_signals(self._ask))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As ``on_train_start``; a test is done again from its beginning."""
        self.handlers.enter_context(on_signals(leave))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Restore random states before the first step."""
        if self.found:
            restore_random_states(self.found)
            self.found = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Where asked to stop, do so after a whole step; the epoch's last one is followed by validation first."""
        done = batch_idx + 1
        whole = done % trainer.accumulate_grad_batches == 0 and trainer.global_step % _asking_steps(trainer) == 0
        if whole and done < trainer.num_training_batches:
            self._stop_if_asked(trainer, save=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the epoch."""
        f1 = float(trainer.callback_metrics.get("val/f1", -1.0))
        if self.best and f1 > self.best_f1:
            self.best_f1 = f1
            trainer.save_checkpoint(self.best)
        trainer.save_checkpoint(self.last)
        self._stop_if_asked(trainer, save=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave signals to who had them."""
        self.handlers.close()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As ``on_train_end``."""
        self.handlers.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """As ``on_train_end``."""
        self.handlers.close()

    def _ask(self, number: int, frame: object) -> None:
        if self.asked:
            leave(number)
        self.asked = number

    def _stop_if_asked(self, trainer: pl.Trainer, *, save: bool) -> None:
        asked = self.asked
        if trainer.world_size > 1:
            anywhere = torch.tensor(asked, device=trainer.strategy.root_device)
            torch.distributed.all_reduce(anywhere, torch.distributed.ReduceOp.MAX)
            asked = int(anywhere)
        if asked:
            if save:
                trainer.save_checkpoint(self.last)
            leave(asked)


def _asking_steps(trainer: pl.Trainer) -> int:
    """After how many steps processes ask one another whether to stop."""
    if trainer.world_size == 1 or trainer.strategy.root_device.type == "cpu":
        return 1
    # A GPU has to be waited for to ask: done where logging waits as well.
    return trainer.log_every_n_steps or 50  # type: ignore[attr-defined] # set by Lightning


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are there whole or not at all; Lightning's own pass through the system's temporary folder."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ANN401 - as the base class has it
    ) -> None:
        """Write a checkpoint beside its place, and rename it.

        Raises:
            OSError: As the file system says.
        """
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with file_atomically(Path(path)) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                if "inline_container" not in str(error):
                    raise
                # PyTorch's writer says that a write came short, not why.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
