"""Read rows with ``tokens`` and ``ner_tags``: ``.jsonl``, ``.parquet``, and folders written by ``save_to_disk``."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from xner.data.sources.sentences import Sentence, read_lines, remove_prefix, unknown_tag
from xner.errors import RunError
from xner.tags import LABELS, TAGS

_SURROGATE = re.compile("[\ud800-\udfff]")
"""JSON may contain one half of an escaped surrogate pair."""


def read_jsonl(path: Path, language: str) -> Iterator[Sentence]:
    """Read a file with one JSON object per line."""

    def rows() -> Iterator[tuple[str, Any, Any]]:
        for number, line in enumerate(read_lines(path), start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                row = json.loads(line)
                yield where, row["tokens"], row["ner_tags"]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise RunError(f'{where}: expected {{"tokens": [...], "ner_tags": [...]}} ({error!r})') from error

    return _check_rows(rows(), language)


def read_parquet(path: Path, language: str) -> Iterator[Sentence]:
    """Read a Parquet file."""
    import datasets
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise RunError(f"{path} is not a Parquet file: {error}") from error
    return read_table(datasets.Dataset(table), str(path), language)


def read_saved(path: Path, language: str) -> Iterator[Sentence]:
    """Read a folder written by ``datasets.Dataset.save_to_disk``."""
    import datasets

    try:
        dataset = datasets.load_from_disk(str(path))
    except IndexError:  # datasets 5.2 saves a data set without rows, but cannot load it
        return iter(())
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path} cannot be loaded as a folder written by save_to_disk: {error}") from error
    return read_table(dataset, str(path), language)


def read_table(dataset: Any, where: str, language: str) -> Iterator[Sentence]:  # noqa: ANN401 - datasets ships no types
    """Read a ``datasets.Dataset`` with the columns ``tokens`` and ``ner_tags``.

    Args:
        dataset: The data set. If ``ner_tags`` is a class label, integers are looked up in its own names.
        where: The name of the data set in error messages.
        language: A language code.
    """
    if missing := {"tokens", "ner_tags"} - set(dataset.column_names):
        raise RunError(f"{where} has no column {sorted(missing)[0]!r}, only {', '.join(dataset.column_names)}")
    feature = getattr(dataset.features["ner_tags"], "feature", None)
    names: Sequence[str] = getattr(feature, "names", None) or TAGS
    batches = dataset.select_columns(["tokens", "ner_tags"]).iter(batch_size=1000)
    pairs = (pair for batch in batches for pair in zip(batch["tokens"], batch["ner_tags"], strict=True))
    return _check_rows(((f"{where}, row {row}", *pair) for row, pair in enumerate(pairs)), language, names)


def _check_rows(rows: Iterable[tuple[str, Any, Any]], language: str, names: Sequence[str] = TAGS) -> Iterator[Sentence]:
    """Check rows of (where, words, tags); tags are strings, or integers that are looked up in ``names``."""
    for where, words, tags in rows:
        if not isinstance(words, list) or not isinstance(tags, list):
            raise RunError(f"{where}: tokens and ner_tags must be lists")
        if len(words) != len(tags):
            raise RunError(f"{where}: {len(words)} tokens but {len(tags)} ner_tags; give one tag per word")
        if not words:
            raise RunError(f"{where}: the sentence is empty")
        if not all(isinstance(word, str) and word for word in words):
            raise RunError(f"{where}: tokens must be non-empty strings")
        if broken := [word for word in words if not word.isascii() and _SURROGATE.search(word)]:
            raise RunError(f"{where}: {broken[0]!a} contains a lone surrogate, which UTF-8 cannot encode")
        # type() and not isinstance(), for True is an int.
        named = [names[tag] if type(tag) is int and 0 <= tag < len(names) else tag for tag in tags]
        if unknown := [tag for tag in named if not isinstance(tag, str) or tag not in LABELS]:
            raise RunError(f"{where}: {unknown_tag(unknown[0])}, or 0 to {len(names) - 1}")
        yield Sentence([remove_prefix(word, language) for word in words], named)
