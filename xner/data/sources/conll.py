"""Read ``.tsv``, ``.conll`` and ``.txt`` files: one word and its tag per line, a blank line between sentences."""

from pathlib import Path

from xner.data.sources.sentences import Sentences, read_lines, remove_prefix, unknown_tag
from xner.errors import RunError
from xner.tags import LABELS


def read_conll(path: Path, language: str) -> Sentences:
    """Read a file with lines of the form ``word<TAB>tag``."""
    words: list[list[str]] = []
    tags: list[list[str]] = []
    forms: dict[str, str] = {}
    after_blank = True
    for number, line in enumerate(read_lines(path), start=1):
        if not line or line == "\r":
            after_blank = True
            continue
        word, _, tag = line.removesuffix("\r").partition("\t")
        if not word or tag not in LABELS:
            columns = line.count("\t") + 1
            if columns != 2:
                problem = f"expected word<TAB>tag, found {columns} column{'s' if columns > 1 else ''}"
            else:
                problem = unknown_tag(tag) if word else "the word is empty"
            raise RunError(f"{path}, line {number}: {problem}")
        if after_blank:
            words.append([])
            tags.append([])
            after_blank = False
        word = remove_prefix(word, language)
        # Equal words, and equal tags, are one object: in a large file, words alone would take 60 bytes each.
        words[-1].append(forms.setdefault(word, word))
        tags[-1].append(forms.setdefault(tag, tag))
    return Sentences(words, tags)
