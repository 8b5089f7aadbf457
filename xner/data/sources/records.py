"""Read rows with named columns: ``.jsonl``, ``.parquet``, and folders written by ``save_to_disk``.

A row has ``tokens`` and ``ner_tags``, or ``text`` and ``entities``.
"""

import json
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xner.data.sources.annotations import read_text
from xner.data.sources.lines import open_file, read_lines
from xner.data.sources.sentences import Column, ReadOptions, Row, Rows
from xner.errors import RunError, listed, quoted
from xner.tags import TagSet

_DAMAGED = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error)
"""The exceptions that libraries raise when they read damaged files."""

_ENTITIES = ("entities", "label", "labels")
"""The columns of entities, as spaCy and Doccano call them."""


def read_jsonl(path: Path, options: ReadOptions) -> Rows:
    """Read a file with one JSON object per line."""
    return Rows(_jsonl_rows(path, options))


def _jsonl_rows(path: Path, options: ReadOptions) -> Iterator[Row]:
    names = integer_tags(options)
    columns: dict[str, Column] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise RunError(f"{where}: {_expected(options)} ({error.msg} at character {error.pos})") from error
        except (ValueError, RecursionError) as error:
            raise RunError(f"{where}: {_expected(options)} ({error})") from error
        if not isinstance(row, dict):
            raise RunError(f"{where}: {_expected(options)}, found {quoted(row)}")
        if not options.tagged or not columns:  # what is optional may differ from line to line
            columns = columns_of(row, where, options)
        for column in columns.values():
            if column not in row:
                raise RunError(f"{where}: {_expected(options)}, found no {quoted(column)}")
        yield make_row(where, {name: row.get(column) for name, column in columns.items()}, names, number, options)


def _expected(options: ReadOptions) -> str:
    tokens, ner_tags, text, entities = map(options.column, ("tokens", "ner_tags", "text", "entities"))
    return f'expected {{"{tokens}": [...], "{ner_tags}": [...]}} or {{"{text}": "...", "{entities}": [...]}}'


def read_parquet(path: Path, options: ReadOptions) -> Rows:
    """Read a Parquet file."""
    import pyarrow.parquet

    try:
        with open_file(path) as file:
            schema = pyarrow.parquet.ParquetFile(file).schema_arrow
    except RunError:
        raise
    except (pyarrow.ArrowException, *_DAMAGED) as error:
        raise RunError(f"{path} is not a Parquet file: {_first_line(error)}") from error

    def batches(columns: list[str]) -> Iterator[dict[str, list[object]]]:
        try:
            with open_file(path) as file:
                for batch in pyarrow.parquet.ParquetFile(file).iter_batches(1000, columns=columns):
                    yield batch.to_pydict()
        except (pyarrow.ArrowException, *_DAMAGED) as error:
            raise RunError(f"{path} cannot be read: {_first_line(error)}") from error

    def names(column: str) -> Sequence[str] | None:
        try:
            # Where arrow types have changed since, datasets ignores its own metadata and with them the names.
            info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {})
            feature = (info.get("features") or {}).get(column, {}).get("feature")
            found = feature.get("names") if isinstance(feature, dict) else None
            if found is not None and (not isinstance(found, list) or not all(isinstance(name, str) for name in found)):
                raise TypeError(f"names are {quoted(found)}")
        except _DAMAGED as error:
            raise RunError(f"{path} has damaged metadata of datasets: {_first_line(error)}") from error
        return found

    return _read_columns(str(path), schema.names, batches, names, options)


def read_saved(path: Path, options: ReadOptions) -> Rows:
    """Read a folder written by ``datasets.Dataset.save_to_disk``."""
    import datasets
    import pyarrow

    try:
        files = [each["filename"] for each in json.loads((path / "state.json").read_bytes())["_data_files"]]
        if outside := [each for each in files if Path(each).name != each]:
            raise ValueError(f"state.json names {quoted(outside[0])}, which is not a file in the folder")
        dataset = datasets.load_from_disk(str(path))
        dataset.data.validate(full=True)  # pyarrow trusts offsets, and a wrong one ends the process
    except IndexError:  # datasets 5.2 saves a data set without rows, but cannot load it
        return Rows([], "row")
    except (pyarrow.ArrowException, *_DAMAGED) as error:
        raise RunError(f"{path} cannot be loaded as a folder written by save_to_disk: {_first_line(error)}") from error
    return read_table(dataset, str(path), options)


def read_table(dataset: Any, where: str, options: ReadOptions) -> Rows:  # noqa: ANN401 - datasets ships no types
    """Read a ``datasets.Dataset`` with a column of words and one of tags, or of text and entities.

    Args:
        dataset: The data set. If the tags are class labels, integers are looked up in their own names.
        where: The name of the data set in error messages.
        options: How to read it.
    """
    import pyarrow

    def batches(columns: list[str]) -> Iterator[dict[str, list[object]]]:
        try:
            yield from dataset.select_columns(columns).with_format(None).iter(batch_size=1000)
        except (pyarrow.ArrowException, *_DAMAGED) as error:
            raise RunError(f"{where} cannot be read: {_first_line(error)}") from error

    def names(column: str) -> Sequence[str] | None:
        return getattr(getattr(dataset.features[column], "feature", None), "names", None)

    return _read_columns(where, dataset.column_names, batches, names, options)


def _read_columns(
    where: str,
    available: Sequence[str],
    batches: Callable[[list[str]], Iterable[Mapping[str, Sequence[object]]]],
    names: Callable[[str], Sequence[str] | None],
    options: ReadOptions,
) -> Rows:
    """Read a table.

    Args:
        where: Its name in error messages.
        available: Its columns.
        batches: Reads some of its columns, some rows at a time.
        names: The tags that integers of a column stand for, if the table says it.
        options: How to read it.
    """
    columns = {name: str(column) for name, column in columns_of(available, where, options).items()}
    own = names(columns["ner_tags"]) if "ner_tags" in columns else None
    declared = TagSet.of_tags(own) if own else None
    known = own or integer_tags(options)

    def rows() -> Iterator[Row]:
        number = 0
        for batch in batches([*columns.values()]):
            for values in zip(*(batch[column] for column in columns.values()), strict=True):
                row = dict(zip(columns, values, strict=True))
                yield make_row(f"{where}, row {number}", row, known, number, options)
                number += 1

    return Rows(rows(), "row", declared.types if declared else None)


def columns_of(available: Collection[Column], where: str, options: ReadOptions) -> dict[str, Column]:
    """Choose the columns to read.

    Args:
        available: The columns of a file.
        where: The file, for messages.
        options: How to read it.

    Returns:
        The file's column by the name that xner has for it: ``tokens`` and ``ner_tags``, or ``text`` and ``entities``.
        Without ``options.tagged``, the second is missing where the file does not have it, and ``id`` is a third one
        where the file has it.

    Raises:
        RunError: If the file does not have a column.
    """
    tokens, text = options.column("tokens"), options.column("text")
    raw = "tokens" not in options.columns and (
        "text" in options.columns or (tokens not in available and text in available)
    )
    columns = {"text": text} if raw else {"tokens": tokens, "ner_tags": options.column("ner_tags")}
    if raw and options.tagged:
        usual = next((each for each in _ENTITIES if each in available), "entities")
        columns["entities"] = options.columns.get("entities", usual)
    if not options.tagged and columns.get("ner_tags") not in available:
        columns.pop("ner_tags", None)
    if not options.tagged and ("id" in options.columns or "id" in available):
        columns["id"] = options.column("id")
    if missing := [each for each in columns.values() if each not in available]:
        form = "{text: ..., entities: ...}" if raw else "{tokens: ..., ner_tags: ...}"
        needed = [columns[name] for name in ("ner_tags", "entities") if name in columns]
        raise RunError(
            f"{where} has no column {quoted(missing[0])}, only {listed(available)}; name its columns with "
            f'--data.columns "{form}"' + (", or use predict, which needs no tags" if missing[0] in needed else "")
        )
    return columns


def integer_tags(options: ReadOptions) -> Sequence[str]:
    """Return the tags that integers stand for where a file does not say it: those of ``data.types``, or none.

    Where tags are not read, integers are left as they are.
    """
    return TagSet(options.types).tags if options.tagged and options.types else ()


def make_row(
    where: str, values: Mapping[str, object], names: Sequence[str], number: int, options: ReadOptions
) -> Row:  # fmt: skip
    """Make a row of the values of columns.

    Args:
        where: The file and the line or row, for messages.
        values: The value of each column that ``columns_of`` returned.
        names: The tags that integers stand for.
        number: The number of the line or row.
        options: How to read it.

    Raises:
        RunError: If words or tags are not lists, a tag is not a string or a known integer, or an entity is invalid.
    """
    if "text" in values:
        row = read_text(where, values["text"], values.get("entities"), number, tagged=options.tagged)
        return row._replace(id=values.get("id"))
    words, tags = values["tokens"], values.get("ner_tags")
    if not isinstance(words, list):
        raise RunError(f"{where}: {options.column('tokens')} is not a list; use one token per word")
    if tags is None and not options.tagged:
        return Row(words, None, number, id=values.get("id"))
    if not isinstance(tags, list):
        raise RunError(f"{where}: {options.column('ner_tags')} is not a list; use one ner_tag per word")
    # type() and not isinstance(), for True is an int.
    named = [names[tag] if type(tag) is int and 0 <= tag < len(names) else tag for tag in tags]
    if options.tagged and (unnamed := [tag for tag in named if not isinstance(tag, str)]):
        if type(unnamed[0]) is int and not names:
            raise RunError(
                f"{where}: the tags are integers without names; give the entity types with data.types, in the order of "
                "the integers (1 and 2 are B- and I- of the first)"
            )
        use = f"a string, or 0 to {len(names) - 1}" if names else "a string"
        raise RunError(f"{where}: unknown tag {quoted(unnamed[0])}; use {use}")
    return Row(words, named, number, id=values.get("id"))


def _first_line(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return listed(text.splitlines()[:1])
