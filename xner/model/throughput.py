"""How fast training goes: sentences and pieces a second, how much of the batches is padding, and a GPU's memory."""

import time

import torch
from torch import Tensor

from xner.batch import Batch


class Speed:
    """Counts what training takes in, between one reading and the next.

    Counts stay on the device until they are read, so that a GPU is never waited for in between.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew; what happened since the last reading, as a validation, is left out."""
        self.began = time.perf_counter()
        self.sentences = 0
        self.places = 0
        self.pieces: Tensor | int = 0

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        self.sentences += len(batch.sentences)
        self.places += batch.windows.numel()
        self.pieces = self.pieces + (batch.windows > 0).sum()

    def read(self, processes: int) -> dict[str, float]:
        """Read the counts and begin anew.

        Args:
            processes: How many processes train alike.

        Returns:
            ``sentences_per_second`` and ``pieces_per_second`` of all processes (padding is no piece), ``padding``, a
            share of all places in the rows, and on a GPU ``gpu_memory``, the most that was allocated so far, in GB.
        """
        pieces = float(self.pieces)
        seconds = time.perf_counter() - self.began
        found = {
            "sentences_per_second": processes * self.sentences / seconds,
            "pieces_per_second": processes * pieces / seconds,
            "padding": 1 - pieces / max(self.places, 1),
        }
        if isinstance(self.pieces, Tensor) and self.pieces.is_cuda:
            found["gpu_memory"] = torch.cuda.max_memory_allocated(self.pieces.device) / 1e9
        self.restart()
        return found
