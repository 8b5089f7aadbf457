"""Values that no option can have give one line, at once, and leave nothing behind."""

import json
import shutil
from pathlib import Path

import pytest

from tests.commands import Run, assert_one_line, options

LAUGH = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""A configuration of ten lines, written out 1,000,000,000 values long."""


@pytest.mark.parametrize("text", ["model: &a\n  x: *a\n", "x: &a [*a]\n", "data: &a {map_types: *a}\n", LAUGH])
@pytest.mark.parametrize("option", ["config", "data"])
def test_aliases(run: Run, source: Path, tiny_backbone: str, tmp_path: Path, text: str, option: str) -> None:
    """An alias that contains itself, or repeats without end, is not written out."""
    (tmp_path / "options.yaml").write_text(text, encoding="utf-8")
    outcome = run("fit", f"--{option}={tmp_path / 'options.yaml'}", *options(source, tiny_backbone, tmp_path / "run"))
    assert_one_line(outcome, 2, "options.yaml has more than 100,000 values with its aliases written out")
    assert not (tmp_path / "run").exists()


def test_deep_configuration(run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
    """Nor is one followed through 10,000 levels."""
    (tmp_path / "options.yaml").write_text("data: " + "[" * 10_000 + "]" * 10_000, encoding="utf-8")
    outcome = run("fit", f"--config={tmp_path / 'options.yaml'}", *options(source, tiny_backbone, tmp_path / "run"))
    assert_one_line(outcome, 2, "options.yaml is nested too deeply; use fewer levels")


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("num_hidden_layers", str(10**23), "these sizes give more than 20,000,000,000 weights"),
        ("intermediate_size", str(10**23), "these sizes give more than"),
        ("num_hidden_layers", "1e23", "invalid int value: '1e23'"),
        ("hidden_size", str(12 * 10**400), "these sizes give more than"),
        ("seed", str(10**23), "is out of range; use 0 to 4294967295"),
        ("seed", "-1", "seed=-1 is out of range"),
    ],
)
def test_new_backbone(run: Run, sample_backbone: str, tmp_path: Path, option: str, value: str, expected: str) -> None:
    """Sizes of no network, and seeds of no generator, do not make one."""
    outcome = run(
        "new-backbone", f"--tokenizer={sample_backbone}", f"--output={tmp_path / 'new'}", f"--{option}={value}"
    )
    assert_one_line(outcome, 2, expected)
    assert not (tmp_path / "new").exists()


def test_long_and_escaped_errors(run: Run, source: Path, scored_backbone: Path, tmp_path: Path) -> None:
    """What stands in a folder gives no orders to the terminal, and does not fill it."""
    folder = Path(shutil.copytree(scored_backbone, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    labels = {"\x1b[31mX": r"\x1b[31mX", "\x9b31mX": r"\x9b31mX", "a\u202eb": r"a\u202eb", "x" * 10**6: "xxx ... "}
    for label, shown in labels.items():
        (folder / "config.json").write_text(json.dumps({**config, "id2label": {"0": label}}), encoding="utf-8")
        outcome = run("test", *options(source, folder, tmp_path / "run"))
        assert_one_line(outcome, 2, shown)
        assert len(outcome.err) < 3000
    for option in ("\x1b[31mX", "a\u202eb"):
        outcome = run("test", f"--{option}=1")
        assert_one_line(outcome, 2)
        assert outcome.err.removesuffix("\n").isprintable()


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("val_check_interval=0", "trainer.val_check_interval=0 is not positive"),
        ("check_val_every_n_epoch=0", "trainer.check_val_every_n_epoch=0 is not positive"),
        *(
            (f"{name}={10**23}", f"trainer.{name}={10**23} is out of range")
            for name in ("devices", "num_nodes", "accumulate_grad_batches", "gradient_clip_val")
        ),
        ("default_root_dir=a\0b", "is not UTF-8 without NUL"),
        ("default_root_dir=a\udcff", "is not UTF-8 without NUL"),
    ],
)
def test_trainer(run: Run, source: Path, tiny_backbone: str, tmp_path: Path, option: str, expected: str) -> None:
    """Numbers that a training would fail at, and folders that no file system has, are refused before it."""
    outcome = run("fit", *options(source, tiny_backbone, tmp_path / "run"), f"--trainer.{option}")
    assert_one_line(outcome, 2, expected)
    assert not (tmp_path / "run").exists()


CALLBACK = "--trainer.callbacks=lightning.pytorch.callbacks."


@pytest.mark.parametrize(
    ("options_", "expected"),
    [
        (["--trainer.val_check_interval=99"], "trainer.val_check_interval=99 is more than the 2 batches of an epoch"),
        (["--model.lora.rank=100000000"], "model.lora.rank=100000000 is more than the 32 of the weights of query"),
        (["--model.lora.targets=[keys]"], "model.lora.targets: 'keys' is not a linear layer of the encoder"),
        (
            [f"{CALLBACK}EarlyStopping", "--trainer.callbacks.monitor=val_f1"],
            "EarlyStopping monitors 'val_f1', which is not logged; did you mean 'val/f1'",
        ),
        (
            [f"{CALLBACK}ModelCheckpoint", "--trainer.callbacks.monitor=val/f1_DATE"],
            "ModelCheckpoint monitors 'val/f1_DATE', which is not logged; did you mean 'val/f1",
        ),
    ],
)
@pytest.mark.parametrize("command", ["fit", "transfer"])
def test_before_anything_is_written(
    run: Run, source: Path, tiny_backbone: str, tmp_path: Path, command: str, options_: list[str], expected: str
) -> None:
    """What would end a training in its middle is refused before it begins, and leaves no folder."""
    sizes = ["--sizes=[33]"] if command == "transfer" else []
    outcome = run(command, *options(source, tiny_backbone, tmp_path / "run"), *sizes, *options_)
    assert_one_line(outcome, 2, expected)
    assert not (tmp_path / "run").exists()


def test_interval_within_a_limit(run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
    """The batches of an epoch are those that its limit leaves."""
    limited = ["--trainer.val_check_interval=2", "--trainer.limit_train_batches=1"]
    outcome = run("fit", *options(source, tiny_backbone, tmp_path / "run"), *limited)
    assert_one_line(outcome, 2, "trainer.val_check_interval=2 is more than the 1 batches of an epoch")


def test_logged_scores(run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
    """Scores that are logged can be monitored, and so can any where nobody is strict, or a callback logs its own."""
    flags = options(source, tiny_backbone, tmp_path / "run")
    for monitor in ("val/f1_PER", "val/loss", "train/loss", "train/padding"):
        stop = [f"{CALLBACK}EarlyStopping", f"--trainer.callbacks.monitor={monitor}", "--trainer.log_every_n_steps=1"]
        assert run("fit", *flags, *stop).code == 0
    lenient = [f"{CALLBACK}EarlyStopping", "--trainer.callbacks.monitor=x", "--trainer.callbacks.strict=false"]
    assert run("fit", *flags, *lenient, "--trainer.val_check_interval=2").code == 0
