"""Render the page: one HTML file without scripts and external requests, from ``page.html.j2`` and ``page.css``.

This module prepares what the page shows and formats numbers; wording, columns and layout are in the template.
"""

import re
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from xner.report.analysis import REACHES, Analysis, Curve, Point, compare, evaluated_words, shown_examples
from xner.report.entity_errors import LENGTHS, OUTCOMES, SEEN, Example
from xner.report.figure_style import COLOURS
from xner.report.matrix import Matrix
from xner.report.reliability import draw_reliability
from xner.report.runs import before_adaptation, caveats, language_name, regime_name, trained_on
from xner.report.statistics import DRAWS, Difference, Interval
from xner.tags import PANX, Span
from xner.transfer.plan import REGIMES, SOUP
from xner.transfer.result import Evaluation, Result, earlier_configs, notes_of

NOTHING = "\N{EN DASH}"
"""Content of a table cell without a value."""

DIGEST = re.compile(r"[0-9a-f]{16,}")
"""Hexadecimal digests, of which the page shows the first twelve characters."""


class SplitFacts(NamedTuple):
    """An evaluated split, and every evaluation of it."""

    language: str
    name: str
    sentences: int
    entities: int
    evaluations: list[tuple[Result, Evaluation]]


class TextPart(NamedTuple):
    """A part of an example sentence: words outside of spans, with an empty type, or a span."""

    text: str
    type: str
    wrong: bool


class ExampleRow(NamedTuple):
    """An example sentence with its gold and predicted spans, numbered from 1."""

    number: int
    gold: list[TextPart]
    predicted: list[TextPart]


class Group(NamedTuple):
    """A group of entities: its F1 and its number of gold entities, means over seeds."""

    f1: float
    gold: float


class TableCell(NamedTuple):
    """The text of a table cell, and its unabridged form if that is longer."""

    text: str
    title: str = ""


class RunView(NamedTuple):
    """The values that the page shows of one run.

    Attributes:
        id: Prefix of the ids of its sections.
        analysis: The analysis.
        source: Name of the source language.
        target: Name of the target language.
        start: Name of the source stages' score on the target language, such as ``zero-shot``; empty without one.
        best: Summary of the curve of the best regime; ``None`` without few-shot stages.
        repeated: Whether any point has several seeds.
        splits: All evaluations, by split.
        examples: Example errors by stage and kind; ``None`` where the run did not keep its sentences.
        configs: The content of the configuration of each command, by the name of its file.
        versions: The versions of the software, by name.
        types: The entity types of all stages, each with its colour in examples.
        reliability: The reliability diagrams.
    """

    id: str
    analysis: Analysis
    source: str
    target: str
    start: str
    best: Curve | None
    repeated: bool
    splits: list[SplitFacts]
    examples: list[tuple[str, dict[str, list[ExampleRow]]]] | None
    configs: dict[str, str]
    versions: dict[str, str]
    types: dict[str, str]
    reliability: Markup


def render_page(analyses: Sequence[Analysis], svg: str, matrix: Matrix | None) -> str:
    """Render the page of one run, or of several in comparison.

    Args:
        analyses: The runs, one per target; those of a target are compared with the first of it.
        svg: The learning curves of all of them.
        matrix: The scores on all languages, if there are more than a source and a target.
    """
    several = len(analyses) > 1
    points = [point for each in analyses for point in each.points if point.size]
    environment = Environment(
        loader=PackageLoader("xner.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "percent": _percent, "points": _points, "ci": _interval, "count": _count, "p": _p_value, "cell": _cell,
        "regime": regime_name, "language": language_name, "outcomes": _outcomes, "groups": _groups,
        "notes": notes_of, "caveats": caveats,
        "trained_on": lambda result: trained_on(result, language_name),
    }  # fmt: skip
    runs = [view_run(each, f"run{number}-" if several else "") for number, each in enumerate(analyses, 1)]
    sources = {each.source for each in analyses}.union(*(row.sources for row in matrix.rows) if matrix else ())
    page = environment.get_template("page.html.j2").render(
        runs=runs,
        zero_shot=all(run.start == "zero-shot" and run.analysis.target not in sources for run in runs),
        regimes={name: _how(name) for name in dict.fromkeys(point.regime for point in points)},
        seeds=sorted({each["seed"] for analysis in analyses for each in analysis.run.results} - {None}),
        sizes=sorted({point.size for point in points}),
        compared=[(same[0], found) for same in _by_target(analyses) if (found := compare(same[0], same[1:]))],
        matrix=matrix,
        trained=_trained(matrix, analyses),
        targets=[*dict.fromkeys(language_name(each.target) for each in analyses)],
        names=[*dict.fromkeys(each.run_name for each in analyses)],
        language_name=language_name,
        curve=_inline(svg, "Learning curve; its values are in the table of results."),
        DRAWS=DRAWS, REACHES=REACHES, OUTCOMES=OUTCOMES, LENGTHS=LENGTHS, SEEN=SEEN, NOTHING=NOTHING,
    )  # fmt: skip
    return page.lstrip()


def _by_target(analyses: Sequence[Analysis]) -> list[list[Analysis]]:
    """Group analyses by their target, in the order of the first of each."""
    groups: dict[str, list[Analysis]] = {}
    for each in analyses:
        groups.setdefault(each.target, []).append(each)
    return [*groups.values()]


def _trained(matrix: Matrix | None, analyses: Sequence[Analysis]) -> str:
    """Name the source languages of all runs, as ``English and French`` or ``English, German or English + German``."""
    if not matrix:
        return language_name(analyses[0].source)
    sets = list(dict.fromkeys(tuple(map(language_name, row.sources)) for row in matrix.rows if row.sources))
    if len(sets) == 1:
        return " and ".join(sets[0])
    names = [" + ".join(names) for names in sets]
    return f"{', '.join(names[:-1])} or {names[-1]}" if names else language_name(analyses[0].source)


def _how(regime: str) -> str:
    """Describe the stages of a regime; empty for one that is unknown."""
    if regime.startswith(SOUP):
        return "weights averaged over the seeds"
    return f"trained {REGIMES[regime]}" if regime in REGIMES else ""


def view_run(analysis: Analysis, prefix: str) -> RunView:
    """Prepare what the page shows of one run; ``prefix`` begins the ids of its sections."""
    run, start, full = analysis.run, analysis.start, analysis.full
    splits: dict[tuple[str, str, int, int], list[tuple[Result, Evaluation]]] = {}
    versions: dict[str, dict[str, None]] = {}
    for result in run.results:
        for each in result["evaluations"]:
            key = (language_name(each["language"]), each["split"], each["sentences"], each["entities"])
            splits.setdefault(key, []).append((result, each))
        for name, version in result["versions"].items():
            versions.setdefault(name, {})[version] = None
    earlier, last = sorted(earlier_configs(run.path).items()), run.path / "config.yaml"
    configs = [*(path for _, path in earlier), *([last] if last.is_file() else [])]
    return RunView(
        id=prefix,
        analysis=analysis,
        source=language_name(analysis.source),
        target=language_name(analysis.target),
        start=before_adaptation(start.stages, analysis.target) if start else "",
        best=next((curve for curve in analysis.curves if full and curve.regime == full.regime), None),
        repeated=any(len(point.stages) > 1 for point in analysis.points),
        splits=[SplitFacts(*key, found) for key, found in splits.items()],
        examples=_examples(analysis),
        configs={path.name: path.read_text(encoding="utf-8", errors="replace") for path in configs},
        versions={name: " and ".join(found) for name, found in sorted(versions.items())},
        types=type_colours(dict.fromkeys(each for result in run.results for each in result["types"])),
        reliability=_inline(draw_reliability(analysis), "Reliability diagrams.", f"{prefix}reliability-"),
    )


def type_colours(types: Iterable[str]) -> dict[str, str]:
    """Choose a colour per entity type: PAN-X's types have those of the style sheet, others differ in their hue.

    >>> type_colours(["PER", "DATE"])
    {'PER': 'var(--blue)', 'DATE': 'hsl(138 60% 42%)'}
    """
    known = dict(zip(PANX.types, ("var(--blue)", "var(--orange)", "var(--green)"), strict=True))
    # Multiples of the golden angle keep any number of hues apart (Vogel 1979).
    return {each: known.get(each) or f"hsl({round(137.508 * place) % 360} 60% 42%)" for place, each in enumerate(types)}


def _examples(analysis: Analysis) -> list[tuple[str, dict[str, list[ExampleRow]]]] | None:
    try:
        sentences = evaluated_words(analysis)
    except FileNotFoundError:
        return None

    def row(example: Example) -> ExampleRow:
        words = sentences[example.sentence]
        gold, predicted = (_parts(words, spans, example.gold) for spans in (example.gold, example.predicted))
        return ExampleRow(example.sentence + 1, gold, predicted)

    return [
        (stage["stage"], {kind: [row(each) for each in some] for kind, some in found.items() if some})
        for stage, found in shown_examples(analysis)
    ]


def _parts(words: Sequence[str], spans: Sequence[Span], gold: Sequence[Span]) -> list[TextPart]:
    parts: list[TextPart] = []
    word = 0
    for span in spans:
        parts.append(TextPart(" ".join(words[word : span.first]), "", False))
        parts.append(TextPart(" ".join(words[span.first : span.last + 1]), span.type, span not in gold))
        word = span.last + 1
    return [part for part in [*parts, TextPart(" ".join(words[word:]), "", False)] if part.text]


def _outcomes(point: Point) -> list[float]:
    """Return fractions of the gold entities in the order of ``OUTCOMES``, means over seeds."""
    totals = np.mean([each.by_type.sum(axis=0) for each in point.mistakes], axis=0)
    entities = float(totals[: OUTCOMES.index("spurious")].sum()) or 1.0
    return [float(total) / entities for total in totals]


def _groups(point: Point, table: Literal["by_length", "by_seen"]) -> list[Group]:
    seeds = [(each.by_length if table == "by_length" else each.by_seen).values() for each in point.mistakes]
    return [Group(fmean(s.f1 for s in scores), fmean(s.gold for s in scores)) for scores in zip(*seeds, strict=True)]


def _cell(value: object, key: str) -> TableCell:
    """Format an entry of a lineage."""
    if isinstance(value, str) and DIGEST.fullmatch(value):
        return TableCell(value[:12], value)
    if key == "language":
        return TableCell(language_name(str(value)))
    if isinstance(value, dict):
        value = ", ".join(f"{name}: {each}" for name, each in value.items())
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    if value in (None, ""):
        return TableCell(NOTHING)
    return TableCell(f"{value:,}" if type(value) is int and "seed" not in key else str(value))


def _inline(svg: str, label: str, prefix: str = "") -> Markup:
    """Make a drawing fit the page's width and take its colours from the page's style sheet.

    Args:
        svg: The drawing.
        label: Its description for screen readers.
        prefix: Begins the ids of its elements, which are unique in the page.
    """
    drawing = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg[svg.index("<svg") :], count=1)
    drawing = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", drawing)
    drawing = drawing.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    for name, colour in COLOURS.items():
        drawing = drawing.replace(colour, f"var(--{name})")
    return Markup(drawing)


def _percent(value: float | None, decimals: int = 2) -> str:
    return NOTHING if value is None else f"{100 * value:.{decimals}f}"


def _points(value: float, decimals: int = 2) -> str:
    """Format a difference in percentage points, with a minus sign as wide as the plus."""
    return f"{100 * value:+.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def _interval(value: Interval | Difference | None, decimals: int = 2) -> str:
    """Format the interval of a score in percent, or that of a difference in percentage points."""
    if value is None:
        return NOTHING
    if isinstance(value, Difference):
        return f"[{_points(value.interval.low, decimals)}, {_points(value.interval.high, decimals)}]"
    return f"[{_percent(value.low, decimals)}, {_percent(value.high, decimals)}]"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
