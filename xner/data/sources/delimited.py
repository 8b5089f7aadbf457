"""Read ``.csv`` files: a row per word, or a row per sentence with lists, or with words separated by spaces."""

import ast
import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from xner.data.sources.lines import read_lines
from xner.data.sources.records import columns_of, integer_tags, make_row
from xner.data.sources.sentences import ReadOptions, Row, Rows
from xner.errors import RunError, UserError, listed, quoted

csv.field_size_limit(2**31 - 1)  # the largest that every platform allows

_DELIMITERS = ",;\t"
"""Spreadsheets write semicolons in languages where commas are part of numbers."""

_ITEM = r"""'[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?\d++"""
_ITEMS = re.compile(_ITEM)
_LIST = re.compile(rf"\s*\[\s*+(?:(?:{_ITEM})(?:\s*+,\s*+|\s++|(?=\])))*+\]\s*")
"""A list of strings or integers in Python, with commas or, as numpy and so ``Dataset.to_csv`` writes it, without."""

_SPACES = re.compile(r"[^ \t\n]+")


def read_csv(path: Path, options: ReadOptions) -> Rows:
    """Read a file with a header line.

    Where ``data.columns`` has a column for ``sentence``, a row is a word, and an empty cell, or that of the row before,
    continues the sentence. Otherwise, a row is a sentence; words and tags are lists where those of the first row are.
    """
    return Rows(_word_rows(path, options) if "sentence" in options.columns else _sentence_rows(path, options))


def _word_rows(path: Path, options: ReadOptions) -> Iterator[Row]:
    table = _Table(path)
    if not table.header:
        return
    # Named, so that a column of raw text is not read in place of the words.
    options = table.by_name(replace(options, columns={"tokens": "tokens", **options.columns}))
    columns = columns_of(table.header, str(path), options)
    sentence = table.header.index(str(options.column("sentence")))
    word, tag, identifier = (
        table.header.index(str(columns[name])) if name in columns else -1 for name in ("tokens", "ner_tags", "id")
    )
    words: list[str] = []
    tags: list[str] = []
    places: list[int] = []
    current = ""
    first: list[str] = []

    def row() -> Row:
        own = first[identifier] or None if "id" in columns else None
        return Row(words, tags if "ner_tags" in columns else None, places[0], places=places, id=own)

    for number, cells in table:
        if words and cells[sentence] not in ("", current):
            yield row()
            words, tags, places = [], [], []
        current = cells[sentence] or current
        first = first if words else cells
        words.append(cells[word])
        tags.append(cells[tag])
        places.append(number)
    if words:
        yield row()


def _sentence_rows(path: Path, options: ReadOptions) -> Iterator[Row]:
    table = _Table(path)
    if not table.header:
        return
    options = table.by_name(options)
    columns = columns_of(table.header, str(path), options)
    places = {name: table.header.index(str(column)) for name, column in columns.items()}
    names = integer_tags(options)
    lists: set[str] | None = None
    for number, cells in table:
        where = f"{path}, line {number}"
        if lists is None:
            lists = {name for name, place in places.items() if _list(cells[place]) is not None}
        values: dict[str, object] = {}
        for name, place in places.items():
            cell = cells[place]
            if name == "entities":
                values[name] = _entities(where, cell)
            elif name == "text":
                values[name] = cell
            elif name == "id":
                values[name] = cell or None
            elif name not in lists:
                values[name] = _SPACES.findall(cell)
            elif (found := _list(cell)) is not None:
                values[name] = found
            else:
                raise RunError(
                    f"{where}: {columns[name]} {quoted(cell)} is not a list, as it is in the first row; use one form"
                )
        yield make_row(where, values, names, number, options)


class _Table:
    """The rows of a file below its header.

    Args:
        path: The file.

    Attributes:
        header: The names of its columns; empty if the file is.

    Raises:
        RunError: If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = read_lines(path)
        first = []
        for line in lines:
            first.append(line)
            if line.strip():
                break
        delimiter = next((each for each in _DELIMITERS if first and each in first[-1]), ",")
        self._reader = csv.reader((f"{line}\n" for line in chain(first, lines)), delimiter=delimiter, strict=True)
        _, self.header = next(self._rows(), (0, []))

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        for number, row in self._rows():
            if len(row) != len(self.header):
                columns = f"{len(self.header)} columns as in the header"
                raise RunError(f"{self.path}, line {number}: expected {columns}, found {len(row)}")
            yield number, row

    def by_name(self, options: ReadOptions) -> ReadOptions:
        """Replace the numbers of columns by their names, and check the column of sentences."""
        columns = dict(options.columns)
        for name, column in columns.items():
            if not isinstance(column, str):
                if not -len(self.header) <= column < len(self.header):
                    raise UserError(
                        f"data.columns={{{name}: {column}}} is not the number of a column of {self.path}, line 1; use "
                        f"0 to {len(self.header) - 1}"
                    )
                columns[name] = self.header[column]
        if columns.get("sentence", self.header[0]) not in self.header:
            raise RunError(f"{self.path} has no column {quoted(columns['sentence'])}, only {listed(self.header)}")
        return replace(options, columns=columns)

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Read the rows that are not empty, each with the number of its first line."""
        while True:
            number = self._reader.line_num + 1
            try:
                row = next(self._reader, None)
            except csv.Error as error:
                raise RunError(
                    f"{self.path}, line {number}: the row is not CSV ({error}); check its quotation marks"
                ) from error
            if row is None:
                return
            if any(row):
                yield number, row


def _list(cell: str) -> list[object] | None:
    """Read a list in JSON, Python or numpy's form; ``None`` if the cell is none."""
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        if not _LIST.fullmatch(cell):
            return None
        try:
            # One by one, for Python joins strings that are next to each other, as numpy writes them.
            found = [_item(item) for item in _ITEMS.findall(cell)]
        except (ValueError, SyntaxError):
            return None
    return found if isinstance(found, list) else None


def _item(item: str) -> object:
    if item[0] not in "'\"":
        return int(item)
    # The parser is slow, and only escapes need it.
    return ast.literal_eval(item) if "\\" in item else item[1:-1]


def _entities(where: str, cell: str) -> object:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        try:
            return ast.literal_eval(cell)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
            raise RunError(f"{where}: entities {quoted(cell)} are not a list in JSON or Python") from error
