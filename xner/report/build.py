"""From run folders to the files that a reader opens."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from xner.errors import UserError
from xner.files import write_atomically
from xner.report.analysis import Analysis, analyse
from xner.report.curve import overlay
from xner.report.page import page
from xner.report.runs import Run, load_run

FILES = {"html": "report.html", "png": "curve.png", "svg": "curve.svg"}
"""What a report consists of, by the names of ``write_report``'s arguments."""


def write_report(runs: Sequence[Path], *, html: Path, png: Path, svg: Path) -> list[Analysis]:
    """Write the curve and the page of one run, or of several laid over one another.

    Args:
        runs: Folders that ``transfer`` wrote; every complete stage is taken. The first is what the others are compared
            with. Each is called by its folder's name.
        html: Where the page goes.
        png: Where the curve goes as a picture.
        svg: Where the curve goes as a drawing.

    Returns:
        What the page says of each run.

    Raises:
        UserError: If a folder holds no complete stage, or its stages cannot be compared.
    """
    loaded = _named_apart([load_run(run) for run in runs])
    analyses = [analyse(run) for run in loaded]
    overlay({run.name if len(loaded) > 1 else "": run.results for run in loaded}, png, svg)
    write_atomically(html, page(analyses, svg.read_text(encoding="utf-8")))
    return analyses


def report(*runs: str, output: str | None = None) -> None:
    """Write report.html, curve.png and curve.svg of a run that transfer left, or of several laid over one another.

    Args:
        runs: Run folders; the first is what the others are compared with.
        output: Folder to write to; by default the first run's.
    """
    if not runs:
        raise UserError("name at least one run folder, as runs/transfer")
    folder = Path(output or runs[0])
    paths = {name: folder / file for name, file in FILES.items()}
    loaded = [load_run(Path(run)).path for run in runs]
    folder.mkdir(parents=True, exist_ok=True)
    write_report(loaded, **paths)
    print(f"{folder}: {', '.join(FILES.values())}")


def _named_apart(runs: Sequence[Run]) -> list[Run]:
    """Put the parent folder's name before a name that several runs have, and a number where that is not enough."""
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
