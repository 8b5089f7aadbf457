"""The length of a training, and checks of options that would train nothing or never validate."""

import math

import lightning.pytorch as pl
from jsonargparse import Namespace

from xner.data.datamodule import PanxDataModule
from xner.errors import UserError


def limits(options: Namespace) -> tuple[float, float]:
    """Return the maximum numbers of epochs and of optimizer steps of a training; infinity stands for no limit."""
    epochs, steps = options.trainer.max_epochs, options.trainer.max_steps
    if epochs is None:
        epochs = 1000 if steps in (None, -1) else -1
    return math.inf if epochs == -1 else epochs, math.inf if steps in (None, -1) else steps


def check_training(options: Namespace) -> None:
    """Check that a command trains at least one step, and can select the weights that it is to end with.

    Raises:
        UserError: If it does not.
    """
    trainer = options.trainer
    for name in ("max_epochs", "max_steps", "limit_train_batches"):
        if trainer[name] == 0:
            raise UserError(f"trainer.{name}=0 trains nothing; use 1 or more, or leave the option out")
    if options.select == "average" and options.model.lora:
        raise UserError(
            "select=average is not possible with model.lora, because the average of adapters is not that of the "
            "weights they stand for; use select=last or best"
        )
    if options.select in ("best", "oracle"):
        every, epochs = trainer.check_val_every_n_epoch or 1, limits(options)[0]
        if every > epochs:
            raise UserError(
                f"trainer.check_val_every_n_epoch={every} is more than trainer.max_epochs={epochs}, but "
                f"select={options.select} needs F1 on validation; use a smaller number"
            )
        if trainer.limit_val_batches == 0:
            raise UserError(
                f"trainer.limit_val_batches=0 skips validation, which select={options.select} needs; leave it out"
            )


def check_interval(trainer: pl.Trainer, sentences: int, data: PanxDataModule, where: str = "") -> None:
    """Check that an epoch has as many batches as validation waits for.

    Args:
        trainer: The trainer.
        sentences: Number of training sentences.
        data: The data module.
        where: The beginning of the error's text.

    Raises:
        UserError: If it has fewer.
    """
    every = trainer.val_check_interval
    if not isinstance(every, int) or trainer.check_val_every_n_epoch is None or not trainer.limit_val_batches:
        return
    batches = epoch_batches(trainer, sentences, data)
    if every > batches:
        raise UserError(
            f"{where}trainer.val_check_interval={every} is more than the {batches} batches of an epoch; use a smaller "
            "number, or trainer.check_val_every_n_epoch=null to count batches over epochs"
        )


def epoch_batches(trainer: pl.Trainer, sentences: int, data: PanxDataModule) -> int:
    """Return the number of batches of an epoch, per process, within the trainer's limits.

    Args:
        trainer: The trainer.
        sentences: Number of training sentences.
        data: The data module.
    """
    limit, batches = trainer.limit_train_batches, -(-sentences // (data.batch_size * trainer.world_size))
    # To Lightning, 1.0 is all batches and 1 is one batch.
    return min(limit, batches) if isinstance(limit, int) else int(limit * batches)
