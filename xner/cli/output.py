"""Format the output of commands: log lines, tables, and words aligned with their tags."""

import itertools
import logging
import re
import sys
import unicodedata
import warnings
from collections.abc import Iterator, Sequence

from tqdm import tqdm

_GAP = "  "

_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Embeddings, overrides and isolates of the Unicode bidirectional algorithm."""

Cell = str | int | float
"""A cell of a table."""


def configure_logging() -> None:
    """Show xner's own log lines, and hide those of the libraries that a user cannot act on."""
    for pattern in (
        "The number of training batches .* is smaller than the logging interval",
        ".*isinstance\\(treespec, LeafSpec\\).*",
        ".*does not have many workers.*",
        # Scores are computed over all processes already.
        "It is recommended to use .*sync_dist=True",
    ):
        warnings.filterwarnings("ignore", pattern)
    # An encoder has no cache that gradient checkpointing could conflict with.
    logging.getLogger("transformers.utils.generic").addFilter(lambda record: "use_cache" not in record.getMessage())
    # The seed is an option, and part of the configuration that a run keeps.
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(_useful)
    own = logging.getLogger("xner")
    own.setLevel(logging.INFO)
    if not own.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(_EscapingFormatter())
        own.addHandler(handler)


class _EscapingFormatter(logging.Formatter):
    """Escape names from data and models in log lines."""

    def format(self, record: logging.LogRecord) -> str:
        return escaped_lines(super().format(record))


def _useful(record: logging.LogRecord) -> bool:
    omitted = ("Tip:", "TPU available: False", "GPU available: ", "Seed set to ", "to estimate number of")
    return not any(each in record.getMessage() for each in omitted)


def say(line: str) -> None:
    """Print a line, or several, above the progress bars if there are any, and escape names from data and options."""
    tqdm.write(escaped_lines(line), file=sys.stdout)
    sys.stdout.flush()


def duration(seconds: float) -> str:
    """Format a duration with the unit that suits it.

    >>> duration(44), duration(200), duration(9000)
    ('44 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def bracketed(notes: Sequence[str]) -> str:
    """Put notes in brackets, after a space; nothing where there are none.

    >>> "tr" + bracketed(["zero-shot", "oracle"])
    'tr (zero-shot, oracle)'
    """
    return f" ({', '.join(notes)})" if notes else ""


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], decimals: int = 1) -> str:
    """Format rows under a head and a rule, with numbers right-aligned.

    Args:
        head: The title of each column.
        rows: The cells of each row.
        decimals: Decimals of fractional numbers.

    >>> print(table(["split", "words"], [["train", 12], ["test", 5]]))
    split  words
    -----  -----
    train     12
    test       5
    """

    def text(cell: Cell) -> str:
        return (
            f"{cell:.{decimals}f}" if isinstance(cell, float) else escaped(cell) if isinstance(cell, str) else f"{cell}"
        )

    head = [escaped(title) for title in head]
    texts = [[text(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(head, *texts, strict=True)]
    numeric = [not any(isinstance(cell, str) for cell in column) for column in zip(*rows, strict=True)]
    numeric = numeric or [False] * len(head)
    lines = [
        _GAP.join(_padded(cell, width, right) for cell, width, right in zip(line, widths, numeric, strict=True))
        for line in [head, ["-" * width for width in widths], *texts]
    ]
    return "\n".join(line.rstrip() for line in lines)


def interlinear(rows: Sequence[Sequence[str]], width: int, names: Sequence[str] = ()) -> str:
    """Align rows of as many cells, such as words and their tags, and wrap them together.

    Args:
        rows: The rows.
        width: Columns of the terminal; a wider cell has a line of its own.
        names: The name of each row, repeated on each of its lines.

    >>> print(interlinear([["Ali", "went", "to", "London"], ["B-PER", "O", "O", "B-LOC"]], width=16))
    Ali    went  to
    B-PER  O     O
    <BLANKLINE>
    London
    B-LOC
    """
    columns = list(zip(*([escaped(cell) for cell in row] for row in rows), strict=True))
    start = [tuple(names)] if names else []
    used = sum(max(map(_width, column)) + len(_GAP) for column in start)
    blocks = [
        "\n".join(
            _GAP.join(_padded(column[row], max(map(_width, column))) for column in start + block).rstrip()
            for row in range(len(rows))
        )
        for block in _wrapped(columns, width - used)
    ]
    return "\n\n".join(blocks)


def escaped(text: str) -> str:
    r"""Escape what gives orders to a terminal, and all of a text where one would show nothing.

    These are control characters, and those that change the direction of the text that follows (Boucher and Anderson
    2023, Trojan Source).

    >>> print(escaped("Ankara"), escaped("a\tb"), escaped("\u200b"), escaped("a\u202eb"))
    Ankara a\tb \u200b a\u202eb
    """
    hidden = not any(map(_columns, text))
    return "".join(
        character.encode("unicode_escape").decode()
        if hidden or character in _DIRECTIONS or unicodedata.category(character) == "Cc"
        else character
        for character in text
    )


def escaped_lines(text: str) -> str:
    """Escape a text as ``escaped`` does, but for its tabs and line breaks."""
    return "".join(part if part in ("\t", "\n") else escaped(part) for part in re.split(r"([\t\n])", text))


def shortened(text: str, width: int) -> str:
    """Cut a text that takes more columns of a terminal than there are, and mark it with an ellipsis.

    >>> shortened("Ankara", 6), shortened("Ankara", 5)
    ('Ankara', 'Anka…')
    """
    if _width(text) <= width:
        return text
    columns = itertools.accumulate(map(_columns, text))
    return text[: sum(used < width for used in columns)] + "…"


def _wrapped(columns: Sequence[tuple[str, ...]], room: int) -> Iterator[list[tuple[str, ...]]]:
    """Split columns into blocks that fit into a line."""
    block: list[tuple[str, ...]] = []
    filled = 0
    for column in columns:
        width = max(map(_width, column)) + len(_GAP)
        if block and filled + width - len(_GAP) > room:
            yield block
            block, filled = [], 0
        block.append(column)
        filled += width
    if block:
        yield block


def _columns(character: str) -> int:
    """Return how many columns of a terminal a character takes."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf", "Cc"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _width(text: str) -> int:
    return sum(map(_columns, text))


def _padded(text: str, width: int, right: bool = False) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space
