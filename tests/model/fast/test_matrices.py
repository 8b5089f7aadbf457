"""Linear layers whose matrices an evaluation lays out compute what torch's own do."""

import copy
import pickle
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.functional import linear

from tests.model.tiny import Fitted, fit, pretrained_backbone
from xner.model.fast.layers import PackedMatrices

needs_mkl = pytest.mark.skipif(
    not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()), reason="this PyTorch has no MKL"
)


@pytest.fixture
def layer() -> nn.Linear:
    """A layer of 48 by 80."""
    torch.manual_seed(0)
    return nn.Linear(48, 80)


def _theirs(layer: nn.Linear, values: Tensor) -> Tensor:
    return linear(values, layer.weight, layer.bias)


def _lay_out(layer: nn.Linear) -> tuple[PackedMatrices, Tensor]:
    """Have it take two inputs of one size, and return the second."""
    matrices, values = PackedMatrices(layer), torch.randn(6, 4, 48)
    with torch.inference_mode(), matrices.used():
        layer(values)
        layer(values)
    return matrices, values


@pytest.mark.parametrize("bias", [True, False])
def test_any_sizes(bias: bool) -> None:
    """Whatever sizes follow one another, and however an input lies in memory, the output is torch's."""
    torch.manual_seed(0)
    layer = nn.Linear(48, 80, bias=bias)
    with torch.inference_mode(), PackedMatrices(layer).used():
        for vectors in (24, 24, 24, 7, 24, 7, 7, 24, 0, 0, 1, 1, 24):
            values = torch.randn(vectors, 48)
            torch.testing.assert_close(layer(values), _theirs(layer, values))
            if vectors == 24:
                for other in (values.view(4, 6, 48), values.view(4, 6, 48).transpose(0, 1), values.expand(2, 24, 48)):
                    torch.testing.assert_close(layer(other), _theirs(layer, other))


@needs_mkl
def test_laid_out_once(layer: nn.Linear) -> None:
    """A matrix is copied for the first size that comes twice in succession, and for no other."""
    matrices = PackedMatrices(layer)
    [product] = matrices.products
    with torch.inference_mode(), matrices.used():
        for vectors in (5, 6, 5, 6):
            layer(torch.randn(vectors, 48))
            assert product.copy is None
        layer(torch.randn(6, 48))
        kept = product.copy
        assert kept is not None
        for vectors in (6, 5, 5, 6):
            layer(torch.randn(vectors, 48))
            assert product.copy is kept


def test_outside(layer: nn.Linear) -> None:
    """Outside of the block a layer is torch's own, whatever became of its matrix and however the block was left."""
    matrices, values = _lay_out(layer)
    with pytest.raises(KeyboardInterrupt), matrices.used():
        raise KeyboardInterrupt
    layer.weight.data.mul_(2)
    with torch.inference_mode():
        for _ in range(3):
            assert torch.equal(layer(values), _theirs(layer, values))


def test_gradients(layer: nn.Linear) -> None:
    """Where gradients are wanted, they are torch's."""
    matrices, values = _lay_out(layer)
    with matrices.used():
        found = torch.autograd.grad(layer(values).square().sum(), [*layer.parameters()])
    expected = torch.autograd.grad(_theirs(layer, values).square().sum(), [*layer.parameters()])
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_other_types(layer: nn.Linear) -> None:
    """Under autocast, in other types, and where a product may be less exact, the layer is torch's own."""
    matrices, values = _lay_out(layer)
    with torch.inference_mode(), matrices.used(), torch.autocast("cpu", torch.bfloat16):
        assert layer(values).dtype == torch.bfloat16
    assert PackedMatrices(copy.deepcopy(layer).double()).products == []
    torch.set_float32_matmul_precision("medium")
    try:
        assert PackedMatrices(layer).products == []
    finally:
        torch.set_float32_matmul_precision("highest")


def test_wrong_width(layer: nn.Linear) -> None:
    """An input that does not fit the matrix is refused, as by torch, though its numbers would do."""
    matrices, _ = _lay_out(layer)
    with torch.inference_mode(), matrices.used(), pytest.raises(RuntimeError):
        layer(torch.randn(24, 49))


def test_copied_and_saved(layer: nn.Linear) -> None:
    """A network in the middle of an evaluation can be copied and pickled; copies have matrices of their own."""
    layer.matrices = _lay_out(layer)[0]
    values = torch.randn(6, 4, 48)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        other.weight.data.mul_(3)
        for one in (other, layer):
            with torch.inference_mode(), one.matrices.used():
                for _ in range(3):
                    torch.testing.assert_close(one(values), _theirs(one, values))


class Watch(Callback):
    """Count the layers with a packed matrix at the end of each validation batch."""

    def __init__(self) -> None:
        self.laid_out: list[int] = []

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:  # noqa: ANN401 - any trainer
        packed = pl_module.network._packed
        products = packed.products if packed else ()
        self.laid_out.append(sum(product.copy is not None for product in products))


def test_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validations of a fit multiply by matrices laid out, each by those of its epoch, and keep none."""
    backbone = pretrained_backbone(tmp_path)
    watch = Watch()

    def fitted(**options: Any) -> Fitted:  # noqa: ANN401 - fit's own
        return fit(
            backbone,
            data={"num_samples": 64, "evaluation_pieces": 128},
            model={"learning_rate": 1e-2},
            trainer={"max_epochs": 3},
            **options,
        )

    laid_out = fitted(callbacks=[watch])
    if PackedMatrices(nn.Linear(1, 1)).products:
        # Four of attention and two behind it a layer; the last layer's end and the head see words alone.
        assert max(watch.laid_out) >= 4
    assert laid_out.model.network._packed is None
    monkeypatch.setattr(PackedMatrices, "used", lambda self: nullcontext())
    bare = fitted()
    assert [scores.keys() for scores in laid_out.record.scores] == [scores.keys() for scores in bare.record.scores]
    for found, expected in zip(laid_out.record.scores, bare.record.scores, strict=True):
        assert found == pytest.approx(expected, abs=1e-3)
    assert len({scores["val/accuracy"] for scores in laid_out.record.scores}) == 3
    assert all(torch.equal(weight, bare.weights[name]) for name, weight in laid_out.weights.items())


def test_compiled(tmp_path: Path) -> None:
    """A compiled network is left as it is: what it was compiled to would not be used, or be compiled again."""
    backbone, watch = pretrained_backbone(tmp_path), Watch()
    compiled: list[Any] = []

    def count(module: Any, inputs: Any) -> Any:  # noqa: ANN401 - torch's own
        compiled.append(module)
        return module.forward

    with pytest.MonkeyPatch.context() as patch:
        own = nn.Module.compile
        patch.setattr(nn.Module, "compile", lambda self: own(self, backend=count))
        fit(
            backbone,
            data={"num_samples": 32, "evaluation_pieces": 128, "few_shapes": True},
            model={"compile": True},
            callbacks=[watch],
        )
    assert compiled
    assert {*watch.laid_out} == {0}
