import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xner.data.subset import subset
from xner.errors import UserError


@pytest.mark.parametrize("sentences", [1, 7, 100, 20_000])
@pytest.mark.parametrize(("shuffle_seed", "subset_seed"), [(0, 42), (3, 1)])
def test_equals_the_shuffles_of_datasets(sentences: int, shuffle_seed: int, subset_seed: int) -> None:
    """The sentences and their order are those of ``datasets``: all after one shuffle, the first n after two."""
    numbers = datasets.Dataset.from_dict({"number": range(sentences)})
    seeds = {"shuffle_seed": shuffle_seed, "subset_seed": subset_seed}
    once = numbers.shuffle(seed=shuffle_seed)
    assert subset(sentences, None, **seeds).tolist() == once["number"][:]
    twice = once.shuffle(seed=subset_seed)
    for size in {1, sentences // 2 or 1, sentences}:
        assert subset(sentences, size, **seeds).tolist() == twice.select(range(size))["number"][:]


def test_default_seeds() -> None:
    """The default seeds are 0 for the first shuffle and 42 for the second."""
    assert subset(50, 9).tolist() == subset(50, 9, shuffle_seed=0, subset_seed=42).tolist()


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n), st.integers(1, n))))
def test_nested(sizes: tuple[int, int, int]) -> None:
    """A smaller subset is the beginning of a larger one, and none repeats a sentence."""
    sentences, small, large = sizes[0], *sorted(sizes[1:])
    larger = subset(sentences, large)
    assert np.array_equal(subset(sentences, small), larger[:small])
    assert len(np.unique(larger)) == large
    assert np.isin(larger, np.arange(sentences)).all()


@pytest.mark.parametrize(
    ("num_samples", "expected"),
    [
        (25_000, "data.num_samples=25000 exceeds the 20000 sentences of tr/train; use 1 to 20000, or null for all"),
        (20_001, "data.num_samples=20001 exceeds the 20000 sentences of tr/train; use 1 to 20000, or null for all"),
        (0, "data.num_samples=0 is not a number of sentences; use 1 to 20000, or null for all"),
        (-5, "data.num_samples=-5 is not a number of sentences; use 1 to 20000, or null for all"),
    ],
)
def test_impossible_sizes(num_samples: int, expected: str) -> None:
    """Too many sentences, none, or a negative number are an error that names the possible values."""
    with pytest.raises(UserError) as caught:
        subset(20_000, num_samples, where="tr/train")
    assert str(caught.value) == expected
