"""Weights & Biases: one run per stage and one per experiment, kept offline where the server cannot be reached."""

import logging
import os
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

from xner.errors import UserError
from xner.files import write_atomically
from xner.report.analysis import Analysis, evaluated_words, shown_examples
from xner.report.runs import before_adaptation
from xner.tags import Span
from xner.transfer.experiment import Experiment, Observer
from xner.transfer.plan import Stage
from xner.transfer.result import Evaluation, Result, csv_columns, csv_rows, flat

logger = logging.getLogger(__name__)

_MODES = ("online", "offline", "disabled", "dryrun", "shared")
"""W&B's modes; dryrun is an older name of offline."""

_ANSWER, _BEGIN, _END = 5, 20, 30
"""Timeouts in seconds: for any answer of the server, for beginning a run, for uploading the rest of one at its end."""


class Dashboard(WandbLogger):
    """Lightning's logger for W&B, made so that the server never stops training.

    Where the server does not answer or refuses the login, the run is kept offline, and a line says how to upload it
    later; where it fails during the run, the end of the run waits for it for at most half a minute.

    Args:
        project: W&B project.
        entity: User or team that owns the project; null is your own.
        name: Name of the run; null is the stage's id, or the name of the run's folder.
        group: Group of the runs of one experiment; null is the name of the run's folder.
        tags: Tags of the runs.
        offline: Keep runs on this machine until ``wandb sync`` uploads them. WANDB_MODE does the same.
        save_dir: Folder that ``wandb/`` is made in; null is the run's folder.
    """

    def __init__(
        self,
        *,
        project: str = "xner",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        offline: bool = False,
        save_dir: str | None = None,
    ) -> None:
        super().__init__(project=project, name=name, entity=entity, group=group, tags=list(tags))
        self.asked = {"name": name, "group": group, "dir": save_dir}
        del self._wandb_init["anonymous"]  # deprecated by wandb, which warns whatever its value
        # Lightning's own option would set WANDB_MODE for the whole process.
        self.mode = os.environ.get("WANDB_MODE") or ("offline" if offline else "online")
        if self.mode not in _MODES:
            raise UserError(f"WANDB_MODE={self.mode!r} is not a mode of W&B; use one of {', '.join(_MODES)}")
        self.reason = "as requested"
        self.known_as: Path | None = None

    def describe(
        self,
        *,
        folder: Path,
        job_type: str,
        config: Mapping[str, Any] | None = None,
        stage: str | None = None,
        known_as: Path | None = None,
    ) -> None:
        """Describe the next W&B run; the user's own options take precedence.

        Args:
            folder: The folder of the command's run.
            job_type: The command, or adapted, source, zero-shot, few-shot or summary.
            config: The resolved options; ``None`` leaves them unchanged.
            stage: The stage's id, where each has a W&B run of its own.
            known_as: File with the id of an online run, which is resumed when the command is.
        """
        name = folder.resolve().name
        asked = {key: value for key, value in self.asked.items() if value is not None}
        self._wandb_init |= {"name": name, "group": name, "dir": str(folder), "job_type": job_type} | asked
        if stage is not None:
            self._wandb_init["name"] = stage if self.asked["name"] is None else f"{self.asked['name']}-{stage}"
        if config is not None:
            self._wandb_init["config"] = dict(config)
        # Lightning saves checkpoints in the folder of a logger.
        self._save_dir = self._wandb_init["dir"]
        self.known_as = known_as

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:  # noqa: ANN401 - a Run, or a placeholder on other ranks
        """The W&B run, which begins at its first use."""
        if self._experiment is None:
            self._begin()
        return self._experiment

    @contextmanager
    def surviving(self) -> Iterator[None]:
        """Continue without W&B where its own process, which uploads, died within the block."""
        import wandb

        try:
            yield
        except (ConnectionError, wandb.Error) as error:
            _say_once(f"W&B failed ({_without_login(str(error))}); this command continues without it")
            os.environ["WANDB_MODE"] = self.mode = "disabled"
            self._experiment = wandb.init(mode="disabled")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log as Lightning does; a failure of W&B does not stop the command."""
        with self.surviving():
            super().log_metrics(metrics, step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log as Lightning does; a failure of W&B does not stop the command."""
        with self.surviving():
            super().log_hyperparams(params)

    @rank_zero_only
    def end(self) -> None:
        """Finish the run, if there is one, so that another can begin."""
        if self._experiment is not None:
            with self.surviving():
                self._experiment.finish()
            self._experiment = None

    def _begin(self) -> None:
        import wandb

        options: dict[str, Any] = {
            **self._wandb_init,
            "settings": wandb.Settings(init_timeout=_BEGIN, finish_timeout=_END, silent=True),
        }
        Path(options["dir"] or ".").mkdir(parents=True, exist_ok=True)
        if self.mode == "online":
            try:
                check_server(wandb.setup().settings.base_url)
                known = self.known_as.read_text() if self.known_as and self.known_as.is_file() else None
                self._experiment = wandb.init(**options | {"id": known}, mode="online")
                logger.info("W&B: %s", _without_login(str(self._experiment.url)))
                if self.known_as and not known:
                    self.known_as.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(self.known_as, self._experiment.id)
            except (ConnectionError, wandb.Error) as error:
                self.mode, self.reason = "offline", _without_login(str(error).splitlines()[0])
        if self._experiment is None:
            try:
                self._experiment = wandb.init(**options | {"mode": self.mode})
            except wandb.errors.UsageError as error:
                raise UserError(f"trainer.logger: W&B rejects its options: {' '.join(str(error).split())}") from error
        if self.mode == "offline":
            runs = Path(self._experiment.dir).parents[1]
            _say_once(f"W&B is offline ({self.reason}): `wandb sync {runs}/offline-run-*` uploads it later")
        self._experiment.define_metric("trainer/global_step")
        for pattern, step in {"*": "trainer/global_step", "val/*": "epoch"}.items():
            self._experiment.define_metric(pattern, step_metric=step, step_sync=step != "epoch")


def _without_login(text: str) -> str:
    """Remove user names, passwords and keys from the addresses in a text, such as that of ``WANDB_BASE_URL``.

    >>> _without_login("https://me:key@wandb.org/x does not answer")
    'https://wandb.org/x does not answer'
    """
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


@cache
def _say_once(line: str) -> None:
    logger.info(line)


def check_server(address: str) -> None:
    """Check that a W&B server answers; its own client would retry for more than a minute.

    Raises:
        ConnectionError: If it does not.
    """
    import requests

    try:
        requests.head(address, timeout=_ANSWER)
    except requests.RequestException as error:
        raise ConnectionError(f"{address} does not answer") from error


def dashboards(trainer: pl.Trainer) -> list[Dashboard]:
    """Return the loggers of a trainer that write to W&B."""
    return [logger for logger in trainer.loggers if isinstance(logger, Dashboard)]


class StageRuns(Observer):
    """Give each stage of an experiment a W&B run, and the zero-shot scores of a source stage another."""

    def stage_begun(self, stage: Stage, experiment: Experiment, trainer: pl.Trainer) -> None:
        """Name the run of the stage; it is resumed where the stage is."""
        for dashboard in dashboards(trainer):
            dashboard.describe(
                folder=experiment.root,
                job_type="soup" if stage.averages else "few-shot" if stage.target else stage.regime,
                stage=stage.id,
                known_as=experiment.folder(stage.id) / "wandb-id",
            )

    def stage_ended(self, result: Result, experiment: Experiment, trainer: pl.Trainer) -> None:
        """Write the scores into the summary of the run, and end it."""
        unseen = [each for each in result["evaluations"] if each["zero_shot"]]
        for dashboard in dashboards(trainer):
            measured = {"seconds": result["seconds"]}
            if found := result.get("perplexity"):
                measured |= {"perplexity/before": found["before"], "perplexity/after": found["after"]}
            _summarize(dashboard, result["evaluations"], **measured)
            if unseen and result["regime"] == "source":
                dashboard.describe(
                    folder=experiment.root,
                    job_type="zero-shot",
                    stage=f"zero-shot-{result['stage']}",
                    known_as=experiment.folder(result["stage"]) / "wandb-zero-shot-id",
                )
                _summarize(dashboard, unseen)


def _summarize(dashboard: Dashboard, evaluations: Sequence[Evaluation], **others: float) -> None:
    """Write the scores of tests, to the last digit, into the summary of a run, and end it."""
    scores = {
        f"test/{name}/{evaluation['language']}": value
        for evaluation in evaluations
        for name, value in flat(evaluation).items()
        if isinstance(value, int | float)
    }
    with dashboard.surviving():
        dashboard.experiment.summary.update(scores | others)
    dashboard.end()


FEW_SHOT = ("regime", "sentences", "seeds", "f1", "f1_sd", "f1_low", "f1_high", "source_f1", "forgotten")
ERRORS = ("stage", "error", "sentence", "text", "gold", "predicted")

TableRow = list[str | float | None]


def write_overview(dashboard: Dashboard, analysis: Analysis, curve: Path, *, several: bool = False) -> None:
    """Write the W&B run of an experiment: tables, a chart per regime, the learning curve and example errors.

    Args:
        dashboard: The logger.
        analysis: The experiment's results.
        curve: The figure, a PNG.
        several: Whether the experiment has several targets, each with a run of its own.
    """
    end = f"-{analysis.target}" if several else ""
    path = analysis.run.path
    dashboard.describe(folder=path, job_type="summary", stage=f"summary{end}", known_as=path / f"wandb-id{end}")
    with dashboard.surviving():
        _write_overview(dashboard.experiment, analysis, curve)
    dashboard.end()


def few_shot_rows(analysis: Analysis) -> list[TableRow]:
    """Return a row under ``FEW_SHOT`` per point of the curve, first that of the source stages, with 0 sentences."""
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


def error_rows(analysis: Analysis) -> list[TableRow]:
    """Return a row under ``ERRORS`` per example error, of the first and of the best stage of the curve."""
    sentences = evaluated_words(analysis)
    rows: list[TableRow] = []
    for stage, found in shown_examples(analysis):
        for kind, some in found.items():
            for each in some:
                words = sentences[each.sentence]
                spans = [_named(each.gold, words), _named(each.predicted, words)]
                rows.append([stage["stage"], kind, each.sentence + 1, " ".join(words), *spans])
    return rows


def _named(spans: Sequence[Span], words: Sequence[str]) -> str:
    return ", ".join(f"{span.type}: {' '.join(words[span.first : span.last + 1])}" for span in spans)


def _write_overview(experiment: Any, analysis: Analysis, curve: Path) -> None:  # noqa: ANN401 - W&B's Run, or a disabled one
    import wandb

    for point in analysis.points:
        if point.size:
            key = f"few-shot/{point.regime}"
            experiment.define_metric(f"{key}/*", step_metric="sentences")
            experiment.log({"sentences": point.size, f"{key}/f1": point.target.seeds.mean})
    columns: list[str | int] = [*csv_columns(analysis.run.results)]
    rows = [[row.get(str(name)) for name in columns] for row in csv_rows(analysis.run.results)]
    experiment.log(
        {
            "few-shot/table": wandb.Table(columns=list(FEW_SHOT), data=few_shot_rows(analysis)),
            "results": wandb.Table(columns=columns, data=rows),
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
