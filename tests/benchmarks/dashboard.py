"""Measure what W&B costs a training with an unreachable server: ``python -m tests.benchmarks.dashboard --help``."""

import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from tests.benchmarks.command import run_as_command, write_figures
from tests.benchmarks.machine import this_machine
from tests.benchmarks.sides import ROOT, environment, fit
from xner.errors import UserError

CLOSED = {"WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
"""A port of this machine where nobody listens, and a key for it."""


def time_fit(folder: Path, epochs: int, dashboard: bool, told: dict[str, str]) -> float:
    """Seconds of ``train.py fit`` on the embedded sample, from the process's start to its end."""
    configs = ("sample.yaml", "wandb.yaml") if dashboard else ("sample.yaml",)
    given = [f"--config={ROOT / 'configs' / name}" for name in configs]
    options = {"trainer.default_root_dir": folder, "trainer.max_epochs": epochs, "trainer.log_every_n_steps": 10}
    started = time.monotonic()
    fit(options, *given, environment=told | CLOSED)
    return time.monotonic() - started


def dashboard(epochs: int = 10, rounds: int = 3, threads: int | None = None, output: str | None = None) -> None:
    """Print the seconds of a fit with W&B, pointed to a closed port, and of one without, and their ratio.

    Args:
        epochs: Epochs of the embedded sample's 600 English sentences.
        rounds: Runs of each, in turns; medians count.
        threads: Threads of torch; those it chooses by itself unless given.
        output: JSON file for all figures.
    """
    if rounds < 1 or epochs < 1:
        raise UserError(f"rounds={rounds} and epochs={epochs} must be 1 or more")
    seconds: dict[str, list[float]] = {"without W&B": [], "with W&B": []}
    with tempfile.TemporaryDirectory(prefix="xner-dashboard-") as name:
        told = environment(cache=Path(name) / "cache", threads=threads)
        time_fit(Path(name) / "warm", 1, False, told)  # fills the cache for both
        for number in range(rounds):
            for what, values in seconds.items():
                values.append(time_fit(Path(name) / f"{number}-{what}", epochs, what == "with W&B", told))
    medians = {what: median(values) for what, values in seconds.items()}
    ratio = medians["with W&B"] / medians["without W&B"]
    machine = this_machine(device="cpu", threads=threads or torch.get_num_threads())
    lines = [
        f"| {what} | {medians[what]:.2f} ({min(values):.2f} to {max(values):.2f}) |" for what, values in seconds.items()
    ]
    head = ["| train.py fit | seconds, median (least to most) |", "| --- | ---: |"]
    print("\n".join([*head, *lines, f"| with / without | **{ratio:.2f}** |", "", f"Measured on: {machine}."]))
    write_figures(output, machine, {"seconds": seconds, "ratio": ratio})


if __name__ == "__main__":
    run_as_command(dashboard)
