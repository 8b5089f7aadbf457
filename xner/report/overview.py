"""An experiment as a whole in W&B: a run with the few-shot table, a chart per regime, the curve and example errors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xner.dashboard import Dashboard
from xner.report.analysis import Analysis
from xner.report.mistakes import shown_examples
from xner.report.points import before_adaptation
from xner.tags import Span
from xner.transfer.result import CSV_COLUMNS, csv_rows, read_sentences

FEW_SHOT = ("regime", "sentences", "seeds", "f1", "f1_sd", "f1_low", "f1_high", "source_f1", "forgotten")
ERRORS = ("stage", "error", "sentence", "text", "gold", "predicted")

Row = list[str | float | None]


def write_overview(dashboard: Dashboard, analysis: Analysis, curve: Path) -> None:
    """Write the W&B run that sums up an experiment.

    Args:
        dashboard: Where to.
        analysis: The experiment's results.
        curve: The figure, a PNG.
    """
    dashboard.describe(
        folder=analysis.run.path, job_type="summary", stage="summary", known_as=analysis.run.path / "wandb-id"
    )
    with dashboard.surviving():
        _write(dashboard.experiment, analysis, curve)
    dashboard.end()


def few_shot_rows(analysis: Analysis) -> list[Row]:
    """A row under ``FEW_SHOT`` for each point of the curve, the source stages' with 0 sentences first."""
    return [
        [
            point.regime,
            point.size,
            point.target.seeds.seeds,
            point.target.seeds.mean,
            point.target.seeds.sd,
            point.target.interval.low,
            point.target.interval.high,
            point.source.seeds.mean if point.source else None,
            point.forgotten.mean if point.forgotten else None,
        ]
        for point in analysis.points
    ]


def error_rows(analysis: Analysis) -> list[Row]:
    """A row under ``ERRORS`` for some sentences of each kind of error, at the start of the curve and at its end."""
    sentences = read_sentences(analysis.run.path, analysis.target, analysis.split)
    rows: list[Row] = []
    for stage, found in shown_examples(analysis):
        for kind, some in found.items():
            for each in some:
                words = sentences[each.sentence]
                spans = [_named(each.gold, words), _named(each.predicted, words)]
                rows.append([stage["stage"], kind, each.sentence + 1, " ".join(words), *spans])
    return rows


def _named(spans: Sequence[Span], words: Sequence[str]) -> str:
    return ", ".join(f"{span.type}: {' '.join(words[span.first : span.last + 1])}" for span in spans)


def _write(experiment: Any, analysis: Analysis, curve: Path) -> None:  # noqa: ANN401 - W&B's Run, or one that is disabled
    import wandb

    for point in analysis.points:
        if point.size:
            key = f"few-shot/{point.regime}"
            experiment.define_metric(f"{key}/*", step_metric="sentences")
            experiment.log({"sentences": point.size, f"{key}/f1": point.target.seeds.mean})
    rows = [[row[name] for name in CSV_COLUMNS] for row in csv_rows(analysis.run.results)]
    experiment.log(
        {
            "few-shot/table": wandb.Table(columns=list(FEW_SHOT), data=few_shot_rows(analysis)),
            "results": wandb.Table(columns=list(CSV_COLUMNS), data=rows),
            "curve": wandb.Image(str(curve)),
            "errors": wandb.Table(columns=list(ERRORS), data=error_rows(analysis)),
        }
    )
    if start := analysis.start:
        # Called zero-shot only where it is.
        experiment.summary[f"{before_adaptation(start.stages, analysis.target)}/f1"] = start.target.seeds.mean
    if full := analysis.full:
        experiment.summary["few-shot/best/f1"] = full.target.seeds.mean
    for line in analysis.curves:
        experiment.summary[f"few-shot/{line.regime}/area"] = line.area
