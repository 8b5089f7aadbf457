"""Parse the options of the tools."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from xner.data.sources import ReadOptions
from xner.errors import UserError


class ToolParser(argparse.ArgumentParser):
    """A parser whose errors are one line, and whose help says the default of each option."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(
            prog=f"xner {name}",
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Raise the error of an option."""
        raise UserError(message)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the option that names a trained model."""
    parser.add_argument("--model", required=True, help="model folder, as fit writes it to <root>/model, or hub name")


def add_tagger_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``Tagger`` that say how it predicts."""
    parser.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="precision of matrix products; bfloat16 is faster on a GPU and on a CPU with avx512_bf16 or amx_bf16",
    )
    parser.add_argument(
        "--decoding",
        choices=["greedy", "viterbi"],
        default="greedy",
        help="predict each word's best tag, or each text's best legal IOB2 sequence",
    )


def add_source(
    parser: argparse.ArgumentParser,
    languages: Sequence[str] | None = ("en", "tr"),
    languages_help: str = "language codes",
) -> None:
    """Add the options that say which sentences to read, and how.

    Args:
        parser: The parser of a tool.
        languages: The default of ``--languages``.
        languages_help: What ``--languages`` is for.
    """
    parser.add_argument(
        "--source",
        default="panx",
        help="panx (the hub's google/xtreme) or another preset, hub:<id> for any other data set on the hub, sample "
        "(embedded), or a folder with the splits of each language, such as tr/train.tsv (or .conll, .txt, .csv, "
        ".jsonl, .parquet)",
    )
    parser.add_argument("--languages", nargs="+", default=languages and [*languages], help=languages_help)
    parser.add_argument("--types", nargs="+", help="entity types, such as PER LOC; None takes those of the source")
    for name, help_text in (
        ("map_types", "new names of entity types, or O: '{PERSON: PER, DATE: O}'"),
        ("columns", "columns of the source, by name or number from 0: '{tokens: words, ner_tags: labels}'"),
        ("language_configs", "configuration on the hub of each language: '{en: en_ewt}'"),
    ):
        parser.add_argument(f"--{name}", type=as_mapping, default={}, help=help_text)


OPTIONS = {
    f"data.{name}": name for name in ("source", "languages", "types", "map_types", "columns", "language_configs")
}
"""The options of ``add_source`` by those of ``fit``, for ``options_called``."""


def reading_of(options: argparse.Namespace) -> ReadOptions:
    """Return how to read the source of ``add_source``.

    Raises:
        UserError: If a value is impossible.
    """
    reading = ReadOptions(
        types=None if options.types is None else tuple(as_list(options.types)),
        map_types=options.map_types,
        language_configs=options.language_configs,
        # A file whose columns have no names has numbers.
        columns={
            name: int(column) if column.removeprefix("-").isdecimal() else column
            for name, column in options.columns.items()
        },
    )
    reading.check()
    return reading


def languages_of(options: argparse.Namespace) -> list[str]:
    """Return the language codes of ``add_source``, each once.

    Raises:
        UserError: If there is none.
    """
    languages = as_list(options.languages)
    if not languages:
        raise UserError("languages=[] is empty; use language codes, such as en tr")
    return [*dict.fromkeys(languages)]


def as_list(values: Sequence[str]) -> list[str]:
    """Read a list given value by value, or in brackets as in a configuration.

    >>> as_list(["en", "tr"]), as_list(["[en,", "tr]"])
    (['en', 'tr'], ['en', 'tr'])
    """
    if values[0].startswith("[") and values[-1].endswith("]"):
        return " ".join(values)[1:-1].replace(",", " ").split()
    return list(values)


def as_mapping(text: str) -> dict[str, str]:
    """Read a mapping between names, given as in a configuration.

    Raises:
        ArgumentTypeError: If the text is something else.

    >>> as_mapping("{PERSON: PER, DATE: O}")
    {'PERSON': 'PER', 'DATE': 'O'}
    """
    import yaml

    try:
        # The base loader leaves names such as no and 1 as they are.
        mapping = yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError:
        mapping = None
    if not isinstance(mapping, dict) or not all(isinstance(each, str) for pair in mapping.items() for each in pair):
        raise argparse.ArgumentTypeError(f"{text!r} is not a mapping; use one such as '{{PERSON: PER}}'")
    return mapping
