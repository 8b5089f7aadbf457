"""Options that the comparison of two trainings leaves out have no effect; it sees a difference everywhere else."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForTokenClassification, PreTrainedModel

from tests.backbones import make
from tests.model.tiny import pretrained_backbone
from tests.weights import assert_close_weights, determined

PIECES = torch.arange(4, 68).view(4, 16)


@pytest.fixture(params=["xlm-roberta", "mbert", "mdeberta"])
def network(request: pytest.FixtureRequest, tmp_path: Path) -> PreTrainedModel:
    """A network of each family, without dropout."""
    source = {} if request.param == "xlm-roberta" else {"source": make(request.param, tmp_path / "source")}
    folder = pretrained_backbone(tmp_path / "backbone", **source)
    return AutoModelForTokenClassification.from_pretrained(folder).eval()


def logits_with(network: PreTrainedModel, change: dict[str, Tensor]) -> Tensor:
    """Compute the logits of a network with some weights replaced."""
    with torch.no_grad():
        return torch.func.functional_call(network, change, kwargs={"input_ids": PIECES}).logits


def test_left_out_has_no_effect(network: PreTrainedModel) -> None:
    """Logits stay when the biases of keys that are left out change by 1, and change with those that are not."""
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    biases = {name: weight for name, weight in weights.items() if name.endswith((".key.bias", ".key_proj.bias"))}
    assert len(biases) == network.config.num_hidden_layers
    torch.manual_seed(0)
    before, after = (
        logits_with(network, {}),
        logits_with(network, {name: weight + torch.randn_like(weight) for name, weight in biases.items()}),
    )
    if biases.keys() & determined(weights).keys():
        assert network.config.model_type == "deberta-v2"
        assert (after - before).abs().max() > 1e-3
    else:
        torch.testing.assert_close(after, before, atol=1e-4, rtol=0)


def test_any_other_difference_is_seen(network: PreTrainedModel) -> None:
    """One number that is off fails in every weight that is determined; a weight that is missing fails, too."""
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    assert len(weights) - len(determined(weights)) in (0, network.config.num_hidden_layers)
    assert_close_weights({name: weight + 1e-7 for name, weight in weights.items()}, weights, atol=1e-6)
    for name in determined(weights):
        other = weights[name].clone()
        other.flatten()[-1] += 2e-6
        with pytest.raises(AssertionError, match="not close"):
            assert_close_weights({**weights, name: other}, weights, atol=1e-6)
    with pytest.raises(AssertionError):
        assert_close_weights({name: weights[name] for name in [*weights][1:]}, weights, atol=1e-6)
