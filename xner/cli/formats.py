"""Formats of tagged texts: table, JSON Lines, CoNLL columns, brat (Stenetorp et al. 2012), and an HTML page."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from xner.cli.output import interlinear
from xner.serve.marking import MARK_STYLE, html_line
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


class Position(NamedTuple):
    """The number of texts, of their characters (with a line break after each text) and of their entities."""

    texts: int = 0
    characters: int = 0
    entities: int = 0

    def after(self, tagged: Tagged) -> "Position":
        """Return the position after a text that starts at this one."""
        return Position(self.texts + 1, self.characters + len(tagged.text) + 1, self.entities + len(tagged.entities))


class TagFormat(NamedTuple):
    """A format of tagged texts.

    Attributes:
        content: Formats a text for each file, by the position at which it starts.
        beside: The suffixes of the files beside that of ``--output``.
        head: The beginning of that one.
    """

    content: Callable[[Tagged, Position], tuple[str, ...]]
    beside: tuple[str, ...] = ()
    head: str = ""

    def files(self, output: Path) -> list[Path]:
        """Return the files that are written, that of ``--output`` first."""
        return [output, *map(output.with_suffix, self.beside)]


def format_of(name: str, fields: Fields, width: int) -> TagFormat:
    """Return a format.

    Args:
        name: A value of ``--format``.
        fields: Whose names the fields of an entity have in ``jsonl``.
        width: Characters of a line in ``table``.
    """
    return {
        "table": TagFormat(lambda tagged, at: ("\n" * bool(at.texts) + _table(tagged, width),)),
        "jsonl": TagFormat(lambda tagged, _: (json_line(tagged, fields),)),
        "conll": TagFormat(lambda tagged, _: (conll_lines([word.text for word in tagged.words], tagged.tags),)),
        "brat": TagFormat(_brat, beside=(".ann",)),
        "html": TagFormat(lambda tagged, _: (html_line(tagged),), head=HTML_HEAD),
    }[name]


def _table(tagged: Tagged, width: int) -> str:
    return interlinear([[word.text for word in tagged.words], tagged.tags], width) + "\n"


def _brat(tagged: Tagged, at: Position) -> tuple[str, str]:
    return one_line(tagged.text) + "\n", brat_lines(tagged.entities, at.characters, at.entities)
