"""Parser: LightningCLI's, whose errors are one line that names what may have been meant."""

import argparse
import difflib
import re
from collections.abc import Iterator
from typing import NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from xner.errors import UserError

_UNKNOWN = re.compile(r"(?:unrecognized arguments: --|does not accept option ')([\w.]+)")
_NO_LIST = re.compile(r'Parser key "([\w.]+)": Expected a <class \'collections.abc.Sequence\'>. Got value: (.+)')


class Parser(LightningArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what ``main`` prints as one line."""
        line = " ".join(str(message).split())
        if unknown := _UNKNOWN.search(line):
            names = {*_options(self)}
            groups = {name.partition(".")[0] for name in names if "." in name}
            near = difflib.get_close_matches(unknown[1], names - groups, n=1)
            line += "".join(f": did you mean --{name}?" for name in near)
        if wrong := _NO_LIST.search(line):
            name, value = wrong.groups()
            line = f'{name}={value} is no list: give "[{value}]"'
        raise UserError(line) from ex


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The names of a parser's options and of those of its commands."""
    for action in parser._actions:  # argparse has no other way to ask
        yield from (option.removeprefix("--") for option in action.option_strings if option.startswith("--"))
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                yield from _options(command)
