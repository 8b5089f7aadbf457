"""What W&B is told of an experiment: a run for each stage, and one for what it says of a language without seeing it."""

from collections.abc import Sequence

import lightning.pytorch as pl

from xner.dashboard import Dashboard
from xner.transfer.experiment import Experiment
from xner.transfer.plan import Stage
from xner.transfer.result import Evaluation, Result


def dashboards(trainer: pl.Trainer) -> list[Dashboard]:
    """The trainer's loggers that write to W&B as xner does."""
    return [logger for logger in trainer.loggers if isinstance(logger, Dashboard)]


def begin_stage(trainer: pl.Trainer, stage: Stage, experiment: Experiment) -> None:
    """Name the W&B run of a stage; it goes on where the stage does."""
    for dashboard in dashboards(trainer):
        dashboard.describe(
            folder=experiment.root,
            job_type="source" if stage.regime == "source" else "few-shot",
            stage=stage.id,
            known_as=experiment.folder(stage.id) / "wandb-id",
        )


def end_stage(trainer: pl.Trainer, result: Result, experiment: Experiment) -> None:
    """End the W&B run of a stage; what a source stage says of languages that it never saw is a run of its own."""
    unseen = [each for each in result["evaluations"] if each["zero_shot"]]
    for dashboard in dashboards(trainer) if trainer.is_global_zero else ():
        _sum_up(dashboard, result["evaluations"], seconds=result["seconds"])
        if unseen and result["regime"] == "source":
            dashboard.describe(folder=experiment.root, job_type="zero-shot", stage=f"zero-shot-{result['stage']}")
            _sum_up(dashboard, unseen)


def _sum_up(dashboard: Dashboard, evaluations: Sequence[Evaluation], **others: float) -> None:
    """Put the scores of tests, to the last digit, into a run's summary, and end it."""
    scores = {
        f"test/{name}/{evaluation['language']}": value
        for evaluation in evaluations
        for name, value in evaluation.items()
        if isinstance(value, int | float)
    }
    with dashboard.surviving():
        dashboard.experiment.summary.update(scores | others)
    dashboard.end()
