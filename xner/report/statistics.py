"""How far scores can be trusted: spread over seeds, bootstrap over sentences, and what a whole curve amounts to.

Scores are fractions. The counts that they come from are (correct, predicted, gold) spans of each sentence, summed over
types, so that every resampling of sentences is a matrix product (Efron and Tibshirani 1993, An Introduction to the
Bootstrap).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DRAWS = 10_000
"""How many times the sentences are drawn anew."""

BLOCK = 512
"""Draws held at once: 20 MB for 10,000 sentences, where all 10,000 draws would be 400 MB."""

LEVEL = 0.95
"""How much of the draws an interval holds."""

Floats = npt.NDArray[np.float64]


class Seeds(NamedTuple):
    """A score over seeds; ``sd`` is the sample's standard deviation, ``None`` of a single seed."""

    mean: float
    sd: float | None
    seeds: int


class Interval(NamedTuple):
    """A score and the interval that the bootstrap gives it."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """A difference of scores, the interval that the paired bootstrap gives it, and its two-sided p-value."""

    value: float
    low: float
    high: float
    p: float


def over_seeds(scores: Sequence[float]) -> Seeds:
    """Mean and standard deviation of one score per seed.

    >>> over_seeds([0.5, 1.0, 0.75])
    Seeds(mean=0.75, sd=0.25, seeds=3)
    """
    sd = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
    return Seeds(float(np.mean(scores)), sd, len(scores))


def f1(totals: npt.ArrayLike) -> Floats:
    """F1 of counts of spans, 0 where there is neither a predicted nor a gold one.

    Args:
        totals: Correct, predicted and gold spans. *Shape:* (..., 3)

    Returns:
        F1. *Shape:* (...)
    """
    totals = np.asarray(totals, dtype=np.float64)
    return _ratio(2 * totals[..., 0], totals[..., 1] + totals[..., 2])


def resampled_f1(counts: npt.ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> Floats:
    """F1 of evaluations on sentences drawn with replacement, all on the same draws, so that they can be compared.

    Args:
        counts: Correct, predicted and gold spans of each sentence. *Shape:* (evaluations, sentences, 3)
        draws: How often as many sentences are drawn as there are.
        seed: Of the draws.

    Returns:
        F1 of each draw. *Shape:* (draws, evaluations)
    """
    counts = np.asarray(counts, dtype=np.int64)
    evaluations, sentences, _ = counts.shape
    # F1 needs the correct spans and the sum of the others. Totals below 2**24 are exact in float32.
    columns = np.concatenate([counts[..., 0].T, (counts[..., 1] + counts[..., 2]).T], axis=1).astype(np.float32)
    random = np.random.default_rng(seed)
    scores = np.empty((draws, evaluations))
    weights = np.empty((BLOCK, sentences), dtype=np.float32)
    for start in range(0, draws, BLOCK):
        block = weights[: draws - start]
        for weight in block:
            # Counting drawn indices is a multinomial draw, five times as fast as Generator.multinomial at this size.
            weight[:] = np.bincount(random.integers(sentences, size=sentences, dtype=np.int32), minlength=sentences)
        totals = (block @ columns).astype(np.float64)
        correct, spans = totals[:, :evaluations], totals[:, evaluations:]
        scores[start : start + len(block)] = _ratio(2 * correct, spans)
    return scores


def interval(value: float, draws: npt.ArrayLike, *, level: float = LEVEL) -> Interval:
    """The percentile interval of a score (Efron and Tibshirani 1993, chapter 13).

    Args:
        value: The score itself.
        draws: The score on resampled sentences. *Shape:* (draws,)
        level: How much of the draws the interval holds.
    """
    low, high = np.quantile(np.asarray(draws), [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def difference(value: float, draws: npt.ArrayLike, *, level: float = LEVEL) -> Difference:
    """The paired bootstrap of two scores on the same sentences (Koehn 2004).

    The p-value is two-sided: how often a draw is at least as far from the difference as the difference is from none
    (Berg-Kirkpatrick et al. 2012, figure 1), counting the sample itself as a draw so that it is never 0.

    Args:
        value: The difference itself.
        draws: The difference on resampled sentences, each draw the same for both scores. *Shape:* (draws,)
        level: How much of the draws the interval holds.
    """
    draws = np.asarray(draws)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    # Scores that are equal in truth differ by a rounding error once they are means over seeds.
    far = int(np.count_nonzero(np.abs(draws - value) >= abs(value) - 1e-12))
    return Difference(value, float(low), float(high), (far + 1) / (len(draws) + 1))


def area_under_curve(sizes: Sequence[int], scores: Sequence[float]) -> float:
    """Mean height of the curve over log n: a curve of constant F1 has that F1; so has a single point.

    Args:
        sizes: Numbers of sentences, ascending. *Length:* points.
        scores: F1 at each. *Length:* points.

    >>> round(area_under_curve([100, 1000, 100_000], [0.5, 0.7, 0.9]), 4)
    0.7333
    """
    if len(sizes) == 1:
        return float(scores[0])
    logs = np.log10(np.asarray(sizes, dtype=np.float64))
    heights = np.asarray(scores, dtype=np.float64)
    return float(np.sum(np.diff(logs) * (heights[1:] + heights[:-1]) / 2) / (logs[-1] - logs[0]))


def sentences_to_reach(sizes: Sequence[int], scores: Sequence[float], score: float) -> float | None:
    """Where the curve first reaches a score, interpolated linearly in log n between its points.

    Args:
        sizes: Numbers of sentences, ascending. *Length:* points.
        scores: F1 at each. *Length:* points.
        score: The F1 to reach.

    Returns:
        The number of sentences: the smallest size where that is enough already, ``None`` where none is.

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
        share = (score - scores[index - 1]) / (reached - scores[index - 1])
        return float(sizes[index - 1] ** (1 - share) * size**share)
    return None


def forgetting(before: Sequence[float], after: Sequence[float]) -> Seeds:
    """What adapting to the target does to F1 on the source; below 0, something was forgotten.

    Args:
        before: F1 on the source of each seed's source stage. *Length:* seeds.
        after: The same after adaptation. *Length:* seeds.

    >>> round(forgetting([0.82], [0.80]).mean, 4)
    -0.02
    """
    return over_seeds([late - early for early, late in zip(before, after, strict=True)])


def _ratio(above: Floats, below: Floats) -> Floats:
    """Divide, 0 where there is nothing to divide by."""
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)
