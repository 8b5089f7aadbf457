"""Draw reliability diagrams (Guo et al. 2017): how often words are right, by the probability of their label."""

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from xner.model.calibration import Calibration, calibration_error
from xner.report.analysis import Analysis, Point
from xner.report.figure_style import COLOURS, FIGURE_STYLE, SVG_METADATA
from xner.report.runs import evaluation_on, language_name, regime_name, stage_counts

PANEL, TOP, LEFT, BOTTOM, GAP = 2.6, 0.95, 0.7, 0.55, 0.5
"""Inches: the sides of a panel, the margins around the panels, and the space between two."""

LOOKS = (("ink", "o", (0, (5, 3))), ("blue", "s", "-"))
"""Colour, marker and line style of the source stages and of the best few-shot stages."""


def draw_reliability(analysis: Analysis) -> str:
    """Draw a panel per language, the target first, with the source stages and the best few-shot stages.

    A point has the mean probability of the words of a bin and the fraction of them that are right, over all seeds; bins
    without words have none. The diagram is the same to the byte for the same results.

    Returns:
        The drawing, as SVG.
    """
    languages = list(dict.fromkeys([analysis.target, analysis.source]))
    points = [point for point in (analysis.start, analysis.full) if point]
    width, height = LEFT + len(languages) * (PANEL + GAP), BOTTOM + PANEL + TOP
    with matplotlib.rc_context(FIGURE_STYLE):
        figure = Figure(figsize=(width, height), dpi=72, facecolor=COLOURS["paper"])
        for place, language in enumerate(languages):
            box = ((LEFT + place * (PANEL + GAP)) / width, BOTTOM / height, PANEL / width, PANEL / height)
            axes = figure.add_axes(box, facecolor=COLOURS["paper"])
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1)
            axes.set_xticks([0, 0.5, 1])
            axes.set_yticks([0, 0.5, 1])
            axes.set_title(language_name(language), loc="left", fontsize=10.5, fontweight="bold", pad=40)
            axes.set_xlabel("mean probability", color=COLOURS["quiet"])
            if not place:
                axes.set_ylabel("fraction of words that are right", color=COLOURS["quiet"])
            axes.tick_params(colors=COLOURS["quiet"], length=0, pad=6)
            axes.spines[:].set_color(COLOURS["line"])
            axes.plot([0, 1], [0, 1], color=COLOURS["quiet"], linewidth=0.7)
            for point in points:
                calibration = calibration_of(analysis, point, language)
                if calibration is None:
                    continue
                colour, marker, line = LOOKS[bool(point.size)]
                filled = calibration.words > 0
                axes.plot(
                    calibration.probability[filled] / calibration.words[filled],
                    calibration.right[filled] / calibration.words[filled],
                    color=COLOURS[colour], marker=marker, linestyle=line, linewidth=1.4, markersize=4.5,
                    markeredgecolor=COLOURS["paper"], markeredgewidth=0.6, clip_on=False,
                    label=f"{_name(point)}: ECE {100 * calibration_error(calibration):.2f} %",
                )  # fmt: skip
            axes.legend(
                loc="lower left", bbox_to_anchor=(-0.03, 1.0), frameon=False, fontsize=8.5, borderaxespad=0.2,
                handlelength=2.6, labelspacing=0.3,
            )  # fmt: skip
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", dpi=72, metadata=SVG_METADATA)
    return buffer.getvalue()


def calibration_of(analysis: Analysis, point: Point, language: str) -> Calibration | None:
    """Sum the bins of a point's stages on a language; ``None`` where one was not evaluated on it."""
    if not all(evaluation_on(stage, language) for stage in point.stages):
        return None
    return sum_bins(
        [
            Calibration(counts.bin_words, counts.bin_probability, counts.bin_right)
            for counts in (stage_counts(analysis.run, stage, language) for stage in point.stages)
        ]
    )


def sum_bins(calibrations: Sequence[Calibration]) -> Calibration:
    """Sum the bins of several evaluations."""
    return Calibration(*(np.sum(arrays, axis=0) for arrays in zip(*calibrations, strict=True)))


def _name(point: Point) -> str:
    return f"{regime_name(point.regime)} {point.size:,}" if point.size else "source stage"
