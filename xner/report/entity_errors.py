"""What goes wrong where: each entity's fate by type, scores by length and by whether training saw its words, examples.

All of it on arrays of whole splits: spans are those of ``tags.spans``, found for every sentence at once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xner.tags import OUTSIDE, TYPES, Span

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

OUTCOMES = ("correct", "wrong type", "wrong border", "missed", "spurious")
"""What becomes of an entity.

- correct: predicted with its type and border.
- wrong type: a predicted span meets it, and none of those that do has its type. The border may be wrong as well.
- wrong border: a predicted span of its type meets it, with another border.
- missed: no predicted span meets it.
- spurious: a predicted span, counted under its predicted type, that meets no entity.

The first four add up to the gold entities. A predicted span that meets an entity without being right is that entity's
error and none of its own.
"""

LENGTHS = ("1 word", "2 words", "3 words", "4 words or more")
SEEN = ("all words seen", "some words seen", "no word seen")

LONGEST_EXAMPLE = 30
"""Words of the longest sentence that is shown as an example."""


class Spans(NamedTuple):
    """The spans of a whole split, from left to right. *Shape of each:* (spans,).

    Attributes:
        type: Index into ``tags.TYPES``.
        first: First word, counted from the split's first word.
        last: Last word, inclusive.
    """

    type: Ints
    first: Ints
    last: Ints


class Score(NamedTuple):
    """How a group of entities fares; ``f1`` and its like are 0 where there is nothing to divide by."""

    correct: int
    predicted: int
    gold: int

    @property
    def precision(self) -> float:
        """The share of the predicted spans that are right."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """The share of the entities that are found."""
        return self.correct / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.correct / (self.predicted + self.gold) if self.predicted + self.gold else 0.0


class Example(NamedTuple):
    """A sentence that shows a kind of error, with all of its spans, counted from the sentence's first word."""

    sentence: int
    gold: list[Span]
    predicted: list[Span]


class Errors(NamedTuple):
    """An evaluation's spans and what became of each.

    Attributes:
        starts: Each sentence's first word, and the number of all words at the end. *Shape:* (sentences + 1,)
        gold: The entities.
        predicted: The predicted spans.
        gold_fate: Of each entity, its index in ``OUTCOMES``. *Shape:* (gold spans,)
        predicted_right: Whether each predicted span is correct. *Shape:* (predicted spans,)
        spurious: Whether each predicted span is spurious. *Shape:* (predicted spans,)
    """

    starts: Ints
    gold: Spans
    predicted: Spans
    gold_fate: Ints
    predicted_right: Bools
    spurious: Bools


def find_spans(labels: npt.ArrayLike, sentence_words: npt.ArrayLike) -> Spans:
    """Find the spans of every sentence, as ``tags.spans`` does of one.

    Args:
        labels: A label a word, sentence after sentence. *Shape:* (words,)
        sentence_words: How many words each sentence has. *Shape:* (sentences,)
    """
    labels = np.asarray(labels, dtype=np.int64)
    inside = labels != OUTSIDE
    kinds = (labels - 1) // 2
    continues = np.zeros(len(labels), dtype=np.bool_)
    continues[1:] = inside[1:] & (labels[1:] % 2 == 0) & inside[:-1] & (kinds[1:] == kinds[:-1])
    starts = np.cumsum(np.asarray(sentence_words, dtype=np.int64))[:-1]
    continues[starts[starts < len(labels)]] = False
    ends = inside.copy()
    ends[:-1] &= ~continues[1:]
    first = np.flatnonzero(inside & ~continues)
    return Spans(kinds[first], first, np.flatnonzero(ends))


def find_errors(word_gold: npt.ArrayLike, word_predicted: npt.ArrayLike, sentence_words: npt.ArrayLike) -> Errors:
    """Decide the fate of every entity of an evaluation.

    Args:
        word_gold: Each word's gold label. *Shape:* (words,)
        word_predicted: Each word's predicted label. *Shape:* (words,)
        sentence_words: How many words each sentence has. *Shape:* (sentences,)
    """
    gold, predicted = find_spans(word_gold, sentence_words), find_spans(word_predicted, sentence_words)
    words = len(np.asarray(word_gold))
    covering = _covering(predicted, words)
    # A span with the same border as an entity is the one that covers its first word, if any.
    rival = covering[gold.first]
    same_border = (
        (rival >= 0) & (_pick(predicted.first, rival) == gold.first) & (_pick(predicted.last, rival) == gold.last)
    )
    right = same_border & (_pick(predicted.type, rival) == gold.type)
    met = np.zeros(len(gold.type), dtype=np.bool_)
    met_by_type = met.copy()
    owner = _covering(gold, words)
    both = np.flatnonzero((owner >= 0) & (covering >= 0))
    met[owner[both]] = True
    alike = both[gold.type[owner[both]] == predicted.type[covering[both]]]
    met_by_type[owner[alike]] = True
    fate = np.select(
        [right, met_by_type, met],
        [OUTCOMES.index("correct"), OUTCOMES.index("wrong border"), OUTCOMES.index("wrong type")],
        OUTCOMES.index("missed"),
    ).astype(np.int64)
    predicted_right = np.zeros(len(predicted.type), dtype=np.bool_)
    predicted_right[rival[right]] = True
    spurious = np.ones(len(predicted.type), dtype=np.bool_)
    spurious[covering[both]] = False
    starts = np.concatenate([[0], np.cumsum(np.asarray(sentence_words, dtype=np.int64))])
    return Errors(starts, gold, predicted, fate, predicted_right, spurious)


def by_type(errors: Errors) -> Ints:
    """Count fates. *Shape:* (types, fates), in the order of ``tags.TYPES`` and ``OUTCOMES``."""
    kinds, fates = len(TYPES), len(OUTCOMES)
    spurious = errors.predicted.type[errors.spurious] * fates + OUTCOMES.index("spurious")
    cells = np.concatenate([errors.gold.type * fates + errors.gold_fate, spurious])
    return np.bincount(cells, minlength=kinds * fates).reshape(kinds, fates)


def by_length(errors: Errors) -> dict[str, Score]:
    """Score entities by their number of words, under the names ``LENGTHS``; predicted spans count by theirs."""
    gold, predicted = (
        np.minimum(spans.last - spans.first, len(LENGTHS) - 1) for spans in (errors.gold, errors.predicted)
    )
    return _by_group(errors, gold, predicted, LENGTHS)


def by_seen(errors: Errors, word_seen: npt.ArrayLike) -> dict[str, Score]:
    """Score entities by how many of their words occur in training, under the names ``SEEN``.

    Args:
        errors: The evaluation's errors.
        word_seen: Whether each word occurs in what the stage's weights were trained on. *Shape:* (words,)
    """
    seen = np.concatenate([[0], np.cumsum(np.asarray(word_seen, dtype=np.int64))])
    groups = []
    for spans in (errors.gold, errors.predicted):
        known = seen[spans.last + 1] - seen[spans.first]
        groups.append(np.select([known == spans.last - spans.first + 1, known > 0], [0, 1], 2))
    return _by_group(errors, groups[0], groups[1], SEEN)


def examples(errors: Errors, *, count: int = 4) -> dict[str, list[Example]]:
    """Pick sentences for each kind of error, evenly over the split, the same ones for the same errors.

    Args:
        errors: The evaluation's errors.
        count: How many sentences of a kind at most.

    Returns:
        By the names in ``OUTCOMES`` but ``correct``. A sentence longer than ``LONGEST_EXAMPLE`` is taken only where no
        shorter one shows the kind.
    """
    found: dict[str, list[Example]] = {}
    for fate, name in enumerate(OUTCOMES):
        if name == "correct":
            continue
        words = (
            errors.predicted.first[errors.spurious]
            if name == "spurious"
            else errors.gold.first[errors.gold_fate == fate]
        )
        sentences = np.unique(np.searchsorted(errors.starts, words, side="right") - 1)
        short = sentences[np.diff(errors.starts)[sentences] <= LONGEST_EXAMPLE]
        candidates = short if len(short) else sentences
        chosen = candidates[np.linspace(0, len(candidates) - 1, min(count, len(candidates))).astype(np.int64)]
        found[name] = [
            Example(
                int(each), _within(errors.gold, errors.starts, each), _within(errors.predicted, errors.starts, each)
            )
            for each in chosen
        ]
    return found


def _covering(spans: Spans, words: int) -> Ints:
    """The index of the span that covers each word, -1 where none does. *Shape:* (words,)."""
    lengths = spans.last - spans.first + 1
    covering = np.full(words, -1, dtype=np.int64)
    offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    covering[np.repeat(spans.first, lengths) + offsets] = np.repeat(np.arange(len(lengths)), lengths)
    return covering


def _pick(values: Ints, indices: Ints) -> Ints:
    """Values at indices, -1 at index -1."""
    return np.append(values, -1)[indices]


def _by_group(errors: Errors, gold: Ints, predicted: Ints, names: Sequence[str]) -> dict[str, Score]:
    groups = len(names)
    correct = np.bincount(predicted[errors.predicted_right], minlength=groups)
    columns = (correct, np.bincount(predicted, minlength=groups), np.bincount(gold, minlength=groups))
    return {name: Score(*(int(column[group]) for column in columns)) for group, name in enumerate(names)}


def _within(spans: Spans, starts: Ints, sentence: int) -> list[Span]:
    start, end = starts[sentence], starts[sentence + 1]
    inside = np.flatnonzero((spans.first >= start) & (spans.first < end))
    return [Span(TYPES[spans.type[i]], int(spans.first[i] - start), int(spans.last[i] - start)) for i in inside]
