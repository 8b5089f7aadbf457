import itertools
import math
import random

import numpy as np
import pytest

from xner.report.statistics import (
    CACHED,
    Difference,
    Interval,
    Resampled,
    area_under_curve,
    corrected,
    difference,
    f1,
    holm,
    interval,
    over_seeds,
    resampled_f1,
    sentences_to_reach,
)

PAIR = np.array(
    [
        [[1, 1, 2], [0, 1, 1], [2, 2, 2], [1, 2, 1]],
        [[2, 2, 2], [0, 0, 1], [1, 2, 2], [1, 1, 1]],
    ]
)
"""Two evaluations of four sentences, few enough to list every way to draw them."""


def plain_f1(rows: list[list[int]]) -> float:
    correct, predicted, gold = (sum(row[column] for row in rows) for column in range(3))
    return 2 * correct / (predicted + gold) if predicted + gold else 0.0


def every_draw(counts: np.ndarray) -> list[tuple[float, ...]]:
    """F1 of each evaluation on each of the equally likely ways to draw as many sentences as there are."""
    sentences = counts.shape[1]
    return [
        tuple(plain_f1([list(map(int, evaluation[index])) for index in drawn]) for evaluation in counts)
        for drawn in itertools.product(range(sentences), repeat=sentences)
    ]


def random_counts(sentences: int, seed: int, quality: float) -> np.ndarray:
    draw = np.random.default_rng(seed)
    gold = np.random.default_rng(0).integers(0, 4, size=sentences)
    correct = draw.binomial(gold, quality)
    return np.stack([correct, correct + draw.integers(0, 2, size=sentences), gold], axis=1)


def test_f1_of_counts_equals_a_plain_computation() -> None:
    """F1 of summed counts is 2c / (p + g), and 0 where there is nothing to find or found."""
    assert f1(PAIR.sum(axis=1)).tolist() == [plain_f1(list(map(list, each))) for each in PAIR]
    assert f1([0, 0, 0]) == 0
    assert f1([0, 0, 3]) == 0


@pytest.mark.parametrize("sentences", [0, 1, 7, CACHED + 1])
def test_samples_together(sentences: int) -> None:
    """Drawing several samples at once draws those that would be drawn one after the other, also of no sentence."""
    counts = np.random.default_rng(1).integers(0, 3, size=(2, sentences, 3))
    random = np.random.default_rng(5)
    one_by_one = [
        f1(counts[:, random.integers(sentences, size=sentences, dtype=np.int32)].sum(axis=1)) for _ in range(20)
    ]
    assert np.array_equal(resampled_f1(counts, draws=20, seed=5), one_by_one)


def test_bootstrap_draws_every_resample_equally_often() -> None:
    """The draws' mean, spread and joint distribution are those of all 256 resamples of four sentences, listed."""
    exact = every_draw(PAIR)
    drawn = resampled_f1(PAIR, draws=40_000, seed=3)
    np.testing.assert_allclose(drawn.mean(axis=0), np.mean(exact, axis=0), atol=0.004)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(np.array(exact).T, bias=True), atol=0.002)
    expected = {tuple(np.round(each, 9)): 0 for each in exact}
    for each in exact:
        expected[tuple(np.round(each, 9))] += 1
    outcomes, counts = np.unique(np.round(drawn, 9), axis=0, return_counts=True)
    seen = {tuple(each): count for each, count in zip(outcomes, counts, strict=True)}
    assert seen.keys() == expected.keys()
    for outcome, count in expected.items():
        assert seen[outcome] / 40_000 == pytest.approx(count / len(exact), abs=0.012)


def test_bootstrap_interval_equals_a_plain_loop() -> None:
    """The percentile interval is that of a loop that draws sentences one by one, within the noise of the draws."""
    counts = random_counts(150, seed=1, quality=0.8)
    rows = [list(map(int, row)) for row in counts]
    draw = random.Random(5)
    plain = sorted(plain_f1(draw.choices(rows, k=len(rows))) for _ in range(4000))
    found = interval(resampled_f1(counts[None], draws=4000)[:, 0])
    assert found.low == pytest.approx(plain[100], abs=0.005)
    assert found.high == pytest.approx(plain[3900], abs=0.005)
    assert found.low < plain_f1(rows) < found.high


def test_paired_bootstrap_equals_a_plain_loop() -> None:
    """Difference, interval and two-sided p-value are those of a loop that draws the same sentences for both."""
    first, second = random_counts(120, seed=1, quality=0.80), random_counts(120, seed=2, quality=0.86)
    rows = [(list(map(int, a)), list(map(int, b))) for a, b in zip(first, second, strict=True)]
    value = plain_f1([b for _, b in rows]) - plain_f1([a for a, _ in rows])
    draw = random.Random(5)
    plain = []
    for _ in range(4000):
        drawn = draw.choices(rows, k=len(rows))
        plain.append(plain_f1([b for _, b in drawn]) - plain_f1([a for a, _ in drawn]))
    p = (1 + sum(abs(each - value) >= abs(value) for each in plain)) / 4001
    plain.sort()
    draws = resampled_f1(np.stack([first, second]), draws=4000)
    found = difference(value, draws[:, 1] - draws[:, 0])
    assert 0.01 < p < 0.9
    assert found.p == found.p_holm == pytest.approx(p, abs=0.03)
    assert found.interval == pytest.approx((plain[100], plain[3900]), abs=0.006)


def test_interval_over_seeds_and_sentences_equals_a_plain_loop() -> None:
    """The interval is that of a loop that draws seeds, and then one sample of sentences for all of them."""
    evaluations = [random_counts(60, seed=seed, quality=quality) for seed, quality in ((1, 0.6), (2, 0.75), (3, 0.9))]
    rows = [[list(map(int, row)) for row in each] for each in evaluations]
    draw = random.Random(5)
    plain = []
    for _ in range(4000):
        seeds = draw.choices(rows, k=3)
        sentences = draw.choices(range(60), k=60)
        plain.append(sum(plain_f1([each[index] for index in sentences]) for each in seeds) / 3)
    plain.sort()
    resampled = Resampled([each.astype(np.int32) for each in evaluations])
    found = resampled.seed_interval([0, 1, 2])
    assert found == pytest.approx((plain[100], plain[3900]), abs=0.008)
    assert found is not None
    over_sentences = resampled.interval([0, 1, 2])
    assert found.high - found.low > 1.5 * (over_sentences.high - over_sentences.low)


def test_interval_over_seeds_needs_seeds_that_differ() -> None:
    """Equal seeds add nothing to the interval over sentences, and a single seed has no interval over seeds."""
    resampled = Resampled([random_counts(50, seed=1, quality=0.8).astype(np.int32)] * 3)
    assert resampled.seed_interval([0, 1, 2]) == pytest.approx(resampled.interval([0, 1, 2]))
    assert resampled.seed_interval([0]) is None


def test_the_same_evaluation_does_not_differ_from_itself() -> None:
    """An evaluation paired with itself has difference 0 in every draw and a p-value of 1."""
    counts = random_counts(50, seed=1, quality=0.8)
    draws = resampled_f1(np.stack([counts, counts]), draws=200)
    found = difference(0.0, draws[:, 0] - draws[:, 1])
    assert found == (0.0, (0.0, 0.0), 1.0, 1.0)


def test_a_clear_difference_has_the_smallest_p_value_never_zero() -> None:
    """Where no draw is as far off as the difference is from none, p is 1 / (draws + 1)."""
    good, bad = random_counts(300, seed=1, quality=0.95), random_counts(300, seed=2, quality=0.3)
    draws = resampled_f1(np.stack([good, bad]), draws=999)
    value = float(f1(good.sum(axis=0)) - f1(bad.sum(axis=0)))
    assert difference(value, draws[:, 0] - draws[:, 1]).p == 1 / 1000


def test_holm_by_hand() -> None:
    """Sorted p-values are multiplied by 4, 3, 2 and 1, never fall below their predecessors, and end at 1."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_holm_rejects_what_the_sequential_procedure_rejects(alpha: float) -> None:
    """Corrected p-values are at most alpha exactly where Holm's step-down procedure rejects the hypothesis."""
    draw = random.Random(1)
    for _ in range(200):
        p_values = [draw.random() ** 3 for _ in range(draw.randint(1, 8))]
        rejected = set()
        for rank, test in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
            if p_values[test] > alpha / (len(p_values) - rank):
                break
            rejected.add(test)
        assert {test for test, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_correction_leaves_gaps() -> None:
    """Where there is no test, there is none after correction, and it does not count."""
    first, second = (Difference(0.1, Interval(0.0, 0.2), p, p) for p in (0.01, 0.03))
    assert corrected([None, second, None, first]) == [None, second, None, first._replace(p_holm=0.02)]


def test_draws_depend_on_the_seed_and_not_on_what_is_evaluated_beside() -> None:
    """Equal seeds draw equal sentences, so that an evaluation's draws are the same alone and in company."""
    first, second = random_counts(80, seed=1, quality=0.7), random_counts(80, seed=2, quality=0.7)
    together = resampled_f1(np.stack([first, second]), draws=1100, seed=7)
    assert np.array_equal(together[:, 0], resampled_f1(first[None], draws=1100, seed=7)[:, 0])
    assert not np.array_equal(together[:, 0], resampled_f1(first[None], draws=1100, seed=8)[:, 0])


def test_mean_and_standard_deviation_over_seeds() -> None:
    """Mean and the sample's standard deviation by their formulas; a single seed has none."""
    scores = [0.75, 0.78, 0.76]
    mean = sum(scores) / 3
    sd = math.sqrt(sum((score - mean) ** 2 for score in scores) / 2)
    assert over_seeds(scores) == pytest.approx((mean, sd, 0.75, 0.78, 3))
    assert over_seeds([0.5]) == (0.5, None, 0.5, 0.5, 1)


def test_area_under_curve_equals_a_fine_sum() -> None:
    """The area is that of a sum over ten thousand thin slices of log n, and a constant curve has its own height."""
    sizes, scores = [250, 500, 2000, 20_000], [0.80, 0.85, 0.84, 0.93]
    logs = np.linspace(math.log(250), math.log(20_000), 10_001)
    middles = (logs[1:] + logs[:-1]) / 2
    plain = float(np.mean(np.interp(middles, np.log(sizes), scores)))
    assert area_under_curve(sizes, scores) == pytest.approx(plain, abs=1e-6)
    assert area_under_curve(sizes, [0.7] * 4) == pytest.approx(0.7)
    assert area_under_curve([250], [0.6]) == 0.6


def test_sentences_to_reach_equals_a_search() -> None:
    """The number of sentences is where a walk along the curve in small steps first finds the score."""
    sizes, scores = [250, 500, 2000, 20_000], [0.80, 0.85, 0.84, 0.93]
    for score in (0.81, 0.85, 0.90, 0.93):
        walk = np.union1d(np.geomspace(250, 20_000, 200_001), sizes)
        heights = np.interp(np.log(walk), np.log(sizes), scores)
        plain = float(walk[np.argmax(heights >= score - 1e-9)])
        assert sentences_to_reach(sizes, scores, score) == pytest.approx(plain, rel=1e-4)
    assert sentences_to_reach(sizes, scores, 0.5) == 250
    assert sentences_to_reach(sizes, scores, 0.94) is None
