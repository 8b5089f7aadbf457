"""Observers of an experiment that the command line adds: its progress, the model cards, and the report."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from xner.cli.output import bracketed, duration, say
from xner.dashboard import Dashboard, write_overview
from xner.errors import RunError
from xner.report import FILES, write_report
from xner.report.card import CARD, Facts, license_of, measured_scores, write_card
from xner.transfer.experiment import Experiment, Observer
from xner.transfer.plan import Stage
from xner.transfer.result import Result, notes_of, read_result


class Reporter(Observer):
    """Write the report when the experiment has ended.

    Args:
        dashboards: The W&B loggers that get a run for the experiment.
    """

    def __init__(self, dashboards: Sequence[Dashboard]) -> None:
        self.dashboards = dashboards

    def experiment_ended(self, results: Sequence[Result], experiment: Experiment) -> None:
        """Write the learning curve, the page, and the W&B runs."""
        paths = {name: experiment.root / file for name, file in FILES.items()}
        analyses = write_report([experiment.root], **paths)
        for dashboard in self.dashboards:
            for analysis in analyses:
                write_overview(dashboard, analysis, paths["png"], several=len(analyses) > 1)


class Cards(Observer):
    """Write the model card of each complete stage whose model folder is kept and has a head for tags.

    Args:
        experiment: The experiment.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.license: str | None = experiment.options["license"]

    def experiment_begun(self, experiment: Experiment, complete: Mapping[str, Result]) -> None:
        """Write the cards that are missing or old, as after an interruption, or damaged, or have another license."""
        for result in complete.values():
            card = experiment.model_folder(result["stage"]) / CARD
            scored = (experiment.folder(result["stage"]) / "result.json").stat().st_mtime_ns
            try:
                current = card.is_file() and card.stat().st_mtime_ns >= scored and license_of(card) == self.license
            except RunError:
                current = False
            if not current:
                self.stage_completed(result)

    def stage_completed(self, result: Result) -> None:
        """Write the card of a stage."""
        experiment = self.experiment
        [stage] = [each for each in experiment.stages if each.id == result["stage"]]
        folder = experiment.model_folder(stage.id)
        # The intervals of a card take seconds, which one that is soon deleted is not worth.
        if folder.is_dir() and experiment.keeps(stage, result) and result["evaluations"]:
            write_card(folder, stage_facts(experiment, stage, result))


def stage_facts(experiment: Experiment, stage: Stage, result: Result) -> Facts:
    """Collect the content of the model card of a complete stage.

    Args:
        experiment: The experiment.
        stage: The stage.
        result: Its result, whose counts are in the stage's folder.
    """
    own = {"trainer.max_epochs": result["max_epochs"], "model.learning_rate": experiment.own_rate(stage)}
    return Facts(
        name=stage.id,
        types=result["types"],
        lineage=result["lineage"],
        license=experiment.options["license"],
        measured=measured_scores(experiment.folder(stage.id), result),
        source=experiment.options["data.source"],
        options={**experiment.options, **{name: value for name, value in own.items() if value is not None}},
        step_sentences=experiment.step_sentences,
        averages=stage.averages,
    )


class Progress(Observer):
    """Show how many stages are complete, and how long the others will take."""

    def __init__(self) -> None:
        self.work: dict[str, float] = {}
        self.complete = self.stages = 0
        self.began = time.monotonic()
        self.done = 0.0
        self.bar: Any = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def experiment_begun(self, experiment: Experiment, complete: Mapping[str, Result]) -> None:
        """Print the complete stages with their scores, and open a bar on a terminal."""
        self.work = {}
        for stage in experiment.stages:
            result = complete.get(stage.id)
            if result is None:
                self.work[stage.id] = experiment.work[stage.id]
                continue
            line = f"{stage.id}: complete, {_scores(result)}"
            if untested := experiment.untested(result):
                line += f"; to be tested on {', '.join(untested)}"
                self.work[stage.id] = experiment.test_work
            say(line)
        self.stages = len(experiment.stages)
        self.complete = self.stages - len(self.work)
        self.began = time.monotonic()
        if sys.stdout.isatty() and self.work:
            form = "{desc} {percentage:3.0f}% |{bar}| {elapsed}<{remaining}{postfix}"
            self.bar = tqdm(total=sum(self.work.values()), bar_format=form, smoothing=0, file=sys.stdout, leave=False)
            self.bar.set_description(f"stages {self.complete}/{self.stages}", refresh=True)

    def stage_begun(self, stage: Stage, experiment: Experiment, trainer: object) -> None:
        """Print where the stage starts, what it averages, or what it is still tested on."""
        if complete := read_result(experiment.folder(stage.id)):
            say(f"{stage.id}: is tested on {', '.join(experiment.untested(complete))}")
            return
        if stage.averages:
            say(f"{stage.id}: averages the weights of {len(stage.averages)} seeds")
            return
        say(f"{stage.id}: starts from {stage.parent or 'the backbone'}")

    def stage_completed(self, result: Result) -> None:
        """Print the scores of the stage, and the time left."""
        self.complete += 1
        self.done += self.work[result["stage"]]
        left = sum(self.work.values()) - self.done
        rest = left * (time.monotonic() - self.began) / self.done if self.done else 0
        line = f"[{self.complete}/{self.stages}] {result['stage']}: {_scores(result)} in {result['seconds']:.0f} s"
        say(f"{line}; {duration(rest)} left" if left else line)
        if self.bar is not None:
            self.bar.set_description(f"stages {self.complete}/{self.stages}", refresh=False)
            self.bar.set_postfix_str(_scores(result), refresh=False)
            self.bar.update(self.work[result["stage"]])


def _scores(result: Result) -> str:
    """Format the scores of a stage in a line, such as ``F1 en 0.8301, tr (zero-shot) 0.4712``."""
    if "perplexity" in result:
        return "perplexity {before:.4g} before, {after:.4g} after".format(**result["perplexity"])
    scores = (f"{each['language']}{bracketed(notes_of(each))} {each['f1']:.4f}" for each in result["evaluations"])
    return f"F1 {', '.join(scores)}"
