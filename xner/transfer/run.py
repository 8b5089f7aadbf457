"""The whole experiment: the order of its stages, its folder's lock, the signals that stop it, and what is kept."""

import logging
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning.pytorch.utilities.exceptions import SIGTERMException

from xner.backbone.weights import folder_digest
from xner.data.datamodule import PanxDataModule
from xner.errors import RunError, Stopped, UserError
from xner.files import remove_folder, remove_parts, write_atomically
from xner.transfer.definition import check_comparable, define
from xner.transfer.experiment import Experiment, Observer
from xner.transfer.plan import Stage
from xner.transfer.result import Result, earlier_configs, read_counts, read_result, size_of, write_csv, write_sentences
from xner.transfer.resume import exit_by_signal, exit_code, on_signals, read_begun

RunStage = Callable[[Stage], Result]
"""Trains and evaluates one stage."""

Execute = Callable[[Sequence[Stage]], Iterable[Result]]
"""Runs stages, each after the one it starts from, and yields their results as they complete."""

_ROOT = re.compile(rb"^  default_root_dir:.*\n(?: {3,}.*\n)*", re.MULTILINE)
"""The run's folder in config.yaml. It changes when the run is moved, which makes no other configuration of it."""


@contextmanager
def lock_run_folder(root: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder.

    Raises:
        RunError: If another process has locked it.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError(f"{root} is in use by another process; wait for it, or use another folder") from error
    try:
        yield
    finally:
        lock.release()


def run_experiment(
    experiment: Experiment, data: PanxDataModule, execute: Execute, *, config: str, observers: Sequence[Observer] = ()
) -> list[Result]:
    """Run the stages that are not complete, in the first process, and write ``results.csv`` after each.

    Args:
        experiment: The experiment.
        data: The data module, for the sentences that a report shows.
        execute: Runs the stages.
        config: The content of ``config.yaml``.
        observers: Observers of the experiment.

    Returns:
        The results of all stages, in the order of the plan.

    Raises:
        UserError: If the folder holds a stage of another configuration.
        Stopped: If a signal stopped the experiment; the same command continues it.
    """
    try:
        with on_signals(exit_by_signal), lock_run_folder(experiment.root):
            remove_parts(experiment.root)
            done, others = existing_stages(experiment)
            _write_config(experiment.root, config)
            for language in experiment.evaluated:
                split = data.test_split_of(language)
                write_sentences(experiment.root, language, split.name, split.sentences.words)
            for observer in observers:
                observer.experiment_begun(experiment, done)
            _clean_up(experiment, done, others)
            for result in execute(_waiting(experiment, done)):
                done[result["stage"]] = result
                for observer in observers:
                    observer.stage_completed(result)
                _clean_up(experiment, done, others)
            results = [done[stage.id] for stage in experiment.stages]
            for observer in observers:
                observer.experiment_ended(results, experiment)
            return results
    except (KeyboardInterrupt, SIGTERMException, SystemExit) as stop:
        raise Stopped("stopped: the same command continues from here", exit_code(stop)) from stop


def _write_config(root: Path, config: str) -> None:
    """Write config.yaml, and keep that of an earlier command, as of other languages, as config-1.yaml and so on."""
    path = root / "config.yaml"
    earlier = earlier_configs(root)
    if path.exists():
        before = path.read_bytes()
        kept = (config.encode(), *(each.read_bytes() for each in earlier.values()))
        if _ROOT.sub(b"", before) not in (_ROOT.sub(b"", each) for each in kept):
            write_atomically(root / f"config-{max(earlier, default=0) + 1}.yaml", before)
    write_atomically(path, config)


def assist_experiment(experiment: Experiment, train: RunStage) -> None:
    """Help the first process with the training of each stage, in the other processes of a command."""
    done = _complete_stages(experiment, _results(experiment.root))
    try:
        with on_signals(exit_by_signal):
            for stage in _waiting(experiment, done):
                train(stage)
    except SystemExit:
        sys.exit()  # The first process says that it was stopped; an exit code from here would count as a crash.


def existing_stages(experiment: Experiment) -> tuple[dict[str, Result], list[Result]]:
    """Read the results of the complete stages in the folder: those of the plan by stage id, and the others.

    Raises:
        UserError: If the folder holds a stage, complete or begun, of another configuration, or one that would be on a
            learning curve with a stage that starts from another one.
        RunError: If a result or its counts are damaged, or the folder does not hold the weights that an incomplete
            stage starts from, or that are still to be tested.
    """
    found = _results(experiment.root)
    done, others = _complete_stages(experiment, found), _other_stages(experiment, found)
    for result in (*done.values(), *others):
        for evaluation in result["evaluations"]:
            # The report reads them all, and should not find damage after hours of further stages.
            read_counts(experiment.folder(result["stage"]), evaluation)
    return done, others


def _complete_stages(experiment: Experiment, found: Mapping[str, Result]) -> dict[str, Result]:
    """Choose the stages of the plan, and check that those that are not complete can be run."""
    done: dict[str, Result] = {}
    definitions = define(experiment)
    by_shots = any(stage.shots for stage in experiment.stages)
    for result in found.values():
        if result["target_samples"] and (result["shots"] is not None) != by_shots:
            asked, other = ("shots", "sizes") if by_shots else ("sizes", "shots")
            raise UserError(
                f"{experiment.root} holds stages of {other}, and so cannot hold those of {asked}; use another "
                "--trainer.default_root_dir"
            )
    for stage in experiment.stages:
        folder = experiment.folder(stage.id)
        if complete := found.get(stage.id):
            definitions[stage.id].check_same(complete["definition"], folder)
            done[stage.id] = complete
            continue
        if begun := read_begun(experiment.checkpoints(stage.id)):
            definitions[stage.id].check_same(begun, folder)
        for parent in stage.parents:
            if parent in done:
                needed = f"{stage.id} {'averages' if stage.averages else 'starts from'} {parent}"
                _check_model(needed, experiment, done[parent])
    _check_testable(experiment, [result for result in done.values() if experiment.untested(result)])
    return done


def _results(root: Path) -> dict[str, Result]:
    """Read the results of all complete stages in a folder, whatever plan they are of, by the names of their folders."""
    found = ((path.parent.name, read_result(path.parent)) for path in sorted(root.glob("stages/*/result.json")))
    return {name: result for name, result in found if result}


def _other_stages(experiment: Experiment, found: Mapping[str, Result]) -> list[Result]:
    """Choose the stages that are not in the plan, as of other sizes or seeds, and check that they fit it."""
    definitions = define(experiment)
    others = [result for result in found.values() if result["stage"] not in definitions]
    check_comparable(
        definitions.values(), {experiment.folder(result["stage"]): result["definition"] for result in others}
    )
    # The stages of each curve in which every stage starts from the one before, by size: their ids and starts.
    curves: dict[tuple[str, int], dict[int, tuple[str, str | None]]] = {}
    for stage in experiment.stages:
        if stage.regime == "progressive" and stage.target:
            curves.setdefault((stage.target, stage.seed), {})[stage.size] = stage.id, stage.parent
    for result in others:
        curve = curves.get((result["train_languages"][-1], result["seed"] or 0))
        if result["regime"] == "progressive" and curve:
            curve[size_of(result)] = result["stage"], result["start_from"]
    for curve in curves.values():
        for (_, (before, _)), (_, (each, start)) in pairwise(sorted(curve.items())):
            if start != before:
                raise UserError(
                    f"{experiment.root} holds stages of other sizes: {each} starts from {start}, not from {before}, so "
                    "that they would not be one curve; use another --trainer.default_root_dir"
                )
    return others


def _waiting(experiment: Experiment, done: Mapping[str, Result]) -> list[Stage]:
    """Return the stages that are not complete, or still to be tested on a language."""
    return [stage for stage in experiment.stages if stage.id not in done or experiment.untested(done[stage.id])]


def _check_testable(experiment: Experiment, untested: Sequence[Result]) -> None:
    """Check that the weights of complete stages that are still to be tested were kept.

    Raises:
        RunError: If they were not, or were changed.
    """
    if without := [each for each in untested if not _has_model(experiment, each)]:
        names = [each["stage"] for each in without]
        some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise RunError(
            f"{', '.join(experiment.untested(without[0]))} is to be tested with stages whose weights were not kept "
            f"({some}); use another --trainer.default_root_dir, or delete their folders in "
            f"{experiment.root / 'stages'} and train them again with --keep all"
        )
    for each in untested:
        _check_model(f"{', '.join(experiment.untested(each))} is to be tested with {each['stage']}", experiment, each)


def _has_model(experiment: Experiment, result: Result) -> bool:
    return (experiment.model_folder(result["stage"]) / "config.json").is_file()


def _check_model(needed: str, experiment: Experiment, result: Result) -> None:
    """Check that the model folder of a complete stage is as the stage wrote it.

    Args:
        needed: What it is needed for, ending with the stage's id.
        experiment: The experiment.
        result: The result of the stage.

    Raises:
        RunError: If it is not; with another lineage, a score could be called zero-shot where it is not.
    """
    folder = experiment.model_folder(result["stage"])
    if not _has_model(experiment, result):
        raise RunError(
            f"{needed}, whose weights are not in {folder}; delete {folder.parent} to train it again (keep=all keeps "
            "the weights of every stage)"
        )
    try:
        same = folder_digest(folder) == result["model"]
    except UserError:  # without a tokenizer
        same = False
    if not same:
        raise RunError(
            f"{folder} is damaged, or was changed after {result['stage']} had written it; restore it from a backup, or "
            f"delete {folder.parent} to train the stage again"
        )


def _clean_up(experiment: Experiment, done: Mapping[str, Result], others: Sequence[Result]) -> None:
    """Write ``results.csv``, and delete checkpoints and weights that are no longer needed."""
    if done or others:
        planned = [done[each.id] for each in experiment.stages if each.id in done]
        write_csv(experiment.root / "results.csv", [*planned, *others])
    needed = {each for stage in _waiting(experiment, done) for each in (stage.id, *stage.parents)}
    for stage in experiment.stages:
        if stage.id in done:
            shutil.rmtree(experiment.checkpoints(stage.id), ignore_errors=True)
            if stage.id not in needed and not experiment.keeps(stage, done[stage.id]):
                remove_folder(experiment.model_folder(stage.id))


def in_series(stages: Sequence[Stage], train: RunStage) -> Iterator[Result]:
    """Run stages one after another in this process."""
    for stage in stages:
        yield train(stage)


def with_ray(stages: Sequence[Stage], train: RunStage, *, threads: int, gpus: float | None) -> Iterator[Result]:
    """Run stages as Ray tasks on this machine or on the cluster that ``RAY_ADDRESS`` names.

    Each stage runs as soon as those whose weights it needs are complete. It needs only their model folders and leaves
    all of its result in its own, so tasks share no memory; on a cluster of several machines, the run's folder must be
    at the same path on all of them. A stage whose worker is lost is run again. Where one fails, running stages are
    waited for, and no other is started.

    Args:
        stages: The stages, each after the one it starts from.
        train: Runs one stage; it is sent to the workers.
        threads: Threads, and so CPU cores, of a stage without a GPU; one with a GPU gets one core.
        gpus: GPUs per stage; ``None`` stands for one where the cluster has any.

    Raises:
        UserError: If Ray is not installed, cannot be reached, or lacks the resources of a stage.
        RunError: If a stage fails.
    """
    # Ray shows what the stages print. Lines that are alike are progress, not repetitions, and may go to a file.
    for name in ("RAY_DEDUP_LOGS", "RAY_COLOR_PREFIX"):
        os.environ.setdefault(name, "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("executor=ray needs Ray; install it with pip install '.[ray]'") from error
    handler = signal.getsignal(signal.SIGTERM)
    address = os.environ.get("RAY_ADDRESS", "local")
    try:
        ray.init(address=address, include_dashboard=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        raise UserError(
            f"RAY_ADDRESS={address!r} is no Ray cluster that answers ({error}); start one with ray start --head, or "
            "unset it to use this machine"
        ) from error
    signal.signal(signal.SIGTERM, handler)  # Ray installs a handler of its own.
    try:
        has = ray.cluster_resources()
        gpus = float(has.get("GPU", 0) > 0) if gpus is None else gpus
        cpus = 1 if gpus else threads
        for name, takes in {"CPU": cpus, "GPU": gpus}.items():
            if takes > has.get(name, 0):
                option = "gpus_per_stage" if name == "GPU" else "OMP_NUM_THREADS"
                raise UserError(
                    f"{option}={takes:g} exceeds the {has.get(name, 0):g} {name} of Ray; use a smaller number"
                )
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=3)(lambda stage: train(stage))
        waiting = list(stages)
        running: dict[Any, Stage] = {}
        failed: dict[str, Exception] = {}
        while waiting or running:
            missing = {stage.id for stage in (*waiting, *running.values())}
            for stage in [each for each in waiting if missing.isdisjoint(each.parents) and not failed]:
                waiting.remove(stage)
                running[task.options(name=stage.id).remote(stage)] = stage
            if not running:
                break
            [ready], _ = ray.wait([*running])
            stage = running.pop(ready)
            try:
                yield ray.get(ready)
            except ray.exceptions.RayError as error:
                failed[stage.id] = error
        for name, failure in failed.items():
            cause = getattr(failure, "cause", failure)
            if isinstance(failure, ray.exceptions.RayTaskError) and not isinstance(cause, UserError):
                raise failure
            raise RunError(f"{name} failed ({cause}); the same command continues from what is complete") from failure
    finally:
        ray.shutdown()
