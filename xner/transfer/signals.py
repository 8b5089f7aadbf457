"""SIGTERM, SIGINT, SIGUSR1: a command that is asked to stop does so at a moment from which it can go on."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

from lightning.pytorch.utilities.exceptions import SIGTERMException

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""What asks to stop: a system, a keyboard, and a SLURM script that follows Lightning's (whose own handler would write a
checkpoint amid a step)."""

Handler = Callable[[int, FrameType | None], Any]


def leave(number: int, frame: FrameType | None = None) -> None:
    """Exit as a process that the signal ended, running what waits in ``finally``.

    Raises:
        SystemExit: Always. No library takes it for an error of its own, and Lightning hands it on.
    """
    sys.exit(128 + number)


def exit_code(stop: BaseException) -> int:
    """What a process exits with that something stopped, as a shell has it: 143 for SIGTERM, 130 for SIGINT."""
    if isinstance(stop, SIGTERMException):
        return 128 + signal.SIGTERM
    code = getattr(stop, "code", None)
    return code if code in {128 + number for number in SIGNALS} else 128 + signal.SIGINT


@contextmanager
def on_signals(handler: Handler) -> Iterator[None]:
    """Let a function handle these signals within a block; other threads than the main one cannot, and leave it."""
    if current_thread() is not main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
