"""Transfer from several source languages to several targets."""

import csv
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.cli.fits import LEARN
from tests.commands import Run, assert_one_line, options, results
from xner.data.sources import SAMPLE
from xner.report.matrix import score_matrix
from xner.report.runs import by_target, load_run


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample in four languages: fr has the sentences of en, and de those of tr, but fewer to train on."""
    folder = tmp_path_factory.mktemp("four")
    for language, its in {"en": "en", "fr": "en", "tr": "tr", "de": "tr"}.items():
        (folder / language).mkdir()
        for name, size in {"train": 90 if language == "de" else 150, "validation": 40, "test": 40}.items():
            sentences = (SAMPLE / its / f"{name}.tsv").read_text(encoding="utf-8").split("\n\n")[:size]
            (folder / language / f"{name}.tsv").write_text("\n\n".join(sentences), encoding="utf-8")
    return folder


def test_targets_share_the_source_stage(
    run: Run, four: Path, sample_backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each target has its own few-shot stages, with the results of an experiment of its own, and the page shows all."""
    command = [*LEARN, "--seeds=[1,2]", "--regimes=[progressive,joint]"]
    several = run(
        *("transfer", *options(four, sample_backbone, tmp_path / "several"), *command),
        *("--source=[en,fr]", "--target=[tr,de]", "--sizes=[20,120]"),
    )
    assert several.code == 0, several
    assert "de/train has 90 sentences: the curve of de ends before sizes of more" in several.out
    rows = results(tmp_path / "several")
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    assert [stage for stage in stages if stage.endswith("seed1")] == [
        "source-en+fr-seed1",
        *("progressive-tr-20-seed1", "progressive-tr-120-seed1", "joint-tr-20-seed1", "joint-tr-120-seed1"),
        *("progressive-de-20-seed1", "joint-de-20-seed1"),
    ]
    assert {row["train_languages"] for row in rows} == {"en+fr", "tr", "de", "en+fr+tr", "en+fr+de"}
    zero_shot = {
        row["eval_language"] for row in rows if row["stage"] == "source-en+fr-seed1" and row["zero_shot"] == "True"
    }
    assert zero_shot == {"tr", "de"}

    alone = run(
        *("transfer", *options(four, sample_backbone, tmp_path / "alone"), *command),
        *("--source=[en,fr]", "--target=tr", "--sizes=[20,120]", "--data.test_languages=[de]", "--seeds=[2]"),
    )
    assert alone.code == 0, alone
    names = ("stage", "eval_language", "f1", "accuracy", "f1_macro")
    seeds = [row for row in rows if row["stage"].endswith("seed2")]
    own = [[row[name] for name in names] for row in seeds if "-de-" not in row["stage"]]
    assert sorted(own) == sorted([row[name] for name in names] for row in results(tmp_path / "alone"))

    loaded = load_run(tmp_path / "several")
    parts = by_target(loaded)
    assert sorted(part.name for part in parts) == ["several (German)", "several (Turkish)"]
    matrix = score_matrix([loaded])
    assert matrix.languages[:2] == ["en", "fr"]
    assert len(matrix.rows) == 7
    for row in matrix.rows:
        for language, cell in zip(matrix.languages, row.cells, strict=True):
            same = [
                float(each["f1"])
                for each in rows
                if (each["regime"], each["eval_language"]) == (row.regime, language)
                and row.size in (0, int(each["target_samples"]))
                and (row.target is None or each["train_languages"].endswith(row.target))
            ]
            assert cell
            assert len(same) == 2
            assert cell.f1 == pytest.approx(np.mean(same), abs=1e-12)
            assert cell.interval.low <= cell.f1 <= cell.interval.high
        targets = [
            cell.f1
            for language, cell in zip(matrix.languages, row.cells, strict=True)
            if language in ("tr", "de") and cell
        ]
        assert row.average == pytest.approx(np.mean(targets))
    page = (tmp_path / "several" / "report.html").read_text(encoding="utf-8")
    assert "Cross-lingual transfer: English and French" in page
    assert "F1 on every language" in page
    assert "several (Turkish)" in page

    # Continuing does nothing, and another order of the targets is the same experiment.
    again = run(
        *("transfer", *options(four, sample_backbone, tmp_path / "several"), *command),
        *("--source=[en,fr]", "--target=[tr,de]", "--sizes=[20,120]"),
    )
    assert again.code == 0, again
    assert again.out.count(": complete, F1 ") == 14
    capsys.readouterr()


def test_smoothing(run: Run, four: Path, sample_backbone: str, tmp_path: Path) -> None:
    """Smoothed shares change the training of several languages, and are part of what defines a result."""
    command = [
        "transfer",
        *options(four, sample_backbone, tmp_path / "run"),
        *LEARN,
        "--source=[en,de]",
        "--sizes=[20]",
    ]
    assert run(*command, "--data.smoothing=0.5").code == 0
    assert_one_line(run(*command), 2, "was run with data.smoothing=0.5, not 1.0")
    shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--source=[en,en]"], "source=['en', 'en'] names a language twice"),
        (["--target=[tr,tr]"], "target=['tr', 'tr'] names a language twice"),
        (["--source=[en,tr]", "--target=[de,tr]"], "source=en+tr is the target tr as well"),
        (["--source=[]"], "source=[] is empty"),
        (["--target=[]"], "target=[] is empty"),
        (["--target=[tr,xx]"], "language 'xx' is not in"),
        (["--source=[en,xx]"], "language 'xx' is not in"),
        (
            ["--target=[tr,de]", "--sizes=[20,1000]"],
            "sizes=[20, 1000] exceeds the 150 sentences of tr/train; use smaller ones",
        ),
        (["--data.smoothing=2"], "data.smoothing=2.0 is not between 0 and 1"),
    ],
)
def test_mistakes(run: Run, four: Path, sample_backbone: str, tmp_path: Path, given: list[str], expected: str) -> None:
    """A wrong list of languages is one line before anything runs."""
    outcome = run("transfer", *options(four, sample_backbone, tmp_path / "run"), "--sizes=[20]", *given)
    assert_one_line(outcome, 2, expected)
    assert not (tmp_path / "run").exists()


def test_few_shot_settings(run: Run, four: Path, sample_backbone: str, tmp_path: Path) -> None:
    """Few-shot stages have settings of their own; the source stage is not run again when they change."""
    command = [*options(four, sample_backbone, tmp_path / "run"), "--sizes=[20,64]", "--data.batch_size=8"]
    planned = run("transfer", *command, "--few_shot.min_steps=10", "--plan", "true").out
    steps = {line.split()[0]: int(line.split()[-1]) for line in planned.splitlines()[2:]}
    # 3 steps per epoch are repeated until there are 10; 8 steps twice are 16.
    assert steps == {"source-en-seed42": 19, "progressive-tr-20-seed42": 12, "progressive-tr-64-seed42": 16}
    limited = [*command, "--few_shot.min_steps=10", "--source_samples=9", "--plan=true"]
    assert [int(line.split()[-1]) for line in run("transfer", *limited).out.splitlines()[2:]] == [2, 12, 16]
    short = run("transfer", *command, "--few_shot.min_steps=10", "--trainer.max_steps=9")
    assert_one_line(short, 2, "few_shot.min_steps=10 is more than trainer.max_steps=9")
    outcome = run("transfer", *command, "--plan", "false", "--few_shot.min_steps=10")
    assert outcome.code == 0, outcome
    for stage, count in steps.items():
        [log] = (tmp_path / "run" / "stages" / stage).rglob("metrics.csv")
        last = [row["step"] for row in csv.DictReader(log.open(encoding="utf-8")) if row["val/f1"]][-1]
        assert int(last) + 1 == count
    assert_one_line(run("transfer", *command), 2, "progressive-tr-20-seed42 was run with few_shot=")
    other = [*command, "--few_shot.max_epochs=2", "--few_shot.learning_rate=1e-3", "--plan"]
    assert_one_line(run("transfer", *other), 2, "progressive-tr-20-seed42 was run with few_shot=")
    longer = run("transfer", *other, f"--trainer.default_root_dir={tmp_path / 'other'}")
    assert [line.split()[-1] for line in longer.out.splitlines()[2:]] == ["19", "6", "16"]
    assert not (tmp_path / "other").exists()
    more = run("transfer", *command, "--few_shot.min_steps=10", "--sizes=[20,100]", "--plan")
    assert_one_line(more, 1, "progressive-tr-100-seed42 starts from progressive-tr-20-seed42, whose weights")
    more = run("transfer", *command, "--few_shot.min_steps=10", "--regimes=[progressive,independent]", "--plan")
    assert [line.split()[-1] for line in more.out.splitlines()[2:]] == [*["complete"] * 3, "12", "16"]


def test_source_samples(run: Run, four: Path, sample_backbone: str, tmp_path: Path) -> None:
    """Each source language has as many training sentences as asked for, those that a fit draws, in joint stages too."""
    options_of = partial(options, four, sample_backbone)
    command = [*("--source=[en,fr]", "--regimes=[joint]", "--sizes=[20]", "--trainer.max_epochs=1"), *LEARN]
    outcome = run("transfer", *options_of(tmp_path / "run"), *command, "--source_samples=30")
    assert outcome.code == 0, outcome
    counts = {row["stage"]: (row["train_samples"], row["target_samples"]) for row in results(tmp_path / "run")}
    assert counts == {"source-en+fr-seed42": ("60", "0"), "joint-tr-20-seed42": ("80", "20")}
    fit = [
        *("--data.languages=[en,fr]", "--data.num_samples=30", "--seed_everything=42", "--trainer.max_epochs=1"),
        *LEARN,
    ]
    assert run("fit", *options_of(tmp_path / "fit"), *fit).code == 0
    stage = tmp_path / "run" / "stages" / "source-en+fr-seed42" / "model"
    assert (stage / "model.safetensors").read_bytes() == (tmp_path / "fit" / "model" / "model.safetensors").read_bytes()

    other = run("transfer", *options_of(tmp_path / "run"), *command, "--source_samples=31")
    assert_one_line(other, 2, "was run with training sentences=[['en', 30], ['fr', 30]], not [['en', 31], ['fr', 31]]")
    for number, expected in ((151, "source_samples=151 exceeds the 150 sentences of"), (0, "is not a number of")):
        wrong = run("transfer", *options_of(tmp_path / "new"), *command, f"--source_samples={number}")
        assert_one_line(wrong, 2, expected)
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--few_shot.min_steps=0", "few_shot.min_steps=0 is not positive"),
        ("--few_shot.max_epochs=-1", "few_shot.max_epochs=-1 is not positive"),
        ("--few_shot.learning_rate=-1", "few_shot.learning_rate=-1.0 is not a positive number"),
        ("--few_shot.learning_rate=.inf", "few_shot.learning_rate=inf is not finite"),
        ("--few_shot.steps=3", "few_shot.steps"),
    ],
)
def test_wrong_few_shot_settings(
    run: Run, four: Path, sample_backbone: str, tmp_path: Path, given: str, expected: str
) -> None:
    """An impossible setting is one line before anything runs."""
    outcome = run("transfer", *options(four, sample_backbone, tmp_path / "run"), "--sizes=[20]", given)
    assert_one_line(outcome, 2, expected)
    assert not (tmp_path / "run").exists()
