"""Callbacks of the command line: progress, the best checkpoint, and those of Lightning that cannot be used."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    BatchSizeFinder,
    Callback,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    ProgressBar,
    StochasticWeightAveraging,
    TQDMProgressBar,
    WeightAveraging,
)
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.utilities.types import STEP_OUTPUT

from xner.cli.output import duration, say
from xner.errors import UserError, did_you_mean
from xner.model.classifier import TokenClassifier
from xner.model.metrics import validation_scores
from xner.model.monitoring import MEASURED
from xner.tags import TagSet

UNSUITABLE: Mapping[type[Callback], str] = {
    GradientAccumulationScheduler: "changes the number of steps, on which the learning-rate schedule and the loss "
    "depend; use trainer.accumulate_grad_batches",
    StochasticWeightAveraging: "copies the model before its weights are loaded, and so averages nothing; use "
    "EMAWeightAveraging",
    BaseFinetuning: "freezes layers before the network is loaded, and so none; use model.freeze=embeddings, or "
    "model.freeze=6 for the first 6 layers as well",
    LearningRateFinder: "sets a learning rate that the schedule, which is there before, does not take up; use "
    "model.learning_rate",
    BatchSizeFinder: "changes the number of sentences per step in the middle of a training; use data.batch_size",
}
"""Callbacks that would do something else than they promise, and what to use instead."""


def check_callbacks(callbacks: Sequence[Callback], *, compact_vocabulary: bool, averages: bool) -> None:
    """Refuse callbacks that would do something else than they promise.

    Args:
        callbacks: The callbacks that were given.
        compact_vocabulary: The option ``model.compact_vocabulary``.
        averages: Whether ``select`` is ``average``.

    Raises:
        UserError: If there is one.
    """
    for callback in callbacks:
        name = f"trainer.callbacks: {type(callback).__name__}"
        for kind, reason in UNSUITABLE.items():
            if isinstance(callback, kind):
                raise UserError(f"{name} {reason}")
        if averages and isinstance(callback, WeightAveraging):
            raise UserError(f"{name} averages weights by itself, which select=average would replace; use one of both")
        if compact_vocabulary and isinstance(callback, WeightAveraging):
            raise UserError(
                f"{name} averages all trained weights, but embedding rows that do not occur are only decayed; use "
                "model.compact_vocabulary=false"
            )


def check_monitored(callbacks: Sequence[Callback], model: TokenClassifier, tag_set: TagSet) -> None:
    """Check that the scores that callbacks monitor are logged, before training begins.

    Models and callbacks of other packages may log scores of their own, so that those of all are then unknown.

    Args:
        callbacks: The callbacks of the trainer.
        model: The model.
        tag_set: The tag set of the data.

    Raises:
        UserError: If one is not.
    """
    if type(model) is not TokenClassifier or any(
        type(each).__module__.partition(".")[0] not in ("lightning", "xner") for each in callbacks
    ):
        return
    logged = [f"val/{name}" for name in ("loss", *reversed(validation_scores(tag_set)))]
    logged += ["train/loss", *(f"train/{name}" for name in MEASURED), "epoch", "step"]
    for callback in callbacks:
        score = getattr(callback, "monitor", None)
        if score is not None and getattr(callback, "strict", True) and score not in logged:
            raise UserError(
                f"trainer.callbacks: {type(callback).__name__} monitors {score!r}, which is not logged; "
                f"{did_you_mean(score, logged)}"
            )


def own_callbacks(given: Sequence[Callback], *, progress: bool, in_stage: bool, best: Path | None) -> list[Callback]:
    """Make the callbacks that the command line adds.

    Args:
        given: The callbacks that were given.
        progress: Whether to show progress.
        in_stage: Whether several trainings follow one another, below a bar of their own.
        best: The folder of the checkpoints that the best one is selected from; ``None`` selects the last epoch.
    """
    callbacks: list[Callback] = []
    if best:
        callbacks.append(ResumedBest())
        if not any(isinstance(callback, ModelCheckpoint) and callback.monitor for callback in given):
            # A fixed folder is found again by a resumed fit. One callback would keep the last epoch only if it is best.
            callbacks += [
                ModelCheckpoint(best, "best", monitor="val/f1", mode="max", enable_version_counter=False),
                ModelCheckpoint(best, "last", enable_version_counter=False),
            ]
    if progress and not any(isinstance(callback, ProgressBar) for callback in given):
        callbacks.append(Bars(in_stage=in_stage) if sys.stdout.isatty() else Lines())
    return callbacks


class ResumedBest(Callback):
    """Refuse to select the best checkpoint of a resumed training whose earlier scores are unknown."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that the score of the best checkpoint was restored, which Lightning does in the same folder only.

        Raises:
            UserError: If it was not.
        """
        best = monitoring(trainer)
        if best and best.best_model_path and best.best_model_score is None:
            raise UserError(
                "select=best cannot be resumed with checkpoints in another folder, because the best score so far stays "
                f"with the old ones; use the trainer.default_root_dir, or the ModelCheckpoint's dirpath, of "
                f"{best.best_model_path}"
            )


class Validations(Callback):
    """Keep the scores of each validation of a fit, for the model card.

    Attributes:
        scores: The scores by their name without ``val/``, by the number of optimizer steps before the validation.
    """

    def __init__(self) -> None:
        self.scores: dict[int, dict[str, float]] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the scores, unless the validation is of a part of the sentences."""
        # To Lightning, 1.0 is all batches and 1 is one batch.
        whole = isinstance(trainer.limit_val_batches, float) and trainer.limit_val_batches == 1
        if whole and not trainer.sanity_checking:
            found = trainer.callback_metrics.items()
            self.scores[trainer.global_step] = {
                name.removeprefix("val/"): float(value) for name, value in found if name.startswith("val/")
            }


def monitoring(trainer: pl.Trainer) -> ModelCheckpoint | None:
    """Return the callback that saves a trainer's best checkpoint; ``None`` where none monitors a score."""
    checkpoints = (each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint))
    return next((each for each in checkpoints if each.monitor), None)


class Bars(TQDMProgressBar):
    """Show Lightning's progress bars with F1 and speed.

    Args:
        in_stage: Whether there is a bar of stages above them; they are then removed when they are full.
    """

    def __init__(self, *, in_stage: bool) -> None:
        # Showing the loss waits for the GPU.
        super().__init__(refresh_rate=50 if torch.cuda.is_available() else 1, process_position=int(in_stage))
        self.in_stage = in_stage

    def init_train_tqdm(self) -> Tqdm:
        """Make the bar of an epoch."""
        bar = super().init_train_tqdm()
        bar.leave = not self.in_stage
        return bar

    def init_test_tqdm(self) -> Tqdm:
        """Make the bar of a test."""
        bar = super().init_test_tqdm()
        bar.leave = not self.in_stage
        return bar

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return what is shown beside the bars."""
        return {**_shown(trainer)}


class Lines(ProgressBar):
    """Print a line about the progress of training and testing from time to time, for a log file.

    Args:
        every: Minimum number of seconds between two lines.
    """

    def __init__(self, every: float = 30) -> None:
        super().__init__()
        self.every = every
        self.shown = True
        self.said = self.began = time.monotonic()
        self.steps = 0

    def disable(self) -> None:
        """Print nothing, as in all processes but the first."""
        self.shown = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start to measure."""
        self.said = self.began = time.monotonic()
        self.steps = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: object, batch_idx: int
    ) -> None:
        """Print the batch, the scores so far and the time left, evaluations included."""
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
        """Print the batch."""
        if self._due():
            totals = trainer.num_test_batches
            say(f"test {dataloader_idx + 1}/{len(totals)}: batch {batch_idx + 1}/{totals[dataloader_idx]}")

    def _due(self) -> bool:
        now = time.monotonic()
        if not self.shown or now < self.said + self.every:
            return False
        self.said = now
        return True


def _shown(trainer: pl.Trainer) -> dict[str, float]:
    """Return what is logged for a progress bar, under shorter names."""
    names = {"train/loss": "loss", "val/f1": "F1", "train/sentences_per_second": "sentences/s"}
    found = trainer.progress_bar_metrics
    return {name: float(found[key]) for key, name in names.items() if key in found}
