"""The public Python API."""

import ast
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

import xner
from tests.model.tiny import quiet_trainer
from xner import PanxDataModule, SpanF1, Tagger, TokenClassifier, plan, run_test
from xner.errors import UserError
from xner.tags import IGNORE

PACKAGE = Path(xner.__file__).parent


def test_three_phases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The three phases run with Lightning's own Trainer: fine-tune, evaluate zero-shot, adapt with target sentences."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "42")
    pl.seed_everything(42, verbose=False)
    english = PanxDataModule(source="sample", backbone="sample", batch_size=16, test_languages=["en", "tr"])
    model = TokenClassifier(backbone="sample", learning_rate=3e-3)
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(model, datamodule=english)
    zero_shot = run_test(trainer, model, english)
    assert [0 < tested.scores["f1"] < 1 for tested in zero_shot] == [True, True]
    turkish = PanxDataModule(source="sample", backbone="sample", languages=["tr"], num_samples=400, batch_size=16)
    adapting = quiet_trainer(max_epochs=2)
    adapting.fit(model, datamodule=turkish)
    [adapted] = run_test(adapting, model, turkish)
    assert adapted.scores["f1"] > zero_shot[1].scores["f1"]
    logged = adapting.callback_metrics["test/f1/tr"]
    assert logged == pytest.approx(adapted.scores["f1"], abs=1e-6)
    model.network.save(tmp_path)
    assert Tagger.from_pretrained(str(tmp_path))("Ankara'da").words
    # The same labels have other numbers there.
    other = PanxDataModule(source="sample", backbone="sample", languages=["tr"], types=["LOC", "ORG", "PER"])
    for command in (adapting.fit, adapting.validate, adapting.test):
        with pytest.raises(UserError, match="types LOC, ORG, PER, but the model was made for PER, ORG, LOC, in this"):
            command(model, datamodule=other)


@pytest.mark.parametrize("options", [{}, {"compact_vocabulary": False}, {"lora": xner.LoRA(rank=2)}])
def test_load_from_checkpoint(tmp_path: Path, options: dict[str, object]) -> None:
    """A checkpoint is loaded without a trainer, with the scores of the model that was trained."""
    data = PanxDataModule(source="sample", backbone="sample", num_samples=60)
    model = TokenClassifier(backbone="sample", learning_rate=3e-3, **options)
    keep = ModelCheckpoint(tmp_path, filename="it")
    quiet_trainer(max_epochs=1, callbacks=[keep], enable_checkpointing=True).fit(model, datamodule=data)
    loaded = TokenClassifier.load_from_checkpoint(tmp_path / "it.ckpt")
    assert loaded.hparams == model.hparams
    scores = [run_test(quiet_trainer(), each, data)[0].scores for each in (model, loaded)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


class WeightedClassifier(TokenClassifier):
    """A classifier with a loss and a head of its own, as CONTRIBUTING shows."""

    def make_network(self, tag_set: xner.TagSet | None) -> xner.Network:
        """Put a layer under the head."""
        network = super().make_network(tag_set)
        hidden = network.model.config.hidden_size
        network.model.classifier = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), network.model.classifier)
        return network

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Weigh entities twice."""
        weight = torch.tensor([1.0, 2, 2, 2, 2, 2, 2], device=logits.device)
        return nn.functional.cross_entropy(logits, labels, weight, ignore_index=IGNORE, reduction="sum")


def test_subclass() -> None:
    """A subclass replaces head and loss, and both are trained."""
    data = PanxDataModule(source="sample", backbone="sample", num_samples=40)
    model = WeightedClassifier(backbone="sample", learning_rate=1e-3)
    trainer = quiet_trainer(max_epochs=1)
    before = model.make_network(xner.PANX).model.classifier[0].weight.detach().clone()
    trainer.fit(model, datamodule=data)
    after = model.network.model.classifier[0].weight
    assert not torch.equal(before, after)
    assert 0 <= trainer.callback_metrics["val/f1"] <= 1


def test_metric_takes_tags() -> None:
    """SpanF1 takes lists of tags as seqeval does, and refuses what does not match."""
    metric = SpanF1(xner.PANX)
    metric.update([["B-PER", "O"], ["B-LOC"]], [["B-PER", "O"], ["B-ORG"]])
    assert metric.compute()["f1"] == 0.5
    with pytest.raises(ValueError, match="'B-CAR' is unknown"):
        metric.update([["B-CAR"]], [["O"]])
    with pytest.raises(ValueError, match="tags of the same words"):
        metric.update([["O"]], [["O", "O"]])


def test_plan() -> None:
    """The plan of an experiment needs nothing else."""
    assert len(plan(source="en", target="tr")) == 8


def test_names() -> None:
    """Every public name can be imported, and an unknown one is an AttributeError."""
    for name in xner.__all__:
        assert getattr(xner, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = xner.nothing
    assert {*xner.__all__} <= {*dir(xner)}


def test_import_is_light() -> None:
    """``import xner`` imports none of the heavy packages."""
    script = "import sys, xner; print([name for name in ('torch', 'lightning', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def imports() -> dict[str, set[str]]:
    """Return the modules of the package that each of its modules imports, for types as well."""
    paths = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    names = {path: name.removesuffix(".__init__") for path, name in paths.items()}
    found: dict[str, set[str]] = {}
    for path, name in names.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("xner"):
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    found[name].add(whole if whole in names.values() else node.module)
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names if alias.name.startswith("xner")}
        found[name].discard(name)
    return found


def test_no_import_circles() -> None:
    """No module imports itself through others, not even for its types; the public API alone imports them all."""
    left = {name: set(targets) for name, targets in imports().items() if name != "xner"}
    while free := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}


LAYERS = (
    *("errors words", "tags typed", "batch files", "backbone", "data", "model", "tagger lineage"),
    *("transfer export spacy serve", "report", "dashboard", "cli"),
)
"""Packages and modules from the bottom up; ``data`` and ``model`` do not know each other."""


def test_imports_run_one_way() -> None:
    """Packages import those below them only; data and model do not know each other, and nothing but cli knows cli."""
    rank = {name: layer for layer, names in enumerate(LAYERS) for name in names.split()}
    wrong = []
    for name, targets in imports().items():
        for target in targets:
            one, other = (each.split(".")[1] if "." in each else "" for each in (name, target))
            upward = one and other and one != other and rank[other] >= rank[one]
            if upward or (one, other) == ("model", "data"):
                wrong.append(f"{name} -> {target}")
    assert wrong == []


def test_size() -> None:
    """The package stays as small as it is meant to be: few modules, and none in its root but those of the design."""
    modules = [path for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    assert len(modules) <= 105
    root = "__init__ batch dashboard errors files spacy tagger tags typed words".split()
    assert sorted(path.stem for path in PACKAGE.glob("*.py")) == root
