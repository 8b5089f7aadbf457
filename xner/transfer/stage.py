"""One stage: train from its starting point with its own seed, evaluate, and write the result."""

import math
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xner.backbone import load_network
from xner.data.datamodule import PanxDataModule
from xner.data.encode import span_hashes
from xner.errors import RunError
from xner.files import folder_atomically
from xner.lineage import History, evaluation_splits, merged_history, read_history, write_history, zero_shot
from xner.lineage.callback import LineageCallback
from xner.model.averaging import EpochAverage, add_weights, mean_weights
from xner.model.calibration import calibrate, calibration_error
from xner.model.classifier import TokenClassifier
from xner.model.evaluation import Tested, run_test
from xner.model.metrics import span_scores
from xner.model.monitoring import Diverged
from xner.tags import find_spans
from xner.transfer.experiment import Definition, Experiment, Observer, define
from xner.transfer.plan import Stage
from xner.transfer.result import Counts, Evaluation, Result, write_result
from xner.transfer.resume import ResumeCheckpoint, write_begun


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


Build = Callable[[StageOptions], Parts]
"""Makes the parts of a stage from the command's options and the stage's own."""

HEAD_SEED = 0
"""Seed of the initial weights of all new heads of an experiment with soups. Weights can be averaged only where training
began at the same ones (Wortsman et al. 2022; Schmidt et al. 2023)."""


def run_stage(stage: Stage, experiment: Experiment, build: Build, observers: Sequence[Observer] = ()) -> Result:
    """Train, or average, and evaluate a stage whose parents are complete, resuming it where it was stopped.

    Where several processes train the stage, each calls this function, and the first one writes.

    Raises:
        Diverged: If the training diverges.
        RunError: If the best checkpoint is to be evaluated and there is none.
    """
    began = time.monotonic()
    folder = experiment.folder(stage.id)
    definition = define(experiment)[stage.id]
    parts = trainer, model, data = build(
        StageOptions(
            parent=experiment.model_folder(stage.parents[0]) if stage.parents else None,
            num_samples=dict(stage.train),
            shots={language: stage.shots_of(language) for language, _ in stage.train},
            learning_rate=experiment.few_shot.learning_rate if stage.adapts else None,
            max_epochs=_own_epochs(stage, experiment),
            subset_seed=stage.seed,
            test_languages=list(experiment.evaluated),
            root=folder,
        )
    )
    for observer in observers:
        observer.stage_begun(stage, experiment, trainer)
    history = _average(stage, experiment, parts) if stage.averages else _train(stage, experiment, definition, parts)
    check_weights(model)  # in every process, because none would wait for one that fails alone
    if trainer.is_global_zero:
        write_model(experiment.model_folder(stage.id), model, history)
    evaluations, counts = evaluate(run_test(trainer, model, data), data, history)
    result: Result = {
        "stage": stage.id,
        "regime": stage.regime,
        "seed": None if stage.averages else stage.seed,
        "start_from": "+".join(stage.parents) or experiment.backbone,
        "train_languages": [language for language, _ in stage.train],
        "train_samples": sum(len(data.training_sentences(language)) for language in data.languages),
        "target_samples": len(data.training_sentences(stage.target)) if stage.target else 0,
        "shots": stage.shots,
        "types": [*data.tag_set.types],
        "evaluations": evaluations,
        "seconds": round(time.monotonic() - began, 1),
        "definition": asdict(definition),
        "fingerprint": definition.fingerprint,
        "lineage": {**history.lineage},
        "versions": versions(),
    }
    if trainer.is_global_zero:
        write_result(folder, result, counts)
        shutil.rmtree(experiment.checkpoints(stage.id), ignore_errors=True)
        for observer in observers:
            observer.stage_ended(result, experiment, trainer)
    trainer.strategy.barrier()
    return result


def _own_epochs(stage: Stage, experiment: Experiment) -> int | None:
    """Return a stage's number of epochs if it may differ from the command's, ``None`` otherwise."""
    epochs = experiment.epochs[stage.id]
    return int(epochs) if stage.adapts and not math.isinf(epochs) else None


def _train(stage: Stage, experiment: Experiment, definition: Definition, parts: Parts) -> History:
    """Train a stage, or resume it, and leave the model with the weights to evaluate; return what they have seen."""
    trainer, model, data = parts
    checkpoints = experiment.checkpoints(stage.id)
    resume = ResumeCheckpoint(checkpoints, best=experiment.select in ("best", "oracle"))
    average = EpochAverage() if experiment.select == "average" else None
    if experiment.oracle:
        data.validated = [experiment.oracle]
    trainer.callbacks += [*([average] if average else []), resume]  # type: ignore[attr-defined] # set by Lightning
    if trainer.is_global_zero:
        write_begun(checkpoints, definition)
    if experiment.soup and stage.parent is None:
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
        model.take_weights(torch.load(resume.best, map_location="cpu", weights_only=True)["state_dict"])
    if average:
        model.take_weights(average.weights())
    history = LineageCallback.of(trainer).after(model, data)
    return history._replace(lineage={**history.lineage, "oracle": True}) if experiment.oracle else history


def _average(stage: Stage, experiment: Experiment, parts: Parts) -> History:
    """Leave the model with the average of the weights of several stages; return what all of them have seen."""
    # For its handling of signals; nothing is saved.
    parts.trainer.callbacks.append(ResumeCheckpoint(experiment.checkpoints(stage.id), best=False))  # type: ignore[attr-defined] # set by Lightning
    folders = [str(experiment.model_folder(each)) for each in stage.averages]
    tag_set = parts.data.tag_set
    sums: dict[str, Tensor] = {}
    for folder in folders:
        add_weights(sums, load_network(folder, tag_set).network.state_dict())
    parts.model.configure_model(tag_set)
    parts.model.network.end_training()  # without the adapters that are only trained
    parts.model.network.model.load_state_dict(mean_weights(sums, len(folders)))
    return merged_history([read_history(folder) for folder in folders])


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
        calibration = calibrate(tested.words.score.numpy(), (tested.words.predicted == tested.words.gold).numpy())
        counted = counts[language, split.name] = Counts(
            correct=tested.counts.correct.numpy().astype(np.int32),
            predicted=tested.counts.predicted.numpy().astype(np.int32),
            gold=tested.counts.gold.numpy().astype(np.int32),
            sentence_words=tested.sentence_words.numpy().astype(np.int32),
            word_gold=tested.words.gold.numpy().astype(np.int8),
            word_predicted=tested.words.predicted.numpy().astype(np.int8),
            word_seen=np.isin(encoded.word_hash[words], history.words),
            bin_words=calibration.words,
            bin_probability=calibration.probability,
            bin_right=calibration.right,
        )
        seen = np.isin(encoded.sentence_hash[sentences], history.sentences)
        f1_seen_entities, f1_unseen_entities = f1_by_seen(counted, encoded.word_hash[words], history.entities)
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
                "f1_seen_entities": f1_seen_entities,
                "f1_unseen_entities": f1_unseen_entities,
                "near_duplicates": int(np.isin(encoded.normal_hash[sentences], history.normal).sum()),
                "ece": round(calibration_error(calibration), 4),
                "oracle": history.lineage.get("oracle", False),
            }
        )
    return evaluations, counts


def f1_of(counts: Counts, chosen: npt.NDArray[np.bool_]) -> float:
    """Compute the F1 of a subset of the sentences.

    Args:
        counts: The counts of an evaluation.
        chosen: Whether each of its sentences is in the subset. *Shape:* (sentences,)
    """
    return _f1(*(int(each[chosen].sum()) for each in (counts.correct, counts.predicted, counts.gold)))


def f1_by_seen(
    counts: Counts, word_hash: npt.NDArray[np.int64], entities: npt.NDArray[np.int64]
) -> tuple[float | None, float | None]:
    """Compute the F1 of the spans whose words are an entity of the training data, and that of the others.

    Args:
        counts: The counts of an evaluation.
        word_hash: The hash of each of its words. *Shape:* (words,)
        entities: Hashes of the entities of the training data, as ``span_hashes`` computes them. *Shape:* (entities,)

    Returns:
        Both scores as ``Evaluation`` defines them; ``None`` where no gold entity is in the group.
    """
    gold, predicted = (
        find_spans(labels, counts.sentence_words) for labels in (counts.word_gold, counts.word_predicted)
    )
    seen_gold, seen_predicted = (np.isin(span_hashes(word_hash, each), entities) for each in (gold, predicted))
    # Spans do not overlap, so that their first words are unique.
    _, own, its = np.intersect1d(gold.first, predicted.first, assume_unique=True, return_indices=True)
    right = (gold.last[own] == predicted.last[its]) & (gold.type[own] == predicted.type[its])
    seen_right = seen_gold[own[right]]
    return tuple(  # type: ignore[return-value] # two
        _f1(*(int((each == seen).sum()) for each in (seen_right, seen_predicted, seen_gold)))
        if (seen_gold == seen).any()
        else None
        for seen in (True, False)
    )


def _f1(correct: int, predicted: int, gold: int) -> float:
    return span_scores(torch.tensor(correct), torch.tensor(predicted), torch.tensor(gold)).f1.item()
