"""From sentences to rows of pieces, with little padding or none.

PAN-X sentences have 14 pieces on average and differ much in length, so that most of a padded batch is padding. Here
windows lie end to end in rows; their numbers and positions travel with them, so that the model keeps them apart.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from xner.batch import Batch
from xner.data.encode import Encoded, starts
from xner.data.sampler import BatchIndices, ByLength
from xner.tags import IGNORE

Int64 = npt.NDArray[np.int64]


def fit_rows(lengths: Sequence[int], width: int) -> tuple[list[int], list[int], int]:
    """Lay ranges into rows: the longest first, each into the first row that has room (first-fit decreasing).

    Row by row, that is the longest that still fits.

    Args:
        lengths: Pieces of each stretch, none over ``width``.
        width: Pieces a row.

    Returns:
        Each stretch's row, each stretch's first column, and the number of rows.

    >>> fit_rows([3, 6, 2, 4], width=8)
    ([1, 0, 0, 1], [4, 0, 6, 0], 2)
    """
    row = [0] * len(lengths)
    column = [0] * len(lengths)
    left = ByLength(sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True), lengths)
    rows = 0
    while left.lengths:
        filled = 0
        for stretch in left.fill(width):
            row[stretch], column[stretch] = rows, filled
            filled += lengths[stretch]
        rows += 1
    return row, column, rows


class RowDataset(Dataset[Batch]):
    """Encoded sentences, served as batches of rows.

    Indexed not by a sentence but by a ``BatchIndices``: the sentences of one batch.

    Args:
        encoded: The sentences.
        padding_id: The piece id that fills a row's rest.
        row_length: Pieces a row, about (longer where a window is); ``None`` gives each window a row of its own, as long
            as the longest window.
        few_shapes: Whether to round the number of rows and their length up, so that few shapes occur.
    """

    def __init__(
        self, encoded: Encoded, *, padding_id: int, row_length: int | None = None, few_shapes: bool = False
    ) -> None:
        self.encoded = encoded
        self.padding_id = padding_id
        self.row_length = row_length
        self.few_shapes = few_shapes

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, share: BatchIndices) -> Batch:
        """Lay out the share's sentences; a share without sentences gives one row of padding."""
        encoded, sentences = self.encoded, share.sentences
        windows, _ = concatenate_ranges(encoded.sentence_window, sentences)
        words, sentence_words = concatenate_ranges(encoded.sentence_word, sentences)
        source, lengths = concatenate_ranges(encoded.window_start, windows)
        first, rows, width = self._lay_out(lengths)
        within = np.arange(len(source)) - np.repeat(starts(lengths)[:-1], lengths)
        target = np.repeat(first, lengths) + within

        def laid_out(values: npt.NDArray[np.integer] | Int64, fill: int) -> torch.Tensor:
            rows_of = np.full(rows * width, fill, dtype=np.int64)
            rows_of[target] = values
            return torch.from_numpy(rows_of).view(-1, width)

        # A sentence's pieces lie together in the source, so a word's distance from its sentence's first piece says
        # which of the batch's pieces it begins with.
        sentence_piece = encoded.window_start[encoded.sentence_window[sentences]]
        sentence_pieces = encoded.window_start[encoded.sentence_window[sentences + 1]] - sentence_piece
        word_sentence = np.repeat(np.arange(len(sentences)), sentence_words)
        word_source = encoded.word_piece[words]
        word_place = word_source - sentence_piece[word_sentence] + starts(sentence_pieces)[:-1][word_sentence]
        placed = word_source >= 0
        word_piece = np.full(len(words), -1, dtype=np.int64)
        word_piece[placed] = target[word_place[placed]]
        return Batch(
            pieces=laid_out(encoded.pieces[source], self.padding_id),
            positions=laid_out(within, 0),
            windows=laid_out(np.repeat(np.arange(1, len(windows) + 1), lengths), 0),
            labels=laid_out(encoded.labels[source], IGNORE),
            word_piece=torch.from_numpy(word_piece),
            word_label=torch.from_numpy(encoded.word_label[words].astype(np.int64)),
            word_sentence=torch.from_numpy(word_sentence),
            sentences=torch.from_numpy(sentences),
            step_words=torch.tensor(share.step_words),
        )

    def _lay_out(self, lengths: Int64) -> tuple[Int64, int, int]:
        """Give each window a place: where in rows laid end to end it starts, how many rows there are, and their width.

        *Shape of lengths and places:* (windows,)
        """
        longest = int(lengths.max(initial=1))
        if not len(lengths) or self.row_length is None:
            rows, width = max(len(lengths), 1), longest
            if self.few_shapes:
                rows, width = _round_up(rows, 8), _round_up(width, 16)
            return np.arange(len(lengths)) * width, rows, width
        if self.few_shapes:
            width = self.row_length
            while width < longest:
                width *= 2
            row, column, rows = fit_rows(lengths.tolist(), width)
            rows = _round_up(rows, 4)
        else:
            row, column, rows, width = _fit_tightly(lengths.tolist(), max(self.row_length, longest))
        return np.array(row, dtype=np.int64) * width + np.array(column, dtype=np.int64), rows, width


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


def _fit_tightly(lengths: list[int], width: int) -> tuple[list[int], list[int], int, int]:
    """Lay ranges into the fewest places: rows about as wide as asked for, narrower or wider as that suits them.

    Returns:
        Each stretch's row and first column, the number of rows, and their width.
    """
    row, column, needed = fit_rows(lengths, width)
    pieces = sum(lengths)
    rows = max(-(-pieces // width), 1)
    # As few rows as their pieces would fill; wider ones, where that takes fewer places than the width asked for.
    for other in range(max(-(-pieces // rows), *lengths), -(-needed * width // rows)):
        fitted = fit_rows(lengths, other)
        if fitted[2] <= rows:
            return *fitted, other
    return row, column, needed, width


def concatenate_ranges(bounds: Int64, chosen: Int64) -> tuple[Int64, Int64]:
    """Concatenate the numbers in the chosen ranges ``bounds[i]`` to ``bounds[i + 1]``; give them and the lengths."""
    lengths = bounds[chosen + 1] - bounds[chosen]
    return np.arange(lengths.sum()) + np.repeat(bounds[chosen] - starts(lengths)[:-1], lengths), lengths
