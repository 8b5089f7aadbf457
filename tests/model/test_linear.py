"""A linear layer that keeps its matrix as MKL reads it computes what torch's own does."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.functional import linear

from tests.model.tiny import Fitted, fit, pretrained_backbone
from xner.model.linear import Linear, keep_layouts

HAS_MKL = torch.backends.mkl.is_available()


@pytest.fixture
def layer() -> Linear:
    """A layer of 48 by 80 that keeps its matrix."""
    return _keeping()


def _keeping(bias: bool = True) -> Linear:
    torch.manual_seed(0)
    layer = Linear(48, 80, bias=bias)
    keep_layouts(layer, True)
    return layer


def _theirs(layer: Linear, values: Tensor) -> Tensor:
    return linear(values, layer.weight, layer.bias)


def _lay_out(layer: Linear) -> Tensor:
    """Give it two inputs of one size, and return the second."""
    values = torch.randn(6, 4, 48)
    with torch.inference_mode():
        layer(values)
        layer(values)
    assert (layer.laid_out is not None) == HAS_MKL
    return values


@pytest.mark.parametrize("bias", [True, False])
def test_any_sizes(bias: bool) -> None:
    """Whatever sizes follow one another, and however an input lies in memory, the output is torch's."""
    layer = _keeping(bias)
    with torch.inference_mode():
        for rows in (24, 24, 24, 7, 24, 7, 7, 24, 0, 0, 1, 1, 24):
            values = torch.randn(rows, 48)
            torch.testing.assert_close(layer(values), _theirs(layer, values))
            if rows == 24:
                for other in (values.view(4, 6, 48), values.view(4, 6, 48).transpose(0, 1), values.expand(2, 24, 48)):
                    torch.testing.assert_close(layer(other), _theirs(layer, other))


@pytest.mark.skipif(not HAS_MKL, reason="this PyTorch has no MKL")
def test_laid_out_for_equal_sizes_alone(layer: Linear) -> None:
    """The matrix is copied when a size comes twice in a row, and not again for the next one that differs."""
    with torch.inference_mode():
        for rows in (5, 6, 5, 6):
            layer(torch.randn(rows, 48))
            assert layer.laid_out is None
        layer(torch.randn(6, 48))
        copied = layer.laid_out
        assert copied is not None
        for rows in (6, 5, 6):
            layer(torch.randn(rows, 48))
            assert layer.laid_out is copied


def test_training(layer: Linear) -> None:
    """A step of training makes a layer forget its matrix, though nothing else told it that the evaluation is over."""
    values = _lay_out(layer)
    layer(values).square().mean().backward()
    torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True).step()
    with torch.inference_mode():
        for _ in range(3):
            torch.testing.assert_close(layer(values), _theirs(layer, values))


def test_forgotten(layer: Linear) -> None:
    """Once it is told to forget, a layer keeps nothing, and takes its matrix as it is then."""
    values = _lay_out(layer)
    keep_layouts(layer, False)
    layer.weight.data.mul_(2)
    for keeps in (False, True):
        keep_layouts(layer, keeps)
        with torch.inference_mode():
            for _ in range(3):
                assert (layer.laid_out is None) or keeps
                torch.testing.assert_close(layer(values), _theirs(layer, values))


def test_gradients(layer: Linear) -> None:
    """Training after an evaluation gets torch's gradients."""
    values = _lay_out(layer)
    found = torch.autograd.grad(layer(values).square().sum(), [*layer.parameters()])
    expected = torch.autograd.grad(_theirs(layer, values).square().sum(), [*layer.parameters()])
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_other_types(layer: Linear) -> None:
    """Under autocast, and in other types, the layer is torch's own."""
    values = _lay_out(layer)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert layer(values).dtype == torch.bfloat16
    double = layer.double()
    with torch.inference_mode():
        for _ in range(3):
            assert torch.equal(double(values.double()), _theirs(double, values.double()))


def test_copied_and_saved(layer: Linear) -> None:
    """A layer in the middle of an evaluation can be copied and pickled; copies have weights of their own."""
    values = _lay_out(layer)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        other.weight.data.mul_(3)
        with torch.inference_mode():
            for _ in range(3):
                torch.testing.assert_close(other(values), _theirs(other, values))
                torch.testing.assert_close(layer(values), _theirs(layer, values))


def test_replaces_torchs(layer: Linear) -> None:
    """It is made out of a layer of torch's by its class, and keeps what that had."""
    plain = nn.Linear(48, 80)
    parameters = dict(plain.named_parameters())
    plain.__class__ = Linear
    keep_layouts(plain, True)
    assert {name: id(value) for name, value in plain.named_parameters()} == {
        name: id(value) for name, value in parameters.items()
    }
    values = _lay_out(plain)  # type: ignore[arg-type]
    with torch.inference_mode():
        torch.testing.assert_close(plain(values), linear(values, plain.weight, plain.bias))


class Watch(Callback):
    """The most layers that kept their matrix at the end of a batch of validation, and of training."""

    def __init__(self) -> None:
        self.in_validation = self.in_training = 0

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:  # noqa: ANN401 - any trainer
        self.in_validation = max(self.in_validation, _keeping_layers(pl_module))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:  # noqa: ANN401 - any trainer
        self.in_training = max(self.in_training, _keeping_layers(pl_module))


def _keeping_layers(model: nn.Module) -> int:
    return sum(isinstance(layer, Linear) and layer.laid_out is not None for layer in model.modules())


def test_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validations of a fit multiply by kept matrices, each by those of its epoch; training keeps none."""
    backbone = pretrained_backbone(tmp_path)
    watch = Watch()

    def fitted() -> Fitted:
        return fit(
            backbone,
            data={"num_samples": 64, "evaluation_pieces": 128},
            model={"learning_rate": 1e-2},
            trainer={"max_epochs": 3},
            callbacks=[watch],
        )

    kept = fitted()
    assert watch.in_training == 0
    if HAS_MKL:
        # Four of attention and two behind it a layer; the last layer's end and the head see words alone.
        assert watch.in_validation >= 4
    assert _keeping_layers(kept.model) == 0
    monkeypatch.setattr("xner.model.classifier.keep_layouts", lambda *_: None)
    bare = fitted()
    assert [scores.keys() for scores in kept.record.scores] == [scores.keys() for scores in bare.record.scores]
    for found, expected in zip(kept.record.scores, bare.record.scores, strict=True):
        assert found == pytest.approx(expected, abs=1e-3)
    assert len({scores["val/accuracy"] for scores in kept.record.scores}) == 3
    assert all(torch.equal(weight, bare.weights[name]) for name, weight in kept.weights.items())
