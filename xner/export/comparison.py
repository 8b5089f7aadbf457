"""Compare an exported model with the network that it was made of: logits, F1 and speed."""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from xner.backbone import load_config
from xner.backbone.tokenizer import load_tokenizer
from xner.batch import Batch
from xner.data.encode import encode
from xner.data.packing import padded_batches
from xner.data.sources import Sentence
from xner.model.metrics import SpanF1
from xner.model.network import Network
from xner.tags import TagSet


class ComparedModel(NamedTuple):
    """A model that is compared with others.

    Attributes:
        name: Its name in messages and tables.
        folder: Hub name or folder of its configuration and tokenizer.
        size: Bytes of its weights.
        tag_set: The tag set of its labels.
        logits: Scores every label on every piece of a batch. *Shape:* (rows, width, labels)
        predict: Predicts the label of every word of a batch. *Shape:* (words,)
    """

    name: str
    folder: str
    size: int
    tag_set: TagSet
    logits: Callable[[Batch], Tensor]
    predict: Callable[[Batch], Tensor]

    @classmethod
    def of_network(cls, name: str, folder: str) -> "ComparedModel":
        """Load a token classifier as ``Tagger`` does.

        Raises:
            UserError: If its head is not trained.
        """
        network = Network(folder, safetensors=True).eval()
        network.check_head()
        size = sum(weight.nbytes for weight in network.state_dict().values())

        def predict(batch: Batch) -> Tensor:
            return network.decode(network.word_logits(batch), batch.word_sentence)

        return cls(name, folder, size, network.tag_set, network, predict)

    def batches(self, sentences: Iterable[Sentence], window: int) -> list[Batch]:
        """Encode sentences as ``Tagger`` does, and collate them.

        Args:
            sentences: The sentences.
            window: Maximum number of pieces per window.
        """
        encoded = encode(sentences, load_tokenizer(self.folder), window, self.tag_set)
        return [*padded_batches(encoded, load_config(self.folder).pad_token_id)]


class SplitScore(NamedTuple):
    """The F1 and the speed of a model on a split.

    Attributes:
        f1: The F1 of its spans, as ``SpanF1`` computes it.
        seconds: Time of its predictions, without the encoding.
        labels: Predicted labels of the words, in the order of the sentences. *Shape:* (words,)
    """

    f1: float
    seconds: float
    labels: Tensor


def largest_difference(one: ComparedModel, other: ComparedModel, sentences: Iterable[Sentence], window: int) -> float:
    """Compute the largest absolute difference of two models' logits on all pieces of some sentences.

    Args:
        one: A model.
        other: Another one, whose tokenizer splits the sentences in the same way.
        sentences: The sentences.
        window: Maximum number of pieces per window.
    """
    largest = 0.0
    sides = (each.batches(sentences, window) for each in (one, other))
    with torch.inference_mode():
        for left, right in zip(*sides, strict=True):
            difference = (one.logits(left) - other.logits(right)).abs().amax(dim=-1)
            largest = max(largest, float(difference[left.windows > 0].max()))
    return largest


def measure_split(model: ComparedModel, sentences: Iterable[Sentence], window: int) -> SplitScore:
    """Score a model's spans on sentences with gold tags, and measure its speed.

    Args:
        model: The model.
        sentences: The sentences.
        window: Maximum number of pieces per window.
    """
    metric, predicted, numbers, seconds = SpanF1(model.tag_set), [], [], 0.0
    batches = model.batches(sentences, window)
    with torch.inference_mode():
        model.predict(batches[-1])  # the first call prepares what others reuse
        for batch in batches:
            start = time.perf_counter()
            labels = model.predict(batch)
            seconds += time.perf_counter() - start
            metric.update(labels, batch.word_label, batch.word_sentence)
            predicted.append(labels)
            numbers.append(batch.sentences[batch.word_sentence])
    # Batches are by length, and so others with another tokenizer.
    order = torch.cat(numbers).argsort(stable=True)
    return SplitScore(float(metric.compute()["f1"]), seconds, torch.cat(predicted)[order])
