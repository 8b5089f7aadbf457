"""Recognise the scheme of tags, and convert it to IOB2.

Schemes (Ramshaw and Marcus 1995; Tjong Kim Sang and Veenstra 1999; Ratinov and Roth 2009):

- IOB2: every entity begins with ``B-`` and continues with ``I-``;
- IOB1: an entity consists of ``I-``, and begins with ``B-`` only right after another one of its type;
- BIOES and BILOU: as IOB2, with ``E-`` or ``L-`` on the last of several words, ``S-`` or ``U-`` on a single word.

A conversion decides on each tag by the tag before it, so everything here is a function of pairs of tags.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from xner.errors import quoted
from xner.tags import is_type

Scheme = Literal["IOB1", "IOB2", "BIOES", "BILOU"]

Pair = tuple[str, str]
"""The tag of the word before, ``O`` at the start of a sentence, and the tag of a word."""

_TAG = re.compile(r"[BIESLU]-[^\s\x00-\x1f\x7f-\x9f]+")
_ENDS = {"E": "BIOES", "S": "BIOES", "L": "BILOU", "U": "BILOU"}
"""The scheme by the prefixes that it has and IOB2 does not."""


class _Parts(NamedTuple):
    """The prefix and the entity type of a tag, both empty for ``O``."""

    prefix: str
    type: str


def _parts(tag: str) -> _Parts:
    return _Parts("", "") if tag == "O" else _Parts(tag[0], tag[2:])


def is_tag(text: object) -> bool:
    """Return whether something is a tag of one of the schemes."""
    return text == "O" or (isinstance(text, str) and bool(_TAG.fullmatch(text)) and is_type(text[2:]))


class TagCheck:
    """Check the tags of a split one by one.

    Args:
        types: The entity types, after ``map_types``; ``None`` allows all.
        map_types: The new name of an entity type, or ``O``, by its own name.
    """

    def __init__(self, types: Sequence[str] | None, map_types: Mapping[str, str]) -> None:
        self.types = types
        self.map_types = map_types
        self._known = {"O"}
        self._ends: dict[str, str] = {}

    def first_problem(self, tags: Sequence[object]) -> tuple[int, str] | None:
        """Return the index of the first tag that is invalid and what is wrong with it; ``None`` where all are valid."""
        try:
            if self._known.issuperset(tags):
                return None
        except TypeError:  # an unhashable object, which is not a tag
            pass
        return next(((index, text) for index, tag in enumerate(tags) if (text := self._problem(tag))), None)

    def _problem(self, tag: object) -> str:
        """Return what is wrong with a tag, empty if nothing is, and remember it."""
        if not isinstance(tag, str) or not is_tag(tag):
            return (
                f"unknown tag {quoted(tag)}; use O and tags such as B-PER and I-PER (IOB1, IOB2), also E-PER and S-PER "
                "(BIOES) or L-PER and U-PER (BILOU)"
            )
        prefix, kind = _parts(tag)
        scheme = _ENDS.get(prefix)
        for other, earlier in self._ends.items():
            if scheme not in (None, other):
                return f"tag {quoted(tag)} of {scheme}, after {quoted(earlier)} of {other}; use one scheme in a file"
        if kind and self.types is not None and self.map_types.get(kind, kind) not in ("O", *self.types):
            use = f"use {', '.join(self.types)}, or give the type another name, or O, with data.map_types"
            renamed = f", renamed {self.map_types[kind]!r}," if kind in self.map_types else ""
            return f"the entity type {quoted(kind)} of tag {quoted(tag)}{renamed} is not in data.types; {use}"
        if scheme:
            self._ends.setdefault(scheme, tag)
        self._known.add(tag)
        return ""


def pairs_of(tags: Sequence[str]) -> Iterable[Pair]:
    """Pair each tag of a sentence with the one before it."""
    return zip(["O", *tags], tags, strict=False)


def recognise(pairs: Iterable[Pair]) -> Scheme:
    """Recognise the scheme of a split by its distinct pairs of tags.

    IOB1 is recognised where some entity begins with ``I-`` and every ``B-`` follows a tag of its type. An ``I-`` that
    begins an entity in a split with other ``B-`` tags is an invalid tag of IOB2, as PAN-X has some hundreds.

    >>> recognise([("O", "I-PER"), ("I-PER", "B-PER")])
    'IOB1'
    >>> recognise([("O", "I-PER"), ("O", "B-PER")])
    'IOB2'
    """
    begins_with_i, begins_with_b = False, False
    for previous, tag in pairs:
        (prefix, kind), before = _parts(tag), _parts(previous)
        if prefix in _ENDS:
            return "BIOES" if _ENDS[prefix] == "BIOES" else "BILOU"
        begins_with_i |= prefix == "I" and before.type != kind
        begins_with_b |= prefix == "B" and before.type != kind
    return "IOB1" if begins_with_i and not begins_with_b else "IOB2"


@dataclass(frozen=True)
class Survey:
    """The result of a first reading of a split.

    Attributes:
        scheme: The scheme of its tags.
        types: The entity types that the split declares, or else those of its tags, before they are mapped.
        converted: Number of tags that differ in IOB2.
        sentences: Number of sentences.
    """

    scheme: Scheme
    types: tuple[str, ...]
    converted: int
    sentences: int


def survey(sentences: Iterable[Sequence[str]], types: Sequence[str] | None = None) -> Survey:
    """Read the tags of all sentences of a split.

    Args:
        sentences: The tags of each sentence.
        types: The entity types that the split declares.
    """
    pairs: Counter[Pair] = Counter()
    count = 0
    for tags in sentences:
        pairs.update(pairs_of(tags))
        count += 1
    scheme = recognise(pairs)
    convert = Conversion(scheme, {})
    converted = sum(number for pair, number in pairs.items() if convert[pair] != pair[1])
    found = sorted({_parts(tag).type for _, tag in pairs} - {""}) if types is None else types
    return Survey(scheme, tuple(found), converted, count)


class Conversion(dict[Pair, str]):
    """The tag in IOB2, with its type mapped, by the pair of a tag and the one before it.

    Args:
        scheme: The scheme of the tags.
        map_types: The new name of an entity type, or ``O``, by its own name.

    >>> Conversion("BIOES", {"GPE": "LOC"}).sentence(["S-GPE", "B-PER", "E-PER", "O"])
    ['B-LOC', 'B-PER', 'I-PER', 'O']
    """

    def __init__(self, scheme: Scheme, map_types: Mapping[str, str]) -> None:
        super().__init__()
        self.scheme = scheme
        self.map_types = map_types

    def __missing__(self, pair: Pair) -> str:
        self[pair] = self._convert(*pair)
        return self[pair]

    def sentence(self, tags: Sequence[str]) -> list[str]:
        """Convert the tags of a sentence."""
        return [self[pair] for pair in pairs_of(tags)]

    def _convert(self, previous: str, tag: str) -> str:
        (prefix, kind), before = _parts(tag), _parts(previous)
        if not kind:
            return tag
        new, former = self.map_types.get(kind, kind), self.map_types.get(before.type, before.type)
        if new == "O":
            return "O"
        inside = prefix in "IEL"
        if self.scheme == "IOB1":
            inside = inside and before.type == kind
        elif before.type == kind:
            # A tag after the last word of an entity begins another one.
            inside = inside and before.prefix not in _ENDS
        elif former == new:
            # An invalid I- begins an entity of its own, which must not grow together with one of a mapped type.
            inside = False
        return f"{'I' if inside else 'B'}-{new}"
