"""Read text files with one word and its tag per line, a blank line between sentences; also files of raw text."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from xner.data.sources.annotations import read_text
from xner.data.sources.lines import read_lines
from xner.data.sources.scheme import is_tag
from xner.data.sources.sentences import ReadOptions, Row, Rows
from xner.errors import RunError, UserError

_DOCUMENT = "-DOCSTART-"
"""The word of the lines that separate the documents of CoNLL-2003 (Tjong Kim Sang and De Meulder 2003)."""


def read_conll(path: Path, options: ReadOptions) -> Rows:
    """Read a file whose columns are separated by tabs or, where its first sentence has none, by spaces.

    The first column is the word and the last one the tag, unless ``data.columns`` gives other numbers. Lines of
    ``-DOCSTART-`` and comments, which begin with ``#`` and stand before a sentence, are skipped.
    """
    return Rows(_rows(path, options))


def read_txt(path: Path, options: ReadOptions) -> Rows:
    """Read a file as ``read_conll`` does or, where tags are not needed and its first line has none, as raw text.

    A line of raw text is a sentence. A first line of one word is a word of a file with one word per line.
    """
    if options.tagged or {"tokens", "ner_tags"} & options.columns.keys() or not _is_text(path):
        return read_conll(path, options)
    lines = enumerate(read_lines(path), start=1)
    return Rows(
        read_text(f"{path}, line {number}", line, None, number, tagged=False) for number, line in lines if line.strip()
    )


def _is_text(path: Path) -> bool:
    for line in read_lines(path):
        fields = _fields(line, tabs="\t" in line)
        if fields and fields[0] != _DOCUMENT and not (fields[0][0] == "#" and len(fields) > 1):
            return len(fields) > 1 and not is_tag(fields[-1])
    return False


def _rows(path: Path, options: ReadOptions) -> Iterator[Row]:
    if unknown := options.columns.keys() - {"tokens", "ner_tags"}:
        raise UserError(f"data.columns names {min(unknown)!r}, which {path} cannot have; use tokens and ner_tags")
    word_column, tag_column = (_number(options, name, default) for name, default in (("tokens", 0), ("ner_tags", -1)))
    words: list[str] = []
    tags: list[str] = []
    width = first = 0

    def row() -> Row:
        return Row(words, tags if word_column % width != tag_column % width else None, first, step=1)

    tabs = False
    for number, line in enumerate(read_lines(path), start=1):
        fields = _fields(line, tabs=tabs or "\t" in line)
        if not fields or fields[0] == _DOCUMENT:
            if words:
                yield row()
                words, tags = [], []
            continue
        if line[0] == "#" and not words and _is_comment(fields, width, tag_column, options):
            continue
        if "\r" in line:
            raise RunError(f"{path}, line {number}: found a carriage return within the line; end lines with newlines")
        if len(fields) != (width or len(fields)):
            raise RunError(f"{path}, line {number}: expected {width} columns as on the lines before, {_found(fields)}")
        width, tabs = len(fields), tabs or "\t" in line
        if width == 1 and options.tagged:
            raise RunError(f"{path}, line {number}: expected word<TAB>tag, {_found(fields)}: the sentence has no tags")
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
        if options.tagged and word_column % width == tag_column % width:
            raise UserError(
                f"data.columns gives words and tags the same column of {path}, line {number}, {_found(fields)}; use two"
            )
    if words:
        yield row()


def _fields(line: str, *, tabs: bool) -> list[str]:
    """Return the columns of a line, none if it is blank."""
    if not tabs:
        fields = line.split(" ")
        return [*filter(None, fields)] if "" in fields else fields
    if not line.strip(" \t"):  # as between the sentences of WNUT 2017
        return []
    fields = line.split("\t")
    fields[-1] = fields[-1].rstrip(" ")
    return fields


def _is_comment(fields: Sequence[str], width: int, tag_column: int, options: ReadOptions) -> bool:
    """Return whether the columns of a line that begins with ``#`` are a comment, rather than a word with its tag.

    Args:
        fields: The columns.
        width: The number of columns of the lines before; 0 for the first line.
        tag_column: The number of the column of tags.
        options: How the file is read.
    """
    if len(fields) != (width or len(fields)):
        return True
    if len(fields) == 1:  # of a file with one word per line, such as #hashtag
        return options.tagged
    # The comments of Universal Dependencies are of the form "# sent_id = 1".
    return fields[2:3] == ["="] or not -len(fields) <= tag_column < len(fields) or not is_tag(fields[tag_column])


def _number(options: ReadOptions, name: str, default: int) -> int:
    column = options.columns.get(name, default)
    if not isinstance(column, int):
        raise UserError(f"data.columns={{{name}: {column!r}}} is not the number of a column; use 0 for the first")
    return column


def _found(fields: list[str]) -> str:
    return f"found {len(fields)} column{'s' if len(fields) > 1 else ''}"
