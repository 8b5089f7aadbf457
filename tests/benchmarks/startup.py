"""Measure the start-up time of commands: ``python -m tests.benchmarks.startup --help``."""

import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from tests.benchmarks.command import run_as_command, write_figures
from tests.benchmarks.machine import this_machine
from tests.benchmarks.sides import ROOT, WINDOW, environment, fit, fresh_process, new_classifier
from xner.data.encoded_cache import encode_split
from xner.data.sources import Split
from xner.errors import UserError
from xner.tags import PANX


def time_help(told: dict[str, str]) -> float:
    """Seconds of ``explore --help``, from the process's start to its end."""
    started = time.monotonic()
    fresh_process([str(ROOT / "train.py"), "explore", "--help"], told)
    return time.monotonic() - started


def time_load(data: str, language: str, backbone: str, cache: Path) -> float:
    """Seconds until a training split is found in the cache, by its content, and each of its numbers was read."""
    started = time.monotonic()
    encoded = encode_split(Split(data, language, "train"), backbone, WINDOW, PANX, cache)
    for values in (encoded.pieces, encoded.labels, encoded.window_start, encoded.word_piece, encoded.word_label):
        values.sum()
    return time.monotonic() - started


def time_first_step(data: str, language: str, backbone: str, folder: Path, told: dict[str, str]) -> float:
    """Seconds of ``train.py fit``, from the process's start to the end of its first optimizer step."""
    output = folder / "first-step"
    options = {
        "model.backbone": backbone,
        "data.source": data,
        "data.languages": f"[{language}]",
        "trainer.max_steps": 1,
        "trainer.limit_val_batches": 0,
        "trainer.accelerator": "cpu",
        "trainer.enable_checkpointing": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.default_root_dir": str(folder / "run"),
        "trainer.callbacks+": "tests.benchmarks.stopwatch.FirstStep",
        "trainer.callbacks.output": str(output),
    }
    started = time.monotonic()
    fit(options, environment=told)
    return float(output.read_text(encoding="utf-8")) - started


def startup(
    data: str,
    tokenizer: str,
    language: str = "en",
    geometry: str = "mini",
    repeats: int = 5,
    threads: int | None = None,
    output: str | None = None,
) -> None:
    """Print the median seconds of starting a tool, of loading encoded data, and of a fit's way to its first step.

    Args:
        data: Folder that holds <language>/{train,validation}.{tsv,conll,txt,jsonl,parquet}.
        tokenizer: Folder with a tokenizer's files.
        language: Language whose sentences are used.
        geometry: Size of the network, of random weights: base, mini or tiny.
        repeats: Measurements of each.
        threads: Threads of torch; those it chooses by itself unless given.
        output: JSON file for all figures.
    """
    if repeats < 1:
        raise UserError(f"repeats={repeats} must be 1 or more")
    data = str(Path(data).resolve())
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="xner-startup-") as name:
        folder = Path(name)
        backbone, cache = str(folder / "backbone"), folder / "cache"
        told = environment(cache=cache, threads=threads)
        new_classifier(tokenizer, geometry, folder / "backbone")
        sentences = {
            split: len(encode_split(Split(data, language, split), backbone, WINDOW, PANX, cache))
            for split in ("train", "validation")
        }
        for _ in range(repeats):
            for what, measured in {
                "xner explore --help": time_help(told),
                f"{sentences['train']:,} sentences from the cache": time_load(data, language, backbone, cache),
                "train.py fit, to the end of its first step": time_first_step(data, language, backbone, folder, told),
            }.items():
                seconds.setdefault(what, []).append(measured)
    machine = this_machine(device="cpu", threads=threads or torch.get_num_threads())
    lines = [
        f"| {what} | {median(values):.2f} ({min(values):.2f} to {max(values):.2f}) |"
        for what, values in seconds.items()
    ]
    print("\n".join(["| | seconds, median (least to most) |", "| --- | --- |", *lines, "", f"Measured on: {machine}."]))
    write_figures(output, machine, {"seconds": seconds})


if __name__ == "__main__":
    run_as_command(startup)
