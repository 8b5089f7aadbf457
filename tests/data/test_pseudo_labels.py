from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xner.batch import Batch
from xner.data.datamodule import PanxDataModule
from xner.data.pseudo_labels import PseudoLabels
from xner.model.classifier import TokenClassifier


def batches(data: PanxDataModule) -> list[Batch]:
    return [*data.train_dataloader()]


@pytest.fixture
def make(source: Path, sample_backbone: str, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 - makes a data module
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")

    def data(*, packing: bool = True) -> PanxDataModule:
        return PanxDataModule(
            source=str(source),
            languages=["tr"],
            num_samples=20,
            backbone=sample_backbone,
            batch_size=8,
            packing=packing,
        )

    return data


def labels_of(data: PanxDataModule, *, soft: bool) -> PseudoLabels:
    """The gold labels, as if they had been predicted, with certainty."""
    labels = data.encoded(data.training_split("tr")).word_label
    certain = np.eye(len(data.tag_set.tags), dtype=np.float32)[labels]
    return PseudoLabels(data.training_sentences("tr"), labels, certain if soft else None)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("soft", [True, False])
def test_batches_are_those_of_gold_labels(make: Any, soft: bool, packing: bool) -> None:  # noqa: ANN401
    """Labels equal to the gold ones give the same batches, although the split is read without its tags."""
    gold, predicted = make(packing=packing), make(packing=packing)
    predicted.labels = "predicted"
    assert not predicted.encoded(predicted.training_split("tr")).word_label.any()
    predicted.pseudo_labels = labels_of(gold, soft=soft)
    for one, other in zip(batches(gold), batches(predicted), strict=True):
        assert one.probabilities is None
        assert (other.probabilities is not None) is soft
        for expected, found in zip(one, other._replace(probabilities=None), strict=True):
            assert expected is found is None or torch.equal(expected, found)


def test_loss_of_certain_probabilities(make: Any) -> None:  # noqa: ANN401
    """Where one label has all probability, the loss of soft labels is that of hard ones; half of it moves it."""
    gold, soft = make(), make()
    soft.labels, soft.pseudo_labels = "predicted", labels_of(gold, soft=True)
    assert soft.pseudo_labels.probabilities is not None
    model = TokenClassifier(backbone="sample")
    first, second = batches(gold)[0], batches(soft)[0]
    logits = torch.randn(first.targets.numel(), len(gold.tag_set.tags))
    hard = model.loss(logits, first.targets)
    torch.testing.assert_close(model.loss(logits, second.targets), hard)
    torch.testing.assert_close(
        model.loss(logits, second._replace(probabilities=second.targets.half()[None]).targets), hard
    )
    uniform = np.full_like(soft.pseudo_labels.probabilities, 1 / logits.shape[1])
    soft.pseudo_labels = replace(soft.pseudo_labels, probabilities=uniform)
    expected = -logits.log_softmax(dim=-1).mean(dim=-1)[first.labels.flatten() >= 0].sum()
    torch.testing.assert_close(model.loss(logits, batches(soft)[0].targets), expected)


def test_chosen_sentences(make: Any) -> None:  # noqa: ANN401
    """Only the sentences of the labels are trained on, and only their pieces get an embedding."""
    data = make()
    chosen = data.training_sentences("tr")[:5]
    labels = labels_of(data, soft=False)
    data.labels, data.pseudo_labels = "predicted", replace(labels, sentences=chosen)
    assert sorted(number for batch in batches(data) for number in batch.sentences.tolist()) == sorted(chosen)
    assert data.training_sentences("tr").tolist() == chosen.tolist()


@pytest.mark.parametrize("packing", [True, False])
def test_batches_of_some_sentences(make: Any, packing: bool) -> None:  # noqa: ANN401
    """Each of the given sentences is in one batch, with its own words, whatever their order."""
    data = make(packing=packing)
    split = data.training_split("tr")
    encoded, wanted = data.encoded(split), np.array([17, 3, 30, 4])
    found = [*data.batches_of(split, wanted)]
    assert sorted(number for batch in found for number in batch.sentences.tolist()) == sorted(wanted)
    for batch in found:
        words, _ = encoded.words_of(batch.sentences.numpy())
        assert batch.word_label.tolist() == encoded.word_label[words].tolist()
        first = batch.pieces.flatten()[batch.word_piece]
        assert first.tolist() == encoded.pieces[encoded.word_piece[words]].tolist()
    assert batch.to("cpu").probabilities is None
