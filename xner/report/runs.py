"""A run's folder: its complete stages and the evidence that they keep."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xner.errors import UserError
from xner.report.entity_errors import Errors, find_errors
from xner.report.points import evaluation_on
from xner.transfer.result import Counts, Result, read_counts, read_result


class Run(NamedTuple):
    """A run's folder, what a report calls it, and its complete stages."""

    path: Path
    name: str
    results: list[Result]


def load_run(path: Path) -> Run:
    """Read a run's complete stages.

    Raises:
        UserError: If the folder holds none.
    """
    folders = sorted(each.parent for each in path.glob("stages/*/result.json"))
    results = [result for folder in folders if (result := read_result(folder))]
    if not results:
        wanted = f"{path}/stages/<id>/result.json"
        raise UserError(f"{path} holds no complete stage ({wanted}): give the folder that `transfer` wrote")
    results.sort(key=lambda each: (each["seed"], each["target_samples"], each["stage"]))
    return Run(path, path.resolve().name, results)


def stage_counts(run: Run, stage: Result, language: str) -> Counts:
    """The evidence of a stage's evaluation on a language.

    Raises:
        UserError: If there is none.
    """
    evaluation = evaluation_on(stage, language)
    path = run.path / "stages" / stage["stage"]
    if evaluation is None or not (path / "counts.npz").is_file():
        raise UserError(f"{path} holds no counts.npz of an evaluation on {language}: run `transfer` again without it")
    return read_counts(path, language, evaluation["split"])


def span_counts(run: Run, stage: Result, language: str) -> npt.NDArray[np.int32]:
    """Correct, predicted and gold spans of each sentence, over all types. *Shape:* (sentences, 3)."""
    counts = stage_counts(run, stage, language)
    return np.stack([counts.correct.sum(axis=1), counts.predicted.sum(axis=1), counts.gold.sum(axis=1)], axis=1)


def stage_errors(run: Run, stage: Result, language: str) -> Errors:
    """What becomes of every entity in a stage's evaluation on a language."""
    counts = stage_counts(run, stage, language)
    return find_errors(counts.word_gold, counts.word_predicted, counts.sentence_words)
