"""A process that runs many experiments neither grows nor keeps files open."""

import gc
import os
from pathlib import Path

import pytest

from tests.commands import Run, options, results

EXPERIMENTS = 50
"""Number of experiments in one process."""
PROCESS = Path("/proc/self")


@pytest.mark.slow
@pytest.mark.skipif(not PROCESS.is_dir(), reason="memory and open files are read from /proc")
def test_memory_and_open_files_stay_flat(run: Run, tiny_backbone: str, tmp_path: Path) -> None:
    """The sample's transfer is run fifty times; the last forty need no more memory or files than the first ten."""
    memory, files = [], []
    for number in range(EXPERIMENTS):
        root = tmp_path / f"run{number}"
        done = run("transfer", *options("sample", tiny_backbone, root), "--sizes=[25,100]")
        assert done.code == 0, done
        assert results(root) == results(tmp_path / "run0")
        gc.collect()
        resident = int((PROCESS / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        memory.append(resident)
        files.append(len(os.listdir(PROCESS / "fd")))
    assert max(files[10:]) <= max(files[:10])
    grown = max(memory[40:]) - max(memory[:10])
    assert grown < 20e6, f"{grown / 1e6:.0f} MB in {EXPERIMENTS - 10} experiments"
