from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from transformers import DistilBertConfig

from tests.backbones import make
from tests.model.tiny import Fitted, fit, make_backbone, pretrained_backbone
from xner.errors import UserError
from xner.model.classifier import TokenClassifier


class Watch(Callback):
    """Notes each step's gradients, and how often the first layer's attention was computed in training."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, Tensor]] = []
        self.computed = 0

    def on_train_start(self, trainer: Any, pl_module: TokenClassifier) -> None:  # noqa: ANN401 - any trainer
        def count(module: torch.nn.Module, *_: object) -> None:
            self.computed += module.training

        pl_module.network.model.base_model.encoder.layer[0].attention.register_forward_hook(count)

    def on_after_backward(self, trainer: Any, pl_module: TokenClassifier) -> None:  # noqa: ANN401 - any trainer
        weights = pl_module.network.model.named_parameters()
        self.gradients.append({name: weight.grad.clone() for name, weight in weights if weight.grad is not None})


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("family", ["xlm-roberta", "mdeberta"])
def test_gradients(tmp_path: Path, family: str, dropout: float) -> None:
    """Computing layers twice gives every step's gradients to the bit, dropout's draws of the same seed included."""
    source = {} if family == "xlm-roberta" else {"source": make(family, tmp_path / "source")}
    backbone = pretrained_backbone(tmp_path / "backbone", dropout=dropout, **source)
    runs: list[tuple[Fitted, Watch]] = []
    for checkpointing in (False, True):
        watch = Watch()
        fitted = fit(
            backbone,
            data={"num_samples": 24, "batch_size": 8},
            model={"learning_rate": 1e-3, "gradient_checkpointing": checkpointing},
            trainer={"max_epochs": 2},
            callbacks=[watch],
        )
        runs.append((fitted, watch))
    (bare, kept), (checkpointed, computed) = runs
    assert (kept.computed, computed.computed) == (6, 12)
    assert bare.record.losses == checkpointed.record.losses
    for one, other in zip(kept.gradients, computed.gradients, strict=True):
        assert one.keys() == other.keys()
        assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert [name for name in bare.weights if not torch.equal(bare.weights[name], checkpointed.weights[name])] == []
    assert bare.record.scores == checkpointed.record.scores


def test_network_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A family that cannot do it is told in one line."""
    config = DistilBertConfig(vocab_size=1800, dim=32, n_layers=1, n_heads=2, hidden_dim=64, pad_token_id=1)
    model = TokenClassifier(backbone=str(make_backbone(tmp_path, config)), gradient_checkpointing=True)
    monkeypatch.setattr("transformers.DistilBertForTokenClassification.supports_gradient_checkpointing", False)
    with pytest.raises(UserError, match=r"is not supported by .* \(distilbert\); use false"):
        model.configure_model()
