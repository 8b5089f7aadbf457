"""Mark entities in HTML, by their type and score."""

import html
import zlib

from xner.tagger import Tagged

MARK_STYLE = """mark { padding: .1em .3em; border-radius: .3em; color: inherit;
  background: light-dark(hsl(var(--hue) 85% 88%), hsl(var(--hue) 45% 26%)); }
mark small { margin-inline-start: .4em; font-size: .7em; white-space: nowrap; unicode-bidi: isolate; }
"""
"""The style of marked entities, for a page whose ``color-scheme`` is light and dark."""

_HUES = {"PER": 210, "ORG": 35, "LOC": 140, "MISC": 290}


def hue_of(kind: str) -> int:
    """Return the hue of an entity type, in degrees; any type has one."""
    return _HUES.get(kind, zlib.crc32(kind.encode()) % 360)


def html_line(tagged: Tagged) -> str:
    """Format a text as a paragraph of HTML in one line, with its entities marked by their type and score.

    >>> from xner.tagger import Entity
    >>> html_line(Tagged("A & B", [], [], [Entity("PER", "B", 4, 5, 0.987)]))[:62]
    '<p dir="auto">A &amp; <mark style="--hue:210">B<small>PER 0.99'
    """
    parts, end = [], 0
    for entity in tagged.entities:
        parts.append(_escape(tagged.text[end : entity.start]))
        label = f"<small>{html.escape(entity.type)} {entity.score:.2f}</small>"
        parts.append(f'<mark style="--hue:{hue_of(entity.type)}">{_escape(entity.text)}{label}</mark>')
        end = entity.end
    return f'<p dir="auto">{"".join(parts)}{_escape(tagged.text[end:])}</p>\n'


def _escape(text: str) -> str:
    """Escape a text for HTML, which allows no control characters but white space."""
    shown = "".join(each if each >= " " or each in "\t\n" else "\ufffd" for each in text.replace("\r\n", "\n"))
    return html.escape(shown).replace("\n", "<br>")
