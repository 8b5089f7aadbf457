import gc
from pathlib import Path
from typing import Any

import pytest

import xner.cli.lightning
from tests.transfer.test_restart import transfer
from xner.cli.main import main
from xner.model.classifier import TokenClassifier


def test_one_network_at_a_time(tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a stage begins, the network of the one before has left memory, and with it its optimizer."""
    alive: list[int] = []
    fit = xner.cli.lightning.Trainer.fit
    gc.collect()
    before = {id(each) for each in gc.get_objects() if type(each) is TokenClassifier}

    def counting(*args: Any, **options: Any) -> None:  # noqa: ANN401 - handed on
        models = [each for each in gc.get_objects() if type(each) is TokenClassifier and id(each) not in before]
        alive.append(sum(hasattr(each, "network") for each in models))
        fit(*args, **options)

    monkeypatch.setattr(xner.cli.lightning.Trainer, "fit", counting)
    main([*transfer(tmp_path, tiny_backbone), "--sizes=[10,20]", "--trainer.max_epochs=1"])
    assert alive == [0, 0, 0]
