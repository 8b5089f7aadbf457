"""A model of the user's own, given as ``--model module.Class``."""

from pathlib import Path

import pytest
import yaml

from tests.commands import Run, assert_one_line, options

MODULE = """
import torch

from xner import TokenClassifier


class Weighted(TokenClassifier):
    \"\"\"Weigh entities.

    Args:
        entity_weight: Weight of the labels of entities.
    \"\"\"

    def __init__(self, *, entity_weight: float = 2.0, **rest) -> None:
        super().__init__(**rest)
        self.entity_weight = entity_weight

    def loss(self, logits, labels):
        weight = torch.tensor([1.0] + [self.entity_weight] * 6)
        return torch.nn.functional.cross_entropy(logits, labels, weight, ignore_index=-100, reduction="sum")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A class in a module of the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_model.py").write_text(MODULE, encoding="utf-8")
    return "own_model.Weighted"


def test_own_class(run: Run, source: Path, tiny_backbone: str, tmp_path: Path, module: str) -> None:
    """A subclass brings its own options, and the run's configuration names it and repeats the run."""
    flags = options(source, tiny_backbone, tmp_path / "run")
    assert run("fit", *flags, f"--model={module}", "--model.entity_weight=3").code == 0
    kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert kept["model"]["class_path"] == module
    assert kept["model"]["init_args"]["entity_weight"] == 3
    again = run(
        "fit", f"--config={tmp_path / 'run' / 'config.yaml'}", f"--trainer.default_root_dir={tmp_path / 'again'}"
    )
    assert again.code == 0
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("run", "again")]
    assert weights[0] == weights[1]
    assert run("fit", *options(source, tiny_backbone, tmp_path / "plain")).code == 0
    assert (tmp_path / "plain" / "model" / "model.safetensors").read_bytes() != weights[0]


def test_part_of_the_definition(run: Run, source: Path, tiny_backbone: str, tmp_path: Path, module: str) -> None:
    """A transfer with another class is another experiment."""
    flags = [*options(source, tiny_backbone, tmp_path / "run"), "--sizes=[10]"]
    assert run("transfer", *flags, "--model", module).code == 0
    assert_one_line(run("transfer", *flags), 2, "was run with model.class_path='own_model.Weighted'")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("nowhere.Class", "cannot be imported"),
        ("xner.SpanF1", "is not a subclass of TokenClassifier"),
        ("x", "model=x "),
    ],
)
def test_mistakes(run: Run, value: str, told: str) -> None:
    """A value that is not a class of the right kind is one line."""
    assert_one_line(run("fit", f"--model={value}"), 2, f"model={value}", told)
