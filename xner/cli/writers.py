"""Write tagged texts to a file or standard output in each format of ``tag``, and continue an interrupted file."""

import argparse
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import get_terminal_size

from xner.cli.formats import HTML_HEAD, brat_lines, conll_lines, json_line, one_line
from xner.cli.output import escaped_lines, interlinear, shortened
from xner.errors import UserError
from xner.serve.marking import html_line, without_marks
from xner.tagger import Tagged, encodable
from xner.words import split_words

_ENTITY = re.compile(rb"T\d+\t\S+ \d+ \d+\t")
"""The beginning of a line of an entity in an ``.ann`` file."""

_FIRST_FIELD = re.compile(rb', "entities": \[\{"(\w+)"')
"""The name of the first field of an entity in JSON; in a text, a quotation mark is escaped."""


class LinesWriter:
    """Write each text as one or several lines.

    Args:
        options: The options of the command.

    Attributes:
        texts: Number of complete texts in a file that is to be continued.
        last: The lines of the last of them.
        again: Number of the last of them that are tagged again.
        size: Bytes of those before these.

    Raises:
        UserError: If a file that is to be continued has another format.
    """

    head = ""

    def __init__(self, options: argparse.Namespace) -> None:
        self.texts = self.again = self.size = 0
        self.last = b""
        self.fields = options.fields
        self.file = sys.stdout
        self.path = Path(options.output) if options.output else None
        self.resumes = options.resume and self.path and self.path.exists()
        if self.resumes:
            assert self.path
            with self.path.open("rb") as file:
                if not self.began(file.read(4096)):
                    raise UserError(
                        f"output={str(self.path)!r} has another format, so that resume=true would overwrite it; use "
                        "the --format and --fields that it was written with, or another file"
                    )
            self.find_end(self.path)

    @staticmethod
    def files(path: Path) -> list[Path]:
        """Return the files that are written where the output is at a path, that one first."""
        return [path]

    def find_end(self, path: Path) -> None:
        """Find the complete texts of a file, as the attributes describe them."""
        self.texts, self.size, self.last = _whole_texts(path, self.ends)

    def check_continues(self, texts: int, text: str) -> None:
        """Check that the file is a beginning of these texts' results, as far as its number of texts and last one tell.

        Args:
            texts: The number of texts that the file has, or fewer where there are not as many.
            text: The last of them.

        Raises:
            UserError: If it is not.
        """
        if texts < self.texts:
            raise UserError(
                f"output={str(self.path)!r} has {self.texts:,} texts, but only {texts:,} are given; resume=true "
                "continues with the same texts"
            )
        try:
            same = not texts or self.words_of(self.last.decode()) == self.words(encodable(text))
        except (ValueError, LookupError, TypeError):  # damaged, or not what tag wrote
            same = False
        if not same:
            raise UserError(
                f"output={str(self.path)!r} has another text {texts:,} than those given, {shortened(text, 60)!r}; "
                "resume=true continues with the same texts"
            )

    def __enter__(self) -> "LinesWriter":
        """Open the file, and leave out an incomplete end if it is to be continued."""
        if self.path:
            if self.resumes:
                os.truncate(self.path, self.size)
            self.file = self.path.open("a" if self.resumes else "w", encoding="utf-8", newline="")
        if not self.texts:
            self.file.write(self.head)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        if self.path:
            self.file.close()

    def write(self, tagged: Tagged) -> None:
        """Write a text; what would give orders to a terminal is escaped there."""
        text = self.format(tagged)
        self.file.write(escaped_lines(text) if self.file.isatty() else text)

    def format(self, tagged: Tagged) -> str:
        """Format a text."""
        return json_line(tagged, self.fields)

    @staticmethod
    def words(text: str) -> object:
        """Return what the file shows of a text whatever the model."""
        return text

    @staticmethod
    def words_of(lines: str) -> object:
        """Return the same of a complete text in the file.

        Args:
            lines: Its lines.
        """
        return json.loads(lines)["text"]

    def began(self, beginning: bytes) -> bool:
        """Return whether the beginning of a file, which may be cut off, has this format."""
        field = _FIRST_FIELD.search(beginning)
        of_fields = not field or (field[1] == b"type") == (self.fields == "xner")
        return _agree(beginning, b'{"text": ') and of_fields

    @staticmethod
    def ends(line: bytes) -> bool:
        """Return whether a complete line is the last one of a text."""
        return True


class ConllWriter(LinesWriter):
    """Write a line per word, and a blank line after each text."""

    def format(self, tagged: Tagged) -> str:
        """Format a text."""
        return conll_lines([word.text for word in tagged.words], tagged.tags)

    @staticmethod
    def words(text: str) -> object:
        """Return the words of a text."""
        return [word.text for word in split_words(text)]

    @staticmethod
    def words_of(lines: str) -> object:
        """Return the words of a complete text in the file."""
        return [line.partition("\t")[0] for line in lines.split("\n") if line]

    def began(self, beginning: bytes) -> bool:
        """Return whether the first line is blank, has two columns, or is cut off."""
        first, end, _ = beginning.partition(b"\n")
        return not end or not first or first.count(b"\t") == 1

    @staticmethod
    def ends(line: bytes) -> bool:
        """Return whether a line is blank."""
        return line == b"\n"


class HtmlWriter(LinesWriter):
    """Write a page with a paragraph per text."""

    head = HTML_HEAD

    def format(self, tagged: Tagged) -> str:
        """Format a text."""
        return html_line(tagged)

    @staticmethod
    def words(text: str) -> object:
        """Return a text as a paragraph without entities."""
        return html_line(Tagged(text, [], [], []))

    @staticmethod
    def words_of(lines: str) -> object:
        """Return a complete paragraph of the file without its entities; before the first one is the page's head."""
        return without_marks(lines[lines.rfind("\n", 0, -1) + 1 :])

    def began(self, beginning: bytes) -> bool:
        """Return whether it is the beginning of a page."""
        return _agree(beginning, HTML_HEAD.encode())

    @staticmethod
    def ends(line: bytes) -> bool:
        """Return whether a line is a paragraph."""
        return line.startswith(b"<p ")


class TableWriter(LinesWriter):
    """Write words over their tags, with a blank line between texts."""

    separator = ""

    def format(self, tagged: Tagged) -> str:
        """Format a text."""
        shown = interlinear([[word.text for word in tagged.words], tagged.tags], get_terminal_size().columns)
        separator, self.separator = self.separator, "\n"
        return f"{separator}{shown}\n"


class BratWriter(LinesWriter):
    """Write a text per line, and the entities beside it."""

    start = 0
    """Character at which the next text starts."""

    @staticmethod
    def files(path: Path) -> list[Path]:
        """Return the file of texts, and that of entities."""
        return [path, path.with_suffix(".ann")]

    @staticmethod
    def words(text: str) -> object:
        """Return a text as a line."""
        return one_line(text)

    @staticmethod
    def words_of(lines: str) -> object:
        """Return a complete line of the file."""
        return lines.removesuffix("\n")

    def began(self, beginning: bytes) -> bool:
        """Return whether it is text, which anything may be."""
        return True

    def find_end(self, path: Path) -> None:
        """Find the end of the texts that have all of their entities: those before that of the last complete entity.

        The others are tagged again: the file of entities may end before that of the texts, as after a loss of power,
        and a text that lost its entities looks like one without any.
        """
        _, beside = self.files(path)
        if not beside.is_file():
            raise UserError(
                f"resume=true continues {str(beside)!r} as well, which does not exist; use another --output"
            )
        reached = 0
        with beside.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                # Its number and its start tell whether a line before it was lost or moved.
                numbered = _ENTITY.match(line) and line.startswith(b"T%d\t" % number)
                if not numbered or _start(line) < reached:
                    raise UserError(
                        f"{beside}, line {number} is not the entity that tag wrote there, so that resume=true cannot "
                        "find where to continue; use another --output"
                    )
                reached = _start(line)
        position = end = kept = 0
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                # A byte that is not UTF-8 is one that was damaged.
                position, end = position + len(line), end + len(line.decode(errors="replace"))
                self.texts, self.last = self.texts + 1, line
                if end <= reached:
                    kept, self.size, self.start = self.texts, position, end
        self.again = self.texts - kept

    def __enter__(self) -> "BratWriter":
        """Open both files."""
        assert self.path  # checked with the options
        super().__enter__()
        _, beside = self.files(self.path)
        self.number = 0
        if self.resumes:
            self.number, size, _ = _whole_texts(beside, lambda line: _start(line) < self.start)
            os.truncate(beside, size)
        self.entities = beside.open("a" if self.resumes else "w", encoding="utf-8", newline="")
        return self

    def __exit__(self, *_: object) -> None:
        """Close both files."""
        self.entities.close()
        super().__exit__()

    def write(self, tagged: Tagged) -> None:
        """Write a text."""
        self.entities.write(brat_lines(tagged.entities, self.start, self.number))
        self.entities.flush()
        self.file.write(one_line(tagged.text) + "\n")
        self.start += len(tagged.text) + 1
        self.number += len(tagged.entities)


def _start(line: bytes) -> int:
    """Return the first character of an entity of an ``.ann`` file."""
    return int(line.split(None, 3)[2])


def _agree(beginning: bytes, head: bytes) -> bool:
    """Return whether one of two beginnings is the beginning of the other."""
    return beginning.startswith(head) or head.startswith(beginning)


def _whole_texts(path: Path, ends: Callable[[bytes], bool]) -> tuple[int, int, bytes]:
    """Count the complete texts of a file, and its bytes until the end of the last one, and read that one."""
    texts = size = position = 0
    last, lines = b"", bytearray()
    with path.open("rb") as file:
        for line in file:
            position += len(line)
            lines += line
            if line.endswith(b"\n") and ends(line):
                texts, size, last = texts + 1, position, bytes(lines)
                lines.clear()
    return texts, size, last


WRITERS: dict[str, type[LinesWriter]] = {
    "table": TableWriter,
    "jsonl": LinesWriter,
    "conll": ConllWriter,
    "brat": BratWriter,
    "html": HtmlWriter,
}
"""The writer of each ``--format``."""
