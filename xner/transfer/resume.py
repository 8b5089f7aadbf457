"""Stages that go on where they were stopped, with the same result to the bit: checkpoints that hold random states."""

import random
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

RandomStates = dict[str, Any]


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


class RandomStateKeeper(Callback):
    """Keeps random states in each checkpoint, and restores them when the first epoch after it begins."""

    def __init__(self) -> None:
        self.found: RandomStates | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states of this process."""
        checkpoint["random_states"] = random_states()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember them: between here and the first epoch, random numbers may still be drawn."""
        self.found = checkpoint.get("random_states")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore them once."""
        if self.found:
            restore_random_states(self.found)
            self.found = None


def epoch_checkpoint(folder: Path) -> ModelCheckpoint:
    """Keep the state after the last whole epoch in ``<folder>/last.ckpt``, which is there whole or not at all."""
    return ModelCheckpoint(
        folder, filename="last", every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
