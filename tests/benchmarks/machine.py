"""Describe this machine, and measure how fast it multiplies matrices."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from xner.model.fast.libraries import MKL, OWN, PACK, cpu_model


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine of a measurement.

    Attributes:
        processor: The CPU's model.
        cores: Cores that this process may use.
        threads: Threads of torch within an operation.
        memory_gb: Memory in 10^9 bytes.
        gpu: The GPU's name, if one is measured.
        packages: The versions of what both sides are made of.
    """

    processor: str
    cores: int
    threads: int
    memory_gb: float
    gpu: str | None
    packages: dict[str, str]

    def __str__(self) -> str:
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        parts = [self.processor, f"{self.cores} cores", f"{self.threads} threads", f"{self.memory_gb:.0f} GB"]
        return f"{', '.join([*([self.gpu] if self.gpu else []), *parts])}; {packages}"


def this_machine(*, device: str, threads: int) -> Machine:
    """Describe this machine as a process with that many threads has it."""
    memory = _values(Path("/proc/meminfo")).get("MemTotal", "0 kB")
    return Machine(
        processor=cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        threads=threads,
        memory_gb=int(memory.split()[0]) * 1024 / 1e9,
        gpu=torch.cuda.get_device_name() if device == "cuda" else None,
        packages={name: version(name) for name in ("torch", "transformers", "lightning")},
    )


def _values(path: Path) -> dict[str, str]:
    """The first value of each ``name: value`` in a file of the kernel's."""
    lines = path.read_text().splitlines() if path.is_file() else []
    pairs = [line.partition(":") for line in reversed(lines)]
    return {name.strip(): value.strip() for name, _, value in pairs}


def product_rates(*, rows: int, width: int, inner: int, device: str, repeats: int = 10) -> dict[str, float]:
    """Measure how fast every library multiplies (rows, width) by (width, inner), in float32 and in bfloat16.

    Args:
        rows: Number of vectors.
        width: Their width, of the network's layers.
        inner: Width of the feed-forward layers.
        device: ``cpu`` or ``cuda``.
        repeats: Measurements of each, of which the fastest counts.

    Returns:
        Floating-point operations per second by precision and library, such as ``float32, oneDNN``.
    """
    products: dict[str, Callable[[], Tensor]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        # Random numbers of its own, so that those of training are not drawn on.
        generator = torch.Generator().manual_seed(0)
        left, right = (
            torch.randn(shape, generator=generator).to(device=device, dtype=dtype)
            for shape in ((rows, width), (inner, width))
        )
        name = str(dtype).removeprefix("torch.")
        own = "MKL" if (device, dtype) == ("cpu", torch.float32) and MKL in PACK else OWN
        for library, pack in PACK.items():
            # MKL, as PyTorch has it, multiplies float32 only, and oneDNN bfloat16 only where the CPU has instructions.
            able = dtype == torch.float32 or (library != MKL and torch.ops.mkldnn._is_mkldnn_bf16_supported())
            if library == OWN or (device == "cpu" and able):
                products[f"{name}, {own if library == OWN else library}"] = partial(pack(right, None, rows), left)
    # Enough products that reading the clock, and waiting for a GPU, do not count.
    count = max(1, round((1e11 if device == "cuda" else 2e9) / (2 * rows * width * inner)))
    seconds: dict[str, list[float]] = {name: [] for name in products}
    with torch.inference_mode():
        for _ in range(repeats):
            for name, multiply in products.items():
                started = clock(device)
                for _ in range(count):
                    multiply()
                seconds[name].append(clock(device) - started)
    return {name: 2 * rows * width * inner * count / min(values) for name, values in seconds.items()}


def clock(device: str) -> float:
    """Read the clock in seconds, once the device has done what it was told."""
    _wait(device)
    return time.perf_counter()


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
