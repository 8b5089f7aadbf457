"""The plain-text table that ``transfer`` prints at its end."""

from collections.abc import Sequence
from typing import Literal

from xner.report.points import trained_on
from xner.tags import TYPES
from xner.transfer.result import Evaluation, Result

SCORES = ("F1", "precision", "recall", *TYPES, "strict F1")

_NOTES: dict[str, Literal["zero_shot", "contaminated"]] = {"zero-shot": "zero_shot", "contaminated": "contaminated"}


def score(value: float) -> str:
    """A score as tables show it: a fraction with four decimals."""
    return f"{value:.4f}"


def scores(evaluation: Evaluation) -> list[str]:
    """An evaluation's cells under the heads ``SCORES``."""
    per_type = (evaluation["f1_PER"], evaluation["f1_ORG"], evaluation["f1_LOC"])
    overall = (evaluation["f1"], evaluation["precision"], evaluation["recall"])
    return [score(value) for value in (*overall, *per_type, evaluation["f1_strict"])]


def evaluated_on(evaluation: Evaluation) -> str:
    """What an evaluation is of, in words: ``tr test, zero-shot``."""
    notes = [name for name, given in _NOTES.items() if evaluation[given]]
    return ", ".join([f"{evaluation['language']} {evaluation['split']}", *notes])


def describe(evaluation: Evaluation) -> str:
    """An evaluation in a few lines: its scores, and what its weights had seen of it."""
    note = " (zero-shot)" if evaluation["zero_shot"] else ""
    lines = [
        f"{evaluation['language']}/{evaluation['split']}{note}: F1 {score(evaluation['f1'])}, "
        f"strict {score(evaluation['f1_strict'])}",
        f"{evaluation['seen_sentences']:,} of {evaluation['sentences']:,} sentences were trained on word for word"
        + (f"; F1 on the others {score(evaluation['f1_unseen'])}" if evaluation["f1_unseen"] is not None else ""),
    ]
    if evaluation["unscored_words"]:
        lines.append(f"part of the split: {evaluation['unscored_words']:,} words have no score")
    if evaluation["contaminated"]:
        lines.append("contaminated: these weights were trained on an evaluation split, lately or long ago")
    return "\n".join(lines)


def render(results: Sequence[Result]) -> str:
    """Lay out a row per stage and evaluation; scores are fractions with four decimals.

    Args:
        results: Complete stages, in the order of the table.

    Returns:
        The table, its lines ended by newlines: a head, a rule and the rows.
    """
    head = ["stage", "trained on", "evaluated on", *SCORES]
    rows = [
        [result["stage"], trained_on(result), evaluated_on(evaluation), *scores(evaluation)]
        for result in results
        for evaluation in result["evaluations"]
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    texts = len(head) - len(SCORES)
    laid_out = [
        "  ".join(
            cell.ljust(width) if column < texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, ["-" * width for width in widths], *rows]
    ]
    return "".join(f"{line.rstrip()}\n" for line in laid_out)
