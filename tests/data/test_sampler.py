from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xner.data.packing import fit_smallest
from xner.data.sampler import ROW_STEP, BatchIndices, EvaluationSampler, TrainSampler, round_up, smoothed

RANKS_AND_ACCUMULATION = [*product((1, 2, 3, 4), (1, 2, 3))]

SENTENCES = np.random.default_rng(5).permutation(150)[:101]
"""Indices of a subset of the 150 sentences of a data set."""

LABELLED = np.random.default_rng(6).integers(0, 30, size=150)

Step = list[list[BatchIndices]]
"""One optimizer step: for each accumulated batch, the indices of every rank."""


def train_sampler(**options: Any) -> TrainSampler:  # noqa: ANN401 - TrainSampler's own
    return TrainSampler(SENTENCES, LABELLED, **{"batch_size": 8, "seed": 3, **options})


def steps(*, world_size: int, accumulate: int, epoch: int = 0, **options: Any) -> list[Step]:  # noqa: ANN401 - as above
    """Group an epoch into optimizer steps as Lightning does: every ``accumulate`` batches, and after the last."""
    samplers = [
        train_sampler(rank=rank, world_size=world_size, accumulate=accumulate, **options) for rank in range(world_size)
    ]
    for one in samplers:
        one.set_epoch(epoch)
    batches = [*zip(*samplers, strict=True)]
    assert all(min(len(one), one.progress()[1]) == len(batches) for one in samplers)
    return [[*map(list, batches[first : first + accumulate])] for first in range(0, len(batches), accumulate)]


def sentences_of(step: Step) -> list[int]:
    return sorted(int(sentence) for batch in step for indices in batch for sentence in indices.sentences)


@pytest.mark.parametrize(("world_size", "accumulate"), RANKS_AND_ACCUMULATION)
def test_ranks_share_the_sentences(world_size: int, accumulate: int) -> None:
    """Each sentence is in one batch of one rank per epoch, and batches of the same step differ by one at most."""
    found = steps(world_size=world_size, accumulate=accumulate)
    assert sorted(sentence for step in found for sentence in sentences_of(step)) == sorted(SENTENCES)
    for step in found:
        for batch in step:
            sizes = [len(indices.sentences) for indices in batch]
            assert max(sizes) <= 8
            assert max(sizes) - min(sizes) <= 1
    assert all(len(sentences_of(step)) == 8 * world_size * accumulate for step in found[:-1])


@pytest.mark.parametrize(("world_size", "accumulate"), RANKS_AND_ACCUMULATION)
def test_step_words(world_size: int, accumulate: int) -> None:
    """Every batch of a step has the number of labelled pieces of the whole step."""
    for step in steps(world_size=world_size, accumulate=accumulate):
        words = LABELLED[sentences_of(step)].sum()
        assert {indices.step_words for batch in step for indices in batch} == {words}


@pytest.mark.parametrize(
    ("batch_size", "world_size", "accumulate"), [(16, 2, 1), (8, 4, 1), (16, 1, 2), (8, 2, 2), (4, 4, 2), (11, 3, 1)]
)
def test_any_number_of_ranks_takes_the_same_steps(batch_size: int, world_size: int, accumulate: int) -> None:
    """Two ranks of 16 sentences, or two batches of 16, take the steps of one rank with 32: same sentences and words."""
    whole = batch_size * world_size * accumulate
    alone = [steps(world_size=1, accumulate=1, batch_size=whole, epoch=epoch) for epoch in range(2)]
    shared = [
        steps(world_size=world_size, accumulate=accumulate, batch_size=batch_size, epoch=epoch) for epoch in range(2)
    ]
    for one, other in zip(alone, shared, strict=True):
        assert [*map(sentences_of, one)] == [*map(sentences_of, other)]
        assert [step[0][0].step_words for step in one] == [step[0][0].step_words for step in other]


def epoch_of(one: TrainSampler, epoch: int) -> list[int]:
    one.set_epoch(epoch)
    return [int(sentence) for indices in one for sentence in indices.sentences]


@pytest.mark.parametrize(("world_size", "accumulate"), RANKS_AND_ACCUMULATION)
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_step_words_where_batches_are_limited(world_size: int, accumulate: int, limit: int) -> None:
    """If the trainer limits the batches per epoch, a step counts only the words of the batches that it takes."""
    for step in steps(world_size=world_size, accumulate=accumulate, progress=lambda: (0, limit)):
        taken = [indices for batch in step for indices in batch]
        words = sum(int(LABELLED[indices.sentences].sum()) for indices in taken)
        assert {indices.step_words for indices in taken} == {words}
    sampler = train_sampler(world_size=world_size, accumulate=accumulate, progress=lambda: (0, limit))
    assert len([*sampler]) == limit


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_resumes_within_an_epoch(taken: int) -> None:
    """Batches that were taken before are skipped, and the others, with the words of their steps, stay the same."""
    whole, rest = (
        [(indices.sentences.tolist(), indices.step_words) for indices in train_sampler(accumulate=2, progress=progress)]
        for progress in (lambda: (0, 3), lambda: (taken, 3))
    )
    assert rest == whole[taken:]


def test_epochs_are_shuffled() -> None:
    """Each epoch has another order, which depends on the seed and the epoch alone; without shuffling all are equal."""
    orders = [epoch_of(train_sampler(), epoch) for epoch in range(3)]
    assert all(one != other for one, other in pairwise(orders))
    again = train_sampler()
    assert [epoch_of(again, epoch) for epoch in (2, 0, 1, 0)] == [orders[epoch] for epoch in (2, 0, 1, 0)]
    assert epoch_of(train_sampler(seed=4), 0) != orders[0]
    fixed = train_sampler(reshuffle=False)
    assert [epoch_of(fixed, epoch) for epoch in range(3)] == [orders[0]] * 3


def test_empty_batches() -> None:
    """If the last step has fewer sentences than ranks, some ranks take it with an empty batch."""
    samplers = [
        TrainSampler(np.arange(9), LABELLED, batch_size=2, seed=0, rank=rank, world_size=4, accumulate=1)
        for rank in range(4)
    ]
    assert [len(one) for one in samplers] == [2] * 4
    last = [[*one][-1] for one in samplers]
    assert [len(indices.sentences) for indices in last] == [1, 0, 0, 0]
    assert len({indices.step_words for indices in last}) == 1


pieces = st.lists(st.integers(1, 60), min_size=1, max_size=60)


row_lengths = st.sampled_from([None, 1, 16, 64])


def evaluation_samplers(
    pieces: Sequence[int], budget: int, world_size: int, row_length: int | None
) -> list[EvaluationSampler]:
    return [
        EvaluationSampler(np.array(pieces), budget=budget, row_length=row_length, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]


@given(pieces, st.integers(1, 200), st.integers(1, 4), row_lengths)
def test_every_sentence_is_evaluated_once(
    pieces: list[int], budget: int, world_size: int, row_length: int | None
) -> None:
    """Each sentence is in one batch of one rank, and the length of a sampler is its number of batches."""
    samplers = evaluation_samplers(pieces, budget, world_size, row_length)
    found = [int(sentence) for one in samplers for indices in one for sentence in indices.sentences]
    assert sorted(found) == [*range(len(pieces))]
    assert all(len(one) == len([*one]) for one in samplers)
    loads = [sum(len(indices.sentences) for indices in one) for one in samplers]
    assert max(loads) - min(loads) <= 1


@given(pieces, st.integers(1, 200), st.integers(1, 4), row_lengths)
@example([1, 1], 2, 1, 64)  # less than the shortest row
def test_budget(pieces: list[int], budget: int, world_size: int, row_length: int | None) -> None:
    """A batch stays within the budget, padding included, unless it is one long sentence; the longest come first."""
    for one in evaluation_samplers(pieces, budget, world_size, row_length):
        first = []
        for indices in one:
            lengths = [pieces[sentence] for sentence in indices.sentences]
            if row_length is None:
                assert len(lengths) == 1 or len(lengths) * max(lengths) <= budget
            else:
                _, rows, width = fit_smallest(lengths, row_length)
                assert len(lengths) == 1 or rows * width <= budget
                assert width <= round_up(max(budget, *lengths), ROW_STEP)
            first.append(lengths[0])
            assert lengths[0] == max(lengths)
        assert first == sorted(first, reverse=True)


def test_hardly_any_padding() -> None:
    """With the lengths of PAN-X, packed batches are nearly full, and padded ones hold sentences of similar length."""
    rng = np.random.default_rng(0)
    pieces = np.clip(np.exp(rng.normal(2.5, 0.5, 2000)).astype(np.int64), 4, 120)
    packed = EvaluationSampler(pieces, budget=1024, row_length=64)
    assert min(pieces[indices.sentences].sum() for indices in [*packed][:-1]) > 0.85 * 1024
    assert pieces.sum() > 0.95 * 1024 * len(packed)
    alone = [pieces[indices.sentences] for indices in EvaluationSampler(pieces, budget=1024)]
    assert pieces.sum() > 0.93 * sum(len(lengths) * lengths.max() for lengths in alone)


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 0.5, 1.0])
def test_smoothing(smoothing: float) -> None:
    """Languages have smoothed shares of each epoch; a sentence returns only after all others of its language."""
    sentences, languages = np.arange(100, 150), [40, 10]
    sampler = TrainSampler(
        sentences, np.ones(150, dtype=np.int64), batch_size=8, seed=3, languages=languages, smoothing=smoothing
    )
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        order = np.concatenate([batch.sentences for batch in sampler])
        assert len(order) == 50
        small = np.bincount(order[order >= 140] - 140, minlength=10)
        large = np.bincount(order[order < 140] - 100, minlength=40)
        assert [large.sum(), small.sum()] == smoothed(languages, smoothing)
        assert small.max() - small.min() <= 1
        assert large.max() - large.min() <= 1
        orders.append(order.tolist())
    assert orders[0] != orders[1]
    plain = TrainSampler(sentences, np.ones(150, dtype=np.int64), batch_size=8, seed=3)
    assert (orders[0] == np.concatenate([batch.sentences for batch in plain]).tolist()) is (smoothing == 1)


@pytest.mark.parametrize("languages", [[], [50]])
def test_smoothing_of_one_language(languages: list[int]) -> None:
    """Where there is one language, smoothing changes nothing, the order of the epoch included."""
    options = {"batch_size": 8, "seed": 3, "languages": languages}
    plain, smooth = (
        TrainSampler(np.arange(50), np.ones(50, dtype=np.int64), **options, smoothing=each) for each in (1.0, 0.5)
    )
    for one, other in zip(plain, smooth, strict=True):
        assert one.sentences.tolist() == other.sentences.tolist()


def test_language_without_sentences() -> None:
    """A language of which nothing is left to train on has no part of an epoch, whatever the smoothing."""
    for smoothing in (0.0, 0.5, 1.0):
        sampler = TrainSampler(
            np.arange(40), np.ones(40, dtype=np.int64), batch_size=8, seed=3, languages=[40, 0], smoothing=smoothing
        )
        assert sorted(np.concatenate([batch.sentences for batch in sampler]).tolist()) == [*range(40)]


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=6), st.floats(0, 1))
def test_smoothed_shares(counts: list[int], exponent: float) -> None:
    """Shares sum to the number of sentences, keep their order, and lie between equal and own shares."""
    shares = smoothed(counts, exponent)
    assert sum(shares) == sum(counts)
    in_order = [share for _, share in sorted(zip(counts, shares, strict=True))]
    assert all(later >= earlier - 1 for earlier, later in pairwise(in_order))  # remainders may be rounded apart
    assert smoothed(counts, 1) == counts


@pytest.mark.parametrize("row_length", [None, 8])
def test_budget_beyond_all_sentences(row_length: int | None) -> None:
    """However large a batch may be, it ends with the last sentence."""
    sampler = EvaluationSampler(np.array([3, 5, 4]), budget=10**12, row_length=row_length)
    assert sorted(sentence for batch in sampler for sentence in batch.sentences.tolist()) == [0, 1, 2]
