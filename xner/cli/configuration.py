"""Configurations: the parser of options, YAML files, and the resolved options of a command."""

import difflib
import json
import math
import re
from argparse import Action
from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from itertools import chain
from operator import or_
from pathlib import Path
from typing import Any, NoReturn, get_args

import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.cli import LightningArgumentParser

from xner.cli.exits import brief
from xner.errors import UserError, quoted
from xner.files import is_unicode

RESOLVED = """\
# The resolved configuration of an xner run: every option, given or not.
# The command adds callbacks to trainer.callbacks: progress (unless trainer.enable_progress_bar is false), and some that
# cannot be left out, such as LineageCallback, the record of what the weights were trained on.
"""
"""The first lines of a run's own config.yaml."""

GROUPS = ("model", "data", "trainer")
"""The groups of options."""

_MOST_NODES = 100_000
"""Number of values of a configuration, aliases written out, above which it is an attack or an accident."""

_MOST_CHARACTERS = 1_000_000
"""Number of characters of a configuration above which reading it would take seconds."""

_UNKNOWN = re.compile(r"(?:unrecognized arguments: --|does not accept option ')([\w.]+)")
_NO_SUBTYPE = re.compile(
    r'Parser key "([\w.]+)": Does not validate .*? Subtypes: (\[.*?NoneType.*?\]) Errors: .* Given value: (.+)'
)
_KINDS = {
    "Sequence": "a list, such as [a, b],",
    "Mapping": "a mapping, such as {a: b},",
    "dict": "a mapping, such as {a: b},",
    "int": "an integer",
    "float": "a number",
}
"""How an error describes the types of Python that an option may have."""
_NOT_A_LIST = re.compile(r'Parser key "([\w.]+)": Expected a <class \'collections.abc.Sequence\'>. Got value: (.+)')


class Parser(LightningArgumentParser):
    """A parser that reports each error in one line and ignores the options of other commands in a configuration.

    Attributes:
        of_other_commands: Options of other commands, which a configuration may hold as well.
        not_given: Options that a run's own config.yaml holds although nobody gave them.
        class_path: The class of the model, where it is not ``TokenClassifier``.
    """

    of_other_commands: Collection[str] = ()
    not_given: Collection[str] = ()
    class_path: str | None = None

    def add_argument(self, *args: Any, **options: Any) -> Action:  # noqa: ANN401 - as in the base class
        """Add an option; one that may be a whole number or a fraction reads 1 as a whole number.

        In Lightning, 1 is one batch and 1.0 all of them. jsonargparse tries the members of a union in their order, and
        ``typing`` gives the union that any library has made first for all that are equal to it but for the order.
        """
        kind = options.get("type")
        if {int, float} <= {*get_args(kind)}:
            members = sorted(get_args(kind), key=lambda member: member is not int)
            options["type"] = reduce(or_, members)
        action: Action = super().add_argument(*args, **options)
        return action

    def parse_string(self, content: str, *args: Any, **options: Any) -> Namespace:  # noqa: ANN401 - as in the base class
        """Parse a configuration without the options that are not for this command."""
        names = {*self.of_other_commands, *(self.not_given if content.startswith(RESOLVED) else ())}
        parsed: Namespace = super().parse_string(_prepare(content, names), *args, **options)
        return parsed

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise an error of one line, with a suggestion where an option is unknown.

        Raises:
            UserError: Always.
        """
        line = " ".join(str(message).split())
        if unknown := _UNKNOWN.search(line):
            names = [name for name in options_of(self) if name not in GROUPS]
            near = difflib.get_close_matches(unknown[1], names, n=1)
            line += "".join(f": did you mean --{name}?" for name in near)
        if wrong := _NOT_A_LIST.search(line):
            instead = "leave the option out" if wrong[2] == "None" else f'use "[{wrong[2]}]"'
            line = f"{wrong[1]}={wrong[2]} is not a list; {instead}"
        if wrong := _NO_SUBTYPE.search(line):
            outer = re.sub(r"\[[^\[\]]*\]", "", wrong[2][1:-1])  # without the types of elements
            use = [text for kind, text in _KINDS.items() if re.search(rf"\b{kind}\b", outer)]
            if use and "Literal" not in outer:
                line = f"{wrong[1]}={wrong[3]} is not valid; use {' or '.join(dict.fromkeys([*use, 'null']))}"
        raise UserError(line) from ex


def resolved_yaml(parser: Parser, options: Namespace) -> str:
    """Return the text of a configuration with all options, and with the class of the model if it is another."""
    text = str(parser.dump(options, skip_none=False))
    if parser.class_path:
        content = yaml.safe_load(text)
        content["model"] = {"class_path": parser.class_path, "init_args": content["model"]}
        text = yaml.safe_dump(content, sort_keys=False)
    return RESOLVED + text


def as_json(parser: Parser, options: Namespace) -> dict[str, Any]:
    """Return all options of a command by group and name, as JSON values."""
    found: dict[str, Any] = json.loads(parser.dump(options, skip_none=False, skip_link_targets=False, format="json"))
    found["model"]["class_path"] = parser.class_path or "xner.TokenClassifier"
    return found


def named(parser: Parser, options: Namespace) -> dict[str, Any]:
    """Return all options of a command by their name on the command line, such as ``data.languages``."""
    found = as_json(parser, options)
    grouped = {f"{group}.{name}": value for group in GROUPS for name, value in found[group].items()}
    return {**grouped, **{name: value for name, value in found.items() if name not in GROUPS}}


def check_values(values: Mapping[str, Any]) -> None:
    """Check the values that have the type of their option, but that no option can have.

    Args:
        values: The values of all options, by name.

    Raises:
        UserError: If there is one.
    """
    inner = {
        f"{name}.{key}": each
        for name, group in values.items()
        if isinstance(group, dict)
        for key, each in group.items()
    }
    for name, value in {**values, **inner}.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{name}={value} is not finite; use a finite number, or leave the option out")
        most = 2**31 if name in ("trainer.devices", "trainer.num_nodes") else 2**63
        is_number = isinstance(value, int) or (name == "trainer.devices" and str(value).isdecimal())
        if is_number and abs(int(value)) >= most:
            raise UserError(f"{name}={quoted(int(value))} is out of range; use a smaller number")
        # A configuration may have them as escapes.
        if isinstance(value, str) and not is_unicode(value):
            raise UserError(f"{name}={quoted(value)} is not UTF-8 without NUL; use other characters")
    for name in ("trainer.val_check_interval", "trainer.check_val_every_n_epoch"):
        if isinstance(values[name], int | float) and values[name] <= 0:
            raise UserError(f"{name}={values[name]} is not positive; use 1 or more, or trainer.limit_val_batches=0")
    for name in ("min_epochs", "min_steps", "log_every_n_steps", "gradient_clip_val"):
        if (value := values[f"trainer.{name}"]) is not None and value < 0:
            raise UserError(f"trainer.{name}={value} is negative; use 0 or more")


def read_configuration(config: str, option: str = "config") -> Any:  # noqa: ANN401 - whatever a text of YAML is
    """Read and check a configuration: a mapping where it is a file, anything where it is the text itself.

    Args:
        config: A file or its text.
        option: What the configuration is called in an error.

    Raises:
        UserError: If it is not UTF-8, not YAML, not a mapping, or too large.
    """
    try:
        file = Path(config)
        text = file.read_text(encoding="utf-8") if file.is_file() else config
    except UnicodeDecodeError as error:
        raise UserError(f"{option}={config} is not UTF-8 ({error.reason}); use a YAML file") from error
    except OSError:  # the text of a configuration is too long for a name; a file that is missing is left to the parser
        text = config
    content = _read_yaml(f"{option}={config}", text)
    if text is not config and not isinstance(content, dict):
        example = "model: {learning_rate: 2e-5}" if option == "config" else "{name: value}"
        raise UserError(f"{option}={config} is not a mapping of options; use YAML such as {example}")
    return content


def _read_yaml(given: str, text: str) -> Any:  # noqa: ANN401 - whatever the text is
    """Read a configuration whose aliases neither contain themselves nor repeat too much."""
    if len(text) > _MOST_CHARACTERS:
        raise UserError(f"{brief(given)} has more than {_MOST_CHARACTERS:,} characters; use fewer")
    try:
        size = _size_of(yaml.compose(text, yaml.SafeLoader), {}) if text else 0
        if size > _MOST_NODES:
            raise UserError(
                f"{given} has more than {_MOST_NODES:,} values with its aliases written out, or an alias that "
                "contains itself; use fewer"
            )
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{given} is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise UserError(f"{given} is nested too deeply; use fewer levels") from error


def _size_of(node: yaml.Node | None, sizes: dict[int, float]) -> float:
    """Count the values of a YAML text with each alias written out; infinite where one contains itself."""
    if id(node) not in sizes:
        sizes[id(node)] = math.inf  # until all that it contains is counted
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        nodes = chain.from_iterable(inner) if isinstance(node, yaml.MappingNode) else inner
        sizes[id(node)] = 1 + sum(_size_of(each, sizes) for each in nodes)
    return sizes[id(node)]


def _prepare(content: str, names: Collection[str]) -> str:
    """Remove some options and the class of the model from a YAML text, and leave the rest as it is written."""
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
            entries = {key.value: value for key, value in node.value}
            if group.value == "model" and "class_path" in entries:
                node.value = entries["init_args"].value if "init_args" in entries else []
                changed = True
            whole = len(node.value)
            node.value = [(key, value) for key, value in node.value if f"{group.value}.{key.value}" not in names]
            changed |= len(node.value) < whole
    return str(yaml.serialize(root)) if changed else content


def options_of(parser: ArgumentParser) -> Iterator[str]:
    """Yield the names of a parser's options and of those of its commands."""
    for action in parser._actions:  # argparse has no other way to ask
        yield from (option.removeprefix("--") for option in action.option_strings if option.startswith("--"))
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                yield from options_of(command)
