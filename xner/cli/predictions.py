"""What a model predicts, sentence by sentence: seqeval's report of it, and a file of it."""

import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from torch import Tensor

from xner.data.sources import Sentences
from xner.files import write_atomically
from xner.tags import TAGS


def tags_by_sentence(labels: Tensor, sentences: Tensor) -> dict[int, list[str]]:
    """Predicted tags by the number of their sentence, in the order of the words. *Shapes:* (words,)."""
    tags: dict[int, list[str]] = {}
    for label, sentence in zip(labels.tolist(), sentences.tolist(), strict=True):
        tags.setdefault(sentence, []).append(TAGS[label])
    return tags


def report(predicted: Mapping[int, list[str]], gold: Sentences) -> str:
    """Lay out precision, recall and F1 of each type as seqeval does, over the sentences that have a prediction.

    Where there is no entity, neither gold nor predicted, seqeval has an F1 of 0 but no report, and a line says so.
    """
    from seqeval.metrics import classification_report

    tags = [gold.tags[sentence] for sentence in predicted]
    if {"O"}.issuperset(chain.from_iterable([*tags, *predicted.values()])):
        return "No entities, neither in the data nor predicted: F1 is 0 by seqeval's convention.\n"
    return str(classification_report(tags, [*predicted.values()], digits=4, zero_division=0))


def write_predictions(path: Path, predicted: Mapping[int, list[str]], gold: Sentences) -> None:
    """Write a line of JSON a sentence: ``tokens``, ``ner_tags`` and ``predicted_tags``, in the order of the source."""
    lines = [
        {"tokens": gold.words[sentence], "ner_tags": gold.tags[sentence], "predicted_tags": predicted[sentence]}
        for sentence in sorted(predicted)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
