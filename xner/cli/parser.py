"""Parser: LightningCLI's, whose errors are one line, and which takes from a configuration what is for its command."""

import argparse
import difflib
import re
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from xner.errors import UserError

_UNKNOWN = re.compile(r"(?:unrecognized arguments: --|does not accept option ')([\w.]+)")
_NO_LIST = re.compile(r'Parser key "([\w.]+)": Expected a <class \'collections.abc.Sequence\'>. Got value: (.+)')


RESOLVED = "# The resolved configuration of an xner run: every option, asked for or not.\n"
"""The first line of a run's own config.yaml."""


class Parser(LightningArgumentParser):
    """A parser whose errors are one line.

    Attributes:
        of_other_commands: Options of other commands, which a configuration may hold as well.
        not_asked_for: Options that a run's own config.yaml holds though nobody gave them, and that this command sets
            itself.
    """

    of_other_commands: Collection[str] = ()
    not_asked_for: Collection[str] = ()

    def parse_string(self, content: str, *args: Any, **options: Any) -> Namespace:  # noqa: ANN401 - as the base class has it
        """Parse a configuration without what is not for this command."""
        left_out = {*self.of_other_commands, *(self.not_asked_for if content.startswith(RESOLVED) else ())}
        parsed: Namespace = super().parse_string(_without(content, left_out), *args, **options)
        return parsed

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


def _without(content: str, names: Collection[str]) -> str:
    """Take some options out of a YAML text, and leave the others as they are written; no YAML is left as it is."""
    try:
        root = yaml.compose(content)
    except yaml.YAMLError:
        return content
    if not isinstance(root, yaml.MappingNode):
        return content
    whole = len(root.value)
    root.value = [(key, value) for key, value in root.value if key.value not in names]
    changed = len(root.value) < whole
    for group, node in root.value:
        if isinstance(node, yaml.MappingNode):
            whole = len(node.value)
            node.value = [(key, value) for key, value in node.value if f"{group.value}.{key.value}" not in names]
            changed |= len(node.value) < whole
    return str(yaml.serialize(root)) if changed else content


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The names of a parser's options and of those of its commands."""
    for action in parser._actions:  # argparse has no other way to ask
        yield from (option.removeprefix("--") for option in action.option_strings if option.startswith("--"))
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                yield from _options(command)
