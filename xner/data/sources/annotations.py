"""Turn raw text, and entities given by characters, into words and tags."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from xner.data.sources.scheme import is_tag
from xner.data.sources.sentences import Row
from xner.errors import RunError, quoted
from xner.words import Word, split_words

_KEYS = (("start", "start_offset"), ("end", "end_offset"), ("label", "type"))
"""The keys of an entity, as spaCy and Doccano call them, and as ``xner tag`` does."""


class _Entity(NamedTuple):
    """An entity of a text: ``text[start:end]`` is the entity."""

    start: int
    end: int
    type: str


def read_text(where: str, text: object, entities: object, place: int, *, tagged: bool) -> Row:
    """Split a text into words, and tag them under IOB2 by its entities.

    A word that is partly in an entity is cut at the entity's start or end.

    Args:
        where: The file and the line or row, for messages.
        text: The text.
        entities: A list of ``{"start": ..., "end": ..., "label": ...}``, or of ``[start, end, label]``, in characters
            (code points) from 0. White space at an entity's edges does not count.
        place: The number of the line or row.
        tagged: Whether to read the entities. Without them no word is cut, so the words do not depend on the entities.

    Raises:
        RunError: If the text is not a string, or an entity is invalid or overlaps another one.
    """
    if not isinstance(text, str):
        raise RunError(f"{where}: the text {quoted(text)} is not a string")
    if not tagged:
        return Row([word.text for word in split_words(text)], None, place)
    if not isinstance(entities, list | tuple):
        raise RunError(
            f'{where}: entities {quoted(entities)} are not a list; use [{{"start": 0, "end": 5, "label": "PER"}}]'
        )
    found = sorted(_entity(where, text, each) for each in entities)
    for left, right in pairwise(found):
        if right.start < left.end:
            raise RunError(f"{where}: entity {quoted([*right])} overlaps entity {quoted([*left])}; keep one of them")
    return Row(*_tag(split_words(text), text, found), place)


def _tag(words: Sequence[Word], text: str, entities: Sequence[_Entity]) -> tuple[list[str], list[str]]:
    """Cut words at the edges of entities, which are sorted, and tag them."""
    pieces, tags = [], []
    rest = iter(entities)
    entity = next(rest, None)
    for word in words:
        start = word.start
        while start < word.end:
            if entity is None or entity.start >= word.end:
                end, tag = word.end, "O"
            elif start < entity.start:
                end, tag = entity.start, "O"
            else:
                end, tag = min(word.end, entity.end), f"{'B' if start == entity.start else 'I'}-{entity.type}"
                if end == entity.end:
                    entity = next(rest, None)
            pieces.append(text[start:end])
            tags.append(tag)
            start = end
    return pieces, tags


def _entity(where: str, text: str, entity: object) -> _Entity:
    """Check an entity, and leave out white space at its edges."""
    values: Sequence[object] = ()
    if isinstance(entity, Mapping):
        values = [next((entity[key] for key in keys if key in entity), None) for keys in _KEYS]
    elif isinstance(entity, list | tuple):
        values = entity
    if len(values) != 3:
        raise RunError(
            f"{where}: entity {quoted(entity)} is not of the form "
            '{"start": 0, "end": 5, "label": "PER"} or [0, 5, "PER"]'
        )
    start, end, kind = values
    # type() and not isinstance(), for True is an int.
    if type(start) is not int or type(end) is not int:
        raise RunError(f"{where}: start and end of entity {quoted(entity)} are not integers; count characters from 0")
    if not isinstance(kind, str) or kind == "O" or not is_tag(f"B-{kind}"):
        raise RunError(
            f"{where}: the label {quoted(kind)} of entity {quoted(entity)} is not an entity type; use a name without "
            "spaces, not O"
        )
    if not 0 <= start <= end <= len(text):
        raise RunError(
            f"{where}: entity {quoted(entity)} is not within the text of {len(text)} characters; use 0 <= start < end "
            f"<= {len(text)}"
        )
    inner = text[start:end].strip()
    if not inner:
        raise RunError(f"{where}: entity {quoted(entity)} is empty; remove it, or give it characters of the text")
    start += text[start:end].index(inner)
    return _Entity(start, start + len(inner), kind)
