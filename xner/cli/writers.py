"""Write tagged texts to files or standard output in each format of ``tag``, and continue after an interruption."""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from shutil import get_terminal_size
from typing import BinaryIO, NamedTuple, Self, TypedDict

from xner.backbone.weights import backbone_digest
from xner.cli.formats import HTML_HEAD, Fields, brat_lines, conll_lines, json_line, one_line
from xner.cli.output import escaped_lines, interlinear
from xner.errors import UserError, quoted
from xner.files import locked, write_atomically
from xner.serve.marking import html_line
from xner.tagger import Tagged, encodable
from xner.typed import check_type

_SECONDS = 1.0
"""Seconds after which it is recorded again how far the files are complete."""


class Position(NamedTuple):
    """The number of texts, of their characters (with a line break after each text) and of their entities."""

    texts: int = 0
    characters: int = 0
    entities: int = 0

    def after(self, tagged: Tagged) -> "Position":
        """Return the position after a text that starts at this one."""
        return Position(self.texts + 1, self.characters + len(tagged.text) + 1, self.entities + len(tagged.entities))


class TagFormat(NamedTuple):
    """A format of tagged texts.

    Attributes:
        content: Formats a text for each file, by the position at which it starts.
        beside: The suffixes of the files beside that of ``--output``.
        head: The beginning of that one.
    """

    content: Callable[[Tagged, Position], tuple[str, ...]]
    beside: tuple[str, ...] = ()
    head: str = ""

    def files(self, output: Path) -> list[Path]:
        """Return the files that are written, that of ``--output`` first."""
        return [output, *map(output.with_suffix, self.beside)]


def record_of(output: Path) -> Path:
    """Return the path of the record that stands beside an incomplete ``--output``."""
    return output.with_name(f"{output.name}.resume")


def format_of(name: str, fields: Fields) -> TagFormat:
    """Return a format.

    Args:
        name: A value of ``--format``.
        fields: Whose names the fields of an entity have in ``jsonl``.
    """
    return {
        "table": TagFormat(lambda tagged, at: ("\n" * bool(at.texts) + _table(tagged),)),
        "jsonl": TagFormat(lambda tagged, _: (json_line(tagged, fields),)),
        "conll": TagFormat(lambda tagged, _: (conll_lines([word.text for word in tagged.words], tagged.tags),)),
        "brat": TagFormat(_brat, beside=(".ann",)),
        "html": TagFormat(lambda tagged, _: (html_line(tagged),), head=HTML_HEAD),
    }[name]


def _table(tagged: Tagged) -> str:
    return interlinear([[word.text for word in tagged.words], tagged.tags], get_terminal_size().columns) + "\n"


def _brat(tagged: Tagged, at: Position) -> tuple[str, str]:
    return one_line(tagged.text) + "\n", brat_lines(tagged.entities, at.characters, at.entities)


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
    how many texts and bytes are complete, and the hashes of both. A run that continues cuts off what follows them. The
    record is written between two batches: the last digit of a score may depend on the batch, and so the batches of a
    continued run are those of an undisturbed one.

    Args:
        form: The format.
        options: The options of the command.

    Attributes:
        position: Where the next text starts.

    Raises:
        UserError: When it is entered, if the files cannot be continued.
        RunError: When it is entered, if another process writes them.
    """

    def __init__(self, form: TagFormat, options: argparse.Namespace) -> None:
        self.form = form
        self.options = options
        self.path = Path(options.output)
        self.record = record_of(self.path)
        self.made_with = {name: getattr(options, name) for name in ("format", "fields", "precision", "decoding")}
        self.made_with["model"] = backbone_digest(options.model)
        self.position = Position()
        self.texts = hashlib.sha256()
        self.files = [_HashedFile(path) for path in form.files(self.path)]
        self.recorded = 0.0

    def __enter__(self) -> Self:
        """Lock the files, and check those that are to be continued."""
        with ExitStack() as stack:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = self.path.with_name(f".{self.path.name}.lock")
            stack.enter_context(locked(lock, f"output={str(self.path)!r}"))
            stack.callback(lock.unlink, missing_ok=True)
            self.digest = self._check() if self.options.resume and self.path.exists() else self.texts.hexdigest()
            self.stack = stack.pop_all()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Close the files; without an error, they are complete."""
        with self.stack:
            for file in self.files:
                file.close()
            if kind is None:
                self.record.unlink(missing_ok=True)

    def _check(self) -> str:
        """Find the position by the record, check the options and files by it, and return the hash of the texts."""
        where = f"output={str(self.path)!r}"
        again = "leave --resume out to write it again"
        if not self.record.exists():
            raise UserError(
                f"{where} has no {self.record.name!r} beside it: it is complete, or tag did not write it; {again}"
            )
        try:
            record: _Record = json.loads(self.record.read_bytes())
            check_type(record, _Record, "it")
            position = Position(record["texts"], record["characters"], record["entities"])
            if min(position) < 0:
                raise ValueError("it has a negative number")
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(
                f"{str(self.record)!r} is damaged ({error}), so that {where} cannot be continued; {again}"
            ) from error
        for name, value in self.made_with.items():
            if record["made_with"].get(name) != value:
                raise UserError(
                    f"{where} was begun with another {name} than {name}={quoted(getattr(self.options, name))}; use the "
                    f"same, or {again}"
                )
        for file in self.files:
            state = record["files"].get(file.path.name)
            if state is None or file.read(state["bytes"]) != state:
                raise UserError(
                    f"{str(file.path)!r} has changed since tag wrote it, so that it cannot be continued; {again}"
                )
        self.position = position
        return record["texts_sha256"]

    def remaining(self, texts: Iterator[str]) -> Iterator[str]:
        """Return the texts that are to be tagged: those after the complete ones.

        Raises:
            UserError: If the complete ones are others.
        """
        for text in islice(texts, self.position.texts):
            self.texts.update(_framed(encodable(text)))
        if self.texts.hexdigest() != self.digest:
            raise UserError(
                f"output={str(self.path)!r} has {self.position.texts:,} texts, which are not the first ones of those "
                "given; use the same texts, or leave --resume out to write it again"
            )
        return texts

    def begin(self) -> None:
        """Open the files, and cut off what is not complete."""
        self._write_record()
        for file in self.files:
            file.open()
        if not self.files[0].size:
            self.files[0].write(self.form.head)

    def write(self, batch: Sequence[Tagged]) -> None:
        """Write some texts."""
        for tagged in batch:
            for file, text in zip(self.files, self.form.content(tagged, self.position), strict=True):
                file.write(text)
            self.texts.update(_framed(tagged.text))
            self.position = self.position.after(tagged)
        if time.monotonic() - self.recorded > _SECONDS:
            self._write_record()

    def _write_record(self) -> None:
        record: _Record = {
            "made_with": self.made_with,
            "texts": self.position.texts,
            "characters": self.position.characters,
            "entities": self.position.entities,
            "texts_sha256": self.texts.hexdigest(),
            "files": {file.path.name: file.state() for file in self.files},
        }
        write_atomically(self.record, json.dumps(record, indent=2) + "\n")
        self.recorded = time.monotonic()


class _State(TypedDict):
    """The size and the SHA-256 of the complete beginning of a file."""

    bytes: int
    sha256: str


class _Record(TypedDict):
    """What is complete: the position after it, the SHA-256 of its texts, and the state of each file; the options."""

    made_with: dict[str, str]
    texts: int
    characters: int
    entities: int
    texts_sha256: str
    files: dict[str, _State]


class _HashedFile:
    """A file with the size and the hash of its complete beginning."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.hash = hashlib.sha256()
        self.file: BinaryIO | None = None

    def read(self, size: int) -> "_State":
        """Read the first bytes of the file, and return their state, with fewer where it is shorter."""
        if self.path.exists():
            with self.path.open("rb") as file:
                while part := file.read(min(size - self.size, 1 << 20)):
                    self.hash.update(part)
                    self.size += len(part)
        return self.state()

    def open(self) -> None:
        """Open the file after its complete beginning."""
        self.file = self.path.open("ab")
        self.file.truncate(self.size)

    def write(self, text: str) -> None:
        """Write a text."""
        assert self.file
        content = text.encode()
        self.file.write(content)
        self.hash.update(content)
        self.size += len(content)

    def state(self) -> "_State":
        """Return the size and the hash, once the file has what was written, whatever happens to the machine."""
        if self.file:
            self.file.flush()
            os.fsync(self.file.fileno())
        return {"bytes": self.size, "sha256": self.hash.hexdigest()}

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self.file:
            self.file.close()


def _framed(text: str) -> bytes:
    """Return a text as bytes that tell where it ends."""
    content = text.encode()
    return b"%d\n%b" % (len(content), content)
