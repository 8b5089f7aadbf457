"""Lightning's Trainer, which gives the commands ``fit`` and ``transfer`` their options and their help."""

from collections.abc import Sequence
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from xner.data.datamodule import PanxDataModule
from xner.errors import UserError
from xner.model.classifier import TokenClassifier
from xner.transfer.experiment import Keep, Select, no_best
from xner.transfer.plan import SIZES


class Trainer(pl.Trainer):
    """Lightning's Trainer, which can end a fit with its best epoch, and has the signature of ``transfer``."""

    def fit(  # type: ignore[override] # the model is one that can take a checkpoint's weights
        self,
        model: TokenClassifier,
        train_dataloaders: Any = None,  # noqa: ANN401 - as the base class has it
        val_dataloaders: Any = None,  # noqa: ANN401 - as the base class has it
        datamodule: PanxDataModule | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
        select: Select = "last",
    ) -> None:
        """Train a model, and leave it with the weights of the last epoch or of the best one.

        Args:
            model: Given by --model.
            train_dataloaders: Given by --data.
            val_dataloaders: Given by --data.
            datamodule: Given by --data.
            ckpt_path: Checkpoint to resume from: a file, or last for the last.ckpt in the dirpath of a ModelCheckpoint;
                without one, training begins at the beginning.
            weights_only: Whether the checkpoint may hold tensors and primitives alone; null leaves it to Lightning.
            select: Which checkpoint's weights the model folder gets: last, or best by the score that a ModelCheckpoint
                in trainer.callbacks monitors; without one, best by F1 on validation.

        Raises:
            RunError: If no best checkpoint was kept.
        """
        super().fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, weights_only)
        if select == "best" and not self.fast_dev_run:  # type: ignore[attr-defined] # set by Lightning
            best = monitoring(self)
            if best is None or not best.best_model_path:
                raise no_best()
            checkpoint = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
            model.take_weights(checkpoint["state_dict"])

    def transfer(
        self,
        model: TokenClassifier,
        datamodule: PanxDataModule,
        source: str = "en",
        target: str = "tr",
        sizes: Sequence[int] = SIZES,
        regimes: Sequence[str] = ("progressive",),
        seeds: Sequence[int] = (42,),
        keep: Keep = "source",
        select: Select = "last",
        plan: bool = False,
        executor: Literal["serial", "ray"] = "serial",
        gpus_per_stage: float | None = None,
    ) -> None:
        """Train on one language, evaluate zero-shot on another, adapt to it with more and more of its sentences.

        Args:
            model: Given by --model.
            datamodule: Given by --data.
            source: Language that is learnt first.
            target: Language that it is carried over to.
            sizes: Numbers of target sentences, increasing.
            regimes: Where few-shot stages start from: progressive (the stage before), independent (the source stage),
                scratch (the backbone, target alone), joint (the backbone, source and target).
            seeds: Seeds of training and of the subsets; the whole experiment is run for each.
            keep: Stages whose model folders stay: none, source, last (those nothing starts from) or all.
            select: Epoch whose weights count: last, or best by F1 on validation.
            plan: Print the stages, what each starts from and trains on, and its optimizer steps; run none.
            executor: How stages are run: serial, one after another, or ray, those side by side that do not depend on
                each other, on this machine or the cluster that RAY_ADDRESS names; the results are the same.
            gpus_per_stage: GPUs that ray gives a stage, 0 to 1; null is one where there are any. Without one, a stage
                takes as many processor cores as torch has threads here (OMP_NUM_THREADS).
        """
        raise TypeError("transfer builds a trainer for every stage: call it through the command line")


class ResumedBest(Callback):
    """Refuses to select the best checkpoint of a resumed training whose earlier scores are unknown."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare what was restored: in another folder, Lightning restores the best checkpoint's path, not its score.

        Raises:
            UserError: If the best checkpoint so far has no score.
        """
        best = monitoring(trainer)
        if best and best.best_model_path and best.best_model_score is None:
            raise UserError(
                "select=best cannot be resumed with checkpoints in another folder, since the best score so far stays "
                f"with the old ones; use the trainer.default_root_dir, or the ModelCheckpoint's dirpath, that keeps "
                f"{best.best_model_path}"
            )


def monitoring(trainer: pl.Trainer) -> ModelCheckpoint | None:
    """Find the callback that keeps a trainer's best checkpoint; ``None`` where none monitors a score."""
    checkpoints = (each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint))
    return next((each for each in checkpoints if each.monitor), None)
