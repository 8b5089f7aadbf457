import gc
from pathlib import Path
from typing import Any

import pytest

import xner.cli.building
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
    outcome = run(*command[:-1], "--sizes=[40]")
    assert_one_line(outcome, 2, "holds stages of other sizes", "progressive-tr-40-seed42 starts from source-en-seed42")
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


def test_folder_of_a_fit(run: Run, tiny_backbone: str, tmp_path: Path) -> None:
    """An experiment does not write over the configuration of a training."""
    (tmp_path / "run" / "model").mkdir(parents=True)
    outcome = run(*transfer(tmp_path / "run", tiny_backbone))
    assert_one_line(outcome, 2, "is the folder of a fit; use another folder")
