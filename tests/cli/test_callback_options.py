"""Callbacks that a configuration names."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest

# Imported here, because importing it within a test would replace what other tests have patched.
import xner.cli.building
from tests.cli.fits import (
    CALLBACKS,
    Record,
    logged,
    write_yaml,
)
from tests.commands import Run, assert_one_line, options
from xner.cli.building import Trainer

STOP_AND_KEEP = {
    "trainer": {
        "log_every_n_steps": 1,
        "callbacks": [
            {
                "class_path": f"{CALLBACKS}.EarlyStopping",
                # No score gets better by 2: the second epoch is the last.
                "init_args": {"monitor": "val/f1", "mode": "max", "patience": 1, "min_delta": 2},
            },
            {
                "class_path": f"{CALLBACKS}.ModelCheckpoint",
                "init_args": {
                    "monitor": "val/f1",
                    "mode": "max",
                    "save_top_k": 1,
                    "filename": "e{epoch}-f{val/f1:.4f}",
                    "auto_insert_metric_name": False,
                },
            },
            {"class_path": f"{CALLBACKS}.LearningRateMonitor", "init_args": {"logging_interval": "step"}},
        ],
    }
}


class TestCallbacks:
    def test_fit(self, run: Run, record: Record, source: Path, still_backbone: Path, tmp_path: Path) -> None:
        """Early stopping, the best checkpoint and the learning rate's monitor work from a configuration."""
        config = write_yaml(tmp_path / "config.yaml", STOP_AND_KEEP)
        flags = [
            *options(source, still_backbone, tmp_path / "run"),
            "--data.batch_size=8",
            "--model.learning_rate=5e-3",
        ]
        outcome = run("fit", *flags, f"--config={config}", "--trainer.max_epochs=4")
        assert outcome.code == 0, outcome
        assert [(epoch, step) for _, epoch, step in record.validations] == [(0, 5), (1, 10)]
        rows = logged(tmp_path / "run")
        scores = [float(row["val/f1"]) for row in rows if "val/f1" in row]
        best = max(range(2), key=scores.__getitem__)
        [checkpoint] = (tmp_path / "run").rglob("*.ckpt")
        assert checkpoint.name == f"e{best}-f{scores[best]:.4f}.ckpt"
        rates = [float(value) for row in rows for name, value in row.items() if name == "lr-AdamW/pg1"]
        assert rates == pytest.approx([5e-3 * (1 - step / 20) for step in range(10)])

    def test_transfer(
        self, run: Run, record: Record, source: Path, still_backbone: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """Every stage has callbacks of its own: none goes on with what another's has counted."""
        met: list[pl.Callback] = []
        fit = xner.cli.building.Trainer.fit

        def watch(self: Trainer, *args: Any, **keywords: Any) -> None:  # noqa: ANN401 - handed on
            met.extend(self.callbacks)  # type: ignore[attr-defined] # set by Lightning
            fit(self, *args, **keywords)

        monkeypatch.setattr(xner.cli.building.Trainer, "fit", watch)
        config = write_yaml(tmp_path / "config.yaml", STOP_AND_KEEP)
        outcome = run(
            *("transfer", *options(source, still_backbone, tmp_path / "run"), f"--config={config}"),
            *("--sizes=[10,20]", "--trainer.max_epochs=4", "--model.learning_rate=5e-3"),
        )
        assert outcome.code == 0, outcome
        stages = tmp_path / "run" / "stages"
        names = ["source-en-seed42", "progressive-tr-10-seed42", "progressive-tr-20-seed42"]
        assert [(root, epoch) for root, epoch, _ in record.validations] == [
            (stages / name, epoch) for name in names for epoch in (0, 1)
        ]
        for kind in ("EarlyStopping", "ModelCheckpoint", "LearningRateMonitor"):
            assert len({id(each) for each in met if type(each).__name__ == kind}) == 3
        for name in names:
            assert len([*(stages / name).rglob("e*-f*.ckpt")]) == 1

    @pytest.mark.parametrize("kind", ["EarlyStopping", "ModelCheckpoint"])
    def test_score_that_is_not_there(
        self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path, kind: str
    ) -> None:
        """A monitored score that nobody logs is one line with those that are logged."""
        outcome = run(
            *("fit", *options(source, tiny_backbone, tmp_path / "run"), f"--trainer.callbacks={CALLBACKS}.{kind}"),
            *("--trainer.callbacks.monitor=val/f2", "--trainer.callbacks.mode=max"),
        )
        assert_one_line(outcome, 2, "val/f2", "val/f1_strict")
