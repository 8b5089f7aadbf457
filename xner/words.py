"""Split raw text into words, as PAN-X's sentences are."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Word(NamedTuple):
    """A word and its place in the text: ``text[start:end]`` is the word."""

    text: str
    start: int
    end: int


_APART = r"()\[\]{}<>/&;!?%\"“”„«»"
"""Characters that PAN-X splits off everywhere; also commas and colons, except in numbers such as 2,000 and 3:52."""

_LETTER = "\u0e01-\u0e4f\u0e5a-\u0e5b\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
_LETTER += "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"
"""Letters of Thai, kana and Han, which are written without spaces; each is a word of its own."""

_MARK = "\u0300-\u036f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u3099\u309a\ufe00-\ufe0f\uff9e\uff9f\U000e0100-\U000e01ef"
"""Marks that belong to the letter before them: accents, Thai vowels and tones, kana's voicing, variation selectors."""

_EMOJI = "\u2600-\u27bf\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff"
_JOINED = rf"[{_EMOJI}](?:[\ufe0f\U0001f3fb-\U0001f3ff]|\u200d[{_EMOJI}])+|[\U0001f1e6-\U0001f1ff]{{2}}"
"""Several characters that are one picture (Unicode Technical Standard 51): emoji with a joiner or a colour, flags."""

_WHOLE = rf"{_JOINED}|[{_LETTER}][{_MARK}]*"

_CHUNK = re.compile(
    rf"(?P<whole>{_WHOLE})|(?P<apart>[{_APART}])(?P=apart)*|[,:](?!\d)|"
    rf"(?:(?![{_APART}{_LETTER}]|[,:](?!\d)|{_JOINED})\S)+"
)
_ABBREVIATION = re.compile(r"(?:[^\W\d_]\.)+|(?:\d{1,2}|[IVX]+|Dr|Km|Mr|Mrs|No|Prof|St|Vol)\.")
_CLITIC = re.compile(r"(?:'(?:s|m|d|ll|re|ve)|n't)$", re.IGNORECASE)
_GOES_ON = re.compile(r"\s*\S")


def split_words(text: str) -> list[Word]:
    """Split raw text into words much as PAN-X's sentences are (Pan et al. 2017), in any script with spaces.

    Words are separated by spaces. Brackets, quotes and ``/&;!?%`` are words of their own everywhere, other punctuation
    at the start and end of a word; a run of one character is one word. Punctuation within a word stays, as in Turkish
    ``Ankara'dan``; English ``'s`` and ``n't`` are split off. Dots stay with initials, short ordinals and a few
    abbreviations, except at the end of the text.

    In Chinese, Japanese and Thai, which have no spaces, PAN-X's words are single characters, and so are those here:
    each Han, kana and Thai letter is a word, together with the marks that are written on it, so that an entity never
    ends within what a reader sees as one character. Latin words and numbers among them stay whole. Emoji of several
    characters, such as a family or a flag, are one word. All other scripts are split by spaces and punctuation.

    >>> [word.text for word in split_words("Dr. A. Turing's friend left Ankara'dan (1954)...")]
    ['Dr.', 'A.', 'Turing', "'s", 'friend', 'left', "Ankara'dan", '(', '1954', ')', '...']
    >>> [word.text for word in split_words("2024年東京、Tokyo")]
    ['2024', '年', '東', '京', '、', 'Tokyo']
    """
    return [Word(text[start:end], start, end) for chunk in _CHUNK.finditer(text) for start, end in _cut(text, chunk)]


def join_words(words: Sequence[str]) -> tuple[str, list[Word]]:
    """Join words with a space between them.

    Returns:
        The text, and the place of each word in it.

    >>> join_words(["Ali", "geldi"])
    ('Ali geldi', [Word(text='Ali', start=0, end=3), Word(text='geldi', start=4, end=9)])
    """
    places, start = [], 0
    for word in words:
        places.append(Word(word, start, start + len(word)))
        start += len(word) + 1
    return " ".join(words), places


def _cut(text: str, chunk: re.Match[str]) -> Iterator[tuple[int, int]]:
    """Split punctuation off the edges of a chunk; yield the start and end of each word, from left to right."""
    start, end = chunk.span()
    if chunk["whole"] or _CLITIC.fullmatch(text, start, end):
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
