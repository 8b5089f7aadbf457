"""Measure how time and memory grow with the data: ``python -m tests.benchmarks.scale --help``.

Real sentences are repeated to the sizes asked for. Every measurement is a fresh process: encoding a training split,
finding it in the cache, ``fit`` of some optimizer steps on it, and ``xner tag`` over a file with a sentence per line.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import TypedDict

import torch

from tests.benchmarks.command import run_as_command, write_figures
from tests.benchmarks.machine import this_machine
from tests.benchmarks.sides import WINDOW, environment, fresh_process, new_classifier
from tests.reference.trainer import peak_memory
from xner.data.encoded_cache import encode_split
from xner.data.sources import Split
from xner.errors import UserError
from xner.tags import PANX

STEPS = 20
"""Optimizer steps of ``fit``: enough for everything that grows with the data, which is prepared before the first."""


class Reading(TypedDict):
    """One measurement of a process.

    Attributes:
        seconds: Without starting Python and importing.
        peak_bytes: The highest resident memory of the process.
    """

    seconds: float
    peak_bytes: int


def encode_once(data: str, language: str, backbone: str, cache: str, output: str) -> None:
    """Encode a training split or find it in the cache, and write a ``Reading``."""
    started = time.perf_counter()
    encoded = encode_split(Split(data, language, "train"), backbone, WINDOW, PANX, Path(cache))
    assert len(encoded)
    _write(output, time.perf_counter() - started)


def fit_once(source: str, language: str, model: str, output: str) -> None:
    """Run ``fit`` on an encoded training split for ``STEPS`` optimizer steps, and write a ``Reading``."""
    from xner.cli.main import main

    with tempfile.TemporaryDirectory(prefix="xner-scale-fit-") as root:
        options = [f"--data.source={source}", f"--data.languages=[{language}]", f"--model.backbone={model}"]
        options += [f"--trainer.default_root_dir={root}", f"--trainer.max_steps={STEPS}", "--trainer.logger=false"]
        started = time.perf_counter()
        main(["fit", *options, "--trainer.enable_progress_bar=false"])
        _write(output, time.perf_counter() - started)


def tag_once(model: str, texts: str, output: str) -> None:
    """Run ``xner tag --format jsonl`` with a file as standard input, and write a ``Reading``."""
    from xner.cli.main import main

    sys.argv[1:] = ["tag", "--model", model, "--format=jsonl"]
    with open(texts, encoding="utf-8") as sys.stdin:
        started = time.perf_counter()
        main()
    _write(output, time.perf_counter() - started)


def _write(output: str, seconds: float) -> None:
    Path(output).write_text(json.dumps(Reading(seconds=seconds, peak_bytes=peak_memory("cpu"))), encoding="utf-8")


def _as_tsv(words: Sequence[str], tags: Sequence[str]) -> str:
    return "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True)) + "\n"


def measure(function: str, arguments: Sequence[object], told: dict[str, str], folder: Path) -> Reading:
    """Call one of the functions above in a fresh process."""
    output = folder / "reading.json"
    code = f"import sys; from tests.benchmarks.scale import {function}; {function}(*sys.argv[1:])"
    fresh_process(["-c", code, *map(str, arguments), str(output)], told)
    reading: Reading = json.loads(output.read_text(encoding="utf-8"))
    return reading


def scale(
    data: str,
    tokenizer: str,
    language: str = "en",
    geometry: str = "tiny",
    sizes: Sequence[int] = (10_000, 100_000, 1_000_000),
    tagged: Sequence[int] = (2_000, 20_000),
    threads: int | None = None,
    output: str | None = None,
) -> None:
    """Print time and memory of encoding, of loading what is cached, of training and of tagging, by number of sentences.

    Args:
        data: Folder that holds <language>/train.tsv, or 'sample'.
        tokenizer: Folder with a tokenizer's files.
        language: Language whose sentences are repeated.
        geometry: Size of the network, of random weights: base, e5-small, mini or tiny.
        sizes: Numbers of sentences to encode and to train on, ascending.
        tagged: Numbers of sentences to tag, ascending.
        threads: Threads of torch; those it chooses by itself unless given.
        output: JSON file for all figures.
    """
    for name, numbers in (("sizes", sizes), ("tagged", tagged)):
        if not numbers or min(numbers) < 1 or [*numbers] != sorted({*numbers}):
            raise UserError(f"{name}={[*numbers]} is not an ascending list of numbers of sentences")
    sentences = Split(data, language, "train").sentences
    rows: list[tuple[str, int, int, Reading]] = []
    with tempfile.TemporaryDirectory(prefix="xner-scale-") as name:
        folder = Path(name)
        model = folder / "model"
        new_classifier(tokenizer, geometry, model)
        told = environment(cache=folder / "cache", threads=threads)
        for size in sizes:
            source, words = folder / f"data-{size}", 0
            path = source / language / "train.tsv"
            path.parent.mkdir(parents=True)
            with path.open("w", encoding="utf-8") as file:
                for some, tags in islice(cycle(zip(sentences.words, sentences.tags, strict=True)), size):
                    words += len(some)
                    file.write(_as_tsv(some, tags))
            few = islice(zip(sentences.words, sentences.tags, strict=True), 100)
            path.with_name("validation.tsv").write_text("".join(_as_tsv(*each) for each in few), encoding="utf-8")
            arguments = (source, language, model, folder / "cache")
            for what in ("encode", "load from the cache"):
                rows.append((what, size, words, measure("encode_once", arguments, told, folder)))
            rows.append(("fit", size, words, measure("fit_once", arguments[:3], told, folder)))
        for size in tagged:
            texts, words = folder / "texts", 0
            with texts.open("w", encoding="utf-8") as file:
                for some in islice(cycle(sentences.words), size):
                    words += len(some)
                    file.write(" ".join(some) + "\n")
            rows.append(("tag", size, words, measure("tag_once", (model, texts), told, folder)))
    print("| | sentences | words | seconds | peak memory, MB | bytes per further word |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    order = ("encode", "load from the cache", "fit", "tag")
    rows.sort(key=lambda row: order.index(row[0]))
    for before, (what, size, words, reading) in pairwise([None, *rows]):
        further = ""
        if before and before[0] == what:
            further = f"{(reading['peak_bytes'] - before[3]['peak_bytes']) / (words - before[2]):.0f}"
        seconds, megabytes = f"{reading['seconds']:.1f}", f"{reading['peak_bytes'] / 1e6:,.0f}"
        print(f"| {what} | {size:,} | {words:,} | {seconds} | {megabytes} | {further} |")
    machine = this_machine(device="cpu", threads=threads or torch.get_num_threads())
    print(f"\nMeasured on: {machine}.")
    readings = [{"what": what, "sentences": size, "words": words, **each} for what, size, words, each in rows]
    write_figures(output, machine, {"readings": readings})


if __name__ == "__main__":
    run_as_command(scale)
