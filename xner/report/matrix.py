"""The matrix of an experiment: the F1 of every kind of stage on every language that was evaluated."""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from xner.report.runs import Run, caveats, comparable_counts, evaluation_on, regime_order, target_of
from xner.report.statistics import Interval, Resampled
from xner.transfer.plan import SOUP, SOURCE
from xner.transfer.result import Evaluation, Result, size_of


class MatrixCell(NamedTuple):
    """F1 of the stages of a row on a language.

    Attributes:
        f1: Mean over seeds.
        interval: Confidence interval of the mean, over sentences.
        zero_shot: Whether no stage was trained on a sentence of the language.
        notes: What to keep in mind with it, see ``caveats``.
    """

    f1: float
    interval: Interval
    zero_shot: bool
    notes: list[str]


class MatrixRow(NamedTuple):
    """The stages that differ in their seed only.

    Attributes:
        run: Name of their run.
        sources: The source languages; none of stages that are trained on target sentences alone from the backbone.
        target: The language that the stages were adapted to; ``None`` for source stages.
        regime: The regime.
        size: Number of target sentences, or of entities per type; 0 for source stages.
        cells: F1 on each language; ``None`` where not all stages were evaluated on it. *Length:* languages.
        average: Mean F1 over the languages that are source languages of no row, so that rows can be compared; ``None``
            if one has no score, or there is none.
    """

    run: str
    sources: list[str]
    target: str | None
    regime: str
    size: int
    cells: list[MatrixCell | None]
    average: float | None


class Matrix(NamedTuple):
    """The rows of a matrix, and its columns: the evaluated languages, source languages first."""

    languages: list[str]
    rows: list[MatrixRow]


def score_matrix(runs: Sequence[Run]) -> Matrix | None:
    """Score the stages of some runs on every language that one of them was evaluated on.

    Args:
        runs: The runs; each has its own source languages.

    Returns:
        The matrix; ``None`` where there are only a source and a target, which the learning curve shows.

    Raises:
        UserError: If stages were evaluated on different sentences of a language.
    """
    groups: dict[tuple[int, str, str | None, int], list[Result]] = {}
    for number, run in enumerate(runs):
        for result in sorted(
            run.results, key=lambda each: (regime_order(each["regime"]), target_of(each) or "", size_of(each))
        ):
            key = number, result["regime"], target_of(result), size_of(result)
            if result["evaluations"]:
                groups.setdefault(key, []).append(result)
    sources = [_sources(run) for run in runs]
    evaluated = [each["language"] for run in runs for result in run.results for each in result["evaluations"]]
    languages = list(dict.fromkeys([*(each for some in sources for each in some), *evaluated]))
    if len(languages) <= 2:
        return None
    trained = {language for some in sources for language in some}
    columns = {language: _column(runs, groups, language) for language in languages}
    rows = []
    for key, _ in groups.items():
        number, regime, target, size = key
        cells = [columns[language].get(key) for language in languages]
        others = [cell for language, cell in zip(languages, cells, strict=True) if language not in trained]
        scores = [cell.f1 for cell in others if cell]
        average = float(np.mean(scores)) if scores and len(scores) == len(others) else None
        learned = [] if regime.removeprefix(SOUP) == "scratch" else sources[number]
        rows.append(MatrixRow(runs[number].name, learned, target, regime, size, cells, average))
    return Matrix(languages, rows)


def _column(
    runs: Sequence[Run], groups: dict[tuple[int, str, str | None, int], list[Result]], language: str
) -> dict[tuple[int, str, str | None, int], MatrixCell]:
    """Score all groups on one language, on the same bootstrap samples: to draw these takes longer than to score."""
    scored: dict[tuple[int, str, str | None, int], list[Evaluation]] = {}
    for key, stages in groups.items():
        scores = [score for stage in stages if (score := evaluation_on(stage, language))]
        if len(scores) == len(stages):
            scored[key] = scores
    if not scored:
        return {}
    resampled = Resampled(
        comparable_counts([(runs[key[0]], stage) for key in scored for stage in groups[key]], language)
    )
    columns = iter(range(sum(map(len, scored.values()))))
    found: dict[tuple[int, str, str | None, int], MatrixCell] = {}
    for key, scores in scored.items():
        mean = float(np.mean([score["f1"] for score in scores]))
        interval = resampled.interval([*islice(columns, len(scores))])
        zero_shot = all(score["zero_shot"] for score in scores)
        found[key] = MatrixCell(mean, interval, zero_shot, caveats(groups[key], language))
    return found


def _sources(run: Run) -> list[str]:
    """Return the languages that the source stages of a run train on."""
    return next((result["train_languages"] for result in run.results if result["regime"] == SOURCE), [])
