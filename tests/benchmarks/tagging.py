"""Measure the Tagger against the pipeline of transformers on raw text: ``python -m tests.benchmarks.tagging --help``.

Raw text is made of the words of a corpus with a space between them. Both sides load the same model folder and take
turns in one process; the pipeline has the batch size that is the fastest of several on the first texts. F1 is that of
entities by type and the characters where they start and end, so each side's own words count.
"""

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any, get_args

import torch
from transformers import pipeline
from transformers.utils import logging as transformers_logging

from tests.benchmarks.command import run_as_command, write_figures
from tests.benchmarks.machine import this_machine
from xner.data.sources import Split
from xner.errors import UserError
from xner.model.decoding import Decoding
from xner.tagger import Tagged, Tagger
from xner.words import join_words

Spans = list[set[tuple[str, int, int]]]
"""Type, start and end of the entities of each text."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def make_pipeline(model: str, precision: str) -> Callable[..., Any]:
    """Open a model folder as the pipeline of transformers, on a GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return pipeline(
        "token-classification", model=model, aggregation_strategy="first", dtype=DTYPES[precision], device=device
    )


def spans_of_pipeline(found: Iterable[Sequence[dict[str, Any]]]) -> Spans:
    """Return the spans that a pipeline has found."""
    return [{(each["entity_group"], each["start"], each["end"]) for each in text} for text in found]


def spans_of_tagger(found: Iterable[Tagged]) -> Spans:
    """Return the spans that a Tagger has found."""
    return [{(each.type, each.start, each.end) for each in text.entities} for text in found]


def character_f1(predicted: Spans, gold: Spans) -> float:
    """Compute F1 over all entities, equal in type, first and last character.

    >>> character_f1([{("PER", 0, 4), ("LOC", 6, 9)}], [{("PER", 0, 4)}])
    0.6666666666666666
    """
    correct = sum(len(one & other) for one, other in zip(predicted, gold, strict=True))
    return 2 * correct / max(1, sum(map(len, predicted)) + sum(map(len, gold)))


def tagging(
    model: str,
    data: str,
    language: str = "en",
    split: str = "test",
    sentences: int = 2000,
    rounds: int = 3,
    batch_sizes: Sequence[int] = (1, 8, 32, 128),
    precisions: Sequence[str] = ("float32",),
    decodings: Sequence[str] = ("greedy",),
    threads: int | None = None,
    output: str | None = None,
) -> None:
    """Tag sentences as raw text by the pipeline of transformers and by xner in turns; print speeds, ratios and F1.

    Args:
        model: Model folder, as fit writes it.
        data: Folder that holds <language>/<split>.tsv, or 'sample'.
        language: Language of the sentences.
        split: Split of the sentences.
        sentences: Number of sentences, the first of the split.
        rounds: Runs of each side.
        batch_sizes: Batch sizes of the pipeline, of which the fastest on a tenth of the sentences is used.
        precisions: float32 and bfloat16; each side is measured in all of them.
        decodings: greedy and viterbi, of xner; the pipeline has no other than the first.
        threads: Threads of torch; those it chooses by itself unless given.
        output: JSON file for all figures.
    """
    for name, value in (("sentences", sentences), ("rounds", rounds), *(("batch_sizes", each) for each in batch_sizes)):
        if value < 1:
            raise UserError(f"{name}={value} is not positive; use 1 or more")
    for name, values, known in (("precisions", precisions, DTYPES), ("decodings", decodings, get_args(Decoding))):
        if not values or not {*values} <= {*known}:
            raise UserError(f"{name}={[*values]} is not possible; use {' and '.join(known)}")
    if threads:
        torch.set_num_threads(threads)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # Of every batch on a GPU, and of every text with a tokenizer that does not know words.
    warnings.filterwarnings("ignore", module="transformers")
    corpus = Split(data, language, split).sentences
    texts, gold = [], []
    for words, tags in zip(corpus.words[:sentences], corpus.tags[:sentences], strict=True):
        text, places = join_words(words)
        texts.append(text)
        gold.extend(spans_of_tagger([Tagged.of(text, places, tags, [1.0] * len(tags))]))
    sides: dict[str, Callable[[Sequence[str]], Spans]] = {}
    chosen: dict[str, int] = {}
    part = texts[: max(1, len(texts) // 10)]
    for precision in precisions:
        pipe = make_pipeline(model, precision)

        def by_pipeline(some: Sequence[str], size: int = 1, pipe: Callable[..., Any] = pipe) -> Spans:
            return spans_of_pipeline(pipe([*some], batch_size=size))

        by_pipeline(part)  # warms up
        speeds = {size: _timed(lambda some, size=size: by_pipeline(some, size), part)[0] for size in batch_sizes}
        size = chosen[precision] = min(speeds, key=lambda each: speeds[each])
        sides[f"pipeline, {precision}"] = lambda some, size=size, run=by_pipeline: run(some, size)
        for decoding in decodings:
            tagger = Tagger.from_pretrained(model, precision=precision, decoding=decoding)
            tagger(part)
            name = ", ".join(["xner", precision] + [decoding] * (decoding != "greedy"))
            sides[name] = lambda some, tagger=tagger: spans_of_tagger(tagger(some))
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    scores: dict[str, float] = {}
    for _ in range(rounds):
        for side, run in sides.items():
            took, found = _timed(run, texts)
            seconds[side].append(took)
            scores[side] = character_f1(found, gold)
    speed = {side: [len(texts) / each for each in took] for side, took in seconds.items()}
    print(f"{len(texts):,} sentences of {language}/{split} as raw text; batch sizes of the pipeline: {chosen}\n")
    print("| | sentences/s | F1 by characters |\n| --- | ---: | ---: |")
    for side in sides:
        low, high = min(speed[side]), max(speed[side])
        print(f"| {side} | {median(speed[side]):.1f} ({low:.1f} to {high:.1f}) | {scores[side]:.4f} |")
    ratios = {
        f"{ours} / {theirs}": median(speed[ours]) / median(speed[theirs])
        for ours in sides
        for theirs in sides
        if ours.startswith("xner") and theirs.startswith("pipeline")
    }
    for both, ratio in ratios.items():
        print(f"| {both} | **{ratio:.2f}** | |")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    machine = this_machine(device=device, threads=torch.get_num_threads())
    print(f"\nMeasured on: {machine}.")
    write_figures(
        output, machine, {"sentences_per_second": speed, "f1": scores, "ratios": ratios, "batch_sizes": chosen}
    )


def _timed(run: Callable[[Sequence[str]], Spans], texts: Sequence[str]) -> tuple[float, Spans]:
    began = time.perf_counter()
    found = run(texts)
    return time.perf_counter() - began, found


if __name__ == "__main__":
    run_as_command(tagging)
