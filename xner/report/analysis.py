"""Analyse a run: every point of its learning curve with its uncertainty, what was forgotten, and the errors."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xner.errors import RunError, UserError
from xner.report.entity_errors import Example, Score, by_length, by_seen, by_type, examples
from xner.report.runs import (
    Run,
    caveats,
    comparable_counts,
    evaluation_on,
    group_stages,
    language_name,
    source_language,
    stage_counts,
    stage_errors,
    target_language,
    unit_of,
)
from xner.report.statistics import (
    Difference,
    Interval,
    Resampled,
    Seeds,
    area_under_curve,
    corrected,
    over_seeds,
    sentences_to_reach,
)
from xner.transfer.plan import SOUP, SOURCE
from xner.transfer.result import Result, read_sentences

REACHES = (0.90, 0.95, 0.99)
"""Fractions of the best F1 for which a report gives the number of sentences."""

Stages = Mapping[tuple[str, int], list[Result]]
"""By regime and size, the stages of all seeds."""


class Scored(NamedTuple):
    """F1 of a point on one language.

    Attributes:
        seeds: F1 over seeds.
        interval: Confidence interval of the mean, over sentences.
        seed_interval: Confidence interval of the mean, over seeds and sentences; ``None`` for a single seed.
        before: Difference from the next smaller size of the regime; ``None`` at the smallest.
        source: Difference from the source stage; ``None`` for the source stage and where there is none.
        regime: Difference from the run's first regime at the same size, of a soup from the regime that it averages;
            ``None`` for the first regime, for source stages and where there is none, or not all that is averaged.
    """

    seeds: Seeds
    interval: Interval
    seed_interval: Interval | None
    before: Difference | None
    source: Difference | None
    regime: Difference | None


class Mistakes(NamedTuple):
    """The errors of one stage on the target language, as ``entity_errors`` tabulates them."""

    by_type: npt.NDArray[np.int64]
    by_length: dict[str, Score]
    by_seen: dict[str, Score]


class Point(NamedTuple):
    """A point of the learning curve: the stages that differ in their seed only.

    Attributes:
        regime: The regime.
        size: Number of target sentences, or of target entities per type; 0 for source stages.
        stages: The stages, smallest seed first.
        target: F1 on the target language.
        source: F1 on the source language; ``None`` where it was not evaluated.
        forgotten: F1 on the source language minus that of the same seed's source stage, or, of a soup, minus the mean
            of all seeds; negative if F1 fell.
        mistakes: Errors of each stage on the target language.
    """

    regime: str
    size: int
    stages: list[Result]
    target: Scored
    source: Scored | None
    forgotten: Seeds | None
    mistakes: list[Mistakes]


class Curve(NamedTuple):
    """A summary of one regime's learning curve.

    Attributes:
        regime: The regime.
        area: Area under the curve over log n.
        reached: For each of ``REACHES``, the number of sentences at which the curve reaches that fraction of the run's
            best F1 at its largest size.
        smallest: The smallest size, below which the curve is unknown.
    """

    regime: str
    area: float
    reached: list[float | None]
    smallest: int


class Analysis(NamedTuple):
    """The analysis of a run; the point of the source stages, if there is one, comes first."""

    run: Run
    source: str
    target: str
    split: str
    points: list[Point]
    curves: list[Curve]

    @property
    def run_name(self) -> str:
        """The run's name without that of the target language, which distinguishes the parts of a run."""
        return self.run.name.removesuffix(f" ({language_name(self.target)})")

    @property
    def unit(self) -> str:
        """The unit of the sizes of the points."""
        return unit_of(self.run.results)

    @property
    def start(self) -> Point | None:
        """The point of the source stages."""
        return self.points[0] if self.points[0].size == 0 else None

    @property
    def full(self) -> Point | None:
        """The best point at the largest size."""
        largest = max(point.size for point in self.points)
        points = [point for point in self.points if point.size == largest > 0]
        return max(points, key=lambda point: point.target.seeds.mean, default=None)


def analyse(run: Run) -> Analysis:
    """Analyse a run.

    Raises:
        UserError: If no stage was evaluated on the target language, or stages were evaluated on different sentences.
    """
    source, target = source_language(run.results), target_language(run.results)
    groups = group_stages(run.results, target)
    if not groups:
        raise UserError(f"{run.path}: no stage was evaluated on {target}; there is nothing to report")
    start = groups.get((SOURCE, 0), [])
    on_target, on_source = _score(run, target, groups), _score(run, source, groups)
    points = []
    for (regime, size), stages in groups.items():
        scores = on_target[regime, size], on_source.get((regime, size))
        forgotten = _forgotten(start, stages, source) if size else None
        mistakes = [_mistakes(run, stage, target) for stage in stages]
        points.append(Point(regime, size, stages, *scores, forgotten, mistakes))
    splits = [score["split"] for stage in points[0].stages if (score := evaluation_on(stage, target))]
    analysis = Analysis(run, source, target, splits[0], points, [])
    return analysis._replace(curves=_curves(analysis))


class Comparison(NamedTuple):
    """A point of a run, compared with that of the first run.

    Attributes:
        run: The run.
        point: Its point.
        seeds: Number of seeds that the first run has at the same regime and size as well.
        change: F1 on the target language minus that of the first run, mean over these seeds; where there are none, each
            is the mean over its own.
        notes: What to keep in mind with its score, and with that of the first run, see ``caveats``.
    """

    run: Run
    point: Point
    seeds: int
    change: Difference
    notes: list[str]


def compare(first: Analysis, others: Sequence[Analysis]) -> list[Comparison]:
    """Compare runs with a first one of the same target by the paired bootstrap, at every regime and size of both."""
    found: list[Comparison] = []
    for other in others:
        pairs = [
            (mine, theirs)
            for mine in first.points
            for theirs in other.points
            if (mine.regime, mine.size) == (theirs.regime, theirs.size)
        ]
        stages = [
            (run, point.stages) for pair in pairs for run, point in zip((first.run, other.run), pair, strict=True)
        ]
        if not pairs:
            continue
        counts = comparable_counts([(run, stage) for run, some in stages for stage in some], first.target)
        resampled, columns = Resampled(counts), iter(range(len(counts)))
        for mine, theirs in pairs:
            own, its = ({stage["seed"]: next(columns) for stage in point.stages} for point in (mine, theirs))
            common = own.keys() & its.keys()
            change = resampled.difference(*([of[seed] for seed in common or of] for of in (its, own)))
            notes = caveats(theirs.stages, first.target)
            notes += [f"{note} in {first.run.name}" for note in caveats(mine.stages, first.target)]
            found.append(Comparison(other.run, theirs, len(common), change, notes))
    changes = corrected([each.change for each in found])
    return [each._replace(change=change) for each, change in zip(found, changes, strict=True) if change]


def evaluated_words(analysis: Analysis) -> list[list[str]]:
    """Read the words of each sentence that the stages of a run were evaluated on in the target language.

    Raises:
        FileNotFoundError: If the run has no words.
        RunError: If they are damaged, or not those that were counted.
    """
    words = read_sentences(analysis.run.path, analysis.target, analysis.split)
    counts = stage_counts(analysis.run, analysis.points[0].stages[0], analysis.target)
    if [*map(len, words)] != counts.sentence_words.tolist():
        path = analysis.run.path / "sentences" / f"{analysis.target}-{analysis.split}.json"
        raise RunError(
            f"{path} does not have the sentences that were evaluated; delete it for a report without words, or repeat "
            "the transfer"
        )
    return words


def shown_examples(analysis: Analysis) -> list[tuple[Result, dict[str, list[Example]]]]:
    """Choose example errors, by their kind, of a source stage and of a stage of the best point."""
    stages = [point.stages[0] for point in (analysis.start, analysis.full) if point]
    return [(stage, examples(stage_errors(analysis.run, stage, analysis.target))) for stage in stages]


def _score(run: Run, language: str, groups: Stages) -> dict[tuple[str, int], Scored]:
    """Score the groups whose stages were all evaluated on a language."""
    groups = {key: stages for key, stages in groups.items() if all(evaluation_on(each, language) for each in stages)}
    stages = [stage for group in groups.values() for stage in group]
    if not stages:
        return {}
    resampled = Resampled(comparable_counts([(run, stage) for stage in stages], language))
    columns = {stage["stage"]: column for column, stage in enumerate(stages)}

    def minus(group: Sequence[Result], others: Sequence[Result]) -> Difference:
        """Compare the seeds that both groups have, or all if they share none."""
        shared = {each["seed"] for each in group} & {each["seed"] for each in others}
        mine, theirs = (
            [columns[each["stage"]] for each in some if each["seed"] in shared or not shared]
            for some in (group, others)
        )
        return resampled.difference(mine, theirs)

    keys = [*groups]
    start = groups.get((SOURCE, 0))
    before = [
        minus(groups[key], groups[smaller]) if smaller[0] == key[0] else None
        for smaller, key in pairwise([("", 0), *keys])
    ]
    source = [minus(groups[key], start) if key != (SOURCE, 0) and start else None for key in keys]
    few_shot = [regime for regime, size in keys if size]

    def at_same_size(regime: str, size: int) -> Difference | None:
        """Compare with the first regime, or a soup with the stages that it averages, where all of them are there."""
        group, soup = groups[regime, size], regime.startswith(SOUP)
        others = groups.get((regime.removeprefix(SOUP) if soup else few_shot[0], size), []) if size else []
        incomplete = soup and {each["stage"] for each in others} != {*group[0]["start_from"].split("+")}
        return None if incomplete or not others or others is group else minus(group, others)

    regime = [at_same_size(*key) for key in keys]
    own = [[columns[each["stage"]] for each in group] for group in groups.values()]
    seeds = [over_seeds([float(value) for value in resampled.f1[each]]) for each in own]
    intervals = [resampled.interval(each) for each in own]
    seed_intervals = [resampled.seed_interval(each) for each in own]
    # Each of these is a column of the page's tables, and one family of tests.
    differences = [corrected(each) for each in (before, source, regime)]
    scores = zip(seeds, intervals, seed_intervals, *differences, strict=True)
    return {key: Scored(*score) for key, score in zip(keys, scores, strict=True)}


def _forgotten(start: Sequence[Result], stages: Sequence[Result], source: str) -> Seeds | None:
    before = {each["seed"]: score["f1"] for each in start if (score := evaluation_on(each, source))}
    after = {each["seed"]: score["f1"] for each in stages if (score := evaluation_on(each, source))}
    changes = [after[seed] - before[seed] for seed in before if seed in after]
    if before and None in after:  # a soup
        changes = [after[None] - fmean(before.values())]
    return over_seeds(changes) if changes else None


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
        reached = [sentences_to_reach(sizes, scores, fraction * best) for fraction in REACHES]
        curves.append(Curve(regime, area_under_curve(sizes, scores), reached, sizes[0]))
    return curves
