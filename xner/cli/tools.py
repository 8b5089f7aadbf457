"""A function as a command: its signature gives the options, its docstring their help.

jsonargparse does this too, but takes a list only as ``[en,tr]``, never as ``en tr``, and no texts without an option.
"""

import argparse
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, get_args, get_origin

from xner.errors import UserError


def run_command(function: Callable[..., None], args: Sequence[str], prog: str) -> None:
    """Call a function with options from the command line.

    Args:
        function: ``*texts`` takes what belongs to no option; a parameter that is ``False`` by default takes no value, a
            sequence one or more, any other one. Its docstring says in Args what each is.
        args: The arguments.
        prog: The command's name, for its help.

    Raises:
        UserError: If the arguments do not fit.
    """
    parameters = inspect.signature(function).parameters
    text = inspect.getdoc(function) or ""
    about = dict(re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", text, re.MULTILINE))
    parser = _Parser(prog=prog, description=text.partition("\n\nArgs:")[0], allow_abbrev=False)
    rest = ""
    for name, parameter in parameters.items():
        said = " ".join(about[name].split()).replace("%", "%%")
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = name
            parser.add_argument(name, nargs="*", metavar=name.removesuffix("s").upper(), help=said)
        else:
            parser.add_argument(f"--{name}", **_taken(parameter), help=said + _default(parameter))
    options = vars(parser.parse_intermixed_args(args))
    function(*options.pop(rest, ()), **options)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


class _List(argparse.Action):
    """Takes ``en tr``, and ``[en,tr]`` as the commands with a configuration do."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option: object = None) -> None:  # noqa: ANN401 - as the base class has it
        if values[0].startswith("[") and values[-1].endswith("]"):
            values = " ".join(values)[1:-1].replace(",", " ").split()
        setattr(namespace, self.dest, values)


def _taken(parameter: inspect.Parameter) -> dict[str, Any]:
    """What argparse is to know of an option's values."""
    if parameter.default is False:
        return {"action": "store_true"}
    taken = {"required": True} if parameter.default is parameter.empty else {"default": parameter.default}
    kind = next((one for one in get_args(parameter.annotation) if one is not type(None)), parameter.annotation)
    if get_origin(parameter.annotation) is Sequence:
        return {**taken, "type": kind, "nargs": "+", "action": _List}
    return {**taken, "type": kind}


def _default(parameter: inspect.Parameter) -> str:
    value = parameter.default
    if value is parameter.empty or value is None or value is False:
        return ""
    return f" (default: {' '.join(map(str, value)) if isinstance(value, tuple) else value})".replace("%", "%%")
