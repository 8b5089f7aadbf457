"""The tag set of PAN-X, the labels of its tags, and the spans of a tag sequence."""

from collections.abc import Sequence
from typing import NamedTuple

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
"""The tags in the order of their labels, as in ``google/xtreme`` on the Hugging Face Hub (Hu et al. 2020)."""

TYPES = ("PER", "ORG", "LOC")
"""The entity types; type ``t`` has the labels ``2 * t + 1`` (B) and ``2 * t + 2`` (I)."""

LABELS = {tag: label for label, tag in enumerate(TAGS)}
"""The label of each tag."""

OUTSIDE = LABELS["O"]
"""The label of a word outside all entities, which is also predicted for a word without pieces."""

IGNORE = -100
"""The label of a piece that is not scored."""


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


def invalid_tags(tags: Sequence[str]) -> int:
    """Count the tags of a sentence that are invalid under IOB2: each ``I-`` that does not continue a span of its type.

    >>> invalid_tags(["I-PER", "I-PER", "O", "B-LOC", "I-ORG"])
    2
    """
    return sum(
        tag.startswith("I-") and (previous == "O" or previous[2:] != tag[2:])
        for previous, tag in zip(["O", *tags], tags, strict=False)
    )
