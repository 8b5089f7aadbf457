from hypothesis import given
from hypothesis import strategies as st

from xner.cli.output import interlinear, table


@given(cells=st.integers(0, 200), width=st.integers(3, 60))
def test_every_cell_stands_over_its_own(cells: int, width: int) -> None:
    """However narrow the terminal, each row holds all its cells, in order, and no line is wider than it."""
    numbers = [str(number) for number in range(cells)]
    blocks = [block.split("\n") for block in interlinear([numbers, numbers[::-1]], width).split("\n\n")]
    assert [cell for block in blocks for cell in block[0].split()] == numbers
    assert [cell for block in blocks for cell in block[-1].split()] == numbers[::-1]
    assert all(len(line) <= width for block in blocks for line in block)


def test_columns_align_by_what_a_terminal_shows() -> None:
    """Wide characters take two columns, combining and zero-width ones none, and control characters are escaped."""
    upper, lower = interlinear([["東京", "e\u0301", "\x1b", "x"], ["B", "O", "O", "O"]], 80).split("\n")
    assert upper == "東京  e\u0301  \\x1b  x"
    assert lower == "B     O  O     O"


def test_a_table_without_rows_is_its_head() -> None:
    """A table of nothing has a head and a rule."""
    assert table(["split", "words"], []) == "split  words\n-----  -----"
