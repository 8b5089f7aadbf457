import io
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import TQDMProgressBar

import xner.cli.callbacks
from xner.cli.callbacks import Lines
from xner.cli.main import main
from xner.cli.observers import Progress
from xner.transfer.experiment import Experiment
from xner.transfer.options import FewShot
from xner.transfer.plan import Stage


class Terminal(io.StringIO):
    """A standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def transfer(source: Path, backbone: str, root: Path, *options: str) -> None:
    main(
        [
            *("transfer", f"--data.source={source}", f"--model.backbone={backbone}", "--sizes=[10,20]"),
            *(f"--trainer.default_root_dir={root}", "--trainer.max_epochs=2", "--trainer.log_every_n_steps=1"),
            *options,
        ]
    )


def test_lines_without_a_terminal(
    source: Path, tiny_backbone: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In a log there are whole lines: of steps with loss, F1, speed and time left, of tests, and of stages."""
    monkeypatch.setattr(xner.cli.callbacks, "Lines", partial(Lines, every=0))
    transfer(source, tiny_backbone, tmp_path / "run")
    out = capsys.readouterr().out
    assert "\r" not in out
    steps = re.findall(
        r"^epoch (\d)/2, batch (\d)/2: (?:loss [\d.]+, )?(?:F1 \S+, )?(?:sentences/s [\d.e+]+, )?\d+ s left$", out, re.M
    )
    assert re.search(r"^epoch 2/2, batch 2/2: loss [\d.]+, F1 [\d.]+, sentences/s [\d.e+]+, 0 s left$", out, re.M)
    # 40 English sentences are two batches an epoch; the other stages have one.
    assert steps == [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")]
    assert re.search(r"^epoch 2/2, batch 1/1: loss [\d.]+, F1 .*, 0 s left$", out, re.M)
    for number in (1, 2):
        assert len(re.findall(rf"^test {number}/2: batch (\d+)/\1$", out, re.M)) == 3
    done = re.findall(r"^\[(\d)/3\] (\S+): F1 en [\d.]+, tr (?:\(zero-shot\) )?[\d.]+ in \d+ s(.*)$", out, re.M)
    assert [(number, bool(left)) for number, _, left in done] == [("1", True), ("2", True), ("3", False)]


def test_few_lines(
    source: Path, tiny_backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    """A stage of a few seconds gets no line per epoch, and with enable_progress_bar=false it still gets its own."""
    transfer(source, tiny_backbone, tmp_path / "one")
    assert "epoch" not in capsys.readouterr().out
    transfer(source, tiny_backbone, tmp_path / "two", "--trainer.enable_progress_bar=false")
    out = capsys.readouterr().out
    assert "epoch" not in out
    assert "[3/3] progressive-tr-20-seed42: F1 en" in out


def test_bars_on_a_terminal(source: Path, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a bar of stages stands above those of the steps, with the last F1; the lines remain."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    transfer(source, tiny_backbone, tmp_path / "run")
    out = terminal.getvalue()
    assert "stages 0/3:" in out
    assert re.search(r"stages 3/3: +100% .*, F1 en [\d.]+, tr [\d.]+", out)
    assert re.search(r"Epoch 1: .*loss=[\d.]+.*F1=", out)
    assert "v_num" not in out
    assert "[2/3] progressive-tr-10-seed42: F1 en" in out


def test_fit_on_a_terminal(source: Path, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit has the steps' bar alone, and its last state stays on the terminal."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    options = (f"--trainer.default_root_dir={tmp_path}", "--trainer.max_epochs=1", "--trainer.log_every_n_steps=1")
    main(["fit", f"--data.source={source}", f"--model.backbone={tiny_backbone}", *options])
    out = terminal.getvalue()
    assert "stages" not in out
    assert re.search(r"Epoch 0: 100%.*loss=[\d.]+, F1=[\d.]+, sentences/s=", out)


def test_own_bar_stays(source: Path, tiny_backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A progress bar that the configuration names is the one that is shown."""
    bar = f"{TQDMProgressBar.__module__}.{TQDMProgressBar.__name__}"
    transfer(source, tiny_backbone, tmp_path / "run", f"--trainer.callbacks={bar}")
    assert "Epoch 1: 100%" in capsys.readouterr().out


def completed(stage: str, f1: float, seconds: float) -> Any:  # noqa: ANN401 - the parts of a result that are shown
    """Return the result of a stage, as far as progress shows it."""
    return {
        "stage": stage,
        "seconds": seconds,
        "evaluations": [{"language": "tr", "zero_shot": False, "oracle": False, "f1": f1}],
    }


def test_remaining_time(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The time left is that of the remaining work at the pace so far; complete stages do not count."""
    now = iter([0.0, 100.0, 130.0, 150.0])
    monkeypatch.setattr("xner.cli.observers.time.monotonic", lambda: next(now))
    stages = [Stage(name, "source", 1, None, (("en", None),), 0) for name in "abc"]
    experiment = Experiment(
        root=tmp_path,
        stages=stages,
        evaluated=["tr"],
        options={},
        backbone="sample",
        backbone_digest="",
        train_split="train",
        test_split="test",
        types=["PER"],
        few_shot=FewShot(),
        epochs={},
        batch_sentences=32,
        digests={},
        work={"a": 500, "b": 100, "c": 900},
    )
    progress = Progress()
    progress.experiment_begun(experiment, {"a": completed("a", 0.4, 1)})
    progress.stage_completed(completed("b", 0.5, 30))
    progress.stage_completed(completed("c", 0.6, 20))
    assert capsys.readouterr().out.splitlines() == [
        "a: complete, F1 tr 0.4000",
        "[2/3] b: F1 tr 0.5000 in 30 s; 4 min left",
        "[3/3] c: F1 tr 0.6000 in 20 s",
    ]
