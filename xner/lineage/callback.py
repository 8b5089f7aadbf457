"""The callback that records in checkpoints what their weights were trained on."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from xner.data.datamodule import PanxDataModule
from xner.errors import UserError
from xner.lineage import NOTHING_SEEN, Episode, History, read_history, same_training, trained_further
from xner.lineage.checkpoint import check_loops
from xner.model.classifier import TokenClassifier


class LineageCallback(Callback):
    """Record in each checkpoint what its weights were trained on, and restore that record with the weights.

    The command line adds it to every trainer, and it cannot be left out: without it, the weights of a checkpoint would
    count as those of the backbone, and a score as zero-shot that is not.

    Attributes:
        loaded: The history that came with a checkpoint; ``None`` where none was loaded.
        own: The number of its last episodes that belong to the training that the checkpoint is of.
        training: The options that the steps of that training depend on.
    """

    def __init__(self) -> None:
        self.loaded: History | None = None
        self.own = 0
        self.training: dict[str, Any] = {}
        self._read: History | None = None

    @staticmethod
    def of(trainer: pl.Trainer) -> "LineageCallback":
        """Return a trainer's callback."""
        return next(each for each in trainer.callbacks if isinstance(each, LineageCallback))  # type: ignore[attr-defined]

    def before(self, model: TokenClassifier) -> History:
        """Return the history of the weights that a command starts with."""
        if self.loaded:
            return self.loaded
        if self._read is None:
            self._read = read_history(model.backbone_name)
        return self._read

    def after(self, model: TokenClassifier, data: PanxDataModule) -> History:
        """Return the history of the weights after training; a resumed training is not an episode of its own."""
        seed = os.environ.get("PL_GLOBAL_SEED")
        further = trained_further(self.before(model), data, None if seed is None else int(seed))
        if self.loaded and same_training(self._own_episodes(), further.lineage["episodes"][-len(data.languages) :]):
            return self.loaded
        return further

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that a resumed training continues the one that the checkpoint is of.

        Raises:
            UserError: If the checkpoint has no history, or if it is of a training on other sentences, in other batches,
                in another order or with another schedule.
        """
        self.on_test_start(trainer, pl_module)
        if self.loaded:
            data = trainer.datamodule  # type: ignore[attr-defined] # set by Lightning
            saved = self._own_episodes()
            asked = trained_further(self.loaded, data, None).lineage["episodes"][-len(data.languages) :]
            if [episode["digest"] for episode in saved] != [episode["digest"] for episode in asked]:
                raise UserError(
                    f"ckpt_path continues a training on {_sentences(saved)}, but the data options give "
                    f"{_sentences(asked)}; use the same, or start a new training from a model folder as "
                    "--model.backbone"
                )
            _check_same_training(self.training, _training(trainer, pl_module, data))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that a loaded checkpoint has a history, which decides what a test may call zero-shot.

        Raises:
            UserError: If it has none.
        """
        if trainer.ckpt_path and not self.loaded:
            raise UserError(
                f"ckpt_path={str(trainer.ckpt_path)!r} does not say what its weights were trained on, as if it held "
                "weights only; use the model folder of the fit as --model.backbone"
            )

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that the weights of a model folder are those that its history was written for.

        Raises:
            RunError: If they are not.
        """
        if not trainer.ckpt_path:
            self.before(pl_module)  # type: ignore[arg-type] # xner's only model

    on_test_epoch_start = on_train_epoch_start = on_validation_epoch_start

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the history, as strings, numbers and tensors, which are loaded with ``weights_only``."""
        data = trainer.datamodule  # type: ignore[attr-defined] # set by Lightning
        history = self.after(pl_module, data)  # type: ignore[arg-type] # xner's only model
        checkpoint["history"] = {
            "lineage": history.lineage,
            **{name: torch.from_numpy(array) for name, array in history.hashes.items()},
            "own": len(data.languages),
        }
        checkpoint["training"] = _training(trainer, pl_module, data)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the history, after checking the progress, which Lightning restores next.

        Raises:
            RunError: If a part of the progress is missing.
        """
        check_loops(checkpoint.get("loops", {}), trainer)
        if "history" in checkpoint:
            found = checkpoint["history"]
            self.loaded = History(found["lineage"], **{name: found[name].numpy() for name in NOTHING_SEEN.hashes})
            self.own = found["own"]
            self.training = checkpoint["training"]

    def _own_episodes(self) -> list[Episode]:
        return self.loaded.lineage["episodes"][-self.own :] if self.loaded else []


def _training(trainer: pl.Trainer, model: pl.LightningModule, data: PanxDataModule) -> dict[str, Any]:
    """Collect what the steps of a training depend on besides its sentences, by the option that decides it."""
    steps = int(trainer.estimated_stepping_batches)
    options = model.hparams
    subset = any(map(data.selection.draws_subset, data.languages))
    return {
        "data.batch_size x processes x trainer.accumulate_grad_batches": data.batch_size
        * trainer.world_size
        * trainer.accumulate_grad_batches,
        # This option sets the limits as well.
        "trainer.overfit_batches": trainer.overfit_batches,  # type: ignore[attr-defined] # set by Lightning
        "trainer.limit_train_batches": trainer.limit_train_batches,
        "seed_everything": data.order_seed,
        "data.shuffle_seed": data.shuffle_seed,
        "data.subset_seed": data.selection.subset_seed if subset else None,
        "data.languages": data.languages,
        "data.smoothing": data.smoothing,
        "model.schedule": options["schedule"],
        # A constant learning rate does not depend on the number of steps.
        "trainer.max_epochs or max_steps (in optimizer steps)": None if options["schedule"] == "constant" else steps,
        "model.warmup_ratio (in steps)": math.ceil(steps * options["warmup_ratio"]),
    }


def _check_same_training(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    for name, value in asked.items():
        if saved.get(name) != value:
            raise UserError(
                f"{name}={value} is not that of the training that ckpt_path continues ({saved.get(name)}); use the "
                "same, or start a new training from a model folder as --model.backbone"
            )


def _sentences(episodes: Sequence[Episode]) -> str:
    return " and ".join(f"{each['sentences']} sentences of {each['language']}/{each['split']}" for each in episodes)
