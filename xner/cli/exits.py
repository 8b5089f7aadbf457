"""The one place where exceptions become lines on the terminal and exit codes."""

import errno
import os
import sys
import traceback
from typing import NoReturn

from xner.cli.output import escaped
from xner.errors import UserError

_HALF = 1000
"""Number of characters of a very long error that are shown of its beginning, and of its end."""

_LIBRARIES = ("lightning", "jsonargparse", "wandb")
"""Libraries whose errors about options arrive in the middle of a run."""

_ABOUT_OPTIONS = (ValueError, TypeError, RuntimeError, ImportError)
"""Built-in exceptions that these libraries raise for a wrong option: ``ValueError`` for a validation interval longer
than the epoch, ``RuntimeError`` for a monitored score that is never logged, ``ImportError`` for an accelerator without
its package."""


def exit_with_line(error: BaseException) -> NoReturn:
    """Print the line of an error and exit with its code.

    Raises:
        SystemExit: For every error that a user can act on.
        BaseException: The error itself where it is a defect, which needs its traceback.
    """
    if isinstance(error, BrokenPipeError):
        # The reader of the output, such as head, has ended; what is left of it is discarded.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    line, code = translate(error)
    if line is None:
        raise error
    print("xner: error:", brief(line), file=sys.stderr)
    sys.exit(code)


def brief(line: str) -> str:
    r"""Format the text of an error as one line that a terminal can show, without the middle of a very long one.

    >>> print(brief("labels \x1b[31mX,\n use others"), len(brief("x" * 50_000_000)))
    labels \x1b[31mX, use others 2005
    """
    if len(line) > 2 * _HALF:
        line = f"{line[:_HALF]} ... {line[-_HALF:]}"
    return escaped(" ".join(line.split()))


def translate(error: BaseException) -> tuple[str | None, int]:
    """Translate an exception into a line and an exit code.

    Returns:
        The line, ``None`` where the exception is a defect, and the exit code.

    >>> translate(UserError("data.batch_size=0 is not 1 or more")), translate(ZeroDivisionError("division by zero"))
    (('data.batch_size=0 is not 1 or more', 2), (None, 1))
    """
    if isinstance(error, UserError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if isinstance(error, FileNotFoundError) and error.errno is None:
        return str(error), 2  # raised by Lightning for a checkpoint
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            place = f"{error.filename}: " if error.filename else ""
            return f"{place}{error.strerror}; free space, and repeat the command", 1
        return (f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error.strerror), 1
    if _is_about_options(error):
        while isinstance(error.__cause__, Exception):  # jsonargparse wraps the error of a class into all that it tried
            error = error.__cause__
        return str(error.args[0] if error.args else error).strip() or None, 2
    return None, 1


def _is_about_options(error: BaseException) -> bool:
    """Return whether one of ``_LIBRARIES`` raised an exception because of an option."""
    if type(error).__module__.partition(".")[0] in _LIBRARIES:
        return True
    if not isinstance(error, _ABOUT_OPTIONS) or isinstance(error, NotImplementedError):
        return False
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and frames[-1][0].f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES
