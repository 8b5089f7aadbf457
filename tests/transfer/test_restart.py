import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import wraps
from pathlib import Path

import pytest
from torch import Tensor

from tests.commands import results
from tests.sources import write_source
from xner.batch import Batch
from xner.cli.main import main
from xner.data.sources import SAMPLE
from xner.model.classifier import TokenClassifier

REPOSITORY = Path(__file__).parents[2]
NEVER = ("", 0, 0)
"""For a process that is left alone."""


def start(moment: tuple[str, int, int], command: Sequence[str]) -> subprocess.Popen[str]:
    """Start a command in a process that sends itself a signal at a moment: the event, which one of them, the signal."""
    program = [sys.executable, "-m", "tests.transfer.interrupted", *map(str, moment)]
    pipe = subprocess.PIPE
    return subprocess.Popen([*program, *command], cwd=REPOSITORY, stdout=pipe, stderr=pipe, text=True)


def run(moment: tuple[str, int, int], command: Sequence[str]) -> tuple[int, str, str]:
    """Run a command to its end; its exit code, its output and its last line of errors."""
    process = start(moment, command)
    out, err = process.communicate(timeout=1200)
    return process.returncode, out, err.strip().split("\n")[-1]


def transfer(root: Path, backbone: str, *options: str) -> list[str]:
    return [
        *("transfer", "--data.source=sample", f"--model.backbone={backbone}", f"--trainer.default_root_dir={root}"),
        *("--model.learning_rate=5e-3", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
        *("--trainer.max_epochs=2", "--trainer.logger=false", *options),
    ]


def two_targets(source: Path) -> list[str]:
    """Write a source of three languages, and return the options of two targets, two regimes and two seeds."""
    shutil.copytree(SAMPLE, source)
    write_source(source, {"train": 80, "validation": 40, "test": 40}, languages=["de"])
    return [
        *(f"--data.source={source}", "--target=[tr,de]", "--sizes=[10,20]"),
        *("--regimes=[independent,joint]", "--seeds=[1,2]"),
    ]


def assert_same_run(root: Path, expected: Path) -> None:
    """The same files with the same content, but for the time that stages took and what a lock or a log leaves."""
    assert results(root) == results(expected)
    found, due = (
        {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
        for folder in (root, expected)
    )
    assert found == due
    for path in due:
        if path.suffix in (".npz", ".safetensors"):
            assert (root / path).read_bytes() == (expected / path).read_bytes(), path


def test_interrupted_run(tiny_backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped amid an epoch, between model and result, and amid a checkpoint, a run ends as an undisturbed one.

    While one process runs it, another is told so and stops.
    """
    sizes = "--sizes=[10,20]"
    main(transfer(tmp_path / "whole", tiny_backbone, sizes))
    command = transfer(tmp_path / "cut", tiny_backbone, sizes)
    source = tmp_path / "cut" / "stages" / "source-en-seed42"

    # English has 600 sentences, so an epoch has 19 steps.
    told = "xner: error: stopped: the same command continues from here"
    code, _, line = run(("step", 29, signal.SIGTERM), command)
    assert (code, line) == (143, told)
    assert (source / "checkpoints" / "last.ckpt").is_file()
    assert not (source / "model").exists()

    code, _, _ = run(("model", 1, signal.SIGKILL), command)
    assert code == -signal.SIGKILL
    assert (source / "model").is_dir()
    assert not (source / "result.json").exists()

    # The source stage has two checkpoints behind it; these are of the first few-shot stage.
    code, out, _ = run(("part of last.ckpt", 2, signal.SIGKILL), command)
    assert code == -signal.SIGKILL
    assert "source-en-seed42: F1" in out
    [checkpoint] = (tmp_path / "cut").rglob("last.ckpt")
    assert checkpoint.parts[-3] == "progressive-tr-10-seed42"
    assert [*checkpoint.parent.glob(".*.part")]

    last = start(("step", 3, signal.SIGSTOP), command)
    try:
        os.waitid(os.P_PID, last.pid, os.WSTOPPED | os.WNOWAIT)
        capsys.readouterr()
        with pytest.raises(SystemExit, match="1"):
            main(command)
        assert capsys.readouterr().err.startswith(f"xner: error: {tmp_path / 'cut'} is in use by another process")
    finally:
        last.send_signal(signal.SIGCONT)
    out, err = last.communicate(timeout=600)
    assert last.returncode == 0, err
    assert out.count(": complete, F1 ") == 1
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("signals", [1, 2])
def test_interrupt_from_the_keyboard(
    tiny_backbone: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    signals: int,
) -> None:
    """One SIGINT lets the step end and keeps it; a second one in the same step ends the run at once."""
    steps = 0
    work = TokenClassifier.training_step

    @wraps(work)
    def step(model: TokenClassifier, batch: Batch) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 5:
            for _ in range(signals):
                os.kill(os.getpid(), signal.SIGINT)
        return work(model, batch)

    monkeypatch.setattr(TokenClassifier, "training_step", step)
    command = [*transfer(tmp_path / "run", tiny_backbone), "--sizes=[10]", "--select=best"]
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="130"):
        main(command)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert capsys.readouterr().err.endswith("xner: error: stopped: the same command continues from here\n")
    kept = [*(tmp_path / "run").rglob("last.ckpt")]
    assert len(kept) == (signals == 1)
    if kept:
        with pytest.raises(SystemExit, match="2"):
            main([*command, "--data.batch_size=16"])
        told = capsys.readouterr().err
        assert f"{kept[0].parents[1]} was run with data.batch_size x processes=32, not 16; use another" in told
        definition = kept[0].parent / "definition.json"
        text = definition.read_bytes()
        definition.unlink()
        with pytest.raises(SystemExit, match="1"):
            main(command)
        assert f"definition.json is missing or damaged; delete {kept[0].parent}" in capsys.readouterr().err
        definition.write_bytes(text)
        checkpoint = kept[0].read_bytes()
        middle = len(checkpoint) // 2
        for damaged in (checkpoint[:middle], checkpoint[:middle] + b"damage" + checkpoint[middle + 6 :], b""):
            kept[0].write_bytes(damaged)
            with pytest.raises(SystemExit, match="1"):
                main(command)
            line = capsys.readouterr().err
            assert f"{kept[0]} is damaged" in line
            assert f"delete {kept[0].parent} to restart the stage" in line
        kept[0].write_bytes(checkpoint)
    main(command)
    # 600 sentences and 10, each twice, in batches of 32; a step that was broken off is taken again.
    assert steps == 2 * 19 + 2 + (5 if signals == 2 else 0)


def test_enough(tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that a callback has stopped, and whose model was not written yet, trains no further."""
    stop = ["--trainer.callbacks=lightning.pytorch.callbacks.EarlyStopping", "--trainer.callbacks.monitor=val/f1"]
    # No score gets better by 2: the second epoch is the last.
    stop += ["--trainer.callbacks.patience=1", "--trainer.callbacks.min_delta=2", "--trainer.callbacks.mode=max"]
    whole, cut = (
        [*transfer(tmp_path / name, tiny_backbone, "--sizes=[10]", *stop), "--trainer.max_epochs=5"]
        for name in ("whole", "cut")
    )
    main(whole)
    with monkeypatch.context() as patch:
        patch.setattr("xner.transfer.stage.write_model", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(SystemExit, match="130"):
            main(cut)
    main(cut)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_weights_that_vanished(tiny_backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a later stage needs weights that are gone, nothing is trained, and the line says how to go on."""
    command = transfer(tmp_path / "run", tiny_backbone)
    main([*command, "--sizes=[10]"])
    shutil.rmtree(tmp_path / "run" / "stages" / "source-en-seed42" / "model")
    main([*command, "--sizes=[10]"])  # nothing needs them
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        main([*command, "--sizes=[10]", "--regimes=[independent]"])
    told = capsys.readouterr().err
    assert "independent-tr-10-seed42 starts from source-en-seed42, whose weights are not in" in told
    assert f"delete {tmp_path / 'run' / 'stages' / 'source-en-seed42'} to train it again" in told
    shutil.rmtree(tmp_path / "run" / "stages" / "source-en-seed42")
    main([*command, "--sizes=[10]", "--regimes=[independent]"])


def kill_ten_times(command: Sequence[str], *, events: int, seed: str) -> None:
    """Run a command that is killed at ten random moments, and once more to its end.

    Args:
        command: The command.
        events: Number of events of an undisturbed run.
        seed: Seed of the moments.
    """
    draw = random.Random(seed)
    kills = 0
    for number in range(10):
        if number % 2:
            code, _, _ = run(("any", draw.randint(1, events // 12), signal.SIGKILL), command)
        else:
            process = start(NEVER, command)
            assert process.stdout
            while "starts from" not in (line := process.stdout.readline()) and line:
                pass
            time.sleep(draw.uniform(0, 1.5))
            process.kill()
            process.communicate()
            code = process.returncode
        kills += code == -signal.SIGKILL
    assert kills == 10
    code, _, line = run(NEVER, command)
    assert code == 0, line


@pytest.mark.slow
@pytest.mark.parametrize("select", ["last", "best"])
def test_ten_kills(tiny_backbone: str, tmp_path: Path, select: str) -> None:
    """Four regimes, three sizes and three seeds, killed at ten random moments, end as if nobody had."""
    options = ["--sizes=[10,20,40]", "--regimes=[progressive,independent,scratch,joint]", "--seeds=[1,2,3]"]
    options.append(f"--select={select}")
    code, out, line = run(NEVER, transfer(tmp_path / "whole", tiny_backbone, *options))
    assert code == 0, line
    kill_ten_times(transfer(tmp_path / "cut", tiny_backbone, *options), events=int(out.split()[-1]), seed=select)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.slow
def test_two_targets(still_backbone: Path, tmp_path: Path) -> None:
    """Two targets, two regimes and two seeds end with the same results, killed ten times and in two processes."""
    options = two_targets(tmp_path / "source")
    code, out, line = run(NEVER, transfer(tmp_path / "whole", str(still_backbone), *options))
    assert code == 0, line
    kill_ten_times(
        transfer(tmp_path / "cut", str(still_backbone), *options), events=int(out.split()[-1]), seed="two targets"
    )
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    in_two = [*options, "--trainer.strategy=ddp", "--trainer.devices=2", "--data.batch_size=16"]
    subprocess.run(
        [sys.executable, "train.py", *transfer(tmp_path / "two", str(still_backbone), *in_two)],
        cwd=REPOSITORY,
        check=True,
    )
    assert results(tmp_path / "two") == results(tmp_path / "whole")


@pytest.mark.slow
def test_several_processes(tiny_backbone: str, tmp_path: Path) -> None:
    """A run that trains in two processes leaves what one process does; killed, it goes on to the same result."""
    options = ["--sizes=[10,20]", "--trainer.strategy=ddp", "--trainer.devices=2"]
    program = [sys.executable, "train.py"]
    for name in ("whole", "cut"):
        process = subprocess.Popen([*program, *transfer(tmp_path / name, tiny_backbone, *options)], cwd=REPOSITORY)
        if name == "cut":
            while process.poll() is None and not (tmp_path / "cut" / "results.csv").is_file():
                time.sleep(0.05)
            process.kill()
            process.wait()
            subprocess.run([*program, *transfer(tmp_path / name, tiny_backbone, *options)], cwd=REPOSITORY, check=True)
        process.wait()
    assert len(results(tmp_path / "whole")) == 6
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
