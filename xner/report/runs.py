"""Read a transfer run's folder: its complete stages, the points of its learning curve, and what scores are based on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from babel import Locale

from xner.errors import UserError
from xner.report.entity_errors import Errors, find_errors
from xner.transfer.plan import ADAPTED, REGIMES, SOUP, SOURCE
from xner.transfer.result import Counts, Evaluation, Result, notes_of, read_counts, read_result, size_of


class Run(NamedTuple):
    """A run's folder, its name in a report, and its complete stages."""

    path: Path
    name: str
    results: list[Result]


def load_run(path: Path) -> Run:
    """Read a run's complete stages.

    Raises:
        UserError: If the folder holds none, or stages whose sizes count different things.
    """
    folders = sorted(each.parent for each in path.glob("stages/*/result.json"))
    results = [result for folder in folders if (result := read_result(folder))]
    if not any(result["evaluations"] for result in results):
        raise UserError(
            f"{path} holds no complete stage with a score ({path}/stages/<id>/result.json); use a folder that "
            "`transfer` wrote"
        )
    results.sort(key=lambda each: (_seed(each), each["target_samples"], each["stage"]))
    if len({each["shots"] is None for each in results if each["target_samples"]}) > 1:
        raise UserError(f"{path} has stages by sentences and by entities per type; use one folder for each")
    return Run(path, path.resolve().name, results)


def _seed(result: Result) -> int:
    """Return a stage's seed as a key to sort by; a soup, which has none, comes last."""
    return 2**32 if result["seed"] is None else result["seed"]


def language_name(code: str) -> str:
    """Return a language's English name, or the code where it is unknown.

    >>> language_name("tr"), language_name("sw"), language_name("x-mine")
    ('Turkish', 'Swahili', 'x-mine')
    """
    return str(Locale("en").languages.get(code.replace("-", "_"), code))


def regime_name(regime: str) -> str:
    """Return a regime's name in prose, such as ``self-training``, or ``joint, soup`` of its averages over seeds."""
    name = regime.removeprefix(SOUP).replace("_", "-")
    return f"{name}, soup" if regime.startswith(SOUP) else name


def evaluation_on(result: Result, language: str) -> Evaluation | None:
    """Return a stage's evaluation on a language: that of the test split if there is one, else the first."""
    found = [evaluation for evaluation in result["evaluations"] if evaluation["language"] == language]
    return next((evaluation for evaluation in found if evaluation["split"] == "test"), found[0] if found else None)


def source_language(results: Sequence[Result]) -> str:
    """Return the source language: the one that the source stage trains on, else the first one evaluated on."""
    for result in results:
        if result["regime"] == SOURCE and result["train_languages"]:
            return result["train_languages"][0]
    return next(each["language"] for result in results for each in result["evaluations"])


def target_language(results: Sequence[Result]) -> str:
    """Return the target language.

    It is the last language that a few-shot stage trains on. Without such a stage, it is the first evaluated language
    that is not a source language, else the source language.
    """
    for result in results:
        if target := target_of(result):
            return target
    source = source_language(results)
    sources = {source}.union(*(result["train_languages"] for result in results if result["regime"] == SOURCE))
    languages = [evaluation["language"] for result in results for evaluation in result["evaluations"]]
    return next((language for language in languages if language not in sources), source)


def unit_of(results: Sequence[Result]) -> str:
    """Return what the sizes of a run count, ``sentences`` or ``entities per type``."""
    return "sentences" if all(result["shots"] is None for result in results) else "entities per type"


def regime_order(regime: str) -> tuple[int, str]:
    """Return a key that sorts source stages first, then the regimes in the order of ``plan.REGIMES``, then soups."""
    order = [SOURCE, *REGIMES]
    order += [SOUP + each for each in order]
    return order.index(regime) if regime in order else len(order), regime


def target_of(result: Result) -> str | None:
    """Return the language whose learning curve a stage is on; ``None`` for a source stage and those before it."""
    return None if result["regime"].removeprefix(SOUP) in (SOURCE, ADAPTED) else result["train_languages"][-1]


def by_target(run: Run) -> list[Run]:
    """Divide a run with several target languages into one per target, each with the source stages."""
    targets = list(dict.fromkeys(target for result in run.results if (target := target_of(result))))
    if len(targets) < 2:
        return [run]
    return [
        Run(
            run.path,
            f"{run.name} ({language_name(target)})",
            [result for result in run.results if target_of(result) in (None, target)],
        )
        for target in targets
    ]


def group_stages(results: Sequence[Result], language: str) -> dict[tuple[str, int], list[Result]]:
    """Group the stages that were evaluated on a language, and differ in their seed only.

    Returns:
        By regime and size, the stages of all seeds, smallest seed first. The source stages come
        first, then the regimes in the order of ``plan.REGIMES``, each by increasing size.
    """

    def place(stage: Result) -> tuple[tuple[int, str], int, int]:
        return regime_order(stage["regime"]), size_of(stage), _seed(stage)

    groups: dict[tuple[str, int], list[Result]] = {}
    for stage in sorted(results, key=place):
        if evaluation_on(stage, language):
            groups.setdefault((stage["regime"], size_of(stage)), []).append(stage)
    return groups


def before_adaptation(stages: Sequence[Result], language: str) -> str:
    """Name a source stage's score on the target language: zero-shot only if no lineage contains that language."""
    scores = [score for stage in stages if (score := evaluation_on(stage, language))]
    if any(score["oracle"] for score in scores):
        return "oracle (not zero-shot)"
    if all(score["zero_shot"] for score in scores):
        return "zero-shot"
    label_free = all(score["label_free"] for score in scores)
    return "label-free (not zero-shot)" if label_free else "before adaptation (not zero-shot)"


def trained_on(result: Result, spell: Callable[[str], str] = str) -> str:
    """Describe the training data of a stage, such as ``en 20,000 + tr 250``.

    Args:
        result: The stage.
        spell: How to write a language's code, such as ``language_name``.
    """
    languages, total = [spell(code) for code in result["train_languages"]], result["train_samples"]
    target = result["target_samples"]
    if len(languages) > 1 and 0 < target < total:
        return f"{' + '.join(languages[:-1])} {total - target:,} + {languages[-1]} {target:,}"
    labels = [each.get("labels") for each in result["lineage"]["episodes"][-1:]]
    note = ", predicted labels" if "predicted" in labels else ", masked subwords" if "none" in labels else ""
    return f"{' + '.join(languages)} {total:,}{note}"


def caveats(stages: Sequence[Result], language: str) -> list[str]:
    """List what to keep in mind with the mean of stages on a language: ``oracle`` or ``contaminated`` if one is."""
    notes = [note for stage in stages if (score := evaluation_on(stage, language)) for note in notes_of(score)]
    return [note for note in dict.fromkeys(notes) if note != "zero-shot"]


def evaluated_on(evaluation: Evaluation) -> str:
    """Describe the data of an evaluation, such as ``tr test, zero-shot``."""
    return ", ".join([f"{evaluation['language']} {evaluation['split']}", *notes_of(evaluation)])


def stage_counts(run: Run, stage: Result, language: str) -> Counts:
    """Read the per-sentence counts and labels of a stage's evaluation on a language, which it has."""
    evaluation = evaluation_on(stage, language)
    assert evaluation
    return read_counts(run.path / "stages" / stage["stage"], evaluation)


def comparable_counts(stages: Sequence[tuple[Run, Result]], language: str) -> list[npt.NDArray[np.int32]]:
    """Read the counts of stages that were evaluated on the same sentences of a language.

    Args:
        stages: Stages that were evaluated on the language, each with its run.
        language: The language.

    Returns:
        For each stage, correct, predicted and gold spans per sentence, over all types. *Shape:* (sentences, 3)

    Raises:
        UserError: If they were evaluated on different sentences or tags, so that their scores cannot be compared.
    """
    found: list[npt.NDArray[np.int32]] = []
    first: tuple[Path, tuple[str, str | None, bytes, bytes]] | None = None
    for run, stage in stages:
        counts = stage_counts(run, stage, language)
        found.append(sum_types(counts))
        path, evaluated = run.path / "stages" / stage["stage"], _evaluated(stage, language, counts)
        first = first or (path, evaluated)
        if evaluated != first[1]:
            raise UserError(
                f"{first[0]} and {path} were evaluated on different sentences or tags of {language} "
                f"({len(found[0]):,} of the {first[1][0]} split and {len(found[-1]):,} of the {evaluated[0]} split), "
                "so that their scores cannot be compared; report them apart"
            )
    return found


def _evaluated(stage: Result, language: str, counts: Counts) -> tuple[str, str | None, bytes, bytes]:
    """Return what tells sentences apart: the split, the digest of words and tags, and the numbers of both by sentence.

    The digest is that of the whole split, of which a limit of batches may leave a part out.
    """
    evaluation = evaluation_on(stage, language)
    assert evaluation
    digest = stage["definition"].get("tested", {}).get(f"{language}/{evaluation['split']}")
    # The types of two runs may have another order.
    types = sorted(range(len(stage["types"])), key=stage["types"].__getitem__)
    return evaluation["split"], digest, counts.sentence_words.tobytes(), counts.gold[:, types].tobytes()


def check_comparable(runs: Sequence[Run]) -> None:
    """Check that runs were evaluated on the same sentences of each language, by the first stage of each.

    Raises:
        UserError: If they were not.
    """
    evaluated = [each["language"] for run in runs for result in run.results for each in result["evaluations"]]
    for language in dict.fromkeys(evaluated) if len(runs) > 1 else ():
        stages = [[stage for stage in run.results if evaluation_on(stage, language)] for run in runs]
        comparable_counts([(run, own[0]) for run, own in zip(runs, stages, strict=True) if own], language)


def sum_types(counts: Counts) -> npt.NDArray[np.int32]:
    """Add up correct, predicted and gold spans per sentence over all types. *Shape:* (sentences, 3)."""
    return np.stack([each.sum(axis=1) for each in (counts.correct, counts.predicted, counts.gold)], axis=1)


def stage_errors(run: Run, stage: Result, language: str) -> Errors:
    """Classify every entity of a stage's evaluation on a language."""
    counts = stage_counts(run, stage, language)
    return find_errors(stage["types"], counts.word_gold, counts.word_predicted, counts.sentence_words)
