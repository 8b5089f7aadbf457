"""Reads what W&B keeps of a run that is offline; wandb ships no reader.

A ``.wandb`` file is a header of 7 bytes, and behind it the log format of LevelDB: blocks of 32 KiB, in each of them
fragments of records, a fragment being a checksum (4 bytes), its length (2 bytes), its kind (1 byte) and its bytes.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wandb.proto import wandb_internal_pb2 as proto

HEADER, BLOCK, FRAGMENT = 7, 32 * 1024, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


class Kept(NamedTuple):
    """A W&B run as its own file has it."""

    name: str
    group: str
    job_type: str
    project: str
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    metrics: dict[str, str]
    files: list[str]
    exit_code: int | None


def records(path: Path) -> Iterator[Any]:
    """Every record, in order."""
    data = path.read_bytes()
    assert data[:4] == b":W&B", data[:HEADER]
    at, record = HEADER, b""
    while at + FRAGMENT <= len(data):
        left = BLOCK - at % BLOCK
        if left < FRAGMENT:
            at += left
            continue
        length, kind = struct.unpack("<4xHB", data[at : at + FRAGMENT])
        at += FRAGMENT
        fragment = data[at : at + length]
        assert len(fragment) == length
        assert kind in (FULL, FIRST, MIDDLE, LAST), kind
        record = fragment if kind in (FULL, FIRST) else record + fragment
        at += length
        if kind in (FULL, LAST):
            found = proto.Record()  # type: ignore[attr-defined] # made by protobuf at run time
            found.ParseFromString(record)
            yield found


def read(path: Path) -> Kept:
    """Put a run together from its records."""
    run: Any = None
    config: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    metrics: dict[str, str] = {}
    files: list[str] = []
    exit_code = None
    for record in records(path):
        match record.WhichOneof("record_type"):
            case "run":
                run = record.run
                config |= _items(record.run.config.update)
            case "config":
                config |= _items(record.config.update)
            case "history":
                history.append(_items(record.history.item))
            case "summary":
                summary |= _items(record.summary.update)
            case "metric":
                metrics[record.metric.name or record.metric.glob_name] = record.metric.step_metric
            case "files":
                files += [each.path for each in record.files.files]
            case "exit":
                exit_code = record.exit.exit_code
    config.pop("_wandb", None)
    return Kept(
        run.display_name, run.run_group, run.job_type, run.project, config, history, summary, metrics, files, exit_code
    )


def read_all(folder: Path) -> list[Kept]:
    """The runs that are kept in a folder, in the order of their beginning."""
    return [read(path) for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.parent)]


def _items(items: Any) -> dict[str, Any]:  # noqa: ANN401 - wandb's generated classes have no types
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
