"""What users of LightningCLI are used to: every option of theirs does here what it does elsewhere."""

import csv
import fcntl
import functools
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

# Here and not in a test: see test_cli.py.
import xner.cli.lightning
from tests.commands import Outcome, Run, assert_one_line, options
from tests.weights import assert_close_weights
from xner.batch import Batch
from xner.cli.lightning import Trainer, XnerCLI
from xner.cli.main import main
from xner.data.datamodule import PanxDataModule
from xner.model.classifier import TokenClassifier
from xner.tags import IGNORE
from xner.transfer.prepare import INSTEAD

ROOT = Path(__file__).parents[1]

CALLBACKS = "lightning.pytorch.callbacks"


@dataclass
class Record:
    """What the model was given, in the order of time."""

    batches: dict[str, list[list[int]]] = field(default_factory=dict)
    """By step, as ``training_step``: each batch's sentences."""
    step_words: list[tuple[int, int]] = field(default_factory=list)
    """Of each training batch: the words of its optimizer step as it was told, and its own labelled words."""
    losses: list[float] = field(default_factory=list)
    validations: list[tuple[Path, int, int]] = field(default_factory=list)
    """Of each validation: the run's folder, the epoch, and the optimizer steps before it."""
    steps: int = 0
    """Optimizer steps."""


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    """Records what the model is given."""
    found = Record()

    def watch(name: str, note: Callable[..., None]) -> None:
        method = getattr(TokenClassifier, name)

        @functools.wraps(method)
        def watching(self: TokenClassifier, *args: Any, **keywords: Any) -> Any:  # noqa: ANN401 - handed on
            result = method(self, *args, **keywords)
            note(self, result, *args)
            return result

        monkeypatch.setattr(TokenClassifier, name, watching)

    def batch(step: str, model: TokenClassifier, result: Any, batch: Any, *rest: Any) -> None:  # noqa: ANN401 - as it comes
        found.batches.setdefault(step, []).append(batch.sentences.tolist())
        if step == "training_step":
            found.step_words.append((int(batch.step_words), int((batch.labels != IGNORE).sum())))
            found.losses.append(result.item())

    def validated(model: TokenClassifier, result: None) -> None:
        trainer = model.trainer
        found.validations.append((Path(trainer.default_root_dir), trainer.current_epoch, trainer.global_step))

    def stepped(*args: object) -> None:
        found.steps += 1

    for step in ("training_step", "validation_step", "test_step", "predict_step"):
        watch(step, functools.partial(batch, step))
    watch("on_validation_epoch_end", validated)
    watch("configure_gradient_clipping", stepped)
    return found


@pytest.fixture(scope="module")
def fitted(source: Path, still_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fit of one epoch on Turkish, with its checkpoint at a known place."""
    root = tmp_path_factory.mktemp("fitted")
    main(["fit", *options(source, still_backbone, root), *LEARN, "--data.languages=[tr]", *keep(root)])
    return root


LEARN = ["--model.learning_rate=5e-3", "--model.schedule=constant", "--data.batch_size=8"]


def keep(root: Path) -> list[str]:
    """Keep the last checkpoint as ``last.ckpt``."""
    return [
        f"--trainer.callbacks+={CALLBACKS}.ModelCheckpoint",
        f"--trainer.callbacks.dirpath={root / 'checkpoints'}",
        "--trainer.callbacks.save_last=true",
    ]


def weights(root: Path) -> dict[str, torch.Tensor]:
    """What a fit left in its model folder."""
    return load_file(root / "model" / "model.safetensors")


def assert_equal_weights(first: Path, second: Path) -> None:
    """Assert that two fits that computed the same ended with the same weights, to the bit."""
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def assert_other_weights(first: Path, second: Path) -> None:
    """Assert that two fits ended with different weights."""
    assert any(not torch.equal(value, weights(second)[name]) for name, value in weights(first).items())


def logged(root: Path) -> list[dict[str, str]]:
    """The rows of the one log below a folder, without empty cells."""
    [path] = root.rglob("metrics.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def files(folder: Path) -> list[str]:
    """What is below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def write_yaml(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def process(*args: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, with nothing of the tests' quiet."""
    environment = {name: value for name, value in os.environ.items() if name != "TRANSFORMERS_VERBOSITY"}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "train.py"), *map(str, args)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


UNITS = {
    "model.learning_rate": "learning rate of AdamW",
    "model.weight_decay": "a step and unit of learning rate",
    "model.warmup_ratio": "BatchIndices of all optimizer steps",
    "model.freeze": "the first N encoder layers",
    "data.num_samples": "sentences per language",
    "data.shuffle_seed": "Seed of",
    "data.subset_seed": "Seed of",
    "data.batch_size": "Per-device training batch size, in sentences",
    "data.max_length": "subwords per window",
    "data.row_length": "subwords per packed sequence",
    "data.evaluation_pieces": "subwords per evaluation batch",
    "sizes": "Numbers of target sentences",
    "seeds": "Seeds of",
    "gpus_per_stage": "GPUs that ray gives a stage",
}
"""What the help of each option that takes numbers says of their unit."""


class TestConfiguration:
    @pytest.mark.parametrize("command", ["fit", "transfer"])
    def test_printed_configuration_is_the_command(
        self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path, command: str
    ) -> None:
        """What ``--print_config`` prints of overlays and flags is all that the same command needs."""
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
        for name in ("ckpt_path", "weights_only", *(INSTEAD if command == "transfer" else ())):
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
            XnerCLI()
        assert {"model.backbone", "data.source"} <= said.keys()
        assert [name for name, text in said.items() if not text or not text.strip()] == []
        taken = {
            **{f"model.{name}": each for name, each in inspect.signature(TokenClassifier).parameters.items()},
            **{f"data.{name}": each for name, each in inspect.signature(PanxDataModule).parameters.items()},
        }
        if command == "transfer":
            taken |= {
                name: each for name, each in inspect.signature(Trainer.transfer).parameters.items() if name in said
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
        assert_one_line(outcome, 2, f"{name}={float(value)}", f"optimizer's {before}", "--model.backbone")
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
        assert_one_line(outcome, 2, "sentences of en/train and", "are those of 40 sentences of tr/train")
        assert fit("further", both, "[tr]").code == 0
        outcome = fit("new", both, "[en,tr]", "--trainer.max_epochs=2", f"--ckpt_path={further}")
        assert_one_line(outcome, 2, "on 40 sentences of tr/train, and", "are those of 40 sentences of en/train and")

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
        assert_one_line(outcome, 2, "ckpt_path='nowhere.ckpt': there is no such file")
        assert not (tmp_path / "run").exists()

    def test_no_checkpoint(self, run: Run, fitted: Path, source: Path, still_backbone: Path, tmp_path: Path) -> None:
        """What is no checkpoint is one line: a model folder, another file, half a checkpoint, and ``best`` of none."""
        half = tmp_path / "half.ckpt"
        half.write_bytes((fitted / "checkpoints" / "last.ckpt").read_bytes()[:9000])
        flags = options(source, still_backbone, tmp_path / "run")
        for path, (code, expected) in {
            fitted / "model": (2, "is a model folder: give it as --model.backbone"),
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
        assert_one_line(outcome, 2, "still", repr(sample_backbone), "which is not that of")

    def test_of_another_backbone_that_fits(
        self, run: Run, fitted: Path, source: Path, tiny_backbone: str, still_backbone: Path, tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        """Where the networks are alike, the weights are the checkpoint's, and a line says so."""
        checkpoint = f"--ckpt_path={fitted / 'checkpoints' / 'last.ckpt'}"
        told = run("test", *options(source, still_backbone, tmp_path / "a"), checkpoint)
        assert "tokenizer alone" not in caplog.text
        outcome = run("test", *options(source, tiny_backbone, tmp_path / "b"), checkpoint)
        assert (outcome.code, outcome.out) == (0, told.out)
        assert f"the weights are the checkpoint's, which started from model.backbone='{still_backbone}'" in caplog.text

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
        [("32-true", "bf16-true"), ("bf16-true", "32-true"), ("bf16-true", "bf16-true"), ("64-true", "64-true")],
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
        assert_one_line(outcome, 2, "torch.float16: give model.compact_vocabulary=false")

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
            ("devices=some", "no trainer can be had with these options: `devices`"),
            ("devices=-1", "no trainer can be had with these options: `devices`"),
            ("strategy=some", "strategy='some'"),
            ("strategy=ddp_spawn", "trainer.strategy=ddp_spawn splits the model or forks processes: give auto or ddp"),
            ("precision=some", "Given value: some"),
            ("accelerator=tpu", "torch_xla"),
            ("max_epochs=-2", "You passed in -2"),
            ("accumulate_grad_batches=0", "trainer.accumulate_grad_batches=0 must be 1 or more"),
            ("limit_train_batches=1.5", "invalid value 1.5 for limit_train_batches"),
            ("limit_train_batches=0.1", "Try at least `limit_train_batches=0.5`"),
            ("val_check_interval=5", "`val_check_interval` (5) must be less than or equal to"),
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
        """What is no mistake of the user's is not made to look like one."""
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
    def test_evaluation(self, run: Run, record: Record, flags: Sequence[str], tmp_path: Path, command: str) -> None:
        """As many evaluation batches as asked for are taken, and what is written or said is of their sentences."""
        step, short = {"validate": ("validation", "val")}.get(command, (command, command))
        outcome = run(command, *flags, f"--trainer.limit_{short}_batches=2")
        assert outcome.code == 0, outcome
        first, second = record.batches[f"{step}_step"]
        if command == "test":
            assert f"of {len(first + second)} sentences were trained on" in outcome.out
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
        assert_one_line(outcome, 2, "GradientAccumulationScheduler", "give trainer.accumulate_grad_batches")

    def test_no_end(self, run: Run, flags: Sequence[str]) -> None:
        """Epochs without an end need a number of steps, for the learning rate's sake."""
        outcome = run("fit", *flags, "--trainer.max_epochs=-1")
        assert_one_line(outcome, 2, "trainer.max_epochs=-1", "trainer.max_steps")
        assert run("fit", *flags, "--trainer.max_epochs=-1", "--trainer.max_steps=3").code == 0

    def test_nothing_tested(self, run: Run, flags: Sequence[str]) -> None:
        """A test of no batch has no scores to show."""
        outcome = run("test", *flags, "--trainer.limit_test_batches=0", "--data.test_languages=[en,tr]")
        assert_one_line(outcome, 2, "trainer.limit_test_batches=0 tests nothing")

    def test_nothing_predicted(self, run: Run, flags: Sequence[str]) -> None:
        """As a test."""
        outcome = run("predict", *flags, "--trainer.limit_predict_batches=0")
        assert_one_line(outcome, 2, "trainer.limit_predict_batches=0 predicts nothing")

    def test_folder_of_a_transfer(self, run: Run, flags: Sequence[str], tmp_path: Path) -> None:
        """A fit does not replace the configuration of a transfer."""
        (tmp_path / "run" / "stages").mkdir(parents=True)
        outcome = run("fit", *flags, f"--trainer.default_root_dir={tmp_path / 'run'}")
        assert_one_line(outcome, 2, "trainer.default_root_dir=", "is a transfer's: name another folder")

    def test_two_at_once(self, run: Run, flags: Sequence[str], tmp_path: Path) -> None:
        """A fit does not write where another one is at work, and does once that has ended."""
        root = tmp_path / "run"
        root.mkdir()
        with (root / ".lock").open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            outcome = run("fit", *flags, f"--trainer.default_root_dir={root}")
            assert_one_line(outcome, 1, f"{root} is in use by another process", "name another folder")
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
        step = "training_step" if command == "fit" else "predict_words"
        work = getattr(TokenClassifier, step)

        @functools.wraps(work)
        def terminate(self: TokenClassifier, batch: Batch) -> Tensor:
            os.kill(os.getpid(), signal.SIGTERM)
            return work(self, batch)

        monkeypatch.setattr(TokenClassifier, step, terminate)
        outcome = run(command, *flags, f"--trainer.default_root_dir={tmp_path}")
        assert outcome.code == 143
        assert outcome.err.splitlines()[-1] == "xner: error: stopped: give the same command again"
        assert not (tmp_path / "model").exists()

    def test_stochastic_weight_averaging(self, run: Run, flags: Sequence[str]) -> None:
        """What would average nothing is refused."""
        averaging = [f"--trainer.callbacks={CALLBACKS}.StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=1e-5"]
        assert_one_line(run("fit", *flags, *averaging), 2, "StochasticWeightAveraging", "take EMAWeightAveraging")

    @pytest.mark.parametrize("command", ["fit", "test", "transfer"])
    def test_finetuning(self, run: Run, flags: Sequence[str], tmp_path: Path, command: str) -> None:
        """A callback that freezes layers of a network that is not loaded yet is refused, with the option that does."""
        outcome = run(command, *flags, "--trainer.callbacks+=BackboneFinetuning")
        assert_one_line(outcome, 2, "BackboneFinetuning", "use model.freeze=embeddings, or model.freeze=6")
        assert run("fit", *flags, "--model.freeze=embeddings").code == 0

    def test_weight_averaging(self, run: Run, flags: Sequence[str]) -> None:
        """Averaging weights goes with the whole vocabulary alone, and a line says so."""
        averaging = f"--trainer.callbacks={CALLBACKS}.EMAWeightAveraging"
        assert_one_line(run("fit", *flags, averaging), 2, "WeightAveraging", "give model.compact_vocabulary=false")
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
        fit = xner.cli.lightning.Trainer.fit

        def watch(self: Trainer, *args: Any, **keywords: Any) -> None:  # noqa: ANN401 - handed on
            met.extend(self.callbacks)  # type: ignore[attr-defined] # set by Lightning
            fit(self, *args, **keywords)

        monkeypatch.setattr(xner.cli.lightning.Trainer, "fit", watch)
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


class TestSeed:
    @pytest.fixture
    def order(self, run: Run, record: Record, source: Path, tiny_backbone: str, tmp_path: Path) -> Callable[..., Any]:
        """Fits with a seed, and gives the order of training's batches and the seed in the lineage."""

        def fit(seed: str) -> tuple[list[list[int]], int | None]:
            record.batches.clear()
            flags = [*options(source, tiny_backbone, tmp_path / "run"), *LEARN]
            assert run("fit", *flags, f"--seed_everything={seed}").code == 0
            lineage = json.loads((tmp_path / "run" / "model" / "lineage.json").read_text(encoding="utf-8"))
            return record.batches["training_step"], lineage["episodes"][0]["seed"]

        return fit

    def test_number(self, order: Callable[..., Any], tmp_path: Path) -> None:
        """A seed decides the order of sentences, and is in the lineage."""
        seven = order("7")
        assert seven[1] == 7
        assert order("8")[0] != seven[0]
        assert order("7") == seven

    def test_none(self, order: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a seed, every fit has an order of its own, whatever an earlier fit or the environment left."""
        monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
        seven, zero = order("7")[0], order("0")[0]
        assert "PL_GLOBAL_SEED" not in os.environ
        monkeypatch.setenv("PL_GLOBAL_SEED", "7")
        first, second = order("false"), order("false")
        assert os.environ["PL_GLOBAL_SEED"] == "7"
        assert (first[1], second[1]) == (None, None)
        for one, other in combinations([seven, zero, first[0], second[0]], 2):
            assert one != other

    def test_none_goes_on(self, run: Run, record: Record, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """A fit without a seed that is stopped goes on in its own order: no sentence of the epoch twice."""
        flags = [*options(source, tiny_backbone, tmp_path), *LEARN, *keep(tmp_path), "--seed_everything=false"]
        every = "--trainer.callbacks.every_n_train_steps=2"
        assert run("fit", *flags, every, "--trainer.max_steps=2", "--trainer.max_epochs=-1").code == 0
        assert run("fit", *flags, every, "--ckpt_path=last").code == 0
        assert sorted(chain(*record.batches["training_step"])) == [*range(40)]

    def test_chosen(self, order: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """``true`` leaves the seed to Lightning, which takes the environment's; the lineage has the number."""
        monkeypatch.setenv("PL_GLOBAL_SEED", "11")
        chosen = order("true")
        assert chosen[1] == 11
        assert order("11") == chosen

    def test_bad(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """A seed that cannot be had is one line."""
        outcome = run("fit", *options(source, tiny_backbone, tmp_path / "run"), "--seed_everything=-1")
        assert_one_line(outcome, 2, "-1 is not in bounds")
