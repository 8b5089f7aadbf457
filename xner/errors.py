"""A user's mistakes: each is one clear line, never a traceback.

The exit code is 2 where what was asked for is wrong: an option's value, a path that is not there or is not of the kind
that was asked for, a folder of another run. It is 1 where what was asked for is right, but fails: damaged or wrong
data, the network, the disk, another process, a training that diverges.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager


class UserError(ValueError):
    """What was asked for cannot be done as asked; its text names the option, the value and what would do."""

    exit_code = 2


@contextmanager
def options_called(names: Mapping[str, str]) -> Iterator[None]:
    """Let a tool's errors name its own options, where what it calls names those of ``fit``.

    Args:
        names: The tool's option by that of ``fit``, as ``{"data.source": "source"}``.

    Raises:
        UserError: As the block raises it, with the tool's names.
    """
    try:
        yield
    except UserError as error:
        text = str(error)
        for name, own in names.items():
            text = text.replace(f"--{name}", f"--{own}").replace(name, own)
        raise type(error)(text) from error


class Stopped(UserError):
    """The user, or the system, stopped the command; its text says how to go on."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RunError(UserError):
    """What was asked for was well formed, but the data, the network or the disk stands in its way."""

    exit_code = 1


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
