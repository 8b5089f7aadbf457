"""The table of the results of record, computed from their ``results.csv``: ``python -m tests.results_of_record``."""

import csv
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev

from xner.report.runs import language_name, regime_name
from xner.transfer.plan import SOUP, SOURCE

FOLDER = Path(__file__).parents[1] / "configs" / "results"
"""The configurations of record, each with the results.csv of its run beside it."""


def table(path: Path) -> list[str]:
    """Format test F1 by regime and number of target sentences as the lines of a Markdown table.

    Args:
        path: A results.csv of one target language. Its source stages are the column zero-shot, but for regimes that do
            not start from them.

    Returns:
        The lines: the mean over seeds in percent and, of two or more, the standard deviation.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    [target] = {row["train_languages"].split("+")[-1] for row in rows if int(row["target_samples"])}
    scores: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        if row["eval_language"] == target:
            assert (row["zero_shot"] == "True") == (row["regime"].removeprefix(SOUP) == SOURCE), row["stage"]
            size = int(row["target_samples"])
            scores.setdefault(row["regime"], {}).setdefault(size, []).append(100 * float(row["f1"]))
    sources = {soup: scores.pop(soup + SOURCE, {}).get(0) for soup in ("", SOUP)}
    sizes = sorted({size for regime in scores.values() for size in regime})
    lines = [
        f"| {language_name(target)} sentences | 0 (zero-shot) | {' | '.join(f'{size:,}' for size in sizes)} |",
        f"| --- |{' --- |' * (len(sizes) + 1)}",
    ]
    for regime, of_size in scores.items():
        from_backbone = regime.removeprefix(SOUP) in ("scratch", "joint")
        start = None if from_backbone else sources[SOUP if regime.startswith(SOUP) else ""]
        lines.append(_line(regime_name(regime), [start, *map(of_size.get, sizes)]))
    return lines


def _line(name: str, cells: list[list[float] | None]) -> str:
    return f"| {name} | {' | '.join(_cell(each) for each in cells)} |"


def _cell(f1: list[float] | None) -> str:
    if not f1:
        return ""
    return f"{fmean(f1):.1f}" + (f" ± {stdev(f1):.1f}" if len(f1) > 1 else "")


def recorded() -> Iterator[Path]:
    """Yield the stored results of record."""
    yield from sorted(FOLDER.glob("*.csv"))


if __name__ == "__main__":
    for stored in recorded():
        print(f"{stored.name}\n\n" + "\n".join(table(stored)) + "\n")
