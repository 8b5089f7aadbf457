"""Which sentences make up each batch of each rank: seeded and reshuffled for training, by length for evaluation."""

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import SequentialSampler

Int64 = npt.NDArray[np.int64]


class BatchIndices(NamedTuple):
    """One batch of one rank.

    Attributes:
        sentences: Numbers of sentences. *Shape:* (sentences,)
        step_words: Labelled pieces of the whole optimizer step, over all ranks and accumulated batches.
    """

    sentences: Int64
    step_words: int


class TrainSampler(SequentialSampler):
    """The shares of one rank in training: every epoch in a new order, every rank with as many batches.

    A step's sentences are the next ``world_size * batch_size`` of the epoch's order, dealt out to the ranks in turn, so
    that any number of ranks takes the same steps. Where the last step's sentences do not go round, a share is empty.

    It calls itself a ``SequentialSampler`` so that Lightning's ``overfit_batches`` leaves it in place.

    Args:
        sentences: Numbers of the sentences to train on. *Shape:* (sentences,)
        labelled: How many labelled pieces each sentence of the data set has. *Shape:* (data set's sentences,)
        batch_size: Sentences a batch and rank.
        seed: Seed of the order.
        rank: This process.
        world_size: How many processes there are.
        accumulate: Batches an optimizer step.
        reshuffle: Whether each epoch has an order of its own.
        taken: Says, when an epoch's first batch is asked for, how many of its batches a run that goes on from a
            checkpoint has behind it.
        limit: Says, at the same moment, how many batches of an epoch are taken at most.
    """

    def __init__(
        self,
        sentences: Int64,
        labelled: Int64,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        reshuffle: bool = True,
        taken: Callable[[], int] = lambda: 0,
        limit: Callable[[], int] = lambda: sys.maxsize,
    ) -> None:
        self.sentences = sentences
        self.labelled = labelled
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.accumulate = accumulate
        self.reshuffle = reshuffle
        self.taken = taken
        self.limit = limit
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.sentences) // (self.batch_size * self.world_size))

    def __iter__(self) -> Iterator[BatchIndices]:  # type: ignore[override] # the base class counts; this one deals out shares
        yield from islice(self._shares(), self.taken(), None)

    def _shares(self) -> Iterator[BatchIndices]:
        epoch = self.epoch if self.reshuffle else 0
        order = self.sentences[np.random.default_rng((self.seed, epoch)).permutation(len(self.sentences))]
        size = self.batch_size * self.world_size
        # A step that the limit cuts short is of fewer words.
        order = order[: size * self.limit()]
        for first in range(0, len(order), size * self.accumulate):
            step = order[first : first + size * self.accumulate]
            step_words = int(self.labelled[step].sum())
            for start in range(0, len(step), size):
                yield BatchIndices(step[start : start + size][self.rank :: self.world_size], step_words)


_FILL = 0.95
"""The share of a batch of rows of one sentence that is not padding, where that leaves it a quarter of its budget."""


class ByLength:
    """Sentences or ranges of pieces, taken out one by one.

    Args:
        numbers: Their numbers, the longest first.
        pieces: How many pieces each has, those that are not among the numbers as well.

    Attributes:
        lengths: The lengths that there are, ascending.
    """

    def __init__(self, numbers: Sequence[int], pieces: Sequence[int]) -> None:
        self.pieces = pieces
        self.of: dict[int, list[int]] = {}
        for number in reversed(numbers):
            self.of.setdefault(pieces[number], []).append(number)
        self.lengths = list(self.of)

    def take(self, most: int) -> int | None:
        """Take out the longest of at most so many pieces, or ``None`` where there is none."""
        at = bisect_right(self.lengths, most) - 1
        if at < 0:
            return None
        numbers = self.of[self.lengths[at]]
        number = numbers.pop()
        if not numbers:
            del self.lengths[at]
        return number

    def fill(self, row: int) -> Iterator[int]:
        """Take out what a row of so many pieces holds: the longest that still fits, again and again."""
        while (number := self.take(row)) is not None:
            yield number
            row -= self.pieces[number]

    def alike(self, row: int, most: int) -> Iterator[int]:
        """Take out the longest for rows of their own, as many at most, and fewer where much would be padding."""
        filled = 0
        for taken in range(most):
            longest = self.lengths[-1] if self.lengths else 0
            if taken >= max(1, most // 4) and filled + longest < _FILL * row * (taken + 1):
                return
            if (number := self.take(row)) is not None:
                yield number
                filled += longest


class EvaluationSampler(SequentialSampler):
    """The shares of one rank in evaluation: every sentence once on one rank, the longest first.

    Args:
        pieces: How many pieces each sentence has. *Shape:* (sentences,)
        budget: Pieces a batch, padding included; a longer sentence is alone in its batch.
        row_length: Pieces a row, longer where a sentence is: what one leaves of it, shorter ones fill; ``None`` gives
            each sentence a row of its own, as long as the batch's longest, and fewer rows where much would be padding.
        rank: This process.
        world_size: How many processes there are.
    """

    def __init__(
        self, pieces: Int64, *, budget: int, row_length: int | None = None, rank: int = 0, world_size: int = 1
    ) -> None:
        # Longest first: memory that does not suffice is known at once.
        left = ByLength(np.argsort(-pieces, kind="stable")[rank::world_size].tolist(), pieces.tolist())
        self.shares: list[BatchIndices] = []
        while left.lengths:
            width = max(left.lengths[-1], min(row_length or 1, budget))
            most = max(1, budget // width)
            if row_length is None:
                chosen = [*left.alike(width, most)]
            else:
                chosen = [sentence for _ in range(most) for sentence in left.fill(width)]
            self.shares.append(BatchIndices(np.array(chosen), 0))

    def __len__(self) -> int:
        return len(self.shares)

    def __iter__(self) -> Iterator[BatchIndices]:  # type: ignore[override] # as above
        return iter(self.shares)
