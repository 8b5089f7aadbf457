"""Fits of a few steps, and what they left behind."""

import csv
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]

CALLBACKS = "lightning.pytorch.callbacks"


@dataclass
class Record:
    """The batches, losses and validations of a fit, in order of time."""

    batches: dict[str, list[list[int]]] = field(default_factory=dict)
    """By step, as ``training_step``: each batch's sentences."""
    step_words: list[tuple[int, int]] = field(default_factory=list)
    """Of each training batch: the words of its optimizer step as it was told, and its own labelled words."""
    losses: list[float] = field(default_factory=list)
    validations: list[tuple[Path, int, int]] = field(default_factory=list)
    """Of each validation: the run's folder, the epoch, and the optimizer steps before it."""
    steps: int = 0
    """Optimizer steps."""


LEARN = ["--model.learning_rate=5e-3", "--model.schedule=constant", "--data.batch_size=8"]


def keep(root: Path) -> list[str]:
    """Keep the last checkpoint as ``last.ckpt``."""
    return [
        f"--trainer.callbacks+={CALLBACKS}.ModelCheckpoint",
        f"--trainer.callbacks.dirpath={root / 'checkpoints'}",
        "--trainer.callbacks.save_last=true",
    ]


def weights(root: Path) -> dict[str, torch.Tensor]:
    """Load the weights that a fit left in its model folder."""
    return load_file(root / "model" / "model.safetensors")


def assert_equal_weights(first: Path, second: Path) -> None:
    """Assert that two fits that computed the same ended with the same weights, to the bit."""
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def assert_other_weights(first: Path, second: Path) -> None:
    """Assert that two fits ended with different weights."""
    assert any(not torch.equal(value, weights(second)[name]) for name, value in weights(first).items())


def logged(root: Path) -> list[dict[str, str]]:
    """The rows of the one log below a folder, without empty cells."""
    [path] = root.rglob("metrics.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def files(folder: Path) -> list[str]:
    """List the files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def write_yaml(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def process(*args: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, with nothing of the tests' quiet."""
    quiet = ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS")
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "train.py"), *map(str, args)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
