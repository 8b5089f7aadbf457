"""A transfer experiment: its stages, the data and weights that they use, and where it is kept."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from xner.backbone.weights import backbone_digest
from xner.data.datamodule import PanxDataModule
from xner.data.subset import Selection
from xner.transfer.options import FewShot, TransferOptions, TransferSelect
from xner.transfer.plan import Keep, Stage
from xner.transfer.pretraining import Pretraining
from xner.transfer.result import Result
from xner.transfer.self_training import SelfTraining

Options = Mapping[str, Any]
"""All options of a command by their name on the command line, such as ``data.languages``, as JSON values."""


WORDS = " (words)"
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
        test_work: That of testing alone.
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
    test_work: float = 0.0
    keep: Keep = "source"
    select: TransferSelect = "last"
    soup: bool = False
    self_training: SelfTraining = field(default_factory=SelfTraining)
    pretraining: Pretraining = field(default_factory=Pretraining)

    @property
    def oracle(self) -> str | None:
        """The language whose validation split the best epoch is chosen by, where it is the target's; else ``None``."""
        return next((stage.target for stage in self.stages if stage.target), None) if self.select == "oracle" else None

    @property
    def step_sentences(self) -> int:
        """The number of training sentences per optimizer step, over all processes."""
        return self.batch_sentences * int(self.options["trainer.accumulate_grad_batches"])

    def own_rate(self, stage: Stage) -> float | None:
        """Return a stage's learning rate if it differs from the command's, ``None`` otherwise."""
        if stage.labels == "none":
            return self.pretraining.learning_rate
        return self.few_shot.learning_rate if stage.adapts else None

    def own_epochs(self, stage: Stage) -> int | None:
        """Return a stage's number of epochs if it may differ from the command's, ``None`` otherwise."""
        epochs, own = self.epochs[stage.id], stage.adapts or stage.labels == "none"
        return int(epochs) if own and not math.isinf(epochs) else None

    def keeps(self, stage: Stage, result: Result) -> bool:
        """Return whether a complete stage's model folder is kept, also when no other stage needs it any more.

        Args:
            stage: The stage.
            result: Its result. A command that asks to keep less does not delete what an earlier one was to keep.
        """
        starts = {each.parent for each in self.stages}
        kept = {"none": False, "source": not stage.size, "last": stage.id not in starts, "all": True}
        return kept[self.keep] or kept[result["keep"]]

    def untested(self, result: Result) -> list[str]:
        """Return the languages that a complete stage is still to be tested on, as those of a later command."""
        tested = [each["language"] for each in result["evaluations"]]
        return [] if "perplexity" in result else [each for each in self.evaluated if each not in tested]

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
        """Prepare before the first stage runs.

        Args:
            experiment: The experiment.
            complete: The results of the complete stages, some of which may be ``untested``, by stage id.
        """

    def stage_begun(self, stage: Stage, experiment: Experiment, trainer: pl.Trainer) -> None:
        """Observe the start of a stage, in each process that trains it."""

    def stage_ended(self, result: Result, experiment: Experiment, trainer: pl.Trainer) -> None:
        """Observe the result of a stage, in the first process that trained it."""

    def stage_completed(self, result: Result) -> None:
        """Observe the result of a stage, in the process that runs the experiment."""

    def experiment_ended(self, results: Sequence[Result], experiment: Experiment) -> None:
        """Observe the end of the experiment; ``results`` are those of all stages, in the order of the plan."""


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
        digests[f"{split}{WORDS}"] = data.encoded(split).digest
    test_work = sum(len(data.encoded(data.test_split_of(each))) for each in evaluated) / 4
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
                test_work,
                sum(sentences[each.id].values()) * (transfer.self_training.rounds if each.labels == "predicted" else 1),
                epochs=epochs[each.id],
            )
            for each in stages
        },
        test_work=test_work,
        keep=transfer.keep,
        select=transfer.select,
        soup=transfer.soup,
        self_training=transfer.self_training,
        pretraining=transfer.pretraining,
    )


def count_sentences(stage: Stage, data: PanxDataModule) -> dict[str, int]:
    """Count the training sentences of a stage by their language."""
    selection = Selection(
        num_samples=dict(stage.train),
        shots={language: stage.shots_of(language) for language, _ in stage.train},
        shuffle_seed=data.shuffle_seed,
        subset_seed=stage.seed,
    )
    return {language: len(data.choose(language, selection)) for language, _ in stage.train}


def _work(stage: Stage, data: PanxDataModule, test_work: float, trained: int, *, epochs: float) -> float:
    """Estimate how long a stage takes, in sentences trained on once; evaluation is about four times as fast."""
    validated = sum(len(data.encoded(data.split_of(each, "validation"))) for each, _ in stage.train)
    if stage.labels == "none":
        return epochs * trained + validated / 2
    if stage.averages:
        return test_work
    # Where the number of steps ends a stage, its fraction of an epoch is unknown.
    return (1 if math.isinf(epochs) else epochs) * (trained + validated / 4) + test_work
