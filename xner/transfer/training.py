"""How the model of a stage gets its weights: trained on tags, predicted labels or text, or averaged over stages."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from xner.data.datamodule import PanxDataModule
from xner.errors import RunError
from xner.files import folder_atomically
from xner.lineage import History, merged_history, read_history, write_history
from xner.lineage.callback import LineageCallback
from xner.model.averaging import EpochAverage, add_weights, mean_weights
from xner.model.classifier import TokenClassifier
from xner.model.masked import MaskedLanguageModel, perplexity
from xner.model.monitoring import Diverged
from xner.transfer.definition import Definition
from xner.transfer.experiment import Experiment, Observer
from xner.transfer.options import StageOptions
from xner.transfer.plan import Stage
from xner.transfer.pretraining import mask_text
from xner.transfer.result import LeftOut, Perplexity
from xner.transfer.resume import ResumeCheckpoint, read_best, write_begun
from xner.transfer.self_training import label_sentences

logger = logging.getLogger(__name__)

HEAD_SEED = 0
"""Seed of the initial weights of all new heads of an experiment with soups. Weights can be averaged only where training
began at the same ones (Wortsman et al. 2022; Schmidt et al. 2023)."""


class Parts(NamedTuple):
    """The trainer, model and data module of a stage."""

    trainer: pl.Trainer
    model: TokenClassifier
    data: PanxDataModule


BuildParts = Callable[[StageOptions], Parts]
"""Makes the parts of a stage from the command's options and the stage's own."""


class StageSetup(NamedTuple):
    """A stage, and what it is trained and tested with.

    Attributes:
        stage: The stage.
        experiment: Its experiment.
        definition: Its definition.
        build: Makes its parts.
        options: Its own options.
        observers: What is told of its start and its end.
    """

    stage: Stage
    experiment: Experiment
    definition: Definition
    build: BuildParts
    options: StageOptions
    observers: Sequence[Observer]


class Trained(NamedTuple):
    """A stage whose model has the weights to evaluate.

    Attributes:
        parts: The parts of the stage.
        history: What the weights have been trained on.
        left_out: How many sentences are left out of a training on predicted labels or on text.
        perplexity: That of masked pieces, of a training on text; else ``None``.
    """

    parts: Parts
    history: History
    left_out: LeftOut
    perplexity: Perplexity | None


def train_stage(setup: StageSetup) -> Trained:
    """Train the model of a stage, resuming it where it was stopped, or average the weights of other stages.

    Raises:
        Diverged: If the training diverges.
        RunError: If the best checkpoint is to be evaluated and there is none.
    """
    stage, experiment, definition, build, options, observers = setup
    checkpoints = experiment.checkpoints(stage.id)
    text = stage.labels == "none"
    left_out: LeftOut = {"in_test": 0, "unsure": 0}
    if stage.labels == "predicted":
        # A stage of another definition may have left rounds as well.
        teacher = _earlier_rounds(setup, checkpoints / f"rounds-{definition.fingerprint}")
        parts, left_out = _student(setup, teacher)
    else:
        parts = build(options)
        if text:
            parts, left_out = _masked(setup, parts)
    for observer in observers:
        observer.stage_begun(stage, experiment, parts.trainer)
    before = _perplexity(parts) if text else None
    history = _average(setup, parts) if stage.averages else _train(setup, parts, checkpoints)
    check_weights(parts.model)  # in every process, because none would wait for one that fails alone
    perplexities: Perplexity | None = None if before is None else {"before": before, "after": _perplexity(parts)}
    return Trained(parts, history, left_out, perplexities)


def _student(setup: StageSetup, teacher: Path) -> tuple[Parts, LeftOut]:
    """Make the parts of a stage of self-training, and label its sentences by a teacher.

    Args:
        setup: The stage.
        teacher: The teacher's model folder.

    Returns:
        The parts, whose data module has the labels, and how many sentences are left out.
    """
    experiment, options = setup.experiment, setup.options
    predictor = setup.build(replace(options, parent=teacher))
    predictor.data.labels = "predicted"
    network = predictor.model.make_network(predictor.data.tag_set)
    device = predictor.trainer.strategy.root_device
    labels, left_out = label_sentences(network, predictor.data, experiment.self_training, device)
    del predictor, network  # the memory of the teacher, before the student is loaded
    if options.max_epochs is not None:
        # Fewer sentences than were planned for may be left.
        fewest = experiment.few_shot.fewest_epochs(-(-len(labels.sentences) // experiment.step_sentences))
        options = replace(options, max_epochs=max(options.max_epochs, fewest))
    parts = setup.build(options)
    parts.data.labels, parts.data.pseudo_labels = "predicted", labels
    if parts.trainer.is_global_zero:
        unsure = f"{left_out['unsure']} are below self_training.confidence={experiment.self_training.confidence}"
        logger.info(
            f"{setup.stage.id}: {len(labels.sentences)} sentences are labelled by {teacher.parent.name}; "
            f"{left_out['in_test']} are left out because they occur in a test split, {unsure}"
        )
    return parts, left_out


def _earlier_rounds(setup: StageSetup, folder: Path) -> Path:
    """Run the rounds of self-training before the last one, unless an earlier process has completed them.

    Args:
        setup: The stage.
        folder: Where the rounds are kept.

    Returns:
        The model folder of the last round's teacher.
    """
    options = setup.options
    assert options.parent  # a stage of self-training starts from the source stage
    teacher = options.parent
    for number in range(1, setup.experiment.self_training.rounds):
        root = folder / f"round{number}"
        if not (root / "model").is_dir():
            parts, _ = _student(setup._replace(options=replace(options, root=root)), teacher)
            # The curves of a stage are those of its last round.
            parts.trainer.loggers = [CSVLogger(root, name="logs")] if parts.trainer.loggers else []
            history = _train(setup, parts, root / "checkpoints")
            check_weights(parts.model)
            if parts.trainer.is_global_zero:
                write_model(root / "model", parts.model, history)
            parts.trainer.strategy.barrier()
        teacher = root / "model"
    return teacher


def _masked(setup: StageSetup, parts: Parts) -> tuple[Parts, LeftOut]:
    """Turn the parts of a stage into those of masked-language modelling.

    Args:
        setup: The stage.
        parts: The parts, with a classifier.

    Returns:
        The parts, whose model has its network, and how many sentences are left out.
    """
    trainer, classifier, data = parts
    left_out = mask_text(data, setup.experiment.pretraining)
    model = MaskedLanguageModel.like(classifier, torch.from_numpy(data.used_pieces()))
    pl.seed_everything(setup.stage.seed, workers=True, verbose=False)  # for a new head
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


def _train(setup: StageSetup, parts: Parts, checkpoints: Path) -> History:
    """Train a stage, or resume it, and leave the model with the weights to evaluate; return what they have seen."""
    stage, experiment = setup.stage, setup.experiment
    trainer, model, data = parts
    if trainer.is_global_zero:
        write_begun(checkpoints, setup.definition)
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


def _average(setup: StageSetup, parts: Parts) -> History:
    """Leave the model with the average of the weights of several stages; return what all of them have seen."""
    stage, experiment = setup.stage, setup.experiment
    # For its handling of signals; nothing is saved.
    parts.trainer.callbacks.append(ResumeCheckpoint(experiment.checkpoints(stage.id), best=False))  # type: ignore[attr-defined] # set by Lightning
    folders = [experiment.model_folder(each) for each in stage.averages]
    tag_set = parts.data.tag_set
    sums: dict[str, Tensor] = {}
    for folder in folders:
        # By its own class, which may have weights that transformers' has not.
        member = setup.build(replace(setup.options, parent=folder)).model
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
