"""A model of the user's own, given as ``--model module.Class``."""

import importlib
import itertools
import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from tests.commands import Run, assert_one_line, options
from xner import TagSet

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


@pytest.fixture
def crf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The conditional random field of CONTRIBUTING, in a module of the working directory."""
    text = (Path(__file__).resolve().parents[2] / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [example] = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class CRF(" in block]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "crf_model.py").write_text(example, encoding="utf-8")
    return "crf_model.CRFClassifier"


def test_crf_loss(crf: str) -> None:
    """The loss is the negative log-likelihood over all sequences of each sentence, and so is its gradient."""
    torch.manual_seed(0)
    head = importlib.import_module(crf.partition(".")[0]).CRF(TagSet(("A",)))
    head.transitions.data.normal_()
    lengths = [2, 4, 1, 3]
    logits, labels = torch.randn(10, 3, requires_grad=True), torch.randint(3, (10,))

    def score(own: Tensor, sequence: tuple[int, ...]) -> Tensor:
        steps = enumerate(itertools.pairwise((0, *sequence)))
        return torch.stack([own[at, label] + head.transitions[before, label] for at, (before, label) in steps]).sum()

    expected = torch.zeros(())
    for own, gold in zip(logits.split(lengths), labels.split(lengths), strict=True):
        every = torch.stack([score(own, each) for each in itertools.product(range(3), repeat=len(own))])
        expected = expected + every.logsumexp(dim=0) - score(own, tuple(gold.tolist()))
    found = head.loss(logits, labels, torch.arange(4).repeat_interleave(torch.tensor(lengths)))
    torch.testing.assert_close(found, expected)
    weights = (logits, head.transitions)
    torch.testing.assert_close(torch.autograd.grad(found, weights), torch.autograd.grad(expected, weights))
    none = torch.zeros(0, dtype=torch.long)
    assert head.loss(logits[:0], none, none) == 0


def test_crf(run: Run, tmp_path: Path, crf: str) -> None:
    """The conditional random field of CONTRIBUTING is trained, kept in the model folder, and predicts legal tags."""
    folder = tmp_path / "run" / "model"
    own = [f"--model={crf}", "--model.learning_rate=3e-3"]
    fitted = run("fit", *options("sample", "sample", tmp_path / "run"), *own, "--data.batch_size=8")
    assert fitted.code == 0, fitted.err
    learned = load_file(folder / "model.safetensors")["crf.transitions"]
    assert learned.abs().max() > 0.01
    model = importlib.import_module(crf.partition(".")[0]).CRFClassifier(backbone=str(folder))
    assert torch.equal(model.make_network(None).decoder.transitions, learned)
    tested = run("test", *options("sample", folder, tmp_path / "test"), *own)
    assert tested.code == 0, tested.err
    scores = re.search(r"en/test: F1 (\S+), strict (\S+)", tested.out)
    assert scores
    assert scores[1] == scores[2] > "0.1"


@pytest.mark.slow
def test_soup_of_crf(run: Run, tmp_path: Path, crf: str) -> None:
    """The weights that only the user's own class has are averaged over the seeds as well."""
    own = [f"--model={crf}", "--model.learning_rate=3e-3", "--trainer.max_epochs=1", "--data.batch_size=8"]
    soup = ["--sizes=[20]", "--seeds=[1,2]", "--soup=true", "--keep=all"]
    outcome = run("transfer", *options("sample", "sample", tmp_path / "run"), *own, *soup)
    assert outcome.code == 0, outcome.err
    folders = [tmp_path / "run" / "stages" / f"source-en-{end}" / "model" for end in ("seed1", "seed2", "soup")]
    first, second, mean = (load_file(each / "model.safetensors")["crf.transitions"] for each in folders)
    assert not torch.equal(first, second)
    torch.testing.assert_close(mean, (first + second) / 2)


def test_head_of_another_shape(
    run: Run, source: Path, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRIBUTING's own head stays trained from stage to stage and in a test; other classes refuse it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text = (Path(__file__).parents[2] / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [code] = [each for each in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class MyClassifier" in each]
    (tmp_path / "shaped_head.py").write_text(code, encoding="utf-8")
    model = "--model=shaped_head.MyClassifier"
    flags = [*options(source, tiny_backbone, tmp_path / "run"), "--model.learning_rate=5e-3", "--keep=all"]
    # With such a learning rate, a few-shot stage that starts from the source stage has its scores.
    assert run("transfer", *flags, model, "--sizes=[10]", "--few_shot.learning_rate=1e-9").code == 0
    stages = [tmp_path / "run" / "stages" / name / "model" for name in ("source-en-seed42", "progressive-tr-10-seed42")]
    before, after = (load_file(each / "model.safetensors") for each in stages)
    assert {"classifier.0.weight", "classifier.2.bias"} <= {*before}
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-6)
    started = options(source, stages[0], tmp_path / "other")
    tested = run("test", *started, model)
    assert tested.code == 0, tested
    for command in ("test", "fit"):
        assert_one_line(run(command, *started), 2, "has a head of another shape (classifier.0.bias, ", "as --model")
    assert_one_line(run("tag", f"--model={stages[0]}", "Ankara"), 2, "has a head of another shape")
