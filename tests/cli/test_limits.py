"""Limits of epochs, steps and batches, several commands at once, and interruptions."""

import fcntl
import functools
import os
import re
import signal
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest
from torch import Tensor, nn

from tests.cli.fits import (
    CALLBACKS,
    LEARN,
    Record,
    assert_other_weights,
    keep,
    weights,
)

# Imported here, because importing it within a test would replace what other tests have patched.
from tests.commands import Run, assert_one_line, options
from tests.weights import assert_close_weights
from xner.batch import Batch
from xner.data.sources import Split
from xner.model.classifier import TokenClassifier
from xner.model.network import Network


class TestLimits:
    """Of 40 sentences in batches of 8, or about 60 pieces in evaluation."""

    @pytest.fixture
    def flags(self, source: Path, scored_backbone: Path, tmp_path: Path) -> list[str]:
        return [*options(source, scored_backbone, tmp_path / "run"), *LEARN, "--data.evaluation_pieces=60"]

    @pytest.mark.parametrize(("limit", "steps"), [("2", 2), ("0.5", 2), ("1", 1), ("1.0", 5)])
    def test_training(self, run: Run, record: Record, flags: Sequence[str], limit: str, steps: int) -> None:
        """A whole number limits batches, a fraction their share, in every epoch."""
        assert run("fit", *flags, f"--trainer.limit_train_batches={limit}", "--trainer.max_epochs=2").code == 0
        assert [len(each) for each in record.batches["training_step"]] == [8] * (2 * steps)
        assert record.steps == 2 * steps

    def test_no_validation(self, run: Run, record: Record, flags: Sequence[str], tmp_path: Path) -> None:
        """Without validation batches there is no validation, and still a model."""
        assert run("fit", *flags, "--trainer.limit_val_batches=0").code == 0
        assert "validation_step" not in record.batches
        assert (tmp_path / "run" / "model" / "model.safetensors").is_file()

    @pytest.mark.parametrize("command", ["validate", "test", "predict"])
    def test_evaluation(
        self, run: Run, record: Record, source: Path, flags: Sequence[str], tmp_path: Path, command: str
    ) -> None:
        """As many evaluation batches as asked for are taken, and what is written or said is of their sentences."""
        step, short = {"validate": ("validation", "val")}.get(command, (command, command))
        outcome = run(command, *flags, f"--trainer.limit_{short}_batches=2")
        assert outcome.code == 0, outcome
        first, second = record.batches[f"{step}_step"]
        if command == "test":
            words = Split(str(source), "en", "test").sentences.words
            left = sum(len(each) for number, each in enumerate(words) if number not in (*first, *second))
            assert f"its longest sentences: {left:,} words have no score" in outcome.out
        if command == "predict":
            lines = (tmp_path / "run" / "en-test.jsonl").read_text(encoding="utf-8").splitlines()
            assert len(lines) == len(first + second) < 40

    def test_overfit(self, run: Run, record: Record, flags: Sequence[str]) -> None:
        """Every epoch trains on the same two batches; validation takes two of its own."""
        assert run("fit", *flags, "--trainer.overfit_batches=2", "--trainer.max_epochs=3").code == 0
        batches = record.batches["training_step"]
        assert len(batches) == 6
        assert batches == batches[:2] * 3
        assert [len(each) for each in batches[:2]] == [8, 8]
        assert len({*batches[0], *batches[1]}) == 16
        assert len(record.batches["validation_step"]) == 6
        assert record.losses[-1] < record.losses[0]

    def test_order_changes_otherwise(self, run: Run, record: Record, flags: Sequence[str]) -> None:
        """Without ``overfit_batches``, an epoch has all sentences in an order of its own."""
        assert run("fit", *flags, "--trainer.max_epochs=2").code == 0
        first, second = record.batches["training_step"][:5], record.batches["training_step"][5:]
        assert first != second
        assert sorted(chain(*first)) == sorted(chain(*second)) == [*range(40)]

    def test_accumulation(self, run: Run, record: Record, source: Path, still_backbone: Path, tmp_path: Path) -> None:
        """Two batches of 16 a step are one of 32: half the steps for the batches, and the same weights."""
        flags = [*LEARN, "--trainer.max_epochs=3"]
        first = run("fit", *options(source, still_backbone, tmp_path / "one"), *flags, "--data.batch_size=32")
        assert first.code == 0, first
        assert (len(record.batches.pop("training_step")), record.steps) == (6, 6)
        halves = ["--data.batch_size=16", "--trainer.accumulate_grad_batches=2"]
        second = run("fit", *options(source, still_backbone, tmp_path / "two"), *flags, *halves)
        assert second.code == 0, second
        assert [len(each) for each in record.batches["training_step"]] == [16, 16, 8] * 3
        assert record.steps == 12
        assert_close_weights(weights(tmp_path / "one"), weights(tmp_path / "two"), atol=1e-5)
        assert_other_weights(tmp_path / "one", tmp_path / "two")  # sums in another order: these are two fits

    def test_accumulation_cut_short(self, run: Run, record: Record, flags: Sequence[str]) -> None:
        """A step that the limit on batches cuts short is the mean over the words that it has."""
        limits = ["--trainer.accumulate_grad_batches=2", "--trainer.limit_train_batches=3"]
        assert run("fit", *flags, *limits).code == 0
        assert record.steps == 2
        (told, first), (told_again, second), (last, third) = record.step_words
        assert told == told_again == first + second
        assert last == third

    def test_accumulation_by_epoch(self, run: Run, flags: Sequence[str]) -> None:
        """Accumulation that changes with the epoch, which neither schedule nor loss reckon with, is refused."""
        scheduler = f"--trainer.callbacks={CALLBACKS}.GradientAccumulationScheduler"
        outcome = run("fit", *flags, scheduler, "--trainer.callbacks.scheduling={1: 2}")
        assert_one_line(outcome, 2, "GradientAccumulationScheduler", "use trainer.accumulate_grad_batches")

    def test_no_end(self, run: Run, flags: Sequence[str]) -> None:
        """Epochs without an end need a number of steps, for the learning rate's sake."""
        outcome = run("fit", *flags, "--trainer.max_epochs=-1")
        assert_one_line(outcome, 2, "trainer.max_epochs=-1", "trainer.max_steps")
        assert run("fit", *flags, "--trainer.max_epochs=-1", "--trainer.max_steps=3").code == 0

    @pytest.mark.parametrize("more", [[], ["--plan=true"]])
    def test_transfer_without_end(self, run: Run, flags: Sequence[str], more: Sequence[str]) -> None:
        """So do the stages of an experiment, before anything is run or planned."""
        outcome = run("transfer", *flags, "--sizes=[10]", "--trainer.max_epochs=-1", *more)
        assert_one_line(outcome, 2, "trainer.max_epochs=-1 has no end")

    def test_plan_within_limits(self, run: Run, flags: Sequence[str]) -> None:
        """The plan has the steps that the trainer's limits leave."""
        command = ["transfer", *flags, "--sizes=[40]", "--trainer.max_epochs=2", "--plan=true"]
        whole, limited = (
            [line.split()[-1] for line in run(*command, *more).out.splitlines()[-2:]]
            for more in ([], ["--trainer.max_steps=4"])
        )
        assert whole == ["10", "10"]
        assert limited == ["4", "4"]

    @pytest.mark.parametrize("option", ["limit_train_batches=2", "limit_train_batches=0.5", "overfit_batches=3"])
    def test_transfer_of_some_batches(self, run: Run, flags: Sequence[str], option: str) -> None:
        """A stage trains on all sentences that its result counts."""
        outcome = run("transfer", *flags, "--sizes=[10]", f"--trainer.{option}")
        assert_one_line(outcome, 2, f"trainer.{option} would leave out sentences", "use --sizes and --source_samples")

    def test_nothing_tested(self, run: Run, flags: Sequence[str]) -> None:
        """A test of no batch has no scores to show."""
        outcome = run("test", *flags, "--trainer.limit_test_batches=0", "--data.test_languages=[en,tr]")
        assert_one_line(outcome, 2, "trainer.limit_test_batches=0 tests nothing")

    def test_nothing_validated(self, run: Run, flags: Sequence[str]) -> None:
        """As a test."""
        outcome = run("validate", *flags, "--trainer.limit_val_batches=0")
        assert_one_line(outcome, 2, "trainer.limit_val_batches=0 validates nothing")

    def test_nothing_predicted(self, run: Run, flags: Sequence[str]) -> None:
        """As a test."""
        outcome = run("predict", *flags, "--trainer.limit_predict_batches=0")
        assert_one_line(outcome, 2, "trainer.limit_predict_batches=0 predicts nothing")

    def test_end_without_validation(self, run: Run, flags: Sequence[str]) -> None:
        """A fit ends with the score of its own weights, or none."""
        told = run("fit", *flags, "--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2").out
        assert "(last epoch, 3)\n" in told
        told = run("fit", *flags, "--trainer.max_epochs=2").out
        assert re.search(r"\(last epoch, 2: val/f1 [01]\.\d{4}\)", told)

    def test_configuration_of_the_model(self, run: Run, flags: Sequence[str], tmp_path: Path) -> None:
        """The configuration beside a model is that of its training, whatever trainings failed since."""
        config = tmp_path / "run" / "config.yaml"
        assert run("fit", *flags).code == 0
        before = config.read_bytes()
        outcome = run("fit", *flags, "--model.learning_rate=1e30", "--trainer.max_epochs=3")
        assert outcome.code == 1, outcome
        assert config.read_bytes() == before
        assert run("fit", *flags, "--model.learning_rate=1e-4").code == 0
        assert config.read_bytes() != before

    def test_folder_of_a_transfer(self, run: Run, flags: Sequence[str], tmp_path: Path) -> None:
        """A fit does not replace the configuration of a transfer."""
        (tmp_path / "run" / "stages").mkdir(parents=True)
        outcome = run("fit", *flags, f"--trainer.default_root_dir={tmp_path / 'run'}")
        assert_one_line(outcome, 2, "trainer.default_root_dir=", "is the folder of a transfer; use another folder")

    def test_two_at_once(self, run: Run, flags: Sequence[str], tmp_path: Path) -> None:
        """A fit does not write where another one is at work, and does once that has ended."""
        root = tmp_path / "run"
        root.mkdir()
        with (root / ".lock").open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            outcome = run("fit", *flags, f"--trainer.default_root_dir={root}")
            assert_one_line(outcome, 1, f"{root} is in use by another process", "use another folder")
            assert [path.name for path in root.iterdir()] == [".lock"]
        assert run("fit", *flags, f"--trainer.default_root_dir={root}").code == 0

    def test_interrupted(self, run: Run, flags: Sequence[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Ctrl-C ends a fit as a shell expects, with a line that says how to go on."""

        def interrupt(self: TokenClassifier, *_: object) -> None:
            if self.current_epoch == 1:
                raise KeyboardInterrupt

        monkeypatch.setattr(TokenClassifier, "on_train_batch_end", interrupt)
        handler = signal.getsignal(signal.SIGINT)  # Lightning ignores further ones from then on
        try:
            outcome = run("fit", *flags, *keep(tmp_path), "--trainer.max_epochs=3")
        finally:
            signal.signal(signal.SIGINT, handler)
        assert outcome.code == 130
        assert outcome.err.splitlines()[-1].startswith(f"xner: error: stopped: --ckpt_path {tmp_path / 'checkpoints'}")

    @pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
    def test_terminated(
        self, run: Run, flags: Sequence[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
    ) -> None:
        """A command that a system ends is not taken for one that ended well."""
        kind, step = (TokenClassifier, "training_step") if command == "fit" else (Network, "word_logits")
        work = getattr(kind, step)

        @functools.wraps(work)
        def terminate(self: nn.Module, batch: Batch) -> Tensor:
            os.kill(os.getpid(), signal.SIGTERM)
            return work(self, batch)

        monkeypatch.setattr(kind, step, terminate)
        outcome = run(command, *flags, f"--trainer.default_root_dir={tmp_path}")
        assert outcome.code == 143
        assert outcome.err.splitlines()[-1] == "xner: error: stopped: repeat the command"
        assert not (tmp_path / "model").exists()

    def test_stochastic_weight_averaging(self, run: Run, flags: Sequence[str]) -> None:
        """Weight averaging that would average nothing is refused."""
        averaging = [f"--trainer.callbacks={CALLBACKS}.StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=1e-5"]
        assert_one_line(run("fit", *flags, *averaging), 2, "StochasticWeightAveraging", "use EMAWeightAveraging")

    @pytest.mark.parametrize("command", ["fit", "test", "transfer"])
    def test_finetuning(self, run: Run, flags: Sequence[str], tmp_path: Path, command: str) -> None:
        """A callback that freezes layers of a network that is not loaded yet is refused, with the option that does."""
        outcome = run(command, *flags, "--trainer.callbacks+=BackboneFinetuning")
        assert_one_line(outcome, 2, "BackboneFinetuning", "use model.freeze=embeddings, or model.freeze=6")
        for finder, instead in (("LearningRateFinder", "model.learning_rate"), ("BatchSizeFinder", "data.batch_size")):
            outcome = run(command, *flags, f"--trainer.callbacks+={finder}")
            assert_one_line(outcome, 2, f"trainer.callbacks: {finder}", f"use {instead}")
        assert run("fit", *flags, "--model.freeze=embeddings").code == 0

    def test_weight_averaging(self, run: Run, flags: Sequence[str]) -> None:
        """Averaging weights goes with the whole vocabulary alone, and a line says so."""
        averaging = f"--trainer.callbacks={CALLBACKS}.EMAWeightAveraging"
        assert_one_line(run("fit", *flags, averaging), 2, "WeightAveraging", "use model.compact_vocabulary=false")
        assert run("fit", *flags, averaging, "--model.compact_vocabulary=false").code == 0

    def test_steps(self, run: Run, record: Record, flags: Sequence[str]) -> None:
        """A number of steps ends training amid an epoch."""
        assert run("fit", *flags, "--trainer.max_steps=7", "--trainer.max_epochs=5").code == 0
        assert record.steps == 7

    @pytest.mark.parametrize(
        ("extra", "at"),
        [
            ([], [(0, 4), (1, 8)]),
            (["val_check_interval=0.5"], [(0, 2), (0, 4), (1, 6), (1, 8)]),
            (["val_check_interval=3"], [(0, 3), (1, 7)]),
            (["val_check_interval=3", "check_val_every_n_epoch=null"], [(0, 3), (1, 6)]),
            (["check_val_every_n_epoch=2"], [(1, 8)]),
        ],
    )
    def test_validation_interval(
        self, run: Run, record: Record, flags: Sequence[str], extra: Sequence[str], at: Sequence[tuple[int, int]]
    ) -> None:
        """Validation comes after the steps, shares of an epoch or epochs that were asked for."""
        asked = [f"--trainer.{option}" for option in extra]
        assert run("fit", *flags, "--data.batch_size=10", "--trainer.max_epochs=2", *asked).code == 0
        assert [(epoch, step) for _, epoch, step in record.validations] == [*at]
