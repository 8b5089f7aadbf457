"""The model cards that fit and transfer write."""

import csv
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import xner.cli.observers
from tests.commands import Run, assert_one_line, options, results
from xner.report.card import Measured, measured_scores
from xner.transfer.result import Result


def scores_of(card: Path) -> dict[tuple[str, str], float]:
    """The scores in the metadata block of a card, by the name of the data set and that of the score."""
    found = ModelCard.load(card).data.eval_results or []
    return {(each.dataset_name, each.metric_type): each.metric_value for each in found}


def logged(root: Path) -> list[dict[str, str]]:
    """The rows of a fit's log that are of a validation."""
    [path] = root.glob("logs/version_*/metrics.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("val/f1")]


def test_fit(run: Run, sample_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card of a fit has the validation scores of its last epoch, and its examples run in the model folder."""
    root = tmp_path / "en"
    learn = ["--model.learning_rate=3e-3", "--data.num_samples=100", "--data.batch_size=8", "--license=apache-2.0"]
    outcome = run("fit", *options("sample", sample_backbone, root), *learn)
    assert outcome.code == 0, outcome
    card = ModelCard.load(root / "model" / "README.md")
    assert (card.data.license, card.data.language, card.data.datasets) == ("apache-2.0", ["en"], None)
    [row] = logged(root)
    for name in ("f1", "precision", "recall", "accuracy"):
        found = scores_of(root / "model" / "README.md")["xner's sample (English)", name]
        assert found == pytest.approx(float(row[f"val/{name}"]), abs=5e-5)
    assert "| xner's sample | English | train | 100 |" in card.text
    assert "| `model.learning_rate` | `0.003` |" in card.text
    assert "| sentences per optimizer step | 8 |" in card.text
    monkeypatch.chdir(root / "model")
    examples = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        exec(example, {})


def test_scores_are_those_of_the_weights(run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
    """The best epoch has its own scores, and weights that no validation was of, or of all sentences, have none."""
    fit = ["fit", "--model.learning_rate=5e-3", "--trainer.max_epochs=3"]
    known = options(source, tiny_backbone, tmp_path / "best")
    assert run(*fit[:1], *known, *fit[1:], "--select=best").code == 0
    best = max(float(row["val/f1"]) for row in logged(tmp_path / "best"))
    card = tmp_path / "best" / "model" / "README.md"
    assert scores_of(card)["source (English)", "f1"] == pytest.approx(best, abs=5e-5)
    assert "was chosen by them" in card.read_text(encoding="utf-8")
    for number, option in enumerate(
        ("--trainer.check_val_every_n_epoch=2", "--trainer.limit_val_batches=1", "--select=average")
    ):
        root = tmp_path / str(number)
        assert run(*fit[:1], *options(source, tiny_backbone, root), *fit[1:], option).code == 0
        assert scores_of(root / "model" / "README.md") == {}, option
        assert "were not scored" in (root / "model" / "README.md").read_text(encoding="utf-8")


def test_license_is_checked_first(run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
    """A license that is not an identifier is refused before anything is written."""
    for command in ("fit", "transfer"):
        outcome = run(command, *options(source, tiny_backbone, tmp_path / "run"), "--license=MIT License")
        assert_one_line(outcome, 2, "license='MIT License' is not an identifier", "use one such as apache-2.0")
    assert not (tmp_path / "run").exists()


def test_transfer(run: Run, tiny_backbone: str, tmp_path: Path) -> None:
    """Every model folder of a transfer has a card with the scores of its stage, and a run goes on to write them."""
    root = tmp_path / "run"
    command = ["transfer", *options("sample", tiny_backbone, root), "--sizes=[10]", "--model.learning_rate=5e-3"]
    command += ["--few_shot.learning_rate=4e-3", "--few_shot.max_epochs=2", "--data.batch_size=16"]
    assert run(*command, "--keep=all").code == 0
    cards = {path.parts[-3]: path for path in root.glob("stages/*/model/README.md")}
    assert (
        {*cards}
        == {"source-en-seed42", "progressive-tr-10-seed42"}
        == {path.name for path in (root / "stages").iterdir()}
    )
    names = {"en": "English", "tr": "Turkish"}
    expected = {
        (row["stage"], f"xner's sample ({names[row['eval_language']]})", metric): round(float(row[metric]), 4)
        for row in results(root)
        for metric in ("f1", "precision", "recall", "accuracy")
    }
    found = {(stage, *key): score for stage, card in cards.items() for key, score in scores_of(card).items()}
    assert found == expected
    texts = {stage: path.read_text(encoding="utf-8") for stage, path in cards.items()}
    assert "| Turkish (zero-shot) | test |" in texts["source-en-seed42"]
    assert "| `model.learning_rate` | `0.005` |" in texts["source-en-seed42"]
    few_shot = texts["progressive-tr-10-seed42"]
    assert "zero-shot" not in few_shot.partition("## Training")[0]
    for line in ("| `model.learning_rate` | `0.004` |", "| `trainer.max_epochs` | `2` |"):
        assert line in few_shot
    assert "| xner's sample | English | train | 600 | of the data | 42 |" in few_shot
    assert "| xner's sample | Turkish | train | 10 | of the data | 42 |" in few_shot

    # Killed before a card was written: the same command writes it, and leaves the others.
    cards["progressive-tr-10-seed42"].unlink()
    before = {stage: path.stat().st_mtime_ns for stage, path in cards.items() if path.is_file()}
    assert run(*command, "--keep=all").code == 0
    assert cards["progressive-tr-10-seed42"].read_text(encoding="utf-8") == few_shot
    assert {stage: cards[stage].stat().st_mtime_ns for stage in before} == before

    # A license is not what defines a result; what an earlier command was to keep stays.
    outcome = run(*command, "--keep=source", "--license=mit")
    assert outcome.code == 0, outcome
    assert outcome.out.count(": complete, F1") == 2
    assert {ModelCard.load(card).data.license for card in cards.values()} == {"mit"}


def test_only_kept_folders_have_cards(
    run: Run, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is deleted, or that has no head for tags, gets no card, since its intervals take time."""
    measured: list[str] = []

    def watch(folder: Path, result: Result) -> list[Measured]:
        measured.append(folder.name)
        return measured_scores(folder, result)

    monkeypatch.setattr(xner.cli.observers, "measured_scores", watch)
    command = ["transfer", *options("sample", tiny_backbone, tmp_path / "run"), "--sizes=[10,20]"]
    assert run(*command, "--adapt_backbone=target", "--pretraining.max_epochs=1").code == 0
    assert measured == ["source-en-seed42"]
    folders = {path.parent.name for path in (tmp_path / "run").glob("stages/*/model")}
    assert folders == {"adapted-tr-seed42", "source-en-seed42"}
    cards = {path.parts[-3] for path in (tmp_path / "run").glob("stages/*/model/README.md")}
    assert cards == {"source-en-seed42"}
