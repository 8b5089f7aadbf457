"""Sentences with tags: as a reader finds them in a file, and as the rest of xner uses them."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from xner.errors import UserError
from xner.tags import is_type

MOST_WORDS = 50_000
"""Number of words of a sentence above which it is refused: all of its windows are in one batch, about 200 of 512 pieces
at this number, and a file whose blank lines are missing is a single sentence."""


class Sentence(NamedTuple):
    """A sentence: its words, and as many tags."""

    words: list[str]
    tags: list[str]


@dataclass(frozen=True)
class Sentences:
    """The sentences of one split: as many tags as words, all tags in IOB2, no sentence empty.

    Attributes:
        words: The words of each sentence.
        tags: The tags of each sentence.
    """

    words: list[list[str]]
    tags: list[list[str]]

    @classmethod
    def of(cls, sentences: Iterable[Sentence]) -> "Sentences":
        """Collect sentences."""
        collected = cls([], [])
        for words, tags in sentences:
            collected.words.append(words)
            collected.tags.append(tags)
        return collected

    def __len__(self) -> int:
        return len(self.words)

    def __iter__(self) -> Iterator[Sentence]:
        return map(Sentence._make, zip(self.words, self.tags, strict=True))

    @cached_property
    def digest(self) -> str:
        """Compute a SHA-256 of words and tags, which does not depend on the format that they were read from."""
        digest = hashlib.sha256()
        for sentence in self:
            digest.update(content_of(sentence))
        return digest.hexdigest()


def content_of(sentence: Sentence) -> bytes:
    """Format a sentence as in a ``.tsv`` file; the digest of a split is the SHA-256 of its sentences in this form."""
    words, tags = sentence
    return "".join([*(f"{word}\t{tag}\n" for word, tag in zip(escaped_words(words), tags, strict=True)), "\n"]).encode()


_SEPARATOR = re.compile(r"[\t\n\\]")
_ESCAPES = str.maketrans({"\t": r"\t", "\n": r"\n", "\\": r"\\"})


def escaped_words(words: Sequence[str]) -> Sequence[str]:
    r"""Escape the tabs and newlines in words, which JSON can hold, so that texts that join words by them differ.

    >>> print(*escaped_words(["New\tYork", "is"]))
    New\tYork is
    """
    return [word.translate(_ESCAPES) for word in words] if _SEPARATOR.search("".join(words)) else words


class Row(NamedTuple):
    """A sentence as a reader finds it; ``Split`` checks it and converts its tags.

    Attributes:
        words: The words.
        tags: As many tags, or ``None`` where the file has none.
        place: The number of the line or row of the first word.
        step: 1 where each word has a line of its own, 0 where the sentence has one.
        places: The line of each word where the lines do not follow one another.
        id: The identifier that the file gives the sentence; ``None`` where it gives none, or where tags are read.
    """

    words: Sequence[object]
    tags: Sequence[object] | None
    place: int
    step: int = 0
    places: Sequence[int] = ()
    id: object = None

    def place_of(self, word: int) -> int:
        """Return the number of the line or row of a word."""
        return self.places[word] if self.places else self.place + word * self.step


class Rows(NamedTuple):
    """The sentences of a file, as a reader finds them.

    Attributes:
        rows: The sentences, in the order of the file.
        unit: What ``Row.place`` counts, ``line`` or ``row``.
        types: The entity types that the file declares, as the names of a class label do; ``None`` where it declares
            none.
    """

    rows: Iterable[Row]
    unit: str = "line"
    types: Sequence[str] | None = None


Column = str | int
"""The name of a column, or its number from 0; negative numbers count from the last."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """The options of reading a source, ``data.<name>`` on the command line.

    Attributes:
        columns: The file's column by the name that xner has for it, such as ``{"tokens": "words"}``.
        types: Entity types; ``None`` takes them from the source.
        map_types: The new name of an entity type, or ``O``, by its name in the source.
        validation_fraction: Part of the training sentences that becomes the validation split of a language without one.
        shuffle_seed: Seed of the choice of that part.
        language_configs: The configuration of a data set on the hub by language, where it is not the usual one.
        tagged: Whether tags are read; without, every word has the tag ``O``, whatever tags the file has.
    """

    columns: Mapping[str, Column] = field(default_factory=dict)
    types: tuple[str, ...] | None = None
    map_types: Mapping[str, str] = field(default_factory=dict)
    validation_fraction: float | None = None
    shuffle_seed: int = 0
    language_configs: Mapping[str, str] = field(default_factory=dict)
    tagged: bool = True

    def column(self, name: str) -> Column:
        """Return the file's column of a name, by default the name itself."""
        return self.columns.get(name, name)

    def check(self) -> None:
        """Check the values that need no data.

        Raises:
            UserError: If one is impossible.
        """
        fraction = self.validation_fraction
        if fraction is not None and not 0 < fraction < 1:
            raise UserError(f"data.validation_fraction={fraction} is not between 0 and 1; use a fraction such as 0.1")
        for old, new in self.map_types.items():
            if new != "O" and not is_type(new):
                raise UserError(
                    f"data.map_types={{{old}: {new!r}}} is not an entity type; use a name without spaces and without "
                    "B- or I-, or O to drop the type"
                )
        if unknown := self.columns.keys() - COLUMNS.keys():
            raise UserError(f"data.columns names {min(unknown)!r}; use {', '.join(COLUMNS)}")


COLUMNS = {
    "tokens": "the words",
    "ner_tags": "their tags",
    "sentence": "the number or name of the sentence, where each word has a row of its own",
    "text": "raw text",
    "entities": "entities by their first character, the one after their last, and their type",
    "language": "the language of the sentence, where a data set on the hub has several in one configuration",
    "id": "an identifier, copied to predictions",
}
"""The columns that readers know, by the names that ``data.columns`` gives other names."""
