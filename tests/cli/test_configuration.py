"""Options and configurations of LightningCLI mean what they mean elsewhere."""

import inspect
import re
from itertools import chain
from pathlib import Path

import pytest
import yaml

from tests.cli.fits import (
    CALLBACKS,
    ROOT,
    Record,
    process,
    write_yaml,
)

# Imported here, because importing it within a test would replace what other tests have patched.
from tests.commands import Run, assert_one_line, options
from xner.cli.lightning import SET_BY_TRANSFER, XnerCLI
from xner.data.datamodule import PanxDataModule
from xner.model.classifier import TokenClassifier
from xner.transfer.options import TransferOptions

UNITS = {
    "model.learning_rate": "learning rate of AdamW",
    "model.weight_decay": "per step and multiplied by the learning rate",
    "model.warmup_ratio": "Fraction of all optimizer steps",
    "model.freeze": "the first N encoder layers",
    "data.num_samples": "sentences per language",
    "data.shots": "Number of entities of each type",
    "data.columns": "numbers from 0",
    "data.smoothing": "Exponent of the number of sentences",
    "data.validation_fraction": "Part of the training sentences",
    "data.shuffle_seed": "Seed of",
    "data.subset_seed": "Seed of",
    "data.batch_size": "Per-device training batch size, in sentences",
    "data.max_length": "subwords per window",
    "data.row_length": "subwords per packed sequence",
    "data.evaluation_pieces": "subwords per evaluation batch",
    "source_samples": "Number of training sentences of each source language",
    "sizes": "Numbers of target-language training sentences",
    "shots": "Numbers of target-language entities of each type",
    "seeds": "Seeds of",
    "self_training.confidence": "Lowest probability, 0 to 1",
    "self_training.rounds": "Number of times",
    "gpus_per_stage": "GPUs that ray gives each stage",
}
"""The unit in the help text of each option that takes numbers."""


class TestConfiguration:
    @pytest.mark.parametrize("command", ["fit", "transfer"])
    def test_printed_configuration_is_the_command(
        self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path, command: str
    ) -> None:
        """The same command needs no more than ``--print_config`` prints of overlays and flags."""
        seed = {"seeds": [5]} if command == "transfer" else {"seed_everything": 5}
        first = write_yaml(tmp_path / "first.yaml", {"data": {"batch_size": 7}, **seed})
        callback = {"class_path": f"{CALLBACKS}.EarlyStopping", "init_args": {"monitor": "val/f1", "mode": "max"}}
        second = write_yaml(
            tmp_path / "second.yaml", {"model": {"warmup_ratio": 0.5}, "trainer": {"callbacks": [callback]}}
        )
        flags = [*options(source, tiny_backbone, tmp_path / "run"), "--data.max_length=64"]
        flags += ["--sizes=[4,9]", "--regimes=[progressive,scratch]"] if command == "transfer" else []
        printed = run(command, f"--config={first}", f"--config={second}", *flags, "--print_config")
        assert (printed.code, printed.err) == (0, "")
        held = yaml.safe_load(printed.out)
        assert {name: held[name] for name in seed} == seed
        assert (held["data"]["batch_size"], held["data"]["max_length"]) == (7, 64)
        assert held["model"]["warmup_ratio"] == 0.5
        assert "backbone" not in held["data"]
        (tmp_path / "whole.yaml").write_text(printed.out, encoding="utf-8")
        assert run(command, f"--config={tmp_path / 'whole.yaml'}", "--print_config") == printed
        outcome = run(command, f"--config={tmp_path / 'whole.yaml'}")
        assert outcome.code == 0, outcome
        kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
        for name in ("ckpt_path", "weights_only", *(SET_BY_TRANSFER if command == "transfer" else ())):
            group, _, option = name.rpartition(".")
            (held[group] if group else held).pop(option, None)
        assert kept == held

    def test_printed_configuration_alone(self, tmp_path: Path) -> None:
        """``train.py fit --print_config > FILE`` puts YAML into the file, and nothing on the screen."""
        done = process("fit", "--config", ROOT / "configs" / "sample.yaml", "--print_config", folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert yaml.safe_load(done.stdout)["model"]["backbone"] == "sample"
        assert [*tmp_path.iterdir()] == []

    def test_overlays(self, run: Run, tmp_path: Path) -> None:
        """A later configuration wins and keeps the rest; its lists replace, ``+`` appends, and a flag beats both."""
        stop = {"class_path": f"{CALLBACKS}.EarlyStopping", "init_args": {"monitor": "val/f1"}}
        first = write_yaml(
            tmp_path / "first.yaml",
            {
                "data": {"languages": ["en", "de"], "test_languages": ["en", "tr"], "batch_size": 4, "row_length": 99},
                "trainer": {"callbacks": [stop], "max_epochs": 5},
            },
        )
        second = write_yaml(
            tmp_path / "second.yaml",
            {
                "data": {"languages": ["tr"], "batch_size": 5},
                "trainer": {"callbacks+": [{"class_path": f"{CALLBACKS}.LearningRateMonitor"}], "max_epochs": 6},
            },
        )
        outcome = run("fit", f"--config={first}", f"--config={second}", "--trainer.max_epochs=7", "--print_config")
        assert outcome.code == 0, outcome
        found = yaml.safe_load(outcome.out)
        assert {name: found["data"][name] for name in ("languages", "test_languages", "batch_size", "row_length")} == {
            "languages": ["tr"],
            "test_languages": ["en", "tr"],
            "batch_size": 5,
            "row_length": 99,
        }
        assert found["trainer"]["max_epochs"] == 7
        names = [each["class_path"].rpartition(".")[2] for each in found["trainer"]["callbacks"]]
        assert names == ["EarlyStopping", "LearningRateMonitor"]
        other = run("fit", f"--config={second}", f"--config={first}", "--print_config")
        replaced = yaml.safe_load(other.out)["trainer"]["callbacks"]
        assert [each["class_path"] for each in replaced] == [f"{CALLBACKS}.EarlyStopping"]

    @pytest.mark.parametrize("command", ["fit", "validate", "test", "predict", "transfer"])
    def test_every_option_has_its_meaning(self, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
        """Every option of the model, the data and the command itself has a help, with the unit where it is a number."""
        said: dict[str, str | None] = {}

        def parse(self: XnerCLI, *args: object) -> None:
            parser = self._subcommand_parsers[command]
            said.update({action.dest: action.help for action in parser._actions})
            raise KeyboardInterrupt

        monkeypatch.setattr(XnerCLI, "parse_arguments", parse)
        with pytest.raises(KeyboardInterrupt):
            XnerCLI([command])
        assert {"model.backbone", "data.source"} <= said.keys()
        assert [name for name, text in said.items() if not text or not text.strip()] == []
        taken = {
            **{f"model.{name}": each for name, each in inspect.signature(TokenClassifier).parameters.items()},
            **{f"data.{name}": each for name, each in inspect.signature(PanxDataModule).parameters.items()},
        }
        if command == "transfer":
            taken |= {
                name: each for name, each in inspect.signature(TransferOptions).parameters.items() if name in said
            }
            assert "sizes" in taken
        numbers = {name for name, each in taken.items() if {"int", "float"} & {*_words(str(each.annotation))}}
        assert numbers == {name for name in UNITS if name in taken}
        for name in numbers:
            assert UNITS[name] in " ".join(str(said[name]).split()), name

    @pytest.mark.parametrize(
        ("option", "meant"),
        [
            ("--model.learning_rat=1", "--model.learning_rate"),
            ("--learning_rate=1", "--model.learning_rate"),
            ("--trainer.max_epoch=1", "--trainer.max_epochs"),
            ("--traner.max_epochs=1", "--trainer.max_epochs"),
            ("--data.sorce=sample", "--data.source"),
        ],
    )
    def test_misspelt_option(self, run: Run, option: str, meant: str) -> None:
        """An option that is not there, abbreviated ones included, is one line with the one that may be meant."""
        outcome = run("fit", option)
        assert_one_line(outcome, 2, option)
        assert outcome.err.endswith(f"did you mean {meant}?\n")

    def test_misspelt_in_configuration(self, run: Run, tmp_path: Path) -> None:
        """The same holds of a configuration's option."""
        path = write_yaml(tmp_path / "config.yaml", {"data": {"sorce": "sample"}})
        assert_one_line(run("fit", f"--config={path}"), 2, "'data.sorce'", "did you mean --data.source?")

    def test_nothing_near(self, run: Run) -> None:
        """Where nothing is near, nothing is guessed."""
        outcome = run("fit", "--zzz=1")
        assert_one_line(outcome, 2, "--zzz=1")
        assert "did you mean" not in outcome.err

    @pytest.mark.parametrize("command", ["validate", "test", "predict", "transfer"])
    def test_configuration_of_a_fit(self, run: Run, record: Record, fitted: Path, tmp_path: Path, command: str) -> None:
        """The configuration that a fit keeps is taken by every other command, together with the model folder."""
        outcome = run(
            *(command, f"--config={fitted / 'config.yaml'}", f"--model.backbone={fitted / 'model'}"),
            f"--trainer.default_root_dir={tmp_path / 'run'}",
            # Its checkpoints have a folder of their own there, which stages would share.
            *(["--sizes=[4]", "--trainer.callbacks=null"] if command == "transfer" else []),
        )
        assert outcome.code == 0, outcome
        step = {"validate": "validation_step", "predict": "predict_step"}.get(command, "test_step")
        assert len({*chain(*record.batches[step])}) == 40


def _words(text: str) -> list[str]:
    return "".join(character if character.isalnum() else " " for character in text).split()


class TestSilence:
    def test_fit(self, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """A fit says why it ended, where the model is, of which epoch and how good; there is no warning."""
        flags = [*options(source, tiny_backbone, tmp_path / "run"), "--trainer.max_epochs=2"]
        done = process("fit", *flags, folder=tmp_path)
        assert done.returncode == 0, done
        assert re.fullmatch(
            rf"model folder: {tmp_path / 'run' / 'model'} \(last epoch, 2: val/f1 0\.\d{{4}}\)\n", done.stdout
        )
        assert done.stderr.splitlines() == ["`Trainer.fit` stopped: `max_epochs=2` reached."]

    def test_error(self, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """A mistake is its line alone."""
        done = process(
            "fit", *options(source, tiny_backbone, tmp_path / "run"), "--data.languages=[xx]", folder=tmp_path
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
