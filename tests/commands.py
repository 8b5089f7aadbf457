"""The real command, run in the test's own process, and what its outcome must be."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from xner.transfer.result import Result, read_result
from xner.typed import with_checksum


class Outcome(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


def options(source: Path | str, backbone: Path | str, root: Path | str) -> list[str]:
    """Return the options of every command here: one epoch on the processor, no progress bar."""
    return [
        f"--data.source={source}",
        f"--model.backbone={backbone}",
        f"--trainer.default_root_dir={root}",
        "--trainer.max_epochs=1",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
    ]


def assert_one_line(outcome: Outcome, code: int, *parts: str) -> None:
    """A mistake's outcome: its exit code, and one line that holds the parts."""
    assert outcome.code == code, outcome
    [line] = outcome.err.splitlines()
    assert line.startswith("xner: error: ")
    for part in parts:
        assert part in line
    assert "Traceback" not in outcome.err + outcome.out


def result_of(root: Path, stage: str) -> Result:
    """The result of a complete stage of a run."""
    found = read_result(root / "stages" / stage)
    assert found
    return found


def change_result(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a ``result.json`` as a whole one of that content would be."""
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["checksum"]
    change(content)
    path.write_text(json.dumps(with_checksum(content)), encoding="utf-8")


def results(root: Path) -> list[dict[str, str]]:
    """The rows of a run's ``results.csv``, without the time that they took."""
    with (root / "results.csv").open(encoding="utf-8", newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]
