"""The curve's points among a run's results: its target language, its source stages and the stages of each regime."""

from collections.abc import Sequence
from typing import NamedTuple

from xner.transfer.result import Evaluation, Result

SOURCE = "source"
"""The regime of the stages that no target sentence was trained on in."""

REGIMES = ("progressive", "independent", "scratch", "joint")
"""The few-shot regimes, in the order in which a report names them."""


class Line(NamedTuple):
    """One regime's way along the curve.

    Attributes:
        regime: The regime.
        stages: By the number of target sentences, smallest first, the stages of all seeds, smallest seed first.
    """

    regime: str
    stages: dict[int, list[Result]]


def evaluation_on(result: Result, language: str) -> Evaluation | None:
    """A stage's evaluation on a language: of its test split, or the first there is; ``None`` where there is none."""
    found = [evaluation for evaluation in result["evaluations"] if evaluation["language"] == language]
    return next((evaluation for evaluation in found if evaluation["split"] == "test"), found[0] if found else None)


def source_language(results: Sequence[Result]) -> str:
    """The language that the run starts from: what its source stage trains on, else the first it evaluates on."""
    for result in results:
        if result["regime"] == SOURCE and result["train_languages"]:
            return result["train_languages"][0]
    return results[0]["evaluations"][0]["language"]


def target_language(results: Sequence[Result]) -> str:
    """The language that the run adapts to.

    It is the last one that a few-shot stage trains on. Without such a stage, it is the first that the source stage is
    evaluated on besides its own, else its own.
    """
    for result in results:
        if result["regime"] != SOURCE:
            return result["train_languages"][-1]
    source = source_language(results)
    languages = [evaluation["language"] for result in results for evaluation in result["evaluations"]]
    return next((language for language in languages if language != source), source)


def source_stages(results: Sequence[Result]) -> list[Result]:
    """The source stages, smallest seed first."""
    return sorted((result for result in results if result["regime"] == SOURCE), key=lambda result: result["seed"])


def lines(results: Sequence[Result], language: str) -> list[Line]:
    """The few-shot stages that are evaluated on a language, by regime and number of target sentences."""
    few_shot = [result for result in results if result["regime"] != SOURCE and evaluation_on(result, language)]
    found = {result["regime"] for result in few_shot}
    order = [*(name for name in REGIMES if name in found), *sorted(found.difference(REGIMES))]
    return [
        Line(
            regime,
            {
                size: sorted(
                    (each for each in few_shot if each["regime"] == regime and each["target_samples"] == size),
                    key=lambda result: result["seed"],
                )
                for size in sorted({each["target_samples"] for each in few_shot if each["regime"] == regime})
            },
        )
        for regime in order
    ]


def f1_on(stages: Sequence[Result], language: str) -> list[float]:
    """F1 of each stage that is evaluated on a language, a fraction."""
    return [evaluation["f1"] for stage in stages if (evaluation := evaluation_on(stage, language))]


def is_zero_shot(stages: Sequence[Result], language: str) -> bool:
    """Whether every one of these stages' weights has seen no sentence of the language."""
    return all(evaluation["zero_shot"] for stage in stages if (evaluation := evaluation_on(stage, language)))


def before_adaptation(stages: Sequence[Result], language: str) -> str:
    """What a source stage's score on the target may be called, which its lineage decides."""
    return "zero-shot" if is_zero_shot(stages, language) else "before adaptation (not zero-shot)"


def trained_on(result: Result) -> str:
    """What a stage trains on, in words: ``en 20,000 + tr 250``."""
    languages, total, target = result["train_languages"], result["train_samples"], result["target_samples"]
    if len(languages) == 2 and 0 < target < total:
        return f"{languages[0]} {total - target:,} + {languages[1]} {target:,}"
    return f"{' + '.join(languages)} {total:,}"


def evaluated_on(evaluation: Evaluation) -> str:
    """Say what an evaluation is of, such as ``tr test, zero-shot``."""
    notes = {"zero-shot": evaluation["zero_shot"], "contaminated": evaluation["contaminated"]}
    return ", ".join(
        [f"{evaluation['language']} {evaluation['split']}", *(name for name, given in notes.items() if given)]
    )
