"""The curve: F1 on the target against the number of target sentences trained on, the zero-shot line across it."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from xner.files import write_atomically
from xner.report.placement import clear_labels, keep_apart, spread
from xner.report.points import (
    Line,
    before_adaptation,
    f1_on,
    lines,
    source_stages,
    target_language,
)
from xner.transfer.result import Result

INK, QUIET, GRID, PAPER = "#1f2328", "#59636e", "#e4e7eb", "#ffffff"
"""What is not a line of its own; a page that takes the SVG in may give these colours other values."""

COLOURS = ("#0072b2", "#b84a00", "#007a5a", "#a3507f", "#8a6d00", "#3f4fa8")
"""Okabe and Ito's palette, safe for colour-blind readers, darkened until text in it is readable on white."""

MARKERS = ("o", "s", "D", "^", "v", "P")
STYLES = ("-", (0, (6, 1.5)), "-.", (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2, 2, 2)))
"""One fewer than the colours, so that a colour comes back in another style."""

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, ROW = 9.6, 5.0, 0.62, 1.5, 0.62, 0.24
"""Inches: the figure without what stands above its axes, the margins beside and below them, a row of text above."""

LABEL_WIDTH, TICK_WIDTH = 27.0, 42.0
"""Points (1/72 inch): the room of a label and of a tick's label."""


class Trace(NamedTuple):
    """One line of the curve, F1 in per cent.

    Attributes:
        name: What the legend calls it.
        sizes: Numbers of target sentences, ascending. *Length:* sizes.
        mean: Mean over the seeds. *Length:* sizes.
        lowest: Lowest of the seeds. *Length:* sizes.
        highest: Highest of the seeds. *Length:* sizes.
        seeds: How many seeds there are. *Length:* sizes.
    """

    name: str
    sizes: list[int]
    mean: list[float]
    lowest: list[float]
    highest: list[float]
    seeds: list[int]


class Level(NamedTuple):
    """A line across the whole curve, F1 in per cent, and what is written at its right end."""

    text: str
    mean: float
    lowest: float
    highest: float
    colour: str
    dashes: tuple[float, tuple[float, float]]


def draw(results: Sequence[Result], png: Path, svg: Path) -> None:
    """Draw a run's curve.

    Args:
        results: The run's complete stages; without few-shot ones, the zero-shot line stands alone.
        png: Where the picture goes, 200 dots an inch.
        svg: Where the drawing goes, the same to the byte for the same results.
    """
    overlay({"": results}, png, svg)


def overlay(runs: Mapping[str, Sequence[Result]], png: Path, svg: Path) -> None:
    """Draw the curves of several runs over one another, as ``draw`` does for one.

    Args:
        runs: By the name that the legend gives it, each run's complete stages. Only a single run gets the line of its
            largest size.
        png: Where the picture goes.
        svg: Where the drawing goes.
    """
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "xner",
        "font.family": "sans-serif",
        "font.size": 9.5,
        "text.parse_math": False,
        "text.color": INK,
    }
    with matplotlib.rc_context(style):
        figure = _figure(runs)
        for path, form in ((png, "png"), (svg, "svg")):
            metadata = {"Software": None} if form == "png" else dict.fromkeys(("Date", "Creator", "Format", "Type"))
            buffer = io.BytesIO()
            figure.savefig(buffer, format=form, dpi=200 if form == "png" else 72, metadata=metadata)
            write_atomically(path, buffer.getvalue())


def trace(line: Line, language: str, name: str) -> Trace:
    """Reduce a regime's stages to its line on the curve."""
    scores = [[100 * value for value in f1_on(stages, language)] for stages in line.stages.values()]
    return Trace(
        name,
        list(line.stages),
        [fmean(each) for each in scores],
        [min(each) for each in scores],
        [max(each) for each in scores],
        [len(each) for each in scores],
    )


def _figure(runs: Mapping[str, Sequence[Result]]) -> Figure:
    targets = {name: target_language(results) for name, results in runs.items()}
    traces = [
        trace(line, targets[name], " · ".join(filter(None, (name, line.regime))))
        for name, results in runs.items()
        for line in lines(results, targets[name])
    ]
    levels = _levels(runs, targets, traces)
    columns = (
        1 if any(len(each.name) > 60 for each in traces) else 2 if any(len(each.name) > 24 for each in traces) else 4
    )
    legend_rows = math.ceil(len(traces) / columns)
    seeds = [number for each in traces for number in each.seeds]
    repeated = max(seeds, default=1) > 1
    top = 0.46 + ROW * (legend_rows + repeated)
    height = HEIGHT + top
    figure = Figure(figsize=(WIDTH, height), facecolor=PAPER)
    wide, high = WIDTH - LEFT - RIGHT, height - BOTTOM - top
    axes = figure.add_axes((LEFT / WIDTH, BOTTOM / height, wide / WIDTH, high / height), facecolor=PAPER)
    languages = " and ".join(dict.fromkeys(targets.values()))
    figure.text(
        LEFT / WIDTH, 1 - 0.18 / height, f"F1 on {languages} against the {languages} sentences trained on",
        va="top", fontsize=12.5, fontweight="bold",
    )  # fmt: skip
    if repeated:
        many = f"{max(seeds)}" if max(seeds) == min(seeds) else f"{min(seeds)} to {max(seeds)}"
        words = f"points: mean over {many} seeds; bands: from the lowest seed to the highest"
        figure.text(LEFT / WIDTH, 1 - 0.44 / height, words, va="top", color=QUIET)
    _frame(axes, traces, levels, languages)
    _draw_levels(axes, levels, 72 * high)
    _draw_traces(axes, traces, 72 * wide, 72 * high)
    if traces:
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.008, 1.0), ncols=columns, frameon=False, fontsize=9.5,
            borderaxespad=0.3, handlelength=3.2, columnspacing=2.2, labelspacing=0.35,
        )  # fmt: skip
    return figure


def _levels(runs: Mapping[str, Sequence[Result]], targets: Mapping[str, str], traces: Sequence[Trace]) -> list[Level]:
    """The zero-shot line of each run and, where there is one run, the best regime's line at the largest size."""
    levels = []
    first = 0
    for name, results in runs.items():
        stages = source_stages(results)
        if scores := [100 * value for value in f1_on(stages, targets[name])]:
            words = before_adaptation(stages, targets[name]).replace(" (", "\n(")
            text = "\n".join(
                filter(None, (name if len(name) < 19 else f"{name[:17]}…", f"{words} {fmean(scores):.1f}"))
            )
            colour = INK if len(runs) == 1 else COLOURS[first % len(COLOURS)]
            levels.append(Level(text, fmean(scores), min(scores), max(scores), colour, (0, (5, 3))))
        first += max(len(lines(results, targets[name])), 1)
    if len(runs) == 1 and traces:
        size = max(each.sizes[-1] for each in traces)
        best = max((each for each in traces if each.sizes[-1] == size), key=lambda each: each.mean[-1])
        text = f"{size:,} sentences\n{best.name if len(traces) > 1 else 'reach'} {best.mean[-1]:.1f}"
        levels.append(Level(text, best.mean[-1], best.mean[-1], best.mean[-1], QUIET, (0, (1, 2.5))))
    return levels


def _frame(axes: Axes, traces: Sequence[Trace], levels: Sequence[Level], languages: str) -> None:
    values = [value for each in traces for value in (*each.lowest, *each.highest)]
    values += [value for each in levels for value in (each.lowest, each.highest)]
    low, high = (min(values), max(values)) if values else (0.0, 100.0)
    if high - low < 2:
        low, high = low - 1, high + 1
    room = high - low
    axes.set_ylim(max(low - 0.12 * room, -0.06 * room), high + 0.14 * room)
    axes.set_ylabel("entity F1, %", color=QUIET)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(QUIET)
    axes.tick_params(colors=QUIET, length=0)
    axes.xaxis.set_minor_locator(NullLocator())
    sizes = sorted({size for each in traces for size in each.sizes})
    if not sizes:
        axes.set_xticks([])
        axes.set_xlabel("no few-shot stage is complete yet", color=QUIET)
        return
    axes.set_xscale("log")
    margin = max((sizes[-1] / sizes[0]) ** 0.05, 1.15)
    axes.set_xlim(sizes[0] / margin, sizes[-1] * margin)
    axes.set_xlabel(f"{languages} sentences trained on, logarithmic", color=QUIET)
    places = _across(axes, sizes) * 72 * (WIDTH - LEFT - RIGHT)
    shown = [sizes[index] for index in keep_apart(list(places), TICK_WIDTH)]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.set_xticklabels([f"{size:,}" for size in shown])
    axes.xaxis.set_minor_locator(FixedLocator(sizes))
    axes.tick_params(axis="x", which="both", length=4, color=QUIET, labelcolor=INK)
    axes.tick_params(axis="x", which="minor", labelbottom=False)


def _across(axes: Axes, sizes: Sequence[int]) -> npt.NDArray[np.float64]:
    """Where sizes lie across the axes, from 0 at the left to 1 at the right."""
    left, right = np.log(axes.get_xlim())
    places: npt.NDArray[np.float64] = (np.log(np.asarray(sizes, dtype=np.float64)) - left) / (right - left)
    return places


def _up(axes: Axes, values: Sequence[float], high: float) -> npt.NDArray[np.float64]:
    """How far above the foot of axes that are ``high`` points high values lie, in points."""
    low, top = axes.get_ylim()
    return (np.asarray(values, dtype=np.float64) - low) / (top - low) * high


def _draw_levels(axes: Axes, levels: Sequence[Level], high: float) -> None:
    heights = [float(value) for value in _up(axes, [each.mean for each in levels], high)]
    gap = 13.0 * max((each.text.count("\n") + 1 for each in levels), default=1)
    for level, place in zip(levels, spread(heights, gap), strict=True):
        axes.axhline(level.mean, color=level.colour, linewidth=1.1, linestyle=level.dashes, zorder=1.5)
        if level.highest > level.lowest:
            axes.axhspan(level.lowest, level.highest, color=level.colour, alpha=0.07, linewidth=0, zorder=0.5)
        axes.text(
            1.012, place / high, level.text, transform=axes.transAxes, va="center", color=level.colour, linespacing=1.25
        )


def _draw_traces(axes: Axes, traces: Sequence[Trace], wide: float, high: float) -> None:
    for index, each in enumerate(traces):
        colour = COLOURS[index % len(COLOURS)]
        if max(each.seeds) > 1:
            axes.fill_between(each.sizes, each.lowest, each.highest, color=colour, alpha=0.14, linewidth=0, zorder=2)
        axes.plot(
            each.sizes, each.mean, color=colour, linewidth=1.8, linestyle=STYLES[index % len(STYLES)],
            marker=MARKERS[index % len(MARKERS)], markersize=5, markeredgecolor=PAPER, markeredgewidth=0.7,
            label=each.name, zorder=3 + index / 100,
        )  # fmt: skip
    sizes = sorted({size for each in traces for size in each.sizes})
    for column in keep_apart([float(place) for place in _across(axes, sizes) * wide], LABEL_WIDTH) if sizes else ():
        here = [(index, each.mean[each.sizes.index(sizes[column])]) for index, each in enumerate(traces)
                if sizes[column] in each.sizes]  # fmt: skip
        heights = [float(height) for height in _up(axes, [mean for _, mean in here], high)]
        for (index, mean), height, place in zip(here, heights, clear_labels(heights), strict=True):
            axes.annotate(
                f"{mean:.1f}", (sizes[column], mean), (0, place - height), textcoords="offset points", ha="center",
                va="center", fontsize=8.5, color=COLOURS[index % len(COLOURS)], zorder=5, annotation_clip=False,
                bbox={"boxstyle": "square,pad=0.08", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.75},
            )  # fmt: skip
