"""Decoding: the labels of whole sentences from the scores of their words, by the Viterbi algorithm."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from xner.tags import OUTSIDE, TagSet

Decoding = Literal["greedy", "viterbi"]
"""How labels are predicted: the most probable one of each word, or the most probable legal sequence of a sentence."""


class Viterbi(nn.Module):
    """Find the most probable label sequence of each sentence that is legal under IOB2.

    The probability of a sequence is the product of its words' probabilities. Where the most probable label of each word
    makes a legal sequence, that is the result, ties included.

    Args:
        tag_set: The tag set of the labels.

    Attributes:
        legality: 0 where the second label may follow the first, negative infinity elsewhere. *Shape:* (labels, labels)

    >>> from xner.tags import PANX
    >>> logits = torch.tensor([[2.0, 1.5, 3, 0, 0, 0, 0], [0.0, 0, 1, 0, 0, 0, 0]])
    >>> Viterbi(PANX)(logits, torch.tensor([0, 0])).tolist(), Viterbi(PANX)(logits, torch.tensor([0, 1])).tolist()
    ([1, 2], [0, 0])
    """

    legality: Tensor

    def __init__(self, tag_set: TagSet) -> None:
        super().__init__()
        legal = torch.tensor(tag_set.legal_transitions)
        self.register_buffer("legality", torch.zeros(legal.shape).masked_fill(~legal, -math.inf), persistent=False)

    def forward(self, logits: Tensor, sentence: Tensor) -> Tensor:
        """Decode the sentences of a batch.

        Args:
            logits: The score of every label on every word. *Shape:* (words, labels)
            sentence: The sentence of each word, not decreasing. *Shape:* (words,)

        Returns:
            Labels. *Shape:* (words,)
        """
        return best_sequences(logits, sentence, self.legality)


def best_sequences(logits: Tensor, sentence: Tensor, transitions: Tensor) -> Tensor:
    """Find the label sequence of each sentence with the highest sum of scores (Viterbi 1967).

    Of equal sums, the labels with the lowest numbers win, from the last word backwards.

    Args:
        logits: The score of every label on every word. *Shape:* (words, labels)
        sentence: The sentence of each word, not decreasing. *Shape:* (words,)
        transitions: The score of the second label after the first; a sentence begins as after ``O``.
            *Shape:* (labels, labels)

    Returns:
        Labels. *Shape:* (words,)
    """
    places = words_by_place(sentence)
    found = torch.zeros_like(sentence)
    if not places:
        return found
    # Relative to the best label, so that the sums of probable sequences stay near 0, where float32 is most precise.
    scores = logits.float() - logits.float().amax(dim=1, keepdim=True)
    transitions = transitions.float()
    before = torch.zeros_like(scores, dtype=torch.long)
    total = scores[places[0]] + transitions[OUTSIDE]
    for words in places[1:]:
        best, before[words] = (total[: len(words), :, None] + transitions).max(dim=1)
        total[: len(words)] = best + scores[words]
    label = total.argmax(dim=1)
    for words in reversed(places):
        found[words] = label[: len(words)]
        label[: len(words)] = before[words].gather(1, label[: len(words), None])[:, 0]
    return found


def words_by_place(sentence: Tensor) -> list[Tensor]:
    """List the first words of all sentences, then the second words, and so on.

    Args:
        sentence: The sentence of each word, not decreasing. *Shape:* (words,)

    Returns:
        The indices of the words at each place. All have the same order of sentences, the longest first, so that the
        sentences that end before a place are the last of the place before. *Shape of each:* (sentences that are as
        long,)

    >>> [words.tolist() for words in words_by_place(torch.tensor([0, 1, 1, 1, 3, 3]))]
    [[1, 4, 0], [2, 5], [3]]
    """
    counts = sentence.bincount()
    lengths, order = counts.sort(descending=True, stable=True)
    first = (counts.cumsum(0) - counts)[order]
    # The sums of how many sentences have each length are how many are longer than each place.
    longer = lengths.bincount().flip(0).cumsum(0).flip(0)[1:]
    return [first[:count] + place for place, count in enumerate(longer.tolist())]
