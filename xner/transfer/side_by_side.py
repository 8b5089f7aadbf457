"""Stages side by side, as Ray tasks on this machine or on the cluster that ``RAY_ADDRESS`` names.

A stage needs nothing but its parent's model folder and leaves all of its result in its own, so tasks share no memory;
on a cluster of several machines, the run's folder must be the same place for all.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from xner.errors import RunError, UserError
from xner.transfer.plan import Stage
from xner.transfer.result import Result


def side_by_side(
    stages: Sequence[Stage], work: Callable[[Stage], Result], *, cpus: float, gpus: float | None
) -> Iterator[Result]:
    """Run stages as Ray tasks, each as soon as the one it starts from is complete.

    A stage whose worker is lost is run again. Where one fails, those that run are waited for, and no other is begun.

    Args:
        stages: In an order in which each stands behind the one it starts from.
        work: Runs one stage; it is sent to the workers.
        cpus: Processor cores that a stage takes.
        gpus: GPUs that a stage takes; ``None`` for one where the cluster has any.

    Raises:
        UserError: If Ray is not installed, or has not what a stage takes.
        RunError: If a stage fails.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("executor=ray needs Ray: pip install 'xner[ray]'") from error
    handler = signal.getsignal(signal.SIGTERM)
    address = os.environ.get("RAY_ADDRESS", "local")
    ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error")
    signal.signal(signal.SIGTERM, handler)  # Ray takes it for its own
    try:
        has = ray.cluster_resources()
        gpus = float(has.get("GPU", 0) > 0) if gpus is None else gpus
        for name, takes in {"CPU": cpus, "GPU": gpus}.items():
            if takes > has.get(name, 0):
                raise UserError(f"a stage takes {takes:g} {name}, but Ray has {has.get(name, 0):g}")
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=3)(_call)
        waiting = list(stages)
        running: dict[Any, Stage] = {}
        failed: dict[str, Exception] = {}
        while waiting or running:
            missing = {stage.id for stage in (*waiting, *running.values())}
            for stage in [each for each in waiting if each.parent not in missing and not failed]:
                waiting.remove(stage)
                running[task.remote(work, stage)] = stage
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
            raise RunError(f"{name} failed ({cause}): the same command goes on from what is complete") from failure
    finally:
        ray.shutdown()


def _call(work: Callable[[Stage], Result], stage: Stage) -> Result:
    return work(stage)
