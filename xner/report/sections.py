"""The page's parts about scores: headline, curve, results, whole curves, forgetting, all stages."""

import re
from collections.abc import Sequence

from xner.report import table as plain
from xner.report.analysis import REACHES, Analysis, Point, compare
from xner.report.markup import Html, details, element, join, table
from xner.report.points import before_adaptation, trained_on
from xner.report.statistics import DRAWS, Difference, Interval
from xner.report.style import CURVE

NOTHING = "\N{EN DASH}"
"""A cell for what does not exist."""


def headline(analysis: Analysis) -> Html:
    """The numbers to remember, with their intervals."""
    source, target, start, full = analysis.source, analysis.target, analysis.start, analysis.full
    facts: list[tuple[str, str, str]] = []
    if start:
        name = f"F1 on {target}, {before_adaptation(start.stages, target)}"
        facts.append((_per_cent(start.target.seeds.mean), name, _range(start.target.interval)))
    if full:
        name = f"F1 on {target} with {full.size:,} {target} sentences, {full.regime}"
        facts.append((_per_cent(full.target.seeds.mean), name, _range(full.target.interval)))
        curve = next(each for each in analysis.curves if each.regime == full.regime)
        reached = curve.reached[REACHES.index(0.95)]
        if reached is not None:
            words = f"{'at most ' if reached <= curve.smallest else ''}{reached:,.0f}"
            facts.append((words, f"{target} sentences reach 95 % of that", f"{full.regime}, interpolated"))
    if start and start.source and source != target:
        facts.append(
            (_per_cent(start.source.seeds.mean), f"F1 on {source}, after training on it", _range(start.source.interval))
        )
    if full and full.source and full.source.source and source != target:
        change = full.source.source
        low, high = 100 * change.low, 100 * change.high
        name = f"points of F1 on {source} after adaptation to {target}"
        facts.append((f"{100 * change.value:+.1f}", name, f"95 % interval {low:+.1f} to {high:+.1f}"))
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", name),
                element("dd", value, class_="value"),
                element("dd", interval, class_="range"),
            )
            for value, name, interval in facts
        ),
        class_="headline",
    )


def warnings(analysis: Analysis) -> Html:
    """What a reader must know before any number: a contaminated start, words that nobody scored."""
    found = []
    start, target = analysis.start, analysis.target
    if start and before_adaptation(start.stages, target) != "zero-shot" and analysis.source != target:
        text = (
            f"The lineage of the source stage's weights does not rule out {target} sentences: "
            f"its score on {target} says what it remembers as well as what carries over."
        )
        found.append(element("p", element("strong", "Not zero-shot. "), text, class_="warning"))
    unscored = sum(each["unscored_words"] for result in analysis.run.results for each in result["evaluations"])
    if unscored:
        text = f"{unscored:,} words over all evaluations have no score; a complete evaluation has none of them."
        found.append(element("p", element("strong", "Unscored words. "), text, class_="warning"))
    return join(found)


def figure(svg: str, analyses: Sequence[Analysis]) -> Html:
    """The curve, drawn into the page so that it takes on the page's colours."""
    drawing = svg[svg.index("<svg") :]
    drawing = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", drawing, count=1)
    drawing = drawing.replace("<svg", '<svg role="img" aria-label="The curve; its numbers are in the table below."', 1)
    for colour, name in CURVE.items():
        drawing = drawing.replace(colour, name)
    text = (
        "F1 on the target language against the number of its sentences trained on. The dashed line is the source stage "
        "before any of them; "
        + ("the dotted line is the best regime at the largest size." if len(analyses) == 1 else "one for each run.")
    )
    box = element("div", Html(drawing), class_="scroll", tabindex="0", role="region", aria_label="The curve")
    return element("figure", box, element("figcaption", text))


def results(analysis: Analysis) -> Html:
    """Every point on the target, with its uncertainty and what it is compared with."""
    target = analysis.target
    head = [
        "regime", f"{target} sentences", "seeds", "F1", "95 % interval", "sd over seeds",
        "against the size before", "95 % interval", "p", "against the source stage", "95 % interval", "p",
    ]  # fmt: skip
    rows = [
        [
            _name(point, target), f"{point.size:,}", str(len(point.stages)), plain.score(point.target.seeds.mean),
            f"{point.target.interval.low:.4f} to {point.target.interval.high:.4f}", _sd(point.target.seeds.sd),
            *_change(point.target.before), *_change(point.target.source),
        ]
        for point in analysis.points
    ]  # fmt: skip
    caption = (
        f"F1 on {target} {analysis.split}, mean over seeds. Intervals and p-values come from a paired bootstrap of "
        f"{DRAWS:,} draws of the sentences: they say how much rests on the sentences, the deviation over seeds "
        "how much rests on the seeds."
    )
    return table(caption, head, rows)


def whole_curves(analysis: Analysis) -> Html:
    """What each regime's curve amounts to."""
    target = analysis.target
    full = analysis.full
    if full is None:
        return Html("")
    head = ["regime", "area under the curve", *(f"{share:.0%} of the best".replace("%", " %") for share in REACHES)]
    rows = [
        [
            curve.regime,
            plain.score(curve.area),
            *(
                "not reached" if n is None else f"at most {n:,.0f}" if n <= curve.smallest else f"{n:,.0f}"
                for n in curve.reached
            ),
        ]
        for curve in analysis.curves
    ]
    caption = (
        f"The area is the mean F1 over log n. The others are how many {target} sentences reach that share of "
        f"{full.target.seeds.mean:.4f}, the best F1 at {full.size:,} sentences ({full.regime}), interpolated in log n."
    )
    return table(caption, head, rows)


def forgotten(analysis: Analysis) -> Html:
    """F1 on the source after adaptation to the target, against the source stage."""
    points = [point for point in analysis.points if point.source]
    if analysis.source == analysis.target or not any(point.size for point in points):
        return Html("")
    head = ["regime", f"{analysis.target} sentences", f"F1 on {analysis.source}", "sd over seeds",
            "against the source stage", "95 % interval", "p", "sd over seeds"]  # fmt: skip
    rows = [
        [
            point.regime, f"{point.size:,}", plain.score(point.source.seeds.mean), _sd(point.source.seeds.sd),
            *_change(point.source.source), _sd(point.forgotten.sd if point.forgotten else None),
        ]
        for point in points if point.source
    ]  # fmt: skip
    scratch = any(point.regime == "scratch" for point in points)
    caption = f"F1 on {analysis.source} after adaptation to {analysis.target}; below 0, something was forgotten." + (
        f" A scratch stage never learnt {analysis.source}." if scratch else ""
    )
    return table(caption, head, rows)


def comparison(analyses: Sequence[Analysis]) -> Html:
    """The later runs against the first, at every point that they share."""
    first = analyses[0]
    rows = [
        [other.run.name, _name(point, other.target), f"{point.size:,}", *_change(change)]
        for other in analyses[1:]
        for point, change in compare(first, other)
    ]
    if not rows:
        return Html("")
    head = ["run", "regime", f"{first.target} sentences", f"F1 against {first.run.name}", "95 % interval", "p"]
    caption = f"F1 on {first.target} of each run minus that of {first.run.name}, on the same sentences."
    return table(caption, head, rows, texts=2)


def stages(analysis: Analysis) -> Html:
    """Every stage and evaluation, as ``results.csv`` has them."""
    rows = [
        [
            result["stage"], result["start_from"], trained_on(result), plain.evaluated_on(evaluation),
            *plain.scores(evaluation), plain.score(evaluation["accuracy"]), f"{evaluation['sentences']:,}",
            f"{evaluation['entities']:,}", f"{result['seconds']:,.0f}",
        ]
        for result in analysis.run.results for evaluation in result["evaluations"]
    ]  # fmt: skip
    head = ["stage", "starts from", "trained on", "evaluated on", *plain.SCORES, "accuracy", "sentences", "entities",
            "seconds"]  # fmt: skip
    count = f"All {len(analysis.run.results)} stages and their evaluations"
    return details(count, table("Scores are fractions.", head, rows, texts=4))


def _name(point: Point, target: str) -> str:
    return point.regime if point.size else f"source, {before_adaptation(point.stages, target)}"


def _per_cent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _range(interval: Interval) -> str:
    return f"95 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f}"


def _sd(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"


def _change(change: Difference | None) -> list[str]:
    if change is None:
        return [NOTHING] * 3
    p = "< 0.001" if change.p < 0.001 else f"{change.p:.3f}"
    return [f"{change.value:+.4f}", f"{change.low:+.4f} to {change.high:+.4f}", p]
