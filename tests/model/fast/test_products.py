"""Linear layers that multiply by other libraries compute what PyTorch's own do."""

import copy
import logging
import pickle
from itertools import product as combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.functional import linear

from tests.model.tiny import Fitted, fit, pretrained_backbone
from xner.model.fast import products
from xner.model.fast.libraries import (
    FORWARD,
    INPUT_GRADIENT,
    MKL,
    ONEDNN,
    OWN,
    PACK,
    WEIGHT_GRADIENT,
    Libraries,
)
from xner.model.fast.products import Product, Products, has_bfloat16

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(),
    reason="this PyTorch has no oneDNN",
)
EVALUATIONS = [each for each in PACK if each != OWN]
TRAINS = [Libraries(*names) for names in combinations(FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT)]


@pytest.fixture
def layer() -> nn.Linear:
    """Return a layer of 48 by 80."""
    torch.manual_seed(0)
    return nn.Linear(48, 80)


@pytest.fixture
def small_ones(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let small matrices take part, by oneDNN wherever it can be."""
    monkeypatch.setattr(products, "_SMALLEST", 1)
    monkeypatch.setattr(products, "fastest", lambda inputs, outputs: Libraries("oneDNN", "oneDNN", "oneDNN", ONEDNN))
    return monkeypatch


def _theirs(layer: nn.Linear, values: Tensor) -> Tensor:
    return linear(values, layer.weight, layer.bias)


def _relative(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).norm() / expected.norm()).detach())


@pytest.mark.parametrize("libraries", TRAINS, ids=str)
def test_training(libraries: Libraries) -> None:
    """The output and all gradients equal PyTorch's to 1e-5, for shapes at random, with and without a bias."""
    generator = torch.Generator().manual_seed(0)
    for trial in range(6):
        rows, width, inputs, outputs = (int(torch.randint(1, 200, (), generator=generator)) for _ in range(4))
        layer = nn.Linear(inputs, outputs, bias=trial % 2 == 0)
        values = torch.randn(rows % 7 + 1, width, inputs, generator=generator).requires_grad_()
        direction = torch.randn(rows % 7 + 1, width, outputs, generator=generator)
        wanted = [values, *layer.parameters()]
        expected = _theirs(layer, values)
        gradients = torch.autograd.grad(expected, wanted, direction)
        found = Product(layer, libraries)(values)
        assert _relative(found, expected) < 1e-5
        for one, other in zip(torch.autograd.grad(found, wanted, direction), gradients, strict=True):
            assert _relative(one, other) < 1e-5


def test_unwanted_gradients(layer: nn.Linear) -> None:
    """A frozen matrix gets no gradient, nor does an input that wants none."""
    product = Product(layer, Libraries("oneDNN", "oneDNN", "oneDNN"))
    values = torch.randn(5, 48)
    layer.weight.requires_grad_(False)
    product(values).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is not None
    assert values.grad is None
    layer.bias.requires_grad_(False)
    assert not product(values).requires_grad


@pytest.mark.parametrize("library", EVALUATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_evaluation(library: str, bias: bool) -> None:
    """Whatever sizes follow one another, and however an input lies in memory, the output is PyTorch's."""
    torch.manual_seed(0)
    layer = nn.Linear(48, 80, bias=bias)
    product = Product(layer, Libraries(evaluation=library))
    with torch.inference_mode():
        for vectors in (24, 24, 24, 7, 24, 7, 7, 24, 0, 0, 1, 1, 24):
            values = torch.randn(vectors, 48)
            torch.testing.assert_close(product(values), _theirs(layer, values))
            if vectors == 24:
                for other in (values.view(4, 6, 48), values.view(4, 6, 48).transpose(0, 1), values.expand(2, 24, 48)):
                    torch.testing.assert_close(product(other), _theirs(layer, other))


@pytest.mark.skipif(MKL not in PACK, reason="this PyTorch has no MKL")
def test_packed_once(layer: nn.Linear) -> None:
    """MKL's matrix is packed for the first size that comes twice in succession, and for no other."""
    product = Product(layer, Libraries(evaluation=MKL))
    with torch.inference_mode():
        for vectors in (5, 6, 5, 6):
            product(torch.randn(vectors, 48))
            assert product.packed is None
        product(torch.randn(6, 48))
        kept = product.packed
        assert kept is not None
        for vectors in (6, 5, 5, 6):
            product(torch.randn(vectors, 48))
            assert product.packed is kept


@pytest.mark.skipif(not has_bfloat16(), reason="this CPU does not multiply bfloat16 numbers")
def test_bfloat16(layer: nn.Linear) -> None:
    """Under autocast to bfloat16, evaluation gives what autocast gives, and training is autocast's own."""
    product = Product(layer, Libraries("oneDNN", "oneDNN", "oneDNN", ONEDNN))
    values = torch.randn(6, 4, 48)
    with torch.autocast("cpu", torch.bfloat16):
        expected = _theirs(layer, values)
        with torch.inference_mode():
            for _ in range(3):
                found = product(values)
                assert found.dtype == torch.bfloat16
                assert _relative(found.float(), expected.float()) < 5e-3
        assert product.packed is not None
        assert torch.equal(product(values), expected)


def test_other_types(layer: nn.Linear, small_ones: pytest.MonkeyPatch) -> None:
    """In other types, and where a product may be less exact, the layer is PyTorch's own."""
    assert len(Products(layer).products) == 1
    assert Products(copy.deepcopy(layer).double()).products == []
    torch.set_float32_matmul_precision("medium")
    try:
        assert Products(layer).products == []
    finally:
        torch.set_float32_matmul_precision("highest")
    product = Product(layer, Libraries("oneDNN", "oneDNN", "oneDNN", ONEDNN))
    with torch.autocast("cpu", torch.float16), torch.inference_mode():
        assert product(torch.randn(24, 48)).dtype == torch.float16


def test_outside(layer: nn.Linear, small_ones: pytest.MonkeyPatch) -> None:
    """Outside of the block a layer is PyTorch's own, whatever became of its matrix and however the block was left."""
    found, values = Products(layer), torch.randn(6, 4, 48)
    with torch.inference_mode(), found.used():
        layer(values)
        layer(values)
    with pytest.raises(KeyboardInterrupt), found.used():
        raise KeyboardInterrupt
    layer.weight.data.mul_(2)
    with torch.inference_mode():
        for _ in range(3):
            assert torch.equal(layer(values), _theirs(layer, values))


def test_wrong_width(layer: nn.Linear) -> None:
    """An input that does not fit the matrix is refused, as by PyTorch, though its numbers would do."""
    product = Product(layer, Libraries("oneDNN", "oneDNN", "oneDNN", ONEDNN))
    for mode in (torch.inference_mode(), torch.enable_grad()):
        with mode, pytest.raises(RuntimeError):
            product(torch.randn(24, 49))


def test_copied_and_saved(layer: nn.Linear, small_ones: pytest.MonkeyPatch) -> None:
    """A network in the middle of an evaluation can be copied and pickled; copies have matrices of their own."""
    layer.fast = Products(layer)
    values = torch.randn(6, 4, 48)
    with torch.inference_mode(), layer.fast.used():
        layer(values)
        layer(values)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        other.weight.data.mul_(3)
        for one in (other, layer):
            with torch.inference_mode(), one.fast.used():
                for _ in range(3):
                    torch.testing.assert_close(one(values), _theirs(one, values))


def test_log(layer: nn.Linear, small_ones: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One line names the libraries, once per process."""
    products._log.cache_clear()
    with caplog.at_level(logging.INFO):
        Products(layer)
        Products(layer)
    [record] = caplog.records
    assert record.getMessage() == (
        "the fastest matrix products here: forward oneDNN; input gradient oneDNN; weight gradient oneDNN; "
        "evaluation oneDNN, packed (model.accelerate=false: PyTorch's own)"
    )


@pytest.mark.parametrize("has", [True, False])
def test_slow_bfloat16(has: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A CPU without such products is warned of once."""
    monkeypatch.setattr(products, "has_bfloat16", lambda: has)
    products.warn_of_slow_bfloat16.cache_clear()
    for _ in range(2):
        products.warn_of_slow_bfloat16()
    products.warn_of_slow_bfloat16.cache_clear()
    assert [record.levelname for record in caplog.records] == ([] if has else ["WARNING"])


class Watch(Callback):
    """Count the layers with a packed matrix at the end of each validation batch, and those of training."""

    def __init__(self) -> None:
        self.packed: list[int] = []
        self.training: list[int] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:  # noqa: ANN401 - any trainer
        used = pl_module.network._products
        self.training.append(len(used.products) if used else 0)

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:  # noqa: ANN401 - any trainer
        used = pl_module.network._products
        self.packed.append(sum(product.packed is not None for product in used.products) if used else 0)


def test_fit(tmp_path: Path, small_ones: pytest.MonkeyPatch) -> None:
    """A fit multiplies by them in training and validation, each validation by its epoch's matrices, and keeps none."""
    backbone = pretrained_backbone(tmp_path)
    watch = Watch()

    def fitted(**model: Any) -> Fitted:  # noqa: ANN401 - any options
        return fit(
            backbone,
            data={"num_samples": 64, "evaluation_pieces": 128},
            model={"learning_rate": 1e-2, **model},
            trainer={"max_epochs": 3},
            callbacks=[watch],
        )

    fast = fitted()
    # Four of attention and two behind it per layer, and the head.
    assert min(watch.training) >= 7
    assert max(watch.packed) >= 7
    assert fast.model.network._products is None
    small_ones.setattr(products, "_SMALLEST", 2**30)
    plain = fitted()
    losses = [[scores["val/loss"] for scores in each.record.scores] for each in (fast, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert len({*losses[0]}) == 3
    assert any(not torch.equal(weight, plain.weights[name]) for name, weight in fast.weights.items())


@pytest.mark.parametrize("options", [{"gradient_checkpointing": True}, {"lora": {"rank": 2}}, {"freeze": 1}])
def test_options(tmp_path: Path, options: dict[str, Any], small_ones: pytest.MonkeyPatch) -> None:
    """Options that change which products there are, or when they are computed, get equal losses."""
    if "lora" in options:
        pytest.importorskip("peft")
    backbone = pretrained_backbone(tmp_path)
    losses = []
    for smallest in (1, 2**30):
        small_ones.setattr(products, "_SMALLEST", smallest)
        fitted = fit(backbone, data={"num_samples": 64}, model=options)
        losses.append([scores["val/loss"] for scores in fitted.record.scores])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.slow
def test_compiled(tmp_path: Path, small_ones: pytest.MonkeyPatch) -> None:
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
    assert {*watch.packed} == {*watch.training} == {0}


@pytest.mark.skipif(not has_bfloat16(), reason="this CPU does not multiply bfloat16 numbers")
def test_evaluation_precision(tmp_path: Path, small_ones: pytest.MonkeyPatch) -> None:
    """Validation in bfloat16 changes its scores a little, and the trained weights not at all."""
    backbone = pretrained_backbone(tmp_path)
    fits = {
        precision: fit(
            backbone,
            data={"num_samples": 64, "evaluation_pieces": 128},
            model={"learning_rate": 1e-2, "evaluation_precision": precision},
        )
        for precision in (None, "float32", "bfloat16")
    }
    losses = {precision: [each["val/loss"] for each in fitted.record.scores] for precision, fitted in fits.items()}
    assert losses[None] == losses["float32"] != losses["bfloat16"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    for name, weight in fits["bfloat16"].weights.items():
        assert torch.equal(weight, fits["float32"].weights[name])
