"""Compare the speed of xner and of Hugging Face's Trainer: ``python -m tests.benchmarks.speed --help``.

Both sides train and evaluate the same real sentences from the same random weights, in fresh processes and in turns
(see ``sides``). What counts is the median over the rounds. An evaluation includes its scores, seqeval's there and
``SpanF1`` here.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

from tests.benchmarks.command import run_as_command
from tests.benchmarks.machine import Machine, this_machine
from tests.benchmarks.sides import GEOMETRIES, ROOT, Run, Side, Task, busy_processes, prepare, run_trainer, run_xner
from xner.errors import UserError
from xner.model.fast.products import has_bfloat16

FIGURES = ("train_sentences_per_second", "evaluation_sentences_per_second", "peak_memory_bytes")
OURS = "xner"
PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that was measured.

    Attributes:
        title: What was done.
        machine: On what.
        runs: The runs of each side, in the order of the rounds; the names of xner's sides begin with ``OURS``.
    """

    title: str
    machine: Machine
    runs: dict[str, list[Run]]

    def medians(self, side: str) -> dict[str, float]:
        """A side's median of each of ``FIGURES``."""
        return {figure: median(getattr(run, figure) for run in self.runs[side]) for figure in FIGURES}

    @property
    def ours(self) -> list[str]:
        """Xner's sides."""
        return [side for side in self.runs if side.startswith(OURS)]

    def ratios(self) -> dict[str, dict[str, float]]:
        """The medians of each of xner's sides over those of each peer, by ``side / peer``."""
        return {
            f"{side} / {peer}": {name: self.medians(side)[name] / value for name, value in self.medians(peer).items()}
            for peer in self.runs
            if peer not in self.ours
            for side in self.ours
        }

    def shares(self) -> dict[str, dict[str, float]]:
        """The shares of the best product rate of its precision that the arithmetic of each of xner's sides reaches."""
        names = ("train_share", "evaluation_share")
        return {
            side: {name: median(run.reading[name] for run in self.runs[side]) for name in names} for side in self.ours
        }

    def product_rates(self) -> dict[str, float]:
        """The median product rate of each precision and library, over xner's runs."""
        runs = [run for side in self.ours for run in self.runs[side]]
        return {
            name: median(run.reading["product_rates"][name] for run in runs)
            for name in runs[0].reading["product_rates"]
        }

    def table(self) -> str:
        """A table in Markdown, and what machine it is of."""
        lines = [
            "| | training, sentences/s | evaluation, sentences/s | peak memory, GB |",
            "| --- | ---: | ---: | ---: |",
        ]
        for side, runs in self.runs.items():
            cells = (
                _spread([getattr(run, figure) / unit for run in runs])
                for figure, unit in zip(FIGURES, (1, 1, 1e9), strict=True)
            )
            lines.append(f"| {side} | {' | '.join(cells)} |")
        for pair, ratios in self.ratios().items():
            lines.append(f"| {pair} | {' | '.join(f'**{ratio:.2f}**' for ratio in ratios.values())} |")
        for side, shares in self.shares().items():
            cells = " | ".join(f"{share:.0%}" for share in shares.values())
            lines.append(f"| {side}, fraction of the best product rate of its precision | {cells} | |")
        rates = "; ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in self.product_rates().items())
        measured = f"Measured on: {self.machine}. Matrix products, GFLOP/s: {rates}."
        return "\n".join([f"{self.title}.", "", *lines, "", measured])

    def to_json(self) -> str:
        """Everything."""
        content = {
            "title": self.title,
            "machine": asdict(self.machine),
            "medians": {side: self.medians(side) for side in self.runs},
            "ratios": self.ratios(),
            "shares": self.shares(),
            "product_rates": self.product_rates(),
            "runs": {side: [run._asdict() for run in runs] for side, runs in self.runs.items()},
        }
        return json.dumps(content, indent=2) + "\n"


def _spread(values: Sequence[float]) -> str:
    return f"{_three_digits(median(values))} ({_three_digits(min(values))} to {_three_digits(max(values))})"


def _three_digits(value: float) -> str:
    """Round to three digits, or to whole numbers.

    >>> _three_digits(8.1234), _three_digits(41.27), _three_digits(1234.5)
    ('8.12', '41.3', '1234')
    """
    return f"{value:.{max(0, 2 - max(0, len(str(int(value))) - 1))}f}"


def sides_of(device: str, precisions: Sequence[str], config: Sequence[str], peers: Sequence[str]) -> dict[str, Side]:
    """Return the sides of a comparison: the Trainer as it comes and at its best, and xner in each precision."""
    if device not in ("cpu", "cuda"):
        raise UserError(f"device={device!r} is not a device; use cpu or cuda")
    # AdamW is the fused one by default.
    best = ["--group_by_length", *(["--precision", "bf16"] if device == "cuda" or has_bfloat16() else [])]
    theirs = {"as it comes": [], "at its best": best}
    overlays = [*config] or ([str(ROOT / "configs" / "gpu.yaml")] if device == "cuda" else [])
    sides: dict[str, Side] = {}
    for peer in peers:
        if peer not in theirs:
            raise UserError(f"peers has {peer!r}; use {' and '.join(theirs)}")
        sides[f"Trainer {peer}"] = partial(_with, run_trainer, theirs[peer])
    for precision in precisions:
        if precision not in PRECISIONS:
            raise UserError(f"precisions has {precision!r}; use {' and '.join(PRECISIONS)}")
        options = [f"--config={Path(overlay).resolve()}" for overlay in overlays]
        options.append(f"--trainer.precision={PRECISIONS[precision]}")
        sides[f"{OURS}, {precision}"] = partial(_with, run_xner, options)
    if len(sides) == len(peers):
        raise UserError(f"precisions=[] is empty; use {' and '.join(PRECISIONS)}")
    return sides


def _with(run: Side, extra: Sequence[str], task: Task) -> Run:
    return run(task, *extra)


def compare(task: Task, sides: dict[str, Side], *, rounds: int, title: str) -> Comparison:
    """Let the sides take turns.

    Raises:
        RuntimeError: If they did not do the same: other sentences, or other threads.
    """
    runs: dict[str, list[Run]] = {side: [] for side in sides}
    for number in range(1, rounds + 1):
        for side, run in sides.items():
            runs[side].append(run(task))
            training, evaluation, _ = (getattr(runs[side][-1], figure) for figure in FIGURES)
            print(
                f"round {number}, {side}: {training:.1f} sentences/s trained, {evaluation:.1f} evaluated",
                file=sys.stderr,
                flush=True,
            )
    for name in ("threads", "train_sentences", "train_pieces", "evaluation_pieces"):
        seen = {side: [getattr(run, name) for run in runs[side]] for side in runs}
        if len({value for values in seen.values() for value in values}) != 1:
            raise RuntimeError(f"the sides did not do the same: {name} are {seen}")
    [threads] = {run.threads for side in runs.values() for run in side}
    return Comparison(title=title, machine=this_machine(device=task.device, threads=threads), runs=runs)


def speed(
    data: str,
    tokenizer: str,
    language: str = "en",
    geometry: str = "base",
    device: str = "cpu",
    rounds: int = 3,
    steps: int = 24,
    evaluation_sentences: int = 400,
    batch_size: int = 32,
    threads: int | None = None,
    precisions: Sequence[str] = ("float32", "bfloat16"),
    peers: Sequence[str] = ("as it comes", "at its best"),
    overlays: Sequence[str] = (),
    busy: int = 0,
    output: str | None = None,
) -> None:
    """Train and evaluate by Hugging Face's Trainer and by xner in turns; print both sides' medians and their ratios.

    Args:
        data: Folder that holds <language>/{train,validation}.{tsv,conll,txt,jsonl,parquet}, or 'sample'.
        tokenizer: Folder with a tokenizer's files.
        language: Language whose sentences are used.
        geometry: Size of the network, of random weights: base, e5-small, mini or tiny.
        device: cpu or cuda.
        rounds: Runs of each side.
        steps: Optimizer steps per run, in two epochs; the first step is not timed.
        evaluation_sentences: Sentences of the validation split that are evaluated after each epoch; the second counts.
        batch_size: Sentences an optimizer step.
        threads: Threads of torch on both sides; those it chooses by itself unless given.
        precisions: Precisions of xner's sides: float32, bfloat16 or both.
        peers: The Trainer's sides: 'as it comes' in float32, 'at its best' in bfloat16 where the device multiplies it
            in hardware and in batches of similar length, or both.
        overlays: Configuration files for xner's sides; on cuda configs/gpu.yaml unless given.
        busy: Number of other processes that keep a core busy meanwhile, as on a machine that is shared.
        output: JSON file for all figures.
    """
    sides = sides_of(device, precisions, overlays, peers)
    if rounds < 1:
        raise UserError(f"rounds={rounds} must be 1 or more")
    with tempfile.TemporaryDirectory(prefix="xner-speed-") as folder:
        task = prepare(
            folder=Path(folder),
            data=data,
            language=language,
            tokenizer=tokenizer,
            geometry=geometry,
            device=device,
            steps=steps,
            evaluation_sentences=evaluation_sentences,
            batch_size=batch_size,
            threads=threads,
        )
        sizes = GEOMETRIES[geometry]
        title = (
            f"XLM-R, {geometry} geometry ({sizes.num_hidden_layers} layers of {sizes.hidden_size} units), on "
            f"{'a GPU' if device == 'cuda' else 'a CPU'}, medians (least to most) of {rounds} alternating runs of "
            f"{steps} steps of {batch_size} sentences and {evaluation_sentences} sentences evaluated"
        )
        if busy:
            title += f", beside {busy} busy process{'es' * (busy > 1)}"
        with busy_processes(busy):
            comparison = compare(task, sides, rounds=rounds, title=title)
    print(comparison.table())
    if output:
        Path(output).write_text(comparison.to_json(), encoding="utf-8")


if __name__ == "__main__":
    run_as_command(speed)
