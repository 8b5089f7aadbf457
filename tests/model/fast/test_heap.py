"""Freed memory is held during a fit and given back after it."""

import subprocess
import sys

import pytest

SCRIPT = """
import torch
from xner.model.fast import hold_freed_memory, release_freed_memory

def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) // 1024

hold_freed_memory()
blocks = [torch.ones(2**20) for _ in range(100)]  # 400 MB
full = resident()
del blocks
held = resident()
release_freed_memory()
print(full, held, resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told how to hold memory")
def test_held_and_given_back() -> None:
    """Freed memory stays with the process until it is released."""
    output = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    full, held, released = map(int, output.split())
    assert held > full - 50
    assert released < full - 300
