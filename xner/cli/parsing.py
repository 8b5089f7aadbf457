"""Parse the options of the tools."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

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


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which sentences to read."""
    parser.add_argument(
        "--source",
        default="panx",
        help="panx (the hub's google/xtreme), sample (embedded), or a folder with the splits of each language, such as "
        "tr/train.tsv (or .conll, .txt, .jsonl, .parquet)",
    )
    parser.add_argument("--languages", nargs="+", default=["en", "tr"], help="language codes")


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
