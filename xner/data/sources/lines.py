"""Read the bytes and the lines of files, compressed or not."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from xner.errors import RunError

_CHUNK = 1 << 20
"""Number of bytes that are read from a file at once."""

_MARK = b"\xef\xbb\xbf"
"""The byte-order mark that some editors put before UTF-8 text."""


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading; one whose name ends in ``.gz`` is decompressed.

    Raises:
        RunError: If it is a pipe or a device, which may never end and cannot be read twice.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise RunError(f"{path} is not a regular file; write its content into one")
    return cast("BinaryIO", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def read_chunks(path: Path) -> Iterator[bytes]:
    """Read a file in chunks of whole lines.

    Raises:
        RunError: If it cannot be read or decompressed.
    """
    try:
        with open_file(path) as file:
            while chunk := file.read(_CHUNK):
                yield chunk + file.readline()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RunError(f"{path} cannot be decompressed ({error}); restore it, or name it without .gz") from error
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error


def read_lines(path: Path) -> Iterator[str]:
    """Read the lines of a UTF-8 file one by one, without a byte-order mark, newlines and carriage returns before them.

    Raises:
        RunError: If the file cannot be read, or is not UTF-8.
    """
    offset = 0
    for number, chunk in enumerate(read_chunks(path)):
        try:
            # str.splitlines also splits at U+2028 and similar characters, which a word may contain.
            text = (chunk if number else chunk.removeprefix(_MARK)).removesuffix(b"\n").decode("utf-8")
        except UnicodeDecodeError as error:
            invalid = offset + error.start + (0 if number else len(chunk) - len(chunk.removeprefix(_MARK)))
            raise RunError(f"{path} is not UTF-8 (invalid byte at offset {invalid}); convert it") from error
        if "\0" in text:  # as UTF-16 has at every other place
            raise RunError(f"{path} is not text (NUL at offset {offset + chunk.index(0)}); convert it to UTF-8")
        yield from text.removesuffix("\r").replace("\r\n", "\n").split("\n")
        offset += len(chunk)
