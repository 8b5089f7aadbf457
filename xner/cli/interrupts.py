"""Ctrl-C before a command has begun."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread


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
