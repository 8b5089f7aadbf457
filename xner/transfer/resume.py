"""Interrupted stages: signals that stop them between steps, and checkpoints from which they resume bit-identically."""

import errno
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, get_type_hints

import lightning.pytorch as pl
import numpy as np
import torch
from fsspec.core import url_to_fs  # type: ignore[import-untyped] # it ships no types
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.types import STEP_OUTPUT

from xner.batch import Batch
from xner.errors import RunError, UserError
from xner.files import file_atomically, write_atomically
from xner.lineage.checkpoint import check_file
from xner.model.evaluation import FitTemperature
from xner.transfer.definition import Definition
from xner.typed import check_type

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""The signals that stop a command: of the system, of the keyboard, and of SLURM as Lightning's documentation has it
(Lightning's own handler would write a checkpoint in the middle of a step)."""

Handler = Callable[[int, FrameType | None], Any]
RandomStates = dict[str, Any]

_LAST, _BEGUN = "last.ckpt", "definition.json"


def exit_by_signal(number: int, frame: FrameType | None = None) -> None:
    """Exit with the code of a process that a signal ended, running all ``finally`` blocks.

    Raises:
        SystemExit: Always; no library mistakes it for an error of its own, and Lightning passes it on.
    """
    sys.exit(128 + number)


def exit_code(stop: BaseException) -> int:
    """Return the exit code of a stopped process as a shell reports it: 143 for SIGTERM, 130 for SIGINT."""
    if isinstance(stop, SIGTERMException):
        return 128 + signal.SIGTERM
    code = getattr(stop, "code", None)
    return code if code in {128 + number for number in SIGNALS} else 128 + signal.SIGINT


@contextmanager
def on_signals(handler: Handler) -> Iterator[None]:
    """Handle ``SIGNALS`` by a function within a block; in other threads than the main one, do nothing."""
    if current_thread() is not main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def random_states() -> RandomStates:
    """Return the states of the random number generators in a form that ``torch.load`` takes with ``weights_only``."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: RandomStates) -> None:
    """Restore what ``random_states`` returned."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def write_begun(checkpoints: Path, definition: Definition) -> None:
    """Record the definition of a stage beside its checkpoints, before there is one."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    write_atomically(checkpoints / _BEGUN, json.dumps(asdict(definition)))


def read_begun(checkpoints: Path) -> dict[str, Any] | None:
    """Read the definition that a stage's checkpoints belong to; ``None`` where there is no checkpoint.

    Raises:
        RunError: If the file is missing or damaged.
    """
    if not (checkpoints / _LAST).is_file():
        return None
    path = checkpoints / _BEGUN
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        check_type(found, dict[str, Any], "it")
        # A part that is missing, or unknown, is the definition of another version, which the comparison says.
        for name, kind in get_type_hints(Definition).items():
            if name in found:
                check_type(found[name], kind, name)
        return found
    except (FileNotFoundError, ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{path} is missing or damaged; delete {checkpoints} to restart the stage") from error


def read_best(path: Path) -> tuple[dict[str, Any], float]:
    """Read the weights of the best epoch, and the temperature of its probabilities, see ``FitTemperature``.

    Raises:
        RunError: If the file is damaged.
    """
    check_file(path, advice=_advice(path))
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    return checkpoint["state_dict"], FitTemperature.of_checkpoint(checkpoint)


def _advice(checkpoint: Path) -> str:
    """Return what to do about a damaged checkpoint: a stage restarts without those that it resumes from."""
    if (checkpoint.parent / _BEGUN).is_file():
        return f"delete {checkpoint.parent} to restart the stage"
    return "delete it, and use another one"


class ResumeCheckpoint(Checkpoint):
    """Save what a stage resumes from as ``last.ckpt``, after every epoch and when a signal stops it.

    A signal to any process ends all of them after the current step, or after the epoch if no step is left; a second
    signal ends them at once. Several GPUs end after the next logged step, or the epoch. The checkpoints hold the random
    states of every process. ``transfer`` adds this callback to each stage; it cannot be left out.

    Args:
        folder: The folder of the checkpoints.
        best: Whether to save ``best.ckpt`` as well, the epoch with the highest F1 on validation.
    """

    def __init__(self, folder: Path, *, best: bool) -> None:
        self.last, self.best = folder / _LAST, folder / "best.ckpt" if best else None
        self.best_f1 = -1.0
        self.signal = 0
        self.found: RandomStates | None = None
        self.handlers = ExitStack()

    def state_dict(self) -> dict[str, float]:
        """Return the F1 of ``best.ckpt``."""
        return {"best_f1": self.best_f1}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Restore the F1 of ``best.ckpt``.

        Raises:
            RunError: If the file is gone.
        """
        self.best_f1 = state_dict["best_f1"]
        if self.best and self.best_f1 >= 0 and not self.best.is_file():
            raise RunError(f"{self.best} is missing; {_advice(self.best)}")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the random states of all processes, and whether a callback has ended the training."""
        states: list[Any] = [random_states()]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, random_states())
        checkpoint["random_states"] = states
        checkpoint["should_stop"] = trainer.should_stop

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the random states of this process until the first step, because numbers are drawn before it."""
        states = checkpoint["random_states"]
        if len(states) == trainer.world_size:
            self.found = states[trainer.global_rank]
        trainer.should_stop = checkpoint["should_stop"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that there is a validation to select the best epoch by.

        Raises:
            UserError: If there is none.
        """
        if self.best and not trainer.enable_validation:
            raise UserError("select=best needs F1 on validation; leave trainer.limit_val_batches at its default")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Handle signals instead of Lightning, whose handler signals other processes in the middle of a step."""
        self.handlers.enter_context(on_signals(self._on_signal))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Exit at a signal; a test is repeated from its beginning."""
        self.handlers.enter_context(on_signals(exit_by_signal))

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
        """Stop after a whole step if a signal came; the last step of an epoch is followed by validation first."""
        done = batch_idx + 1
        whole = done % trainer.accumulate_grad_batches == 0 and trainer.global_step % _steps_between(trainer) == 0
        if whole and done < trainer.num_training_batches:
            self._stop_if_signalled(trainer, save=True)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the epoch."""
        f1 = float(trainer.callback_metrics.get("val/f1", -1.0))
        if self.best and f1 > self.best_f1:
            self.best_f1 = f1
            trainer.save_checkpoint(self.best)
        trainer.save_checkpoint(self.last)
        self._stop_if_signalled(trainer, save=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the previous signal handlers."""
        self.handlers.close()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the previous signal handlers."""
        self.handlers.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restore the previous signal handlers."""
        self.handlers.close()

    def _on_signal(self, number: int, frame: object) -> None:
        if self.signal:
            exit_by_signal(number)
        self.signal = number

    def _stop_if_signalled(self, trainer: pl.Trainer, *, save: bool) -> None:
        number = self.signal
        if trainer.world_size > 1:
            anywhere = torch.tensor(number, device=trainer.strategy.root_device)
            torch.distributed.all_reduce(anywhere, torch.distributed.ReduceOp.MAX)
            number = int(anywhere)
        if number:
            if save:
                trainer.save_checkpoint(self.last)
            exit_by_signal(number)


def _steps_between(trainer: pl.Trainer) -> int:
    """Return the number of steps between exchanges of signals between processes."""
    if trainer.world_size == 1 or trainer.strategy.root_device.type == "cpu":
        return 1
    # Reading the answer waits for the GPU, so it is done where logging waits as well.
    return trainer.log_every_n_steps or 50  # type: ignore[attr-defined] # set by Lightning


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints atomically, and check them before they are loaded.

    Lightning's own pass through the system's temporary folder.
    """

    def load_checkpoint(self, path: str | Path, *args: Any, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - as in the base class
        """Load a checkpoint that is not damaged, from a file or a URL.

        Raises:
            UserError: If there is none at the URL.
            RunError: If it is damaged, or cannot be read from its server.
        """
        if "://" not in str(path):
            check_file(Path(path), advice=_advice(Path(path)))
            return super().load_checkpoint(path, *args, **options)
        # PyTorch keeps what it has downloaded by the file's name alone, so that one last.ckpt would stand for another.
        with TemporaryDirectory() as folder:
            copy = Path(folder) / "checkpoint"
            system, remote = url_to_fs(str(path))
            try:
                system.get_file(remote, str(copy))
            except FileNotFoundError as error:
                raise UserError(
                    f"ckpt_path={path!r} does not exist; use a checkpoint that a fit has written"
                ) from error
            except Exception as error:  # each file system has exceptions of its own
                raise RunError(f"ckpt_path={path!r} cannot be read ({error}); copy the checkpoint here") from error
            check_file(copy, name=str(path), advice="use another one")
            return super().load_checkpoint(copy, *args, **options)

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ANN401 - as in the base class
    ) -> None:
        """Write a checkpoint to a temporary file, then rename it.

        Raises:
            OSError: If the file system refuses.
        """
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with file_atomically(Path(path)) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                if "inline_container" not in str(error):
                    raise
                # PyTorch's writer reports a short write, but not its cause.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
