from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.model.tiny import Fitted, fit, pretrained_backbone, quiet_trainer, write_split
from tests.reference.trainer import Outcome, Sentences, train_and_evaluate
from xner.backbone import load_config, new_backbone
from xner.data.panx import Split
from xner.model.vocabulary import CompactEmbedding

SCORES = ("f1", "precision", "recall", "accuracy")


def train_sentences(fitted: Fitted) -> Sentences:
    """The train splits of a fit's languages end to end, numbered as in its batches."""
    return joined(fitted, "train")


def joined(fitted: Fitted, name: str) -> Sentences:
    """A split of all of a fit's languages."""
    splits = [fitted.data.split(language, name).sentences for language in fitted.data.languages]
    return Sentences(
        words=[words for split in splits for words in split.words],
        tags=[tags for split in splits for tags in split.tags],
    )


def reference(fitted: Fitted, output_dir: Path) -> Outcome:
    """Run the reference from the same weights on the sentences of each of a fit's steps."""
    model, data = fitted.model, fitted.data
    return train_and_evaluate(
        backbone=data.backbone,
        train=joined(fitted, "train"),
        validation=joined(fitted, "validation"),
        output_dir=output_dir,
        epochs=fitted.trainer.max_epochs,
        learning_rate=model.learning_rate,
        weight_decay=model.weight_decay,
        warmup_ratio=model.warmup_ratio,
        max_length=data.max_length,
        order=fitted.record.sentences,
        dropout=False,
        device="cpu",
    )


def assert_parity(fitted: Fitted, outcome: Outcome) -> None:
    """Losses to 1e-4, learning rates and scores to the last digit that Lightning logs."""
    for placement in (fitted.data.encoded(fitted.data.split(*split)).placement for split in splits_of(fitted)):
        # The reference would leave these out.
        assert placement.words_without_pieces == placement.split_sentences == placement.cut_words == 0
    assert len(fitted.record.losses) == len(outcome.losses)
    assert fitted.record.losses == pytest.approx(outcome.losses, abs=1e-4)
    assert fitted.record.rates == outcome.learning_rates
    logged = [[scores[f"val/{name}"] for name in SCORES] for scores in fitted.record.scores]
    assert logged == [[float(np.float32(scores[name])) for name in SCORES] for scores in outcome.scores]


def splits_of(fitted: Fitted) -> list[tuple[str, str]]:
    return [(language, name) for language in fitted.data.languages for name in ("train", "validation")]
