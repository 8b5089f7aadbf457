"""Split raw text into words, as PAN-X's sentences are."""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple


class Word(NamedTuple):
    """A word and its place in the text: ``text[start:end]`` is the word."""

    text: str
    start: int
    end: int


_APART = r"()\[\]{}<>/&;!?%\"“”„«»"
"""Characters that PAN-X splits off everywhere; also commas and colons, except in numbers such as 2,000 and 3:52."""

_CHUNK = re.compile(rf"(?P<apart>[{_APART}])(?P=apart)*|[,:](?!\d)|(?:(?![{_APART}]|[,:](?!\d))\S)+")
_ABBREVIATION = re.compile(r"(?:[^\W\d_]\.)+|(?:\d{1,2}|[IVX]+|Dr|Km|Mr|Mrs|No|Prof|St|Vol)\.")
_CLITIC = re.compile(r"(?:'(?:s|m|d|ll|re|ve)|n't)$", re.IGNORECASE)
_GOES_ON = re.compile(r"\s*\S")


def split_words(text: str) -> list[Word]:
    """Split raw text into words much as PAN-X's sentences are (Pan et al. 2017), in any script with spaces.

    Words are separated by spaces. Brackets, quotes and ``/&;!?%`` are words of their own everywhere, other punctuation
    at the start and end of a word; a run of one character is one word. Punctuation within a word stays, as in Turkish
    ``Ankara'dan``; English ``'s`` and ``n't`` are split off. Dots stay with initials, short ordinals and a few
    abbreviations, except at the end of the text.

    >>> [word.text for word in split_words("Dr. A. Turing's friend left Ankara'dan (1954)...")]
    ['Dr.', 'A.', 'Turing', "'s", 'friend', 'left', "Ankara'dan", '(', '1954', ')', '...']
    """
    return [Word(text[start:end], start, end) for chunk in _CHUNK.finditer(text) for start, end in _cut(text, chunk)]


def _cut(text: str, chunk: re.Match[str]) -> Iterator[tuple[int, int]]:
    """Split punctuation off the edges of a chunk; yield the start and end of each word, from left to right."""
    start, end = chunk.span()
    if _CLITIC.fullmatch(text, start, end):
        yield start, end
        return
    while start < end and _is_punctuation(text[start]):
        first, character = start, text[start]
        while start < end and text[start] == character:
            start += 1
        yield first, start
    tail: list[tuple[int, int]] = []
    while start < end and _is_punctuation(text[end - 1]):
        if _ABBREVIATION.fullmatch(text, start, end) and _GOES_ON.match(text, end):
            break
        last, character = end, text[end - 1]
        while text[end - 1] == character:  # start < end, because text[start] is not punctuation
            end -= 1
        tail.append((end, last))
    if clitic := _CLITIC.search(text, start + 1, end):
        tail.append((clitic.start(), end))
        end = clitic.start()
    if start < end:
        yield start, end
    yield from reversed(tail)


def _is_punctuation(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "P" or category in ("Sc", "So")
