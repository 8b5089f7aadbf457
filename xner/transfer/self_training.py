"""Self-training: a teacher labels target sentences, whose tags are not read, and a student is trained on them.

Pseudo-labelling (Lee 2013); soft labels are those of knowledge distillation (Hinton et al. 2015) and of teacher-student
learning for cross-lingual NER (Wu et al. 2020).
"""

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from xner.data.datamodule import PanxDataModule
from xner.data.encode import offsets
from xner.data.pseudo_labels import PseudoLabels
from xner.errors import RunError, UserError
from xner.model.network import Network
from xner.transfer.result import LeftOut

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SelfTraining:
    """Options of the regime self_training.

    Args:
        labels: What the student is trained on: hard, each word's most probable label, or soft, the teacher's
            probabilities of all labels.
        confidence: Lowest probability, 0 to 1, that the teacher's label of every word of a sentence must reach; other
            sentences are left out.
        leave_out_test: Leave out sentences that occur verbatim in a test split that is evaluated.
        rounds: Number of times that a student is trained, each time from the source stage. The first teacher is the
            source stage, that of a later round the student of the round before.
    """

    labels: Literal["hard", "soft"] = "hard"
    confidence: float = 0.0
    leave_out_test: bool = True
    rounds: int = 1

    def check(self) -> None:
        """Check the options, before anything is loaded or written.

        Raises:
            UserError: If one is out of its range.
        """
        if not 0 <= self.confidence <= 1:
            raise UserError(f"self_training.confidence={self.confidence} is not between 0 and 1; use 0 for no limit")
        if self.rounds < 1:
            raise UserError(f"self_training.rounds={self.rounds} is not positive; use 1 or more")


def label_sentences(
    network: Network, data: PanxDataModule, options: SelfTraining, device: torch.device
) -> tuple[PseudoLabels, LeftOut]:
    """Label the training sentences of a data module by a teacher, and choose which of them to train on.

    Every process labels all sentences, so that labels do not depend on the number of processes.

    Args:
        network: The teacher, whose labels have the order of the data module's tag set.
        data: A data module of one language, whose ``labels`` are ``predicted``.
        options: The options of self-training.
        device: Where the teacher is run.

    Returns:
        The labels of the chosen sentences, and how many sentences are left out.

    Raises:
        RunError: If no sentence is left.
    """
    [language] = data.languages
    split = data.training_split(language)
    encoded, given = data.encoded(split), data.training_sentences(language)
    chosen = given
    if options.leave_out_test:
        # Both sides are read without tags, because entities can divide a text into other words.
        tests = [data.encoded(data.test_split_of(each, tagged=False)).sentence_hash for each in data.test_languages]
        chosen = given[~np.isin(encoded.sentence_hash[given], np.concatenate(tests))]
    labels = np.zeros(len(encoded.word_label), dtype=np.int8)
    probabilities = np.zeros((len(labels), len(data.tag_set.tags)), dtype=np.float32)
    network.to(device).eval()
    with torch.inference_mode():
        for batch in data.batches_of(split, chosen):
            words, _ = encoded.words_of(batch.sentences.numpy())
            on_device = batch.to(device)
            logits = network.word_logits(on_device).float()
            labels[words] = network.decode(logits, on_device.word_sentence).cpu()
            probabilities[words] = logits.softmax(dim=-1).cpu()
    words, counts = encoded.words_of(chosen)
    predicted = probabilities[words, labels[words]]
    lowest = np.minimum.reduceat(predicted, offsets(counts)[:-1]) if len(chosen) else np.ones(0)
    confident = chosen[lowest >= options.confidence]
    left_out: LeftOut = {"in_test": len(given) - len(chosen), "unsure": len(chosen) - len(confident)}
    if not len(confident):
        raise RunError(
            f"self_training.confidence={options.confidence} leaves none of the {len(given)} sentences of {split} "
            f"({left_out['in_test']} occur in a test split); use a lower one, or more sentences"
        )
    return PseudoLabels(confident, labels, probabilities if options.labels == "soft" else None), left_out
