"""Classify entity errors: the outcome of every entity, F1 by length and by seen words, and example sentences.

Everything is computed on arrays of whole splits: spans are those of ``tags.find_spans``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xner.report import statistics
from xner.tags import LabelSpans, Span, find_spans

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

OUTCOMES = ("correct", "wrong type", "boundary error", "missed", "spurious")
"""The outcomes of an entity.

- correct: predicted with its type and boundaries.
- wrong type: predicted spans overlap it, and none of them has its type. The boundaries may be wrong as well.
- boundary error: a predicted span of its type overlaps it, with other boundaries.
- missed: no predicted span overlaps it.
- spurious: a predicted span, counted under its predicted type, that overlaps no entity.

The first four add up to the gold entities. A predicted span that overlaps an entity without being correct is counted
as that entity's error only.
"""

LENGTHS = ("1 word", "2 words", "3 words", "4+ words")
SEEN = ("all words seen", "some words seen", "no words seen")

LONGEST_EXAMPLE = 30
"""Number of words up to which sentences are preferred as examples."""


class Score(NamedTuple):
    """Counts of spans in a group of entities."""

    correct: int
    predicted: int
    gold: int

    @property
    def f1(self) -> float:
        """F1 of the group, 0 where no span is predicted or gold."""
        return float(statistics.f1(self))


class Example(NamedTuple):
    """A sentence with an error; words of its spans are counted from the first word of the sentence."""

    sentence: int
    gold: list[Span]
    predicted: list[Span]


class Errors(NamedTuple):
    """The spans of an evaluation and the outcome of each.

    Attributes:
        types: The entity types.
        starts: First word of each sentence, and the number of words at the end. *Shape:* (sentences + 1,)
        gold: The entities.
        predicted: The predicted spans.
        outcome: Index into ``OUTCOMES`` for each entity. *Shape:* (gold spans,)
        correct: Whether each predicted span is correct. *Shape:* (predicted spans,)
        spurious: Whether each predicted span is spurious. *Shape:* (predicted spans,)
    """

    types: Sequence[str]
    starts: Ints
    gold: LabelSpans
    predicted: LabelSpans
    outcome: Ints
    correct: Bools
    spurious: Bools


def find_errors(
    types: Sequence[str], word_gold: npt.ArrayLike, word_predicted: npt.ArrayLike, sentence_words: npt.ArrayLike
) -> Errors:
    """Classify every entity of an evaluation.

    Args:
        types: The entity types, in the order of their labels.
        word_gold: Gold label per word. *Shape:* (words,)
        word_predicted: Predicted label per word. *Shape:* (words,)
        sentence_words: Number of words per sentence. *Shape:* (sentences,)
    """
    gold, predicted = find_spans(word_gold, sentence_words), find_spans(word_predicted, sentence_words)
    words = len(np.asarray(word_gold))
    owner, covering = _covering(gold, words), _covering(predicted, words)
    # Only the predicted span that covers an entity's first word can have the same boundaries.
    at_first = covering[gold.first]
    right = np.logical_and.reduce([_pick(its, at_first) == own for its, own in zip(predicted, gold, strict=True)])
    both = np.flatnonzero((owner >= 0) & (covering >= 0))
    same_type = both[gold.type[owner[both]] == predicted.type[covering[both]]]
    overlapped, overlapped_by_type = (np.zeros(len(gold.type), dtype=np.bool_) for _ in range(2))
    overlapped[owner[both]] = True
    overlapped_by_type[owner[same_type]] = True
    outcome = np.select(
        [right, overlapped_by_type, overlapped],
        [OUTCOMES.index("correct"), OUTCOMES.index("boundary error"), OUTCOMES.index("wrong type")],
        OUTCOMES.index("missed"),
    ).astype(np.int64)
    correct = np.zeros(len(predicted.type), dtype=np.bool_)
    correct[at_first[right]] = True
    spurious = np.ones(len(predicted.type), dtype=np.bool_)
    spurious[covering[both]] = False
    starts = np.concatenate([[0], np.cumsum(np.asarray(sentence_words, dtype=np.int64))])
    return Errors(types, starts, gold, predicted, outcome, correct, spurious)


def by_type(errors: Errors) -> Ints:
    """Count outcomes per type. *Shape:* (types, outcomes), in the order of ``errors.types`` and ``OUTCOMES``."""
    types, outcomes = len(errors.types), len(OUTCOMES)
    spurious = errors.predicted.type[errors.spurious] * outcomes + OUTCOMES.index("spurious")
    cells = np.concatenate([errors.gold.type * outcomes + errors.outcome, spurious])
    return np.bincount(cells, minlength=types * outcomes).reshape(types, outcomes)


def by_length(errors: Errors) -> dict[str, Score]:
    """Score entities by their number of words, under the names ``LENGTHS``; predicted spans count by their own."""
    gold, predicted = (
        np.minimum(spans.last - spans.first, len(LENGTHS) - 1) for spans in (errors.gold, errors.predicted)
    )
    return _by_group(errors, gold, predicted, LENGTHS)


def by_seen(errors: Errors, word_seen: npt.ArrayLike) -> dict[str, Score]:
    """Score entities by how many of their words occur in the training data, under the names ``SEEN``.

    Args:
        errors: The errors of the evaluation.
        word_seen: Whether each word occurs in the data that the weights were trained on. *Shape:* (words,)
    """
    seen = np.concatenate([[0], np.cumsum(np.asarray(word_seen, dtype=np.int64))])
    groups = []
    for spans in (errors.gold, errors.predicted):
        known = seen[spans.last + 1] - seen[spans.first]
        groups.append(np.select([known == spans.last - spans.first + 1, known > 0], [0, 1], 2))
    return _by_group(errors, groups[0], groups[1], SEEN)


def examples(errors: Errors, *, count: int = 4) -> dict[str, list[Example]]:
    """Choose example sentences for each kind of error, evenly over the split and without randomness.

    Args:
        errors: The errors of the evaluation.
        count: Maximum number of sentences per kind.

    Returns:
        Examples by the names in ``OUTCOMES`` other than ``correct``. Sentences longer than ``LONGEST_EXAMPLE`` are
        chosen only where no shorter one has an error of the kind.
    """
    found: dict[str, list[Example]] = {}
    for outcome, name in enumerate(OUTCOMES[1:], 1):
        spurious = name == "spurious"
        words = errors.predicted.first[errors.spurious] if spurious else errors.gold.first[errors.outcome == outcome]
        sentences = np.unique(np.searchsorted(errors.starts, words, side="right") - 1)
        short = sentences[np.diff(errors.starts)[sentences] <= LONGEST_EXAMPLE]
        candidates = short if len(short) else sentences
        chosen = candidates[np.linspace(0, len(candidates) - 1, min(count, len(candidates))).astype(np.int64)]
        found[name] = [
            Example(int(each), *(_within(spans, errors, each) for spans in (errors.gold, errors.predicted)))
            for each in chosen
        ]
    return found


def _covering(spans: LabelSpans, words: int) -> Ints:
    """Return the index of the span that covers each word, -1 where there is none. *Shape:* (words,)."""
    lengths = spans.last - spans.first + 1
    covering = np.full(words, -1, dtype=np.int64)
    offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    covering[np.repeat(spans.first, lengths) + offsets] = np.repeat(np.arange(len(lengths)), lengths)
    return covering


def _pick(values: Ints, indices: Ints) -> Ints:
    """Return the values at the indices, and -1 at index -1."""
    return np.append(values, -1)[indices]


def _by_group(errors: Errors, gold: Ints, predicted: Ints, names: Sequence[str]) -> dict[str, Score]:
    groups = len(names)
    correct = np.bincount(predicted[errors.correct], minlength=groups)
    columns = (correct, np.bincount(predicted, minlength=groups), np.bincount(gold, minlength=groups))
    return {name: Score(*(int(column[group]) for column in columns)) for group, name in enumerate(names)}


def _within(spans: LabelSpans, errors: Errors, sentence: int) -> list[Span]:
    start, end = errors.starts[sentence], errors.starts[sentence + 1]
    inside = np.flatnonzero((spans.first >= start) & (spans.first < end))
    return [Span(errors.types[spans.type[i]], int(spans.first[i] - start), int(spans.last[i] - start)) for i in inside]
