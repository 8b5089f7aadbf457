"""Formats of tagged texts: JSON Lines, CoNLL columns, and brat (Stenetorp et al. 2012); the head of an HTML page."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from xner.serve.marking import MARK_STYLE
from xner.tagger import Entity, Tagged

Fields = Literal["xner", "transformers"]
"""Whose names the fields of an entity have."""

HTML_HEAD = (
    """<!doctype html>
<html lang="und">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Entities</title>
<style>
:root { color-scheme: light dark; }
body { max-width: 48rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.8 system-ui, sans-serif;
  color: light-dark(#1a1a1a, #e8e8e8); background: light-dark(#ffffff, #16181c); overflow-wrap: anywhere; }
"""
    + MARK_STYLE
    + "</style>\n"
)
"""The beginning of a page; its end needs no tags, so a page is complete after every text."""

_ORDERS = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters that JSON may hold, and those of the bidirectional algorithm, see ``cli.output.escaped``."""


def json_line(tagged: Tagged, fields: Fields = "xner") -> str:
    """Format a text as a line of JSON: its words without offsets, scores with four decimals.

    Args:
        tagged: The text.
        fields: ``transformers`` names the fields of an entity as its pipeline does.
    """
    content = {
        "text": tagged.text,
        "words": [word.text for word in tagged.words],
        "tags": tagged.tags,
        "entities": [each.as_json() if fields == "xner" else _as_pipeline(each) for each in tagged.entities],
    }
    line = json.dumps(content, ensure_ascii=False)
    return _ORDERS.sub(lambda found: f"\\u{ord(found[0]):04x}", line) + "\n"


def _as_pipeline(entity: Entity) -> dict[str, str | int | float]:
    names = {"entity_group": "type", "score": "score", "word": "text", "start": "start", "end": "end"}
    found = entity.as_json()
    return {theirs: found[ours] for theirs, ours in names.items()}


def conll_lines(words: Iterable[str], tags: Iterable[str]) -> str:
    """Format a sentence as lines of word, tab and tag, and a blank line."""
    return "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True)) + "\n"


def brat_lines(entities: Sequence[Entity], start: int, number: int) -> str:
    r"""Format the entities of a text as lines of brat, with offsets in the whole document.

    Args:
        entities: The entities.
        start: Characters of the document before the text.
        number: Entities of the document before the text.

    >>> brat_lines([Entity("PER", "Ayşe", 0, 4, 0.9)], start=11, number=1)
    'T2\tPER 11 15\tAyşe\n'
    """
    return "".join(
        f"T{each}\t{entity.type} {start + entity.start} {start + entity.end}\t{one_line(entity.text)}\n"
        for each, entity in enumerate(entities, start=number + 1)
    )


def one_line(text: str) -> str:
    """Replace tabs and line breaks by spaces, so that offsets stay."""
    return text.translate(dict.fromkeys(map(ord, "\t\n\r"), " "))
