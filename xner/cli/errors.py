"""What Lightning and jsonargparse say of options that cannot be had, for a user to read as one line.

Both find out in the midst of a run, and raise what they like: a validation interval longer than the epoch is a
``ValueError``, a monitored score that nobody logs a ``RuntimeError``.
"""

import linecache
import traceback

_WHOSE = ("lightning", "jsonargparse")


def complaint(error: Exception) -> str | None:
    """What a library says of the options; ``None`` where it did not mean to: an error of other code, or a defect.

    >>> complaint(ZeroDivisionError("division by zero")) is None
    True
    """
    if isinstance(error, OSError | AssertionError | NotImplementedError) or not _raised_by_library(error):
        return None
    while isinstance(error.__cause__, Exception):  # jsonargparse wraps what a class said in all that it tried
        error = error.__cause__
    return " ".join(str(error.args[0] if error.args else error).split()) or None


def _raised_by_library(error: Exception) -> bool:
    """Whether the error comes from a ``raise`` of a library's own, not from an operation that failed there."""
    for frame, line in list(traceback.walk_tb(error.__traceback__))[-1:]:
        whose = frame.f_globals.get("__name__", "").partition(".")[0]
        return whose in _WHOSE and linecache.getline(frame.f_code.co_filename, line).lstrip().startswith("raise ")
    return False
