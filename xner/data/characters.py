"""Compare words whatever their case, digits and punctuation, and find characters that nobody sees."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

_DIGIT = re.compile(r"\d")

_INVISIBLE = ("Cc", "Cf", "Co", "Zl", "Zp", "Zs")
"""Unicode categories: control, format (zero-width, bidirectional), private use, separators of lines and paragraphs,
spaces."""

_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters of other categories that show nothing: joiners, fillers, a blank pattern, variation selectors."""


def fold_case(text: str) -> str:
    """Fold the case of a text, where Turkish dotted and dotless letters are one, whichever language it is in.

    >>> fold_case("İSTANBUL") == fold_case("İstanbul") == fold_case("istanbul")
    True
    """
    return text.casefold().replace("i\u0307", "i").replace("ı", "i")


def normalise_words(words: Sequence[str]) -> list[str]:
    """Return what near-duplicates have in common: words in folded case, with 0 for each digit, without punctuation.

    Only words that are punctuation alone are left out; a sentence that has no others keeps them.

    >>> normalise_words(["İzmir", "(", "2024", ")", "'dan", "U.S."])
    ['izmir', '0000', "'dan", 'u.s.']
    >>> normalise_words(["...", "!"])
    ['...', '!']
    """
    return [normal for word in words if (normal := _normalise(word))] or list(words)


@lru_cache(maxsize=1 << 16)
def _normalise(word: str) -> str:
    """Normalise a word; it is empty if it is punctuation alone."""
    if all(unicodedata.category(character)[0] == "P" for character in word):
        return ""
    return _DIGIT.sub("0", fold_case(word))


def has_invisible(text: str) -> bool:
    """Return whether a text has invisible, control or private-use characters, or spaces other than U+0020.

    The zero-width joiners count, although the scripts of Persian and of India need them.

    >>> has_invisible("New York"), has_invisible("An\u200bkara"), has_invisible("10\u00a0000")
    (False, True, True)
    """
    # isprintable is false for all of these categories, and is fast.
    return (not text.isprintable() and any(map(_is_invisible, text))) or bool(_IGNORABLE.search(text))


def escape_invisible(text: str) -> str:
    r"""Escape what ``has_invisible`` finds.

    >>> print(escape_invisible("An\u200bkara"))
    An\u200bkara
    """
    if not has_invisible(text):
        return text
    return "".join(
        character.encode("unicode_escape").decode() if has_invisible(character) else character for character in text
    )


def _is_invisible(character: str) -> bool:
    return character != " " and unicodedata.category(character) in _INVISIBLE
