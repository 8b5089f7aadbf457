"""The command, in a process with a fault: ``faulty.py FAULT NAME NUMBER COMMAND...``.

The fault strikes as the command begins, for the given time, to write a file or folder of a name, such as ``model`` or
``en-train-*``. ``kill`` ends the process by SIGKILL when half of the content is written, ``fill`` leaves no byte
of the disk, ``nearly-fill`` only 64 KB, and ``read-only`` leaves no permission to write into its folder.
"""

import io
import os
import shutil
import signal
import sys
from fnmatch import fnmatch
from functools import wraps
from pathlib import Path
from typing import Any

import xner.files
from xner.cli.main import main

_LONG = 256
"""Number of bytes from which a write is one of the content, not of a header."""


def die() -> None:
    """End this process as the kernel does."""
    os.kill(os.getpid(), signal.SIGKILL)


class HalfWritten(io.FileIO):
    """A file in whose first long write the process is killed."""

    def write(self, data: Any) -> int:  # noqa: ANN401 - bytes in Python 3.11 have no common type
        content = bytes(data)
        if len(content) < _LONG:
            return super().write(content)
        super().write(content[: len(content) // 2])
        die()
        raise AssertionError


def kill(part: Path) -> None:
    """Kill the process in the middle of a file, or of the tokenizer in a model folder."""
    open_path, copy_file = Path.open, shutil.copyfile

    @wraps(open_path)
    def open_half(path: Path, *options: Any, **names: Any) -> Any:  # noqa: ANN401 - as in pathlib
        return HalfWritten(path, "wb") if path == part else open_path(path, *options, **names)

    @wraps(copy_file)
    def copy_half(source: Path, target: Path) -> None:
        if target.parent != part:
            copy_file(source, target)
            return
        content = source.read_bytes()
        target.write_bytes(content[: len(content) // 2])
        die()

    Path.open, shutil.copyfile = open_half, copy_half


def fill(part: Path) -> None:
    """Fill the disk with a file beside the one that is to be written."""
    with part.with_name("ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def nearly_fill(part: Path) -> None:
    """Fill the disk but for 64 KB."""
    fill(part)
    ballast = part.with_name("ballast")
    os.truncate(ballast, ballast.stat().st_size - 65_536)


def protect(part: Path) -> None:
    """Take the permission to write into the folder."""
    part.parent.chmod(0o555)


FAULTS = {"kill": kill, "fill": fill, "nearly-fill": nearly_fill, "read-only": protect}


if __name__ == "__main__":
    fault, name, number, *command = sys.argv[1:]
    before: list[Path] = []
    part_of = xner.files._part

    @wraps(part_of)
    def faulty(path: Path) -> Path:
        part = part_of(path)
        if fnmatch(path.name, name):
            before.append(path)
            if len(before) == int(number):
                FAULTS[fault](part)
        return part

    xner.files._part = faulty
    main(command)
