"""The result of a stage, its per-sentence counts, and the table of all results.

``result.json`` is written last and atomically, so that it is present exactly when its stage is complete.
"""

import csv
import io
import json
import math
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from xner.errors import RunError
from xner.files import is_name, is_of_content, write_atomically
from xner.transfer.plan import Keep
from xner.typed import check_type, load_checked, with_checksum


class Evaluation(TypedDict):
    """The evaluation of a stage's model on one split. Scores are fractions, the others are counts.

    ``f1_by_type`` has the F1 of each entity type, in the order of ``Result``'s ``types``.
    ``seen_sentences`` occur verbatim in what the weights were trained on; ``f1_unseen`` is F1 on the others, ``None``
    if there are none. ``contaminated`` weights were trained on an evaluation split, or on every sentence of this one.

    ``f1_seen_entities`` and ``f1_unseen_entities`` divide the spans by their words: a span is seen if exactly these
    words, in their order and case, are an entity of any type in the sentences that the weights were trained on. Gold
    and predicted spans each count by their own words, so that a predicted span with wrong boundaries may count in the
    other group than the entity that it overlaps. A score is ``None`` where no gold entity is in its group.

    ``near_duplicates`` are equal to a sentence that the weights were trained on but for case, digits and words of
    punctuation, as ``normalise_words`` defines it; verbatim ones are among them.

    ``ece`` is the expected calibration error of the words' predicted labels in ``model.calibration``, rounded to 4
    digits, because further digits of probabilities depend on how sentences are batched.

    The epoch of ``oracle`` weights, or of those that they started from, was chosen by the target's validation split.

    ``label_free`` weights were trained on no gold tag of the language, see ``xner.lineage.label_free``.
    """

    language: str
    split: str
    zero_shot: bool
    f1: float
    precision: float
    recall: float
    accuracy: float
    f1_by_type: dict[str, float]
    f1_strict: float
    f1_macro: float
    sentences: int
    words: int
    entities: int
    unscored_words: int
    seen_sentences: int | None
    f1_unseen: float | None
    contaminated: bool
    f1_seen_entities: float | None
    f1_unseen_entities: float | None
    near_duplicates: int | None
    ece: float
    oracle: bool
    label_free: bool


def notes_of(evaluation: Evaluation) -> list[str]:
    """List what to keep in mind with an evaluation's scores: some of ``zero-shot``, ``oracle`` and ``contaminated``."""
    return [name.replace("_", "-") for name in ("zero_shot", "oracle", "contaminated") if evaluation.get(name)]


class LeftOut(TypedDict):
    """The sentences that self-training leaves out in its last round, or pretraining.

    ``in_test`` occur verbatim in a test split; ``unsure`` are others that have a word below the confidence threshold.
    """

    in_test: int
    unsure: int


class Perplexity(TypedDict):
    """The perplexity of masked pieces in the validation splits, before and after a training on raw sentences.

    It is that of a choice among the pieces that occur in training and validation, see ``xner.model.masked``.
    """

    before: float
    after: float


class Result(TypedDict):
    """A complete stage.

    ``regime`` is ``adapted``, ``source`` or one of ``plan.REGIMES``, or one of these after ``soup-``, whose ``seed`` is
    ``None``; ``start_from`` is a stage's id, or several joined by ``+``, or the backbone; ``train_samples`` counts the
    sentences trained on, over all ``train_languages`` (all of its epoch, also where ``max_steps`` or ``max_time`` ends
    the first one early), ``target_samples`` those given of the target language (0 in a source or adapted stage), of
    which self-training may leave some out (``left_out``), ``shots`` its entities per type where these were asked for;
    of a soup, they are those of the first stage that it averages. ``types`` are the entity types, in the order of their
    labels. An ``adapted`` stage, which has no head, has a ``perplexity`` and no evaluations. ``max_epochs`` is the
    number of epochs that was asked for, ``None`` for no limit and of a soup; ``keep`` is the option of its command;
    ``versions`` are those that trained it, ``seconds`` the time of training and of all tests, also of later commands;
    ``model`` is the digest of the model folder, see ``xner.backbone.weights.folder_digest``.
    """

    stage: str
    regime: str
    seed: int | None
    start_from: str
    train_languages: list[str]
    train_samples: int
    target_samples: int
    shots: int | None
    types: list[str]
    evaluations: list[Evaluation]
    seconds: float
    definition: dict[str, Any]
    fingerprint: str
    lineage: dict[str, Any]
    versions: dict[str, str]
    max_epochs: int | None
    keep: Keep
    model: str
    left_out: NotRequired[LeftOut]
    perplexity: NotRequired[Perplexity]


class Counts(NamedTuple):
    """The counts behind an ``Evaluation``, with sentences and words in the order of the source.

    Attributes:
        correct: Correctly predicted spans, with a column per type of the tag set. *Shape:* (sentences, types)
        predicted: Predicted spans. *Shape:* (sentences, types)
        gold: Gold spans. *Shape:* (sentences, types)
        sentence_words: Number of words of each sentence. *Shape:* (sentences,)
        word_gold: The gold label of each word, sentence after sentence. *Shape:* (words,)
        word_predicted: The predicted label of each word. *Shape:* (words,)
        word_seen: Whether each word occurs in what the weights were trained on. *Shape:* (words,)
        bin_words: Number of words by the probability of their predicted label, as in ``Calibration``. *Shape:* (bins,)
        bin_probability: Sum of the probabilities of these words. *Shape:* (bins,)
        bin_right: Number of these words that are right. *Shape:* (bins,)
    """

    correct: npt.NDArray[np.int32]
    predicted: npt.NDArray[np.int32]
    gold: npt.NDArray[np.int32]
    sentence_words: npt.NDArray[np.int32]
    word_gold: npt.NDArray[np.int8]
    word_predicted: npt.NDArray[np.int8]
    word_seen: npt.NDArray[np.bool_]
    bin_words: npt.NDArray[np.int64]
    bin_probability: npt.NDArray[np.float64]
    bin_right: npt.NDArray[np.int64]


CSV_COLUMNS = (
    "stage", "regime", "seed", "start_from", "train_languages", "train_samples", "eval_language", "split", "zero_shot",
    "f1", "precision", "recall", "accuracy", "f1_PER", "f1_ORG", "f1_LOC", "f1_strict", "sentences", "words",
    "entities", "unscored_words", "seconds", "f1_macro", "target_samples", "seen_sentences", "f1_unseen",
    "contaminated", "shots", "f1_seen_entities", "f1_unseen_entities", "near_duplicates",
    "ece", "oracle", "label_free",
)  # fmt: skip
"""The columns of every ``results.csv``; those of other entity types than PAN-X's follow."""


def write_result(folder: Path, result: Result, counts: dict[tuple[str, str], Counts]) -> None:
    """Complete a stage: write ``counts.npz`` and then ``result.json`` into its folder.

    Args:
        folder: The stage's folder, ``<run>/stages/<id>``.
        result: The stage's result.
        counts: The counts of each evaluation, by (language, split).
    """
    arrays = {
        f"{language}/{split}/{name}": array
        for (language, split), counted in counts.items()
        for name, array in counted._asdict().items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(folder / "counts.npz", buffer.getvalue())
    content = json.dumps(with_checksum(result), ensure_ascii=False, indent=1)
    write_atomically(folder / "result.json", f"{content}\n")


def read_result(folder: Path) -> Result | None:
    """Read the result of a stage; ``None`` if it is not complete.

    Raises:
        RunError: If the file is damaged.
    """
    path = folder / "result.json"
    if not path.is_file():
        return None
    try:
        result: Result = load_checked(path.read_text(encoding="utf-8"), Result)
        if not isinstance(result["lineage"].get("episodes"), list):
            raise TypeError("its lineage has no episodes")
        # A stage of masked-language modelling has no scores.
        if not (result["evaluations"] or result.get("perplexity")) or not result["train_languages"]:
            raise ValueError("it has no evaluation or no language")
        paths = [result["stage"], *(each[name] for each in result["evaluations"] for name in ("language", "split"))]
        if not all(map(is_name, paths)):  # a folder or a file is found by each
            raise ValueError("a name in it is not that of a file")
        return result
    except (ValueError, TypeError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error}); delete {folder} to run the stage again") from error


def read_counts(folder: Path, evaluation: Evaluation) -> Counts:
    """Read the counts of an evaluation of a complete stage.

    Args:
        folder: The stage's folder.
        evaluation: The evaluation.

    Raises:
        RunError: If they are missing or damaged, or give another F1.
    """
    path, key = folder / "counts.npz", f"{evaluation['language']}/{evaluation['split']}"
    try:
        with np.load(path) as arrays:
            counts = Counts(**{name: arrays[f"{key}/{name}"] for name in Counts._fields})
        _check_counts(counts, evaluation)
        return counts
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing; delete {folder} to run the stage again") from error
    except (BadZipFile, EOFError, KeyError, ValueError, TypeError, RuntimeError, OSError, zlib.error) as error:
        if not is_of_content(error):
            raise
        raise RunError(f"{path} is damaged ({error}); delete {folder} to run the stage again") from error


def _check_counts(counts: Counts, evaluation: Evaluation) -> None:
    """Check that the arrays belong together, and to the evaluation.

    Raises:
        ValueError: If they do not.
    """
    spans, words = counts.correct.shape, (int(counts.sentence_words.sum()),)
    shapes = {"predicted": spans, "gold": spans, "sentence_words": spans[:1]}
    shapes |= dict.fromkeys(("word_gold", "word_predicted", "word_seen"), words)
    shapes |= dict.fromkeys(("bin_probability", "bin_right"), counts.bin_words.shape)
    for name, shape in shapes.items():
        if len(spans) != 2 or getattr(counts, name).shape != shape:
            raise ValueError(f"the shape of {name} is not {shape}")
    for labels in (counts.word_gold, counts.word_predicted):
        if labels.size and not 0 <= labels.min() <= labels.max() <= 2 * spans[1]:
            raise ValueError("it has a label that is out of range")
    if (counts.correct < 0).any() or (counts.correct > np.minimum(counts.predicted, counts.gold)).any():
        raise ValueError("it has more correct spans than predicted or gold ones, or fewer than none")
    correct, predicted, gold = (int(each.sum()) for each in counts[:3])
    f1 = 2 * correct / ((predicted + gold) or 1)
    if spans[0] != evaluation["sentences"] or not math.isclose(f1, evaluation["f1"], abs_tol=1e-6):
        raise ValueError(f"its F1 on {spans[0]:,} sentences is {f1:.4f}, which is not that of result.json")


def flat(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation with ``f1_<TYPE>`` for each entity type in place of ``f1_by_type``."""
    others = {name: value for name, value in evaluation.items() if name != "f1_by_type"}
    return others | {f"f1_{name}": value for name, value in evaluation["f1_by_type"].items()}


def csv_rows(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return a row per stage and evaluation, with the columns of ``csv_columns``; lists are joined with ``+``."""
    return [
        {
            **{name: result[name] for name in ("stage", "regime", "seed", "start_from", "train_samples", "seconds")},
            "train_languages": "+".join(result["train_languages"]),
            "target_samples": result["target_samples"],
            "shots": result["shots"],
            "eval_language": evaluation["language"],
            **{name: value for name, value in flat(evaluation).items() if name != "language"},
        }
        for result in results
        for evaluation in result["evaluations"]
    ]


def csv_columns(results: Iterable[Result]) -> list[str]:
    """Return the columns of some results: ``CSV_COLUMNS``, and ``f1_<TYPE>`` for each further entity type."""
    own = (f"f1_{each}" for result in results for each in result["types"])
    return list(dict.fromkeys([*CSV_COLUMNS, *own]))


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """Write ``results.csv`` atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, csv_columns(results), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in csv_rows(results))
    write_atomically(path, text.getvalue())


def _cell(value: object) -> object:
    """Put an apostrophe before a text that a spreadsheet would calculate, such as the name of a folder with ``=``."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def size_of(result: Result) -> int:
    """Return a stage's place on the learning curve: its number of target sentences, or of entities per type."""
    return result["target_samples"] if result["shots"] is None else result["shots"]


def write_sentences(run: Path, language: str, split: str, words: Sequence[Sequence[str]]) -> None:
    """Write the words of an evaluated split into the run, as ``sentences/tr-test.json``, for its report."""
    path = run / "sentences" / f"{language}-{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(words, ensure_ascii=False))


def earlier_configs(run: Path) -> dict[int, Path]:
    """Return the configurations of a run's commands before the last one, whose own is ``config.yaml``, by number."""
    numbers = {path: path.stem.removeprefix("config-") for path in run.glob("config-*.yaml") if path.is_file()}
    return {int(number): path for path, number in numbers.items() if number.isdecimal()}


def read_sentences(run: Path, language: str, split: str) -> list[list[str]]:
    """Read what ``write_sentences`` wrote: the words of each sentence.

    Args:
        run: The run's folder.
        language: The language that was evaluated.
        split: The split of it.

    Raises:
        FileNotFoundError: If it is missing.
        RunError: If it is damaged.
    """
    path = run / "sentences" / f"{language}-{split}.json"
    try:
        words: list[list[str]] = json.loads(path.read_text(encoding="utf-8"))
        check_type(words, list[list[str]], "it")
        return words
    except (ValueError, TypeError, RecursionError) as error:
        raise RunError(
            f"{path} is damaged ({error}); delete it for a report without words, or repeat the transfer"
        ) from error
