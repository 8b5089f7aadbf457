"""Options that would give a wrong or a misleading number end with one line instead."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

# Here and not in a test: see test_cli.py.
import xner.cli.building
from tests.commands import Outcome, Run, assert_one_line, options, results
from xner.batch import Batch
from xner.cli.main import main
from xner.errors import UserError
from xner.model.classifier import TokenClassifier
from xner.transfer.definition import Definition, define
from xner.transfer.experiment import Experiment
from xner.transfer.options import FewShot
from xner.transfer.plan import plan

ROOT = Path(__file__).parents[2]
CALLBACKS = "lightning.pytorch.callbacks"
LEARN = ["--model.learning_rate=5e-3", "--data.batch_size=8"]


def keep(root: Path, *init: str) -> list[str]:
    """Keep checkpoints in a known folder, the last one as ``last.ckpt``."""
    return [
        f"--trainer.callbacks+={CALLBACKS}.ModelCheckpoint",
        f"--trainer.callbacks.dirpath={root / 'checkpoints'}",
        "--trainer.callbacks.save_last=true",
        *(f"--trainer.callbacks.{each}" for each in init),
    ]


class TestUntrainedHead:
    @pytest.mark.parametrize("command", ["test", "validate", "predict"])
    def test_backbone(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path, command: str) -> None:
        """A head of random weights is not scored, and nothing is written."""
        outcome = run(command, *options(source, tiny_backbone, tmp_path / "run"))
        assert_one_line(outcome, 2, f"model.backbone={tiny_backbone!r} has no trained head", "train it with fit")
        assert outcome.out == ""
        assert not (tmp_path / "run").exists()

    def test_sample(self, run: Run, tmp_path: Path) -> None:
        """So it is with the embedded sample, whose configuration serves every command."""
        sample = f"--config={ROOT / 'configs' / 'sample.yaml'}"
        outcome = run("test", sample, f"--trainer.default_root_dir={tmp_path / 'run'}")
        assert_one_line(outcome, 2, "model.backbone='sample' has no trained head")

    @pytest.mark.parametrize("command", ["test", "validate", "predict"])
    def test_no_last_checkpoint(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path, command: str) -> None:
        """A last checkpoint that is not there trains no head."""
        with pytest.warns(UserWarning, match="no last checkpoint available"):
            outcome = run(command, *options(source, tiny_backbone, tmp_path / "run"), "--ckpt_path=last")
        assert_one_line(outcome, 2, "has no trained head")

    def test_weights_without_a_head(self, run: Run, source: Path, scored_backbone: Path, tmp_path: Path) -> None:
        """A folder that calls itself a token classifier, and whose weights have no head, is not scored either."""
        folder = Path(shutil.copytree(scored_backbone, tmp_path / "backbone"))
        weights = load_file(folder / "model.safetensors")
        save_file(
            {name: value for name, value in weights.items() if not name.startswith("classifier.")},
            folder / "model.safetensors",
            {"format": "pt"},
        )
        assert_one_line(run("test", *options(source, folder, tmp_path / "run")), 2, "has no trained head")


class TestTransferOptions:
    def test_agreeing(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """Options that say what transfer does are no mistake."""
        flags = [*options(source, tiny_backbone, tmp_path / "run"), "--sizes=[10]", "--plan"]
        agreeing = ["--source=tr", "--target=en", "--data.languages=[tr]", "--seeds=[7]", "--seed_everything=7"]
        assert run("transfer", *flags, *agreeing, "--data.subset_seed=7").code == 0

    def test_configurations(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """A configuration asks for what it says, but a run's own config.yaml does not: it holds every option."""
        flags = options(source, tiny_backbone, tmp_path / "fit")
        asked = ["--data.languages=[tr]", "--data.num_samples=9", "--data.subset_seed=7", "--seed_everything=5"]
        assert run("fit", *flags, *asked).code == 0
        own = tmp_path / "fit" / "config.yaml"
        flags = [f"--trainer.default_root_dir={tmp_path / 'run'}", "--sizes=[10]"]
        assert run("transfer", f"--config={own}", *flags).code == 0
        kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
        assert not {"languages", "num_samples", "subset_seed"} & kept["data"].keys()
        assert "seed_everything" not in kept
        by_hand = tmp_path / "by_hand.yaml"
        by_hand.write_text(own.read_text(encoding="utf-8").partition("\n")[2], encoding="utf-8")
        assert_one_line(run("transfer", f"--config={by_hand}", *flags), 2, "data.languages=['tr'] has no effect")

    def test_options_of_transfer(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """Other commands leave out a configuration's options of transfer, and nothing else."""
        path = tmp_path / "config.yaml"
        content: dict[str, Any] = {"sizes": [10], "seeds": [1, 2], "model": {"learning_rate": 0.25}}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        printed = run("fit", f"--config={path}", "--print_config")
        assert (printed.code, printed.err) == (0, "")
        held = yaml.safe_load(printed.out)
        assert "sizes" not in held
        assert held["model"]["learning_rate"] == 0.25
        printed = run("transfer", f"--config={path}", "--print_config")
        assert yaml.safe_load(printed.out)["sizes"] == [10]
        path.write_text(yaml.safe_dump(content | {"sices": [10]}), encoding="utf-8")
        assert_one_line(run("fit", f"--config={path}"), 2, "sices")


class TestDefinition:
    @staticmethod
    def definitions(settings: dict[str, Any], folder: Path) -> dict[str, Definition]:
        """Define the stages of an experiment with some more settings."""
        base = {"data.batch_size": 32, "model.backbone": str(folder)}
        stages = plan(source="en", target="tr", sizes=[10])
        splits = [f"{language}/{split}" for language in ("en", "tr") for split in ("train", "validation", "test")]
        experiment = Experiment(
            root=folder, stages=stages, evaluated=["en", "tr"], options=base | settings, backbone=str(folder),
            backbone_digest="0b", train_split="train", test_split="test", types=["PER"], few_shot=FewShot(),
            epochs={}, batch_sentences=32,
            digests=dict.fromkeys(splits, "0a"), work={},
        )  # fmt: skip
        return define(experiment)

    @pytest.mark.parametrize("option", ["trainer.plugins", "trainer.yet_to_come", "model.yet_to_come", "yet_to_come"])
    def test_every_option_counts(self, scored_backbone: Path, option: str) -> None:
        """An option that nobody thought of is part of what defines a result."""
        one, other = (self.definitions({option: value}, scored_backbone) for value in (1, 2))
        with pytest.raises(UserError, match=f"{option}=1, not 2"):
            other["source-en-seed42"].check_same(asdict(one["source-en-seed42"]), Path("stage"))
        # What starts from another stage is another one.
        assert one["progressive-tr-10-seed42"].start_from != other["progressive-tr-10-seed42"].start_from

    @pytest.mark.parametrize("option", ["trainer.logger", "trainer.default_root_dir", "data.source", "trainer.devices"])
    def test_where_and_what_is_shown(self, scored_backbone: Path, option: str) -> None:
        """Options that cannot change a result are not part of a stage's definition."""
        one, other = (self.definitions({option: value}, scored_backbone) for value in (1, 2))
        assert one == other

    def test_moved_folders(
        self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A run goes on where its data and its backbone lie elsewhere; with another tokenizer it does not."""
        data, backbone = (
            Path(shutil.copytree(folder, tmp_path / name))
            for folder, name in ((source, "data"), (tiny_backbone, "backbone"))
        )
        flags = ["--sizes=[10]", *LEARN]
        assert run("transfer", *options(data, backbone, tmp_path / "run"), *flags).code == 0
        data, backbone = (path.rename(path.with_name(f"moved-{path.name}")) for path in (data, backbone))

        def refuse(self: object, *args: object, **options: object) -> None:
            raise AssertionError("a complete stage was trained again")

        with monkeypatch.context() as patch:
            patch.setattr(xner.cli.building.Trainer, "fit", wraps(xner.cli.building.Trainer.fit)(refuse))
            assert run("transfer", *options(data, backbone, tmp_path / "run"), *flags).code == 0
        other = Path(shutil.copytree(backbone, tmp_path / "other"))
        tokenizer = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
        (other / "tokenizer.json").write_text(json.dumps(tokenizer, indent=3), encoding="utf-8")
        outcome = run("transfer", *options(data, other, tmp_path / "run"), *flags)
        assert_one_line(outcome, 2, "source-en-seed42 was run with start_from=")


class TestSelection:
    def test_best(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """``fit --select best`` writes the best epoch's weights, and says which one it is and how good."""
        monitor = ["monitor=val/f1", "mode=min", "save_top_k=1"]  # the worst epoch, which is not the last one
        flags = [*options(source, tiny_backbone, tmp_path / "run"), *LEARN, "--trainer.max_epochs=4"]
        flags += keep(tmp_path, *monitor)
        best = run("fit", *flags, "--select=best")
        assert best.code == 0, best
        [path] = (tmp_path / "checkpoints").glob("epoch=*.ckpt")
        checkpoint = torch.load(path, weights_only=True)
        [score] = [
            float(each["best_model_score"]) for each in checkpoint["callbacks"].values() if "best_model_score" in each
        ]
        model = tmp_path / "run" / "model"
        assert best.out == f"model folder: {model} (best epoch, {checkpoint['epoch'] + 1}: val/f1 {score:.4f})\n"
        assert checkpoint["epoch"] < 3
        weights = load_file(model / "model.safetensors")
        for name, value in weights.items():
            assert torch.equal(checkpoint["state_dict"][f"network.model.{name}"], value), name
        last = run("fit", *flags, f"--trainer.default_root_dir={tmp_path / 'last'}")
        assert "(last epoch, 4: val/f1 " in last.out
        others = load_file(tmp_path / "last" / "model" / "model.safetensors")
        assert any(not torch.equal(others[name], value) for name, value in weights.items())

    def test_best_without_a_callback(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """Where no callback monitors, the best epoch is that of F1 on validation, as in transfer."""
        flags = [*options(source, tiny_backbone, tmp_path / "run"), *LEARN, "--trainer.max_epochs=3"]
        outcome = run("fit", *flags, "--select=best")
        assert outcome.code == 0, outcome
        assert "(best epoch, " in outcome.out
        assert ": val/f1 " in outcome.out
        assert [*(tmp_path / "run").rglob("last.ckpt")]

    def test_last_of_best(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """Beside the best epoch the last one is kept, from which a fit goes on with the best score so far."""
        flags = [
            *options(source, tiny_backbone, tmp_path / "run"),
            *LEARN,
            "--model.schedule=constant",
            "--select=best",
        ]
        # The second half of the training undoes the first.
        assert run("fit", *flags, "--trainer.max_epochs=3").code == 0
        kept = tmp_path / "run" / "checkpoints"
        best, last = (torch.load(kept / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))
        assert best["epoch"] <= last["epoch"] == 2
        again = ["--trainer.max_epochs=4", f"--ckpt_path={kept / 'last.ckpt'}"]
        outcome = run("fit", *flags, *again)
        assert outcome.code == 0, outcome
        assert f"(best epoch, {best['epoch'] + 1}: val/f1 1.0000)" in outcome.out  # no later one is better than 1
        elsewhere = run("fit", *flags, *again, f"--trainer.default_root_dir={tmp_path / 'elsewhere'}")
        assert_one_line(elsewhere, 2, "select=best cannot be resumed with checkpoints in another folder", str(kept))
        assert not (tmp_path / "elsewhere" / "model").exists()

    def test_transfer_without_a_validation(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """A stage that ends before its first validation has no best epoch; without a last epoch, one may come."""
        flags = [*options(source, tiny_backbone, tmp_path), *LEARN, "--sizes=[10]", "--select=best"]
        flags += ["--trainer.max_epochs=null"]
        outcome = run("transfer", *flags, "--trainer.max_steps=2")
        assert_one_line(outcome, 1, "select=best found no best checkpoint")
        steps = ["--trainer.max_steps=12", "--trainer.check_val_every_n_epoch=2"]
        elsewhere = f"--trainer.default_root_dir={tmp_path / 'planned'}"
        planned = run("transfer", *flags, *steps, elsewhere, "--plan", "--data.num_samples=null")
        assert planned.code == 0, planned
        assert [line.split()[-1] for line in planned.out.splitlines()[2:]] == ["12", "12"]

    def test_no_best(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """Where training ends before a validation, there is no best epoch, and no model that passes for it."""
        flags = [*options(source, tiny_backbone, tmp_path / "run"), *LEARN, "--trainer.max_steps=2"]
        outcome = run("fit", *flags, "--trainer.max_epochs=-1", "--select=best")
        assert_one_line(outcome, 1, "select=best found no best checkpoint")
        assert not (tmp_path / "run" / "model").exists()
        outcome = run("fit", *flags, "--trainer.max_epochs=-1")
        assert "(last epoch, 1)" in outcome.out


class TestResuming:
    @pytest.fixture(scope="class")
    def checkpoint(self, source: Path, still_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A checkpoint of the first of two epochs."""
        root = tmp_path_factory.mktemp("half")
        every = keep(root, "every_n_train_steps=2", "save_top_k=-1")
        main(["fit", *options(source, still_backbone, root), *LEARN, *every, "--trainer.max_epochs=2"])
        return root / "checkpoints" / "epoch=0-step=2.ckpt"

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (
                ["--data.batch_size=16"],
                "data.batch_size x processes x trainer.accumulate_grad_batches=16 is not that of the training",
            ),
            (["--trainer.accumulate_grad_batches=2"], "trainer.accumulate_grad_batches=16 is not that of the training"),
            (
                ["--trainer.max_epochs=3"],
                "trainer.max_epochs or max_steps (in optimizer steps)=15 is not that of the training",
            ),
            (["--trainer.limit_train_batches=3"], "trainer.limit_train_batches=3 is not that of the training"),
            (["--trainer.overfit_batches=2"], "trainer.overfit_batches=2 is not that of the training"),
            (["--model.warmup_ratio=0.5"], "model.warmup_ratio (in steps)=5 is not that of the training"),
            (["--model.schedule=cosine"], "model.schedule=cosine is not that of the training"),
            (["--seed_everything=7"], "seed_everything=7 is not that of the training"),
            (["--data.shuffle_seed=7"], "data.shuffle_seed=7 is not that of the training"),
        ],
    )
    def test_other_steps(
        self, run: Run, checkpoint: Path, source: Path, still_backbone: Path, tmp_path: Path,
        change: Sequence[str], told: str,
    ) -> None:  # fmt: skip
        """A fit does not go on with steps that are not those of the training that its checkpoint is of."""
        flags = [*options(source, still_backbone, tmp_path / "run"), *LEARN, "--trainer.max_epochs=2"]
        outcome = run("fit", *flags, *change, f"--ckpt_path={checkpoint}")
        assert_one_line(outcome, 2, told, "the training that ckpt_path continues", "--model.backbone")
        assert not (tmp_path / "run" / "model").exists()

    def test_same_steps(self, run: Run, checkpoint: Path, source: Path, still_backbone: Path, tmp_path: Path) -> None:
        """With the same options it does."""
        flags = [*options(source, still_backbone, tmp_path / "run"), *LEARN, "--trainer.max_epochs=2"]
        outcome = run("fit", *flags, f"--ckpt_path={checkpoint}")
        assert outcome.code == 0, outcome


class TestDivergence:
    @pytest.fixture
    def spoil(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
        """Make a weight infinite before some training step, as an overflow would."""

        def at(step: int) -> None:
            work = TokenClassifier.training_step

            @wraps(work)
            def spoilt(model: TokenClassifier, batch: Batch) -> Tensor:
                if model.trainer.global_step == step:
                    with torch.no_grad():
                        model.network.model.classifier.weight[0, 0] = float("inf")
                return work(model, batch)

            monkeypatch.setattr(TokenClassifier, "training_step", spoilt)

        return at

    def test_learning_rate(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """A learning rate that no weights survive is a failed run without a model folder."""
        flags = [*options(source, tiny_backbone, tmp_path / "run"), "--model.learning_rate=1e38", "--data.batch_size=8"]
        outcome = run("fit", *flags, "--trainer.max_epochs=3")
        assert outcome.code == 1, outcome
        assert outcome.err.splitlines()[-1].startswith("xner: error: training diverged: the ")
        assert " at a learning rate of " in outcome.err
        assert not (tmp_path / "run" / "model").exists()

    def test_fit(
        self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path, spoil: Callable[[int], None]
    ) -> None:
        """The line names step, learning rate and sentences, and the checkpoint of the last good epoch, which stays."""
        spoil(7)
        flags = [*options(source, tiny_backbone, tmp_path / "run"), *LEARN, *keep(tmp_path), "--trainer.max_epochs=2"]
        outcome = run("fit", *flags)
        last = tmp_path / "checkpoints" / "last.ckpt"
        assert_one_line(outcome, 1, "training diverged: the loss of step 8 is ", "a learning rate of 0.0015")
        assert f"the last checkpoint is {last}" in outcome.err
        numbers = outcome.err.partition("training sentences ")[2].partition(" (")[0].split(", ")
        assert len({*map(int, numbers)} & {*range(40)}) == 8
        assert not (tmp_path / "run" / "model").exists()
        checkpoint = torch.load(last, weights_only=True)
        assert checkpoint["epoch"] == 0
        weights = [value for value in checkpoint["state_dict"].values() if isinstance(value, Tensor)]
        assert all(value.isfinite().all() for value in weights)

    def test_transfer(
        self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path, spoil: Callable[[int], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """A transfer names the stage, keeps what is complete and goes on from there."""
        with monkeypatch.context():
            spoil(5)
            flags = [*options(source, tiny_backbone, tmp_path), *LEARN, "--sizes=[10]", "--trainer.max_epochs=2"]
            outcome = run("transfer", *flags)
            assert_one_line(outcome, 1, "source-en-seed42: training diverged: the loss of step 6 is")
        monkeypatch.undo()
        assert run("transfer", *flags).code == 0
        assert len(results(tmp_path)) == 4

    def test_gradient(
        self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A gradient that overflows under a finite loss ends the run before the step."""

        def overflow(model: TokenClassifier) -> None:
            gradient = model.network.model.classifier.weight.grad
            assert gradient is not None
            gradient[0, 0] = float("nan")

        monkeypatch.setattr(TokenClassifier, "on_after_backward", overflow)
        outcome = run("fit", *options(source, tiny_backbone, tmp_path / "run"), *LEARN)
        assert_one_line(outcome, 1, "training diverged: the gradient norm of step 1 is nan", "in training sentences ")

    def test_last_step(
        self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Weights that the last step spoils are written neither into a checkpoint nor into a model folder."""

        def spoil(model: TokenClassifier, *_: object) -> None:
            with torch.no_grad():
                model.network.model.classifier.weight[0, 0] = float("nan")

        monkeypatch.setattr(TokenClassifier, "on_train_epoch_end", spoil)
        for checkpointing in ("true", "false"):
            flags = [*options(source, tiny_backbone, tmp_path / "run"), *LEARN, "--trainer.logger=false"]
            outcome = run("fit", *flags, f"--trainer.enable_checkpointing={checkpointing}")
            assert_one_line(outcome, 1, "training diverged: ", "classifier.weight is not finite")
            assert not [*(tmp_path / "run").rglob("*.ckpt")]
            assert not (tmp_path / "run" / "model").exists()

    @pytest.mark.parametrize("command", ["fit", "test", "validate", "predict", "transfer"])
    @pytest.mark.parametrize("value", [float("nan"), float("-inf")])
    def test_model_folder(
        self, run: Run, source: Path, scored_backbone: Path, tmp_path: Path, command: str, value: float
    ) -> None:
        """A model folder with weights that are not finite is refused wherever it is loaded."""
        folder = self.spoilt(scored_backbone, tmp_path, value)
        sizes = ["--sizes=[10]"] if command == "transfer" else []
        outcome = run(command, *options(source, folder, tmp_path / "run"), *sizes)
        assert outcome.code == 1
        assert "has weights that are not finite (roberta.encoder.layer.0" in outcome.err.splitlines()[-1]

    def test_tagger(self, run: Run, scored_backbone: Path, tmp_path: Path) -> None:
        """So it is by ``tag``."""
        folder = self.spoilt(scored_backbone, tmp_path, float("nan"))
        assert_one_line(run("tag", "--model", folder, "Ankara"), 1, "weights that are not finite")

    @staticmethod
    def spoilt(backbone: Path, folder: Path, value: float) -> Path:
        """Copy a model folder and spoil one number of it."""
        copy = Path(shutil.copytree(backbone, folder / "backbone"))
        weights = load_file(copy / "model.safetensors")
        weights["roberta.encoder.layer.0.attention.self.query.weight"][3, 5] = value
        save_file(weights, copy / "model.safetensors", {"format": "pt"})
        return copy


class TestLineage:
    def test_parent_without_lineage(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """A stage does not start from weights whose folder no longer says what they were trained on."""
        flags = [*options(source, tiny_backbone, tmp_path), *LEARN]
        assert run("transfer", *flags, "--sizes=[10]").code == 0
        model = tmp_path / "stages" / "source-en-seed42" / "model"
        for name in ("lineage.json", "seen.safetensors"):
            (model / name).unlink()
        outcome = run("transfer", *flags, "--sizes=[10]", "--regimes=[independent]")
        assert outcome.code == 1
        assert f"{model} is damaged, or was changed after source-en-seed42 had written it" in outcome.err
        assert not (tmp_path / "stages" / "independent-tr-10-seed42").exists()

    def test_classifier_of_unknown_origin(
        self, run: Run, source: Path, scored_backbone: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Nothing is zero-shot of a token classifier that does not say what it was trained on, now or later."""
        outcome = run("test", *options(source, scored_backbone, tmp_path / "test"), "--data.test_languages=[tr]")
        assert outcome.code == 0, outcome
        assert "\ntr/test: F1 0." in outcome.out
        assert "what it was trained on is unknown" in caplog.text
        assert "\nhow many of the test sentences the weights were trained on is not recorded\n" in outcome.out
        assert run("transfer", *options(source, scored_backbone, tmp_path / "run"), "--sizes=[10]").code == 0
        rows = results(tmp_path / "run")
        assert {row["zero_shot"] for row in rows} == {"False"}
        unknown = ("seen_sentences", "near_duplicates", "f1_unseen", "f1_seen_entities", "f1_unseen_entities")
        assert {row[name] for row in rows for name in unknown} == {""}
        lineage = tmp_path / "run" / "stages" / "source-en-seed42" / "model" / "lineage.json"
        assert json.loads(lineage.read_text(encoding="utf-8"))["unrecorded"] is True


def test_module(tmp_path: Path) -> None:
    """``python -m xner.cli`` is the command."""
    done = subprocess.run(
        [sys.executable, "-m", "xner.cli", "nonsense"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert_one_line(Outcome(done.returncode, done.stdout, done.stderr), 2, "'nonsense' is not a command")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"model: [", "is not YAML"),
        (b"- a\n- b\n", "is not a mapping of options"),
        (b"", "is not a mapping of options"),
    ],
)
def test_bad_configuration(run: Run, tmp_path: Path, content: bytes, told: str) -> None:
    """A configuration that cannot be read is one line that names the file."""
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    assert_one_line(run("fit", f"--config={path}"), 2, f"config={path}", told)


def test_foreign_checkpoint(run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
    """A file that torch has saved, but not Lightning, is not a checkpoint."""
    torch.save({"a": torch.ones(1)}, tmp_path / "other.ckpt")
    outcome = run("fit", *options(source, tiny_backbone, tmp_path / "run"), f"--ckpt_path={tmp_path / 'other.ckpt'}")
    assert_one_line(outcome, 2, "other.ckpt", "is not a checkpoint of Lightning")


def test_other_sizes(run: Run, source: Path, scored_backbone: Path, tmp_path: Path) -> None:
    """A model folder whose configuration does not fit its weights is one line."""
    folder = Path(shutil.copytree(scored_backbone, tmp_path / "backbone"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 64}), encoding="utf-8")
    outcome = run("test", *options(source, folder, tmp_path / "run"))
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1].startswith(f"xner: error: model.backbone={str(folder)!r} cannot be loaded")
