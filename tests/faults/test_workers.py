"""A process of ``tag --processes`` that is killed; training loads its data without worker processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.transfer.test_restart import REPOSITORY


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the children of a process")
def test_killed(tagging_model: str, tmp_path: Path) -> None:
    """The others end with one line, and the command is resumed to the file of an undisturbed one."""
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"Ankara is number {number}.\n" for number in range(20_000)), encoding="utf-8")
    tag = [sys.executable, "-m", "xner.cli", "tag", "--model", tagging_model, "--format", "jsonl", str(texts)]

    def command(name: str, processes: int) -> list[str]:
        return [*tag, "--output", str(tmp_path / name), "--processes", str(processes)]

    running = subprocess.Popen(command("cut", 2), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "cut").exists() or (tmp_path / "cut").stat().st_size < 50_000:
        assert running.poll() is None
        time.sleep(0.02)
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text(encoding="utf-8").split()
    workers = [each for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]
    assert len(workers) == 2
    os.kill(int(workers[0]), signal.SIGKILL)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 1, err
    [line] = err.splitlines()
    assert line.startswith("xner: error: one of the 2 processes was killed, as where memory runs out; use fewer --proc")
    assert not any(Path(f"/proc/{each}").exists() for each in workers)
    subprocess.run([*command("cut", 1), "--resume"], cwd=REPOSITORY, check=True)
    subprocess.run(command("whole", 1), cwd=REPOSITORY, check=True)
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()
