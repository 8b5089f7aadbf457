import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from xner.model.calibration import BINS, Calibration, calibrate, calibration_error
from xner.report.analysis import analyse
from xner.report.reliability import calibration_of, draw_reliability, sum_bins
from xner.report.runs import load_run, stage_counts

Write = Callable[..., Path]


def texts(svg: str) -> list[str]:
    return ["".join(each.itertext()) for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_bins_of_parts_add_up_to_those_of_the_whole() -> None:
    """Bins that are summed over evaluations are those of all their words."""
    draw = np.random.default_rng(0)
    probability, right = draw.random(300), draw.random(300) < 0.5
    found = sum_bins([calibrate(probability[part::3], right[part::3]) for part in range(3)])
    whole = calibrate(probability, right)
    assert found.words.tolist() == whole.words.tolist()
    assert found.right.tolist() == whole.right.tolist()
    assert found.probability == pytest.approx(whole.probability)


def test_a_point_sums_its_seeds(tmp_path: Path, write_run: Write) -> None:
    """The bins of a point are those of all its stages, and there are none for a language without an evaluation."""
    analysis = analyse(load_run(write_run(tmp_path / "run", seeds=(1, 2))))
    point = analysis.points[1]
    counts = [stage_counts(analysis.run, stage, "tr") for stage in point.stages]
    found = calibration_of(analysis, point, "tr")
    assert found is not None
    for place in range(BINS):
        assert found.words[place] == sum(int(each.bin_words[place]) for each in counts)
        assert found.right[place] == sum(int(each.bin_right[place]) for each in counts)
        assert found.probability[place] == pytest.approx(sum(float(each.bin_probability[place]) for each in counts))
    assert found.words.sum() == sum(len(each.word_gold) for each in counts)
    assert calibration_of(analysis, point, "de") is None


def test_diagram_says_what_it_shows(tmp_path: Path, write_run: Write) -> None:
    """Each language has a panel with the errors of the source stages and of the best few-shot stages."""
    analysis = analyse(load_run(write_run(tmp_path / "run", regimes=("progressive", "joint"), seeds=(1, 2))))
    written = texts(draw_reliability(analysis))
    assert {"Turkish", "English"} <= set(written)
    assert analysis.full is not None
    for language in ("tr", "en"):
        for point, name in ((analysis.points[0], "source stage"), (analysis.full, f"{analysis.full.regime} 4,000")):
            calibration = calibration_of(analysis, point, language)
            assert isinstance(calibration, Calibration)
            assert f"{name}: ECE {100 * calibration_error(calibration):.2f} %" in written


def test_points_lie_at_the_means_of_their_bins(tmp_path: Path, write_run: Write) -> None:
    """A line has a point for every bin with words, from left to right, within the square of its panel."""
    analysis = analyse(load_run(write_run(tmp_path / "run", sizes=())))
    svg = draw_reliability(analysis)
    for language, dashed in zip(
        ("tr", "en"), re.findall(r'<path d="(M [^"]*)" style="[^"]*dasharray', svg)[::2], strict=True
    ):
        calibration = calibration_of(analysis, analysis.points[0], language)
        assert calibration is not None
        filled = calibration.words > 0
        places = np.array([[float(each) for each in pair] for pair in re.findall(r"[ML] (\S+) (\S+)", dashed)])
        assert len(places) == filled.sum()
        side = 2.6 * 72
        x = calibration.probability[filled] / calibration.words[filled]
        y = calibration.right[filled] / calibration.words[filled]
        np.testing.assert_allclose(np.diff(places[:, 0]), side * np.diff(x), atol=1e-3)
        np.testing.assert_allclose(np.diff(places[:, 1]), -side * np.diff(y), atol=1e-3)


def test_diagram_is_the_same_to_the_byte(tmp_path: Path, write_run: Write) -> None:
    """Two drawings of the same results are equal."""
    analysis = analyse(load_run(write_run(tmp_path / "run")))
    assert draw_reliability(analysis) == draw_reliability(analysis)
