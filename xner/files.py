"""Files and folders that are there whole or not at all, whenever the process is stopped.

What is being written is a neighbour called ``.<name>.<process>.part``. A process that is killed leaves it behind; it is
taken away when the same path is written again, or by ``remove_parts``.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

STALE = 3600.0
"""Seconds after which a part that nobody has written to belongs to a process that is gone."""


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file to a neighbour first, flush it to disk, then rename it.

    Raises:
        OSError: As the file system says; the old file, if any, is untouched.
    """
    with file_atomically(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def file_atomically(path: Path) -> Iterator[BinaryIO]:
    """Give an empty neighbouring file to write; it takes the place of ``path`` when the block ends well.

    Raises:
        OSError: As the file system says; the old file, if any, is untouched.
    """
    part = _part(path)
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        # A write that fails does not say where.
        error.filename = error.filename or str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def folder_atomically(path: Path) -> Iterator[Path]:
    """Give an empty neighbouring folder to fill; it takes the place of ``path`` when the block ends well.

    Raises:
        OSError: As the file system says; the old folder, if any, is untouched.
    """
    part = _part(path)
    part.mkdir(parents=True)
    try:
        yield part
        remove_folder(path)
        part.replace(path)
    finally:
        _remove(part)


def remove_folder(path: Path) -> None:
    """Take a folder away at once, so that no process ever sees half of it; without one, do nothing."""
    if path.is_dir():
        gone = path.with_name(f".{path.name}.{os.getpid()}-old.part")
        path.replace(gone)
        _remove(gone)


def remove_parts(folder: Path) -> None:
    """Take away what killed processes left under a folder, which nobody else may be writing to."""
    for part in [*folder.rglob(".*.part")]:
        _remove(part)


def _part(path: Path) -> Path:
    for part in path.parent.glob(f".{path.name}.*.part"):
        try:
            stale = time.time() - part.stat().st_mtime > STALE
        except FileNotFoundError:
            continue
        if stale:
            _remove(part)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    _remove(part)
    return part


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
