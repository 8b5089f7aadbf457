"""Read ``.tsv``, ``.conll`` and ``.txt`` files: one word and its tag per line, a blank line between sentences."""

from collections.abc import Iterator
from pathlib import Path

from xner.data.sources.sentences import Sentence, read_lines, remove_prefix, unknown_tag
from xner.errors import RunError
from xner.tags import LABELS


def read_conll(path: Path, language: str) -> Iterator[Sentence]:
    """Read a file with lines of the form ``word<TAB>tag``."""
    sentence = Sentence([], [])
    for number, line in enumerate(read_lines(path), start=1):
        if not line or line == "\r":
            if sentence.words:
                yield sentence
                sentence = Sentence([], [])
            continue
        word, _, tag = line.removesuffix("\r").partition("\t")
        if not word or tag not in LABELS:
            columns = line.count("\t") + 1
            if columns != 2:
                problem = f"expected word<TAB>tag, found {columns} column{'s' if columns > 1 else ''}"
            else:
                problem = unknown_tag(tag) if word else "the word is empty"
            raise RunError(f"{path}, line {number}: {problem}")
        sentence.words.append(remove_prefix(word, language))
        sentence.tags.append(tag)
    if sentence.words:
        yield sentence
