"""The options of a transfer experiment, and those of one of its stages."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from xner.errors import UserError
from xner.model.optimizer import check_own_rate
from xner.transfer.plan import SIZES, Keep, Stage, as_languages
from xner.transfer.pretraining import Pretraining
from xner.transfer.self_training import SelfTraining

Select = Literal["last", "best", "average"]
TransferSelect = Literal[Select, "oracle"]


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

    def epochs_of(self, stages: Sequence[Stage], steps: Mapping[str, int], *, epochs: float) -> dict[str, float]:
        """Return the number of epochs of each stage, by its id; infinity for no limit.

        Args:
            stages: The stages.
            steps: The number of optimizer steps per epoch of each stage, by its id; 0 of one that trains nothing.
            epochs: The number of epochs of stages to which these settings do not apply.
        """
        own = epochs if self.max_epochs is None else self.max_epochs
        return {stage.id: max(own, self.fewest_epochs(steps[stage.id])) if stage.adapts else epochs for stage in stages}

    def fewest_epochs(self, steps: int) -> int:
        """Return the number of epochs that ``min_steps`` takes; 0 without a minimum.

        Args:
            steps: Number of optimizer steps per epoch.
        """
        return math.ceil((self.min_steps or 0) / max(steps, 1))


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """The options of a transfer experiment.

    Args:
        source: Source language: the model is first fine-tuned on it. Several, such as [en, de], are trained on
            together.
        target: Target language: evaluated zero-shot, then adapted to. Several, such as [tr, fi], share the source
            stages, and each has few-shot stages of its own.
        source_samples: Number of training sentences of each source language, the first of them after both shuffles;
            null uses all.
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
        plan: Print each stage's starting point, training data and optimizer steps, or that it is complete, without
            running any.
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
    source_samples: int | None = None
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

    def check(self, epochs: float, *, steps: float = math.inf) -> None:
        """Check the options that need neither the plan nor the data.

        Args:
            epochs: The maximum number of epochs of stages without settings of their own; infinity for no limit.
            steps: The maximum number of optimizer steps per stage; infinity for no limit.

        Raises:
            UserError: If one is out of its range, or epochs cannot be selected as asked.
        """
        if math.isinf(epochs) and math.isinf(steps):
            raise UserError("trainer.max_epochs=-1 has no end, but every stage needs one; use a number, or max_steps")
        if self.gpus_per_stage is not None and not 0 <= self.gpus_per_stage <= 1:
            raise UserError(f"gpus_per_stage={self.gpus_per_stage} is not between 0 and 1; use one of them, or null")
        if self.gpus_per_stage is not None and self.executor != "ray":
            raise UserError(
                f"gpus_per_stage={self.gpus_per_stage} has no effect with executor={self.executor}; use executor=ray, "
                "or leave it out"
            )
        self.few_shot.check(epochs)
        if self.few_shot.min_steps and self.few_shot.min_steps > steps:
            raise UserError(
                f"few_shot.min_steps={self.few_shot.min_steps} is more than trainer.max_steps={steps}; use one of "
                "them, or a smaller number"
            )
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


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """The options that differ between the stages of an experiment.

    Attributes:
        parent: The model folder that the stage starts from; ``None`` for the command's own backbone.
        num_samples: The languages it trains on, each with its number of sentences; ``None`` stands for all.
        shots: The same languages, each with its number of entities per type; ``None`` leaves it to ``num_samples``.
        learning_rate: Peak learning rate; ``None`` for the command's own.
        max_epochs: Number of epochs; ``None`` for the command's own.
        subset_seed: Seed of the subsets.
        test_languages: The languages it is tested on.
        root: The stage's folder.
    """

    parent: Path | None
    num_samples: dict[str, int | None]
    shots: dict[str, int | None]
    learning_rate: float | None
    max_epochs: int | None
    subset_seed: int
    test_languages: list[str]
    root: Path
