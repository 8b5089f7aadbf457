import json
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification

from tests.backbones import make
from tests.model.tiny import Fitted, Record, fit, pretrained_backbone, quiet_trainer
from xner.batch import Batch
from xner.cli.main import main
from xner.data.datamodule import PanxDataModule
from xner.errors import UserError
from xner.lineage import NOTHING_SEEN
from xner.model.classifier import TokenClassifier
from xner.model.evaluation import run_test
from xner.model.lora import LoRA
from xner.transfer.result import read_result
from xner.transfer.training import write_model

pytest.importorskip("peft", reason="peft is not installed: pip install '.[lora]'")

RANK = 2
PIECES = torch.arange(4, 68).view(4, 16)
ADAPTED = {
    "xlm-roberta": ("query", "value"),
    "mbert": ("query", "value"),
    "mdeberta": ("query_proj", "value_proj"),
    "camembert": ("query", "value"),  # peft has no targets of its own for it
}


@pytest.fixture(scope="module")
def make_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a backbone of a family with a head, without dropout."""

    def make_one(family: str) -> Path:
        folder = tmp_path_factory.mktemp("backbones")
        if family.startswith("m"):
            return pretrained_backbone(folder / "backbone", source=make(family, folder / "source"))
        backbone = pretrained_backbone(folder / "backbone")
        config = json.loads((backbone / "config.json").read_text(encoding="utf-8")) | {"model_type": family}
        if family == "camembert":
            config["architectures"] = ["CamembertForTokenClassification"]
        (backbone / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return backbone

    return make_one


@pytest.fixture(scope="module")
def backbone(make_folder: Callable[[str], Path]) -> Path:
    return make_folder("xlm-roberta")


def fit_adapters(backbone: Path, *, epochs: int = 1, lora: LoRA | None = None, **options: Any) -> Fitted:  # noqa: ANN401
    """Fit adapters for eight steps an epoch, as the options say."""
    return fit(
        backbone,
        data={"num_samples": 64, "batch_size": 8},
        model={"learning_rate": 1e-2, "lora": lora or LoRA(rank=RANK, alpha=4), **options.pop("model", {})},
        trainer={"max_epochs": epochs, **options.pop("trainer", {})},
        **options,
    )


def logits_of(network: nn.Module) -> Tensor:
    """Compute the logits of a network in evaluation mode."""
    training = network.training
    with torch.no_grad():
        logits: Tensor = network.eval()(input_ids=PIECES).logits
    network.train(training)
    return logits


class Watch(Callback):
    """Notes what has a gradient and what embeds pieces, and what the adapted network says when its training ends."""

    def __init__(self) -> None:
        self.reached: set[str] = set()
        self.embedding: type = object
        self.logits = torch.empty(0)

    def on_after_backward(self, trainer: Any, pl_module: TokenClassifier) -> None:  # noqa: ANN401 - any trainer
        self.embedding = type(pl_module.network.model.get_input_embeddings())
        self.reached |= {name for name, weight in pl_module.network.model.named_parameters() if weight.grad is not None}

    def on_train_end(self, trainer: Any, pl_module: TokenClassifier) -> None:  # noqa: ANN401 - any trainer
        self.logits = logits_of(pl_module.network.model)


@pytest.mark.parametrize("family", [*ADAPTED])
def test_adapters(make_folder: Callable[[str], Path], tmp_path: Path, family: str) -> None:
    """Adapters and head alone are trained; merged, the network says the same and differs by the adapters' rank."""
    backbone = make_folder(family)
    before = AutoModelForTokenClassification.from_pretrained(backbone)
    watch = Watch()
    fitted = fit_adapters(backbone, callbacks=[watch])
    layers = [name for name, _ in before.named_modules() if name.endswith(ADAPTED[family])]
    assert len(layers) == 2 * before.config.num_hidden_layers
    matrices = {f"{layer}.lora_{matrix}.default.weight" for layer in layers for matrix in "AB"}
    assert watch.reached == {*matrices, "classifier.weight", "classifier.bias"}
    assert watch.embedding is nn.Embedding

    torch.testing.assert_close(logits_of(fitted.model.network.model), watch.logits, atol=1e-5, rtol=0)
    assert not torch.allclose(watch.logits, logits_of(before), atol=0.1)
    changed = {*(f"{layer}.weight" for layer in layers), "classifier.weight", "classifier.bias"}
    old = dict(before.named_parameters())
    assert fitted.weights.keys() == old.keys()
    assert {name for name, weight in fitted.weights.items() if not torch.equal(weight, old[name])} == changed
    for layer in layers:
        difference = fitted.weights[f"{layer}.weight"] - old[f"{layer}.weight"]
        assert torch.linalg.matrix_rank(difference, rtol=1e-4) == RANK


def test_new_adapters_change_nothing(backbone: Path) -> None:
    """A network that is loaded with adapters says what it says without them."""
    bare, adapted = (TokenClassifier(backbone=str(backbone), lora=lora) for lora in (None, LoRA()))
    for model in (bare, adapted):
        model.configure_model()
    assert any("lora" in name for name, _ in adapted.network.model.named_parameters())
    assert torch.equal(logits_of(bare.network.model), logits_of(adapted.network.model))


def test_options(backbone: Path) -> None:
    """Targets, rank, scale and dropout are those asked for."""
    model = TokenClassifier(backbone=str(backbone), lora=LoRA(rank=3, alpha=12, dropout=0.25, targets=["dense"]))
    model.configure_model()
    layers = [module for _, module in model.network.model.named_modules() if hasattr(module, "lora_A")]
    assert len(layers) == 3 * model.network.model.config.num_hidden_layers
    for layer in layers:
        assert layer.lora_A["default"].weight.shape[0] == 3
        assert layer.scaling["default"] == 4
        assert layer.lora_dropout["default"].p == 0.25


def test_plain_transformers(backbone: Path, tmp_path: Path) -> None:
    """The model folder is an ordinary one: transformers loads it where there is no peft, and it says the same."""
    fitted = fit_adapters(backbone)
    write_model(tmp_path / "model", fitted.model, NOTHING_SEEN)
    assert not [path for path in (tmp_path / "model").iterdir() if "adapter" in path.name]
    assert (
        load_file(tmp_path / "model" / "model.safetensors").keys() == load_file(backbone / "model.safetensors").keys()
    )
    program = f"""
import sys
sys.modules["peft"] = None
import torch
from transformers import AutoModelForTokenClassification
network = AutoModelForTokenClassification.from_pretrained({str(tmp_path / "model")!r}).eval()
torch.save(network(input_ids=torch.arange(4, 68).view(4, 16)).logits.detach(), {str(tmp_path / "logits")!r})
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    torch.testing.assert_close(
        torch.load(tmp_path / "logits"), logits_of(fitted.model.network.model), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("step", [4, 8])
def test_resuming(backbone: Path, tmp_path: Path, step: int) -> None:
    """A fit that goes on from an epoch's end, or from within, ends as the uninterrupted one, to the bit."""
    each = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=4, save_top_k=-1)
    whole = fit_adapters(backbone, epochs=2, callbacks=[each], trainer={"enable_checkpointing": True})
    resumed = fit_adapters(backbone, epochs=2, ckpt_path=tmp_path / f"step={step}.ckpt")
    assert len(resumed.record.losses) == 16 - step
    assert resumed.record.losses == whole.record.losses[step:]
    assert [name for name in whole.weights if not torch.equal(whole.weights[name], resumed.weights[name])] == []


def test_checkpoint(backbone: Path, tmp_path: Path) -> None:
    """A checkpoint holds the adapters and their options as primitives, can be tested, and fits no others."""
    keep = ModelCheckpoint(tmp_path, filename="it")
    fitted = fit_adapters(backbone, callbacks=[keep], trainer={"enable_checkpointing": True})
    checkpoint = torch.load(tmp_path / "it.ckpt", weights_only=True)
    settings = {"rank": RANK, "alpha": 4, "dropout": 0.0, "targets": None}
    assert checkpoint["hyper_parameters"]["lora"] == settings
    assert any("lora_A" in name for name in checkpoint["state_dict"])

    tested = []
    for model, path in (
        (fitted.model, None),
        (TokenClassifier(backbone=str(backbone), lora=LoRA(rank=RANK, alpha=4)), tmp_path / "it.ckpt"),
    ):
        tested.append(run_test(quiet_trainer(), model, fitted.data, ckpt_path=path)[0].scores)
    assert tested[0] == tested[1]

    for other in (LoRA(rank=RANK, alpha=8), None):
        with pytest.raises(UserError, match=r"is not that of ckpt_path, which restores \{'rank': 2, 'alpha': 4"):
            fit_adapters(backbone, model={"lora": other}, ckpt_path=tmp_path / "it.ckpt")


def test_fitting_again(backbone: Path) -> None:
    """A model that is fitted again gets new adapters on its merged weights."""
    fitted = fit_adapters(backbone)
    merged = {name: weight.clone() for name, weight in fitted.weights.items()}
    watch, record = Watch(), Record()
    data = PanxDataModule(source="sample", languages=["tr"], num_samples=32, backbone=str(backbone))
    quiet_trainer(max_epochs=1, callbacks=[watch, record]).fit(fitted.model, datamodule=data)
    assert any("lora_B" in name for name in watch.reached)
    name = "roberta.encoder.layer.0.attention.self.query.weight"
    assert torch.linalg.matrix_rank(fitted.weights[name] - merged[name], rtol=1e-4) == RANK


def test_gradient_checkpointing(backbone: Path) -> None:
    """Adapters get the same gradients where layers are computed twice, though nothing below them is trained."""
    runs = [fit_adapters(backbone, model={"gradient_checkpointing": twice}) for twice in (False, True)]
    assert runs[0].record.norms == runs[1].record.norms
    assert [name for name in runs[0].weights if not torch.equal(runs[0].weights[name], runs[1].weights[name])] == []


def command(name: str, backbone: Path, root: Path, *options: str) -> list[str]:
    return [
        *(name, "--data.source=sample", f"--model.backbone={backbone}", f"--trainer.default_root_dir={root}"),
        *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--model.learning_rate=5e-3"),
        *("--data.batch_size=16", *options),
    ]


def test_transfer(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each stage trains new adapters on merged weights; stopped amid one, a run ends as if it was not."""
    options = ["--model.lora={rank: 2, dropout: 0.2}", "--sizes=[40]", "--trainer.max_epochs=2", "--select=best"]
    options += ["--keep=all", "--source_samples=48"]
    main(command("transfer", backbone, tmp_path / "whole", *options))

    steps = 0

    def step(self: TokenClassifier, batch: Batch) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 8:
            signal.raise_signal(signal.SIGTERM)
        return work(self, batch)

    work = TokenClassifier.training_step
    monkeypatch.setattr(TokenClassifier, "training_step", step)
    with pytest.raises(SystemExit, match="143"):
        main(command("transfer", backbone, tmp_path / "cut", *options))
    main(command("transfer", backbone, tmp_path / "cut", *options))
    assert "source-en-seed42: complete" in capsys.readouterr().out

    stages = ["source-en-seed42", "progressive-tr-40-seed42"]
    weights = [load_file(backbone / "model.safetensors")]
    for stage in stages:
        folders = [tmp_path / run / "stages" / stage for run in ("whole", "cut")]
        results = [read_result(folder) or pytest.fail(stage) for folder in folders]
        assert results[0]["evaluations"] == results[1]["evaluations"]
        assert results[0]["definition"]["options"]["model.lora"] == {
            "rank": 2,
            "alpha": 8,
            "dropout": 0.2,
            "targets": None,
        }
        kept = [load_file(folder / "model" / "model.safetensors") for folder in folders]
        assert [name for name in kept[0] if not torch.equal(kept[0][name], kept[1][name])] == []
        weights.append(kept[0])
    for before, after in pairwise(weights):
        changed = {name for name in after if not torch.equal(before[name], after[name])}
        assert {name.rpartition(".self.")[2] for name in changed if "encoder" in name} == {
            "query.weight",
            "value.weight",
        }
        assert not [name for name in changed if "embeddings" in name]
        for name in changed:
            if "encoder" in name:
                assert torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-4) == 2


def test_options_of_the_command(backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Adapters are given by option or by file, each over what was before, and ``config.yaml`` runs again."""
    overlay = tmp_path / "lora.yaml"
    overlay.write_text("model:\n  lora:\n    rank: 3\n    targets: [dense, query]\n", encoding="utf-8")
    few = ["--data.num_samples=16", "--trainer.max_epochs=1", "--model.lora.alpha=6"]
    main(command("fit", backbone, tmp_path / "first", f"--config={overlay}", *few))
    config = tmp_path / "first" / "config.yaml"
    main(["fit", f"--config={config}", f"--trainer.default_root_dir={tmp_path / 'again'}"])
    first, again = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("first", "again"))
    assert [name for name in first if not torch.equal(first[name], again[name])] == []
    before = load_file(backbone / "model.safetensors")
    name = "roberta.encoder.layer.1.output.dense.weight"
    assert torch.linalg.matrix_rank(first[name] - before[name], rtol=1e-4) == 3
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--model.lora.help"])
    assert "Rank of each adapter" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--model.lora.rank=0"], "model.lora.rank=0 is not positive"),
        (["--model.lora.alpha=0"], "model.lora.alpha=0 is not positive"),
        (["--model.lora.dropout=1"], "model.lora.dropout=1.0 is not in [0, 1)"),
        (["--model.lora.targets=[]"], "model.lora.targets=[] is empty; use layers"),
        (
            ["--model.lora.targets=[query,keys]"],
            "'keys' is not a linear layer of the encoder (xlm-roberta); use some of",
        ),
        (["--model.lora.rank=many"], "many"),
        (["--model.lora.range=3"], "range"),
        (["--model.lora=true"], "model.lora"),
    ],
)
@pytest.mark.parametrize("name", ["fit", "test", "transfer"])
def test_wrong_values(
    backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, options: list[str], expected: str
) -> None:
    """A wrong value is one line that holds it, with exit code 2, and nothing is written.

    A test, which trains no adapters, looks for their layers when it has begun.
    """
    sizes = ["--sizes=[10]"] if name == "transfer" else []
    with pytest.raises(SystemExit, match="2"):
        main(command(name, backbone, tmp_path / "run", *sizes, *options))
    line = capsys.readouterr().err.strip().split("\n")[-1]
    assert line.startswith("xner: error: ")
    assert expected in line
    assert ("keys" in options[0] and name == "test") or not (tmp_path / "run").exists()


def test_without_peft(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where peft is not installed, a line says how to install it, and nothing is written."""
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(SystemExit, match="2"):
        main(command("fit", backbone, tmp_path / "run", "--model.lora.rank=4"))
    assert capsys.readouterr().err == "xner: error: model.lora needs peft; install it with pip install '.[lora]'\n"
    assert not (tmp_path / "run").exists()
