"""Draw the learning curve: target-language F1 by number of target-language training sentences."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from xner.files import write_atomically
from xner.report.analysis import Analysis, Point
from xner.report.figure_style import COLOURS, FIGURE_STYLE, SVG_METADATA
from xner.report.label_placement import clear_labels, keep_apart, spread
from xner.report.runs import before_adaptation, caveats, language_name, regime_name
from xner.report.statistics import Seeds
from xner.transfer.plan import REGIMES, SOUP

STYLES = (
    ("blue", "o", "-"), ("orange", "s", (0, (6, 1.5))), ("green", "D", "-."), ("pink", "^", (0, (3, 1, 1, 1, 1, 1))),
    ("yellow", "v", (0, (8, 2, 2, 2))), ("violet", "P", (0, (1, 1))),
)  # fmt: skip
"""Colour, marker and line style by the place of a regime in ``plan.REGIMES``; the last is for regimes unknown there.

A regime therefore looks the same in every report. Where several runs are drawn over one another, they differ in the
filling of the markers: those of the first run are filled, those of the others hollow or half-filled.
"""

FILLINGS = ("full", "left", "right", "top", "bottom")
"""Marker fillings of the second and later runs; ``full`` is full of the paper's colour."""

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, ROW = 9.9, 5.0, 0.62, 1.8, 0.62, 0.24
"""Inches: the figure without the text above its axes, the margins around the axes, and a row of that text."""

PANEL, GUTTER = 2.6, 0.3
"""Inches: the height of one of several panels with its title, and the distance between two panels."""

LEGEND: dict[str, Any] = {
    "frameon": False, "fontsize": 9.5, "borderaxespad": 0.3, "handlelength": 3.2, "columnspacing": 2.2,
    "labelspacing": 0.35,
}  # fmt: skip
"""The style of a legend."""

MOST_LABELLED = 5
"""Number of lines up to which values are written beside their markers."""

LABEL_WIDTH, TICK_WIDTH = 27.0, 42.0
"""Points (1/72 inch): the width of a value's label and of a tick's label."""


class Trace(NamedTuple):
    """One regime's line: its name in the legend, the number of its run, and its points by increasing size."""

    name: str
    run: int
    points: list[Point]

    @property
    def sizes(self) -> list[int]:
        """Numbers of target sentences."""
        return [point.size for point in self.points]

    def f1(self, score: Literal["mean", "lowest", "highest"]) -> list[float]:
        """Return the mean, lowest or highest F1 over seeds at each size, in percent."""
        return [100 * float(getattr(point.target.seeds, score)) for point in self.points]

    @property
    def style(self) -> tuple[str, str, Any]:
        """Colour, marker and line style of the regime; a soup has those of its stages, dotted."""
        soup = self.points[0].regime.startswith(SOUP)
        regime = self.points[0].regime.removeprefix(SOUP)
        place = [*REGIMES].index(regime) if regime in REGIMES else len(STYLES)
        colour, marker, line = STYLES[min(place, len(STYLES) - 1)]
        return COLOURS[colour], marker, (0, (1, 1)) if soup else line


class Level(NamedTuple):
    """A horizontal line over all sizes, and its label at the right."""

    text: str
    seeds: Seeds
    colour: str
    dashes: tuple[float, tuple[float, float]]


def draw_curve(analyses: Sequence[Analysis], png: Path, svg: Path) -> None:
    """Draw the learning curves of one run, or of several over one another.

    Args:
        analyses: The runs. Without few-shot stages, a run's zero-shot line stands alone; only a single run gets the
            line of its best F1.
        png: Path of the bitmap, 200 dots per inch.
        svg: Path of the drawing. Both files are the same to the byte for the same results.
    """
    with matplotlib.rc_context(FIGURE_STYLE):
        figure = _figure(analyses)
        for path, form in ((png, "png"), (svg, "svg")):
            metadata = {"Software": None} if form == "png" else SVG_METADATA
            buffer = io.BytesIO()
            figure.savefig(buffer, format=form, dpi=200 if form == "png" else 72, metadata=metadata)
            write_atomically(path, buffer.getvalue())


def _figure(analyses: Sequence[Analysis]) -> Figure:
    """Draw one panel, or, where runs have different target languages, a small one for each language."""
    traces = [trace for run, analysis in enumerate(analyses) for trace in _traces(analysis, run, len(analyses))]
    targets = list(dict.fromkeys(each.target for each in analyses))
    if len(targets) > 1:
        return _panels(analyses, targets)
    levels = [*_source_levels(analyses), *_best_levels(analyses, traces)]
    title, unit = _title(analyses)
    top, columns = _head(traces)
    height = HEIGHT + top
    # At 72 dots per inch, matplotlib's display coordinates are points.
    figure = Figure(figsize=(WIDTH, height), dpi=72, facecolor=COLOURS["paper"])
    box = (LEFT / WIDTH, BOTTOM / height, 1 - (LEFT + RIGHT) / WIDTH, 1 - (BOTTOM + top) / height)
    axes = figure.add_axes(box, facecolor=COLOURS["paper"])
    _write_title(figure, title, traces)
    _frame(axes, traces, _heights(traces, levels), f"{language_name(targets[0])} {unit}")
    axes.set_ylabel(f"{language_name(targets[0])} entity F1, %", color=COLOURS["quiet"])
    _draw_levels(axes, levels)
    _draw_traces(axes, traces)
    if 0 < len(traces) <= MOST_LABELLED:
        _label_values(axes, traces)
    if traces:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.008, 1.0), ncols=columns, **LEGEND)
    return figure


def _panels(analyses: Sequence[Analysis], targets: Sequence[str]) -> Figure:
    """Draw a panel per target language, all on the same F1 axis, so that languages can be compared."""
    runs = list(dict.fromkeys(each.run.path for each in analyses))
    panels = []
    for target in targets:
        own = [each._replace(run=each.run._replace(name=each.run_name)) for each in analyses if each.target == target]
        traces = [trace for each in own for trace in _traces(each, runs.index(each.run.path), len(runs))]
        panels.append((language_name(target), traces, _source_levels(own)))
    every = [trace for _, traces, _ in panels for trace in traces]
    heights = _heights(every, [level for _, _, levels in panels for level in levels])
    top, legend_columns = _head(list({trace.name: trace for trace in every}.values()))
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    width, deep = (WIDTH - LEFT) / columns, PANEL + BOTTOM
    height = top + rows * deep
    title, unit = _title(analyses)
    figure = Figure(figsize=(WIDTH, height), dpi=72, facecolor=COLOURS["paper"])
    _write_title(figure, title, every)
    legend: dict[str, Any] = {}
    for number, (name, traces, levels) in enumerate(panels):
        row, column = divmod(number, columns)
        left, bottom = LEFT + column * width, height - top - (row + 1) * deep + BOTTOM
        box = (left / WIDTH, bottom / height, (width - GUTTER) / WIDTH, (PANEL - ROW) / height)
        axes = figure.add_axes(box, facecolor=COLOURS["paper"])
        _frame(axes, traces, heights, unit)
        axes.set_title(name, loc="left", fontsize=10.5, fontweight="bold", color=COLOURS["ink"])
        if column:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel("entity F1, %", color=COLOURS["quiet"])
        _draw_levels(axes, levels, inside=True)
        _draw_traces(axes, traces)
        legend |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if legend:
        place = (LEFT / WIDTH - 0.008, 1 - top / height)
        figure.legend(
            legend.values(), legend, loc="lower left", bbox_to_anchor=place, ncols=legend_columns, **LEGEND
        )  # fmt: skip
    return figure


def _title(analyses: Sequence[Analysis]) -> tuple[str, str]:
    """Return the figure's title, and the unit of its sizes."""
    names = dict.fromkeys(language_name(each.target) for each in analyses)
    # A run of source stages alone has no sizes, and so no unit.
    unit = next((each for each in analyses if each.full), analyses[0]).unit.replace("sentences", "training sentences")
    if len(names) > 2:
        return f"F1 by number of target-language {unit}", unit
    languages = " and ".join(names)
    return f"{languages} F1 by number of {languages} {unit}", unit


def _seeds(traces: Sequence[Trace]) -> list[int]:
    """Return the number of seeds of every point that has its own stages."""
    points = [point for each in traces for point in each.points]
    return [len(point.stages) for point in points if not point.regime.startswith(SOUP)]


def _head(traces: Sequence[Trace]) -> tuple[float, int]:
    """Return the height of the text above the axes, in inches, and the number of the legend's columns."""
    longest = max((len(each.name) for each in traces), default=0)
    columns = 1 if longest > 60 else 2 if longest > 24 else 4
    repeated = max(_seeds(traces), default=1) > 1
    return 0.46 + ROW * (math.ceil(len(traces) / columns) + repeated), columns


def _write_title(figure: Figure, title: str, traces: Sequence[Trace]) -> None:
    """Write the title and, where there are several seeds, what lines and bands are."""
    height, seeds = figure.get_size_inches()[1], _seeds(traces)
    figure.text(LEFT / WIDTH, 1 - 0.18 / height, title, va="top", fontsize=12.5, fontweight="bold")
    if max(seeds, default=1) > 1:
        many = f"{max(seeds)}" if max(seeds) == min(seeds) else f"{min(seeds)} to {max(seeds)}"
        words = f"Lines: mean over {many} seeds. Bands: lowest to highest seed."
        figure.text(LEFT / WIDTH, 1 - 0.44 / height, words, va="top", color=COLOURS["quiet"])


def _traces(analysis: Analysis, run: int, runs: int) -> list[Trace]:
    regimes: dict[str, list[Point]] = {}
    for point in analysis.points:
        if point.size:
            regimes.setdefault(point.regime, []).append(point)
    prefix = f"{analysis.run.name} · " if runs > 1 else ""
    return [
        Trace(prefix + ", ".join([regime_name(regime), *_notes(points, analysis)]), run, points)
        for regime, points in regimes.items()
    ]


def _notes(points: Sequence[Point], analysis: Analysis) -> list[str]:
    """List what to keep in mind with the scores of some points, see ``caveats``."""
    return caveats([stage for point in points for stage in point.stages], analysis.target)


def _source_levels(analyses: Sequence[Analysis]) -> list[Level]:
    """Return the zero-shot line of each run."""
    levels = []
    for analysis in analyses:
        if start := analysis.start:
            seeds, name = start.target.seeds, analysis.run.name if len(analyses) > 1 else ""
            words = before_adaptation(start.stages, analysis.target).replace(" (", "\n(")
            notes = [note for note in _notes([start], analysis) if note not in words]
            lines = [name if len(name) < 19 else f"{name[:17]}…", f"{words} {100 * seeds.mean:.1f} %", *notes]
            levels.append(Level("\n".join(filter(None, lines)), seeds, COLOURS["ink"], (0, (5, 3))))
    return levels


def _best_levels(analyses: Sequence[Analysis], traces: Sequence[Trace]) -> list[Level]:
    """Return the line of the best F1 at the largest size of a single run; several runs have none."""
    if len(analyses) > 1 or not (full := analyses[0].full):
        return []
    best = full.target.seeds.mean
    regime = f"{regime_name(full.regime)} " if len(traces) > 1 else ""
    text = "\n".join([f"{full.size:,} {analyses[0].unit}", f"{regime}{100 * best:.1f} %", *_notes([full], analyses[0])])
    return [Level(text, Seeds(best, None, best, best, 1), COLOURS["quiet"], (0, (1, 2.5)))]


def _heights(traces: Sequence[Trace], levels: Sequence[Level]) -> tuple[float, float]:
    """Return the lowest and the highest F1 that are drawn, in percent."""
    values = [value for each in traces for value in (*each.f1("lowest"), *each.f1("highest"))]
    values += [100 * value for each in levels for value in (each.seeds.lowest, each.seeds.highest)]
    return min(values), max(values)


def _frame(axes: Axes, traces: Sequence[Trace], heights: tuple[float, float], unit: str) -> None:
    low, high = heights
    if high - low < 2:
        low, high = low - 1, high + 1
    room, quiet = high - low, COLOURS["quiet"]
    axes.set_ylim(max(low - 0.12 * room, -0.06 * room), high + 0.14 * room)
    axes.grid(axis="y", color=COLOURS["line"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(quiet)
    axes.tick_params(colors=quiet, length=0)
    sizes = sorted({size for each in traces for size in each.sizes})
    if not sizes:
        axes.set_xticks([])
        axes.set_xlabel("no few-shot stage is complete yet", color=quiet)
        return
    axes.set_xscale("log")
    margin = max((sizes[-1] / sizes[0]) ** 0.05, 1.15)
    axes.set_xlim(sizes[0] / margin, sizes[-1] * margin)
    axes.set_xlabel(f"{unit} (logarithmic scale)", color=quiet)
    shown = [sizes[index] for index in keep_apart([x for x, _ in _places(axes, sizes, [low])], TICK_WIDTH)]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.set_xticklabels([f"{size:,}" for size in shown])
    axes.xaxis.set_minor_locator(FixedLocator(sizes))
    axes.tick_params(axis="x", which="both", length=4, color=quiet, labelcolor=COLOURS["ink"])
    axes.tick_params(axis="x", which="minor", labelbottom=False)


def _places(axes: Axes, sizes: Sequence[float], f1: Sequence[float]) -> list[tuple[float, float]]:
    """Return where sizes and F1 lie in the figure, in points (1/72 inch); one of either goes with all of the other."""
    places = axes.transData.transform(np.column_stack(np.broadcast_arrays(sizes, f1)))
    return [(float(x), float(y)) for x, y in places]


def _draw_levels(axes: Axes, levels: Sequence[Level], *, inside: bool = False) -> None:
    """Draw horizontal lines with their labels at the right, or on one line each below them inside of the axes."""
    texts = [each.text.replace("\n", " ") if inside else each.text for each in levels]
    gap = 13.0 * max((text.count("\n") + 1 for text in texts), default=1)
    heights = [y for _, y in _places(axes, [axes.get_xlim()[0]], [100 * each.seeds.mean for each in levels])]
    offset, place = ((0, -8), {"ha": "right", "fontsize": 8.5}) if inside else ((6.5, 0), {"ha": "left"})
    for level, text, height, spread_to in zip(levels, texts, heights, spread(heights, gap), strict=True):
        mean, lowest, highest = (100 * f1 for f1 in (level.seeds.mean, level.seeds.lowest, level.seeds.highest))
        axes.axhline(mean, color=level.colour, linewidth=1.1, linestyle=level.dashes, zorder=1.5)
        if highest > lowest:
            axes.axhspan(lowest, highest, color=level.colour, alpha=0.07, linewidth=0, zorder=0.5)
        axes.annotate(
            text, (1, mean), (offset[0], spread_to - height + offset[1]), xycoords=axes.get_yaxis_transform(),
            va="center", textcoords="offset points", color=level.colour, linespacing=1.25, annotation_clip=False,
            **place,
        )  # fmt: skip


def _draw_traces(axes: Axes, traces: Sequence[Trace]) -> None:
    paper = COLOURS["paper"]
    for index, each in enumerate(traces):
        colour, marker, line = each.style
        first, filling = each.run == 0, FILLINGS[max(each.run - 1, 0) % len(FILLINGS)]
        if each.f1("highest") != each.f1("lowest"):
            axes.fill_between(each.sizes, each.f1("lowest"), each.f1("highest"), color=colour, alpha=0.14, linewidth=0)
        axes.plot(
            each.sizes, each.f1("mean"), color=colour, linewidth=1.8, linestyle=line, marker=marker,
            fillstyle=filling, markerfacecolor=paper if filling == "full" and not first else colour,
            markerfacecoloralt=paper, markeredgecolor=paper if first else colour, markersize=5 if first else 6,
            markeredgewidth=0.7 if first else 1.3, label=each.name, zorder=3 + index / 100,
        )  # fmt: skip


def _label_values(axes: Axes, traces: Sequence[Trace]) -> None:
    """Write the mean F1 beside its marker wherever the sizes leave room for it."""
    sizes = sorted({size for each in traces for size in each.sizes})
    for column in keep_apart([x for x, _ in _places(axes, sizes, [1.0])], LABEL_WIDTH):
        size = sizes[column]
        here = [(each, each.f1("mean")[each.sizes.index(size)]) for each in traces if size in each.sizes]
        heights = [y for _, y in _places(axes, [size], [mean for _, mean in here])]
        for (each, mean), height, place in zip(here, heights, clear_labels(heights), strict=True):
            axes.annotate(
                f"{mean:.1f}", (size, mean), (0, place - height), textcoords="offset points", ha="center",
                va="center", fontsize=8.5, color=each.style[0], zorder=5, annotation_clip=False,
                bbox={"boxstyle": "square,pad=0.08", "facecolor": COLOURS["paper"], "edgecolor": "none", "alpha": 0.75},
            )  # fmt: skip
