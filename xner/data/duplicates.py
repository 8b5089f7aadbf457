"""Recognise near-duplicates: sentences that are equal but for case, digits and punctuation."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from xner.data.redirects import fold_case

_DIGIT = re.compile(r"\d")


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
