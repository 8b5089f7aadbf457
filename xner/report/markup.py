"""HTML whose every text is escaped by construction: a plain string becomes text, only ``Html`` goes in as it is."""

import html
from collections.abc import Iterable, Sequence


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


EMPTY = frozenset({"meta", "link", "br"})
"""Elements without an end tag."""


def escape(text: str) -> Html:
    """Make text of a string, unless it is markup already.

    >>> escape("<b>")
    '&lt;b&gt;'
    """
    return text if isinstance(text, Html) else Html(html.escape(text))


def join(parts: Iterable[str], between: str = "") -> Html:
    """Put parts one after the other."""
    return Html(escape(between).join(escape(part) for part in parts))


def element(name: str, /, *children: str, **attributes: str) -> Html:
    """Make an element; an attribute's underscores are hyphens, its last one is left out.

    >>> element("p", "a < b", class_="note", aria_label="x")
    '<p class="note" aria-label="x">a &lt; b</p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{written}>" + ("" if name in EMPTY else f"{join(children)}</{name}>"))


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1, captioned: bool = True
) -> Html:
    """Make a table in a box of its own that scrolls where the page is narrow.

    Args:
        caption: What the table shows.
        head: A title a column.
        rows: The cells; the first of each row is its title.
        texts: How many columns from the left hold text; the others hold numbers, aligned to the right.
        captioned: Whether the caption is seen; if not, it is still read out.
    """

    def cell(name: str, column: int, content: str) -> Html:
        number = {"class_": "number"} if column >= texts else {}
        scope = {} if name == "td" else {"scope": "row" if name == "th" else "col"}
        return element("td" if name == "td" else "th", content, **number, **scope)

    body = [
        element("tr", *(cell("td" if column else "th", column, content) for column, content in enumerate(row)))
        for row in rows
    ]
    titles = element("tr", *(cell("title", column, title) for column, title in enumerate(head)))
    inner = element("table", element("thead", titles), element("tbody", *body), aria_label=_plain(caption))
    box = element("div", inner, class_="scroll", tabindex="0", role="region", aria_label=_plain(caption))
    # A caption inside the table would be as wide as the table and scroll with it.
    return element("figure", element("figcaption", caption) if captioned else "", box)


def signed(value: float, decimals: int) -> str:
    """A difference, with a minus sign as wide as the plus."""
    return f"{value:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def details(summary: str, *children: str, unfolded: bool = False) -> Html:
    """Make a part that is folded until it is asked for, or unfolded until it is not."""
    return element("details", element("summary", summary), *children, **({"open": ""} if unfolded else {}))


def record(value: object, name: str = "record") -> Html:
    """Show any JSON value: lists of objects as tables, objects as lists of names and values, the rest as text.

    Args:
        value: The value.
        name: What it is; a seed's digits stand ungrouped.
    """
    if isinstance(value, dict):
        pairs = [join([element("dt", str(key)), element("dd", record(each, str(key)))]) for key, each in value.items()]
        return element("dl", *pairs, class_="record")
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        head = list(dict.fromkeys(str(key) for each in value for key in each))
        rows = [
            [str(number), *(record(each.get(key, ""), key) for key in head)] for number, each in enumerate(value, 1)
        ]
        return table(name, ["", *head], rows, texts=len(head) + 1, captioned=False)
    if isinstance(value, list):
        return join((record(each, name) for each in value), ", ") if value else Html("none")
    return escape(f"{value:,}" if type(value) is int and "seed" not in name else str(value))


def _plain(text: str) -> str:
    """The text of an element's content, without its tags."""
    pieces = [piece.partition(">")[2] for piece in f">{text}".split("<")] if isinstance(text, Html) else [text]
    return html.unescape("".join(pieces))
