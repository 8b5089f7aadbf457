"""Plain text in columns as a terminal shows it."""

import unicodedata
from collections.abc import Iterator, Sequence

_GAP = "  "

Cell = str | int | float
"""What stands in a table."""


def shown(text: str) -> str:
    r"""Text with its control characters escaped, and all of it where a terminal would show nothing.

    >>> print(shown("Ankara"), shown("a\tb"), shown("\u200b"))
    Ankara a\tb \u200b
    """
    hidden = not any(map(_columns, text))
    return "".join(
        character.encode("unicode_escape").decode() if hidden or unicodedata.category(character) == "Cc" else character
        for character in text
    )


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Lay out rows under a head and a rule; numbers stand at the right, fractions with one decimal.

    >>> print(table(["split", "words"], [["train", 12], ["test", 5]]))
    split  words
    -----  -----
    train     12
    test       5
    """
    texts = [[f"{cell:.1f}" if isinstance(cell, float) else shown(str(cell)) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(head, *texts, strict=True)]
    numeric = [not any(isinstance(cell, str) for cell in column) for column in zip(*rows, strict=True)]
    numeric = numeric or [False] * len(head)
    lines = [
        _GAP.join(_padded(cell, width, right) for cell, width, right in zip(line, widths, numeric, strict=True))
        for line in [head, ["-" * width for width in widths], *texts]
    ]
    return "\n".join(line.rstrip() for line in lines)


def interlinear(rows: Sequence[Sequence[str]], width: int, names: Sequence[str] = ()) -> str:
    """Lay rows over each other so that what belongs together stands in one column, and wrap them together.

    Args:
        rows: Rows of as many cells, as a sentence's words and its tags.
        width: Columns a line; a cell that is wider has a line of its own.
        names: What each row is, said at the beginning of its lines; none where empty.

    >>> print(interlinear([["Ali", "went", "to", "London"], ["B-PER", "O", "O", "B-LOC"]], width=16))
    Ali    went  to
    B-PER  O     O
    <BLANKLINE>
    London
    B-LOC
    """
    columns = list(zip(*([shown(cell) for cell in row] for row in rows), strict=True))
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


def _wrapped(columns: Sequence[tuple[str, ...]], room: int) -> Iterator[list[tuple[str, ...]]]:
    """Cut columns into blocks that have room in a line."""
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
    """How many columns of a terminal a character takes."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf", "Cc"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _width(text: str) -> int:
    return sum(map(_columns, text))


def _padded(text: str, width: int, right: bool = False) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space
