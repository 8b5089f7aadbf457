"""Tag sets: entity types, their IOB2 tags and labels; and the spans of a tag sequence."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from xner.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Int64 = npt.NDArray[np.int64]

OUTSIDE = 0
"""The label of ``O``, of a word outside all entities, which is also predicted for a word without pieces."""

IGNORE = -100
"""The label of a piece that is not scored."""

MOST_TYPES = 63
"""With more, a label would not fit into 8 bits."""

_TYPE = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]+")
"""A type is part of file formats that separate by white space."""


_NAME = "use a name without spaces and without B- or I-, not O"


def is_type(name: object) -> bool:
    """Return whether something can be the name of an entity type.

    >>> is_type("WORK_OF_ART"), is_type("B-PER"), is_type("O"), is_type("a b")
    (True, False, False, False)
    """
    return isinstance(name, str) and name != "O" and name[:2] not in ("B-", "I-") and bool(_TYPE.fullmatch(name))


@dataclass(frozen=True)
class TagSet:
    """Entity types in a fixed order, their tags under IOB2 (Ramshaw and Marcus 1995), and the labels of the tags.

    ``O`` has the label 0, and type ``t`` the labels ``2 * t + 1`` (``B-``) and ``2 * t + 2`` (``I-``).

    Args:
        types: The entity types, such as ``("PER", "ORG", "LOC")``.

    Raises:
        UserError: If there is no type, a type occurs twice or cannot be part of a tag, or there are more than 63.

    >>> TagSet(("PER", "LOC")).tags
    ('O', 'B-PER', 'I-PER', 'B-LOC', 'I-LOC')
    >>> TagSet(("PER", "LOC")).labels["I-LOC"]
    4
    """

    types: tuple[str, ...]

    def __post_init__(self) -> None:
        if isinstance(self.types, str):
            raise UserError(f"data.types={self.types!r} is a string; use a list of entity types")
        types = list(self.types)
        if not 1 <= len(types) <= MOST_TYPES:
            raise UserError(f"data.types={types} has {len(types)} entity types; use 1 to {MOST_TYPES}")
        for each in types:
            if not is_type(each):
                raise UserError(f"data.types={types}: {each!r} is not an entity type; {_NAME}")
        if len({*types}) < len(types):
            raise UserError(f"data.types={types} names a type twice; name each once")

    def __str__(self) -> str:
        return ", ".join(self.types)

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """The tags in the order of their labels."""
        return ("O", *(f"{prefix}-{each}" for each in self.types for prefix in "BI"))

    @cached_property
    def labels(self) -> dict[str, int]:
        """The label of each tag."""
        return {tag: label for label, tag in enumerate(self.tags)}

    @cached_property
    def legal_transitions(self) -> tuple[tuple[bool, ...], ...]:
        """Whether the tag of the second label may follow that of the first. *Shape:* (labels, labels)."""
        return tuple(tuple(may_follow(tag, previous) for tag in self.tags) for previous in self.tags)

    @classmethod
    def of_types(cls, types: Iterable[str]) -> "TagSet":
        """Make the tag set of types whose order is unknown: PAN-X's come first, in PAN-X's order, then the others.

        >>> TagSet.of_types({"MISC", "LOC", "PER", "DATE"}).types
        ('PER', 'LOC', 'DATE', 'MISC')
        """
        order = {each: place for place, each in enumerate(PANX.types)}
        return cls(tuple(sorted({*types}, key=lambda each: (order.get(each, len(order)), each))))

    @classmethod
    def of_tags(cls, tags: Iterable[str]) -> "TagSet | None":
        """Return the tag set that has exactly these tags, types in the order of their first tag; ``None`` without one.

        >>> TagSet.of_tags(["B-LOC", "I-LOC", "B-PER", "I-PER", "O"])
        TagSet(types=('LOC', 'PER'))
        >>> TagSet.of_tags(["O", "I-PER"]) is None
        True
        """
        tags = list(tags)
        types = tuple(dict.fromkeys(tag[2:] for tag in tags if tag[:2] in ("B-", "I-") and tag[2:]))
        found = cls(types) if types and len(types) <= MOST_TYPES and all(map(is_type, types)) else None
        return found if found and sorted(found.tags) == sorted(tags) else None


_WIKIPEDIAS = {"simple": "en", "be-x-old": "be", "als": "als", "roa-tara": "roa-tara"}
"""Codes of Wikipedias, and so of WikiANN, that have another meaning elsewhere: ``als`` is Alemannic."""

_SUBTAGS = re.compile(r"(-([a-z]{4}|[a-z]{2}|[0-9]{3}))+$")
"""Script and region, after the language (BCP 47)."""


def language_of(code: str) -> str:
    """Return the language of a treebank or of a variety, as the language codes of data sets name them.

    The codes of three letters of ISO 639 are those of two letters where there are any.

    >>> [language_of(code) for code in ("en", "en_pud", "simple", "be-x-old", "zh-yue")]
    ['en', 'en', 'en', 'be', 'zh-yue']
    >>> [language_of(code) for code in ("pt-BR", "zh-Hant-TW", "EN", "tur", "yor_Latn", "bat-smg")]
    ['pt', 'zh', 'en', 'tr', 'yo', 'bat-smg']
    """
    from babel.core import get_global  # here, because tools start without it

    code = code.partition("_")[0].lower()
    if code in _WIKIPEDIAS:
        return _WIKIPEDIAS[code]
    code = _SUBTAGS.sub("", code)
    short = str(get_global("language_aliases").get(code, "")).partition("_")[0]
    return short if len(code) == 3 and len(short) == 2 else code


PANX = TagSet(("PER", "ORG", "LOC"))
"""The tag set of PAN-X, with the labels of ``google/xtreme`` on the Hugging Face Hub (Hu et al. 2020)."""


class Span(NamedTuple):
    """An entity: its type, and the indices of its first and last word (inclusive)."""

    type: str
    first: int
    last: int


def spans(tags: Sequence[str]) -> list[Span]:
    """Find the entities of a sentence by the rules of seqeval's default mode.

    A span starts at a ``B-`` tag, and at an ``I-`` tag that does not continue a span of its type, so ``I-PER I-PER`` is
    a span (a lenient reading of Ramshaw and Marcus 1995).

    Args:
        tags: The tag of each word. *Length:* words.

    Returns:
        The spans, from left to right.

    >>> spans(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
    [Span(type='PER', first=0, last=1), Span(type='LOC', first=3, last=3), Span(type='LOC', first=4, last=4)]
    """
    found: list[Span] = []
    for word, tag in enumerate(tags):
        if tag == "O":
            continue
        prefix, _, kind = tag.partition("-")
        if prefix == "I" and found and found[-1].last == word - 1 and found[-1].type == kind:
            found[-1] = found[-1]._replace(last=word)
        else:
            found.append(Span(kind, word, word))
    return found


class LabelSpans(NamedTuple):
    """The spans of a split, from left to right. *Shape of each:* (spans,).

    Attributes:
        type: Index into the entity types of the tag set.
        first: First word, counted from the first word of the split.
        last: Last word, inclusive.
    """

    type: "Int64"
    first: "Int64"
    last: "Int64"


def find_spans(labels: "npt.ArrayLike", sentence_words: "npt.ArrayLike") -> LabelSpans:
    """Find the spans of all sentences, as ``spans`` does for one.

    Args:
        labels: One label per word, sentence after sentence. *Shape:* (words,)
        sentence_words: Number of words per sentence. *Shape:* (sentences,)
    """
    import numpy as np  # here, because tools start without it

    labels = np.asarray(labels, dtype=np.int64)
    inside = labels != OUTSIDE
    types = (labels - 1) // 2
    continues = np.zeros(len(labels), dtype=np.bool_)
    continues[1:] = inside[1:] & (labels[1:] % 2 == 0) & inside[:-1] & (types[1:] == types[:-1])
    starts = np.cumsum(np.asarray(sentence_words, dtype=np.int64))[:-1]
    continues[starts[starts < len(labels)]] = False
    ends = inside.copy()
    ends[:-1] &= ~continues[1:]
    first = np.flatnonzero(inside & ~continues)
    return LabelSpans(types[first], first, np.flatnonzero(ends))


def may_follow(tag: str, previous: str) -> bool:
    """Return whether IOB2 allows a tag after another; a sentence begins as after ``O``.

    >>> may_follow("I-PER", "B-PER"), may_follow("I-PER", "O"), may_follow("B-LOC", "I-PER")
    (True, False, True)
    """
    return not tag.startswith("I-") or previous[1:] == tag[1:]


def invalid_tags(tags: Sequence[str]) -> int:
    """Count the tags of a sentence that are invalid under IOB2: each ``I-`` that does not continue a span of its type.

    >>> invalid_tags(["I-PER", "I-PER", "O", "B-LOC", "I-ORG"])
    2
    """
    return sum(not may_follow(tag, previous) for previous, tag in zip(["O", *tags], tags, strict=False))
