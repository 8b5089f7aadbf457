"""What a checkpoint says of its weights beside their values: what they have seen, as a model folder does."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from xner.data.datamodule import PanxDataModule
from xner.errors import RunError, UserError
from xner.lineage.history import History, read_history, trained_further
from xner.lineage.record import Episode
from xner.model.classifier import TokenClassifier


def check_checkpoint(path: str) -> None:
    """Look whether there is a checkpoint at a path, as far as that can be told before Lightning loads it.

    Args:
        path: As Lightning takes it: a file, the folder of a sharded checkpoint, a URL, or a word for one of its own.

    Raises:
        UserError: If it is not a checkpoint.
        RunError: If it is only a part of one.
    """
    if path in ("best", "last", "hpc") or path.startswith("registry") or "://" in path:
        return
    if not Path(path).exists():
        raise UserError(f"ckpt_path={path!r}: there is no such file")
    if (Path(path) / "config.json").is_file():
        raise UserError(f"ckpt_path={path!r} is a model folder: give it as --model.backbone")
    if Path(path).is_file() and not is_zipfile(path):
        with Path(path).open("rb") as file:
            if file.read(2) == b"PK":
                raise RunError(f"ckpt_path={path!r} is damaged: it is only a part of a checkpoint; use another one")
        raise UserError(f"ckpt_path={path!r} is not a checkpoint of Lightning; use one that a fit has written")


class LineageCallback(Callback):
    """Puts into checkpoints what their weights have seen, and takes it from the one that weights come from.

    Without it, the weights of a checkpoint would pass for those of the backbone, and a score for zero-shot.

    Attributes:
        loaded: The history that came with a checkpoint; ``None`` where there was no checkpoint.
        own: How many of its last episodes are those of the training that the checkpoint is of.
        training: What that training's steps depend on, see ``_training``.
    """

    def __init__(self) -> None:
        self.loaded: History | None = None
        self.own = 0
        self.training: dict[str, Any] = {}
        self._read: History | None = None

    def before(self, model: TokenClassifier) -> History:
        """The history of the weights that a command starts with."""
        if self.loaded:
            return self.loaded
        if self._read is None:
            self._read = read_history(model.backbone_name)
        return self._read

    def after(self, model: TokenClassifier, data: PanxDataModule) -> History:
        """The history of the weights once they are trained; where that only goes on, it is no other episode."""
        seed = os.environ.get("PL_GLOBAL_SEED")
        further = trained_further(self.before(model), data, None if seed is None else int(seed))
        if self.loaded and self._own_episodes() == further.lineage["episodes"][-len(data.languages) :]:
            return self.loaded
        return further

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As ``on_test_start``: the model folder will say it.

        Raises:
            UserError: As there; if the checkpoint is of a training on other sentences, in other batches, in another
                order or with another schedule: what is left of its steps and learning rate would be of no training.
        """
        self.on_test_start(trainer, pl_module)
        if self.loaded:
            data = trainer.datamodule  # type: ignore[attr-defined] # set by Lightning
            saved = self._own_episodes()
            asked = trained_further(self.loaded, data, None).lineage["episodes"][-len(data.languages) :]
            if [episode["digest"] for episode in saved] != [episode["digest"] for episode in asked]:
                raise UserError(
                    f"ckpt_path goes on with a training on {_sentences(saved)}, and the data options are those of "
                    f"{_sentences(asked)}: give the same, or start anew from a model folder as --model.backbone"
                )
            _check_same_training(self.training, _training(trainer, pl_module, data))

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the history, in words and tensors that are loaded with weights only."""
        data = trainer.datamodule  # type: ignore[attr-defined] # set by Lightning
        history = self.after(pl_module, data)  # type: ignore[arg-type] # the command has one model
        checkpoint["history"] = {
            "lineage": history.lineage,
            "sentences": torch.from_numpy(history.sentences),
            "words": torch.from_numpy(history.words),
            "own": len(data.languages),
        }
        checkpoint["training"] = _training(trainer, pl_module, data)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the history."""
        if "history" in checkpoint:
            found = checkpoint["history"]
            self.loaded = History(found["lineage"], found["sentences"].numpy(), found["words"].numpy())
            self.own = found["own"]
            self.training = checkpoint["training"]

    def _own_episodes(self) -> list[Episode]:
        return self.loaded.lineage["episodes"][-self.own :] if self.loaded else []

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse to guess a history: what a test says depends on it.

        Raises:
            UserError: If the checkpoint has none.
        """
        if trainer.ckpt_path and not self.loaded:
            raise UserError(
                f"ckpt_path={str(trainer.ckpt_path)!r} does not say what its weights were trained on, as one of "
                "weights alone: give the fit's model folder as --model.backbone"
            )


def _training(trainer: pl.Trainer, model: pl.LightningModule, data: PanxDataModule) -> dict[str, Any]:
    """Collect what the steps of a training depend on beside its sentences, by the option that decides it."""
    steps = int(trainer.estimated_stepping_batches)
    options = model.hparams
    warmup = math.ceil(steps * options["warmup_ratio"])
    subset = any(data.samples_of(language) is not None for language in data.languages)
    return {
        "data.batch_size x processes x trainer.accumulate_grad_batches": data.batch_size
        * trainer.world_size
        * trainer.accumulate_grad_batches,
        # It sets the limits too.
        "trainer.overfit_batches": trainer.overfit_batches,  # type: ignore[attr-defined] # set by Lightning
        "trainer.limit_train_batches": trainer.limit_train_batches,
        "seed_everything": data.order_seed,
        "data.shuffle_seed": data.shuffle_seed,
        "data.subset_seed": data.subset_seed if subset else None,
        "data.languages": data.languages,
        "model.schedule": options["schedule"],
        "model.warmup_ratio (in steps)": warmup,
        # A constant learning rate does not depend on how many steps there are.
        "trainer.max_epochs or max_steps (in optimizer steps)": None if options["schedule"] == "constant" else steps,
    }


def _check_same_training(saved: dict[str, Any], asked: dict[str, Any]) -> None:
    for name, value in asked.items():
        if saved.get(name) != value:
            raise UserError(
                f"{name}={value}, but the training that ckpt_path goes on with has {saved.get(name)}; give that, or "
                "start a new training from a model folder as --model.backbone"
            )


def _sentences(episodes: Sequence[Episode]) -> str:
    return " and ".join(f"{each['sentences']} sentences of {each['language']}/{each['split']}" for each in episodes)


def history_in(trainer: pl.Trainer) -> LineageCallback:
    """Find a trainer's; a reference kept elsewhere would, through it, hold on to the trainer and its model."""
    return next(each for each in trainer.callbacks if isinstance(each, LineageCallback))  # type: ignore[attr-defined]
