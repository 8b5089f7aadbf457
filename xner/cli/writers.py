"""Write tagged texts to standard output, or to files, which are continued after an interruption."""

import argparse
import errno
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Self, TypedDict

from filelock import lock_descriptor

from xner.backbone.weights import backbone_digest
from xner.cli.formats import Position, TagFormat
from xner.cli.output import escaped_lines
from xner.errors import RunError, UserError, quoted
from xner.files import remove_parts_of, write_atomically
from xner.tagger import Tagged, encodable
from xner.typed import load_checked, with_checksum

logger = logging.getLogger(__name__)

_SECONDS = 1.0
"""Seconds after which it is recorded again how far the files are complete."""


def record_of(output: Path) -> Path:
    """Return the path of the record that stands beside an incomplete ``--output``."""
    output = Path(os.path.realpath(output))  # one file has one record, whatever link leads to it
    return output.with_name(f"{output.name}.resume")


class StandardOutput:
    """Write tagged texts to standard output; what would give orders to a terminal is escaped there.

    Args:
        form: The format.

    Attributes:
        position: Where the next text starts.
    """

    def __init__(self, form: TagFormat) -> None:
        self.form = form
        self.position = Position()

    def __enter__(self) -> Self:
        """Write nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave standard output open."""

    def remaining(self, texts: Iterator[str]) -> Iterator[str]:
        """Return the texts that are to be tagged: all."""
        return texts

    def begin(self) -> None:
        """Write the head."""
        sys.stdout.write(self.form.head)

    def write(self, batch: Sequence[Tagged]) -> None:
        """Write some texts."""
        for tagged in batch:
            [text] = self.form.content(tagged, self.position)
            sys.stdout.write(escaped_lines(text) if sys.stdout.isatty() else text)
            self.position = self.position.after(tagged)


class FileOutput:
    """Write tagged texts to a file, or to several, that no other process may write at the same time.

    While they are incomplete, a record stands beside them, ``<output>.resume``: the options that they were begun with,
    how many texts and bytes are complete, and the hashes of both. A run that continues cuts off what follows them, and
    leaves the record, by which the same command ends at once. The record is written between two batches: the last digit
    of a score may depend on the batch, and so the batches of a continued run are those of an undisturbed one.

    Args:
        form: The format.
        options: The options of the command.

    Attributes:
        position: Where the next text starts.

    Raises:
        UserError: When it is entered, if the files cannot be continued.
        RunError: If another process writes them, or they cannot be written.
    """

    def __init__(self, form: TagFormat, options: argparse.Namespace) -> None:
        self.form = form
        self.options = options
        self.where = f"output={options.output!r}"
        self.record = record_of(Path(options.output))
        self.made_with = {name: getattr(options, name) for name in ("format", "fields", "precision", "decoding")}
        self.made_with["model"] = backbone_digest(options.model)
        self.position = Position()
        self.texts = hashlib.sha256()
        self.digest = self.texts.hexdigest()
        self.files = [_HashedFile(path) for path in form.files(Path(options.output))]
        self.begun = False
        self.recorded = 0.0

    def __enter__(self) -> Self:
        """Open and lock the files, and check those that are to be continued."""
        with ExitStack() as stack:
            stack.callback(self._close)
            with self._naming():
                self.record.parent.mkdir(parents=True, exist_ok=True)
                for file in self.files:
                    if not file.open():
                        raise RunError(f"{self.where} is in use by another process; wait for it, or use another one")
                record = self._read_record() if self.record.exists() else None
            # Empty files have nothing to continue: a run that is killed in its first batch leaves them, and no record.
            if self.options.resume and any(file.length() for file in self.files):
                self._check(record)
            stack.pop_all()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Close the files; without an error, they are complete."""
        try:
            if kind is None and self.options.resume:
                with self._naming():
                    self._write_record(complete=True)
        finally:
            self._close()
        if kind is None:
            remove_parts_of(self.record)
            if not self.options.resume:
                self.record.unlink(missing_ok=True)

    def _close(self) -> None:
        # What a failed write has left in a buffer fails here again.
        with self._naming(), ExitStack() as stack:
            for file in self.files:
                stack.callback(file.close, keep=self.begun)

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Say which output an error within the block is about, and how to go on."""
        try:
            yield
        except OSError as error:
            again = "correct that, and use --resume to go on" if self.begun else "correct that, or use another one"
            # A write to an open file does not say to which one.
            what = ", ".join(str(each) for each in (error.strerror, error.filename) if each)
            raise RunError(f"{self.where} cannot be written ({what}); {again}") from error

    def _read_record(self) -> "_Record":
        try:
            record: _Record = load_checked(self.record.read_bytes(), _Record)
            return record
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(
                f"{str(self.record)!r} is damaged, or not of tag ({error}); use another --output, or delete it and "
                "leave --resume out"
            ) from error

    def _check(self, record: "_Record | None") -> None:
        """Check the options and the files by the record, and take the position and the texts' hash from it."""
        again = "leave --resume out to write it again"
        if record is None:
            raise UserError(
                f"{self.where} has no {self.record.name!r} beside it: it is complete, or tag did not write it; {again}"
            )
        for name, value in self.made_with.items():
            if record["made_with"].get(name) != value:
                given = f"{name}={quoted(getattr(self.options, name))}"
                raise UserError(f"{self.where} was begun with another {name} than {given}; use the same, or {again}")
        for file, state in zip(self.files, record["files"], strict=True):
            if file.read(state["bytes"]) != state or (record["complete"] and file.length() > file.size):
                raise UserError(
                    f"{str(file.path)!r} has changed since tag wrote it, so that it cannot be continued; {again}"
                )
        self.position = Position(record["texts"], record["characters"], record["entities"])
        self.digest = record["texts_sha256"]

    def remaining(self, texts: Iterator[str]) -> Iterator[str]:
        """Return the texts that are to be tagged: those after the complete ones.

        Raises:
            UserError: If the complete ones are others.
        """
        for text in islice(texts, self.position.texts):
            self.texts.update(_framed(encodable(text)))
        if self.texts.hexdigest() != self.digest:
            raise UserError(
                f"{self.where} has {self.position.texts:,} texts, which are not the first ones of those given; use the "
                "same texts, or leave --resume out to write it again"
            )
        return texts

    def begin(self) -> None:
        """Cut off what is not complete."""
        with self._naming():
            self._write_record()
            self.begun = True
            for file in self.files:
                file.cut()
            if not self.files[0].size:
                self.files[0].write(self.form.head)

    def write(self, batch: Sequence[Tagged]) -> None:
        """Write some texts."""
        with self._naming():
            for tagged in batch:
                for file, text in zip(self.files, self.form.content(tagged, self.position), strict=True):
                    file.write(text)
                self.texts.update(_framed(tagged.text))
                self.position = self.position.after(tagged)
            if time.monotonic() - self.recorded > _SECONDS:
                self._write_record()

    def _write_record(self, *, complete: bool = False) -> None:
        record: _Record = {
            "made_with": self.made_with,
            "complete": complete,
            "texts": self.position.texts,
            "characters": self.position.characters,
            "entities": self.position.entities,
            "texts_sha256": self.texts.hexdigest(),
            "files": [file.state() for file in self.files],
        }
        write_atomically(self.record, json.dumps(with_checksum(record), indent=2) + "\n")
        self.recorded = time.monotonic()


class _State(TypedDict):
    """The size and the SHA-256 of the complete beginning of a file."""

    bytes: int
    sha256: str


class _Record(TypedDict):
    """How far the files are complete: the position, the texts' SHA-256 and each file's state; and the options."""

    made_with: dict[str, str]
    complete: bool
    texts: int
    characters: int
    entities: int
    texts_sha256: str
    files: list[_State]


class _HashedFile:
    """A file with the size and the hash of its complete beginning."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.target = Path(os.path.realpath(path))  # so that a link itself is never deleted
        self.size = 0
        self.hash = hashlib.sha256()
        self.new = False
        self.file: BinaryIO | None = None

    def open(self) -> bool:
        """Open the file, whose content stays, and lock it; return whether no other process has it."""
        try:
            self.file, created = self.target.open("x+b"), True
        except FileExistsError:
            self.file, created = self.target.open("a+b"), False
        try:
            free = lock_descriptor(self.file.fileno(), blocking=False)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                raise
            logger.warning("%s is on a file system without locks: no other process must write it now", self.path)
            free = True
        self.new = created and free  # one that another process has locked is its file now
        # A file without a name was created by another process, which failed and deleted it.
        return free and os.fstat(self.file.fileno()).st_nlink > 0

    def length(self) -> int:
        """Return the size of the file on the disk."""
        assert self.file
        return os.fstat(self.file.fileno()).st_size

    def read(self, size: int) -> _State:
        """Read the first bytes of the file, and return their state, with fewer where it is shorter."""
        assert self.file
        self.file.seek(0)
        while part := self.file.read(min(size - self.size, 1 << 20)):
            self.hash.update(part)
            self.size += len(part)
        return self.state()

    def cut(self) -> None:
        """Cut off what follows the complete beginning."""
        assert self.file
        self.file.truncate(self.size)

    def write(self, text: str) -> None:
        """Write a text."""
        assert self.file
        content = text.encode()
        self.file.write(content)
        self.hash.update(content)
        self.size += len(content)

    def state(self) -> _State:
        """Return the size and the hash, once the file has what was written, whatever happens to the machine."""
        assert self.file
        self.file.flush()
        os.fsync(self.file.fileno())
        return {"bytes": self.size, "sha256": self.hash.hexdigest()}

    def close(self, *, keep: bool) -> None:
        """Close the file if it was opened, and delete a new one unless it is to be kept."""
        if self.file:
            if self.new and not keep:
                self.target.unlink(missing_ok=True)
            self.file.close()


def _framed(text: str) -> bytes:
    """Return a text as bytes that tell where it ends."""
    content = text.encode()
    return b"%d\n%b" % (len(content), content)
