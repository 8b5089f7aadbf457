"""One stage: train from its starting point with its own seed, evaluate, and write the result."""

import logging
import math
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from xner.backbone.weights import folder_digest
from xner.data.datamodule import PanxDataModule
from xner.errors import RunError
from xner.files import folder_atomically
from xner.lineage import (
    History,
    merged_history,
    read_history,
    write_history,
)
from xner.lineage.callback import LineageCallback
from xner.model.averaging import EpochAverage, add_weights, mean_weights
from xner.model.classifier import TokenClassifier
from xner.model.evaluation import run_test
from xner.model.masked import MaskedLanguageModel, perplexity
from xner.model.monitoring import Diverged
from xner.transfer.definition import define
from xner.transfer.experiment import Experiment, Observer
from xner.transfer.plan import Stage
from xner.transfer.pretraining import mask_text
from xner.transfer.result import LeftOut, Result, read_counts, read_result, write_result
from xner.transfer.resume import ResumeCheckpoint, read_best, write_begun
from xner.transfer.scoring import evaluate
from xner.transfer.self_training import label_sentences

logger = logging.getLogger(__name__)


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


class Parts(NamedTuple):
    """The trainer, model and data module of a stage."""

    trainer: pl.Trainer
    model: TokenClassifier
    data: PanxDataModule


BuildParts = Callable[[StageOptions], Parts]
"""Makes the parts of a stage from the command's options and the stage's own."""

HEAD_SEED = 0
"""Seed of the initial weights of all new heads of an experiment with soups. Weights can be averaged only where training
began at the same ones (Wortsman et al. 2022; Schmidt et al. 2023)."""


def run_stage(stage: Stage, experiment: Experiment, build: BuildParts, observers: Sequence[Observer] = ()) -> Result:
    """Train, or average, and evaluate a stage whose parents are complete, resuming it where it was stopped.

    A complete stage is only tested, on the languages that it has not been tested on. Where several processes train the
    stage, each calls this function, and the first one writes.

    Args:
        stage: The stage.
        experiment: Its experiment.
        build: Makes the parts of a stage.
        observers: What is told of its start and its end.

    Raises:
        Diverged: If the training diverges.
        RunError: If the best checkpoint is to be evaluated and there is none.
    """
    began = time.monotonic()
    folder = experiment.folder(stage.id)
    definition = define(experiment)[stage.id]
    checkpoints = experiment.checkpoints(stage.id)
    options = StageOptions(
        parent=experiment.model_folder(stage.parents[0]) if stage.parents else None,
        num_samples=dict(stage.train),
        shots={language: stage.shots_of(language) for language, _ in stage.train},
        learning_rate=experiment.own_rate(stage),
        max_epochs=experiment.own_epochs(stage),
        subset_seed=stage.seed,
        test_languages=list(experiment.evaluated),
        root=folder,
    )
    left_out: LeftOut = {"in_test": 0, "unsure": 0}
    if complete := read_result(folder):
        untested = experiment.untested(complete)
        return _test_further(stage, experiment, build, options, complete, observers) if untested else complete
    text = stage.labels == "none"
    if stage.labels == "predicted":
        # A stage of another definition may have left rounds as well.
        teacher = _earlier_rounds(stage, experiment, build, options, checkpoints / f"rounds-{definition.fingerprint}")
        parts, left_out = _student(stage, experiment, build, options, teacher)
    else:
        parts = build(options)
        if text:
            parts, left_out = _masked(stage, experiment, parts)
    trainer, model, data = parts
    for observer in observers:
        observer.stage_begun(stage, experiment, trainer)
    if trainer.is_global_zero and not stage.averages:
        write_begun(checkpoints, definition)
    before = _perplexity(parts) if text else math.nan
    if stage.averages:
        history = _average(stage, experiment, parts, build, options)
    else:
        history = _train(stage, experiment, parts, checkpoints)
    check_weights(model)  # in every process, because none would wait for one that fails alone
    after = _perplexity(parts) if text else math.nan
    if trainer.is_global_zero:
        write_model(experiment.model_folder(stage.id), model, history)
    evaluations, counts = ([], {}) if text else evaluate(run_test(trainer, model, data), data, history)
    train_samples = sum(len(data.training_sentences(language)) for language in data.languages)
    target_samples = 0
    if stage.target:
        # Those that are asked for, so that a curve has its sizes.
        target_samples = len(data.training_sentences(stage.target)) + left_out["in_test"] + left_out["unsure"]
    if stage.averages and (first := read_result(experiment.folder(stage.averages[0]))):
        train_samples, target_samples = first["train_samples"], first["target_samples"]
    result: Result = {
        "stage": stage.id,
        "regime": stage.regime,
        "seed": None if stage.averages else stage.seed,
        "start_from": "+".join(stage.parents) or experiment.backbone,
        "train_languages": [language for language, _ in stage.train],
        "train_samples": train_samples,
        "target_samples": target_samples,
        "shots": stage.shots,
        "types": [*data.tag_set.types],
        "evaluations": evaluations,
        "seconds": round(time.monotonic() - began, 1),
        "definition": asdict(definition),
        "fingerprint": definition.fingerprint,
        "lineage": {**history.lineage},
        "versions": versions(),
        "max_epochs": None if stage.averages or trainer.max_epochs == -1 else trainer.max_epochs,
        "keep": experiment.keep,
        "model": folder_digest(experiment.model_folder(stage.id)) if trainer.is_global_zero else "",
    }
    if stage.labels != "gold":
        result["left_out"] = left_out
    if text:
        result["perplexity"] = {"before": before, "after": after}
    if trainer.is_global_zero:
        write_result(folder, result, counts)
        shutil.rmtree(checkpoints, ignore_errors=True)
        for observer in observers:
            observer.stage_ended(result, experiment, trainer)
    trainer.strategy.barrier()
    return result


def _test_further(
    stage: Stage,
    experiment: Experiment,
    build: BuildParts,
    options: StageOptions,
    complete: Result,
    observers: Sequence[Observer],
) -> Result:
    """Test a complete stage on the languages that it has not been tested on.

    Args:
        stage: The stage.
        experiment: Its experiment.
        build: Makes the parts of a stage.
        options: The stage's own options.
        complete: Its result so far.
        observers: What is told of the start and the end.

    Returns:
        The result with the further evaluations.
    """
    began = time.monotonic()
    folder, model_folder = experiment.folder(stage.id), experiment.model_folder(stage.id)
    trainer, model, data = build(replace(options, parent=model_folder))
    model.configure_model(data.tag_set)  # that of all languages
    data.test_languages = experiment.untested(complete)
    if stage.labels == "predicted":
        data.labels = "predicted"  # the tags of its training sentences are not read
    for observer in observers:
        observer.stage_begun(stage, experiment, trainer)
    # The curves of a stage are those of its training.
    trainer.loggers = [each for each in trainer.loggers if not isinstance(each, CSVLogger)]
    before = {(each["language"], each["split"]): read_counts(folder, each) for each in complete["evaluations"]}
    evaluations, counts = evaluate(run_test(trainer, model, data), data, LineageCallback.of(trainer).before(model))
    tested = complete["definition"]["tested"] | define(experiment)[stage.id].tested
    result: Result = {
        **complete,
        "evaluations": [*complete["evaluations"], *evaluations],
        "seconds": round(complete["seconds"] + time.monotonic() - began, 1),
        "definition": {**complete["definition"], "tested": tested},
    }
    if trainer.is_global_zero:
        write_result(folder, result, before | counts)
        for observer in observers:
            observer.stage_ended(result, experiment, trainer)
    trainer.strategy.barrier()
    return result


def _student(
    stage: Stage, experiment: Experiment, build: BuildParts, options: StageOptions, teacher: Path
) -> tuple[Parts, LeftOut]:
    """Make the parts of a stage of self-training, and label its sentences by a teacher.

    Args:
        stage: The stage.
        experiment: Its experiment.
        build: Makes the parts of a stage.
        options: The stage's own options.
        teacher: The teacher's model folder.

    Returns:
        The parts, whose data module has the labels, and how many sentences are left out.
    """
    predictor = build(replace(options, parent=teacher))
    predictor.data.labels = "predicted"
    network = predictor.model.make_network(predictor.data.tag_set)
    device = predictor.trainer.strategy.root_device
    labels, left_out = label_sentences(network, predictor.data, experiment.self_training, device)
    del predictor, network  # the memory of the teacher, before the student is loaded
    if options.max_epochs is not None:
        # Fewer sentences than were planned for may be left.
        fewest = experiment.few_shot.fewest_epochs(-(-len(labels.sentences) // experiment.step_sentences))
        options = replace(options, max_epochs=max(options.max_epochs, fewest))
    parts = build(options)
    parts.data.labels, parts.data.pseudo_labels = "predicted", labels
    if parts.trainer.is_global_zero:
        unsure = f"{left_out['unsure']} are below self_training.confidence={experiment.self_training.confidence}"
        logger.info(
            f"{stage.id}: {len(labels.sentences)} sentences are labelled by {teacher.parent.name}; "
            f"{left_out['in_test']} are left out because they occur in a test split, {unsure}"
        )
    return parts, left_out


def _earlier_rounds(
    stage: Stage, experiment: Experiment, build: BuildParts, options: StageOptions, folder: Path
) -> Path:
    """Run the rounds of self-training before the last one, unless an earlier process has completed them.

    Args:
        stage: The stage.
        experiment: Its experiment.
        build: Makes the parts of a stage.
        options: The stage's own options.
        folder: Where the rounds are kept.

    Returns:
        The model folder of the last round's teacher.
    """
    assert options.parent  # a stage of self-training starts from the source stage
    teacher = options.parent
    for number in range(1, experiment.self_training.rounds):
        root = folder / f"round{number}"
        if not (root / "model").is_dir():
            parts, _ = _student(stage, experiment, build, replace(options, root=root), teacher)
            # The curves of a stage are those of its last round.
            parts.trainer.loggers = [CSVLogger(root, name="logs")] if parts.trainer.loggers else []
            history = _train(stage, experiment, parts, root / "checkpoints")
            check_weights(parts.model)
            if parts.trainer.is_global_zero:
                write_model(root / "model", parts.model, history)
            parts.trainer.strategy.barrier()
        teacher = root / "model"
    return teacher


def _masked(stage: Stage, experiment: Experiment, parts: Parts) -> tuple[Parts, LeftOut]:
    """Turn the parts of a stage into those of masked-language modelling.

    Args:
        stage: The stage.
        experiment: Its experiment.
        parts: The parts, with a classifier.

    Returns:
        The parts, whose model has its network, and how many sentences are left out.
    """
    trainer, classifier, data = parts
    left_out = mask_text(data, experiment.pretraining)
    model = MaskedLanguageModel.like(classifier, torch.from_numpy(data.used_pieces()))
    pl.seed_everything(stage.seed, workers=True, verbose=False)  # for a new head
    model.configure_model(data.tag_set)
    # There are no tags to validate by, and so no scores that a callback could wait for.
    trainer.limit_val_batches = 0
    monitored = ((each, getattr(each, "monitor", None)) for each in trainer.callbacks)  # type: ignore[attr-defined] # set by Lightning
    trainer.callbacks = [each for each, name in monitored if not (name or "").startswith("val/")]  # type: ignore[attr-defined] # set by Lightning
    return Parts(trainer, model, data), left_out


def _perplexity(parts: Parts) -> float:
    """Compute the perplexity of the masked pieces of the validation splits, the same in every process."""
    data = parts.data
    batches = (
        batch
        for split in data.validation_splits()
        for batch in data.batches_of(split, np.arange(len(data.encoded(split))))
    )
    return perplexity(parts.model.network, batches, parts.trainer.strategy.root_device)


def _train(stage: Stage, experiment: Experiment, parts: Parts, checkpoints: Path) -> History:
    """Train a stage, or resume it, and leave the model with the weights to evaluate; return what they have seen."""
    trainer, model, data = parts
    # Without tags, there is no F1 to select an epoch by.
    select = "last" if stage.labels == "none" else experiment.select
    resume = ResumeCheckpoint(checkpoints, best=select in ("best", "oracle"))
    average = EpochAverage() if select == "average" else None
    oracle = experiment.oracle if select == "oracle" else None
    if oracle:
        data.validated = [oracle]
    trainer.callbacks += [*([average] if average else []), resume]  # type: ignore[attr-defined] # set by Lightning
    if experiment.soup and stage.starts_head:
        pl.seed_everything(HEAD_SEED, workers=True, verbose=False)
        model.configure_model(data.tag_set)
    pl.seed_everything(stage.seed, workers=True, verbose=False)
    try:
        trainer.fit(model, datamodule=data, ckpt_path=resume.last if resume.last.is_file() else None)
    except Diverged as error:
        raise Diverged(f"{stage.id}: {error}") from error
    if resume.best:
        if not resume.best.is_file():
            raise no_best()
        model.take_weights(*read_best(resume.best))
    if average:
        model.take_weights(average.weights())
    if stage.labels == "predicted":
        model.network.temperature = 1.0  # it was fitted to the tags of the target's validation split
    history = LineageCallback.of(trainer).after(model, data)
    return history._replace(lineage={**history.lineage, "oracle": True}) if oracle else history


def _average(stage: Stage, experiment: Experiment, parts: Parts, build: BuildParts, options: StageOptions) -> History:
    """Leave the model with the average of the weights of several stages; return what all of them have seen."""
    # For its handling of signals; nothing is saved.
    parts.trainer.callbacks.append(ResumeCheckpoint(experiment.checkpoints(stage.id), best=False))  # type: ignore[attr-defined] # set by Lightning
    folders = [experiment.model_folder(each) for each in stage.averages]
    tag_set = parts.data.tag_set
    sums: dict[str, Tensor] = {}
    for folder in folders:
        # By its own class, which may have weights that transformers' has not.
        member = build(replace(options, parent=folder)).model
        member.configure_model(tag_set)
        member.network.end_training()  # without the adapters that are only trained
        add_weights(sums, member.network.model.state_dict())
    parts.model.configure_model(tag_set)
    parts.model.network.end_training()
    parts.model.network.temperature = 1.0  # that of a backbone is not the average's
    parts.model.network.model.load_state_dict(mean_weights(sums, len(folders)))
    return merged_history([read_history(str(folder)) for folder in folders])


def write_model(folder: Path, model: TokenClassifier, history: History) -> None:
    """Write a model folder atomically: the network, its tokenizer and the record of what it was trained on.

    Raises:
        Diverged: If a weight is not finite; an existing folder is left unchanged.
    """
    check_weights(model)
    with folder_atomically(folder) as part:
        model.network.save(part)
        write_history(part, history)


def check_weights(model: TokenClassifier) -> None:
    """Check that the weights at the end of a training are finite.

    Raises:
        Diverged: If one is not.
    """
    if name := model.network.first_not_finite():
        raise Diverged(f"training diverged: {name} is not finite at its end; use a lower model.learning_rate")


def no_best() -> RunError:
    """Return the error of a training that was to end with its best checkpoint and kept none."""
    return RunError(
        "select=best found no best checkpoint, because no score was monitored or training ended before its first "
        "validation; use select=last, or validate earlier"
    )


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    packages = ("xner", "torch", "lightning", "transformers", "torchmetrics", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
