"""One stage: a fresh seed, trainer, model and data; train, evaluate, write the result. And all of them in turn."""

import hashlib
import json
import logging
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from filelock import FileLock, Timeout
from lightning.pytorch.callbacks import ModelCheckpoint

from xner.backbone import backbone_digest, save_tokenizer
from xner.data.datamodule import PanxDataModule
from xner.errors import RunError
from xner.files import folder_atomically, write_atomically
from xner.model.classifier import Tested, TokenClassifier
from xner.model.metrics import span_counts
from xner.transfer.lineage import FILE, Episode, Lineage, extend, read_lineage, zero_shot
from xner.transfer.plan import Stage
from xner.transfer.result import Counts, Evaluation, Result, read_result, write_csv, write_result, write_sentences
from xner.transfer.resume import RandomStateKeeper, epoch_checkpoint

logger = logging.getLogger(__name__)

Keep = Literal["none", "source", "last", "all"]
Select = Literal["last", "best"]


class Workers(NamedTuple):
    """What trains and evaluates one stage, made afresh for it."""

    trainer: pl.Trainer
    model: TokenClassifier
    data: PanxDataModule


Settings = Mapping[str, Any]
"""Options by their name on the command line, as ``data.languages``."""


class Workshop(NamedTuple):
    """How a stage's workers are made.

    Attributes:
        settings: All options that a stage's result depends on, as the user gave them.
        build: Makes workers with some options replaced.
    """

    settings: Settings
    build: Callable[[Settings], Workers]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A transfer experiment and where it is kept.

    Attributes:
        root: The run's folder.
        stages: As ``plan`` lists them.
        evaluated: The languages that each stage is tested on.
        digests: The digest of each split in use, as ``Sentences.digest``, by its name, as ``tr/train``.
        keep: Which stages' model folders stay: none, the source stages', those nothing starts from, or all.
        select: Which epoch's weights count: the last one's, or those with the best F1 on validation.
    """

    root: Path
    stages: Sequence[Stage]
    evaluated: Sequence[str]
    digests: Mapping[str, str]
    keep: Keep = "source"
    select: Select = "last"

    def folder(self, stage: str) -> Path:
        """Where a stage keeps its result."""
        return self.root / "stages" / stage


def run_experiment(experiment: Experiment, workshop: Workshop) -> list[Result]:
    """Run the stages that are not complete, and write ``results.csv`` after each.

    Raises:
        RunError: If the folder is in use, or holds a stage of another configuration.
    """
    experiment.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(experiment.root / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError(
            f"{experiment.root} is in use by another process: wait for it, or name another folder"
        ) from error
    with lock:
        definitions: dict[str, dict[str, Any]] = {}
        complete: dict[str, Result] = {}
        # All are compared before any is run, so that a folder of another configuration stays as it is.
        for stage in experiment.stages:
            definition = definitions[stage.id] = _definition(stage, experiment, workshop.settings, definitions)
            if found := read_result(experiment.folder(stage.id)):
                _check_same(definition, found, experiment.folder(stage.id))
                complete[stage.id] = found
        results: dict[str, Result] = {}
        for number, stage in enumerate(experiment.stages, start=1):
            definition, result = definitions[stage.id], complete.get(stage.id)
            line = f"[{number}/{len(experiment.stages)}] {stage.id}"
            if result:
                print(f"{line}: complete, F1 {_scores(result)}", flush=True)
            else:
                print(f"{line}: from {stage.parent or definition['model.backbone']}", flush=True)
                result = _run_stage(stage, experiment, workshop, definition)
                print(f"{line}: F1 {_scores(result)} in {result['seconds']:.0f} s", flush=True)
            results[stage.id] = result
            write_csv(experiment.root / "results.csv", list(results.values()))
            _drop_models(experiment, done=results)
        return list(results.values())


def _run_stage(stage: Stage, experiment: Experiment, workshop: Workshop, definition: dict[str, Any]) -> Result:
    began = time.monotonic()
    folder = experiment.folder(stage.id)
    folder.mkdir(parents=True, exist_ok=True)
    backbone = workshop.settings["model.backbone"]
    if stage.parent:
        backbone = str(experiment.folder(stage.parent) / "model")
        if not (Path(backbone) / "config.json").is_file():
            raise RunError(
                f"{stage.id} starts from {stage.parent}, whose weights were not kept in {backbone}: delete "
                f"{experiment.folder(stage.parent)} to train it again"
            )
    workers = workshop.build(
        {
            "model.backbone": backbone,
            "data.backbone": backbone,
            "data.languages": [language for language, _ in stage.train],
            "data.num_samples": dict(stage.train),
            "data.subset_seed": stage.seed,
            "data.test_languages": list(experiment.evaluated),
            "trainer.default_root_dir": str(folder),
            # A stage has a checkpoint of its own, to go on from; Lightning's would be a second one.
            "trainer.enable_checkpointing": bool(workshop.settings["trainer.callbacks"]),
        }
    )
    trainer, model, data = workers
    best = ModelCheckpoint(folder / "checkpoints", filename="best", monitor="val/f1", mode="max")
    trainer.callbacks += [  # type: ignore[attr-defined] # set by Lightning
        RandomStateKeeper(),
        epoch_checkpoint(folder / "checkpoints"),
        *([best] if experiment.select == "best" else []),
    ]
    last = folder / "checkpoints" / "last.ckpt"
    pl.seed_everything(stage.seed, workers=True, verbose=False)
    trainer.fit(model, datamodule=data, ckpt_path=last if last.is_file() else None)
    if best.best_model_path:
        model.load_state_dict(torch.load(best.best_model_path, weights_only=True)["state_dict"])
    lineage = extend(read_lineage(backbone), episodes(data, stage.seed))
    write_model(folder / "model", model, lineage)
    trainer.test(model, datamodule=data, verbose=False)
    evaluations, counts = evaluate(model, data, lineage)
    for language in experiment.evaluated:
        write_sentences(experiment.root, language, "test", data.split(language, "test").sentences.words)
    result: Result = {
        "stage": stage.id,
        "regime": stage.regime,
        "seed": stage.seed,
        "start_from": stage.parent or backbone,
        "train_languages": [language for language, _ in stage.train],
        "train_samples": sum(episode["sentences"] for episode in lineage["episodes"][-len(stage.train) :]),
        "target_samples": stage.target_samples,
        "evaluations": evaluations,
        "seconds": round(time.monotonic() - began, 1),
        "definition": definition,
        "fingerprint": _fingerprint(definition),
        "lineage": {**lineage},
        "versions": versions(),
    }
    write_result(folder, result, counts)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return result


def episodes(data: PanxDataModule, seed: int) -> list[Episode]:
    """What a model that was fitted on this data has been trained on, an episode a language."""
    found: list[Episode] = []
    for language in data.languages:
        sentences = data.training_sentences(language)
        content = data.encoded(data.split(language, "train")).digest.encode() + np.sort(sentences).tobytes()
        found.append(
            {
                "source": data.source,
                "language": language,
                "split": "train",
                "sentences": len(sentences),
                "shuffle_seed": data.shuffle_seed,
                "subset_seed": None if data.samples_of(language) is None else data.subset_seed,
                "seed": seed,
                "digest": hashlib.sha256(content).hexdigest(),
            }
        )
    return found


def evaluate(
    model: TokenClassifier, data: PanxDataModule, lineage: Lineage
) -> tuple[list[Evaluation], dict[tuple[str, str], Counts]]:
    """Turn what a test left in the model into scores and their evidence, an evaluation a test language."""
    evaluations: list[Evaluation] = []
    counts: dict[tuple[str, str], Counts] = {}
    for language, tested in zip(data.test_languages, model.tested, strict=True):
        evidence = count(tested, data, language)
        scores = {name: score for name, score in tested.scores.items() if name in Evaluation.__annotations__}
        evaluations.append(
            {
                "language": language,
                "split": "test",
                "zero_shot": zero_shot(lineage, language),
                **scores,  # type: ignore[typeddict-item] # the names are SpanF1's
                "sentences": len(evidence.sentence_words),
                "words": len(evidence.word_gold),
                "entities": int(evidence.gold.sum()),
                "unscored_words": len(evidence.word_gold) - len(tested.labels),
            }
        )
        counts[language, "test"] = evidence
    return evaluations, counts


def count(tested: Tested, data: PanxDataModule, language: str) -> Counts:
    """The evidence of one tested language, per sentence in the order of its source."""
    encoded = data.encoded(data.split(language, "test"))
    sentence_words = np.diff(encoded.sentence_word)
    sentence = torch.from_numpy(np.repeat(np.arange(len(encoded)), sentence_words))
    gold = torch.from_numpy(encoded.word_label.astype(np.int64))
    correct, predicted, there = span_counts(tested.labels, gold, sentence, len(encoded))
    return Counts(
        correct=correct.numpy().astype(np.int32),
        predicted=predicted.numpy().astype(np.int32),
        gold=there.numpy().astype(np.int32),
        sentence_words=sentence_words.astype(np.int32),
        word_gold=encoded.word_label,
        word_predicted=tested.labels.numpy().astype(np.int8),
    )


def write_model(folder: Path, model: TokenClassifier, lineage: Lineage) -> None:
    """Write a model folder, whole or not at all: the network, its tokenizer and the lineage of its weights."""
    with folder_atomically(folder) as part:
        model.network.save_pretrained(part)
        save_tokenizer(model.backbone, part)
        write_atomically(part / FILE, json.dumps(lineage, ensure_ascii=False, indent=1) + "\n")


def versions() -> dict[str, str]:
    """What a result was computed with."""
    packages = ("xner", "torch", "lightning", "transformers", "torchmetrics", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _definition(
    stage: Stage, experiment: Experiment, settings: Settings, definitions: Mapping[str, Settings]
) -> dict[str, Any]:
    """What a stage's result depends on, in words that JSON keeps; ``definitions`` has its parent's."""
    splits = [f"{language}/{name}" for language, _ in stage.train for name in ("train", "validation")]
    splits += [f"{language}/test" for language in experiment.evaluated]
    definition = {
        **{name: value for name, value in settings.items() if not name.startswith("trainer.") or name in _DECISIVE},
        "stage": stage.id,
        "train": [[language, samples] for language, samples in stage.train],
        "evaluated": list(experiment.evaluated),
        "select": experiment.select,
        "data.subset_seed": stage.seed,
        **{f"sentences of {split}": experiment.digests[split] for split in splits},
        "parent": stage.parent,
        "start_from": _fingerprint(definitions[stage.parent])
        if stage.parent
        else backbone_digest(settings["model.backbone"]),
    }
    return json.loads(json.dumps(definition))  # type: ignore[no-any-return]


_DECISIVE = {
    f"trainer.{name}"
    for name in (
        "precision max_epochs max_steps min_epochs min_steps max_time limit_train_batches limit_val_batches "
        "limit_test_batches fast_dev_run overfit_batches accumulate_grad_batches gradient_clip_val "
        "gradient_clip_algorithm deterministic callbacks"
    ).split()
}
"""The trainer's options that may change a result; the others say where and how it is computed."""


def _fingerprint(definition: Settings) -> str:
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()


def _check_same(definition: Settings, result: Result, folder: Path) -> None:
    before = result["definition"]
    for name in sorted({*before, *definition}):
        if before.get(name) != definition.get(name):
            raise RunError(
                f"{folder} was run with {name}={before.get(name)!r}, not {definition.get(name)!r}: name another "
                "--trainer.default_root_dir, or delete it"
            )


def _drop_models(experiment: Experiment, done: Mapping[str, Result]) -> None:
    """Delete the weights that nothing needs any more."""
    parents = {stage.parent for stage in experiment.stages}
    waiting = {stage.parent for stage in experiment.stages if stage.id not in done}
    for stage in experiment.stages:
        kept = {
            "none": False,
            "source": stage.regime == "source",
            "last": stage.id not in parents,
            "all": True,
        }[experiment.keep]
        if stage.id in done and stage.id not in waiting and not kept:
            shutil.rmtree(experiment.folder(stage.id) / "model", ignore_errors=True)


def _scores(result: Result) -> str:
    return ", ".join(
        f"{evaluation['language']}{' (zero-shot)' if evaluation['zero_shot'] else ''} {evaluation['f1']:.4f}"
        for evaluation in result["evaluations"]
    )
