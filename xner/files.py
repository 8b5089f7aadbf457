"""Write files and folders atomically: a killed process never leaves an incomplete one under its final name.

Content is written to ``.<name>.<process>.part`` beside the final path and then renamed. A killed process leaves its
part behind, which is deleted when the same path is written again, or by ``remove_parts``.
"""

import errno
import glob
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

STALE = 3600.0
"""Seconds without a change after which a part is assumed to belong to a process that no longer runs."""


def cache_folder() -> Path:
    """Return the folder of what can be computed again: ``$XNER_CACHE``, or ``xner`` in the user's cache folder."""
    if folder := os.environ.get("XNER_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xner"


def is_name(text: str) -> bool:
    """Return whether a text is the name of a file in a folder, and does not lead out of it.

    >>> is_name("tr"), is_name("../tr"), is_name("/tr"), is_name("..")
    (True, False, False, False)
    """
    return Path(text).name == text and text not in ("", "..") and "\0" not in text


def is_of_content(error: Exception) -> bool:
    """Return whether an error is about the content of a file, as libraries raise it, not about a disk or a path.

    Reading at a place before the beginning, which a damaged file may name, is the system's ``EINVAL``.
    """
    return not isinstance(error, OSError) or error.errno in (None, errno.EINVAL)


def is_unicode(text: str) -> bool:
    r"""Return whether UTF-8 can encode a text that has no NUL, as paths and configurations must.

    >>> is_unicode("Şırnak"), is_unicode("a\0b"), is_unicode("\udcff")
    (True, False, False)
    """
    return "\0" not in text and text == text.encode(errors="replace").decode()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file atomically; see ``file_atomically``."""
    with file_atomically(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def hash_files(paths: Iterable[Path]) -> "hashlib._Hash":
    """Hash the names and contents of files by SHA-256, in the order of their paths."""
    found = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            found.update(f"{path.name}\n".encode() + hashlib.file_digest(file, "sha256").digest())
    return found


@contextmanager
def file_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` when the block ends without an error.

    Raises:
        OSError: If the file system fails; an old file is unchanged.
    """
    part = _part(path)
    try:
        with _named(path), part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def folder_atomically(path: Path) -> Iterator[Path]:
    """Make a temporary folder that replaces ``path`` when the block ends without an error.

    Raises:
        OSError: If the file system fails; an old folder is unchanged.
    """
    part = _part(path)
    part.mkdir(parents=True)
    try:
        with _named(path):
            yield part
        remove_folder(path)
        part.replace(path)
    finally:
        _remove(part)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the path in an error of a failed write within the block, which names none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def remove_folder(path: Path) -> None:
    """Delete a folder, if it exists, without ever leaving an incomplete one under its name."""
    if path.is_dir():
        old = path.with_name(f".{path.name}.{os.getpid()}-old.part")
        _remove(old)  # of a killed process that had this one's number, as in containers
        _remove(path.replace(old))


def remove_parts(folder: Path) -> None:
    """Delete what killed processes left in a folder and its subfolders. No other process may be writing there."""
    for part in [*folder.rglob(".*.part")]:
        _remove(part)


def remove_parts_of(path: Path) -> None:
    """Delete what killed processes left of a file. No other process may be writing it."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        _remove(part)


def _part(path: Path) -> Path:
    """Return the temporary path of this process, and delete stale parts of the same final path."""
    own = path.with_name(f".{path.name}.{os.getpid()}.part")
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        try:
            if part == own or time.time() - part.stat().st_mtime > STALE:
                _remove(part)
        except FileNotFoundError:  # another process has deleted it
            continue
    return own


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
