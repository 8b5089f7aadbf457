"""Every command in the README can be given as it stands there."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from xner.cli import TOOLS
from xner.cli.main import main
from xner.data.audit import FINDINGS

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"(<!-- \w+ -->\n)?```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
COMMANDS = [line for marker, block in BLOCKS if not marker for line in block.strip().splitlines()]
SCRIPTS = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
IN_SCRIPTS = [line for script in SCRIPTS for line in script.splitlines() if "train.py" in line]


def test_marked_commands_are_run_by_ci() -> None:
    """The two commands at the README's head are those that CI takes from there."""
    markers = [marker.strip("<!-> \n") for marker, _ in BLOCKS if marker]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert markers == ["demo", "tests"]
    assert all(f"readme_block {marker}" in script for marker in markers)


@pytest.mark.parametrize("command", [*(command for command in COMMANDS if "train.py" in command), *IN_SCRIPTS])
def test_options_parse(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that needs a Trainer has the options that the README gives it."""
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    with pytest.raises(SystemExit) as end:
        main([*words[words.index("train.py") + 1 :], "--print_config"])
    assert end.value.code == 0
    assert "backbone:" in capsys.readouterr().out


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("xner ")])
def test_tools_are_there(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A tool has the options that the README gives it."""
    name, *rest = shlex.split(command)[1:]
    assert name in TOOLS
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(option in text for option in rest if option.startswith("--"))


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("wandb ")])
def test_wandb_has_the_command(command: str) -> None:
    """W&B's own command has what the README asks of it."""
    name = shlex.split(command)[1]
    shown = subprocess.run([sys.executable, "-m", "wandb", name, "--help"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith(f"Usage: python -m wandb {name}")


@pytest.mark.parametrize("command", [command for command in COMMANDS if "tests.benchmarks" in command])
def test_benchmark_is_there(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The benchmark has the options that the README gives it."""
    python, flag, module, *options = shlex.split(command)
    assert (python, flag) == ("python", "-m")
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module(module, run_name="__main__")
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(option in text for option in options if option.startswith("--"))


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("torchrun ")])
def test_torchrun(command: str) -> None:
    """The launcher has the options that the README gives it, and starts as many processes as Lightning is told."""
    options = get_args_parser().parse_args(shlex.split(command)[1:])
    assert options.training_script == "train.py"
    assert f"--trainer.num_nodes {options.nnodes} --trainer.devices {options.nproc_per_node} " in command


@pytest.mark.parametrize("script", SCRIPTS)
def test_script(script: str) -> None:
    """A job's script is one that bash can read, and its tasks are the processes that Lightning is told."""
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    nodes, tasks = (re.search(rf"--{name}=(\d+) ", script) for name in ("nodes", "ntasks-per-node"))
    assert nodes
    assert tasks
    assert f"--trainer.num_nodes {nodes[1]} --trainer.devices {tasks[1]} " in script


@pytest.mark.parametrize("code", [0, 1, 143])
def test_job_queues_again(code: int) -> None:
    """The job's script ends as the command does, and queues again where that was stopped by SIGTERM, only there."""
    [script] = SCRIPTS
    given = f"srun() {{ return {code}; }}; scontrol() {{ echo $*; }}; SLURM_JOB_ID=4711\n"
    end = subprocess.run(["bash"], input=given + script, capture_output=True, text=True)
    assert (end.returncode, end.stdout) == (code, "requeue 4711\n" if code == 143 else "")


def test_python_script(tmp_path: Path) -> None:
    """The script of the Python API runs as it stands there."""
    [script] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"^en 0\.\d+\ntr 0\.\d+$", done.stdout, re.MULTILINE)
    assert (tmp_path / "runs" / "api-model" / "config.json").is_file()


def test_nothing_else() -> None:
    """Every command of the README is one of the kinds above."""
    kinds = ("xner ", "wandb ", "python train.py ", "torchrun ", "python -m tests.benchmarks.")
    assert all(command.startswith(kinds) for command in COMMANDS)


def test_findings() -> None:
    """The README's table of findings is that of the program."""
    lines = [f"| `{name}` | {kind.unit} | {kind.description} |" for name, kind in FINDINGS.items()]
    assert "\n".join(lines) in (ROOT / "README.md").read_text(encoding="utf-8")
