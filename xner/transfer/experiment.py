"""A transfer experiment: where it is kept, and what the result of each of its stages depends on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xner.backbone import backbone_digest
from xner.errors import RunError, UserError
from xner.transfer.plan import Stage

Keep = Literal["none", "source", "last", "all"]
Select = Literal["last", "best"]

Settings = Mapping[str, Any]
"""Options by their name on the command line, as ``data.languages``."""

SET_BY_TRANSFER = frozenset(
    {"data.languages", "data.num_samples", "data.subset_seed", "data.test_languages", "data.backbone"}
)
"""Options that each stage has values of its own of; a definition says them under names of its own."""

WITHOUT_EFFECT = SET_BY_TRANSFER | {
    # Paths and names; a definition has digests of what is there.
    *("data.source", "model.backbone", "trainer.default_root_dir"),
    # Where a stage is computed; a definition has the number of processes times the batch size.
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "data.batch_size"),
    *("executor", "gpus_per_stage"),
    # What is shown and kept of a run.
    *("trainer.logger", "trainer.log_every_n_steps", "trainer.enable_progress_bar", "trainer.enable_model_summary"),
    *("trainer.enable_autolog_hparams", "trainer.enable_checkpointing", "trainer.profiler", "keep", "plan"),
    # Which stages there are; a definition has the stage's own part of each. A stage seeds itself.
    *("source", "target", "sizes", "regimes", "seeds", "seed_everything"),
}
"""Options that cannot change a stage's result. Every other option counts, one that is yet to be invented included."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A transfer experiment and where it is kept.

    Attributes:
        root: The run's folder.
        stages: As ``plan`` lists them.
        evaluated: The languages that each stage is tested on.
        settings: All options of the command, as the user gave them.
        processes: How many processes train a stage, each on batches of its own.
        digests: The digest of each split in use, as ``Sentences.digest``, by its name, as ``tr/train``.
        work: By the stage's id, about how long it takes, in sentences that are trained on once.
        keep: Which stages' model folders stay: none, the source stages', those nothing starts from, or all.
        select: Which epoch's weights count: the last one's, or those with the best F1 on validation.
    """

    root: Path
    stages: Sequence[Stage]
    evaluated: Sequence[str]
    settings: Settings
    processes: int
    digests: Mapping[str, str]
    work: Mapping[str, float]
    keep: Keep = "source"
    select: Select = "last"

    def folder(self, stage: str) -> Path:
        """Where a stage keeps its result."""
        return self.root / "stages" / stage

    def checkpoints(self, stage: str) -> Path:
        """Where a stage keeps what it needs to go on, until it is complete."""
        return self.folder(stage) / "checkpoints"

    def model_folder(self, stage: str) -> Path:
        """Where a stage keeps its weights."""
        return self.folder(stage) / "model"


def define(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Say what each stage's result depends on, by the stage's id, in words that JSON keeps."""
    definitions: dict[str, dict[str, Any]] = {}
    settings = experiment.settings
    for stage in experiment.stages:
        names = (settings["data.train_split"], "validation")
        splits = [f"{language}/{name}" for language, _ in stage.train for name in names]
        splits += [f"{language}/test" for language in experiment.evaluated]
        definition = {
            **{name: value for name, value in settings.items() if name not in WITHOUT_EFFECT},
            "stage": stage.id,
            "train": [[language, samples] for language, samples in stage.train],
            "evaluated": list(experiment.evaluated),
            "data.subset_seed": stage.seed,
            "data.batch_size x processes": settings["data.batch_size"] * experiment.processes,
            **{f"sentences of {split}": experiment.digests[split] for split in splits},
            "parent": stage.parent,
            "start_from": fingerprint(definitions[stage.parent])
            if stage.parent
            else backbone_digest(settings["model.backbone"]),
        }
        definitions[stage.id] = json.loads(json.dumps(definition))
    return definitions


def no_best() -> RunError:
    """Make the error of a training that was to end with its best epoch and kept none."""
    return RunError(
        "select=best found no best checkpoint: no score was monitored, as where training ends before its first "
        "validation; leave it out, or validate earlier"
    )


def fingerprint(definition: Settings) -> str:
    """A SHA-256 of a stage's definition."""
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()


def check_same(definition: Settings, before: Settings, folder: Path) -> None:
    """Refuse to take a stage's result, or its checkpoints, for those of another definition.

    Args:
        definition: What the stage is to be.
        before: What it was.
        folder: The stage's folder.

    Raises:
        UserError: If they differ; its text names the first option that does.
    """
    for name in sorted({*before, *definition}):
        if name.partition(".")[0] in ("model", "data", "trainer") and (name in before) != (name in definition):
            raise UserError(
                f"{folder} was run by another version of xner, to which {name} was not the same thing: name another "
                "--trainer.default_root_dir, or delete it"
            )
        if before.get(name) != definition.get(name):
            raise UserError(
                f"{folder} was run with {name}={before.get(name)!r}, not {definition.get(name)!r}: name another "
                "--trainer.default_root_dir, or delete it"
            )
