"""How well spans are predicted: counts on tensors, and the scores seqeval makes of them.

A functional core under thin metrics. Nothing in an update reads a value on the host, so a GPU is never waited for.
"""

from functools import reduce
from operator import add
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from xner.tags import TYPES


class SpanCounts(NamedTuple):
    """How many spans each sentence has of each type, in the order of ``TYPES``.

    Attributes:
        correct: Predicted spans whose type, first and last word are those of a gold span. *Shape:* (sentences, types)
        predicted: Predicted spans. *Shape:* (sentences, types)
        gold: Gold spans. *Shape:* (sentences, types)
    """

    correct: Tensor
    predicted: Tensor
    gold: Tensor


class Scores(NamedTuple):
    """Scores of some counts, each float64 and 0 where it is undefined. *Shape of each:* that of the counts."""

    precision: Tensor
    recall: Tensor
    f1: Tensor


def span_counts(
    predicted: Tensor, gold: Tensor, sentence: Tensor, sentences: int, *, strict: bool = False
) -> SpanCounts:
    """Count the spans of some sentences as seqeval does.

    Args:
        predicted: Predicted labels of words, sentence after sentence. *Shape:* (words,)
        gold: Gold labels of the same words. *Shape:* (words,)
        sentence: Each word's sentence, 0 to ``sentences - 1``; never falls. *Shape:* (words,)
        sentences: The number of sentences; one without words has zeros.
        strict: Count as seqeval's strict mode with IOB2 does, rather than its default mode.

    Returns:
        The counts, int64 and on the device of the labels.

    >>> gold, predicted = torch.tensor([1, 2, 0, 5, 3]), torch.tensor([1, 2, 0, 6, 4])
    >>> span_counts(predicted, gold, torch.tensor([0, 0, 0, 0, 1]), 2).correct.tolist()
    [[1, 0, 1], [0, 1, 0]]
    >>> span_counts(predicted, gold, torch.tensor([0, 0, 0, 0, 1]), 2, strict=True).correct.tolist()
    [[1, 0, 0], [0, 0, 0]]
    """
    starts = _starts(predicted, gold, sentence)
    if strict:
        starts = _strict(starts, predicted, gold)
    return SpanCounts(*(_tally(row, sentence, sentences) for row in starts))


def span_scores(correct: Tensor, predicted: Tensor, gold: Tensor) -> Scores:
    """Divide counts in the order of seqeval's own steps, so that the last digit is the same."""
    precision, recall = _ratio(correct, predicted), _ratio(correct, gold)
    return Scores(precision, recall, _ratio(2 * precision * recall, precision + recall))


class SpanF1(Metric):
    """Precision, recall and F1 of spans, equal to seqeval's to the last digit whatever the batches, ranks and order.

    The states are integers and are summed over ranks; ``sync_context()`` shows their sums. A sentence is counted by
    its words, so one without any is not. ``compute`` gives float64 scalars on the CPU:

    - ``f1``, ``precision``, ``recall``: over all spans, in seqeval's default mode;
    - ``f1_PER``, ``precision_PER``, ``recall_PER``, ...: of one type;
    - ``f1_macro``: the mean F1 of the types that occur in gold or prediction; 0 (seqeval: nan) where none does;
    - ``f1_strict``: over all spans, in seqeval's strict mode with IOB2;
    - ``accuracy``: of words; 0 (seqeval: an error) where there is none.

    >>> metric = SpanF1()
    >>> gold = torch.tensor([1, 2, 0, 5, 3])  # B-PER I-PER O B-LOC, B-ORG
    >>> metric.update(torch.tensor([1, 2, 0, 6, 5]), gold, sentence=torch.tensor([0, 0, 0, 0, 1]))
    >>> {name: round(float(score), 3) for name, score in metric.compute().items() if name.startswith("f1")}
    {'f1': 0.667, 'f1_PER': 1.0, 'f1_ORG': 0.0, 'f1_LOC': 0.667, 'f1_strict': 0.4, 'f1_macro': 0.556}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    correct: Tensor
    predicted: Tensor
    gold: Tensor
    strict_correct: Tensor
    strict_predicted: Tensor
    strict_gold: Tensor
    words_right: Tensor
    words: Tensor
    sentences: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in SpanCounts._fields:
            self.add_state(name, torch.zeros(len(TYPES), dtype=torch.long), dist_reduce_fx="sum")
            self.add_state(f"strict_{name}", torch.zeros(len(TYPES), dtype=torch.long), dist_reduce_fx="sum")
        for name in ("words_right", "words", "sentences"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, gold: Tensor, sentence: Tensor) -> None:
        """Count some whole sentences.

        Args:
            predicted: Predicted labels of words, sentence after sentence. *Shape:* (words,)
            gold: Gold labels of the same words. *Shape:* (words,)
            sentence: A number for each word's sentence, from 0; unlike that of the sentence before. *Shape:* (words,)
        """
        starts = _starts(predicted, gold, sentence)
        starts = torch.cat([starts, _strict(starts, predicted, gold)])
        counts = _tally(starts, torch.arange(len(starts), device=starts.device)[:, None], len(starts))
        # Not in place: a state that was reset under inference mode could not be added to outside of it.
        self.correct = self.correct + counts[0]
        self.predicted = self.predicted + counts[1]
        self.gold = self.gold + counts[2]
        self.strict_correct = self.strict_correct + counts[3]
        self.strict_predicted = self.strict_predicted + counts[4]
        self.strict_gold = self.strict_gold + counts[5]
        self.words_right = self.words_right + (predicted == gold).sum()
        self.words = self.words + gold.numel()
        self.sentences = self.sentences + (sentence != _previous(sentence, -1)).sum()

    def compute(self) -> dict[str, Tensor]:
        """Make scores of the counts."""
        # First to the CPU: MPS has no float64.
        correct, predicted, gold = self.correct.cpu(), self.predicted.cpu(), self.gold.cpu()
        strict = (self.strict_correct.cpu(), self.strict_predicted.cpu(), self.strict_gold.cpu())
        micro = span_scores(correct.sum(), predicted.sum(), gold.sum())
        by_type = span_scores(correct, predicted, gold)
        # Added up in the order of the types' names: seqeval's order decides the last digit.
        total = reduce(add, (by_type.f1[TYPES.index(name)] for name in sorted(TYPES)))
        scores = {
            "f1": micro.f1,
            "precision": micro.precision,
            "recall": micro.recall,
            "accuracy": _ratio(self.words_right.cpu(), self.words.cpu()),
        }
        for metric, values in by_type._asdict().items():
            scores |= {f"{metric}_{name}": value for name, value in zip(TYPES, values, strict=True)}
        scores["f1_strict"] = span_scores(*(count.sum() for count in strict)).f1
        scores["f1_macro"] = _ratio(total, ((predicted + gold) > 0).sum())
        return scores


class WordPredictions(Metric):
    """The predicted label of every evaluated word, of all ranks and in order.

    ``compute`` gives the labels and, beside each, the number of its sentence, as two rows that can be unpacked; sorted
    by sentence, the words of a sentence in the order they came in. *Shape:* (2, words)

    >>> metric = WordPredictions()
    >>> metric.update(torch.tensor([5, 1, 2]), sentence=torch.tensor([7, 4, 4]))
    >>> labels, sentence = metric.compute()
    >>> labels.tolist(), sentence.tolist()
    ([1, 2, 5], [4, 4, 7])
    """

    is_differentiable = False
    full_state_update = False

    seen: list[Tensor] | Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("seen", [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget all words."""
        super().reset()
        # For a rank without words torchmetrics would gather an empty float vector, which fits no other rank's integers.
        self.seen = [torch.zeros(0, 2, dtype=torch.long, device=self.device)]

    def update(self, predicted: Tensor, sentence: Tensor) -> None:
        """Keep the words of some whole sentences.

        Args:
            predicted: Predicted labels of words. *Shape:* (words,)
            sentence: The number, in its data set, of each word's sentence. *Shape:* (words,)
        """
        assert isinstance(self.seen, list)  # a tensor only while ranks are in sync, when torchmetrics refuses updates
        self.seen.append(torch.stack([predicted, sentence], dim=1).long())

    def compute(self) -> Tensor:
        """Put the words in order."""
        # One tensor, not a tuple of two: torchmetrics would squeeze the shape (1,) of a single word to ().
        words = dim_zero_cat(self.seen)
        return words[words[:, 1].argsort(stable=True)].T


def _starts(predicted: Tensor, gold: Tensor, sentence: Tensor) -> Tensor:
    """Find which spans start at each word.

    Returns:
        One more than the type of the span that starts at the word, 0 where none does, for correct, predicted and gold
        spans. *Shape:* (3, words)
    """
    if not predicted.shape == gold.shape == sentence.shape or gold.dim() != 1:
        raise ValueError(
            f"predicted, gold and sentence have shapes {tuple(predicted.shape)}, {tuple(gold.shape)} and "
            f"{tuple(sentence.shape)}: all should be (words,)"
        )
    predicted_start, predicted_stop = _spans(predicted, sentence)
    gold_start, gold_stop = _spans(gold, sentence)
    right = (predicted_start == gold_start) & (predicted_stop == gold_stop)
    return torch.stack([gold_start * right, predicted_start, gold_start])


def _strict(starts: Tensor, predicted: Tensor, gold: Tensor) -> Tensor:
    """Keep the strict spans: those whose first word has a B-. *Shapes:* (3, words) of starts and result."""
    return starts * torch.stack([predicted & gold & 1, predicted & 1, gold & 1])  # labels of B- are odd


def _spans(labels: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor]:
    """Find the spans of labels (Ramshaw and Marcus 1995), read leniently as seqeval's default mode does.

    An I- continues the type before it in its sentence; otherwise it starts a span, as every B- does.

    Args:
        labels: Labels of words, sentence after sentence. *Shape:* (words,)
        sentence: The sentence of each word. *Shape:* (words,)

    Returns:
        One more than the type of the span that starts at the word, 0 where none does, and the first word after it
        (anything where none starts). *Shape of both:* (words,)
    """
    kind = (labels + 1) // 2
    inside = (labels > 0) & (labels % 2 == 0)
    continues = inside & (kind == _previous(kind, 0)) & (sentence == _previous(sentence, -1))
    words = len(labels)
    place = torch.arange(words, device=labels.device)
    stops = pad(place.masked_fill(continues, words), (0, 1), value=words)  # and one place after the last word
    next_stop = stops.flip(0).cummin(0).values.flip(0)[1:]
    return kind * ~continues, next_stop


def _previous(values: Tensor, first: int) -> Tensor:
    """Give each word the value of the word before it, and ``first`` to the first. *Shapes:* (words,)."""
    return pad(values, (1, 0), value=first)[:-1]


def _tally(starts: Tensor, group: Tensor, groups: int) -> Tensor:
    """Count the spans of each group and type.

    Args:
        starts: One more than the type of the span that starts here, or 0. *Shape:* (words,) or (groups, words)
        group: The group of each start; broadcast to ``starts``. *Shape:* (words,) or (groups, 1)
        groups: The number of groups.

    Returns:
        The counts. *Shape:* (groups, types)
    """
    width = len(TYPES) + 1  # column 0 takes the words where nothing starts
    cell = (group * width + starts).flatten()
    counts = torch.zeros(groups * width, dtype=torch.long, device=starts.device)
    return counts.index_add_(0, cell, torch.ones_like(cell)).view(groups, width)[:, 1:]


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Divide in float64; 0 where the whole is (its part is too), as seqeval does by default."""
    return part.double() / whole.double().masked_fill(whole == 0, 1)
