"""The two sides of a comparison: what both start from, and a run of each in a fresh process.

The peer is ``tests.reference.trainer``, the path of Hugging Face's Trainer; the other side is ``train.py fit`` itself.
Both are given the same weights with the same head, the same sentences, batches of as many, two epochs, and an
evaluation after each. The first evaluation warms up and the second counts. Checkpoints, loggers and progress bars are
off, and sentences are cut into pieces before the clock starts.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers.utils import logging as transformers_logging

from tests.reference.trainer import encode
from xner.backbone.tokenizer import load_tokenizer, save_tokenizer
from xner.backbone.weights import load_network, new_backbone
from xner.data.encode import Encoded
from xner.data.encoded_cache import encode_split
from xner.data.sources import Sentences, Split
from xner.errors import UserError
from xner.tags import PANX

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 2
WINDOW = 512
"""Pieces a window, the default of both sides."""


class Geometry(NamedTuple):
    """The sizes of a network."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int


GEOMETRIES = {
    "base": Geometry(768, 12, 12, 3072),
    "e5-small": Geometry(384, 12, 12, 1536),
    "mini": Geometry(256, 4, 4, 1024),
    "tiny": Geometry(32, 1, 2, 64),
}
"""XLM-R base, multilingual-e5-small, which suits a CPU, a small one without pretraining, and one for tests."""


def new_classifier(tokenizer: str, geometry: str, folder: Path) -> None:
    """Make a token classifier with random weights, its head among them, in Hugging Face layout."""
    if geometry not in GEOMETRIES:
        raise UserError(f"geometry={geometry!r} is none of {', '.join(GEOMETRIES)}")
    transformers_logging.disable_progress_bar()
    headless = folder.with_name(f"{folder.name}-headless")
    new_backbone(tokenizer, str(headless), **GEOMETRIES[geometry]._asdict())
    load_network(str(headless)).network.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    shutil.rmtree(headless)


@dataclass(frozen=True, kw_only=True)
class Task:
    """The task that both sides are given.

    Attributes:
        folder: A temporary folder: ``backbone``, ``data`` with the chosen sentences, and the cache of encoded splits.
        source: The data that the sentences were chosen from.
        language: Language trained and evaluated on.
        device: ``cpu`` or ``cuda``.
        steps: Optimizer steps, in two epochs of equally many.
        batch_size: Sentences a step.
        threads: Of torch, within an operation; ``None`` leaves them as they are.
        train_pieces: Pieces that the peer trains on in all, counted by its own tokenization.
        evaluation_pieces: Pieces of one evaluation of the peer's.
    """

    folder: Path
    source: str
    language: str
    device: str
    steps: int
    batch_size: int
    threads: int | None
    train_pieces: int
    evaluation_pieces: int

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables of both sides' processes."""
        return environment(cache=self.folder / "cache", threads=self.threads)

    @property
    def backbone(self) -> str:
        """The folder of the weights both start from."""
        return str(self.folder / "backbone")

    def split(self, name: str) -> str:
        """The file of the sentences to train or evaluate on."""
        return str(self.folder / "data" / self.language / f"{name}.tsv")


def prepare(
    *,
    folder: Path,
    data: str,
    language: str,
    tokenizer: str,
    geometry: str,
    device: str,
    steps: int,
    evaluation_sentences: int,
    batch_size: int,
    threads: int | None,
) -> Task:
    """Make the weights, choose the sentences at random, and encode them for xner's cache."""
    if steps < 4 or steps % EPOCHS:
        raise UserError(f"steps={steps} are not {EPOCHS} epochs of equally many steps, 2 at least: give an even number")
    new_classifier(tokenizer, geometry, folder / "backbone")
    backbone = str(folder / "backbone")
    numbers = {"train": steps // EPOCHS * batch_size, "validation": evaluation_sentences}
    pieces = {}
    for name, number in numbers.items():
        split = Split(data, language, name)
        encoded = encode_split(split, backbone, WINDOW, PANX, folder / "cache")
        sentences = _choose(split, encoded, number)
        path = folder / "data" / language / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_tsv(sentences), encoding="utf-8")
        peer = encode(words=sentences.words, tags=sentences.tags, tokenizer=load_tokenizer(backbone), max_length=WINDOW)
        pieces[name] = sum(map(len, peer["input_ids"][:]))
        encode_split(Split(str(folder / "data"), language, name), backbone, WINDOW, PANX, folder / "cache")
    return Task(
        folder=folder,
        source=str(Path(data).resolve()) if Path(data).is_dir() else data,
        language=language,
        device=device,
        steps=steps,
        batch_size=batch_size,
        threads=threads,
        train_pieces=EPOCHS * pieces["train"],
        evaluation_pieces=pieces["validation"],
    )


def _choose(split: Split, encoded: Encoded, number: int) -> Sentences:
    """Draw sentences of one window; of longer ones the peer would cut the rest off, and so have less to do."""
    fitting = np.flatnonzero(np.diff(encoded.sentence_window) == 1)
    if not 0 < number <= len(fitting):
        raise UserError(f"{number} sentences of {split} are asked for, which has {len(fitting)} of one window")
    chosen = np.random.default_rng(0).permutation(fitting)[:number]
    sentences = split.sentences
    return Sentences(*([values[sentence] for sentence in chosen] for values in (sentences.words, sentences.tags)))


def _tsv(sentences: Sentences) -> str:
    return "\n".join(
        "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True))
        for words, tags in zip(sentences.words, sentences.tags, strict=True)
    )


class Run(NamedTuple):
    """The measurements of one side in one process.

    Attributes:
        train_sentences_per_second: From the end of the warm-up, the first step, to the end of the last step.
        evaluation_sentences_per_second: From the first batch to the scores, in the second evaluation.
        peak_memory_bytes: Of the process, on a GPU of its memory.
        threads: torch's.
        train_sentences: Trained on in all.
        train_pieces: Trained on in all, without padding.
        evaluation_pieces: Of an evaluation, without padding.
        reading: All that the side wrote down.
    """

    train_sentences_per_second: float
    evaluation_sentences_per_second: float
    peak_memory_bytes: int
    threads: int
    train_sentences: int
    train_pieces: int
    evaluation_pieces: int
    reading: Mapping[str, Any]


Side = Callable[[Task], Run]


def run_trainer(task: Task, *extra: str) -> Run:
    """Train and evaluate by the Trainer, with further options of ``tests.reference.trainer``."""
    output = task.folder / "trainer.json"
    files = ["--backbone", task.backbone, "--train", task.split("train"), "--validation", task.split("validation")]
    sizes = ["--epochs", str(EPOCHS), "--batch_size", str(task.batch_size), "--device", task.device]
    fresh_process(["-m", "tests.reference.trainer", *files, *sizes, "--output", str(output), *extra], task.environment)
    reading = json.loads(output.read_text(encoding="utf-8"))
    return Run(
        *(reading[name] for name in Run._fields[:4]),
        train_sentences=reading["timing"]["train_sentences"],
        train_pieces=task.train_pieces,
        evaluation_pieces=task.evaluation_pieces,
        reading=reading,
    )


def run_xner(task: Task, *extra: str) -> Run:
    """Train and evaluate by ``train.py fit``, with further options of its own."""
    output = task.folder / "xner.json"
    root = task.folder / "run"
    options = {
        "model.backbone": task.backbone,
        "data.source": str(task.folder / "data"),
        "data.languages": f"[{task.language}]",
        "data.batch_size": task.batch_size,
        "trainer.max_epochs": EPOCHS,
        "trainer.accelerator": task.device,
        "trainer.devices": 1,
        "trainer.logger": "false",
        "trainer.enable_checkpointing": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.default_root_dir": str(root),
        # Without an overlay's progress bar.
        "trainer.callbacks": "null",
        "trainer.callbacks+": "tests.benchmarks.stopwatch.Stopwatch",
        "trainer.callbacks.output": str(output),
        "trainer.callbacks.vocabulary": task.source,
        # On a GPU a network may be compiled, shape by shape, in the first epoch; the Trainer's is not.
        "trainer.callbacks.warmup_steps": task.steps // EPOCHS if task.device == "cuda" else 1,
    }
    fit(options, *extra, environment=task.environment)
    shutil.rmtree(root)
    reading = json.loads(output.read_text(encoding="utf-8"))
    return Run(*(reading[name] for name in Run._fields[:-1]), reading=reading)


def fit(options: Mapping[str, object], *extra: str, environment: Mapping[str, str]) -> None:
    """Run ``train.py fit`` in a fresh process."""
    given = [f"--{name}={value}" for name, value in options.items()]
    fresh_process([str(ROOT / "train.py"), "fit", *extra, *given], environment)


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Keep a core busy by each of some processes within the block."""
    code = "from xner.cli.interrupts import end_with_parent; end_with_parent()\nwhile True: pass"
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def environment(*, cache: Path, threads: int | None) -> dict[str, str]:
    """Return the environment variables of a process: no network, a cache of encoded splits, and threads if given."""
    told = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "XNER_CACHE": str(cache)}
    return told if threads is None else told | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))


def fresh_process(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run Python anew in the repository's root.

    Args:
        arguments: Python's arguments.
        environment: Variables over those of this process.

    Raises:
        RuntimeError: If it fails, with the end of what it printed.
    """
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(arguments)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-4000:]}"
        )
