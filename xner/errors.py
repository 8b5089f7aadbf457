"""Errors that a user causes or can act on: each becomes one line on the terminal, never a traceback.

The exit code is 2 where the request is wrong: an option's value, a path that does not exist or is of the wrong kind, a
folder of another run. It is 1 where the request is right but fails: damaged or invalid data, the network, the disk,
another process, a training run that diverges. It is 3 where ``audit`` finds what ``--fail_on`` names.
"""

import difflib
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager


class UserError(ValueError):
    """A request that cannot be carried out as given; the text names the option, its value and what to use instead."""

    exit_code = 2


class RunError(UserError):
    """A valid request that failed because of the data, the network, the disk or another process."""

    exit_code = 1


class Stopped(UserError):
    """A command that the user or the system stopped; the text says how to continue it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def options_called(names: Mapping[str, str]) -> Iterator[None]:
    """Rename options in the errors raised within a block, for tools whose options have other names than those of fit.

    Args:
        names: The tool's option by the option of ``fit``, such as ``{"data.source": "source"}``.

    Raises:
        UserError: As raised in the block, with the tool's names.
    """
    try:
        yield
    except UserError as error:
        text = str(error)
        for name, own in names.items():
            text = text.replace(f"--{name}", f"--{own}").replace(name, own)
        error.args = (text,)
        raise


def did_you_mean(value: str, choices: Sequence[str]) -> str:
    """Suggest what to use in place of a value that is not among the choices.

    >>> did_you_mean("tur", ["en", "tr"])
    "did you mean 'tr'? Choose from en, tr"
    >>> did_you_mean("xx", ["en", "tr"])
    'choose from en, tr'
    """
    near = [repr(choice) for choice in difflib.get_close_matches(value, choices, n=3, cutoff=0.4)]
    if not choices:
        return "none is available"
    return (f"did you mean {' or '.join(near)}? Choose" if near else "choose") + f" from {', '.join(choices)}"


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 80
_BRIEF.maxlevel = 3


def quoted(value: object) -> str:
    """Format a value from a file for a message, and cut it where it is long or deeply nested.

    >>> quoted("B-PER")
    "'B-PER'"
    >>> len(quoted("x" * 50_000_000))
    80
    """
    return _BRIEF.repr(value)


def listed(names: Iterable[object]) -> str:
    """List names from a file for a message, and cut the list where it is long.

    >>> listed(["words", "tags"])
    'words, tags'
    """
    # A name may be as long as the file, and contain newlines.
    text = ", ".join(name if len(name) < 80 and name.isprintable() else quoted(name) for name in map(str, names))
    return text if len(text) <= 300 else f"{text[:300]}..."


def check_seed(option: str, seed: int) -> None:
    """Check that a seed is in the range that numpy accepts.

    Args:
        option: The option that has it.
        seed: The seed.

    Raises:
        UserError: If it is not.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"{option}={quoted(seed)} is out of range; use 0 to {2**32 - 1}")
