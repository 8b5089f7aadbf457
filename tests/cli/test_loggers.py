"""Loggers that a configuration names."""

from pathlib import Path

from tests.cli.fits import (
    logged,
)

# Imported here, because importing it within a test would replace what other tests have patched.
from tests.commands import Run, options


class TestLoggers:
    def test_none(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """Without a logger nothing is logged, and all else is there."""
        assert run("fit", *options(source, tiny_backbone, tmp_path / "run"), "--trainer.logger=false").code == 0
        kept = {path.name for path in (tmp_path / "run").iterdir()}
        assert kept == {".lock", "config.yaml", "model", "checkpoints"}

    def test_named(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """A logger by its name, with options of its own, logs where it is told to, and only there."""
        outcome = run(
            *("fit", *options(source, tiny_backbone, tmp_path / "run"), "--trainer.log_every_n_steps=1"),
            "--trainer.logger=lightning.pytorch.loggers.CSVLogger",
            *(f"--trainer.logger.save_dir={tmp_path / 'elsewhere'}", "--trainer.logger.name=mine"),
        )
        assert outcome.code == 0, outcome
        rows = logged(tmp_path / "elsewhere" / "mine")
        assert [name for row in rows for name in row if name in ("train/loss", "val/f1")] == [
            *("train/loss", "train/loss", "val/f1")
        ]
        assert {path.name for path in (tmp_path / "run").iterdir()} == {".lock", "config.yaml", "model"}
