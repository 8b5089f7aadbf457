import re
from collections.abc import Callable
from pathlib import Path

from xner.cli import results_table as table
from xner.report.runs import load_run


def test_a_row_per_stage_and_evaluation(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    """The table has a row per stage and evaluation, scores as fractions with four decimals, and aligned columns."""
    results = load_run(write_run(tmp_path / "run", regimes=("progressive", "joint"), sizes=(250,))).results
    head, rule, *rows = table.render(results).splitlines()
    assert len(rows) == 6
    assert head.split()[:3] == ["stage", "trained", "on"]
    zero_shot = results[0]["evaluations"][1]
    line = next(row for row in rows if "zero-shot" in row)
    assert line.startswith("source-en-seed42 ")
    assert f"{zero_shot['f1']:.4f}" in line
    assert any("en 800 + tr 250" in row for row in rows)
    ends = [column.end() for column in re.finditer("-+", rule)]
    assert all(len(row) == ends[-1] for row in (head, *rows))
