"""Escape values of users for Markdown."""

import re
import unicodedata

from markupsafe import Markup

_MARKUP = re.compile(r"([\\`*_\[\]<>|~&$])")


def plain(text: str) -> str:
    r"""Replace control characters, line breaks and lone surrogates, which neither YAML nor a line of Markdown holds.

    >>> plain("a\nb")
    'a b'
    """
    kinds = {"Cc": " ", "Zl": " ", "Zp": " ", "Cs": "\N{REPLACEMENT CHARACTER}"}
    return "".join(kinds.get(unicodedata.category(each), each) for each in text)


def escape(value: object) -> Markup:
    r"""Escape a value for Markdown, within a line or a cell of a table; a ``Markup`` is Markdown already.

    >>> print(escape("a|b_c"))
    a\|b\_c
    """
    return value if isinstance(value, Markup) else Markup(_MARKUP.sub(r"\\\1", plain(str(value))))


def code(value: object) -> Markup:
    """Format a value as code in a line or a cell of a table, whose bars are escaped even there (GitHub's Markdown).

    >>> print(code("a`b"))
    `` a`b ``
    """
    text = plain(str(value)).replace("|", "\\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return Markup(f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}")
