"""Averages of weights, over the epochs of a training (after Izmailov et al. 2018).

Sums are float64, so an average is rounded once, to the precision of the weights, and the average of one is that one to
the bit.
"""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from xner.batch import Batch
from xner.errors import RunError, UserError

_KEY = "average"
"""Where a checkpoint keeps what has been summed so far."""


class EpochAverage(Callback):
    """Average the weights at the end of every epoch, each with the same weight (after Izmailov et al. 2018).

    An epoch that ``max_steps`` or a callback cuts short counts as a whole one, as the last epoch does where the last
    weights are taken. Weights are those of the whole network: embedding rows that do not occur have decayed differently
    at the end of each epoch, and are averaged as well. Checkpoints hold the sum, so a resumed training ends with the
    same average.

    Attributes:
        epochs: Number of epochs in the sum.
        sums: The sum of their weights by name, float64 on the CPU; twice the size of the network.
    """

    def __init__(self) -> None:
        self.epochs = 0
        self.sums: dict[str, Tensor] = {}

    def weights(self) -> dict[str, Tensor]:
        """Return the average by name, as ``TokenClassifier.take_weights`` takes it, in place of the sum.

        Raises:
            RunError: If no epoch has ended.
        """
        if not self.epochs:
            raise RunError("select=average found no epoch to average; use select=last, or train for an epoch")
        sums, self.sums = self.sums, {}
        return mean_weights(sums, self.epochs)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Add the previous epoch where a checkpoint saved at its last validation was resumed."""
        self._add_until(trainer.current_epoch, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch, before a checkpoint of it is saved."""
        self._add_until(trainer.current_epoch + 1, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the last epoch where a checkpoint saved at its last validation was resumed."""
        self._add_until(trainer.current_epoch, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the sum."""
        checkpoint[_KEY] = {"epochs": self.epochs, "sums": self.sums}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the sum.

        Raises:
            UserError: If the checkpoint has none.
        """
        if _KEY not in checkpoint:
            raise UserError(
                "select=average cannot continue ckpt_path, which was saved without the average of its epochs; use the "
                "select of that training, or start a new one from a model folder as --model.backbone"
            )
        self.epochs, self.sums = checkpoint[_KEY]["epochs"], checkpoint[_KEY]["sums"]

    def _add_until(self, ended: int, model: pl.LightningModule) -> None:
        """Add the present weights, unless they are in the sum, where a number of epochs have ended."""
        if self.epochs < ended:
            add_weights(self.sums, model.state_dict())
            self.epochs += 1


def add_weights(sums: dict[str, Tensor], weights: Mapping[str, Any]) -> None:
    """Add weights to a sum of such, in place.

    Args:
        sums: The sum by name; empty at first.
        weights: A ``state_dict``. Of integers, the last are kept; what is not a tensor is left out.
    """
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            continue
        if not value.is_floating_point():
            sums[name] = value.detach().cpu().clone()
        elif name in sums:
            sums[name].add_(value.detach().cpu())
        else:
            sums[name] = value.detach().to("cpu", torch.float64, copy=True)


def mean_weights(sums: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """Divide a sum of weights by their number, in place.

    Args:
        sums: The sum by name.
        count: How many weights it is of.

    Returns:
        The same tensors.
    """
    for value in sums.values():
        if value.is_floating_point():
            value.div_(count)
    return sums
