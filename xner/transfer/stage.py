"""One stage: train from its starting point with its own seed, evaluate, and write the result."""

import logging
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
import numpy.typing as npt
import torch
from lightning.pytorch.loggers import CSVLogger

from xner.data.datamodule import PanxDataModule
from xner.errors import RunError
from xner.files import folder_atomically
from xner.lineage import History, evaluation_splits, label_free, write_history, zero_shot
from xner.lineage.callback import LineageCallback
from xner.model.classifier import TokenClassifier
from xner.model.evaluation import Tested, run_test
from xner.model.metrics import span_scores
from xner.model.monitoring import Diverged
from xner.transfer.experiment import Experiment, Observer, define
from xner.transfer.plan import Stage
from xner.transfer.result import Counts, Evaluation, LeftOut, Result, write_result
from xner.transfer.resume import ResumeCheckpoint, write_begun
from xner.transfer.self_training import label_sentences

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """The options that differ between the stages of an experiment.

    Attributes:
        parent: The model folder that the stage starts from; ``None`` for the command's own backbone.
        num_samples: The languages it trains on, each with its number of sentences; ``None`` stands for all.
        shots: The same languages, each with its number of entities per type; ``None`` leaves it to ``num_samples``.
        subset_seed: Seed of the subsets.
        test_languages: The languages it is tested on.
        root: The stage's folder.
    """

    parent: Path | None
    num_samples: dict[str, int | None]
    shots: dict[str, int | None]
    subset_seed: int
    test_languages: list[str]
    root: Path


class Parts(NamedTuple):
    """The trainer, model and data module of a stage."""

    trainer: pl.Trainer
    model: TokenClassifier
    data: PanxDataModule


Build = Callable[[StageOptions], Parts]
"""Makes the parts of a stage from the command's options and the stage's own."""


def run_stage(stage: Stage, experiment: Experiment, build: Build, observers: Sequence[Observer] = ()) -> Result:
    """Train and evaluate a stage whose parent is complete, resuming it where an earlier process was stopped.

    Where several processes train the stage, each calls this function, and the first one writes.

    Raises:
        Diverged: If the training diverges.
        RunError: If the best checkpoint is to be evaluated and there is none.
    """
    began = time.monotonic()
    folder, checkpoints = experiment.folder(stage.id), experiment.checkpoints(stage.id)
    definition = define(experiment)[stage.id]
    options = StageOptions(
        parent=experiment.model_folder(stage.parent) if stage.parent else None,
        num_samples=dict(stage.train),
        shots={language: stage.shots_of(language) for language, _ in stage.train},
        subset_seed=stage.seed,
        test_languages=list(experiment.evaluated),
        root=folder,
    )
    left_out: LeftOut = {"in_test": 0, "unsure": 0}
    if stage.labels == "predicted":
        # A stage of another definition may have left rounds as well.
        teacher = _earlier_rounds(stage, experiment, build, options, checkpoints / f"rounds-{definition.fingerprint}")
        parts, left_out = _student(stage, experiment, build, options, teacher)
    else:
        parts = build(options)
    trainer, model, data = parts
    for observer in observers:
        observer.stage_begun(stage, experiment, trainer)
    if trainer.is_global_zero:
        write_begun(checkpoints, definition)
    history = _train(stage, experiment, parts, checkpoints, experiment.model_folder(stage.id))
    evaluations, counts = evaluate(run_test(trainer, model, data), data, history)
    target_samples = len(data.training_sentences(stage.target)) if stage.target else 0
    target_samples += left_out["in_test"] + left_out["unsure"]
    result: Result = {
        "stage": stage.id,
        "regime": stage.regime,
        "seed": stage.seed,
        "start_from": stage.parent or experiment.backbone,
        "train_languages": [language for language, _ in stage.train],
        "train_samples": sum(len(data.training_sentences(language)) for language in data.languages),
        "target_samples": target_samples,
        "shots": stage.shots,
        "types": [*data.tag_set.types],
        "evaluations": evaluations,
        "seconds": round(time.monotonic() - began, 1),
        "definition": asdict(definition),
        "fingerprint": definition.fingerprint,
        "lineage": {**history.lineage},
        "versions": versions(),
    }
    if stage.labels == "predicted":
        result["left_out"] = left_out
    if trainer.is_global_zero:
        write_result(folder, result, counts)
        shutil.rmtree(checkpoints, ignore_errors=True)
        for observer in observers:
            observer.stage_ended(result, experiment, trainer)
    trainer.strategy.barrier()
    return result


def _train(stage: Stage, experiment: Experiment, parts: Parts, checkpoints: Path, model_folder: Path) -> History:
    """Train a model, resuming where an earlier process was stopped, and write its model folder.

    Returns:
        What the weights have been trained on.
    """
    trainer, model, data = parts
    resume = ResumeCheckpoint(checkpoints, best=experiment.select == "best")
    trainer.callbacks.append(resume)  # type: ignore[attr-defined] # set by Lightning
    pl.seed_everything(stage.seed, workers=True, verbose=False)
    try:
        trainer.fit(model, datamodule=data, ckpt_path=resume.last if resume.last.is_file() else None)
    except Diverged as error:
        raise Diverged(f"{stage.id}: {error}") from error
    if resume.best:
        if not resume.best.is_file():
            raise no_best()
        model.take_weights(torch.load(resume.best, map_location="cpu", weights_only=True)["state_dict"])
    history = LineageCallback.of(trainer).after(model, data)
    check_weights(model)  # in every process, because none would wait for one that fails alone
    if trainer.is_global_zero:
        write_model(model_folder, model, history)
    return history


def _student(
    stage: Stage, experiment: Experiment, build: Build, options: StageOptions, teacher: Path
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
    parts = build(options)
    parts.data.labels, parts.data.pseudo_labels = "predicted", labels
    if parts.trainer.is_global_zero:
        unsure = f"{left_out['unsure']} are below self_training.confidence={experiment.self_training.confidence}"
        logger.info(
            f"{stage.id}: {len(labels.sentences)} sentences are labelled by {teacher.parent.name}; "
            f"{left_out['in_test']} are left out because they occur in a test split, {unsure}"
        )
    return parts, left_out


def _earlier_rounds(stage: Stage, experiment: Experiment, build: Build, options: StageOptions, folder: Path) -> Path:
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
            _train(stage, experiment, parts, root / "checkpoints", root / "model")
            parts.trainer.strategy.barrier()
        teacher = root / "model"
    return teacher


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


def evaluate(
    tests: Sequence[Tested], data: PanxDataModule, history: History
) -> tuple[list[Evaluation], dict[tuple[str, str], Counts]]:
    """Turn the tests of a model into evaluations and their counts, one per test language.

    Args:
        tests: The results of the tests, in the order of the data module's test languages.
        data: The data module.
        history: What the model's weights were trained on.

    Returns:
        The evaluations, and their counts by (language, split).
    """
    evaluations: list[Evaluation] = []
    counts: dict[tuple[str, str], Counts] = {}
    for language, tested in zip(data.test_languages, tests, strict=True):
        split = data.test_split_of(language)
        encoded = data.encoded(split)
        sentences = tested.sentences.numpy()
        words, _ = encoded.words_of(sentences)
        counted = counts[language, split.name] = Counts(
            correct=tested.counts.correct.numpy().astype(np.int32),
            predicted=tested.counts.predicted.numpy().astype(np.int32),
            gold=tested.counts.gold.numpy().astype(np.int32),
            sentence_words=tested.sentence_words.numpy().astype(np.int32),
            word_gold=tested.words.gold.numpy().astype(np.int8),
            word_predicted=tested.words.predicted.numpy().astype(np.int8),
            word_seen=np.isin(encoded.word_hash[words], history.words),
        )
        seen = np.isin(encoded.sentence_hash[sentences], history.sentences)
        scores = {name: score for name, score in tested.scores.items() if name in Evaluation.__annotations__}
        evaluations.append(
            {
                "language": language,
                "split": split.name,
                "zero_shot": zero_shot(history.lineage, language),
                **scores,  # type: ignore[typeddict-item] # the names are SpanF1's
                "f1_by_type": {each: tested.scores[f"f1_{each}"] for each in data.tag_set.types},
                "sentences": len(sentences),
                "words": len(counted.word_gold),
                "entities": int(counted.gold.sum()),
                "unscored_words": len(encoded.word_label) - len(counted.word_gold),
                "seen_sentences": int(seen.sum()),
                "f1_unseen": None if seen.all() else f1_of(counted, ~seen),
                "contaminated": bool(seen.all() or evaluation_splits(history.lineage)),
                "label_free": label_free(history.lineage, language),
            }
        )
    return evaluations, counts


def f1_of(counts: Counts, chosen: npt.NDArray[np.bool_]) -> float:
    """Compute the F1 of a subset of the sentences.

    Args:
        counts: The counts of an evaluation.
        chosen: Whether each of its sentences is in the subset. *Shape:* (sentences,)
    """
    sums = (torch.tensor(int(each[chosen].sum())) for each in (counts.correct, counts.predicted, counts.gold))
    return span_scores(*sums).f1.item()
