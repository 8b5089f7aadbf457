import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest

from xner.report import curve
from xner.report.placement import LABEL_HEIGHT, POINT_GAP, clear_labels, keep_apart, spread
from xner.report.runs import load_run

Write = Callable[..., Path]


def texts(svg: Path) -> list[str]:
    """What is written in a drawing."""
    root = ElementTree.parse(svg).getroot()
    return ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]


def drawn(folder: Path, run: Path) -> tuple[Path, Path]:
    png, svg = folder / "curve.png", folder / "curve.svg"
    curve.draw(load_run(run).results, png, svg)
    return png, svg


def test_curve_says_what_it_shows(tmp_path: Path, write_run: Write) -> None:
    """The drawing holds the sizes as tick labels, the zero-shot label with its value, and every point's F1."""
    run = write_run(tmp_path / "run")
    png, svg = drawn(tmp_path, run)
    results = load_run(run).results
    f1 = [100 * result["evaluations"][1]["f1"] for result in results]
    written = texts(svg)
    assert {"250", "1,000", "4,000", "progressive", f"zero-shot {f1[0]:.1f}"} <= set(written)
    assert {f"{value:.1f}" for value in f1[1:]} <= set(written)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.part"))


def test_svg_is_the_same_to_the_byte(tmp_path: Path, write_run: Write) -> None:
    """Two drawings of the same results are equal byte for byte, and so are the pictures."""
    run = write_run(tmp_path / "run", regimes=("progressive", "scratch"), seeds=(1, 2))
    first = [path.read_bytes() for path in drawn(tmp_path, run)]
    assert [path.read_bytes() for path in drawn(tmp_path, run)] == first


def test_drawing_leaves_matplotlib_as_it_was(tmp_path: Path, write_run: Write) -> None:
    """The settings that a drawing needs are gone after it."""
    before = dict(matplotlib.rcParams)
    drawn(tmp_path, write_run(tmp_path / "run"))
    assert dict(matplotlib.rcParams) == before


def test_a_contaminated_start_is_not_called_zero_shot(tmp_path: Path, write_run: Write) -> None:
    """Where the lineage holds the target language, the line says so."""
    _, svg = drawn(tmp_path, write_run(tmp_path / "run", zero_shot=False))
    written = texts(svg)
    assert "before adaptation" in written
    assert any(text.startswith("(not zero-shot)") for text in written)
    assert not any(text.startswith("zero-shot") for text in written)


def test_a_run_without_few_shot_stages(tmp_path: Path, write_run: Write) -> None:
    """A source stage alone is drawn as its zero-shot line."""
    _, svg = drawn(tmp_path, write_run(tmp_path / "run", sizes=()))
    written = texts(svg)
    assert "no few-shot stage is complete yet" in written
    assert any(text.startswith("zero-shot") for text in written)


def test_one_size_alone(tmp_path: Path, write_run: Write) -> None:
    """A single few-shot stage is drawn as a point."""
    _, svg = drawn(tmp_path, write_run(tmp_path / "run", sizes=(250,)))
    assert "250" in texts(svg)


def test_four_regimes_three_seeds(tmp_path: Path, write_run: Write) -> None:
    """Every regime has its line and the bands are explained."""
    regimes = ("joint", "scratch", "independent", "progressive")
    _, svg = drawn(tmp_path, write_run(tmp_path / "run", regimes=regimes, seeds=(1, 2, 3), sentences=40))
    written = texts(svg)
    assert [text for text in written if text in regimes] == ["progressive", "independent", "scratch", "joint"]
    assert "points: mean over 3 seeds; bands: from the lowest seed to the highest" in written


def test_sizes_of_fewer_seeds(tmp_path: Path, write_run: Write) -> None:
    """Where some sizes were run with fewer seeds than others, the picture says so."""
    run = write_run(tmp_path / "run", seeds=(1, 2, 3), sizes=(250, 500), sentences=40)
    shutil.rmtree(run / "stages" / "progressive-tr-500-seed3")
    _, svg = drawn(tmp_path, run)
    assert "points: mean over 2 to 3 seeds; bands: from the lowest seed to the highest" in texts(svg)


def test_runs_over_one_another_carry_their_names(tmp_path: Path, write_run: Write) -> None:
    """Each run's lines and zero-shot line are named after it, also where a name looks like mathematics."""
    runs = {name: load_run(write_run(tmp_path / name)).results for name in ("small $x^2$", "big_model")}
    svg = tmp_path / "curve.svg"
    curve.overlay(runs, tmp_path / "curve.png", svg)
    written = texts(svg)
    assert {"small $x^2$ · progressive", "big_model · progressive", "small $x^2$", "big_model"} <= set(written)


@pytest.mark.parametrize("heights", [[50.0], [50.0, 50.0], [50.0, 52.0, 51.0, 50.5], [10.0, 80.0, 12.0, 79.0, 40.0]])
def test_labels_are_clear_of_points_and_of_each_other(heights: list[float]) -> None:
    """No label lies on a point of its column or on another label."""
    places = clear_labels(heights)
    for index, place in enumerate(places):
        assert all(abs(place - other) >= POINT_GAP - 1 for other in heights)
        assert all(abs(place - other) >= LABEL_HEIGHT for other in places[:index])


def test_spread_moves_no_more_than_it_must() -> None:
    """Heights far enough apart stay; close ones part evenly around their middle."""
    assert spread([0.0, 30.0, 60.0], 20.0) == [0.0, 30.0, 60.0]
    assert spread([50.0, 50.0], 20.0) == [40.0, 60.0]
    assert spread([], 20.0) == []


def test_keep_apart_keeps_the_last() -> None:
    """Of places too close together, the rightmost is kept."""
    assert keep_apart([0, 5, 30, 33], 10) == [1, 3]
