"""Ctrl-C in real processes that have not begun to train: one line, an exit code, and nothing that goes on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.transfer.test_restart import REPOSITORY, transfer

AT_IMPORT = """
import os, signal, sys

def interrupt(event, args):
    if event == "import" and args[0] == module and not sent:
        sent.append(module)
        os.kill(os.getpid(), signal.SIGINT)

module, sent = sys.argv.pop(1), []
sys.addaudithook(interrupt)
from xner.cli.main import main
main()
"""
"""A program that runs the command in its further arguments, and interrupts itself as it imports a module."""


def start(program: list[str], command: list[str]) -> subprocess.Popen[str]:
    """Start a command as a terminal would: with SIGINT as it is by default, whatever this process ignores."""
    return subprocess.Popen(
        [sys.executable, *program, *command],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def assert_interrupted(process: subprocess.Popen[str]) -> None:
    """A process ends soon, with the exit code of an interrupted one and its line, and without a traceback."""
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith(("xner: error: interrupted", "xner: error: stopped: ")), err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("command", "module"),
    [
        (["fit"], "xner.cli.exits"),
        (["fit"], "torch"),
        (["fit"], "jsonargparse"),
        (["tag", "--help"], "xner.cli.tools"),
        pytest.param(["transfer", "--plan"], "xner.dashboard", marks=pytest.mark.slow),
        pytest.param(["transfer", "--sizes=[10]"], "transformers.modeling_layers", marks=pytest.mark.slow),
        pytest.param(["fit"], "transformers.modeling_layers", marks=pytest.mark.slow),
    ],
)
def test_imports(tmp_path: Path, command: list[str], module: str) -> None:
    """An interrupt within an import, which libraries try to do without, is not taken for one that failed."""
    root = [f"--trainer.default_root_dir={tmp_path / 'run'}", "--data.source=sample", "--model.backbone=sample"]
    options = root if command[0] in ("fit", "transfer") else []
    assert_interrupted(start(["-c", AT_IMPORT, module], [*command, *options]))
    assert not [*tmp_path.rglob("result.json"), *tmp_path.rglob("config.json")]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["transfer", "fit"])
def test_any_moment(tiny_backbone: str, tmp_path: Path, command: str) -> None:
    """At 12 moments between the start of a process and the first step of its training, an interrupt ends it."""
    options = [command, *transfer(tmp_path / "run", tiny_backbone)[1:]]
    # A training that no interrupt ends would not end by itself in time.
    options += ["--sizes=[10]", "--trainer.max_epochs=9999"] if command == "transfer" else ["--trainer.max_epochs=9999"]
    began = time.monotonic()
    whole = start(["train.py"], options)
    while not (tmp_path / "run" / "config.yaml").exists():
        assert whole.poll() is None
        time.sleep(0.01)
    duration = time.monotonic() - began
    whole.kill()
    whole.communicate()
    for moment in range(12):
        # Before Python has imported train.py, nothing of xner runs that could print a line.
        process = start(["train.py"], options)
        time.sleep((0.1 + 0.085 * moment) * duration)
        process.send_signal(signal.SIGINT)
        assert_interrupted(process)
