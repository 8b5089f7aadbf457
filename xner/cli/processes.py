"""The processes of one command: which strategies are supported, and what is said where one of them is lost."""

import os
import signal
import sys
import time

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from xner.cli.interrupts import end_with_parent
from xner.errors import RunError, UserError


def check_strategy(trainer: pl.Trainer, asked: object) -> None:
    """Check that every process holds the whole model and is started by the command itself.

    Args:
        trainer: The trainer.
        asked: The option that its strategy was made from.

    Raises:
        UserError: If not.
    """
    strategy = trainer.strategy
    whole = isinstance(strategy, SingleDeviceStrategy | DDPStrategy) and not isinstance(strategy, DeepSpeedStrategy)
    if not whole or isinstance(strategy.launcher, _MultiProcessingLauncher):
        raise UserError(f"trainer.strategy={asked} shards the model or forks processes; use auto or ddp")


def end_with_first() -> None:
    """Let Linux end this process with the first process of its command, if Lightning started it from that.

    Without it, a process that waits for a lost one over NCCL notices that only after half an hour.
    """
    if "LOCAL_RANK" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
        end_with_parent()


def check_lost(error: RuntimeError, trainer: pl.Trainer, advice: str) -> None:
    """Raise a one-line error where a collective operation failed because a process was lost.

    Args:
        error: The error; others than those of collective operations are left alone.
        trainer: The trainer.
        advice: How to continue.

    Raises:
        RunError: In the first process, or in each where torchrun started them.
        SystemExit: In the others, because the first one reports the error.
    """
    if not (isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error)):
        return
    if trainer.global_rank and "TORCHELASTIC_RUN_ID" not in os.environ:
        sys.exit(1)
    until = time.monotonic() + 3  # a process that failed may still be printing its traceback
    while not (lost := _ended_child()) and time.monotonic() < until:
        time.sleep(0.05)
    raise RunError(f"{lost or f'the connection to another process was lost ({error})'}; {advice}") from error


def leave_group() -> None:
    """Leave the process group at the end of a command, because gloo may abort a process that has just ended."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _ended_child() -> str | None:
    """Describe a process that this one started and that has ended, without taking its exit code from Lightning."""
    if not hasattr(os, "waitid"):
        return None
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if found is None:
        return None
    killed = found.si_code != os.CLD_EXITED
    how = f"was killed by {signal.Signals(found.si_status).name}" if killed else f"exited with {found.si_status}"
    return f"another process of this command (pid {found.si_pid}) {how}"
