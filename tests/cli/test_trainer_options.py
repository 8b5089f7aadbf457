"""Options of the Trainer do what they do elsewhere, or are refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.fits import (
    LEARN,
    Record,
    assert_equal_weights,
    files,
    keep,
    process,
    weights,
)

# Imported here, because importing it within a test would replace what other tests have patched.
from tests.commands import Run, assert_one_line, options
from tests.weights import assert_close_weights
from xner.data.datamodule import PanxDataModule
from xner.model.classifier import TokenClassifier


class TestTrainer:
    def test_one_device(self, run: Run, source: Path, still_backbone: Path, tmp_path: Path) -> None:
        """One device is the same fit as as many as there are, where that is one."""
        for name, extra in {"auto": [], "one": ["--trainer.devices=1", "--trainer.strategy=auto"]}.items():
            assert run("fit", *options(source, still_backbone, tmp_path / name), *LEARN, *extra).code == 0
        assert_equal_weights(tmp_path / "auto", tmp_path / "one")

    def test_two_devices(self, run: Run, source: Path, still_backbone: Path, tmp_path: Path) -> None:
        """Two processes of half the batch take the steps of one, and one of them writes."""
        flags = [*LEARN, "--trainer.max_epochs=2"]
        alone = run("fit", *options(source, still_backbone, tmp_path / "one"), *flags)
        assert alone.code == 0, alone
        flags += ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=4"]
        done = process("fit", *options(source, still_backbone, tmp_path / "two"), *flags, folder=tmp_path)
        assert done.returncode == 0, done
        assert done.stdout.startswith(f"model folder: {tmp_path / 'two' / 'model'} (last epoch, ")
        assert_close_weights(weights(tmp_path / "one"), weights(tmp_path / "two"), atol=1e-5)

    @pytest.mark.parametrize(
        ("precision", "kept"),
        [("bf16-mixed", torch.float32), ("bf16-true", torch.bfloat16), ("64-true", torch.float64)],
    )
    def test_precision(
        self, run: Run, record: Record, source: Path, still_backbone: Path, tmp_path: Path,
        precision: str, kept: torch.dtype,
    ) -> None:  # fmt: skip
        """Each precision trains; the model folder keeps the weights' own, and tests."""
        flags = [*options(source, still_backbone, tmp_path / "run"), *LEARN, "--trainer.max_epochs=3"]
        outcome = run("fit", *flags, f"--trainer.precision={precision}")
        assert outcome.code == 0, outcome
        assert record.losses[-1] < 0.9 * record.losses[0]
        assert {value.dtype for value in weights(tmp_path / "run").values()} == {kept}
        assert run("test", *options(source, tmp_path / "run" / "model", tmp_path / "test")).code == 0

    @pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
    def test_rows_of_absent_pieces(
        self, run: Run, source: Path, still_backbone: Path, tmp_path: Path, precision: str
    ) -> None:
        """In each type, rows that are not trained decay as they do where all are."""
        flags = [*LEARN, "--model.weight_decay=2", f"--trainer.precision={precision}"]
        for compact in ("true", "false"):
            where = options(source, still_backbone, tmp_path / compact)
            assert run("fit", *where, *flags, f"--model.compact_vocabulary={compact}").code == 0
        data = PanxDataModule(source=str(source), backbone=str(still_backbone))
        start = load_file(still_backbone / "model.safetensors")
        [name] = [name for name in start if name.endswith("word_embeddings.weight")]
        before = start[name]
        absent = torch.ones(len(before), dtype=torch.bool)
        absent[data.used_pieces()] = False
        name = name.partition(".")[2]
        found = [
            next(value for key, value in weights(tmp_path / each).items() if key.endswith(name))[absent]
            for each in ("true", "false")
        ]
        assert absent.sum() > 10
        assert (before[absent] * 0.98).abs().sum() > found[0].float().abs().sum()
        torch.testing.assert_close(*found, rtol=1e-6, atol=0)

    @pytest.mark.parametrize(
        "precisions",
        [
            ("32-true", "bf16-true"),
            ("bf16-true", "32-true"),
            pytest.param(("bf16-true", "bf16-true"), marks=pytest.mark.slow),
            pytest.param(("64-true", "64-true"), marks=pytest.mark.slow),
        ],
    )
    def test_going_on_in_another_precision(
        self, run: Run, source: Path, still_backbone: Path, tmp_path: Path, precisions: tuple[str, str]
    ) -> None:
        """A checkpoint is gone on from in any precision; in its own, as if there had been no end."""
        for epochs, precision in enumerate(precisions, 1):
            flags = [*options(source, still_backbone, tmp_path), *LEARN, f"--trainer.precision={precision}"]
            extra = [f"--trainer.max_epochs={epochs}", "--ckpt_path=last"][:epochs]
            assert run("fit", *flags, *keep(tmp_path), *extra).code == 0
        if len({*precisions}) == 1:
            flags += [f"--trainer.default_root_dir={tmp_path / 'whole'}", "--trainer.max_epochs=2"]
            assert run("fit", *flags).code == 0
            assert_equal_weights(tmp_path, tmp_path / "whole")

    def test_half_precision(self, run: Run, source: Path, still_backbone: Path, tmp_path: Path) -> None:
        """Where rows that are not trained could not be kept exact, the line says what to give."""
        outcome = run("fit", *options(source, still_backbone, tmp_path / "run"), "--trainer.precision=16-true")
        assert_one_line(outcome, 2, "is not exact in torch.float16; use model.compact_vocabulary=false")

    @pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
    def test_clipping_by_value(
        self, run: Run, source: Path, still_backbone: Path, tmp_path: Path, precision: str
    ) -> None:
        """Gradients may be clipped number by number, whatever AdamW's kind."""
        flags = [*options(source, still_backbone, tmp_path / "run"), *LEARN, f"--trainer.precision={precision}"]
        assert run("fit", *flags, "--trainer.gradient_clip_algorithm=value").code == 0

    @pytest.mark.parametrize(
        ("option", "expected"),
        [
            ("devices=0", "'0'"),
            ("devices=some", "these options give no trainer: `devices`"),
            ("devices=-1", "these options give no trainer: `devices`"),
            ("strategy=some", "strategy='some'"),
            ("strategy=ddp_spawn", "trainer.strategy=ddp_spawn shards the model or forks processes; use auto or ddp"),
            ("precision=some", "Given value: some"),
            ("accelerator=tpu", "torch_xla"),
            ("max_epochs=-2", "You passed in -2"),
            ("accumulate_grad_batches=0", "trainer.accumulate_grad_batches=0 is not 1 or more"),
            ("limit_train_batches=1.5", "invalid value 1.5 for limit_train_batches"),
            ("limit_train_batches=0.1", "Try at least `limit_train_batches=0.5`"),
            ("val_check_interval=5", "trainer.val_check_interval=5 is more than the 2 batches of an epoch"),
            ("logger=TensorBoardLogger", "pip install -U 'tensorboard'"),
            ("logger=Some", "Given value: Some"),
        ],
    )
    def test_bad_value(
        self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path, option: str, expected: str
    ) -> None:
        """A value that cannot be had is one line, whoever finds it out, and no model is written."""
        extra = ["--trainer.logger.save_dir=logs"] if "TensorBoard" in option else []
        outcome = run("fit", *options(source, tiny_backbone, tmp_path / "run"), f"--trainer.{option}", *extra)
        assert_one_line(outcome, 2, expected)
        assert not (tmp_path / "run" / "model").exists()

    def test_defects_keep_their_traceback(
        self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A defect keeps its traceback and is not reported as a mistake of the user."""
        for error in (ValueError("a defect"), ZeroDivisionError("a defect")):

            def fail(*args: object, error: Exception = error) -> None:
                raise error

            monkeypatch.setattr(TokenClassifier, "on_fit_start", fail)
            with pytest.raises(type(error), match="a defect"):
                run("fit", *options(source, tiny_backbone, tmp_path / "run"))

    @pytest.mark.parametrize(
        ("command", "step"),
        [("fit", "training"), ("validate", "validation"), ("test", "test"), ("predict", "predict")],
    )
    def test_fast_dev_run(
        self, run: Run, record: Record, source: Path, scored_backbone: Path, tmp_path: Path, command: str, step: str
    ) -> None:
        """A fast run takes one batch of each kind and leaves nothing behind."""
        outcome = run(
            *(command, *options(source, scored_backbone, tmp_path / "run"), "--trainer.fast_dev_run=true"),
            *("--data.batch_size=8", "--data.evaluation_pieces=60"),
        )
        assert outcome.code == 0, outcome
        taken = {name: len(batches) for name, batches in record.batches.items()}
        assert taken == {f"{step}_step": 1, **({"validation_step": 1} if command == "fit" else {})}
        assert not (tmp_path / "run").exists()
        assert files(tmp_path / "cwd") == []

    def test_barebones(self, run: Run, record: Record, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """A bare trainer has no logger, though none was asked for, and trains."""
        outcome = run("fit", *options(source, tiny_backbone, tmp_path / "run"), *LEARN, "--trainer.barebones=true")
        assert outcome.code == 0, outcome
        assert record.steps == 5
        assert {name.partition("/")[0] for name in files(tmp_path / "run")} == {".lock", "config.yaml", "model"}
