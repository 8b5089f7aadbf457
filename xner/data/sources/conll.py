"""Read ``.tsv``, ``.conll`` and ``.txt`` files: one word and its tag per line, a blank line between sentences."""

from collections.abc import Iterator
from pathlib import Path

from xner.data.sources.lines import read_lines
from xner.data.sources.scheme import is_tag
from xner.data.sources.sentences import ReadOptions, Row, Rows
from xner.errors import RunError, UserError

_DOCUMENT = "-DOCSTART-"
"""The word of the lines that separate the documents of CoNLL-2003 (Tjong Kim Sang and De Meulder 2003)."""


def read_conll(path: Path, options: ReadOptions) -> Rows:
    """Read a file whose columns are separated by tabs or, on lines without a tab, by spaces.

    The first column is the word and the last one the tag, unless ``data.columns`` gives other numbers. Lines of
    ``-DOCSTART-`` and comments, which begin with ``#`` and stand before a sentence, are skipped.
    """
    return Rows(_rows(path, options))


def _rows(path: Path, options: ReadOptions) -> Iterator[Row]:
    word_column, tag_column = (_number(options, name, default) for name, default in (("tokens", 0), ("ner_tags", -1)))
    words: list[object] = []
    tags: list[object] = []
    width = first = 0
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split("\t") if "\t" in line else line.split(" ")
        if "\t" not in line and "" in fields:
            fields = [*filter(None, fields)]
        if not fields or fields == [""] or fields[0] == _DOCUMENT:
            if words:
                yield Row(words, tags if width > 1 else None, first, step=1)
                words, tags = [], []
            continue
        if line[0] == "#" and not words and (len(fields) != (width or len(fields)) or not is_tag(fields[tag_column])):
            continue
        if len(fields) != (width or len(fields)):
            raise RunError(f"{path}, line {number}: expected {width} columns as on the lines before, {_found(fields)}")
        width = len(fields)
        if width == 1 and options.tagged:
            raise RunError(f"{path}, line {number}: expected word<TAB>tag, {_found(fields)}")
        if not words:
            first = number
        try:
            words.append(fields[word_column])
            tags.append(fields[tag_column])
        except IndexError:
            raise RunError(
                f"{path}, line {number}: data.columns asks for columns {word_column} and {tag_column}, counted from 0, "
                f"{_found(fields)}; use smaller numbers"
            ) from None
    if words:
        yield Row(words, tags if width > 1 else None, first, step=1)


def _number(options: ReadOptions, name: str, default: int) -> int:
    column = options.columns.get(name, default)
    if not isinstance(column, int):
        raise UserError(f"data.columns={{{name}: {column}}} is not the number of a column; use 0 for the first")
    return column


def _found(fields: list[str]) -> str:
    return f"found {len(fields)} column{'s' if len(fields) > 1 else ''}"
