import json
import os
import re
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.dashboard import dashboard
from tests.benchmarks.machine import product_rates, this_machine
from tests.benchmarks.sides import Run, busy_processes
from tests.benchmarks.speed import Comparison, sides_of, speed
from tests.benchmarks.startup import startup
from xner.data.sources import SAMPLE
from xner.errors import UserError

SIZES = {"data": str(SAMPLE), "tokenizer": str(SAMPLE / "backbone"), "geometry": "tiny", "threads": 1}
STEPS = 4


def figures(content: object) -> list[float]:
    """All numbers in JSON."""
    if isinstance(content, dict | list):
        parts = content.values() if isinstance(content, dict) else content
        return [figure for part in parts for figure in figures(part)]
    return [content] if isinstance(content, int | float) else []


@pytest.mark.parametrize(
    ("peers", "precisions", "busy"),
    [
        (["as it comes"], ["float32"], 1),
        (["as it comes", "at its best"], ["float32", "bfloat16"], 0),
    ],
)
@pytest.mark.slow
def test_all_sides_do_the_same(
    peers: list[str], precisions: list[str], busy: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trainer and xner train on and evaluate the same sentences and pieces, and no figure of table or JSON is empty."""
    output = tmp_path / "speed.json"
    speed(
        **SIZES,
        rounds=1,
        steps=STEPS,
        evaluation_sentences=40,
        batch_size=16,
        peers=peers,
        precisions=precisions,
        busy=busy,
        output=str(output),
    )
    content: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    theirs, ours_of = [f"Trainer {peer}" for peer in peers], [f"xner, {precision}" for precision in precisions]
    names = [*theirs, *ours_of]
    sides = [content["runs"][side][0] for side in names]
    trainer, ours = sides[0], sides[len(theirs)]
    for name in ("train_sentences", "train_pieces", "evaluation_pieces", "threads"):
        assert len({side[name] for side in sides}) == 1
    assert ours["train_sentences"] == STEPS * 16
    assert trainer["reading"]["steps"] == STEPS
    assert ours["reading"]["evaluation_sentences"] == 40
    # Trained on 32 sentences, but with the rows of all that the sample's splits use.
    assert ours["reading"]["embedding_rows"] > 500
    for part in (content["medians"], content["ratios"], content["shares"], content["product_rates"], ours):
        assert all(figure > 0 for figure in figures(part))
    pairs = [(side, peer) for peer in theirs for side in ours_of]
    assert [*content["ratios"]] == [f"{side} / {peer}" for side, peer in pairs]
    for side, peer in pairs:
        for ratio, value in content["ratios"][f"{side} / {peer}"].items():
            assert value == pytest.approx(content["medians"][side][ratio] / content["medians"][peer][ratio])
    table = capsys.readouterr().out
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    full = rows[2 : 2 + len(names) + len(pairs)]
    assert [row[0].strip() for row in full] == [*names, *content["ratios"]]
    assert {len(row) for row in rows} == {4}
    assert all(re.search(r"\d", cell) for row in full for cell in row[1:])
    assert (", beside 1 busy process." in table) == bool(busy)
    assert f"1 threads, {content['machine']['memory_gb']:.0f} GB; torch" in table


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone lists the processes in /proc")
def test_busy_processes() -> None:
    """They use their cores within the block, and are gone after it."""

    def children() -> dict[str, float]:
        """The seconds that each process of this one has used."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # one that has just ended
                fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                if int(fields[1]) == os.getpid():
                    found[path.parent.name] = int(fields[11]) / os.sysconf("SC_CLK_TCK")
        return found

    before = children()
    with busy_processes(2):
        added = children().keys() - before.keys()
        assert len(added) == 2
        deadline = time.monotonic() + 60
        while min(children()[each] for each in added) < 0.3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert not children().keys() & added


def run(train: float, evaluation: float, memory: float) -> Run:
    """A run as it might have been."""
    reading = {"train_share": 0.5, "evaluation_share": 0.25, "product_rates": {"float32, MKL": 2e11}}
    return Run(train, evaluation, int(memory * 1e9), 1, 64, 900, 500, reading)


def test_ratios_are_of_medians() -> None:
    """The median of each side counts, and one slow round changes neither it nor the ratio."""
    comparison = Comparison(
        title="Title",
        machine=this_machine(device="cpu", threads=1),
        runs={
            "Trainer": [run(8, 40, 6), run(2, 10, 6), run(9, 41, 6)],
            "xner": [run(24, 120, 3), run(25, 121, 3), run(6, 30, 3)],
        },
    )
    table = comparison.table().splitlines()
    assert table[4] == "| Trainer | 8.00 (2.00 to 9.00) | 40.0 (10.0 to 41.0) | 6.00 (6.00 to 6.00) |"
    assert table[6] == "| xner / Trainer | **3.00** | **3.00** | **0.50** |"
    assert table[7] == "| xner, fraction of the best product rate of its precision | 50% | 25% | |"
    assert table[-1].endswith("Matrix products, GFLOP/s: float32, MKL 200.")


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("steps", 5, "steps=5"),
        ("steps", 2000, "of en/train are asked for, which has 600"),
        ("rounds", 0, "rounds=0"),
        ("device", "tpu", "device='tpu'"),
        ("geometry", "huge", "geometry='huge'"),
        ("peers", ["ours"], "peers has 'ours'"),
        ("precisions", ["int8"], "precisions has 'int8'"),
        ("precisions", [], "precisions=[]"),
    ],
)
def test_mistakes(option: str, value: object, problem: str) -> None:
    """An option that cannot be measured is one line before anything runs."""
    with pytest.raises(UserError, match=re.escape(problem)):
        speed(**{**SIZES, option: value})


def test_product_rates() -> None:
    """Both precisions are measured, and every library's rate is that of a machine made after 1990."""
    rates = product_rates(rows=64, width=64, inner=64, device="cpu", repeats=2)
    assert {name.partition(",")[0] for name in rates} == {"float32", "bfloat16"}
    assert all(rate > 1e7 for rate in rates.values())


def test_gpu_sides() -> None:
    """On a GPU, one command compares both precisions with the Trainer as it comes and at its best."""
    sides = sides_of("cuda", ["float32", "bfloat16"], [], ["as it comes", "at its best"])
    options = {name: side.args[1] for name, side in sides.items() if isinstance(side, partial)}
    assert options["Trainer as it comes"] == []
    assert options["Trainer at its best"] == ["--group_by_length", "--precision", "bf16"]
    config, precision = options["xner, bfloat16"]
    assert config.startswith("--config=")
    assert config.endswith("gpu.yaml")
    assert precision == "--trainer.precision=bf16-mixed"
    assert options["xner, float32"][1] == "--trainer.precision=32-true"


@pytest.mark.slow
def test_startup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Help, a load from the cache, and a fit's first step are timed from the real commands."""
    output = tmp_path / "startup.json"
    startup(**SIZES, repeats=1, output=str(output))
    seconds = json.loads(output.read_text(encoding="utf-8"))["seconds"]
    assert [*seconds] == [
        "xner explore --help",
        "600 sentences from the cache",
        "train.py fit, to the end of its first step",
    ]
    assert all(0 < value < 300 for values in seconds.values() for value in values)
    table = capsys.readouterr().out
    assert all(f"| {what} | " in table for what in seconds)


@pytest.mark.slow
def test_dashboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fit with W&B and one without are both run and timed, and set against each other."""
    output = tmp_path / "dashboard.json"
    dashboard(epochs=1, rounds=1, threads=1, output=str(output))
    content = json.loads(output.read_text(encoding="utf-8"))
    assert content["ratio"] == content["seconds"]["with W&B"][0] / content["seconds"]["without W&B"][0]
    assert f"| with / without | **{content['ratio']:.2f}** |" in capsys.readouterr().out
