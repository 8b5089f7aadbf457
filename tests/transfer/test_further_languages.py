"""A command with further languages tests complete stages on them, with the weights that were kept."""

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

import xner.cli.building
from tests.commands import Run, assert_one_line, results
from tests.sources import write_source
from tests.transfer.test_restart import transfer
from xner.data.sources import SAMPLE

ALL = "--data.test_languages=[en,tr,de]"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, and German beside it."""
    source = tmp_path_factory.mktemp("further") / "source"
    shutil.copytree(SAMPLE, source)
    return write_source(source, {"train": 80, "validation": 40, "test": 40}, languages=["de"])


def command(root: Path, backbone: str, source: Path, *options: str) -> list[str]:
    """A short experiment."""
    return transfer(root, backbone, f"--data.source={source}", "--sizes=[20]", "--trainer.max_epochs=1", *options)


def rows_of(root: Path) -> list[dict[str, str]]:
    """The rows of a run in an order that does not tell when each was added."""
    return sorted(results(root), key=lambda row: (row["stage"], row["eval_language"]))


def test_same_as_at_once(
    run: Run, tiny_backbone: str, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Languages that are added later have the scores that they have at once; nothing is trained again."""
    once, later = (command(tmp_path / name, tiny_backbone, three, "--keep=all") for name in ("once", "later"))
    soup = ["--seeds=[1,2]", "--soup=true"]
    assert run(*once, *soup, ALL).code == 0
    assert run(*later, *soup).code == 0
    models = {path: path.read_bytes() for path in sorted((tmp_path / "later").glob("stages/*/model/*.safetensors"))}
    assert len(models) == 12

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a complete stage was trained again")

    monkeypatch.setattr(xner.cli.building.Trainer, "fit", refuse)
    plan = run(*later, *soup, ALL, "--plan").out.splitlines()[2:]
    assert len(plan) == 6
    assert all(line.endswith(" complete, to be tested on de") for line in plan)
    outcome = run(*later, *soup, ALL)
    assert outcome.code == 0
    assert "progressive-tr-20-soup: is tested on de" in outcome.out
    assert rows_of(tmp_path / "later") == rows_of(tmp_path / "once")
    assert {path: path.read_bytes() for path in models} == models
    card = (tmp_path / "later" / "stages" / "source-en-seed1" / "model" / "README.md").read_text(encoding="utf-8")
    assert "- de\n" in card
    # With fewer languages again, all scores stay, and so does the configuration of each command.
    assert run(*later, *soup).code == 0
    assert rows_of(tmp_path / "later") == rows_of(tmp_path / "once")
    assert run(*later, *soup).code == 0
    moved = tmp_path / "a run that was moved to a folder whose name YAML folds"
    (tmp_path / "later").rename(moved)
    assert run(*command(moved, tiny_backbone, three, "--keep=all"), *soup).code == 0
    configs = [yaml.safe_load(path.read_bytes()) for path in sorted(moved.glob("config*.yaml"))]
    assert [each["data"]["test_languages"] for each in configs] == [None, ["en", "tr", "de"], None]
    assert configs[-1]["trainer"]["default_root_dir"] == str(moved)
    page = (moved / "report.html").read_text(encoding="utf-8")
    assert re.findall("<summary>(config.*?)</summary>", page) == ["config-1.yaml", "config-2.yaml", "config.yaml"]
    assert "config-" not in (tmp_path / "once" / "report.html").read_text(encoding="utf-8")


def test_another_target(run: Run, tiny_backbone: str, three: Path, tmp_path: Path) -> None:
    """A second target starts from the complete source stage, whose zero-shot score is added."""
    once, later = (command(tmp_path / name, tiny_backbone, three) for name in ("once", "later"))
    assert run(*once, "--target=[tr,de]").code == 0
    assert run(*later).code == 0
    source = tmp_path / "later" / "stages" / "source-en-seed42" / "model" / "model.safetensors"
    before = source.stat().st_mtime_ns
    assert run(*later, "--target=de").code == 0
    assert source.stat().st_mtime_ns == before
    expected = [
        row for row in rows_of(tmp_path / "once")
        # Neither target was there when the other one's stage was tested.
        if row["stage"].startswith("source") or row["eval_language"] in ("en", row["train_languages"])
    ]  # fmt: skip
    assert rows_of(tmp_path / "later") == expected


def test_weights_not_kept(run: Run, tiny_backbone: str, three: Path, tmp_path: Path) -> None:
    """A stage whose weights are gone cannot be tested, which a line says before anything is written."""
    later = command(tmp_path / "run", tiny_backbone, three)
    assert run(*later).code == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.name != ".lock"}
    outcome = run(*later, ALL)
    told = "de is to be tested with stages whose weights were not kept (progressive-tr-20-seed42); use another"
    assert_one_line(outcome, 1, told, "--keep all")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.name != ".lock"} == before


def test_stopped_before_the_card(run: Run, tiny_backbone: str, three: Path, tmp_path: Path) -> None:
    """A card that is older than the scores is written again, and a lost file of counts ends before any test."""
    later = command(tmp_path / "run", tiny_backbone, three, "--keep=all", "--trainer.logger=true")
    assert run(*later).code == 0
    stage = tmp_path / "run" / "stages" / "source-en-seed42"
    card = stage / "model" / "README.md"
    old = card.read_bytes()
    kept = (stage / "counts.npz").rename(tmp_path / "counts.npz")
    outcome = run(*later, ALL)
    assert outcome.code == 1
    assert f"{stage / 'counts.npz'} is missing" in outcome.err
    assert outcome.err.endswith(f"delete {stage} to run the stage again\n")
    kept.rename(stage / "counts.npz")
    assert run(*later, ALL).code == 0
    new = card.read_bytes()
    assert new != old
    assert [path.name for path in (stage / "logs").iterdir()] == ["version_0"]
    card.write_bytes(old)
    os.utime(card, ns=(0, 0))
    assert run(*later, ALL).code == 0
    assert card.read_bytes() == new


def test_other_test_sentences(run: Run, tiny_backbone: str, three: Path, tmp_path: Path) -> None:
    """A language whose test split has changed is not tested again, nor taken for what it was."""
    source = Path(shutil.copytree(three, tmp_path / "source"))
    later = command(tmp_path / "run", tiny_backbone, source, "--keep=all", ALL)
    assert run(*later).code == 0
    test = source / "de" / "test.tsv"
    test.write_text(test.read_text(encoding="utf-8").replace("\tO\n", "\tB-LOC\n", 1), encoding="utf-8")
    assert_one_line(run(*later), 2, "was run with sentences of de/test=")


def test_left_out_of_self_training(run: Run, tiny_backbone: str, three: Path, tmp_path: Path) -> None:
    """Where test sentences are left out of the training, further ones would make it another training."""
    student = ["--regimes=[self_training]", "--keep=all", "--self_training.confidence=0"]
    later = command(tmp_path / "run", tiny_backbone, three, *student)
    assert run(*later).code == 0
    told = (
        "-seed42 was run without sentences of de/test, which self_training.leave_out_test=true leaves out; use another"
    )
    assert_one_line(run(*later, ALL), 2, told)
    other = command(tmp_path / "other", tiny_backbone, three, *student, "--self_training.leave_out_test=false")
    assert run(*other).code == 0
    assert run(*other, ALL).code == 0
    assert {row["eval_language"] for row in results(tmp_path / "other")} == {"en", "tr", "de"}
