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

from xner.errors import UserError

Int64 = npt.NDArray[np.int64]


def subset(
    sentences: int, num_samples: int | None, *, shuffle_seed: int = 0, subset_seed: int = 42, where: str = "the split"
) -> npt.NDArray[np.int64]:
    """Choose the training sentences of a split.

    The split is shuffled with the first seed; a few-shot subset is the beginning of a second shuffle. Both give the
    order of ``datasets.Dataset.shuffle``. Subsets are nested: a smaller one is the beginning of a larger one.

    Args:
        sentences: Number of sentences in the split.
        num_samples: Number of sentences to choose; ``None`` chooses all, without the second shuffle.
        shuffle_seed: Seed of the first shuffle.
        subset_seed: Seed of the second shuffle.
        where: The split's name in error messages.

    Returns:
        Indices of the chosen sentences. *Shape:* (num_samples,)

    Raises:
        UserError: If ``num_samples`` is not between 1 and ``sentences``.
    """
    order = np.random.default_rng(shuffle_seed).permutation(sentences)
    if num_samples is None:
        return order
    if not 1 <= num_samples <= sentences:
        problem = f"exceeds the {sentences} sentences of {where}" if num_samples > 0 else "is not a number of sentences"
        raise UserError(f"data.num_samples={num_samples} {problem}; use 1 to {sentences}, or null for all")
    return order[np.random.default_rng(subset_seed).permutation(sentences)][:num_samples]


def k_shot(
    counts: Int64,
    shots: int,
    types: Sequence[str],
    *,
    shuffle_seed: int = 0,
    subset_seed: int = 42,
    where: str = "the split",
) -> Int64:
    """Choose training sentences until each entity type has ``shots`` entities, by greedy sampling.

    As in Yang and Katiyar (2020, algorithm 1), types are served from the rarest to the most frequent, and the entities
    of all types in a chosen sentence count. One more entity per type is served at a time, so that samples are nested:
    that of fewer shots is the beginning of that of more.

    Args:
        counts: Number of entities of each type in each sentence. *Shape:* (sentences, types)
        shots: Number of entities per type.
        types: The entity types.
        shuffle_seed: Seed of the first shuffle.
        subset_seed: Seed of the second shuffle, whose order is that in which sentences are taken.
        where: The split's name in error messages.

    Returns:
        Indices of the chosen sentences. *Shape:* (chosen,)

    Raises:
        UserError: If ``shots`` is not positive, or a type has fewer entities.
    """
    totals = counts.sum(axis=0)
    rarest = int(totals.argmin())
    if not 1 <= shots <= totals[rarest]:
        fewest = f"exceeds the {totals[rarest]} entities of {types[rarest]} in {where}"
        problem = fewest if shots > 0 else "is not a number of entities"
        raise UserError(f"data.shots={shots} {problem}; use 1 to {totals[rarest]}, or drop types with data.map_types")
    order = subset(len(counts), len(counts), shuffle_seed=shuffle_seed, subset_seed=subset_seed)
    waiting = [iter(order[counts[order, each] > 0].tolist()) for each in range(len(types))]
    chosen: dict[int, None] = {}
    found = np.zeros(len(types), dtype=np.int64)
    for wanted in range(1, shots + 1):
        for each in np.argsort(totals, kind="stable"):
            while found[each] < wanted:
                sentence = next(waiting[each])
                if sentence not in chosen:
                    chosen[sentence] = None
                    found += counts[sentence]
    return np.fromiter(chosen, np.int64)


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
        order = self.sentences[np.random.default_rng((self.seed, epoch)).permutation(len(self.sentences))]
        size = self.batch_size * self.world_size
        # The limit may cut the last step short, which then has fewer words.
        order = order[: size * limit]
        for first in range(0, len(order), size * self.accumulate):
            step = order[first : first + size * self.accumulate]
            step_words = int(self.labelled[step].sum())
            for start in range(0, len(step), size):
                yield BatchIndices(step[start : start + size][self.rank :: self.world_size], step_words)


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

    def pop_similar(self, width: int, rows: int) -> Iterator[int]:
        """Remove the longest items for rows of one item each: at most ``rows``, fewer if too much would be padding."""
        filled = 0
        for taken in range(rows):
            longest = self.remaining[-1] if self.remaining else 0
            if taken >= max(1, rows // 4) and filled + longest < _MIN_FILL * width * (taken + 1):
                return
            if (item := self.pop(width)) is not None:
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
        while buckets.remaining:
            width = max(buckets.remaining[-1], min(row_length or 1, budget))
            rows = max(1, budget // width)
            if row_length is None:
                chosen = [*buckets.pop_similar(width, rows)]
            else:
                chosen = [sentence for _ in range(rows) for sentence in buckets.pop_row(width)]
            self.batches.append(BatchIndices(np.array(chosen), 0))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[BatchIndices]:  # type: ignore[override] # as above
        return iter(self.batches)
