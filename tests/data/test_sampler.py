from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xner.data.packing import fit_rows
from xner.data.sampler import BatchIndices, EvaluationSampler, TrainSampler

RANKS_AND_ACCUMULATION = [*product((1, 2, 3, 4), (1, 2, 3))]

SENTENCES = np.random.default_rng(5).permutation(150)[:101]
"""Numbers of the sentences of a subset, which are fewer than the data set's 150."""

LABELLED = np.random.default_rng(6).integers(0, 30, size=150)

Step = list[list[BatchIndices]]
"""The shares of one optimizer step: of each accumulated batch, those of all ranks."""


def order(**options: Any) -> TrainSampler:  # noqa: ANN401 - TrainSampler's own
    return TrainSampler(SENTENCES, LABELLED, **{"batch_size": 8, "seed": 3, **options})


def steps(*, world_size: int, accumulate: int, epoch: int = 0, **options: Any) -> list[Step]:  # noqa: ANN401 - as above
    """An epoch's optimizer steps, as Lightning takes them: every ``accumulate`` batches, and after the last."""
    orders = [order(rank=rank, world_size=world_size, accumulate=accumulate, **options) for rank in range(world_size)]
    for one in orders:
        one.set_epoch(epoch)
    batches = [*zip(*orders, strict=True)]
    assert all(min(len(one), one.limit()) == len(batches) for one in orders)
    return [[*map(list, batches[first : first + accumulate])] for first in range(0, len(batches), accumulate)]


def sentences_of(step: Step) -> list[int]:
    return sorted(int(sentence) for batch in step for share in batch for sentence in share.sentences)


@pytest.mark.parametrize(("world_size", "accumulate"), RANKS_AND_ACCUMULATION)
def test_ranks_share_the_sentences(world_size: int, accumulate: int) -> None:
    """Over all ranks and steps of an epoch each sentence is trained on once; ranks take turns within a batch."""
    found = steps(world_size=world_size, accumulate=accumulate)
    assert sorted(sentence for step in found for sentence in sentences_of(step)) == sorted(SENTENCES)
    for step in found:
        for batch in step:
            sizes = [len(share.sentences) for share in batch]
            assert max(sizes) <= 8
            assert max(sizes) - min(sizes) <= 1
    assert all(len(sentences_of(step)) == 8 * world_size * accumulate for step in found[:-1])


@pytest.mark.parametrize(("world_size", "accumulate"), RANKS_AND_ACCUMULATION)
def test_step_words(world_size: int, accumulate: int) -> None:
    """Every share of a step knows the labelled words of the whole step."""
    for step in steps(world_size=world_size, accumulate=accumulate):
        words = LABELLED[sentences_of(step)].sum()
        assert {share.step_words for batch in step for share in batch} == {words}


@pytest.mark.parametrize(
    ("batch_size", "world_size", "accumulate"), [(16, 2, 1), (8, 4, 1), (16, 1, 2), (8, 2, 2), (4, 4, 2), (11, 3, 1)]
)
def test_any_number_of_ranks_takes_the_same_steps(batch_size: int, world_size: int, accumulate: int) -> None:
    """Two ranks of 16 sentences, or 16 twice, take the steps of one rank of 32: the same sentences and words."""
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
    return [int(sentence) for share in one for sentence in share.sentences]


@pytest.mark.parametrize(("world_size", "accumulate"), RANKS_AND_ACCUMULATION)
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_step_words_where_batches_are_limited(world_size: int, accumulate: int, limit: int) -> None:
    """Where the trainer takes some batches only, a step's words are those of the batches that it takes."""
    for step in steps(world_size=world_size, accumulate=accumulate, limit=lambda: limit):
        shares = [share for batch in step for share in batch]
        words = sum(int(LABELLED[share.sentences].sum()) for share in shares)
        assert {share.step_words for share in shares} == {words}
    assert len([*order(world_size=world_size, accumulate=accumulate, limit=lambda: limit)]) == limit


def test_epochs_have_orders_of_their_own() -> None:
    """Each epoch has another order, the same for the same seed whoever asks and how often; without, always one."""
    orders = [epoch_of(order(), epoch) for epoch in range(3)]
    assert all(one != other for one, other in pairwise(orders))
    again = order()
    assert [epoch_of(again, epoch) for epoch in (2, 0, 1, 0)] == [orders[epoch] for epoch in (2, 0, 1, 0)]
    assert epoch_of(order(seed=4), 0) != orders[0]
    fixed = order(reshuffle=False)
    assert [epoch_of(fixed, epoch) for epoch in range(3)] == [orders[0]] * 3


def test_empty_shares() -> None:
    """Where the last sentences do not go round all ranks, a rank takes the step without any."""
    orders = [
        TrainSampler(np.arange(9), LABELLED, batch_size=2, seed=0, rank=rank, world_size=4, accumulate=1)
        for rank in range(4)
    ]
    assert [len(one) for one in orders] == [2] * 4
    last = [[*one][-1] for one in orders]
    assert [len(share.sentences) for share in last] == [1, 0, 0, 0]
    assert len({share.step_words for share in last}) == 1


pieces = st.lists(st.integers(1, 60), min_size=1, max_size=60)


row_lengths = st.sampled_from([None, 1, 16, 64])


def evaluation_orders(
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
    """Over all ranks each sentence is in one batch; a rank may have none at all, and says how many it has."""
    orders = evaluation_orders(pieces, budget, world_size, row_length)
    found = [int(sentence) for one in orders for share in one for sentence in share.sentences]
    assert sorted(found) == [*range(len(pieces))]
    assert all(len(one) == len([*one]) for one in orders)
    loads = [sum(len(share.sentences) for share in one) for one in orders]
    assert max(loads) - min(loads) <= 1


@given(pieces, st.integers(1, 200), st.integers(1, 4), row_lengths)
def test_budget(pieces: list[int], budget: int, world_size: int, row_length: int | None) -> None:
    """With padding a batch stays within the budget, unless one sentence alone is over it; the longest comes first."""
    for one in evaluation_orders(pieces, budget, world_size, row_length):
        first = []
        for share in one:
            lengths = [pieces[sentence] for sentence in share.sentences]
            width = max(min(row_length or 1, budget), *lengths)
            rows = len(lengths) if row_length is None else fit_rows(lengths, width)[2]
            assert len(lengths) == 1 or rows * width <= budget
            first.append(lengths[0])
            assert lengths[0] == max(lengths)
        assert first == sorted(first, reverse=True)


def test_hardly_any_padding() -> None:
    """Of sentences as long as PAN-X's, packed batches are full but for the last; rows of one are of like length."""
    rng = np.random.default_rng(0)
    pieces = np.clip(np.exp(rng.normal(2.5, 0.5, 2000)).astype(np.int64), 4, 120)
    packed = EvaluationSampler(pieces, budget=1024, row_length=64)
    assert min(pieces[share.sentences].sum() for share in [*packed][:-1]) > 0.85 * 1024
    assert pieces.sum() > 0.95 * 1024 * len(packed)
    alone = [pieces[share.sentences] for share in EvaluationSampler(pieces, budget=1024)]
    assert pieces.sum() > 0.93 * sum(len(lengths) * lengths.max() for lengths in alone)
