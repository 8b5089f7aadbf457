"""What stored results say: each point of the curve with its uncertainty, what was forgotten, what goes wrong."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xner.errors import UserError
from xner.report.entity_errors import Score, by_length, by_seen, by_type
from xner.report.points import evaluation_on, lines, source_language, source_stages, target_language
from xner.report.runs import Run, span_counts, stage_counts, stage_errors
from xner.report.statistics import (
    Difference,
    Interval,
    Seeds,
    area_under_curve,
    difference,
    f1,
    forgetting,
    interval,
    over_seeds,
    resampled_f1,
    sentences_to_reach,
)
from xner.transfer.result import Result

REACHES = (0.90, 0.95, 0.99)
"""The shares of the full-data F1 that a report says how many sentences reach."""


class Scored(NamedTuple):
    """A point's evaluations on one language.

    Attributes:
        seeds: F1 over the seeds.
        interval: Of the mean, over sentences.
        before: Against the next smaller size of the regime, over sentences; ``None`` at the smallest.
        source: Against the source stage, over sentences; ``None`` of the source stage and where there is none.
    """

    seeds: Seeds
    interval: Interval
    before: Difference | None
    source: Difference | None


class Mistakes(NamedTuple):
    """What goes wrong in a stage's evaluation on the target, the tables as in ``errors``."""

    by_type: npt.NDArray[np.int64]
    by_length: dict[str, Score]
    by_seen: dict[str, Score]


class Point(NamedTuple):
    """The stages that differ in their seed alone.

    Attributes:
        regime: Their regime.
        size: Their number of target sentences, 0 of source stages.
        stages: The stages, smallest seed first.
        target: How they do on the target.
        source: How they do on the source; ``None`` where it was not evaluated.
        forgotten: F1 on the source minus that of the same seed's source stage.
        mistakes: Of each stage, on the target.
    """

    regime: str
    size: int
    stages: list[Result]
    target: Scored
    source: Scored | None
    forgotten: Seeds | None
    mistakes: list[Mistakes]


class Curve(NamedTuple):
    """What a regime's whole curve amounts to.

    Attributes:
        regime: The regime.
        area: Area under it over log n.
        reached: For each of ``REACHES``, how many sentences reach that share of the run's best F1 at its largest size.
        smallest: The smallest size, below which nothing is known.
    """

    regime: str
    area: float
    reached: list[float | None]
    smallest: int


class Analysis(NamedTuple):
    """All that a report says of one run; the source stages' point, where there is one, comes first."""

    run: Run
    source: str
    target: str
    split: str
    points: list[Point]
    curves: list[Curve]

    @property
    def start(self) -> Point | None:
        """The source stages' point."""
        return self.points[0] if self.points and self.points[0].size == 0 else None

    @property
    def full(self) -> Point | None:
        """The best point of the largest size."""
        few_shot = [point for point in self.points if point.size]
        largest = [point for point in few_shot if point.size == max(each.size for each in few_shot)]
        return max(largest, key=lambda point: point.target.seeds.mean, default=None)


def analyse(run: Run) -> Analysis:
    """Work out all that a report says of a run.

    Raises:
        UserError: If stages were evaluated on different sentences, so that they cannot be compared.
    """
    source, target = source_language(run.results), target_language(run.results)
    groups: list[tuple[str, int, list[Result]]] = []
    if start := [each for each in source_stages(run.results) if evaluation_on(each, target)]:
        groups.append(("source", 0, start))
    for line in lines(run.results, target):
        groups += [(line.regime, size, stages) for size, stages in line.stages.items()]
    if not groups:
        raise UserError(f"{run.path}: no stage was evaluated on {target}, so that there is nothing to report on it")
    on_target = _score(run, target, groups)
    on_source = _score(run, source, groups)
    points = [
        Point(
            regime,
            size,
            stages,
            on_target[index],
            on_source.get(index),
            _forgotten(start, stages, source) if size else None,
            [_mistakes(run, stage, target) for stage in stages],
        )
        for index, (regime, size, stages) in enumerate(groups)
        if index in on_target
    ]
    split = next(each["split"] for _, _, stages in groups if (each := evaluation_on(stages[0], target)))
    analysis = Analysis(run, source, target, split, points, [])
    return analysis._replace(curves=_curves(analysis))


def compare(first: Analysis, other: Analysis) -> list[tuple[Point, Difference]]:
    """Compare another run with a first one by the paired bootstrap, wherever both have a regime at a size.

    Returns:
        The other run's points and their F1 minus that of the first run; none where the sentences are not the same.
    """
    pairs = [
        (mine, theirs)
        for mine in first.points
        for theirs in other.points
        if (mine.regime, mine.size) == (theirs.regime, theirs.size) and first.target == other.target
    ]
    counts = [
        span_counts(run, stage, first.target)
        for pair in pairs
        for run, point in zip((first.run, other.run), pair, strict=True)
        for stage in point.stages
    ]
    if not counts or any(not np.array_equal(each[:, 2], counts[0][:, 2]) for each in counts):
        return []
    stacked = np.stack(counts)
    sample, draws = f1(stacked.sum(axis=1)), resampled_f1(stacked)
    found, end = [], 0
    for mine, theirs in pairs:
        start, middle, end = end, end + len(mine.stages), end + len(mine.stages) + len(theirs.stages)
        value = float(sample[middle:end].mean() - sample[start:middle].mean())
        change = draws[:, middle:end].mean(axis=1) - draws[:, start:middle].mean(axis=1)
        found.append((theirs, difference(value, change)))
    return found


def _score(run: Run, language: str, groups: Sequence[tuple[str, int, list[Result]]]) -> dict[int, Scored]:
    """Score the groups whose stages were all evaluated on a language, by their index."""
    columns: dict[str, int] = {}
    counts: list[npt.NDArray[np.int32]] = []
    scored = {
        i: stages for i, (_, _, stages) in enumerate(groups) if all(evaluation_on(each, language) for each in stages)
    }
    for stage in (stage for stages in scored.values() for stage in stages):
        columns[stage["stage"]] = len(counts)
        counts.append(span_counts(run, stage, language))
        if not np.array_equal(counts[-1][:, 2], counts[0][:, 2]):
            raise UserError(
                f"{run.path}: {stage['stage']} and {next(iter(columns))} were evaluated on different sentences of "
                f"{language} ({len(counts[-1])} and {len(counts[0])}): report on runs of one data set"
            )
    if not counts:
        return {}
    stacked = np.stack(counts)
    sample, draws = f1(stacked.sum(axis=1)), resampled_f1(stacked)

    def against(stages: Sequence[Result], others: Sequence[Result]) -> Difference:
        """Compare the seeds that both have, or all where they share none."""
        shared = {each["seed"] for each in stages} & {each["seed"] for each in others}
        mine, theirs = (
            [columns[each["stage"]] for each in some if each["seed"] in shared or not shared]
            for some in (stages, others)
        )
        value = float(sample[mine].mean() - sample[theirs].mean())
        return difference(value, draws[:, mine].mean(axis=1) - draws[:, theirs].mean(axis=1))

    found: dict[int, Scored] = {}
    for index, stages in scored.items():
        regime, size, _ = groups[index]
        own = [columns[each["stage"]] for each in stages]
        seeds = over_seeds([float(value) for value in sample[own]])
        smaller = index - 1 in scored and groups[index - 1][0] == regime
        start = size > 0 and 0 in scored and groups[0][1] == 0
        found[index] = Scored(
            seeds,
            interval(seeds.mean, draws[:, own].mean(axis=1)),
            against(stages, scored[index - 1]) if smaller else None,
            against(stages, scored[0]) if start else None,
        )
    return found


def _forgotten(start: Sequence[Result], stages: Sequence[Result], source: str) -> Seeds | None:
    before = {each["seed"]: score["f1"] for each in start if (score := evaluation_on(each, source))}
    after = {each["seed"]: score["f1"] for each in stages if (score := evaluation_on(each, source))}
    shared = sorted(before.keys() & after.keys())
    return forgetting([before[seed] for seed in shared], [after[seed] for seed in shared]) if shared else None


def _mistakes(run: Run, stage: Result, language: str) -> Mistakes:
    errors, counts = stage_errors(run, stage, language), stage_counts(run, stage, language)
    return Mistakes(by_type(errors), by_length(errors), by_seen(errors, counts.word_seen))


def _curves(analysis: Analysis) -> list[Curve]:
    if analysis.full is None:
        return []
    best = analysis.full.target.seeds.mean
    curves = []
    for regime in dict.fromkeys(point.regime for point in analysis.points if point.size):
        points = [point for point in analysis.points if point.regime == regime]
        sizes, scores = [point.size for point in points], [point.target.seeds.mean for point in points]
        reached = [sentences_to_reach(sizes, scores, share * best) for share in REACHES]
        curves.append(Curve(regime, area_under_curve(sizes, scores), reached, sizes[0]))
    return curves
