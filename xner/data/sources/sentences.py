"""Sentences with tags, and what the readers of all formats share."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from xner.errors import RunError
from xner.tags import TAGS


@dataclass(frozen=True)
class Sentences:
    """The sentences of one split: as many tags as words, all tags known, no sentence empty.

    Attributes:
        words: The words of each sentence.
        tags: The tags of each sentence.
    """

    words: list[list[str]]
    tags: list[list[str]]

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def digest(self) -> str:
        """Compute a SHA-256 of words and tags, which does not depend on the format that they were read from."""
        digest = hashlib.sha256()
        for words, tags in zip(self.words, self.tags, strict=True):
            digest.update("".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True)).encode())
            digest.update(b"\n")
        return digest.hexdigest()


def unknown_tag(tag: object) -> str:
    """Describe the error of a tag that is not in the tag set."""
    return f"unknown tag {tag!r}; use {', '.join(TAGS)}"


def remove_prefix(word: str, language: str) -> str:
    """Remove the language code that the original archives write before each word.

    >>> remove_prefix("tr:Ankara", "tr")
    'Ankara'
    """
    return word.removeprefix(f"{language}:") or word


def read_bytes(path: Path) -> bytes:
    """Read a file, or raise ``RunError``."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error


def read_lines(path: Path) -> Iterator[str]:
    """Read the lines of a UTF-8 file one by one, without their newlines, or raise ``RunError``."""
    offset = 0
    try:
        # In binary, because a word may contain U+2028 and similar characters.
        with path.open("rb") as file:
            for line in file:
                yield line.removesuffix(b"\n").decode("utf-8")
                offset += len(line)
    except UnicodeDecodeError as error:
        offset += error.start
        raise RunError(f"{path} is not UTF-8 (invalid byte at offset {offset}); convert it") from error
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
