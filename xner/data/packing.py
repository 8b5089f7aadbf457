"""Pack sentences into rows with little padding.

PAN-X sentences have 14 pieces on average and vary much in length, so most of a padded batch is padding. A packed row
holds several windows; their numbers and positions are part of the batch, so that the model keeps them separate.
"""

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from xner.batch import Batch
from xner.data.encode import Encoded, offsets
from xner.data.sampler import ROW_STEP, BatchIndices, EvaluationSampler, LengthBuckets, TrainSampler, round_up
from xner.tags import IGNORE

Int64 = npt.NDArray[np.int64]


def fit_rows(lengths: Sequence[int], width: int) -> tuple[list[int], int]:
    """Assign windows to rows by first-fit decreasing: the longest first, each to the first row with enough space.

    Args:
        lengths: The number of pieces of each window, none above ``width``.
        width: Pieces per row.

    Returns:
        The start of each window in the concatenated rows, and the number of rows.

    >>> fit_rows([3, 6, 2, 4], width=8)
    ([12, 0, 6, 8], 2)
    """
    starts = [0] * len(lengths)
    buckets = LengthBuckets(sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True), lengths)
    rows = 0
    # Filling one row after the other with the longest window that still fits gives the same rows.
    while buckets.remaining:
        start = rows * width
        for window in buckets.pop_row(width):
            starts[window] = start
            start += lengths[window]
        rows += 1
    return starts, rows


@dataclass(eq=False)
class RowDataset(Dataset[Batch]):
    """Encoded sentences as a map-style data set of whole batches, indexed by ``BatchIndices``.

    Args:
        encoded: The sentences.
        padding_id: The piece id of padding.
        row_length: Approximate number of pieces per packed row; a row is longer if a window is. ``None`` gives each
            window a row of its own, padded to the longest of the batch.
        few_shapes: Whether to round up the number of rows and their length, so that few shapes occur.
        probabilities: The probability of each label of each word, see ``Batch``. *Shape:* (words, labels)
    """

    encoded: Encoded
    _: KW_ONLY
    padding_id: int
    row_length: int | None = None
    few_shapes: bool = False
    probabilities: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, indices: BatchIndices) -> Batch:
        """Collate the sentences of a batch; without sentences, it is one row of padding."""
        encoded, sentences = self.encoded, indices.sentences
        words, sentence_words = encoded.words_of(sentences)
        source, lengths = encoded.pieces_of(sentences)
        starts, rows, width = self._place_windows(lengths)
        positions = np.arange(len(source)) - np.repeat(offsets(lengths)[:-1], lengths)
        target = np.repeat(starts, lengths) + positions
        labels = encoded.labels[source]

        def fill_rows(values: npt.NDArray[np.integer], padding: int) -> torch.Tensor:
            flat = np.full(rows * width, padding, dtype=np.int64)
            flat[target] = values
            return torch.from_numpy(flat).view(-1, width)

        # The labelled pieces are the first pieces of the words, in the order of the words.
        word_piece = np.full(len(words), -1, dtype=np.int64)
        word_piece[encoded.word_piece[words] >= 0] = target[labels != IGNORE]
        return Batch(
            pieces=fill_rows(encoded.pieces[source], self.padding_id),
            positions=fill_rows(positions, 0),
            windows=fill_rows(np.repeat(np.arange(1, len(lengths) + 1), lengths), 0),
            labels=fill_rows(labels, IGNORE),
            word_piece=torch.from_numpy(word_piece),
            word_label=torch.from_numpy(encoded.word_label[words].astype(np.int64)),
            word_sentence=torch.from_numpy(np.repeat(np.arange(len(sentences)), sentence_words)),
            sentences=torch.from_numpy(sentences),
            step_words=torch.tensor(indices.step_words),
            probabilities=self._place_probabilities(words, word_piece, rows * width, width),
        )

    def _place_probabilities(self, words: Int64, places: Int64, pieces: int, width: int) -> torch.Tensor | None:
        """Put the probabilities of words on their first pieces. *Shape:* (rows, width, labels)."""
        if self.probabilities is None:
            return None
        flat = np.zeros((pieces, self.probabilities.shape[1]), dtype=np.float32)
        flat[places[places >= 0]] = self.probabilities[words[places >= 0]]
        return torch.from_numpy(flat).view(-1, width, flat.shape[1])

    def _place_windows(self, lengths: Int64) -> tuple[npt.ArrayLike, int, int]:
        """Choose the start of each window in the concatenated rows, the number of rows, and their width.

        *Shape of lengths and starts:* (windows,)
        """
        longest = int(lengths.max(initial=1))
        if not len(lengths) or self.row_length is None:
            rows, width = max(len(lengths), 1), longest
            if self.few_shapes:
                rows, width = round_up(rows, 8), round_up(width, 16)
            return np.arange(len(lengths)) * width, rows, width
        width = self.row_length
        if not self.few_shapes:
            return fit_smallest(lengths.tolist(), width)
        while width < longest:
            width *= 2
        starts, rows = fit_rows(lengths.tolist(), width)
        return starts, round_up(rows, 4), width


class ResumableLoader(DataLoader[Batch]):
    """A dataloader that tells Lightning it can resume within an epoch; ``TrainSampler`` skips the batches taken."""

    def state_dict(self) -> dict[str, int]:
        """Return no state, for the sampler derives it from the trainer's progress."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Ignore the empty state."""


def row_loader(rows: RowDataset, sampler: TrainSampler | EvaluationSampler) -> DataLoader[Batch]:
    """Return a dataloader of the batches that a sampler chooses."""
    # No worker processes: collating a batch takes less time than transferring it from one.
    return ResumableLoader(
        rows,
        batch_size=None,
        sampler=sampler,
        pin_memory=torch.cuda.is_available(),
        # Without its own generator, a loader draws from the global one and so changes the dropout masks.
        generator=torch.Generator(),
    )


def padded_batches(encoded: Encoded, padding_id: int, budget: int = 4096) -> Iterator[Batch]:
    """Yield all sentences in batches of similar length, each window in a row of its own, the longest first.

    Args:
        encoded: The sentences.
        padding_id: The piece id of padding.
        budget: Maximum number of pieces per batch, padding included; a longer sentence is a batch of its own.
    """
    rows = RowDataset(encoded, padding_id=padding_id)
    for chosen in EvaluationSampler(encoded.sentence_pieces, budget=budget):
        yield rows[chosen]


_FULL = 0.98
"""Fraction of pieces in a packed batch above which padding is not worth another shape."""


def fit_smallest(lengths: list[int], row_length: int) -> tuple[list[int], int, int]:
    """Fit windows into rows of a given length or, if that leaves much padding, of the best length about it.

    Large batches almost always have rows of the given length, so that few shapes occur: oneDNN generates code for each
    shape of a product, which in bfloat16 takes as long as ten products.

    Returns:
        The start of each window in the concatenated rows, the number of rows, and their width.
    """
    row_length = min(row_length, sum(lengths))
    least = round_up(max(row_length * 3 // 4, *lengths), ROW_STEP)
    given = max(least, round_up(row_length, ROW_STEP))
    fit = (*fit_rows(lengths, given), given)
    if sum(lengths) >= _FULL * fit[1] * given:
        return fit
    widths = range(least, max(least, row_length * 3 // 2) + 1, ROW_STEP)
    others = [(*fit_rows(lengths, width), width) for width in widths if width != given]
    return min([fit, *others], key=lambda each: each[1] * each[2])
