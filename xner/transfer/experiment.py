"""A transfer experiment: where it is kept, and everything that the result of each of its stages depends on."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl

from xner.backbone import backbone_digest
from xner.data.datamodule import PanxDataModule
from xner.errors import UserError
from xner.model.optimizer import check_own_rate
from xner.transfer.plan import SIZES, Stage, as_languages
from xner.transfer.pretraining import Pretraining
from xner.transfer.result import Result
from xner.transfer.self_training import SelfTraining

Keep = Literal["none", "source", "last", "all"]
Select = Literal["last", "best", "average"]
TransferSelect = Literal[Select, "oracle"]
Options = Mapping[str, Any]
"""All options of a command by their name on the command line, such as ``data.languages``, as JSON values."""


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """The settings of stages that train on target-language sentences alone, where they differ from the other stages'.

    Args:
        learning_rate: Peak learning rate; null is model.learning_rate.
        max_epochs: Number of epochs; null is trainer.max_epochs.
        min_steps: Minimum number of optimizer steps, for which a stage with few sentences trains for more epochs; null
            is no minimum.
    """

    learning_rate: float | None = None
    max_epochs: int | None = None
    min_steps: int | None = None

    def check(self, epochs: float) -> None:
        """Check the values.

        Args:
            epochs: The number of epochs of the other stages; infinity for no limit.

        Raises:
            UserError: If one is impossible.
        """
        for name in ("max_epochs", "min_steps"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"few_shot.{name}={value} is not positive; use 1 or more, or null")
        check_own_rate("few_shot.learning_rate", self.learning_rate, "2e-5")
        if self.min_steps and self.max_epochs is None and math.isinf(epochs):
            raise UserError(f"few_shot.min_steps={self.min_steps} needs a number of epochs; use trainer.max_epochs")

    def epochs_of(
        self, stages: Sequence[Stage], sentences: Mapping[str, Mapping[str, int]], *, batch: int, epochs: float
    ) -> dict[str, float]:
        """Return the number of epochs of each stage, by its id; infinity for no limit.

        Args:
            stages: The stages.
            sentences: The number of training sentences per language of each stage, by its id.
            batch: Sentences per optimizer step, over all processes.
            epochs: The number of epochs of stages to which these settings do not apply.
        """
        own = epochs if self.max_epochs is None else self.max_epochs
        return {
            stage.id: max(own, math.ceil((self.min_steps or 0) / -(-sum(sentences[stage.id].values()) // batch)))
            if stage.adapts
            else epochs
            for stage in stages
        }


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """The options of a transfer experiment.

    Args:
        source: Source language: the model is first fine-tuned on it. Several, such as [en, de], are trained on
            together.
        target: Target language: evaluated zero-shot, then adapted to. Several, such as [tr, fi], share the source
            stages, and each has few-shot stages of its own.
        sizes: Numbers of target-language training sentences, increasing.
        shots: Numbers of target-language entities of each type, increasing, in place of sizes: sentences are drawn
            until each type has as many.
        regimes: Where few-shot stages start from: progressive (the previous stage), independent (the source stage),
            scratch (the backbone, target sentences only), joint (the backbone, source and target sentences),
            self_training (the source stage, target sentences with its predictions in place of their tags).
        seeds: Seeds of training and of the subsets; the whole experiment runs once per seed.
        few_shot: Settings of stages that train on target sentences alone.
        keep: Stages whose model folders are kept: none, source (and those before it), last (those that no stage starts
            from) or all.
        select: Which weights to evaluate: last, best by F1 on validation, the average of those at the end of every
            epoch, or oracle, best by F1 on the target's validation split, for comparison: no score is then zero-shot.
        soup: Add a stage per regime, target and size whose weights are the average of the stages of all seeds. New
            heads then have the same initial weights with every seed, because only such heads can be averaged.
        plan: Print each stage's starting point, training data and optimizer steps, without running any.
        executor: How stages are run: serial, one after another, or ray, independent stages in parallel on this machine
            or on the cluster that RAY_ADDRESS names; the results are the same.
        gpus_per_stage: GPUs that ray gives each stage, 0 to 1; null is one if the cluster has any. Without a GPU, a
            stage takes as many CPU cores as torch uses threads in this process (OMP_NUM_THREADS).
        self_training: Options of the regime self_training.
        adapt_backbone: Continue the pretraining of the backbone before all other stages, by masked-language modelling
            of training sentences whose tags are not read: those of the targets (target), or of sources and targets
            (both). Null leaves the backbone unchanged.
        pretraining: Options of adapt_backbone.
    """

    source: list[str] | str = "en"
    target: list[str] | str = "tr"
    sizes: Sequence[int] = SIZES
    shots: Sequence[int] | None = None
    regimes: Sequence[str] = ("progressive",)
    seeds: Sequence[int] = (42,)
    few_shot: FewShot = field(default_factory=FewShot)
    keep: Keep = "source"
    select: TransferSelect = "last"
    soup: bool = False
    plan: bool = False
    executor: Literal["serial", "ray"] = "serial"
    gpus_per_stage: float | None = None
    self_training: SelfTraining = field(default_factory=SelfTraining)
    adapt_backbone: Literal["target", "both"] | None = None
    pretraining: Pretraining = field(default_factory=Pretraining)

    def check(self, epochs: float) -> None:
        """Check the options that need neither the plan nor the data.

        Args:
            epochs: The maximum number of epochs of stages without settings of their own; infinity for no limit.

        Raises:
            UserError: If one is out of its range, or epochs cannot be selected as asked.
        """
        self.few_shot.check(epochs)
        self.self_training.check()
        self.pretraining.check()
        targets = as_languages(self.target)
        if self.select == "oracle" and len(targets) > 1:
            raise UserError(
                f"select=oracle chooses epochs by one target, not by target={targets}; use one target per run"
            )
        if self.select in ("best", "oracle") and "self_training" in self.regimes:
            raise UserError(
                f"select={self.select} is not possible with self_training, because it needs target tags to choose an "
                "epoch; use select=last or average"
            )


SET_PER_STAGE = frozenset(
    {"data.languages", "data.num_samples", "data.shots", "data.subset_seed", "data.test_languages", "data.backbone"}
)
"""Options whose values differ between stages; a definition records them under its own attributes."""

WITHOUT_EFFECT = SET_PER_STAGE | {
    # Paths and names; a definition has digests of their content.
    *("data.source", "model.backbone", "trainer.default_root_dir"),
    # Where a stage is computed; a definition has the number of processes times the batch size.
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "data.batch_size"),
    *("executor", "gpus_per_stage"),
    # What is displayed and kept of a run.
    *("trainer.logger", "trainer.log_every_n_steps", "trainer.enable_progress_bar", "trainer.enable_model_summary"),
    *("trainer.enable_autolog_hparams", "trainer.enable_checkpointing", "trainer.profiler", "keep", "plan"),
    "license",
    # Which stages exist; a definition has the stage's own part of each. A stage seeds itself.
    *("source", "target", "sizes", "shots", "regimes", "seeds", "seed_everything", "few_shot"),
    # Only the stages that they are for have them in their definition, so that others need not run again.
    *("self_training", "adapt_backbone", "pretraining"),
}
"""Options that cannot change a stage's result. Every other option counts, including options added later."""


_WORDS = " (words)"
"""The end of the name of a split in ``Experiment.digests`` where its tags are not read."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A transfer experiment and where it is kept.

    Attributes:
        root: The run's folder.
        stages: The stages as ``plan`` lists them.
        evaluated: The languages that each stage is tested on.
        options: All options of the command as the user gave them.
        backbone: What stages without a parent start from.
        backbone_digest: The digest of its weights, tokenizer and lineage.
        train_split: The name of the split that stages train on.
        test_split: The name of the split that they are tested on.
        batch_sentences: Training sentences per batch, over all processes.
        types: The entity types, in the order of their labels.
        digests: The digest of each split in use, see ``Sentences.digest``, by its name, such as ``tr/train``.
        few_shot: The settings of stages that train on target sentences alone.
        epochs: The number of epochs of each stage, by its id; infinity for no limit.
        work: The approximate duration of each stage by its id, in sentences trained on once.
        keep: Stages whose model folders are kept.
        select: Which weights are evaluated.
        soup: Whether new heads have the same initial weights with every seed.
        self_training: Options of the regime self_training.
        pretraining: Options of the stages that adapt the backbone.
    """

    root: Path
    stages: Sequence[Stage]
    evaluated: Sequence[str]
    options: Options
    backbone: str
    backbone_digest: str
    train_split: str
    test_split: str
    batch_sentences: int
    types: Sequence[str]
    digests: Mapping[str, str]
    few_shot: FewShot
    epochs: Mapping[str, float]
    work: Mapping[str, float]
    keep: Keep = "source"
    select: TransferSelect = "last"
    soup: bool = False
    self_training: SelfTraining = field(default_factory=SelfTraining)
    pretraining: Pretraining = field(default_factory=Pretraining)

    @property
    def oracle(self) -> str | None:
        """The language whose validation split the best epoch is chosen by, where it is the target's; else ``None``."""
        return next((stage.target for stage in self.stages if stage.target), None) if self.select == "oracle" else None

    def own_rate(self, stage: Stage) -> float | None:
        """Return a stage's learning rate if it differs from the command's, ``None`` otherwise."""
        if stage.labels == "none":
            return self.pretraining.learning_rate
        return self.few_shot.learning_rate if stage.adapts else None

    def own_epochs(self, stage: Stage) -> int | None:
        """Return a stage's number of epochs if it may differ from the command's, ``None`` otherwise."""
        epochs, own = self.epochs[stage.id], stage.adapts or stage.labels == "none"
        return int(epochs) if own and not math.isinf(epochs) else None

    def keeps(self, stage: Stage) -> bool:
        """Return whether a stage's model folder is kept, also when no other stage needs it any more."""
        starts = {each.parent for each in self.stages}
        return {"none": False, "source": not stage.size, "last": stage.id not in starts, "all": True}[self.keep]

    def folder(self, stage: str) -> Path:
        """Return the folder of a stage's result."""
        return self.root / "stages" / stage

    def checkpoints(self, stage: str) -> Path:
        """Return the folder of the checkpoints that an incomplete stage is resumed from."""
        return self.folder(stage) / "checkpoints"

    def model_folder(self, stage: str) -> Path:
        """Return the folder of a stage's weights."""
        return self.folder(stage) / "model"


class Observer:
    """Follow an experiment. Every method does nothing unless a subclass overrides it."""

    def experiment_begun(self, experiment: Experiment, complete: Mapping[str, Result]) -> None:
        """Called before the first stage runs, with the results of the stages that are complete, by stage id."""

    def stage_begun(self, stage: Stage, experiment: Experiment, trainer: pl.Trainer) -> None:
        """Called before a stage is trained, in each process that trains it."""

    def stage_ended(self, result: Result, experiment: Experiment, trainer: pl.Trainer) -> None:
        """Called with a stage's result, in the first process that trained it."""

    def stage_completed(self, result: Result) -> None:
        """Called with a stage's result, in the process that runs the experiment."""

    def experiment_ended(self, results: Sequence[Result], experiment: Experiment) -> None:
        """Called with the results of all stages, in the order of the plan."""


@dataclass(frozen=True, kw_only=True)
class Definition:
    """Everything that the result of a stage depends on.

    Attributes:
        stage: The stage's id.
        train: The languages it trains on, each with its number of sentences; ``None`` stands for all.
        shots: Number of target-language entities per type; ``None`` where the number of sentences is given.
        evaluated: The languages it is tested on.
        subset_seed: Seed of the subsets.
        parent: The id of the stage it starts from, or those of the stages that it averages, joined by ``+``; ``None``
            for the backbone.
        start_from: The fingerprints of their definitions, or the digest of the backbone.
        batch_sentences: Training sentences per batch, over all processes.
        sentences: The digest of each split in use.
        types: The entity types, in the order of their labels.
        few_shot: The settings of stages that train on target sentences alone; ``None`` for other stages.
        options: All options of the command but ``WITHOUT_EFFECT``.
    """

    stage: str
    train: list[list[str | int | None]]
    shots: int | None
    evaluated: list[str]
    subset_seed: int
    parent: str | None
    start_from: str
    batch_sentences: int
    sentences: dict[str, str]
    types: list[str]
    few_shot: dict[str, Any] | None
    options: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the definition."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def check_same(self, before: Mapping[str, Any], folder: Path) -> None:
        """Refuse to take a stage's result, or its checkpoints, for those of another definition.

        Args:
            before: The definition that the stage was run with, as ``result.json`` has it.
            folder: The stage's folder.

        Raises:
            UserError: If they differ; the text names the first option that does.
        """
        now, then = dict(_named(asdict(self))), dict(_named(before))
        for name in sorted({*now, *then}):
            if name not in now or name not in then:
                raise UserError(
                    f"{folder} was run by another version of xner, where {name} had another meaning; use another "
                    "--trainer.default_root_dir, or delete the folder"
                )
            if now[name] != then[name]:
                raise UserError(
                    f"{folder} was run with {name}={then[name]!r}, not {now[name]!r}; use another "
                    "--trainer.default_root_dir, or delete the folder"
                )


def define(experiment: Experiment) -> dict[str, Definition]:
    """Define each stage of an experiment, by the stage's id."""
    definitions: dict[str, Definition] = {}
    for stage in experiment.stages:
        text = stage.labels == "none"
        trained = experiment.train_split + ("" if stage.labels == "gold" else _WORDS)
        validated, tested = (name + _WORDS * text for name in ("validation", experiment.test_split))
        splits = [f"{language}/{name}" for language, _ in stage.train for name in (trained, validated)]
        splits += [f"{experiment.oracle}/validation"] if experiment.oracle and not text else []
        if not text or experiment.pretraining.leave_out_test:
            splits += [f"{language}/{tested}" for language in experiment.evaluated]
        start = "+".join(definitions[each].fingerprint for each in stage.parents) or experiment.backbone_digest
        options = {name: value for name, value in experiment.options.items() if name not in WITHOUT_EFFECT}
        if stage.labels != "gold":
            group = "pretraining" if text else "self_training"
            options |= {f"{group}.{name}": value for name, value in asdict(getattr(experiment, group)).items()}
        definitions[stage.id] = Definition(
            stage=stage.id,
            train=[[language, samples] for language, samples in stage.train],
            shots=stage.shots,
            evaluated=[] if text else list(experiment.evaluated),
            subset_seed=stage.seed,
            parent="+".join(stage.parents) or None,
            start_from=start,
            batch_sentences=experiment.batch_sentences,
            sentences={split: experiment.digests[split] for split in splits},
            types=[] if text else list(experiment.types),
            few_shot=asdict(experiment.few_shot) if stage.adapts else None,
            options=json.loads(json.dumps(options)),
        )
    return definitions


def _named(definition: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Name each part of a definition as an error calls it."""
    names = {"batch_sentences": "data.batch_size x processes", "subset_seed": "data.subset_seed"}
    for name, value in definition.items():
        if name == "options":
            yield from value.items()
        elif name == "sentences":
            yield from ((f"sentences of {split}", digest) for split, digest in value.items())
        else:
            yield names.get(name, name), value


def prepare(
    data: PanxDataModule,
    stages: Sequence[Stage],
    transfer: TransferOptions,
    options: Options,
    *,
    root: Path,
    backbone: str,
    processes: int,
    sentences: Mapping[str, Mapping[str, int]],
    epochs: Mapping[str, float],
) -> Experiment:
    """Read and encode all splits that the stages need.

    Args:
        data: The data module of the command, whose test languages are those of every stage.
        stages: The stages as ``plan`` lists them.
        transfer: The options of the experiment.
        options: All options of the command.
        root: The run's folder.
        backbone: What stages without a parent start from.
        processes: Number of processes that train each stage.
        sentences: The number of training sentences per language of each stage, by its id.
        epochs: The number of epochs of each stage, by its id; infinity for no limit.

    Raises:
        UserError: If a split does not exist.
        RunError: If a file of it is invalid.
    """
    languages = dict.fromkeys(language for stage in stages for language, _ in stage.train)
    evaluated = data.test_languages
    splits = [split for each in languages for split in (data.training_split(each), data.split_of(each, "validation"))]
    splits += [data.test_split_of(language) for language in evaluated]
    data.read(splits)
    digests = {str(split): data.encoded(split).digest for split in splits}
    words = [(stage.target, data.train_split) for stage in stages if stage.labels == "predicted" and stage.target]
    if text := {language: None for stage in stages if stage.labels == "none" for language, _ in stage.train}:
        words += [(language, name) for language in text for name in (data.train_split, "validation")]
        words += [(language, data.test_split) for language in evaluated]
    for split in (data.split_of(*each, tagged=False) for each in dict.fromkeys(words)):
        digests[f"{split}{_WORDS}"] = data.encoded(split).digest
    return Experiment(
        root=root,
        stages=stages,
        evaluated=evaluated,
        options=options,
        backbone=backbone,
        backbone_digest=backbone_digest(backbone),
        train_split=data.train_split,
        test_split=data.test_split,
        batch_sentences=data.batch_size * processes,
        types=data.tag_set.types,
        digests=digests,
        few_shot=transfer.few_shot,
        epochs=epochs,
        work={
            each.id: _work(
                each,
                data,
                evaluated,
                sum(sentences[each.id].values()) * (transfer.self_training.rounds if each.labels == "predicted" else 1),
                epochs=epochs[each.id],
            )
            for each in stages
        },
        keep=transfer.keep,
        select=transfer.select,
        soup=transfer.soup,
        self_training=transfer.self_training,
        pretraining=transfer.pretraining,
    )


def count_sentences(stage: Stage, data: PanxDataModule) -> dict[str, int]:
    """Count the training sentences of a stage by their language."""
    return {
        language: len(data.choose(language, samples, stage.shots_of(language), seed=stage.seed))
        for language, samples in stage.train
    }


def _work(stage: Stage, data: PanxDataModule, evaluated: Sequence[str], trained: int, *, epochs: float) -> float:
    """Estimate how long a stage takes, in sentences trained on once; evaluation is about four times as fast."""
    validated = sum(len(data.encoded(data.split_of(each, "validation"))) for each, _ in stage.train)
    if stage.labels == "none":
        return epochs * trained + validated / 2
    tested = sum(len(data.encoded(data.test_split_of(each))) for each in evaluated)
    if stage.averages:
        return tested / 4
    # Where the number of steps ends a stage, its share of an epoch is unknown.
    return (1 if math.isinf(epochs) else epochs) * (trained + validated / 4) + tested / 4
