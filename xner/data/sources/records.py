"""Read rows with ``tokens`` and ``ner_tags``: ``.jsonl``, ``.parquet``, and folders written by ``save_to_disk``."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xner.data.sources.lines import open_file, read_lines
from xner.data.sources.sentences import ReadOptions, Row, Rows
from xner.errors import RunError
from xner.tags import PANX, TagSet


def read_jsonl(path: Path, options: ReadOptions) -> Rows:
    """Read a file with one JSON object per line."""
    names = integer_tags(options)
    tokens, ner_tags = options.column("tokens"), options.column("ner_tags")

    def rows() -> Iterator[Row]:
        for number, line in enumerate(read_lines(path), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                words, tags = row[tokens], row[ner_tags] if options.tagged else row.get(ner_tags)
            except (json.JSONDecodeError, KeyError, TypeError, RecursionError, ValueError) as error:
                expected = f'{{"{tokens}": [...], "{ner_tags}": [...]}}'
                raise RunError(f"{path}, line {number}: expected {expected} ({error!r})") from error
            yield _row(f"{path}, line {number}", words, tags, names, number, options)

    return Rows(rows())


def read_parquet(path: Path, options: ReadOptions) -> Rows:
    """Read a Parquet file."""
    import datasets
    import pyarrow
    import pyarrow.parquet

    try:
        with open_file(path) as file:
            table = pyarrow.parquet.read_table(file)
    except (OSError, EOFError, pyarrow.ArrowInvalid) as error:
        raise RunError(f"{path} is not a Parquet file: {error}") from error
    return read_table(datasets.Dataset(table), str(path), options)


def read_saved(path: Path, options: ReadOptions) -> Rows:
    """Read a folder written by ``datasets.Dataset.save_to_disk``."""
    import datasets

    try:
        dataset = datasets.load_from_disk(str(path))
    except IndexError:  # datasets 5.2 saves a data set without rows, but cannot load it
        return Rows([], "row")
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path} cannot be loaded as a folder written by save_to_disk: {error}") from error
    return read_table(dataset, str(path), options)


def read_table(dataset: Any, where: str, options: ReadOptions) -> Rows:  # noqa: ANN401 - datasets ships no types
    """Read a ``datasets.Dataset`` with a column of words and one of tags.

    Args:
        dataset: The data set. If the tags are class labels, integers are looked up in their own names.
        where: The name of the data set in error messages.
        options: How to read it.
    """
    columns = [options.column("tokens"), options.column("ner_tags")]
    wanted = columns if options.tagged or columns[1] in dataset.column_names else columns[:1]
    if missing := [each for each in wanted if each not in dataset.column_names]:
        raise RunError(
            f"{where} has no column {missing[0]!r}, only {', '.join(dataset.column_names)}; name its columns with "
            '--data.columns "{tokens: ..., ner_tags: ...}"'
        )
    feature = getattr(dataset.features.get(columns[1]), "feature", None)
    names: Sequence[str] | None = getattr(feature, "names", None)
    declared = TagSet.of_tags(names) if names else None
    batches = dataset.select_columns(wanted).iter(batch_size=1000)
    pairs = (pair for batch in batches for pair in zip(*(batch[each] for each in wanted), strict=True))
    known = names or integer_tags(options)
    rows = (
        _row(f"{where}, row {number}", pair[0], pair[1] if len(pair) > 1 else None, known, number, options)
        for number, pair in enumerate(pairs)
    )
    return Rows(rows, "row", declared.types if declared else None)


def integer_tags(options: ReadOptions) -> Sequence[str]:
    """Return the tags that integers stand for where a file does not say it: those of ``data.types``, or PAN-X's."""
    return TagSet(options.types).tags if options.types else PANX.tags


def _row(
    where: str, words: object, tags: object, names: Sequence[str], number: int, options: ReadOptions
) -> Row:  # fmt: skip
    """Make a row; integers among the tags are looked up in ``names``."""
    for value, name in ((words, "tokens"), (tags, "ner_tags")):
        if not isinstance(value, list) and (options.tagged or value is not None or name == "tokens"):
            raise RunError(f"{where}: {options.column(name)} is not a list; use one {name[:-1]} per word")
    assert isinstance(words, list)
    if not isinstance(tags, list):
        return Row(words, None, number)
    # type() and not isinstance(), for True is an int.
    named = [names[tag] if type(tag) is int and 0 <= tag < len(names) else tag for tag in tags]
    if unnamed := [tag for tag in named if not isinstance(tag, str)]:
        raise RunError(f"{where}: unknown tag {unnamed[0]!r}; use a string, or 0 to {len(names) - 1}")
    return Row(words, named, number)
