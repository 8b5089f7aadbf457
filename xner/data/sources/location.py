"""Where the sentences of a language are: what a folder and a data set on the hub have in common."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from xner.data.sources.scheme import Survey
from xner.data.sources.sentences import Rows
from xner.errors import UserError, did_you_mean

SPLITS = ("train", "validation", "test")

SPLIT_NAMES = {each: each for each in SPLITS} | dict.fromkeys(("dev", "valid", "val", "eval"), "validation")
"""The split by the name that a source has for it."""


class Location(Protocol):
    """The splits of one language of a source. Each method takes the name of a split that is in the source.

    To add a kind of source, write a class with these members and construct it in ``locate``.
    """

    @property
    def known(self) -> Survey | None:
        """The survey of every split where it is known in advance; ``None`` where the splits are read first."""

    def splits(self) -> Sequence[str]:
        """Return the names of the splits, in the order of ``SPLITS``."""

    def check(self, name: str) -> None:
        """Check the language and the split, as far as that is possible without a network.

        Raises:
            UserError: If the source, the language or the split does not exist.
        """

    def where(self, name: str) -> str:
        """Return the data set or file of a split, for messages."""

    def content(self, name: str) -> Iterable[bytes]:
        """Return what changes with the content of a split, without parsing it."""

    def rows(self, name: str) -> Rows:
        """Open a split.

        Raises:
            RunError: If it cannot be read, or contains something other than sentences with tags.
        """


def check_choice(option: str, value: str, choices: Sequence[str], where: str) -> None:
    """Check that a value is one of some choices.

    Args:
        option: What the value is of, for the error.
        value: The value.
        choices: The choices.
        where: What has these choices, for the error.

    Raises:
        UserError: If it is not.
    """
    if value not in choices:
        raise UserError(f"{option} {value!r} is not in {where}; {did_you_mean(value, choices)}")


def check_split(name: str, names: Sequence[str], where: str) -> None:
    """Check that a source has a split.

    Args:
        name: The split.
        names: The splits of the source.
        where: The source, for the error.

    Raises:
        UserError: If it has not.
    """
    if name == "validation" and name not in names and "train" in names:
        raise UserError(
            f"split 'validation' is not in {where}; add validation.tsv (or dev, valid, val, eval), or take it from the "
            "training split with data.validation_fraction=0.1"
        )
    check_choice("split", name, names, where)
