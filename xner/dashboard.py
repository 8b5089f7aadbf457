"""Weights & Biases: a run for each stage, kept on this machine where the server cannot be reached."""

import logging
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

from xner.errors import UserError
from xner.files import write_atomically

logger = logging.getLogger(__name__)

_MODES = ("online", "offline", "disabled", "dryrun", "shared")
"""What W&B calls its modes; dryrun is its older word for offline."""

_ANSWER, _BEGIN, _END = 5, 20, 30
"""Seconds that the server has to answer at all, to begin a run, and to take the rest of one at its end."""


class Dashboard(WandbLogger):
    """Lightning's logger for W&B, with a server that never stops training.

    A server that does not answer, or does not know who asks, makes the run an offline one, and a line says how to send
    it later; one that dies meanwhile keeps nobody waiting at the end for more than half a minute.

    Args:
        project: W&B project.
        entity: User or team that the project belongs to; null is your own.
        name: The run's name; null is the stage's id, or the name of the run's folder.
        group: What the runs of one experiment are grouped by; null is the name of the run's folder.
        tags: Tags of the runs.
        offline: Keep runs on this machine: ``wandb sync`` sends them. WANDB_MODE does the same.
        save_dir: Folder that gets ``wandb/``; null is the run's folder.
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
        del self._wandb_init["anonymous"]  # wandb warns of it, whatever it is
        # Not as Lightning's own option, which would set it for the whole process.
        self.mode = os.environ.get("WANDB_MODE") or ("offline" if offline else "online")
        if self.mode not in _MODES:
            raise UserError(f"WANDB_MODE={self.mode!r} is none of {', '.join(_MODES)}")
        self.reason = "as asked for"
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
        """Say what the next W&B run is of; what the user asked for stays.

        Args:
            folder: The folder of the command's run.
            job_type: What is done: a command, or source, zero-shot, few-shot or summary.
            config: The resolved options; ``None`` leaves them as they are.
            stage: The stage's id, where each has a W&B run of its own.
            known_as: File with the id of an online run, to go on with when the command does.
        """
        name = folder.resolve().name
        asked = {key: value for key, value in self.asked.items() if value is not None}
        self._wandb_init |= {"name": name, "group": name, "dir": str(folder), "job_type": job_type} | asked
        if stage is not None:
            self._wandb_init["name"] = stage if self.asked["name"] is None else f"{self.asked['name']}-{stage}"
        if config is not None:
            self._wandb_init["config"] = dict(config)
        # Lightning keeps checkpoints where a logger has its folder.
        self._save_dir = self._wandb_init["dir"]
        self.known_as = known_as

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:  # noqa: ANN401 - a Run, or what stands for one on other ranks
        """The W&B run; it begins when it is first asked for."""
        if self._experiment is None:
            self._begin()
        return self._experiment

    @contextmanager
    def surviving(self) -> Iterator[None]:
        """Go on without W&B where its own process, which does the sending, died within the block."""
        import wandb

        try:
            yield
        except (ConnectionError, wandb.Error) as error:
            _say_once(f"W&B failed ({error}): this command goes on without it")
            os.environ["WANDB_MODE"] = self.mode = "disabled"
            self._experiment = wandb.init(mode="disabled")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """As Lightning's, surviving."""
        with self.surviving():
            super().log_metrics(metrics, step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """As Lightning's, surviving."""
        with self.surviving():
            super().log_hyperparams(params)

    @rank_zero_only
    def end(self) -> None:
        """Finish the run, so that another can begin; without one, nothing happens."""
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
                logger.info("W&B: %s", self._experiment.url)
                if self.known_as and not known:
                    self.known_as.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(self.known_as, self._experiment.id)
            except (ConnectionError, wandb.Error) as error:
                self.mode, self.reason = "offline", str(error).splitlines()[0]
        if self._experiment is None:
            try:
                self._experiment = wandb.init(**options | {"mode": self.mode})
            except wandb.errors.UsageError as error:
                raise UserError(f"trainer.logger: W&B refuses its options: {' '.join(str(error).split())}") from error
        if self.mode == "offline":
            runs = Path(self._experiment.dir).parents[1]
            _say_once(f"W&B is offline ({self.reason}): `wandb sync {runs}/offline-run-*` sends it later")
        self._experiment.define_metric("trainer/global_step")
        for pattern, step in {"*": "trainer/global_step", "val/*": "epoch"}.items():
            self._experiment.define_metric(pattern, step_metric=step, step_sync=step != "epoch")


@cache
def _say_once(line: str) -> None:
    logger.info(line)


def check_server(address: str) -> None:
    """Ask a W&B server for any answer; its own client would go on trying for a minute and more.

    Raises:
        ConnectionError: If there is none.
    """
    import requests

    try:
        requests.head(address, timeout=_ANSWER)
    except requests.RequestException as error:
        raise ConnectionError(f"{address} does not answer") from error
