"""Which sentences are trained on, and the batches of each rank: shuffled in training, by length in evaluation."""

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import SequentialSampler

Int64 = npt.NDArray[np.int64]


class BatchIndices(NamedTuple):
    """The sentences of one batch on one rank.

    Attributes:
        sentences: Indices of sentences. *Shape:* (sentences,)
        step_words: Number of labelled pieces in the whole optimizer step, over all ranks and accumulated batches.
    """

    sentences: Int64
    step_words: int


# Lightning's overfit_batches replaces every sampler that is not a SequentialSampler, hence the base class.
@dataclass(eq=False)
class TrainSampler(SequentialSampler):
    """Sample the training batches of one rank: each epoch in a new order, on every rank the same number of batches.

    Each step takes the next ``world_size * batch_size`` sentences of the epoch's order and deals them out to the ranks
    in turn, so that any number of ranks takes the same steps. A rank may get an empty batch in the last step.

    Args:
        sentences: Indices of the sentences to train on. *Shape:* (chosen,)
        labelled: Number of labelled pieces of each sentence of the data set. *Shape:* (sentences,)
        batch_size: Sentences per batch and rank.
        seed: Seed of the order.
        rank: Rank of this process.
        world_size: Number of processes.
        accumulate: Batches per optimizer step.
        reshuffle: Whether each epoch has a new order.
        languages: Number of sentences of each language, which follow one another in ``sentences``; empty for one.
        smoothing: Exponent of the number of sentences of a language in its part of each epoch, which has as many
            sentences in all: 1 for every sentence once, less to repeat those of smaller languages and to leave out some
            of larger ones, 0 for equal parts (Conneau et al. 2020).
        progress: Called when the first batch of an epoch is requested. Returns how many of its batches to skip,
            because a run that resumes within the epoch has trained on them, and the maximum number per epoch.
    """

    sentences: Int64
    labelled: Int64
    _: KW_ONLY
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1
    accumulate: int = 1
    reshuffle: bool = True
    languages: Sequence[int] = ()
    smoothing: float = 1.0
    progress: Callable[[], tuple[int, int]] = lambda: (0, sys.maxsize)
    epoch: int = field(default=0, init=False)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that is sampled next; called by Lightning."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.sentences) // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[BatchIndices]:  # type: ignore[override] # the base class yields single indices
        taken, limit = self.progress()
        yield from islice(self._batches(limit), taken, None)

    def _batches(self, limit: int) -> Iterator[BatchIndices]:
        epoch = self.epoch if self.reshuffle else 0
        generator = np.random.default_rng((self.seed, epoch))
        sentences = self.sentences
        if self.smoothing != 1 and len(self.languages) > 1:
            sentences = self._of_each_language(generator)
        order = sentences[generator.permutation(len(sentences))]
        size = self.batch_size * self.world_size
        # The limit may cut the last step short, which then has fewer words.
        order = order[: size * limit]
        for first in range(0, len(order), size * self.accumulate):
            step = order[first : first + size * self.accumulate]
            step_words = int(self.labelled[step].sum())
            for start in range(0, len(step), size):
                yield BatchIndices(step[start : start + size][self.rank :: self.world_size], step_words)

    def _of_each_language(self, generator: np.random.Generator) -> Int64:
        """Draw each language's part of an epoch; no sentence comes twice before every other one of its language."""
        drawn = []
        starts = np.cumsum([0, *self.languages])[:-1]
        for start, count, part in zip(starts, self.languages, smoothed(self.languages, self.smoothing), strict=True):
            rounds = [generator.permutation(count) for _ in range(-(-part // count) if count else 0)]
            drawn.append(start + np.concatenate([*rounds, np.empty(0, dtype=np.int64)])[:part])
        chosen: Int64 = self.sentences[np.concatenate(drawn)]
        return chosen


def smoothed(counts: Sequence[int], exponent: float) -> list[int]:
    """Divide a number of sentences among languages in proportion to a power of the number that each has.

    Args:
        counts: Number of sentences of each language.
        exponent: The power; 1 keeps the counts, 0 makes them equal.

    Returns:
        Numbers with the same sum, by the method of largest remainders.

    >>> smoothed([20_000, 100], 1), smoothed([20_000, 100], 0.5), smoothed([3, 2], 0)
    ([20000, 100], [18773, 1327], [3, 2])
    """
    sizes = np.asarray(counts, dtype=np.float64)
    weights = np.where(sizes > 0, sizes**exponent, 0)  # 0**0 is 1, but there is nothing to repeat
    exact = weights / weights.sum() * sum(counts)
    parts = np.floor(exact).astype(np.int64)
    largest = np.argsort(parts - exact, kind="stable")[: sum(counts) - int(parts.sum())]
    parts[largest] += 1
    return [int(part) for part in parts]


ROW_STEP = 8
"""Packed rows have a multiple of this number of pieces, so that few shapes occur."""


def round_up(number: int, step: int) -> int:
    """Return the next multiple of a step.

    >>> round_up(60, 8), round_up(64, 8)
    (64, 64)
    """
    return -(-number // step) * step


_MIN_FILL = 0.95
"""Minimum fraction of non-padding in a batch with one sentence per row; below a quarter of the budget it is waived."""


class LengthBuckets:
    """Items grouped by length, removed one by one.

    Args:
        items: Indices of the items, the longest first.
        lengths: The length of every index, including those that are not among the items.

    Attributes:
        remaining: The lengths of the remaining items, ascending and without repetition.
    """

    def __init__(self, items: Sequence[int], lengths: Sequence[int]) -> None:
        self.lengths = lengths
        self.buckets: dict[int, list[int]] = {}
        for item in reversed(items):
            self.buckets.setdefault(lengths[item], []).append(item)
        self.remaining = list(self.buckets)

    def pop(self, limit: int) -> int | None:
        """Remove and return the longest item that is not longer than a limit, or ``None`` if there is none."""
        place = bisect_right(self.remaining, limit) - 1
        if place < 0:
            return None
        bucket = self.buckets[self.remaining[place]]
        item = bucket.pop()
        if not bucket:
            del self.remaining[place]
        return item

    def pop_row(self, width: int) -> Iterator[int]:
        """Remove the items of one packed row: repeatedly the longest that still fits."""
        while (item := self.pop(width)) is not None:
            yield item
            width -= self.lengths[item]

    def pop_rows(self, width: int, rows: int) -> Iterator[int]:
        """Remove the items of as many packed rows, or of fewer where no item is left."""
        while self.remaining and rows:
            yield from self.pop_row(width)
            rows -= 1

    def pop_similar(self, width: int, rows: int) -> Iterator[int]:
        """Remove the longest items for rows of one item each: at most ``rows``, fewer if too much would be padding."""
        filled = 0
        for taken in range(rows):
            longest = self.remaining[-1] if self.remaining else 0
            if taken >= max(1, rows // 4) and filled + longest < _MIN_FILL * width * (taken + 1):
                return
            item = self.pop(width)
            if item is None:
                return
            yield item
            filled += longest


class EvaluationSampler(SequentialSampler):
    """Sample the evaluation batches of one rank: each sentence on exactly one rank, the longest first.

    Args:
        pieces: Number of pieces of each sentence. *Shape:* (sentences,)
        budget: Maximum number of pieces per batch, padding included; a longer sentence is a batch of its own.
        row_length: Pieces per packed row; a row is longer if a sentence is. ``None`` gives each sentence a row of its
            own, padded to the longest of the batch.
        rank: Rank of this process.
        world_size: Number of processes.
    """

    def __init__(
        self, pieces: Int64, *, budget: int, row_length: int | None = None, rank: int = 0, world_size: int = 1
    ) -> None:
        # The longest come first, so that insufficient memory shows at once.
        order = np.argsort(-pieces, kind="stable")[rank::world_size]
        buckets = LengthBuckets(order.tolist(), pieces.tolist())
        self.batches: list[BatchIndices] = []
        step = 1 if row_length is None else ROW_STEP
        budget -= budget % step
        while buckets.remaining:
            longest = buckets.remaining[-1]
            width = round_up(max(longest, min(row_length or 1, budget)), step)
            rows = max(1, budget // width)
            pop = buckets.pop_similar if row_length is None else buckets.pop_rows
            # Beyond the budget, nothing is added to a longer sentence, though rounding left a place.
            self.batches.append(BatchIndices(np.array([*pop(min(width, max(longest, budget)), rows)]), 0))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[BatchIndices]:  # type: ignore[override] # as above
        return iter(self.batches)
