import gc
from pathlib import Path
from typing import Any

import pytest

import xner.cli.building
from tests.cli.fits import CALLBACKS
from tests.commands import Run, assert_one_line, results
from tests.transfer.test_restart import transfer
from xner.cli.main import main
from xner.model.classifier import TokenClassifier


def test_one_network_at_a_time(tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a stage begins, the network of the one before has left memory, and with it its optimizer."""
    alive: list[int] = []
    fit = xner.cli.building.Trainer.fit
    gc.collect()
    before = {id(each) for each in gc.get_objects() if type(each) is TokenClassifier}

    def counting(*args: Any, **options: Any) -> None:  # noqa: ANN401 - handed on
        models = [each for each in gc.get_objects() if type(each) is TokenClassifier and id(each) not in before]
        alive.append(sum(hasattr(each, "network") for each in models))
        fit(*args, **options)

    monkeypatch.setattr(xner.cli.building.Trainer, "fit", counting)
    main([*transfer(tmp_path, tiny_backbone), "--sizes=[10,20]", "--trainer.max_epochs=1"])
    assert alive == [0, 0, 0]


def test_other_sizes_in_the_folder(run: Run, tiny_backbone: str, tmp_path: Path) -> None:
    """``results.csv`` keeps stages of an earlier command; those that would bend the curve of this one are refused."""
    command = [*transfer(tmp_path / "run", tiny_backbone, "--trainer.max_epochs=1", "--keep=all"), "--sizes=[20]"]
    assert run(*command).code == 0
    before = results(tmp_path / "run")
    bent = ("holds stages of other sizes", "progressive-tr-40-seed42 starts from source-en-seed42")
    for more in ([], ["--plan"]):
        assert_one_line(run(*command[:-1], "--sizes=[40]", *more), 2, *bent)
    assert results(tmp_path / "run") == before
    assert run(*command[:-1], "--sizes=[20,40]").code == 0
    whole = results(tmp_path / "run")
    assert run(*command).code == 0
    assert {row["stage"] for row in results(tmp_path / "run")} == {row["stage"] for row in whole}
    assert run(*command, "--regimes=[scratch]").code == 0
    assert {row["stage"] for row in results(tmp_path / "run")} == {
        *(row["stage"] for row in whole),
        "scratch-tr-20-seed42",
    }
    # A report of all of them could not be written, which is said before further stages are run.
    counts = tmp_path / "run" / "stages" / "progressive-tr-40-seed42" / "counts.npz"
    counts.unlink()
    for more in (["--plan"], []):
        outcome = run(*command, "--regimes=[independent]", *more)
        assert_one_line(outcome, 1, f"{counts} is missing; delete {counts.parent} to run the stage again")


def test_other_configuration_in_the_folder(run: Run, tiny_backbone: str, tmp_path: Path) -> None:
    """Stages of other seeds share a report, and so must share all options, the source included; weights stay."""
    options = ["--sizes=[20]", "--trainer.max_epochs=1", "--trainer.limit_val_batches=0"]
    command = transfer(tmp_path / "run", tiny_backbone, *options)
    assert run(*command, "--keep=all").code == 0
    before = results(tmp_path / "run")
    for other, told in {
        "--model.learning_rate=1e-3": "model.learning_rate=0.005, not 0.001",
        "--model.freeze=1": "model.freeze=None, not 1",
        "--source_samples=30": "source=[['en', None], ''], not [['en', 30], '']",
        "--adapt_backbone=both": "source=[['en', None], ''], not [['en', None], 'adapted-en+tr']",
    }.items():
        outcome = run(*command, "--seeds=[43]", other)
        assert_one_line(outcome, 2, "-seed42, which would be in the same report, was run with", told)
    outcome = run(*command, "--source=tr", "--target=en")
    assert_one_line(
        outcome, 2, "-seed42, which would be", "was run with source=[['en', None], ''], not [['tr', None], '']"
    )
    assert results(tmp_path / "run") == before
    assert run(*command, "--seeds=[43]").code == 0
    rows = results(tmp_path / "run")
    assert {row["seed"] for row in rows} == {"42", "43"}
    assert sorted((row for row in rows if row["seed"] == "42"), key=str) == sorted(before, key=str)
    assert run(*command, "--license=mit").code == 0
    kept = sorted(path.parent.name for path in (tmp_path / "run" / "stages").glob("*/model"))
    assert kept == ["progressive-tr-20-seed42", "source-en-seed42", "source-en-seed43"]


def test_early_stopping(run: Run, tiny_backbone: str, tmp_path: Path) -> None:
    """A callback of the user's brings no checkpoints of Lightning's own, and none decides by tags for self-training."""
    stop = [f"--trainer.callbacks={CALLBACKS}.EarlyStopping", "--trainer.callbacks.monitor=val/f1"]
    command = transfer(tmp_path / "run", tiny_backbone, "--sizes=[20]", *stop)
    assert run(*command).code == 0
    assert [*(tmp_path / "run").rglob("*.ckpt")] == []
    refused = transfer(tmp_path / "other", tiny_backbone, "--sizes=[20]", "--regimes=[self_training]", *stop)
    assert_one_line(run(*refused), 2, "EarlyStopping monitors 'val/f1', which needs target tags")
    assert not (tmp_path / "other").exists()


def test_folder_of_a_fit(run: Run, tiny_backbone: str, tmp_path: Path) -> None:
    """An experiment does not write over the configuration of a training."""
    (tmp_path / "run" / "model").mkdir(parents=True)
    outcome = run(*transfer(tmp_path / "run", tiny_backbone))
    assert_one_line(outcome, 2, "is the folder of a fit; use another folder")
