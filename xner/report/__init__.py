"""Report on transfer runs: statistics, entity errors, the learning curve, and a page that shows them.

The package reads run folders and the descriptions of data sets, and imports no torch, so that a report can be made
anywhere. ``card`` renders the model card of a model folder.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from xner.errors import UserError
from xner.files import write_atomically
from xner.report.analysis import Analysis, analyse
from xner.report.curve import draw_curve
from xner.report.matrix import score_matrix
from xner.report.page import render_page
from xner.report.runs import Run, by_target, check_comparable, load_run

__all__ = ["FILES", "write_report"]

FILES = {"html": "report.html", "png": "curve.png", "svg": "curve.svg"}
"""The files of a report, by the names of ``write_report``'s arguments."""


def write_report(runs: Sequence[Path], *, html: Path, png: Path, svg: Path) -> list[Analysis]:
    """Write the learning curve and the page of one run, or of several in comparison.

    A run with several targets has an analysis, a curve and a section for each of them.

    Args:
        runs: Folders that ``transfer`` wrote; all complete stages are used. The others are compared with the first.
        html: Path of the page.
        png: Path of the curve as a bitmap.
        svg: Path of the curve as a drawing.

    Returns:
        The analysis of each run and target.

    Raises:
        UserError: If a folder holds no complete stage, or stages cannot be compared.
    """
    loaded = _distinct_names([load_run(run) for run in runs])
    analyses = [analyse(part) for run in loaded for part in by_target(run)]
    if len({each.unit for each in analyses if each.full}) > 1:
        raise UserError("the sizes of some runs are sentences and of others entities per type; report them apart")
    check_comparable(loaded)
    matrix = score_matrix(loaded)
    draw_curve(analyses, png, svg)
    write_atomically(html, render_page(analyses, svg.read_text(encoding="utf-8"), matrix))
    return analyses


def _distinct_names(runs: Sequence[Run]) -> list[Run]:
    """Put the parent folder's name before a name that several runs have, and a number after it if still needed."""
    count = Counter(run.name for run in runs)
    runs = [
        run._replace(name=f"{run.path.resolve().parent.name}/{run.name}") if count[run.name] > 1 else run
        for run in runs
    ]
    count = Counter(run.name for run in runs)
    return [
        run._replace(name=f"{run.name} ({number})") if count[run.name] > 1 else run
        for number, run in enumerate(runs, 1)
    ]
