"""The processes of one command: where one of them is lost, the others end, and one says so in a line."""

import os
import signal
import subprocess
import sys
import time
from threading import Thread

import torch
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, subprocess_script

from xner.errors import RunError, UserError

PATIENCE = 3.0
"""Seconds in which a process that another's loss stops may end by itself."""


def check_strategy(strategy: Strategy, asked: object) -> None:
    """See that every process holds the whole model, and is started by the command's own words.

    Args:
        strategy: The Trainer's.
        asked: The option that it was made from.

    Raises:
        UserError: If not.
    """
    whole = isinstance(strategy, SingleDeviceStrategy | DDPStrategy) and not isinstance(strategy, DeepSpeedStrategy)
    if not whole or isinstance(strategy.launcher, _MultiProcessingLauncher):
        raise UserError(f"trainer.strategy={asked} splits the model or forks processes: give auto or ddp")


class Processes:
    """The other processes of this command that this one started, or that started this one.

    gloo tells a process at once that another is gone; NCCL, and a process that computes, notice it after half an hour.
    So each looks after those it is tied to.

    Args:
        advice: How to go on where one is lost.
    """

    def __init__(self, advice: str) -> None:
        self.advice = advice
        self.children: list[subprocess.Popen[bytes]] = []
        # Set by Lightning and torchrun for the processes that they start; those of srun are srun's to look after.
        self.parent = os.getppid() if "LOCAL_RANK" in os.environ else None
        self.torchrun = "TORCHELASTIC_RUN_ID" in os.environ
        self.told = False
        if self.parent:
            self._watch()
        # Lightning's own observer kills this process at a moment of its own, and says nothing of how to go on.
        setattr(subprocess_script, "_launch_process_observer", self._started)  # noqa: B010 - it is not exported

    def lost(self) -> str | None:
        """Say which process is lost, if one is."""
        for rank, child in enumerate(self.children, 1):
            if code := child.poll():
                end = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                return f"process {rank} (pid {child.pid}) {end}"
        if self.parent not in (None, os.getppid()):
            return f"{'torchrun' if self.torchrun else 'process 0'} (pid {self.parent}) is gone"
        return None

    def explain(self, error: RuntimeError) -> None:
        """Turn what a process sees of a lost one into a line; leave another error alone.

        Raises:
            RunError: If a process was lost.
            SystemExit: If one was, and another process says so.
        """
        if not (isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error)):
            return
        self.told = True
        reason = f"the connection to another process was lost ({error})"
        # A child that failed may still be at its traceback; a parent is gone at once, or is the one to say so.
        until = time.monotonic() + (PATIENCE if self.children else 0.1)
        while not (found := self.lost()) and time.monotonic() < until:
            time.sleep(0.05)
        if not self._speaks(found):
            sys.exit(1)
        raise RunError(f"{found or reason}: {self.advice}") from error

    def part(self) -> None:
        """Take leave of the others at a command's good end; one that just ended might be aborted within gloo."""
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def _speaks(self, found: str | None) -> bool:
        """Whether it is for this process to say so: of Lightning's, the first, and the next where that is lost."""
        if self.torchrun or not self.parent:
            return True
        return bool(found) and os.environ["LOCAL_RANK"] == "1"

    def _started(self, children: list[subprocess.Popen[bytes]]) -> None:
        """Take Lightning's word for what it started."""
        self.children = children
        self._watch()

    def _watch(self) -> None:
        Thread(target=self._end_with_others, name="watch-processes", daemon=True).start()

    def _end_with_others(self) -> None:
        while not (found := self.lost()):
            time.sleep(1)
        time.sleep(PATIENCE)
        if not self.told and self._speaks(found):
            print(f"xner: error: {found}: {self.advice}", file=sys.stderr, flush=True)
        for child in self.children:
            child.kill()
        os._exit(1)
