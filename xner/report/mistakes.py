"""The page's part about what goes wrong: fates, lengths, words that training never saw, and sentences that show it."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from xner.report import table as plain
from xner.report.analysis import Analysis, Point
from xner.report.entity_errors import LENGTHS, OUTCOMES, SEEN, Example, Score, examples
from xner.report.markup import Html, details, element, join, table
from xner.report.runs import stage_errors
from xner.tags import TYPES, Span
from xner.transfer.result import Result, read_sentences

MEANING = {
    "wrong type": "a predicted span meets the entity, none of its type",
    "wrong border": "a predicted span of its type meets the entity, with another border",
    "missed": "no predicted span meets the entity",
    "spurious": "a predicted span meets no entity",
}


def fates(analysis: Analysis) -> Html:
    """What becomes of the entities at every point and, in a fold, of every stage by type."""
    rows = []
    for point in analysis.points:
        totals = np.mean([each.by_type.sum(axis=0) for each in point.mistakes], axis=0)
        entities = float(totals[: OUTCOMES.index("spurious")].sum()) or 1.0
        shares = [float(total) / entities for total in totals]
        rows.append([_place(point), _bar(shares), *map(plain.score, shares)])
    by_type = [
        [result["stage"], kind, *(f"{count:,}" for count in counts)]
        for point in analysis.points
        for result, each in zip(point.stages, point.mistakes, strict=True)
        for kind, counts in zip(TYPES, each.by_type, strict=True)
    ]
    legend = [element("span", element("i", class_=f"key f{index}"), name) for index, name in enumerate(OUTCOMES[:-1])]
    caption = "Shares of the gold entities, and the spurious spans as a share of the same number."
    return join(
        [
            element("p", *legend, class_="legend"),
            table(caption, ["stage", "", *OUTCOMES], rows, texts=2),
            details(
                "By type, for every stage", table("Counts of spans.", ["stage", "type", *OUTCOMES], by_type, texts=2)
            ),
        ]
    )


def lengths(analysis: Analysis) -> Html:
    """F1 by the number of an entity's words."""
    rows = [[_place(point), *_cells([each.by_length for each in point.mistakes], LENGTHS)] for point in analysis.points]
    caption = "F1 by the length of the entity; in brackets, how many gold entities there are."
    return table(caption, ["stage", *LENGTHS], rows)


def seen(analysis: Analysis) -> Html:
    """F1 by whether training saw an entity's words."""
    rows = [[_place(point), *_cells([each.by_seen for each in point.mistakes], SEEN)] for point in analysis.points]
    caption = (
        "F1 by whether the entity's words stand in the training data; in brackets, the gold entities, a mean of seeds."
    )
    return table(caption, ["stage", *SEEN], rows)


def example_sentences(analysis: Analysis) -> Html:
    """Sentences for each kind of error, at the start of the curve and at its end."""
    run, language, split = analysis.run, analysis.target, analysis.split
    try:
        sentences = read_sentences(run.path, language, split)
    except FileNotFoundError:
        return element("p", f"The run kept no sentences of {language} {split} to show.", class_="note")
    parts = []
    for stage, found in shown_examples(analysis):
        folds = [
            details(
                f"{kind[0].upper()}{kind[1:]}: {MEANING[kind]}",
                element(
                    "ol", *(_example(each, sentences[each.sentence], language) for each in some), class_="examples"
                ),
                unfolded=kind == OUTCOMES[1],
            )
            for kind, some in found.items()
            if some
        ]
        parts.append(join([element("h3", "Sentences from ", element("code", stage["stage"])), *folds]))
    return join(parts)


def shown_examples(analysis: Analysis) -> list[tuple[Result, dict[str, list[Example]]]]:
    """The sentences that a report shows, by the kind of error: of a stage at the curve's start, and at its end."""
    stages = [point.stages[0] for point in (analysis.start, analysis.full) if point]
    return [(stage, examples(stage_errors(analysis.run, stage, analysis.target))) for stage in stages]


def _place(point: Point) -> str:
    return f"{point.regime}, {point.size:,}" if point.size else point.regime


def _bar(shares: Sequence[float]) -> Html:
    parts = list(zip(OUTCOMES, shares, strict=True))[: OUTCOMES.index("spurious")]
    spans = [
        element("span", class_=f"f{index}", style=f"width:{100 * share:.2f}%") for index, (_, share) in enumerate(parts)
    ]
    words = ", ".join(f"{name} {100 * share:.0f} %" for name, share in parts)
    return element("div", *spans, class_="bar", role="img", aria_label=words)


def _cells(scores: Sequence[Mapping[str, Score]], names: Sequence[str]) -> list[Html]:
    return [
        join(
            [
                plain.score(fmean(each[name].f1 for each in scores)),
                " ",
                element("small", f"({fmean(each[name].gold for each in scores):,.0f})"),
            ]
        )
        for name in names
    ]


def _example(example: Example, words: Sequence[str], language: str) -> Html:
    gold = _marked(words, example.gold, frozenset(example.gold), "gold", language)
    predicted = _marked(words, example.predicted, frozenset(example.gold), "predicted", language)
    pair = element("dl", element("dt", "gold"), gold, element("dt", "predicted"), predicted, class_="pair")
    return element("li", element("p", f"sentence {example.sentence + 1:,}", class_="where"), pair)


def _marked(words: Sequence[str], spans: Sequence[Span], gold: frozenset[Span], side: str, language: str) -> Html:
    """A sentence with its spans underlined and named; a cross says that a predicted span is wrong."""
    parts: list[str] = []
    word = 0
    for span in spans:
        parts += words[word : span.first]
        name = span.type if span in gold else f"{span.type} ✗"
        text = " ".join(words[span.first : span.last + 1])
        parts.append(element("mark", text, element("small", name), class_=f"{side} {span.type}"))
        word = span.last + 1
    return element("dd", join([*parts, *words[word:]], " "), lang=language, dir="auto")
