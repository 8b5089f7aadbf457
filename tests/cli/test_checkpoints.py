"""Checkpoints are resumed from, tested, and refused where they do not fit."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from tests.cli.fits import (
    LEARN,
    Record,
    assert_equal_weights,
    assert_other_weights,
    keep,
)

# Imported here, because importing it within a test would replace what other tests have patched.
from tests.commands import Outcome, Run, assert_one_line, options
from xner.lineage import read_lineage


class TestCheckpoints:
    def test_gives_the_fitted_scores(
        self, run: Run, fitted: Path, source: Path, still_backbone: Path, tmp_path: Path
    ) -> None:
        """A checkpoint tests as the model folder of the same fit does, and says the same of what it was trained on."""
        languages = "--data.test_languages=[tr,en]"
        told = run("test", *options(source, fitted / "model", tmp_path / "a"), languages)
        outcome = run(
            *("test", *options(source, still_backbone, tmp_path / "b"), languages),
            f"--ckpt_path={fitted / 'checkpoints' / 'last.ckpt'}",
        )
        assert (outcome.code, outcome.out) == (0, told.out)
        assert "\ntr/test: F1 0." in outcome.out
        assert "\nen/test (zero-shot): F1 0." in outcome.out
        untrained = run("test", *options(source, still_backbone, tmp_path / "c"), languages)
        assert_one_line(untrained, 2, f"model.backbone={str(still_backbone)!r} has no trained head")

    @pytest.mark.parametrize("option", ["--model.learning_rate=1e-3", "--model.weight_decay=0.5"])
    def test_never_overrides_an_option(
        self, run: Run, fitted: Path, source: Path, still_backbone: Path, tmp_path: Path, option: str
    ) -> None:
        """A resumed fit goes on with its optimizer: an option that says otherwise is one line with both values."""
        outcome = run(
            *("fit", *options(source, still_backbone, tmp_path / "run"), *LEARN, option, "--trainer.max_epochs=2"),
            *("--data.languages=[tr]", f"--ckpt_path={fitted / 'checkpoints' / 'last.ckpt'}"),
        )
        name, _, value = option.removeprefix("--").partition("=")
        before = {"model.learning_rate": "0.005", "model.weight_decay": "0.01"}[name]
        assert_one_line(outcome, 2, f"{name}={float(value)}", f"ckpt_path, which restores {before}", "--model.backbone")
        assert not (tmp_path / "run" / "model").exists()

    def test_goes_on(
        self, run: Run, record: Record, fitted: Path, source: Path, still_backbone: Path, tmp_path: Path
    ) -> None:
        """``--ckpt_path last`` finds the last checkpoint and takes the second epoch alone, to the same weights."""
        shutil.copytree(fitted, tmp_path / "half")
        flags = [*LEARN, "--data.languages=[tr]", "--trainer.max_epochs=2"]
        whole = run("fit", *options(source, still_backbone, tmp_path / "whole"), *flags)
        assert whole.code == 0, whole
        straight = record.batches.pop("training_step")
        outcome = run(
            *("fit", *options(source, still_backbone, tmp_path / "half"), *flags, *keep(tmp_path / "half")),
            "--ckpt_path=last",
        )
        assert outcome.code == 0, outcome
        assert record.batches["training_step"] == straight[5:]
        assert_equal_weights(tmp_path / "whole", tmp_path / "half")
        assert_other_weights(fitted, tmp_path / "half")
        one, other = (
            json.loads((tmp_path / name / "model" / "lineage.json").read_text("utf-8")) for name in ("whole", "half")
        )
        assert one == other
        kept = yaml.safe_load((tmp_path / "half" / "config.yaml").read_text(encoding="utf-8"))
        assert "ckpt_path" not in kept

    def test_moved_data(self, run: Run, fitted: Path, source: Path, still_backbone: Path, tmp_path: Path) -> None:
        """The same sentences at another path are the same training, in the record of a resumed one too."""
        moved = shutil.copytree(source, tmp_path / "moved")
        flags = [*LEARN, "--data.languages=[tr]", "--trainer.max_epochs=2"]
        flags.append(f"--ckpt_path={fitted / 'checkpoints' / 'last.ckpt'}")
        assert run("fit", *options(moved, still_backbone, tmp_path / "run"), *flags).code == 0
        assert len(read_lineage(str(tmp_path / "run" / "model"))["episodes"]) == 1

    def test_other_sentences(self, run: Run, fitted: Path, source: Path, still_backbone: Path, tmp_path: Path) -> None:
        """A fit does not go on from a checkpoint with other sentences: steps and learning rate are those of its own."""
        outcome = run(
            *("fit", *options(source, still_backbone, tmp_path / "run"), *LEARN, "--trainer.max_epochs=2"),
            f"--ckpt_path={fitted / 'checkpoints' / 'last.ckpt'}",
        )
        assert_one_line(outcome, 2, "ckpt_path", "sentences of tr/train", "sentences of en/train", "--model.backbone")
        assert not (tmp_path / "run" / "model").exists()

    def test_fewer_languages(self, run: Run, source: Path, still_backbone: Path, tmp_path: Path) -> None:
        """Nor with some of its languages, nor with more of them that the weights have seen before."""

        def fit(name: str, backbone: Path, languages: str, *extra: str) -> Outcome:
            where = [*options(source, backbone, tmp_path / name), *LEARN, *extra]
            return run("fit", *where, *keep(tmp_path / name), f"--data.languages={languages}")

        both, further = tmp_path / "both" / "model", tmp_path / "further" / "checkpoints" / "last.ckpt"
        assert fit("both", still_backbone, "[en,tr]").code == 0
        last = tmp_path / "both" / "checkpoints" / "last.ckpt"
        outcome = fit("new", still_backbone, "[tr]", "--trainer.max_epochs=2", f"--ckpt_path={last}")
        assert_one_line(outcome, 2, "sentences of en/train and", "the data options give 40 sentences of tr/train")
        assert fit("further", both, "[tr]").code == 0
        outcome = fit("new", both, "[en,tr]", "--trainer.max_epochs=2", f"--ckpt_path={further}")
        assert_one_line(
            outcome, 2, "on 40 sentences of tr/train, but", "the data options give 40 sentences of en/train and"
        )

    def test_no_last_checkpoint(
        self, run: Run, record: Record, source: Path, tiny_backbone: str, tmp_path: Path
    ) -> None:
        """Without a last checkpoint, ``--ckpt_path last`` begins at the beginning and says so."""
        with pytest.warns(UserWarning, match="no last checkpoint available"):
            outcome = run("fit", *options(source, tiny_backbone, tmp_path / "run"), *LEARN, "--ckpt_path=last")
        assert outcome.code == 0, outcome
        assert len(record.batches["training_step"]) == 5

    @pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
    def test_missing(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path, command: str) -> None:
        """A checkpoint that is not there is one line, before anything is written."""
        outcome = run(command, *options(source, tiny_backbone, tmp_path / "run"), "--ckpt_path=nowhere.ckpt")
        assert_one_line(outcome, 2, "ckpt_path='nowhere.ckpt' does not exist")
        assert not (tmp_path / "run").exists()

    def test_no_checkpoint(self, run: Run, fitted: Path, source: Path, still_backbone: Path, tmp_path: Path) -> None:
        """A path without a checkpoint is one line: a model folder, another file, half of one, ``best`` of none."""
        half = tmp_path / "half.ckpt"
        half.write_bytes((fitted / "checkpoints" / "last.ckpt").read_bytes()[:9000])
        flags = options(source, still_backbone, tmp_path / "run")
        for path, (code, expected) in {
            fitted / "model": (2, "is a model folder; use it as --model.backbone"),
            fitted / "config.yaml": (2, "is not a checkpoint of Lightning; use one that a fit has written"),
            half: (1, "is damaged: it is only a part of a checkpoint"),
            "best": (2, "not configured to save the best model"),
        }.items():
            assert_one_line(run("test", *flags, f"--ckpt_path={path}"), code, expected)

    def test_of_another_backbone(
        self, run: Run, fitted: Path, source: Path, sample_backbone: str, tmp_path: Path
    ) -> None:
        """A checkpoint of a network that is not the backbone's is one line that names both."""
        outcome = run(
            *("test", *options(source, sample_backbone, tmp_path / "run")),
            f"--ckpt_path={fitted / 'checkpoints' / 'last.ckpt'}",
        )
        assert_one_line(outcome, 2, "ckpt_path holds another network", repr(sample_backbone))

    def test_of_another_backbone_that_fits(
        self, run: Run, fitted: Path, source: Path, tiny_backbone: str, still_backbone: Path, tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        """Where the networks are alike, the weights are the checkpoint's, and a line says so."""
        checkpoint = f"--ckpt_path={fitted / 'checkpoints' / 'last.ckpt'}"
        told = run("test", *options(source, still_backbone, tmp_path / "a"), checkpoint)
        assert "only the tokenizer" not in caplog.text
        outcome = run("test", *options(source, tiny_backbone, tmp_path / "b"), checkpoint)
        assert (outcome.code, outcome.out) == (0, told.out)
        assert (
            f"the weights are those of ckpt_path, which started from model.backbone='{still_backbone}'" in caplog.text
        )

    def test_of_weights_alone(self, run: Run, source: Path, still_backbone: Path, tmp_path: Path) -> None:
        """A checkpoint that cannot say what it was trained on validates, but is called nothing in a test."""
        flags = [*options(source, still_backbone, tmp_path / "run"), *keep(tmp_path)]
        assert run("fit", *flags, "--trainer.callbacks.save_weights_only=true").code == 0
        path = f"--ckpt_path={tmp_path / 'checkpoints' / 'last.ckpt'}"
        flags = options(source, still_backbone, tmp_path / "run")
        assert run("validate", *flags, path).code == 0
        for command in ("test", "fit"):
            outcome = run(command, *flags, path)
            assert_one_line(outcome, 2, "does not say what its weights were trained on", "as --model.backbone")

    @pytest.mark.parametrize(
        ("command", "path", "value", "expected"),
        [
            ("fit", ["fit_loop"], None, "its progress has no 'fit_loop'"),
            ("fit", ["fit_loop"], [], "its progress has 'fit_loop' []"),
            ("fit", ["fit_loop", "epoch_loop.batch_progress"], None, "its progress has no 'epoch_loop.batch_progress'"),
            ("fit", ["fit_loop", "epoch_progress", "current", "ready"], None, "its progress has no 'ready'"),
            ("fit", ["fit_loop", "epoch_progress", "total"], 3, "its progress has 'total' 3"),
            ("test", ["test_loop", "batch_progress"], None, "its progress has no 'batch_progress'"),
            ("validate", ["validate_loop"], None, "its progress has no 'validate_loop'"),
        ],
    )
    def test_without_progress(
        self, run: Run, fitted: Path, source: Path, still_backbone: Path, tmp_path: Path,
        command: str, path: list[str], value: object, expected: str,
    ) -> None:  # fmt: skip
        """A checkpoint whose progress lacks a part, at any depth, is one line that names both."""
        content = torch.load(fitted / "checkpoints" / "last.ckpt", weights_only=True)
        *outer, name = path
        place = content["loops"]
        for each in outer:
            place = place[each]
        place.pop(name)
        if value is not None:
            place[name] = value
        torch.save(content, tmp_path / "changed.ckpt")
        training = [*LEARN, "--trainer.max_epochs=2", "--data.languages=[tr]"] if command == "fit" else []
        flags = [*options(source, still_backbone, tmp_path / "run"), *training]
        outcome = run(command, *flags, f"--ckpt_path={tmp_path / 'changed.ckpt'}")
        assert_one_line(outcome, 1, f"changed.ckpt is damaged: {expected}; delete it, and use another one")
