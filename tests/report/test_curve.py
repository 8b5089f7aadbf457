import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import pytest

from xner.report.analysis import analyse
from xner.report.curve import draw_curve
from xner.report.figure_style import COLOURS
from xner.report.label_placement import LABEL_HEIGHT, POINT_GAP, clear_labels, keep_apart, spread
from xner.report.runs import by_target, load_run

Write = Callable[..., Path]


def texts(svg: Path) -> list[str]:
    """Return the texts of a drawing."""
    root = ElementTree.parse(svg).getroot()
    return ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]


def drawn(folder: Path, *runs: Path) -> tuple[Path, Path]:
    png, svg = folder / "curve.png", folder / "curve.svg"
    draw_curve([analyse(load_run(run)) for run in runs], png, svg)
    return png, svg


def looks(svg: Path, regimes: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the colour and the dashes of each regime's line."""
    lines = re.findall(
        r'<path d="M [^"]*" clip-path="[^"]*" style="fill: none; ([^"]*)"', svg.read_text(encoding="utf-8")
    )
    found = []
    for line in lines:
        styles = dict(each.split(": ") for each in line.split("; "))
        if styles["stroke"] not in (COLOURS["ink"], COLOURS["quiet"], COLOURS["line"]):
            found.append((styles["stroke"], styles.get("stroke-dasharray", "solid")))
    return dict(zip(regimes, found, strict=True))


def test_curve_says_what_it_shows(tmp_path: Path, write_run: Write) -> None:
    """The drawing has the sizes as tick labels, the zero-shot label with its value, and every point's F1."""
    run = write_run(tmp_path / "run")
    png, svg = drawn(tmp_path, run)
    results = load_run(run).results
    f1 = [100 * result["evaluations"][1]["f1"] for result in results]
    written = texts(svg)
    assert "Turkish F1 by number of Turkish training sentences" in written
    assert {"250", "1,000", "4,000", "progressive", f"zero-shot {f1[0]:.1f} %"} <= set(written)
    assert {f"{value:.1f}" for value in f1[1:]} <= set(written)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.part"))


def test_svg_is_the_same_to_the_byte(tmp_path: Path, write_run: Write) -> None:
    """Two drawings of the same results are equal byte for byte, and so are the bitmaps."""
    run = write_run(tmp_path / "run", regimes=("progressive", "scratch"), seeds=(1, 2))
    first = [path.read_bytes() for path in drawn(tmp_path, run)]
    assert [path.read_bytes() for path in drawn(tmp_path, run)] == first


def test_drawing_leaves_matplotlib_as_it_was(tmp_path: Path, write_run: Write) -> None:
    """Drawing does not change the settings of matplotlib."""
    before = dict(matplotlib.rcParams)
    drawn(tmp_path, write_run(tmp_path / "run"))
    assert dict(matplotlib.rcParams) == before


def test_a_contaminated_start_is_not_called_zero_shot(tmp_path: Path, write_run: Write) -> None:
    """If the lineage contains the target language, the line is not called zero-shot."""
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


def test_a_panel_per_target(tmp_path: Path, write_run: Write) -> None:
    """Several targets have a panel each, with its zero-shot line, on one F1 axis and under one legend."""
    run = write_run(tmp_path / "run", targets=("tr", "de"), regimes=("progressive", "scratch"), sentences=40)
    parts = [analyse(part) for part in by_target(load_run(run))]
    svg = tmp_path / "curve.svg"
    draw_curve(parts, tmp_path / "curve.png", svg)
    written = texts(svg)
    assert [text for text in written if text in ("Turkish", "German")] == ["German", "Turkish"]
    assert written.count("progressive") == written.count("scratch") == 1
    for part in parts:
        assert part.start is not None
        assert f"zero-shot {100 * part.start.target.seeds.mean:.1f} %" in written
    axis = {text for text in written if re.fullmatch(r"\d\d(\.\d)?", text)}
    assert all(written.count(text) == 1 for text in axis)


def test_four_regimes_three_seeds(tmp_path: Path, write_run: Write) -> None:
    """Every regime has a line, in the order of the plan, and the bands are explained."""
    regimes = ("joint", "scratch", "independent", "progressive")
    _, svg = drawn(tmp_path, write_run(tmp_path / "run", regimes=regimes, seeds=(1, 2, 3), sentences=40))
    written = texts(svg)
    assert [text for text in written if text in regimes] == ["progressive", "independent", "scratch", "joint"]
    assert "Lines: mean over 3 seeds. Bands: lowest to highest seed." in written


def test_sizes_of_fewer_seeds(tmp_path: Path, write_run: Write) -> None:
    """If sizes have different numbers of seeds, the figure says so."""
    run = write_run(tmp_path / "run", seeds=(1, 2, 3), sizes=(250, 500), sentences=40)
    shutil.rmtree(run / "stages" / "progressive-tr-500-seed3")
    _, svg = drawn(tmp_path, run)
    assert "Lines: mean over 2 to 3 seeds. Bands: lowest to highest seed." in texts(svg)


def test_a_regime_always_looks_the_same(tmp_path: Path, write_run: Write) -> None:
    """A regime has its colour and its dashes whichever other regimes there are, and also in a comparison of runs."""
    many = ("progressive", "independent", "scratch", "joint")
    _, svg = drawn(tmp_path, write_run(tmp_path / "many", regimes=many, sentences=40))
    every = looks(svg, many)
    assert len(set(every.values())) == 4
    few = write_run(tmp_path / "few", regimes=("scratch", "joint"), sentences=40)
    _, svg = drawn(tmp_path, few)
    assert looks(svg, ("scratch", "joint")) == {name: every[name] for name in ("scratch", "joint")}
    _, svg = drawn(tmp_path, write_run(tmp_path / "one", sentences=40), few)
    del every["independent"]
    assert looks(svg, ("progressive", "scratch", "joint")) == every


def test_an_unknown_regime_has_a_look_of_its_own(tmp_path: Path, write_run: Write) -> None:
    """A regime that the plan does not know is drawn after the others, and unlike them."""
    _, svg = drawn(tmp_path, write_run(tmp_path / "run", regimes=("progressive", "new_one"), sentences=40))
    found = looks(svg, ("progressive", "new_one"))
    assert found["new_one"] != found["progressive"]
    assert "new-one" in texts(svg)


def test_runs_in_comparison_carry_their_names(tmp_path: Path, write_run: Write) -> None:
    """Each run's lines and zero-shot line are named after it, also where a name looks like mathematics."""
    _, svg = drawn(tmp_path, write_run(tmp_path / "small $x^2$"), write_run(tmp_path / "big_model"))
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
