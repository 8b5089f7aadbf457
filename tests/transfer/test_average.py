"""Stages that end with averaged weights, undisturbed and killed."""

import signal
from pathlib import Path

import pytest
import torch

from tests.transfer.test_restart import assert_same_run, run, transfer
from xner.cli.main import main
from xner.transfer.resume import ResumeCheckpoint


def test_average_of_epochs(
    tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each stage ends with the average of what its epochs ended with, however often it is stopped."""
    from safetensors.torch import load_file

    saved: dict[str, list[dict[str, torch.Tensor]]] = {}
    save = ResumeCheckpoint.on_train_epoch_end

    def noted(self: ResumeCheckpoint, trainer: object, pl_module: torch.nn.Module) -> None:
        save(self, trainer, pl_module)
        saved.setdefault(self.last.parts[-3], []).append({**pl_module.state_dict()})

    monkeypatch.setattr(ResumeCheckpoint, "on_train_epoch_end", noted)
    options = ("--sizes=[40]", "--select=average", "--keep=all", "--model.weight_decay=0.5")
    main(transfer(tmp_path / "whole", tiny_backbone, *options))
    assert saved.keys() == {"source-en-seed42", "progressive-tr-40-seed42"}
    for stage, epochs in saved.items():
        found = load_file(tmp_path / "whole" / "stages" / stage / "model" / "model.safetensors")
        assert len(epochs) == 2
        for name, value in found.items():
            each = torch.stack([state[f"network.model.{name}"].double() for state in epochs])
            torch.testing.assert_close(value.double(), each.mean(dim=0), rtol=6e-8, atol=0)
        assert any(not torch.equal(value, epochs[-1][f"network.model.{name}"]) for name, value in found.items())

    # English has 600 sentences, so an epoch has 19 steps.
    command = transfer(tmp_path / "cut", tiny_backbone, *options)
    assert run(("step", 29, signal.SIGTERM), command)[0] == 143
    assert run(("model", 1, signal.SIGKILL), command)[0] == -signal.SIGKILL
    assert run(("part of last.ckpt", 2, signal.SIGKILL), command)[0] == -signal.SIGKILL
    main(command)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    capsys.readouterr()
