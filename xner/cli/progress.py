"""How far a command is: bars on a terminal, and plain lines, one now and then, where there is none."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.utilities.types import STEP_OUTPUT
from tqdm import tqdm


def step_progress(*, in_stage: bool) -> ProgressBar:
    """Progress within one training or evaluation, as the standard output is a terminal or not.

    Args:
        in_stage: Whether there are several, one after another, below a bar of their own.
    """
    return Bars(in_stage=in_stage) if sys.stdout.isatty() else Lines()


def say(line: str) -> None:
    """Print a line, above the bars where there are any."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


class Bars(TQDMProgressBar):
    """Lightning's bars, with F1 and speed behind them.

    Args:
        in_stage: Whether there is a bar of stages above them; they then leave nothing behind.
    """

    def __init__(self, *, in_stage: bool) -> None:
        # Reading the loss for a bar makes a GPU wait.
        super().__init__(refresh_rate=50 if torch.cuda.is_available() else 1, process_position=int(in_stage))
        self.in_stage = in_stage

    def init_train_tqdm(self) -> Tqdm:
        """Make a bar."""
        bar = super().init_train_tqdm()
        bar.leave = not self.in_stage
        return bar

    def init_test_tqdm(self) -> Tqdm:
        """As ``init_train_tqdm``."""
        bar = super().init_test_tqdm()
        bar.leave = not self.in_stage
        return bar

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What stands behind the bars."""
        return {**_shown(trainer)}


class Lines(ProgressBar):
    """A line on training's progress now and then, for a log.

    Args:
        every: Seconds between two lines, at least.
    """

    def __init__(self, every: float = 30) -> None:
        super().__init__()
        self.every = every
        self.shown = True
        self.said = self.began = time.monotonic()
        self.steps = 0

    def disable(self) -> None:
        """Say nothing, as on all ranks but the first."""
        self.shown = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to measure."""
        self.said = self.began = time.monotonic()
        self.steps = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: object, batch_idx: int
    ) -> None:
        """Say where training is, what it reaches and how long it will take at this pace, evaluations included."""
        self.steps += 1
        if self._due():
            total, last = trainer.num_training_batches, trainer.max_epochs or -1
            epoch = f"epoch {trainer.current_epoch + 1}" + (f"/{last}" if last > 0 else "")
            parts = [f"{name} {value:.4g}" for name, value in _shown(trainer).items()]
            if last > 0 and isinstance(total, int):
                left = (last - trainer.current_epoch) * total - batch_idx - 1
                parts.append(f"{duration(left * (time.monotonic() - self.began) / self.steps)} left")
            say(f"{epoch}, batch {batch_idx + 1}/{total}: {', '.join(parts)}")

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT | None,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Say where a test is."""
        if self._due():
            totals = trainer.num_test_batches
            say(f"test {dataloader_idx + 1}/{len(totals)}: batch {batch_idx + 1}/{totals[dataloader_idx]}")

    def _due(self) -> bool:
        now = time.monotonic()
        if not self.shown or now < self.said + self.every:
            return False
        self.said = now
        return True


class StageProgress:
    """How many stages are complete, and how long the others will take.

    Args:
        work: By the stage's id, how much is to be done in it, in any unit; those that are complete have none.
        stages: How many stages there are, complete ones included.
    """

    def __init__(self, work: Mapping[str, float], *, stages: int) -> None:
        self.work = work
        self.stages = stages
        self.complete = stages - len(work)
        self.began = time.monotonic()
        self.done = 0.0
        self.bar: Any = None
        if sys.stdout.isatty() and work:
            form = "{desc} {percentage:3.0f}% |{bar}| {elapsed}<{remaining}{postfix}"
            self.bar = tqdm(total=sum(work.values()), bar_format=form, smoothing=0, file=sys.stdout, leave=False)
            self.bar.set_description(self._count(), refresh=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()

    def completed(self, stage: str, scores: str, seconds: float) -> None:
        """Say that a stage is complete, with its scores and what is left.

        Args:
            stage: Its id.
            scores: Its scores, in words.
            seconds: How long it took.
        """
        self.complete += 1
        self.done += self.work[stage]
        left = sum(self.work.values()) - self.done
        rest = left * (time.monotonic() - self.began) / self.done if self.done else 0
        line = f"[{self.complete}/{self.stages}] {stage}: F1 {scores} in {seconds:.0f} s"
        say(f"{line}; {duration(rest)} left" if left else line)
        if self.bar is not None:
            self.bar.set_description(self._count(), refresh=False)
            self.bar.set_postfix_str(f"F1 {scores}", refresh=False)
            self.bar.update(self.work[stage])

    def _count(self) -> str:
        return f"stages {self.complete}/{self.stages}"


def _shown(trainer: pl.Trainer) -> dict[str, float]:
    """What is logged for a progress bar, under shorter names."""
    names = {"train/loss": "loss", "val/f1": "F1", "train/sentences_per_second": "sentences/s"}
    found = trainer.progress_bar_metrics
    return {name: float(found[key]) for key, name in names.items() if key in found}


def duration(seconds: float) -> str:
    """A time in words, rounded.

    >>> duration(44), duration(200), duration(9000)
    ('44 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
