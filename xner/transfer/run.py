"""The whole experiment: which stages are complete, which are to be run, and what is kept of them."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from xner.cli.progress import StageProgress, say
from xner.errors import RunError
from xner.files import remove_folder
from xner.lineage.history import read_history
from xner.lineage.record import FILE
from xner.transfer.experiment import Experiment, check_same, define
from xner.transfer.plan import Stage
from xner.transfer.result import Result, read_result, write_csv
from xner.transfer.resume import read_begun

Execute = Callable[[Sequence[Stage]], Iterable[Result]]
"""Runs stages, each after the one it starts from, and gives their results as they come."""


@contextmanager
def lock_run_folder(root: Path) -> Iterator[None]:
    """Keep other processes away from a run's folder.

    Raises:
        RunError: If another process has it.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError(f"{root} is in use by another process: wait for it, or name another folder") from error
    with lock:
        yield


def run_experiment(experiment: Experiment, complete: Mapping[str, Result], execute: Execute) -> list[Result]:
    """Run the stages that are not complete, and write ``results.csv`` after each.

    Args:
        experiment: The experiment; its folder is claimed.
        complete: As ``complete_stages`` finds them.
        execute: How stages are run.

    Returns:
        The results of all stages, in the order of the plan.
    """
    stages, done = experiment.stages, dict(complete)
    for stage in stages:
        if stage.id in done:
            say(f"{stage.id}: complete, F1 {scores(done[stage.id])}")
    _keep(experiment, done)
    missing = [stage for stage in stages if stage.id not in done]
    with StageProgress({stage.id: experiment.work[stage.id] for stage in missing}, stages=len(stages)) as progress:
        for result in execute(missing):
            done[result["stage"]] = result
            progress.completed(result["stage"], scores(result), result["seconds"])
            _keep(experiment, done)
    return [done[stage.id] for stage in stages]


def complete_stages(experiment: Experiment) -> dict[str, Result]:
    """Read what is complete, by the stage's id.

    Raises:
        UserError: If the folder holds a stage, complete or begun, of another configuration.
        RunError: If it holds not the weights that one starts from.
    """
    done: dict[str, Result] = {}
    definitions = define(experiment)
    for stage in experiment.stages:
        folder = experiment.folder(stage.id)
        if result := read_result(folder):
            check_same(definitions[stage.id], result["definition"], folder)
            done[stage.id] = result
            continue
        if begun := read_begun(experiment.checkpoints(stage.id)):
            check_same(definitions[stage.id], begun, folder)
        if stage.parent in done and not (experiment.model_folder(stage.parent) / "config.json").is_file():
            raise RunError(
                f"{stage.id} starts from {stage.parent}, whose weights were not kept in "
                f"{experiment.model_folder(stage.parent)}: delete {experiment.folder(stage.parent)} to train it again"
            )
        if stage.parent in done:
            _check_lineage(experiment.model_folder(stage.parent), done[stage.parent])
    return done


def _check_lineage(folder: Path, result: Result) -> None:
    """Check that a stage's model folder says of its weights what the stage's result says.

    Raises:
        RunError: If it does not: what starts from it might be called zero-shot where it is not.
    """
    if read_history(str(folder)).lineage != result["lineage"]:
        raise RunError(
            f"{folder}/{FILE} does not say what {result['stage']} was trained on: take it from a backup, or delete "
            f"{folder.parent} to train the stage again"
        )


def serially(stages: Sequence[Stage], work: Callable[[Stage], Result]) -> Iterator[Result]:
    """Run stages one after another."""
    for stage in stages:
        say(f"{stage.id}: starts from {stage.parent or 'the backbone'}")
        yield work(stage)


def scores(result: Result) -> str:
    """A stage's scores in a line: ``en 0.8301, tr (zero-shot) 0.4712``."""
    return ", ".join(
        f"{evaluation['language']}{' (zero-shot)' if evaluation['zero_shot'] else ''} {evaluation['f1']:.4f}"
        for evaluation in result["evaluations"]
    )


def _keep(experiment: Experiment, done: Mapping[str, Result]) -> None:
    """Write ``results.csv``, and delete what nothing needs any more."""
    if done:
        write_csv(experiment.root / "results.csv", [done[each.id] for each in experiment.stages if each.id in done])
    parents = {stage.parent for stage in experiment.stages}
    waiting = {stage.parent for stage in experiment.stages if stage.id not in done}
    for stage in experiment.stages:
        kept = {
            "none": False,
            "source": stage.regime == "source",
            "last": stage.id not in parents,
            "all": True,
        }[experiment.keep]
        if stage.id in done:
            shutil.rmtree(experiment.checkpoints(stage.id), ignore_errors=True)
            if stage.id not in waiting and not kept:
                remove_folder(experiment.model_folder(stage.id))
