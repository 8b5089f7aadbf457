"""One stage: train from its starting point with its own seed, evaluate, and write the result."""

import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version

from lightning.pytorch.loggers import CSVLogger

from xner.backbone.weights import folder_digest
from xner.lineage.callback import LineageCallback
from xner.model.evaluation import run_test
from xner.transfer.definition import define
from xner.transfer.experiment import Experiment, Observer
from xner.transfer.options import StageOptions
from xner.transfer.plan import Stage
from xner.transfer.result import Result, read_counts, read_result, write_result
from xner.transfer.scoring import evaluate
from xner.transfer.training import BuildParts, StageSetup, train_stage, write_model


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
    own = StageOptions(
        parent=experiment.model_folder(stage.parents[0]) if stage.parents else None,
        num_samples=dict(stage.train),
        shots={language: stage.shots_of(language) for language, _ in stage.train},
        learning_rate=experiment.own_rate(stage),
        max_epochs=experiment.own_epochs(stage),
        subset_seed=stage.seed,
        test_languages=list(experiment.evaluated),
        root=folder,
    )
    setup = StageSetup(stage, experiment, definition, build, own, observers)
    if complete := read_result(folder):
        if not experiment.untested(complete):
            return complete
        return _test_further(setup, complete)
    trained = train_stage(setup)
    trainer, model, data = trained.parts
    if trainer.is_global_zero:
        write_model(experiment.model_folder(stage.id), model, trained.history)
    # A stage of pretraining has no head to test.
    evaluations, counts = (
        ([], {}) if trained.perplexity else evaluate(run_test(trainer, model, data), data, trained.history)
    )
    train_samples = sum(len(data.training_sentences(language)) for language in data.languages)
    target_samples = 0
    if stage.target:
        # Those that are asked for, so that a curve has its sizes.
        target_samples = (
            len(data.training_sentences(stage.target)) + trained.left_out["in_test"] + trained.left_out["unsure"]
        )
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
        "lineage": {**trained.history.lineage},
        "versions": versions(),
        "max_epochs": None if stage.averages or trainer.max_epochs == -1 else trainer.max_epochs,
        "keep": experiment.keep,
        "model": folder_digest(experiment.model_folder(stage.id)) if trainer.is_global_zero else "",
    }
    if stage.labels != "gold":
        result["left_out"] = trained.left_out
    if trained.perplexity:
        result["perplexity"] = trained.perplexity
    if trainer.is_global_zero:
        write_result(folder, result, counts)
        shutil.rmtree(experiment.checkpoints(stage.id), ignore_errors=True)
        for observer in observers:
            observer.stage_ended(result, experiment, trainer)
    trainer.strategy.barrier()
    return result


def _test_further(setup: StageSetup, complete: Result) -> Result:
    """Test a complete stage on the languages that it has not been tested on.

    Args:
        setup: The stage.
        complete: Its result so far.

    Returns:
        The result with the further evaluations.
    """
    stage, experiment, definition, build, options, observers = setup
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
    tested = complete["definition"]["tested"] | definition.tested
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


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    packages = ("xner", "torch", "lightning", "transformers", "torchmetrics", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
