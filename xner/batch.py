"""The interface between data and model: batches, and the methods of a data module that the model calls."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xner.tags import IGNORE, TagSet


class Batch(NamedTuple):
    """Whole sentences, packed into rows of pieces, and their words.

    A sentence longer than the window has several windows; all of them are in the sentence's batch.

    Attributes:
        pieces: Piece ids; padding has the backbone's padding id. *Shape:* (rows, width)
        positions: The place of a piece in its window, from 0; 0 on padding. *Shape:* (rows, width)
        windows: The number of a piece's window, from 1, different from that of the row's other windows; 0 on
            padding. *Shape:* (rows, width)
        labels: The word's label on its first piece, ``IGNORE`` elsewhere. *Shape:* (rows, width)
        word_piece: The place of each word's first piece, ``row * width + column``, -1 for a word without pieces; words
            in order, sentence after sentence. *Shape:* (words,)
        word_label: The gold label of each word. *Shape:* (words,)
        word_sentence: The batch's sentence of each word, from 0, not decreasing. *Shape:* (words,)
        sentences: The number of each sentence in its data set. *Shape:* (sentences,)
        step_words: Number of labelled pieces of the whole optimizer step, over all processes and accumulated batches.
            *Shape:* ()
        probabilities: The probability of each label on each word's first piece, 0 elsewhere, to train on in place of
            the labels; ``None`` trains on the labels. *Shape:* (rows, width, labels)
    """

    pieces: Tensor
    positions: Tensor
    windows: Tensor
    labels: Tensor
    word_piece: Tensor
    word_label: Tensor
    word_sentence: Tensor
    sentences: Tensor
    step_words: Tensor
    probabilities: Tensor | None = None

    @property
    def targets(self) -> Tensor:
        """Return what the loss compares pieces with: labels, or their probabilities as float32.

        *Shape:* (rows * width,) or (rows * width, labels)
        """
        # Half precision converts every floating-point tensor of a batch, but the loss is computed in float32.
        return self.labels.flatten() if self.probabilities is None else self.probabilities.flatten(0, 1).float()

    @property
    def word_targets(self) -> Tensor:
        """Return the gold label of each word, ``IGNORE`` for a word without pieces. *Shape:* (words,)."""
        return self.word_label.masked_fill(self.word_piece < 0, IGNORE)

    def to(self, device: torch.device | str) -> "Batch":
        """Copy the batch to a device, without waiting for a GPU."""
        on_gpu = torch.device(device).type == "cuda"
        parts = {name: part for name, part in self._asdict().items() if part is not None}
        return self._replace(**{name: part.to(device, non_blocking=on_gpu) for name, part in parts.items()})


@runtime_checkable
class BatchSource(Protocol):
    """The attributes and methods of a data module, other than its data loaders, that the model uses."""

    test_languages: list[str]
    tag_set: TagSet

    def used_pieces(self) -> npt.NDArray[np.int64]:
        """Return the ids of the pieces that training and validation look up, ascending. *Shape:* (used,)."""
