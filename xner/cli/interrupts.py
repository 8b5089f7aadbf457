"""How processes end: by Ctrl-C before a command has begun, and with the process that started them."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread

_PR_SET_PDEATHSIG = 1  # from Linux's prctl.h


def end_with_parent() -> None:
    """Let Linux kill this process when the process that started it ends."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def exit_at_interrupt() -> Iterator[None]:
    """End the process at Ctrl-C within a block that imports, reads options or builds what they describe.

    Libraries may swallow the exception there, and nothing is written yet that would have to be cleaned up.
    """
    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not default or current_thread() is not main_thread():
        yield
        return

    def leave(*_: object) -> None:
        os.write(2, b"xner: error: interrupted\n")
        os._exit(130)

    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
