from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from safetensors.torch import load_file
from torch import nn
from transformers import AlbertConfig, AutoModelForTokenClassification, PreTrainedModel

from tests.backbones import make
from tests.commands import Run, assert_one_line, options
from tests.model.tiny import Fitted, fit, make_backbone, pretrained_backbone, quiet_trainer
from xner.cli.main import main
from xner.errors import UserError
from xner.lineage import NOTHING_SEEN
from xner.model.classifier import TokenClassifier
from xner.model.evaluation import run_test
from xner.model.freezing import freeze_layers
from xner.model.lora import LoRA
from xner.model.vocabulary import CompactEmbedding
from xner.transfer.result import read_result
from xner.transfer.training import write_model

LAYERS = 2
"""Encoder layers of each backbone here."""


@pytest.fixture(scope="module")
def make_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a backbone of a family with a head of random weights."""

    def make_one(family: str, dropout: float = 0.0) -> Path:
        folder = tmp_path_factory.mktemp("backbones")
        source = {} if family == "xlm-roberta" else {"source": make(family, folder / "source")}
        return pretrained_backbone(folder / "backbone", dropout=dropout, **source)

    return make_one


@pytest.fixture(scope="module")
def backbone(make_folder: Callable[..., Path]) -> Path:
    return make_folder("xlm-roberta")


def fit_frozen(backbone: Path, which: str | int | None, *, epochs: int = 1, **more: Any) -> Fitted:  # noqa: ANN401
    """Fit for four steps per epoch, with enough weight decay to see it."""
    return fit(
        backbone,
        data={"num_samples": 32, "batch_size": 8},
        model={"learning_rate": 1e-2, "weight_decay": 0.5, "freeze": which, **more.pop("model", {})},
        trainer={"max_epochs": epochs, **more.pop("trainer", {})},
        **more,
    )


def is_frozen(name: str, which: str | int) -> bool:
    """Whether a parameter is to stay as it was, by its name."""
    count = 0 if which == "embeddings" else int(which)
    layer = name.partition(".encoder.layer.")[2].partition(".")[0]
    # What DeBERTa has of relative positions, like the embeddings, is an input of the first layer.
    return not name.startswith("classifier") and (int(layer) < count if layer else True)


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


class Watch(Callback):
    """Notes what had a gradient, what the optimizer had states of and what embedded subwords, at the last step."""

    def __init__(self) -> None:
        self.reached: set[str] = set()
        self.states: set[str] = set()
        self.embedding: type = object

    def on_after_backward(self, trainer: Any, pl_module: TokenClassifier) -> None:  # noqa: ANN401
        weights = pl_module.network.model.named_parameters()
        self.reached = {name for name, weight in weights if weight.grad is not None}

    def on_train_batch_end(self, trainer: Any, pl_module: TokenClassifier, *_: object) -> None:  # noqa: ANN401
        network = pl_module.network.model
        self.embedding = type(network.get_input_embeddings())
        states = trainer.optimizers[0].state
        self.states = {name for name, weight in network.named_parameters() if weight in states}


@pytest.mark.parametrize("which", ["embeddings", 1, LAYERS])
@pytest.mark.parametrize("family", ["xlm-roberta", "mbert", "mdeberta"])
def test_frozen_weights(make_folder: Callable[..., Path], tmp_path: Path, family: str, which: str | int) -> None:
    """Frozen weights have no gradient and no state, and are the backbone's to the bit; all others are trained."""
    folder, watch = make_folder(family), Watch()
    fitted = fit_frozen(folder, which, callbacks=[watch])
    names = fitted.weights.keys()
    trained = {name for name in names if not is_frozen(name, which)}
    assert {"classifier.weight", "classifier.bias"} <= trained < {*names}
    assert watch.reached == watch.states == trained
    assert watch.embedding is nn.Embedding
    assert fitted.record.losses[-1] < fitted.record.losses[0]

    write_model(tmp_path / "model", fitted.model, NOTHING_SEEN)
    before, after = (load_file(each / "model.safetensors") for each in (folder, tmp_path / "model"))
    assert differing(before, after) == trained
    plain = AutoModelForTokenClassification.from_pretrained(tmp_path / "model")
    assert all(weight.requires_grad for weight in plain.parameters())


def test_everything_is_trained_without(backbone: Path) -> None:
    """Without the option all is trained, and embedding rows that the data does not use are not held in memory."""
    watch = Watch()
    fitted = fit_frozen(backbone, None, callbacks=[watch])
    assert watch.reached == fitted.weights.keys()
    assert watch.embedding is CompactEmbedding


def test_dropout_stays(make_folder: Callable[..., Path]) -> None:
    """Freezing changes no dropout: the first loss, before any step, is that of training all weights."""
    folder = make_folder("xlm-roberta", dropout=0.3)
    losses = [fit_frozen(folder, which).record.losses for which in (None, "embeddings", 1, LAYERS)]
    assert len({first for first, *_ in losses}) == 1
    assert len({last for *_, last in losses}) == len(losses)
    assert losses[0][0] != fit_frozen(folder, None, seed=1).record.losses[0]


@pytest.mark.parametrize("which", ["embeddings", 1, LAYERS])
@pytest.mark.parametrize("family", ["xlm-roberta", "mdeberta"])
def test_gradient_checkpointing(make_folder: Callable[..., Path], family: str, which: str | int) -> None:
    """Computing layers twice changes nothing where there is no gradient below them, or in none of them."""
    folder = make_folder(family, dropout=0.3)
    bare, twice = (fit_frozen(folder, which, model={"gradient_checkpointing": on}) for on in (False, True))
    assert bare.record.losses == twice.record.losses
    assert differing(bare.weights, twice.weights) == set()


@pytest.mark.parametrize("step", [2, 4])
def test_resuming(backbone: Path, tmp_path: Path, step: int) -> None:
    """A fit that goes on from within an epoch, or from its end, ends as the uninterrupted one, to the bit."""
    each = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=2, save_top_k=-1)
    whole = fit_frozen(backbone, 1, epochs=2, callbacks=[each], trainer={"enable_checkpointing": True})
    resumed = fit_frozen(backbone, 1, epochs=2, ckpt_path=tmp_path / f"step={step}.ckpt")
    assert resumed.record.losses == whole.record.losses[step:]
    assert differing(whole.weights, resumed.weights) == set()


def test_checkpoint(backbone: Path, tmp_path: Path) -> None:
    """A fit goes on with the same layers frozen alone, while a test takes the weights as they are."""
    for which in (None, 1):
        keep = ModelCheckpoint(tmp_path, filename=f"{which}")
        fitted = fit_frozen(backbone, which, callbacks=[keep], trainer={"enable_checkpointing": True})
    for saved, which in ((1, None), (1, "embeddings"), (1, 2), (None, 1)):
        expected = rf"model\.freeze={which} is not that of ckpt_path, which restores {saved}; use the same"
        with pytest.raises(UserError, match=expected):
            fit_frozen(backbone, which, epochs=2, ckpt_path=tmp_path / f"{saved}.ckpt")
    earlier = torch.load(tmp_path / "None.ckpt", weights_only=True)
    del earlier["hyper_parameters"]["freeze"]
    torch.save(earlier, tmp_path / "earlier.ckpt")
    assert len(fit_frozen(backbone, None, epochs=2, ckpt_path=tmp_path / "earlier.ckpt").record.losses) == 4
    with pytest.raises(UserError, match=r"model\.freeze=1 is not that of ckpt_path, which restores None"):
        fit_frozen(backbone, 1, epochs=2, ckpt_path=tmp_path / "earlier.ckpt")

    tested = []
    for model, path in ((fitted.model, None), (TokenClassifier(backbone=str(backbone)), tmp_path / "1.ckpt")):
        tested.append(run_test(quiet_trainer(), model, fitted.data, ckpt_path=path)[0].scores)
    assert tested[0] == tested[1]


@pytest.mark.parametrize("kind", ["xlm", "albert"])
def test_layers_that_are_not_modules(tmp_path: Path, kind: str) -> None:
    """An encoder that shares its layers' weights, or spreads a layer over several lists, is told in one line."""
    from transformers import XLMConfig

    sizes: dict[str, Any] = {"vocab_size": 1800, "pad_token_id": 1}
    if kind == "albert":
        config: Any = AlbertConfig(hidden_size=32, num_attention_heads=2, intermediate_size=64, **sizes)
    else:
        config = XLMConfig(emb_dim=32, n_layers=3, n_heads=2, **sizes)
    model = TokenClassifier(backbone=str(make_backbone(tmp_path, config)), freeze=1)
    with pytest.raises(UserError, match=rf"model\.freeze=1 is not possible with {kind}, whose layers are not modules"):
        model.configure_model()


def test_freeze_is_of_a_network(backbone: Path) -> None:
    """Without anything of Lightning, a network of transformers is frozen in place, and once more without effect."""
    network: PreTrainedModel = AutoModelForTokenClassification.from_pretrained(backbone)
    for _ in range(2):
        freeze_layers(network, 1)
        frozen = {name for name, weight in network.named_parameters() if not weight.requires_grad}
        assert frozen == {name for name, _ in network.named_parameters() if is_frozen(name, 1)}
    with pytest.raises(UserError, match=r"model\.freeze=3 is not possible with 2 encoder layers; use 1 to 2"):
        freeze_layers(network, 3)


@pytest.mark.parametrize("which", [0, -1, True, 1.0, "layers"])
def test_values(backbone: Path, which: Any) -> None:  # noqa: ANN401 - wrong ones
    """A value that is neither a number of layers nor a part of the encoder is refused when the classifier is made."""
    with pytest.raises(UserError, match=rf"model\.freeze={which} is not a number of encoder layers; use 1 or more"):
        TokenClassifier(backbone=str(backbone), freeze=which)


def test_with_adapters(backbone: Path) -> None:
    """LoRA and frozen layers are one or the other."""
    with pytest.raises(UserError, match=r"model\.freeze=1 is not possible with model\.lora"):
        TokenClassifier(backbone=str(backbone), freeze=1, lora=LoRA())


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (["--model.freeze=3"], "model.freeze=3 is not possible with 2 encoder layers; use 1 to 2, or embeddings"),
        (["--model.freeze=0"], "model.freeze=0 is not a number of encoder layers"),
        (["--model.freeze=layers"], "model.freeze"),
        (["--model.freeze=1.5"], "model.freeze"),
        (["--model.freeze=1", "--model.lora={rank: 2}"], "model.freeze=1 is not possible with model.lora"),
        (
            ["--trainer.callbacks+=BackboneFinetuning"],
            "BackboneFinetuning freezes layers before the network is loaded, and so none; use model.freeze=embeddings",
        ),
    ],
)
@pytest.mark.parametrize("command", ["fit", "transfer"])
def test_one_line(
    run: Run, backbone: Path, tmp_path: Path, command: str, extra: list[str], expected: str
) -> None:  # fmt: skip
    """A part that cannot be frozen is one line that names the option, before anything is written."""
    sizes = ["--sizes=[10]"] if command == "transfer" else []
    assert_one_line(run(command, *options("sample", backbone, tmp_path / "run"), *sizes, *extra), 2, expected)
    assert not (tmp_path / "run").exists()


def test_transfer(backbone: Path, tmp_path: Path) -> None:
    """Every stage freezes the same layers, which stay the backbone's; another choice is another experiment."""
    command = ["transfer", *options("sample", backbone, tmp_path), "--sizes=[10,20]", "--keep=all"]
    command += ["--model.learning_rate=5e-3", "--source_samples=64"]
    main([*command, "--model.freeze=1"])
    stages = ["source-en-seed42", "progressive-tr-10-seed42", "progressive-tr-20-seed42"]
    weights = [load_file(backbone / "model.safetensors")]
    for stage in stages:
        result = read_result(tmp_path / "stages" / stage) or pytest.fail(stage)
        assert result["definition"]["options"]["model.freeze"] == 1
        weights.append(load_file(tmp_path / "stages" / stage / "model" / "model.safetensors"))
    for before, after in pairwise(weights):
        assert differing(before, after) == {name for name in before if not is_frozen(name, 1)}
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--model.freeze=embeddings"])
