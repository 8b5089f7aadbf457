import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from seqeval.metrics import classification_report

# Here and not in a test: Lightning's log would hold on to the standard error of the first test that imports it.
import xner.cli.building
from tests.commands import Run, assert_one_line, change_result, options, results
from tests.sources import as_jsonl, as_rows, random_sentences
from xner.cli import TOOLS
from xner.cli.main import main
from xner.data.sources import Split
from xner.tags import PANX
from xner.transfer.result import CSV_COLUMNS, read_result

SWEEP = Path(__file__).parents[2] / "configs" / "sweep.yaml"
CONFIGS = sorted({*SWEEP.parent.glob("*.yaml")} - {SWEEP})


@pytest.fixture(scope="module")
def model(source: Path, tiny_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a fit on English."""
    root = tmp_path_factory.mktemp("fit")
    main(["fit", *options(source, tiny_backbone, root), "--model.learning_rate=5e-3"])
    return root / "model"


class TestFit:
    def test_model_folder(self, model: Path, tiny_backbone: str, source: Path) -> None:
        """Fitting leaves a Hugging Face folder with tags, weights, tokenizer and the lineage of the weights."""
        assert {path.name for path in model.iterdir()} == {
            *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
            *("lineage.json", "seen.safetensors", "README.md"),
        }
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        assert config["id2label"] == {str(label): tag for label, tag in enumerate(PANX.tags)}
        assert config["architectures"] == ["XLMRobertaForTokenClassification"]
        lineage = json.loads((model / "lineage.json").read_text(encoding="utf-8"))
        assert lineage["origin"] == tiny_backbone
        [episode] = lineage["episodes"]
        del episode["digest"]
        assert episode == {
            "source": str(source),
            "language": "en",
            "split": "train",
            "sentences": 40,
            "shuffle_seed": 0,
            "subset_seed": None,
            "seed": 42,
            "types": ["PER", "ORG", "LOC"],
            "map_types": {},
            "labels": "gold",
        }
        before, after = (load_file(Path(folder) / "model.safetensors") for folder in (tiny_backbone, model))
        [name] = [name for name in after if name.endswith("word_embeddings.weight")]
        [old] = [value for key, value in before.items() if key.endswith("word_embeddings.weight")]
        assert after[name].shape == old.shape
        assert not torch.equal(after[name], old)
        assert {path.name for path in model.parent.iterdir()} == {".lock", "config.yaml", "model", "logs"}

    def test_goes_on_from_a_model_folder(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        """Fitting from a model folder adds an episode a language to its lineage."""
        outcome = run(
            *("fit", *options(source, model, tmp_path / "run"), "--data.languages=[tr,en]"),
            *("--data.num_samples={tr: 10, en: 3}", "--seed_everything=7"),
        )
        assert outcome.code == 0, outcome
        lineage = json.loads((tmp_path / "run" / "model" / "lineage.json").read_text(encoding="utf-8"))
        found = [
            (each["language"], each["sentences"], each["subset_seed"], each["seed"]) for each in lineage["episodes"]
        ]
        assert found == [("en", 40, None, 42), ("tr", 10, 42, 7), ("en", 3, 42, 7)]

    def test_home_folder(
        self, run: Run, source: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A shell leaves ~ in --option=~/run as it is; the model and the logs are in one folder of the user's."""
        home = tmp_path / "home"
        monkeypatch.setenv("HOME", str(home))
        outcome = run("fit", *options(source, tiny_backbone, "~/run"), "--trainer.max_steps=1")
        assert outcome.code == 0, outcome
        assert {path.name for path in (home / "run").iterdir()} >= {"model", "logs", "config.yaml"}
        assert [*home.iterdir(), *Path().iterdir()] == [home / "run"]

    def test_kept_configuration_runs_again(self, run: Run, model: Path, tmp_path: Path) -> None:
        """``config.yaml`` is all that the same fit needs: the weights are equal to the bit."""
        root = tmp_path / "again"
        outcome = run("fit", f"--config={model.parent / 'config.yaml'}", f"--trainer.default_root_dir={root}")
        assert outcome.code == 0, outcome
        first, again = (load_file(folder / "model.safetensors") for folder in (model, root / "model"))
        assert first.keys() == again.keys()
        for name in first:
            assert torch.equal(first[name], again[name]), name
        assert "is of another training" not in outcome.err
        changed = ["--model.learning_rate=1e-3", "--trainer.max_steps=1", f"--trainer.default_root_dir={root}"]
        outcome = run("fit", f"--config={model.parent / 'config.yaml'}", *changed)
        assert f"{root / 'model'} is of another training, and is replaced when this one ends" in outcome.err


class TestFullDisk:
    @pytest.mark.parametrize(
        ("command", "file"),
        [
            ("fit", "epoch=0-step=2.ckpt"),
            pytest.param("transfer", "last.ckpt", marks=pytest.mark.slow),
            ("transfer", "result.json"),
            pytest.param("fit", "config.yaml", marks=pytest.mark.slow),
        ],
    )
    def test_one_line(
        self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        command: str, file: str,
    ) -> None:  # fmt: skip
        """A file that there is no room for is named in one line, is not there in part, and is there the next time."""
        sizes = ["--sizes=[10]"] if command == "transfer" else []
        words = [command, *options(source, tiny_backbone, tmp_path / "run"), *sizes]
        opened: Any = Path.open

        def no_room(path: Path, *args: object, **named: object) -> object:
            return opened(Path("/dev/full") if path.name.startswith(f".{file}.") else path, *args, **named)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", no_room)
            assert_one_line(run(*words), 1, file, "No space left on device; free space")
        assert not [*(tmp_path / "run").rglob(file)]
        assert run(*words).code == 0
        assert command == "fit" or results(tmp_path / "run")

    def test_weights(
        self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So it is with a model folder's weights, which another library writes."""

        def no_room(*args: object, **named: object) -> None:
            raise SafetensorError("I/O error: No space left on device (os error 28)")

        monkeypatch.setattr("transformers.modeling_utils.safe_save_file", no_room)
        outcome = run("fit", *options(source, tiny_backbone, tmp_path / "run"))
        assert_one_line(outcome, 1, str(tmp_path / "run"), "No space left on device", "repeat the command")
        assert not (tmp_path / "run" / "model").exists()


class TestEvaluation:
    def test_test(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        """Testing prints seqeval's own report of each language, and says which are zero-shot."""
        told = run("predict", *options(source, model, tmp_path / "run"), "--data.test_languages=[en,tr]")
        assert told.code == 0, told
        outcome = run("test", *options(source, model, tmp_path / "run"), "--data.test_languages=[en,tr]")
        assert outcome.code == 0, outcome
        assert "\nen/test: F1 0." in outcome.out
        assert "\ntr/test (zero-shot): F1 0." in outcome.out
        for language in ("en", "tr"):
            # Evaluation goes by length, so the report's lines may not depend on the order of sentences.
            text = (tmp_path / "run" / f"{language}-test.jsonl").read_text(encoding="utf-8")
            rows = [json.loads(line) for line in text.splitlines()]
            gold, predicted = ([row[name] for row in rows] for name in ("ner_tags", "predicted_tags"))
            assert classification_report(gold, predicted, digits=4, zero_division=0) in outcome.out

    def test_validate(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        """Validation logs the scores of all languages together."""
        outcome = run("validate", *options(source, model, tmp_path / "run"), "--data.languages=[en,tr]")
        assert outcome.code == 0, outcome
        with (tmp_path / "run" / "logs" / "version_0" / "metrics.csv").open(encoding="utf-8") as file:
            [row] = csv.DictReader(file)
        names = "f1 precision recall accuracy f1_PER f1_ORG f1_LOC f1_strict f1_macro".split()
        assert row.keys() >= {f"val/{name}" for name in names}
        assert all(0 <= float(row[f"val/{name}"]) <= 1 for name in names)

    def test_predict(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        """Prediction writes every sentence of test in the order of the source, with a tag a word."""
        outcome = run("predict", *options(source, model, tmp_path / "run"), "--data.test_languages=[tr]")
        assert outcome.code == 0, outcome
        text = (tmp_path / "run" / "tr-test.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.split("\n")[:-1]]
        sentences = Split(str(source), "tr", "test").sentences
        assert [row["tokens"] for row in rows] == sentences.words
        assert [row["ner_tags"] for row in rows] == sentences.tags
        assert all(len(row["predicted_tags"]) == len(row["tokens"]) for row in rows)
        assert {tag for row in rows for tag in row["predicted_tags"]} <= {*PANX.tags}

    def test_nothing_to_find(self, run: Run, model: Path, tmp_path: Path) -> None:
        """A test split without an entity is reported like any other."""
        (tmp_path / "data" / "tr").mkdir(parents=True)
        (tmp_path / "data" / "tr" / "test.tsv").write_text("bir\tO\nve\tO\n", encoding="utf-8")
        for command in ("test", "predict"):
            outcome = run(command, *options(tmp_path / "data", model, tmp_path / "run"), "--data.languages=[tr]")
            assert outcome.code == 0, outcome

    def test_part_of_the_test(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        """With a limit on batches, the report is of the sentences that were seen."""
        outcome = run(
            *("test", *options(source, model, tmp_path / "run")),
            *("--data.evaluation_pieces=60", "--trainer.limit_test_batches=2"),
        )
        assert outcome.code == 0, outcome
        told = outcome.out
        assert "\nen/test: F1 0." in told
        split = Split(str(source), "en", "test").sentences
        seen = int(re.search(r"of (\d+) test sentences", told)[1])
        assert 0 < seen < len(split.words)
        [unscored] = re.findall(r"\npart of the split, its longest sentences: (\d+) words have no score\n", told)
        assert 0 < int(unscored) < sum(map(len, split.words))


class TestTransfer:
    @pytest.fixture(scope="class")
    def done(self, source: Path, tiny_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The folder of a whole run with two sizes."""
        root = tmp_path_factory.mktemp("transfer") / "run"
        main(["transfer", *options(source, tiny_backbone, root), "--sizes=[10,20]", "--model.learning_rate=5e-3"])
        return root

    def test_what_it_writes(self, done: Path) -> None:
        """The run's folder has the contract's files, and the source stage's model."""
        files = {path.name for path in done.iterdir()}
        assert files >= {"config.yaml", "results.csv", "curve.png", "curve.svg", "stages"}
        assert {path.name for path in (done / "sentences").iterdir()} == {"en-test.json", "tr-test.json"}
        stages = ["source-en-seed42", "progressive-tr-10-seed42", "progressive-tr-20-seed42"]
        assert {path.name for path in (done / "stages").iterdir()} == {*stages}
        for stage in stages:
            assert {"result.json", "counts.npz"} <= {path.name for path in (done / "stages" / stage).iterdir()}
            assert (done / "stages" / stage / "model").exists() is stage.startswith("source")

    def test_results(self, done: Path, tiny_backbone: str) -> None:
        """``results.csv`` has a row per stage and language; only the source stage's Turkish is zero-shot."""
        with (done / "results.csv").open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = [*reader]
        assert tuple(reader.fieldnames or ()) == CSV_COLUMNS
        names = ("stage", "start_from", "train_languages", "train_samples", "eval_language", "zero_shot")
        first, second, third = "source-en-seed42", "progressive-tr-10-seed42", "progressive-tr-20-seed42"
        assert [tuple(row[name] for name in names) for row in rows] == [
            (first, tiny_backbone, "en", "40", "en", "False"),
            (first, tiny_backbone, "en", "40", "tr", "True"),
            (second, first, "tr", "10", "en", "False"),
            (second, first, "tr", "10", "tr", "False"),
            (third, second, "tr", "20", "en", "False"),
            (third, second, "tr", "20", "tr", "False"),
        ]
        for row in rows:
            assert (row["split"], row["sentences"], row["unscored_words"]) == ("test", "40", "0")

    def test_second_start(
        self, run: Run, done: Path, source: Path, tiny_backbone: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A second start trains nothing, and its results are equal."""

        def refuse(*args: object, **options: object) -> None:
            raise AssertionError("a complete stage was trained again")

        before = (done / "results.csv").read_bytes()
        monkeypatch.setattr(xner.cli.building.Trainer, "fit", refuse)
        outcome = run(
            "transfer", *options(source, tiny_backbone, done), "--sizes=[10,20]", "--model.learning_rate=5e-3"
        )
        assert outcome.code == 0, outcome
        assert outcome.out.count(": complete, F1 ") == 3
        assert (done / "results.csv").read_bytes() == before

    def test_model_folder_gives_the_same_scores(self, run: Run, done: Path, source: Path, tmp_path: Path) -> None:
        """Testing the source stage's model folder gives the run's own numbers, language by language."""
        stage = done / "stages" / "source-en-seed42"
        outcome = run("test", *options(source, stage / "model", tmp_path / "run"), "--data.test_languages=[tr,en]")
        assert outcome.code == 0, outcome
        result = read_result(stage)
        assert result
        for evaluation in result["evaluations"]:
            note = " (zero-shot)" if evaluation["zero_shot"] else ""
            scores = f"F1 {evaluation['f1']:.4f}, strict {evaluation['f1_strict']:.4f}"
            assert f"{evaluation['language']}/test{note}: {scores}" in outcome.out

    @pytest.mark.parametrize(
        ("change", "name"),
        [
            ("--model.learning_rate=1e-3", "model.learning_rate"),
            ("--data.batch_size=16", "data.batch_size x processes"),
            ("--trainer.max_epochs=2", "trainer.max_epochs"),
            ("--select=best", "select"),
        ],
    )
    def test_folder_of_another_configuration(
        self, run: Run, done: Path, source: Path, tiny_backbone: str, change: str, name: str
    ) -> None:
        """A folder of another configuration is left as it is; the line names the option and both values."""
        before = {path: path.read_bytes() for path in done.rglob("*") if path.is_file()}
        outcome = run(
            *("transfer", *options(source, tiny_backbone, done), "--sizes=[10,20]", "--model.learning_rate=5e-3"),
            change,
        )
        assert_one_line(outcome, 2, f"{name}=", "source-en-seed42", "--trainer.default_root_dir")
        assert {path: path.read_bytes() for path in done.rglob("*") if path.is_file()} == before

    def test_folder_of_other_sizes(self, run: Run, done: Path, source: Path, tiny_backbone: str) -> None:
        """A later stage that would start elsewhere is told before a new one is trained for it."""
        before = {path: path.read_bytes() for path in done.rglob("*") if path.is_file()}
        outcome = run("transfer", *options(source, tiny_backbone, done), "--sizes=[5,20]", "--model.learning_rate=5e-3")
        assert_one_line(outcome, 2, "progressive-tr-20-seed42 was run from progressive-tr-10-seed42, not from")
        assert {path: path.read_bytes() for path in done.rglob("*") if path.is_file()} == before

    def test_folder_of_another_version(
        self, run: Run, done: Path, source: Path, tiny_backbone: str, tmp_path: Path
    ) -> None:
        """An option that a folder does not know is not said to have had another value."""
        shutil.copytree(done, tmp_path / "run")
        path = tmp_path / "run" / "stages" / "source-en-seed42" / "result.json"
        change_result(path, lambda result: result["definition"]["options"].pop("model.schedule"))
        flags = [*options(source, tiny_backbone, tmp_path / "run"), "--model.learning_rate=5e-3"]
        outcome = run("transfer", *flags, "--sizes=[10,20]")
        assert_one_line(outcome, 2, "another version of xner, where model.schedule had another meaning")

    def test_damaged_result(self, run: Run, done: Path, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """A stage's result that is no JSON is told by its file."""
        shutil.copytree(done, tmp_path / "run")
        path = tmp_path / "run" / "stages" / "progressive-tr-10-seed42" / "result.json"
        path.write_text("{", encoding="utf-8")
        outcome = run(
            *("transfer", *options(source, tiny_backbone, tmp_path / "run"), "--sizes=[10,20]"),
            "--model.learning_rate=5e-3",
        )
        assert_one_line(outcome, 1, f"{path} is damaged", f"delete {path.parent} to run the stage again")

    @pytest.mark.parametrize("moment", ["fit", "test"])
    def test_interruption(
        self, run: Run, done: Path, source: Path, tiny_backbone: str, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, moment: str,
    ) -> None:  # fmt: skip
        """A run that is stopped while a stage trains or is tested, and started again, ends as if it was not."""
        command = ["transfer", *options(source, tiny_backbone, tmp_path / "run"), "--sizes=[10,20]"]
        command.append("--model.learning_rate=5e-3")
        calls = []

        def stop(*args: object, **options: object) -> object:
            calls.append(args)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return work(*args, **options)

        work = getattr(xner.cli.building.Trainer, moment)
        with monkeypatch.context() as patch:
            patch.setattr(xner.cli.building.Trainer, moment, stop)
            stopped = run(*command)
        assert_one_line(stopped, 130, "stopped: the same command continues")
        assert not (tmp_path / "run" / "stages" / "progressive-tr-10-seed42" / "result.json").exists()
        outcome = run(*command)
        assert outcome.code == 0, outcome
        assert outcome.out.count(": complete, F1 ") == 1
        for rows in zip(*map(results, (done, tmp_path / "run")), strict=True):
            assert rows[0] == rows[1]

    def test_folder_of_other_data(self, run: Run, done: Path, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """A run is not continued on sentences that have changed under the same options."""
        shutil.copytree(done, tmp_path / "run")
        train = source / "tr" / "train.tsv"
        kept = train.read_bytes()
        first, _, rest = kept.partition(b"\n\n")
        train.write_bytes(rest + first + b"\n\n")
        try:
            outcome = run(
                *("transfer", *options(source, tiny_backbone, tmp_path / "run"), "--sizes=[10,20]"),
                "--model.learning_rate=5e-3",
            )
        finally:
            train.write_bytes(kept)
        # The source stage has not seen them, and stays.
        assert_one_line(outcome, 2, "progressive-tr-10-seed42 was run with sentences of tr/train=")


BAD_OPTIONS = [
    ("transfer", ["--sizes=[]"], 2, "sizes=[] is empty; use at least one value"),
    ("transfer", ["--sizes=[20,10]"], 2, "sizes=[20, 10] is not increasing"),
    ("transfer", ["--sizes=[10,10]"], 2, "sizes=[10, 10] has duplicates"),
    ("transfer", ["--sizes=[0]"], 2, "sizes=[0] is not increasing from 1 or more"),
    ("transfer", ["--sizes=[10,41]"], 2, "sizes=[10, 41] exceeds the 40 sentences of tr/train"),
    ("transfer", ["--sizes=[ten]"], 2, "sizes"),
    ("transfer", ["--sizes=[10]", "--source=eng"], 2, "language 'eng' is not in"),
    ("transfer", ["--sizes=[10]", "--target=tur"], 2, "did you mean 'tr'?"),
    ("transfer", ["--sizes=[10]", "--target=en"], 2, "source=en is the target en as well"),
    (
        "transfer",
        ["--sizes=[10]", "--regimes=[other]"],
        2,
        "'other' is not a regime; use some of progressive, independent",
    ),
    ("transfer", ["--sizes=[10]", "--keep=some"], 2, "keep"),
    ("transfer", ["--sizes=[10]", "--self_training.labels=medium"], 2, "self_training.labels"),
    ("transfer", ["--sizes=[10]", "--self_training.confidence=1.5"], 2, "self_training.confidence=1.5 is not between"),
    ("transfer", ["--sizes=[10]", "--self_training.rounds=0"], 2, "self_training.rounds=0 is not positive; use 1"),
    ("transfer", ["--shots=[1]", "--regimes=[self_training]"], 2, "shots=[1] is not possible with self_training"),
    ("transfer", ["--select=best", "--regimes=[self_training]"], 2, "select=best is not possible with self_training"),
    ("transfer", ["--sizes=[10]", "--data.num_samples=10"], 2, "data.num_samples=10 has no effect in transfer, which"),
    ("transfer", ["--sizes=[10]", "--data.languages=[en,de]"], 2, "data.languages=['en', 'de'] has no effect"),
    ("transfer", ["--sizes=[10]", "--data.languages=[en]", "--source=tr", "--target=en"], 2, "use --source and"),
    ("transfer", ["--sizes=[10]", "--data.subset_seed=7"], 2, "data.subset_seed=7 has no effect in transfer"),
    ("transfer", ["--sizes=[10]", "--data.subset_seed=42", "--seeds=[1]"], 2, "data.subset_seed=42 has no effect"),
    ("transfer", ["--sizes=[10]", "--data.subset_seed", "42", "--seeds=[42,43]"], 2, "it for each stage; use --seeds"),
    ("transfer", ["--sizes=[10]", "--seed_everything=7"], 2, "seed_everything=7 has no effect in transfer"),
    ("transfer", ["--sizes=[10]", "--seed_everything=false"], 2, "seed_everything=False has no effect in transfer"),
    ("transfer", ["--sizes=[10]", "--trainer.enable_checkpointing=false"], 2, "trainer.enable_checkpointing=False has"),
    ("transfer", ["--sizes=[10]", "--trainer.max_epochs=0"], 2, "trainer.max_epochs=0 trains nothing"),
    (
        "transfer",
        ["--sizes=[10]", "--select=best", "--trainer.limit_val_batches=0"],
        2,
        "limit_val_batches=0 skips validation",
    ),
    ("fit", ["--trainer.max_epochs=0"], 2, "trainer.max_epochs=0 trains nothing; use 1 or more"),
    ("fit", ["--trainer.limit_train_batches=0"], 2, "trainer.limit_train_batches=0 trains nothing"),
    ("fit", ["--select=best", "--trainer.limit_val_batches=0"], 2, "trainer.limit_val_batches=0 skips validation"),
    (
        "fit",
        ["--select=best", "--trainer.check_val_every_n_epoch=2"],
        2,
        "trainer.check_val_every_n_epoch=2 is more than",
    ),
    ("fit", ["--select=worst"], 2, "select"),
    ("fit", ["--sizes=[10]"], 2, "--sizes"),
    ("fit", ["--model.learning_rate=.inf"], 2, "model.learning_rate=inf is not finite"),
    ("fit", ["--model.weight_decay=1e999"], 2, "model.weight_decay=inf is not finite"),
    ("fit", ["--model.learning_rate=.nan"], 2, "model.learning_rate=nan is not finite"),
    ("fit", ["--trainer.gradient_clip_val=.inf"], 2, "trainer.gradient_clip_val=inf is not finite"),
    ("transfer", ["--sizes=[10]", "--model.learning_rate=.inf"], 2, "model.learning_rate=inf is not finite"),
    (
        "transfer",
        ["--sizes=[10]", "--select=best", "--trainer.check_val_every_n_epoch=2"],
        2,
        "trainer.check_val_every_n_epoch=2 is more than",
    ),
    ("transfer", ["--sizes=[10]", "--trainer.limit_test_batches=1"], 2, "would leave words unscored"),
    ("transfer", ["--sizes=[10]", "--trainer.limit_test_batches=0"], 2, "would leave words unscored"),
    ("transfer", ["--sizes=[10]", "--trainer.limit_test_batches=0.5"], 2, "would leave words unscored"),
    ("transfer", ["--sizes=[10]", "--trainer.fast_dev_run=true"], 2, "fast_dev_run=True would leave words unscored"),
    ("fit", ["--data.num_samples=41"], 2, "data.num_samples=41 exceeds the 40 sentences of en/train"),
    ("fit", ["--data.num_samples=0"], 2, "data.num_samples=0 is not a number of sentences; use 1 to 40"),
    ("fit", ["--data.num_samples=-1"], 2, "data.num_samples=-1 is not a number of sentences; use 1 to 40"),
    ("fit", ["--data.num_samples=few"], 2, "num_samples"),
    ("fit", ["--data.subset_seed=-4"], 2, "data.subset_seed=-4 is negative; use 0 or more"),
    ("transfer", ["--sizes=[10]", "--seeds=[]"], 2, "seeds=[] is empty; use at least one value"),
    ("transfer", ["--sizes=null"], 2, "sizes=None is not a list; leave the option out"),
    ("transfer", ["--sizes=[10]", "--seeds=[5000000000]"], 2, "out of range; use 0 to 4294967295"),
    ("fit", ["--data.languages=[eng]"], 2, "language 'eng' is not in data.source="),
    ("fit", ["--data.languages=en"], 2, 'data.languages=en is not a list; use "[en]"'),
    ("transfer", ["--sizes=10,20"], 2, 'sizes=10,20 is not a list; use "[10,20]"'),
    ("fit", ["--data.languages=[]"], 2, "data.languages=[] is empty"),
    ("fit", ["--data.source=nowhere"], 2, "data.source='nowhere' does not exist; use"),
    ("fit", ["--data.source=panx"], 1, "with --data.source FOLDER"),
    ("fit", ["--data.source=panx", "--data.languages=[tur]"], 2, "language 'tur' is not in PAN-X"),
    ("fit", ["--data.max_length=2"], 2, "data.max_length=2 leaves no room for a piece; use 3 or more"),
    ("fit", ["--data.max_length=513"], 2, "data.max_length=513 exceeds the 512 subwords"),
    ("fit", ["--data.batch_size=0"], 2, "data.batch_size=0 is not positive; use 1 or more"),
    ("fit", ["--model.backbone=./nowhere"], 2, "model.backbone='./nowhere' is not a folder; use"),
    ("fit", ["--model.backbone=nobody/nothing"], 1, "'nobody/nothing' cannot be loaded"),
    ("fit", ["--model.learning_rate=-1"], 2, "model.learning_rate=-1.0 is not above 0 and finite"),
    ("fit", ["--model.warmup_ratio=2"], 2, "model.warmup_ratio=2.0 is not between 0 and 1"),
    ("fit", ["--model.schedule=square"], 2, "schedule"),
    ("fit", ["--trainer.accelerator=nothing"], 2, "these options give no trainer"),
    ("fit", ["--ckpt_path=nowhere.ckpt"], 2, "nowhere.ckpt"),
    ("fit", ["--config=nowhere.yaml"], 2, "nowhere.yaml"),
    ("fit", [f"--trainer.default_root_dir={__file__}"], 2, "is a file; use a folder"),
    ("fit", ["--trainer.default_root_dir=file:///tmp/run"], 2, "is a URL; use a folder"),
    ("fit", ["--trainer.default_root_dir=s3://bucket/run"], 2, "is a URL; use a folder"),
    ("fit", ["--trainer.default_root_dir=file:/tmp/run"], 2, "is a URL; use a folder"),
    ("fit", ["--trainer.default_root_dir=local:run"], 2, "is a URL; use a folder"),
    ("fit", ["--trainer.default_root_dir=runs::run"], 2, "is a URL; use a folder"),
    ("fit", ["--nonsense=3"], 2, "--nonsense"),
    ("fit", ["--data.num_sentences=3"], 2, "--data.num_sentences"),
    ("test", ["--data.test_languages=[tur]"], 2, "language 'tur' is not in data.source="),
    ("test", ["--data.test_languages=[tr,tr]"], 2, "names a language twice"),
    ("test", ["--model.backbone=./nowhere"], 2, "model.backbone='./nowhere' is not a folder; use"),
    ("predict", ["--data.test_languages=[tur]"], 2, "language 'tur' is not in data.source="),
    ("validate", ["--data.languages=[tur]"], 2, "language 'tur' is not in data.source="),
]


BAD_DATA = [
    ("train.tsv", "a\tO\nb O\n", "train.tsv, line 2: expected 2 columns as on the lines before, found 1 column"),
    ("validation.tsv", "a\tO\nb\tx\tO\n", "validation.tsv, line 2: expected 2 columns as on the lines before, found 3"),
    ("train.tsv", "a\tMISC\n", "train.tsv, line 1: unknown tag 'MISC'"),
    ("validation.tsv", "\n", "validation.tsv contains no sentences"),
    ("validation.tsv", None, "split 'validation' is not in"),
    ("train.jsonl", as_jsonl([{"tokens": ["a", "b"], "ner_tags": ["O"]}]), "train.jsonl, line 1: 2 tokens but"),
]
"""A file of Turkish, what is in it, and what is said of it."""


class TestBadInput:
    """One line, an exit code, and no run folder."""

    @pytest.mark.parametrize(
        ("command", "extra", "code", "expected"), BAD_OPTIONS, ids=[" ".join((b[0], *b[1])) for b in BAD_OPTIONS]
    )
    def test_option(
        self,
        run: Run,
        source: Path,
        tiny_backbone: str,
        scored_backbone: Path,
        tmp_path: Path,
        command: str,
        extra: Sequence[str],
        code: int,
        expected: str,
    ) -> None:
        """A wrong value is one line that holds it, with exit code 2, or 1 where a run fails, and nothing is written."""
        backbone = tiny_backbone if command in ("fit", "transfer") else scored_backbone
        outcome = run(command, *options(source, backbone, tmp_path / "run"), *extra)
        assert_one_line(outcome, code, expected)
        written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
        # A checkpoint is looked for when the run has begun.
        assert written <= ({".lock", "config.yaml"} if "--ckpt_path" in extra[0] else set())
        assert "ckpt_path" in extra[0] or not (tmp_path / "run").exists()

    @pytest.mark.parametrize("args", [[], ["nonsense"], ["--nonsense"], ["fit", "nonsense"]])
    def test_command(self, run: Run, args: Sequence[str]) -> None:
        """A missing or unknown command is one line."""
        assert_one_line(run(*args), 2)

    @pytest.mark.parametrize("tool", [*TOOLS])
    def test_tool(self, run: Run, tool: str) -> None:
        """A tool's unknown option is one line as well."""
        assert_one_line(run(tool, "--nonsense"), 2)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("data: [", "config"),
            ("data:\n  nonsense: 3\n", "nonsense"),
            ("data:\n  batch_size: many\n", "batch_size"),
            ("just a text", "config"),
        ],
    )
    def test_configuration(
        self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path, text: str, expected: str
    ) -> None:
        """A configuration that is no YAML, or of unknown or wrong options, is one line."""
        (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
        outcome = run("fit", f"--config={tmp_path / 'config.yaml'}", *options(source, tiny_backbone, tmp_path / "run"))
        assert_one_line(outcome, 2, expected)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("command", "file", "content", "expected"),
        [
            *(("fit", *case) for case in BAD_DATA),
            *(("transfer", *case) for case in BAD_DATA),
            ("transfer", "test.tsv", "a\n", "test.tsv, line 1: expected word<TAB>tag, found 1 column"),
        ],
    )
    def test_data(
        self,
        run: Run,
        source: Path,
        tiny_backbone: str,
        tmp_path: Path,
        command: str,
        file: str,
        content: str | None,
        expected: str,
    ) -> None:
        """A defect in any file that a run will need is one line with file and line, before the run begins."""
        shutil.copytree(source, tmp_path / "data")
        folder = tmp_path / "data" / "tr"
        (folder / file).with_suffix(".tsv").unlink()
        if content is not None:
            (folder / file).write_text(content, encoding="utf-8")
        chosen = ["--data.languages=[tr]"] if command == "fit" else ["--source=en", "--target=tr", "--sizes=[1]"]
        outcome = run(command, *options(tmp_path / "data", tiny_backbone, tmp_path / "run"), *chosen)
        assert_one_line(outcome, 2 if content is None else 1, expected)
        assert not (tmp_path / "run").exists()

    @pytest.fixture
    def copied(self, scored_backbone: Path, tmp_path: Path) -> Path:
        """A copy of the backbone, to be spoilt."""
        return Path(shutil.copytree(scored_backbone, tmp_path / "backbone"))

    @pytest.mark.parametrize("command", ["fit", "test", "transfer"])
    def test_backbone_without_tokenizer(
        self, run: Run, copied: Path, source: Path, tmp_path: Path, command: str
    ) -> None:
        """A backbone's folder without a tokenizer is one line that says which files are missing."""
        for path in copied.glob("tokenizer*"):
            path.unlink()
        sizes = ["--sizes=[10]"] if command == "transfer" else []
        outcome = run(command, *options(source, copied, tmp_path / "run"), *sizes)
        assert_one_line(outcome, 2, f"model.backbone={str(copied)!r} has no tokenizer; add tokenizer.json")
        assert not (tmp_path / "run" / "config.yaml").exists()

    @pytest.mark.parametrize("command", ["fit", "test", "transfer"])
    def test_backbone_with_other_labels(
        self, run: Run, copied: Path, source: Path, tmp_path: Path, command: str
    ) -> None:
        """A token classifier with other entity types is one line with both, and the options that help."""
        config = json.loads((copied / "config.json").read_text(encoding="utf-8"))
        tags = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
        config |= {
            "architectures": ["XLMRobertaForTokenClassification"],
            "id2label": dict(enumerate(tags)),
            "label2id": {tag: label for label, tag in enumerate(tags)},
        }
        (copied / "config.json").write_text(json.dumps(config), encoding="utf-8")
        sizes = ["--sizes=[10]"] if command == "transfer" else []
        outcome = run(command, *options(source, copied, tmp_path / "run"), *sizes)
        assert_one_line(
            outcome, 2, "has the entity types PER, LOC, MISC, but the data has PER, ORG, LOC", "data.map_types"
        )
        assert not (tmp_path / "run" / "config.yaml").exists()

    @pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
    def test_backbone_without_a_file(self, run: Run, copied: Path, source: Path, tmp_path: Path, missing: str) -> None:
        """A backbone's folder without its configuration or its weights is one line."""
        (copied / missing).unlink()
        outcome = run("fit", *options(source, copied, tmp_path / "run"))
        assert_one_line(outcome, 2, str(copied), missing)
        assert not (tmp_path / "run" / "model").exists()

    def test_backbone_cut_off(self, run: Run, copied: Path, source: Path, tmp_path: Path) -> None:
        """Weights whose file was not copied whole are one line."""
        weights = copied / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        assert_one_line(run("fit", *options(source, copied, tmp_path / "run")), 1, str(copied), "cannot be loaded")

    @pytest.mark.parametrize("command", ["fit", "transfer", "test", "validate", "predict"])
    def test_unwritable_run_folder(
        self, run: Run, source: Path, scored_backbone: Path, tmp_path: Path, command: str
    ) -> None:
        """A run folder that cannot be made is one line that names it, and the file in its way is left alone."""
        (tmp_path / "file").write_text("mine", encoding="utf-8")
        sizes = ["--sizes=[10]"] if command == "transfer" else []
        outcome = run(command, *options(source, scored_backbone, tmp_path / "file" / "run"), *sizes)
        assert_one_line(outcome, 1, str(tmp_path / "file"), "Not a directory")
        assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


class TestConfigurations:
    @pytest.mark.parametrize("command", ["fit", "validate", "test", "predict", "transfer"])
    def test_shipped(self, run: Run, command: str) -> None:
        """Every YAML in ``configs`` is of options that exist, for each command and over any other."""
        assert CONFIGS
        for path in CONFIGS:
            outcome = run(command, f"--config={path}", "--print_config")
            assert outcome.code == 0, (path, outcome)
            assert {"model", "data", "trainer"} <= yaml.safe_load(outcome.out).keys()

    def test_sweep(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A W&B agent runs, for ``sweep.yaml``, a fit with the options that are swept, in a folder of its own."""
        sweep = yaml.safe_load(SWEEP.read_text(encoding="utf-8"))
        chosen = {name: values["values"][-1] for name, values in sweep["parameters"].items()}
        *command, last = sweep["command"]
        assert last == "${args}"
        # Instead of the program, its arguments are shown.
        (tmp_path / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
        (tmp_path / "python").chmod(0o755)
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "WANDB_RUN_ID": "abc"}
        shown = subprocess.run(
            [*command, *(f"--{name}={value}" for name, value in chosen.items())],
            capture_output=True, text=True, check=True, env=environment,
        )  # fmt: skip
        program, *words = shown.stdout.splitlines()
        assert program == sweep["program"]
        monkeypatch.chdir(SWEEP.parents[1])
        resolved = yaml.safe_load(run(*words, "--print_config").out)
        assert resolved["trainer"]["default_root_dir"] == "runs/sweep/abc"
        assert resolved["trainer"]["logger"]["class_path"] == "xner.dashboard.Dashboard"
        for name, value in chosen.items():
            group, _, option = name.rpartition(".")
            assert (resolved[group] if group else resolved)[option] == value

    @pytest.mark.parametrize("command", ["fit", "transfer"])
    def test_help(self, run: Run, command: str) -> None:
        """Help is printed, with the options' meaning and unit."""
        outcome = run(command, "--help")
        assert outcome.code == 0
        text = " ".join(outcome.out.split())
        assert "Maximum number of subwords per window, special tokens included" in text
        assert "Per-device training batch size, in sentences" in text
        assert "Peak learning rate of AdamW" in text
        if command == "transfer":
            assert "Numbers of target-language training sentences, increasing" in text

    def test_backbone_is_given_once(self, run: Run) -> None:
        """The data's tokenizer is that of the model's backbone, and there is no option to differ."""
        outcome = run("fit", "--data.backbone=x")
        assert_one_line(outcome, 2, "data.backbone")


def test_arguments_of_the_process(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments of its own, ``main`` takes those of the process, and leaves them as they were."""
    monkeypatch.setattr(sys, "argv", ["xner", "fit", "--nonsense"])
    with pytest.raises(SystemExit):
        main()
    assert sys.argv == ["xner", "fit", "--nonsense"]


def test_jsonl_and_tsv_give_the_same_run(
    run: Run, source: Path, tiny_backbone: str, tmp_path: Path, model: Path
) -> None:
    """A fit on the same sentences in another format ends with the same weights."""
    for seed, split in enumerate(("train", "validation")):
        path = tmp_path / "data" / "en" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_jsonl(as_rows(random_sentences("en", 40, seed=seed))), encoding="utf-8")
    root = tmp_path / "run"
    outcome = run("fit", *options(tmp_path / "data", tiny_backbone, root), "--model.learning_rate=5e-3")
    assert outcome.code == 0, outcome
    first, other = (load_file(folder / "model.safetensors") for folder in (model, root / "model"))
    for name in first:
        assert torch.equal(first[name], other[name]), name
