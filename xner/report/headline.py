"""The page's top: what must be known before any number, the numbers to remember, and the curve."""

import re
from collections.abc import Sequence

from xner.report.analysis import REACHES, Analysis
from xner.report.markup import Html, element, join, signed
from xner.report.points import before_adaptation
from xner.report.statistics import Interval
from xner.report.style import CURVE


def numbers(analysis: Analysis) -> Html:
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
        low, high = signed(100 * change.low, 1), signed(100 * change.high, 1)
        name = f"points of F1 on {source} after adaptation to {target}"
        facts.append((signed(100 * change.value, 1), name, f"95 % interval {low} to {high}"))
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
    evaluations = [(result["stage"], each) for result in analysis.run.results for each in result["evaluations"]]
    contaminated = dict.fromkeys(stage for stage, each in evaluations if each["contaminated"])
    if contaminated:
        text = (
            "Weights were trained on an evaluation split, now or before this run, so that scores do not say how they "
            f"do on new sentences. Stages: {', '.join(contaminated)}."
        )
        found.append(element("p", element("strong", "Contaminated. "), text, class_="warning"))
    unscored = sum(each["unscored_words"] for _, each in evaluations)
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


def _per_cent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _range(interval: Interval) -> str:
    return f"95 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f}"
