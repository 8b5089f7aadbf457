"""Sentences with tags, and what the readers of all formats share."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from xner.errors import RunError
from xner.tags import TAGS

_CHUNK = 1 << 20
"""Number of bytes that are read from a file at once."""


class Sentence(NamedTuple):
    """A sentence: its words, and as many tags."""

    words: list[str]
    tags: list[str]


@dataclass(frozen=True)
class Sentences:
    """The sentences of one split: as many tags as words, all tags known, no sentence empty.

    Attributes:
        words: The words of each sentence.
        tags: The tags of each sentence.
    """

    words: list[list[str]]
    tags: list[list[str]]

    @classmethod
    def of(cls, sentences: Iterable[Sentence]) -> "Sentences":
        """Collect sentences."""
        collected = cls([], [])
        for words, tags in sentences:
            collected.words.append(words)
            collected.tags.append(tags)
        return collected

    def __len__(self) -> int:
        return len(self.words)

    def __iter__(self) -> Iterator[Sentence]:
        return map(Sentence._make, zip(self.words, self.tags, strict=True))

    @cached_property
    def digest(self) -> str:
        """Compute a SHA-256 of words and tags, which does not depend on the format that they were read from."""
        digest = hashlib.sha256()
        for sentence in self:
            digest.update(content_of(sentence))
        return digest.hexdigest()


def content_of(sentence: Sentence) -> bytes:
    """Format a sentence as in a ``.tsv`` file; the digest of a split is the SHA-256 of its sentences in this form."""
    return ("".join(f"{word}\t{tag}\n" for word, tag in zip(*sentence, strict=True)) + "\n").encode()


def unknown_tag(tag: object) -> str:
    """Describe the error of a tag that is not in the tag set."""
    return f"unknown tag {tag!r}; use {', '.join(TAGS)}"


def remove_prefix(word: str, language: str) -> str:
    """Remove the language code that the original archives write before each word.

    >>> remove_prefix("tr:Ankara", "tr")
    'Ankara'
    """
    return word.removeprefix(f"{language}:") or word


def read_chunks(path: Path) -> Iterator[bytes]:
    """Read a file in chunks of whole lines, or raise ``RunError``."""
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk + file.readline()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error


def read_lines(path: Path) -> Iterator[str]:
    """Read the lines of a UTF-8 file one by one, without their newlines, or raise ``RunError``."""
    offset = 0
    for chunk in read_chunks(path):
        try:
            # str.splitlines also splits at U+2028 and similar characters, which a word may contain.
            lines = chunk.removesuffix(b"\n").decode("utf-8").split("\n")
        except UnicodeDecodeError as error:
            invalid = offset + error.start
            raise RunError(f"{path} is not UTF-8 (invalid byte at offset {invalid}); convert it") from error
        yield from lines
        offset += len(chunk)
