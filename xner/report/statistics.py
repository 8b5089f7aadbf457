"""Quantify uncertainty: variation over seeds, bootstrap over sentences, corrected p-values, and summaries of curves.

Scores are fractions. They are computed from the correct, predicted and gold spans of each sentence, summed over types,
so that resampling sentences is a matrix product (Efron and Tibshirani 1993, An Introduction to the Bootstrap).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DRAWS = 10_000
"""Number of bootstrap samples."""

BLOCK = 512
"""Bootstrap samples held at once: 20 MB for 10,000 sentences, where all 10,000 samples would be 400 MB."""

CACHED = 2**15
"""Counts of sentences that are made together: 256 KB."""

LEVEL = 0.95
"""Confidence level of all intervals."""

Floats = npt.NDArray[np.float64]


class Seeds(NamedTuple):
    """A score over seeds; ``sd`` is the sample standard deviation, ``None`` for a single seed."""

    mean: float
    sd: float | None
    lowest: float
    highest: float
    seeds: int


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


class Difference(NamedTuple):
    """A difference of scores with its confidence interval, two-sided p-value, and that p-value after correction."""

    value: float
    interval: Interval
    p: float
    p_holm: float


def over_seeds(scores: Sequence[float]) -> Seeds:
    """Summarise one score per seed.

    >>> over_seeds([0.5, 1.0, 0.75])
    Seeds(mean=0.75, sd=0.25, lowest=0.5, highest=1.0, seeds=3)
    """
    sd = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
    return Seeds(float(np.mean(scores)), sd, min(scores), max(scores), len(scores))


def f1(totals: npt.ArrayLike) -> Floats:
    """Compute F1 from counts of spans; it is 0 where no span is predicted or gold.

    Args:
        totals: Correct, predicted and gold spans. *Shape:* (..., 3)

    Returns:
        F1. *Shape:* (...)
    """
    totals = np.asarray(totals, dtype=np.float64)
    return _ratio(2 * totals[..., 0], totals[..., 1] + totals[..., 2])


def resampled_f1(counts: npt.ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Compute the F1 of evaluations on bootstrap samples of the sentences, the same samples for all evaluations.

    Args:
        counts: Correct, predicted and gold spans per sentence. *Shape:* (evaluations, sentences, 3)
        draws: Number of bootstrap samples.
        seed: Seed of the samples.

    Returns:
        F1 per sample. *Shape:* (draws, evaluations)
    """
    counts = np.asarray(counts, dtype=np.int64)
    evaluations, sentences, _ = counts.shape
    # F1 needs the correct spans and the sum of the others. Totals below 2**24 are exact in float32.
    columns = np.concatenate([counts[..., 0].T, (counts[..., 1] + counts[..., 2]).T], axis=1).astype(np.float32)
    random = np.random.default_rng(seed)
    scores = np.empty((draws, evaluations))
    weights = np.empty((BLOCK, sentences), dtype=np.float32)
    # Samples are counted together as far as their counts stay in the processor's cache.
    at_once = max(1, CACHED // max(1, sentences))
    places = sentences * np.arange(at_once, dtype=np.int32)[:, None]
    for start in range(0, draws, BLOCK):
        block = weights[: draws - start]
        for first in range(0, len(block), at_once):
            part = block[first : first + at_once]
            # Counting drawn indices is a multinomial draw, five times as fast as Generator.multinomial at this size.
            drawn = random.integers(sentences, size=part.shape, dtype=np.int32) + places[: len(part)]
            part[:] = np.bincount(drawn.ravel(), minlength=part.size).reshape(part.shape)
        totals = (block @ columns).astype(np.float64)
        scores[start : start + len(block)] = _ratio(2 * totals[:, :evaluations], totals[:, evaluations:])
    return scores


def interval(draws: npt.ArrayLike) -> Interval:
    """Compute the percentile interval of a bootstrapped score (Efron and Tibshirani 1993, chapter 13).

    Args:
        draws: The score on each bootstrap sample. *Shape:* (draws,)
    """
    low, high = np.quantile(np.asarray(draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def difference(value: float, draws: npt.ArrayLike) -> Difference:
    """Test a difference of two scores on the same sentences by the paired bootstrap (Koehn 2004).

    The two-sided p-value is the fraction of samples whose difference is at least as far from the observed one as that
    is from zero (Berg-Kirkpatrick et al. 2012, figure 1). The observed sample counts as one, so that p is never 0.

    Args:
        value: The observed difference.
        draws: The difference on each bootstrap sample, the same sample for both scores. *Shape:* (draws,)

    Returns:
        The difference, not corrected for multiple tests: ``p_holm`` equals ``p``.
    """
    draws = np.asarray(draws)
    # The tolerance covers rounding errors of means over seeds, so that equal scores have p = 1.
    far = int(np.count_nonzero(np.abs(draws - value) >= abs(value) - 1e-12))
    p = (far + 1) / (len(draws) + 1)
    return Difference(value, interval(draws), p, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple tests, controlling the family-wise error rate (Holm 1979).

    Args:
        p_values: The p-values of all tests of the family. *Length:* tests.

    Returns:
        Corrected p-values in the same order; compare them with the significance level. *Length:* tests.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, test in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[test]))
        corrected[test] = largest
    return corrected


def corrected(differences: Sequence[Difference | None]) -> list[Difference | None]:
    """Correct the p-values of one family of tests by Holm's method, leaving gaps where there is no test."""
    p_values = iter(holm([each.p for each in differences if each]))
    return [each and each._replace(p_holm=next(p_values)) for each in differences]


class Resampled:
    """The F1 of several evaluations of the same sentences, observed and on the same bootstrap samples.

    Args:
        counts: Correct, predicted and gold spans per sentence, for each evaluation. *Shape of each:* (sentences, 3)
    """

    def __init__(self, counts: Sequence[npt.NDArray[np.int32]]) -> None:
        stacked = np.stack(counts)
        self.f1 = f1(stacked.sum(axis=1))
        self.draws = resampled_f1(stacked)

    def interval(self, columns: Sequence[int]) -> Interval:
        """Compute the confidence interval of the mean F1 of some evaluations."""
        return interval(self.draws[:, columns].mean(axis=1))

    def seed_interval(self, columns: Sequence[int], *, seed: int = 1) -> Interval | None:
        """Compute the confidence interval of the mean F1 over seeds and sentences.

        Each bootstrap sample draws as many seeds as there are, with replacement, and then the sentences, which are the
        same for all seeds (the pigeonhole bootstrap of Owen 2007; for seeds of a training and the examples of a test,
        the Multi-Bootstrap of Sellam et al. 2022).

        Args:
            columns: The evaluations, one per seed.
            seed: Seed of the samples of seeds, other than that of the samples of sentences.

        Returns:
            The interval; ``None`` for a single seed, from which variation over seeds cannot be estimated.
        """
        if len(columns) < 2:
            return None
        shape = len(self.draws), len(columns)
        drawn = np.random.default_rng(seed).integers(len(columns), size=shape)
        return interval(np.take_along_axis(self.draws[:, columns], drawn, axis=1).mean(axis=1))

    def difference(self, columns: Sequence[int], others: Sequence[int]) -> Difference:
        """Compute the mean F1 of some evaluations minus that of others."""
        value = float(self.f1[columns].mean() - self.f1[others].mean())
        return difference(value, self.draws[:, columns].mean(axis=1) - self.draws[:, others].mean(axis=1))


def area_under_curve(sizes: Sequence[int], scores: Sequence[float]) -> float:
    """Compute the mean height of a curve over log n; a constant curve and a single point have their own height.

    Args:
        sizes: Numbers of sentences, increasing. *Length:* points.
        scores: F1 at each size. *Length:* points.

    >>> round(area_under_curve([100, 1000, 100_000], [0.5, 0.7, 0.9]), 4)
    0.7333
    """
    if len(sizes) == 1:
        return float(scores[0])
    logs = np.log10(np.asarray(sizes, dtype=np.float64))
    heights = np.asarray(scores, dtype=np.float64)
    return float(np.sum(np.diff(logs) * (heights[1:] + heights[:-1]) / 2) / (logs[-1] - logs[0]))


def sentences_to_reach(sizes: Sequence[int], scores: Sequence[float], score: float) -> float | None:
    """Find the number of sentences at which a curve first reaches a score, interpolating linearly in log n.

    Args:
        sizes: Numbers of sentences, increasing. *Length:* points.
        scores: F1 at each size. *Length:* points.
        score: The F1 to reach.

    Returns:
        The number of sentences, at least the smallest size; ``None`` where the curve does not reach the score.

    >>> round(sentences_to_reach([100, 1000, 10_000], [0.5, 0.7, 0.9], 0.8))
    3162
    >>> sentences_to_reach([100, 1000], [0.5, 0.7], 0.8) is None
    True
    """
    for index, (size, reached) in enumerate(zip(sizes, scores, strict=True)):
        if reached < score:
            continue
        if index == 0:
            return float(size)
        weight = (score - scores[index - 1]) / (reached - scores[index - 1])
        return float(sizes[index - 1] ** (1 - weight) * size**weight)
    return None


def _ratio(above: Floats, below: Floats) -> Floats:
    """Divide element by element; the result is 0 where the divisor is."""
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)
