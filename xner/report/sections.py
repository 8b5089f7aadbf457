"""The page's tables of scores: results, gains, whole curves, forgetting, run against run, all stages."""

from collections.abc import Sequence

from xner.report import table as plain
from xner.report.analysis import REACHES, Analysis, Point, compare
from xner.report.markup import Html, details, signed, table
from xner.report.points import before_adaptation, trained_on
from xner.report.statistics import DRAWS, Difference, Interval

NOTHING = "\N{EN DASH}"
"""A cell for what does not exist."""


def results(analysis: Analysis) -> Html:
    """Every point on the target, with its uncertainty."""
    target, split, repeated = analysis.target, analysis.split, _repeated(analysis)
    head = ["regime", f"{target} sentences", "F1", "95 % interval", *(["seeds", "sd over seeds"] if repeated else [])]
    rows = []
    for point in analysis.points:
        scored = point.target
        row = [_name(point, target), f"{point.size:,}", plain.score(scored.seeds.mean), _between(scored.interval)]
        rows.append([*row, *([f"{scored.seeds.seeds}", _sd(scored.seeds.sd)] if repeated else [])])
    many = ", mean over seeds; the deviation over seeds says how much rests on them" if repeated else ""
    caption = (
        f"F1 on {target} {split}{many}. The interval is a bootstrap of {DRAWS:,} draws of the sentences: it says how "
        "much rests on these sentences and nothing of other seeds."
    )
    return table(caption, head, rows)


def gains(analysis: Analysis) -> Html:
    """What each point adds to the size before it and to the source stage."""
    target, start = analysis.target, analysis.start
    rows = [
        [point.regime, f"{point.size:,}", *_change(point.target.before), *_change(point.target.source)]
        for point in analysis.points
        if point.size
    ]
    if not rows:
        return Html("")
    zero_shot = start is not None and before_adaptation(start.stages, target) == "zero-shot"
    head = ["regime", f"{target} sentences", "against the size before", "95 % interval", "p"]
    caption = "Differences of F1 on the same sentences, seeds paired: paired bootstrap, two-sided p."
    return table(
        caption, [*head, f"against {'zero-shot' if zero_shot else 'the source stage'}", "95 % interval", "p"], rows
    )


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
    source, repeated = analysis.source, _repeated(analysis)
    head = [
        "regime",
        f"{analysis.target} sentences",
        f"F1 on {source}",
        "against the source stage",
        "95 % interval",
        "p",
    ]
    rows = []
    for point in points:
        if point.source:
            row = [point.regime, f"{point.size:,}", plain.score(point.source.seeds.mean), *_change(point.source.source)]
            rows.append([*row, *([_sd(point.forgotten.sd if point.forgotten else None)] if repeated else [])])
    head += ["sd of the difference over seeds"] if repeated else []
    scratch = any(point.regime == "scratch" for point in points)
    caption = f"F1 on {source} after adaptation to {analysis.target}; below 0, something was forgotten." + (
        f" A scratch stage never learnt {source}." if scratch else ""
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
            f"{evaluation['entities']:,}", f"{evaluation['seen_sentences']:,}",
            NOTHING if evaluation["f1_unseen"] is None else plain.score(evaluation["f1_unseen"]),
            f"{result['seconds']:,.0f}",
        ]
        for result in analysis.run.results for evaluation in result["evaluations"]
    ]  # fmt: skip
    head = ["stage", "starts from", "trained on", "evaluated on", *plain.SCORES, "accuracy", "sentences", "entities",
            "of the sentences, trained on", "F1 on the others", "seconds"]  # fmt: skip
    count = f"All {len(analysis.run.results)} stages and their evaluations"
    return details(count, table("Scores are fractions.", head, rows, texts=4))


def _name(point: Point, target: str) -> str:
    return point.regime if point.size else f"source, {before_adaptation(point.stages, target)}"


def _between(interval: Interval) -> str:
    return f"{interval.low:.4f} to {interval.high:.4f}"


def _sd(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"


def _change(change: Difference | None) -> list[str]:
    if change is None:
        return [NOTHING] * 3
    p = "< 0.001" if change.p < 0.001 else f"{change.p:.3f}"
    return [signed(change.value, 4), f"{signed(change.low, 4)} to {signed(change.high, 4)}", p]


def _repeated(analysis: Analysis) -> bool:
    return any(len(point.stages) > 1 for point in analysis.points)
