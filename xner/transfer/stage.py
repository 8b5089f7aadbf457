"""One stage: a fresh seed, trainer, model and data; train, evaluate, write the result."""

import platform
import shutil
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl
import torch

from xner.backbone import first_not_finite, save_network, save_tokenizer
from xner.data.datamodule import PanxDataModule
from xner.files import folder_atomically
from xner.lineage.callback import history_in
from xner.lineage.history import History, write_history
from xner.model.classifier import TokenClassifier
from xner.model.divergence import Diverged
from xner.transfer.evaluation import evaluate
from xner.transfer.experiment import Experiment, Settings, define, fingerprint, no_best
from xner.transfer.plan import Stage
from xner.transfer.result import Result, write_result
from xner.transfer.resume import ResumeCheckpoint, write_begun
from xner.transfer.tracking import begin_stage, end_stage


class Workers(NamedTuple):
    """What trains and evaluates one stage, made afresh for it."""

    trainer: pl.Trainer
    model: TokenClassifier
    data: PanxDataModule


Build = Callable[[Settings], Workers]
"""Makes workers with some options replaced."""


def run_stage(stage: Stage, experiment: Experiment, build: Build) -> Result:
    """Train and evaluate a stage whose parent is complete, going on where an earlier process was stopped.

    Where a stage has several processes, each calls this, and the first one writes.
    """
    began = time.monotonic()
    folder, checkpoints = experiment.folder(stage.id), experiment.checkpoints(stage.id)
    definition = define(experiment)[stage.id]
    backbone = str(experiment.model_folder(stage.parent) if stage.parent else experiment.settings["model.backbone"])
    trainer, model, data = build(_settings(stage, experiment, backbone))
    keeper = ResumeCheckpoint(checkpoints, best=experiment.select == "best")
    begin_stage(trainer, stage, experiment)
    trainer.callbacks.append(keeper)  # type: ignore[attr-defined] # set by Lightning
    if trainer.is_global_zero:
        write_begun(checkpoints, definition)
    pl.seed_everything(stage.seed, workers=True, verbose=False)
    try:
        trainer.fit(model, datamodule=data, ckpt_path=keeper.last if keeper.last.is_file() else None)
    except Diverged as error:
        raise Diverged(f"{stage.id}: {error}") from error
    if keeper.best:
        if not keeper.best.is_file():
            raise no_best()
        model.take_weights(torch.load(keeper.best, map_location="cpu", weights_only=True)["state_dict"])
    history = history_in(trainer).after(model, data)
    check_weights(model)  # in every process, since none would wait for one that fails alone
    if trainer.is_global_zero:
        write_model(experiment.model_folder(stage.id), model, history)
    trainer.test(model, datamodule=data, verbose=False)
    evaluations, counts = evaluate(model, data, history)
    result: Result = {
        "stage": stage.id,
        "regime": stage.regime,
        "seed": stage.seed,
        "start_from": stage.parent or backbone,
        "train_languages": [language for language, _ in stage.train],
        "train_samples": sum(len(data.training_sentences(language)) for language in data.languages),
        "target_samples": stage.target_samples,
        "evaluations": evaluations,
        "seconds": round(time.monotonic() - began, 1),
        "definition": definition,
        "fingerprint": fingerprint(definition),
        "lineage": {**history.lineage},
        "versions": versions(),
    }
    if trainer.is_global_zero:
        write_result(folder, result, counts)
        shutil.rmtree(checkpoints, ignore_errors=True)
    end_stage(trainer, result, experiment)
    trainer.strategy.barrier()
    return result


def write_model(folder: Path, model: TokenClassifier, history: History) -> None:
    """Write a model folder, whole or not at all: the network, its tokenizer and the history of its weights.

    Raises:
        Diverged: If a weight is not finite: the folder that is there, if any, is left as it is.
    """
    check_weights(model)
    with folder_atomically(folder) as part:
        save_network(model.network, part)
        save_tokenizer(model.backbone_name, part)
        write_history(part, history)


def check_weights(model: TokenClassifier) -> None:
    """Check that the weights that a training ended with are finite.

    Raises:
        Diverged: If one is not.
    """
    if name := first_not_finite(model.network.state_dict()):
        raise Diverged(f"training diverged: {name} is not finite at its end; use a lower model.learning_rate")


def versions() -> dict[str, str]:
    """What a result was computed with."""
    packages = ("xner", "torch", "lightning", "transformers", "torchmetrics", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _settings(stage: Stage, experiment: Experiment, backbone: str) -> Settings:
    """The options that a stage's workers have of their own."""
    return {
        "model.backbone": backbone,
        "data.backbone": backbone,
        "data.languages": [language for language, _ in stage.train],
        "data.num_samples": dict(stage.train),
        "data.subset_seed": stage.seed,
        "data.test_languages": list(experiment.evaluated),
        "trainer.default_root_dir": str(experiment.folder(stage.id)),
        # A stage has a checkpoint of its own, to go on from; Lightning's would be a second one.
        "trainer.enable_checkpointing": bool(experiment.settings["trainer.callbacks"]),
    }
