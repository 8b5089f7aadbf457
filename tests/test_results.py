"""README's results of record are those of the stored results.csv."""

from pathlib import Path

import pytest

from tests.results_of_record import recorded, table

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", recorded(), ids=lambda path: path.stem)
def test_table(path: Path) -> None:
    """Each line of the table stands in README, digit for digit."""
    lines = table(path)
    assert len(lines) > 2
    assert "\n".join(lines) in README


def test_there_are_results() -> None:
    """There are results, each beside the configuration that gives them."""
    found = list(recorded())
    assert found
    assert all(path.with_suffix(".yaml").is_file() for path in found)
