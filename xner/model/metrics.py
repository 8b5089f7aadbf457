"""Scores of predicted spans: counts on tensors, and seqeval's precision, recall and F1 of these counts.

A functional core under a thin metric. No update reads a value on the host, so nothing waits for a GPU.
"""

import math
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchmetrics import Metric

from xner.tags import IGNORE, TagSet


class SpanCounts(NamedTuple):
    """Numbers of spans per sentence and type, in the order of a tag set.

    Attributes:
        correct: Predicted spans whose type, first and last word are those of a gold span. *Shape:* (sentences, types)
        predicted: Predicted spans. *Shape:* (sentences, types)
        gold: Gold spans. *Shape:* (sentences, types)
    """

    correct: Tensor
    predicted: Tensor
    gold: Tensor


class Scores(NamedTuple):
    """Scores of counts, each float64 and 0 where it is undefined. *Shape of each:* that of the counts."""

    precision: Tensor
    recall: Tensor
    f1: Tensor


def span_counts(
    predicted: Tensor, gold: Tensor, sentence: Tensor, sentences: int, types: int, *, strict: bool = False
) -> SpanCounts:
    """Count the spans of sentences as seqeval does.

    Args:
        predicted: Predicted labels of words, sentence after sentence. *Shape:* (words,)
        gold: Gold labels of the same words. *Shape:* (words,)
        sentence: The sentence of each word, 0 to ``sentences - 1``, not decreasing. *Shape:* (words,)
        sentences: Number of sentences; one without words has zeros.
        types: Number of entity types.
        strict: Whether to count as in seqeval's strict mode with IOB2, not as in its default mode.

    Returns:
        The counts, int64 and on the device of the labels.

    >>> gold, predicted = torch.tensor([1, 2, 0, 5, 3]), torch.tensor([1, 2, 0, 6, 4])
    >>> span_counts(predicted, gold, torch.tensor([0, 0, 0, 0, 1]), 2, 3).correct.tolist()
    [[1, 0, 1], [0, 1, 0]]
    >>> span_counts(predicted, gold, torch.tensor([0, 0, 0, 0, 1]), 2, 3, strict=True).correct.tolist()
    [[1, 0, 0], [0, 0, 0]]
    """
    starts = _starts(predicted, gold, sentence)
    if strict:
        starts = _strict(starts, predicted, gold)
    return SpanCounts(*(_tally(row, sentence, sentences, types) for row in starts))


def span_scores(correct: Tensor, predicted: Tensor, gold: Tensor) -> Scores:
    """Compute precision, recall and F1 in the order of seqeval's own steps, so that the last digit is the same.

    Args:
        correct: Number of spans that are predicted and gold. *Shape:* any, that of the scores
        predicted: Number of predicted spans.
        gold: Number of gold spans.
    """
    precision, recall = _ratio(correct, predicted), _ratio(correct, gold)
    return Scores(precision, recall, _ratio(2 * precision * recall, precision + recall))


TEMPERATURES = torch.logspace(-2, 3, 41, base=2, dtype=torch.float64)
"""The temperatures whose loss is summed, from a quarter to 8."""

_UNIT = 2**20
"""The loss of a word is summed in parts of this size: sums of integers do not depend on batches, processes or order."""


class Temperature(Metric):
    """The temperature that calibrates the probabilities of labels (Guo et al. 2017, section 4.2).

    Logits are divided by it before the softmax. That changes no predicted label, and the temperature is the one with
    the lowest negative log-likelihood of the gold labels of all words: the lowest of ``TEMPERATURES``, moved to the
    minimum of the parabola through it and its two neighbours. No logits are kept.

    >>> metric = Temperature()
    >>> metric.update(torch.tensor([[4.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1]))  # sure of 98 %, right in 75 %
    >>> abs(metric.compute() - 4 / math.log(3)) < 0.02
    True
    """

    is_differentiable = False
    full_state_update = False

    loss: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("loss", torch.zeros(len(TEMPERATURES), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add the loss of some words at each temperature.

        Args:
            logits: *Shape:* (words, labels)
            labels: Gold labels; a word with ``IGNORE`` does not count. *Shape:* (words,)
        """
        scaled = logits.float() / TEMPERATURES.float().to(logits.device)[:, None, None]
        # Words that do not count get a loss of zero: to leave them out would wait for a GPU to count the others.
        chosen = labels.clamp(min=0).expand(len(TEMPERATURES), -1)[..., None]
        loss = -scaled.log_softmax(dim=-1).gather(-1, chosen)[..., 0]
        loss = torch.where(labels == IGNORE, 0, loss)
        # Above a loss of 1,000, a label is as improbable as it can be, and the sum must not overflow. Not in place: a
        # state that was made in inference mode cannot be changed outside of it.
        self.loss = self.loss + (loss.clamp(max=1000) * _UNIT).round().long().sum(dim=1)

    def compute(self) -> float:
        """Return the temperature with three decimals; 1 where there is no word."""
        loss = self.loss.cpu().double()
        best = int(loss.argmin())
        if not loss.any():
            return 1.0
        if best in (0, len(loss) - 1):
            return round(float(TEMPERATURES[best]), 3)
        before, lowest, after = loss[best - 1 : best + 2].tolist()
        curvature = before - 2 * lowest + after
        step = math.log(TEMPERATURES[1] / TEMPERATURES[0])
        shift = (before - after) / (2 * curvature) if curvature > 0 else 0.0
        return round(float(TEMPERATURES[best]) * math.exp(step * shift), 3)


class SpanF1(Metric):
    """Precision, recall and F1 of spans, equal to seqeval's to the last digit for any batches, processes and order.

    The states are integers, summed over processes. ``compute`` returns float64 scalars on the CPU:

    - ``f1``, ``precision``, ``recall``: of all spans, in seqeval's default mode;
    - ``f1_PER``, ``precision_PER``, ``recall_PER``, ...: of one type;
    - ``f1_macro``: the mean F1 of the types that occur in gold or prediction; 0 (seqeval: nan) where none does;
    - ``f1_strict``: of all spans, in seqeval's strict mode with IOB2;
    - ``accuracy``: of words; 0 (seqeval: an error) where there is none.

    Args:
        tag_set: The tag set of the labels.

    >>> metric = SpanF1(TagSet(("PER", "ORG", "LOC")))
    >>> gold = torch.tensor([1, 2, 0, 5, 3])  # B-PER I-PER O B-LOC, B-ORG
    >>> metric.update(torch.tensor([1, 2, 0, 6, 5]), gold, sentence=torch.tensor([0, 0, 0, 0, 1]))
    >>> {name: round(float(score), 3) for name, score in metric.compute().items() if name.startswith("f1")}
    {'f1': 0.667, 'f1_PER': 1.0, 'f1_ORG': 0.0, 'f1_LOC': 0.667, 'f1_strict': 0.4, 'f1_macro': 0.556}

    As seqeval's functions, it also takes one list of tags per sentence:

    >>> metric.reset()
    >>> metric.update([["B-PER", "I-PER", "O"]], [["B-PER", "I-PER", "B-LOC"]])
    >>> round(float(metric.compute()["f1"]), 3)
    0.667
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    spans: Tensor
    words: Tensor

    def __init__(self, tag_set: TagSet) -> None:
        super().__init__()
        self.tag_set = tag_set
        # Correct, predicted and gold spans per type, in the default mode and in the strict mode.
        self.add_state("spans", torch.zeros(6, len(tag_set.types), dtype=torch.long), dist_reduce_fx="sum")
        # Words whose label is right, and all words.
        self.add_state("words", torch.zeros(2, dtype=torch.long), dist_reduce_fx="sum")

    def update(
        self,
        predicted: Tensor | Sequence[Sequence[str]],
        gold: Tensor | Sequence[Sequence[str]],
        sentence: Tensor | None = None,
    ) -> None:
        """Count whole sentences.

        Args:
            predicted: Predicted labels of words, sentence after sentence, *shape:* (words,), or tags per sentence.
            gold: Gold labels or tags of the same words.
            sentence: The number of each word's sentence, from 0, different from that of the sentence before; not used
                with tags. *Shape:* (words,)

        Raises:
            ValueError: If the arguments do not have the same words, or a tag is unknown.
        """
        if not (isinstance(predicted, Tensor) and isinstance(gold, Tensor) and sentence is not None):
            predicted, gold, sentence = _of_tags(predicted, gold, self.tag_set, self.device)
        starts = _starts(predicted, gold, sentence)
        starts = torch.cat([starts, _strict(starts, predicted, gold)])
        row = torch.arange(len(starts), device=starts.device)[:, None]
        # Not in place: a state that was reset in inference mode cannot be changed outside of it.
        self.spans = self.spans + _tally(starts, row, len(starts), len(self.tag_set.types))
        right = predicted == gold
        self.words = self.words + torch.stack([right.sum(), torch.ones_like(right).sum()])

    def compute(self) -> dict[str, Tensor]:
        """Compute the scores of the counts."""
        spans, words = self.spans.cpu(), self.words.cpu()  # because MPS has no float64
        return all_scores(self.tag_set, SpanCounts(*spans[:3]), SpanCounts(*spans[3:]), *words)


def all_scores(
    tag_set: TagSet, counts: SpanCounts, strict: SpanCounts, words_right: Tensor, words: Tensor
) -> dict[str, Tensor]:
    """Compute every score of summed counts.

    Args:
        tag_set: The tag set that was counted by.
        counts: Spans in seqeval's default mode. *Shape of each:* (types,)
        strict: Spans in seqeval's strict mode. *Shape of each:* (types,)
        words_right: Number of words whose label is right. *Shape:* ()
        words: Number of words. *Shape:* ()

    Returns:
        The scores as ``SpanF1`` names them, float64. *Shape of each:* ()
    """
    micro = span_scores(*(count.sum() for count in counts))
    by_type = span_scores(*counts)
    # Added up in the order of the types' names: seqeval's order decides the last digit.
    total = reduce(add, (score for _, score in sorted(zip(tag_set.types, by_type.f1, strict=True))))
    scores = {
        "f1": micro.f1,
        "precision": micro.precision,
        "recall": micro.recall,
        "accuracy": _ratio(words_right, words),
    }
    for metric, values in by_type._asdict().items():
        scores |= {f"{metric}_{name}": value for name, value in zip(tag_set.types, values, strict=True)}
    scores["f1_strict"] = span_scores(*(count.sum() for count in strict)).f1
    scores["f1_macro"] = _ratio(total, ((counts.predicted + counts.gold) > 0).sum())
    return scores


def validation_scores(tag_set: TagSet) -> list[str]:
    """List the scores that are logged in validation, as ``SpanF1`` names them; F1 comes last."""
    by_type = (f"f1_{each}" for each in tag_set.types)
    return ["precision", "recall", "accuracy", *by_type, "f1_strict", "f1_macro", "f1"]


def _of_tags(
    predicted: Any,  # noqa: ANN401 - checked here
    gold: Any,  # noqa: ANN401 - checked here
    tag_set: TagSet,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    """Turn lists of tags into labels and sentence numbers. *Shapes:* (words,)."""
    if isinstance(predicted, Tensor) or isinstance(gold, Tensor) or [*map(len, predicted)] != [*map(len, gold)]:
        raise ValueError("predicted and gold are not tags of the same words; use one list of tags per sentence in each")
    if unknown := {tag for tags in (*predicted, *gold) for tag in tags} - tag_set.labels.keys():
        raise ValueError(f"tag {min(unknown)!r} is unknown; use {', '.join(tag_set.tags)}")
    labels = ([tag_set.labels[tag] for tags in side for tag in tags] for side in (predicted, gold))
    numbers = [number for number, tags in enumerate(gold) for _ in tags]
    return tuple(torch.tensor(each, dtype=torch.long, device=device) for each in (*labels, numbers))  # type: ignore[return-value] # three


def _starts(predicted: Tensor, gold: Tensor, sentence: Tensor) -> Tensor:
    """Find the spans that start at each word.

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
    """Keep the strict spans, whose first word has a B- tag. *Shapes:* (3, words) of starts and result."""
    return starts * torch.stack([predicted & gold & 1, predicted & 1, gold & 1])  # labels of B- are odd


def _spans(labels: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor]:
    """Find the spans of labels (Ramshaw and Marcus 1995) as seqeval's default mode does.

    An I- tag continues a span of its type in its sentence; otherwise it starts a span, as every B- tag does.

    Args:
        labels: Labels of words, sentence after sentence. *Shape:* (words,)
        sentence: The sentence of each word. *Shape:* (words,)

    Returns:
        One more than the type of the span that starts at the word, 0 where none does, and the first word after it
        (undefined where none starts). *Shape of both:* (words,)
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
    """Return the value of each word's predecessor, and ``first`` for the first word. *Shapes:* (words,)."""
    return pad(values, (1, 0), value=first)[:-1]


def _tally(starts: Tensor, group: Tensor, groups: int, types: int) -> Tensor:
    """Count the spans per group and type.

    Args:
        starts: One more than the type of the span that starts here, or 0. *Shape:* (words,) or (groups, words)
        group: The group of each start; broadcast to ``starts``. *Shape:* (words,) or (groups, 1)
        groups: Number of groups.
        types: Number of entity types.

    Returns:
        The counts. *Shape:* (groups, types)
    """
    width = types + 1  # column 0 takes the words where nothing starts
    cell = (group * width + starts).flatten()
    counts = torch.zeros(groups * width, dtype=torch.long, device=starts.device)
    return counts.index_add_(0, cell, torch.ones_like(cell)).view(groups, width)[:, 1:]


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Divide in float64, with 0 where the whole is 0, as seqeval does by default."""
    return part.double() / whole.double().masked_fill(whole == 0, 1)
