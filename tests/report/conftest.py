"""Synthetic run folders: random gold spans, and predictions that improve with the number of sentences."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xner.lineage import Episode
from xner.model.calibration import calibrate
from xner.tags import PANX, Span, spans
from xner.transfer.result import Counts, Evaluation, Result, write_result, write_sentences

WORDS = {
    "en": "the of Paris Obama Google river <script>alert(1)</script> club",
    "tr": "ve bir İstanbul Atatürk & nehri Aş",
    "de": "und der Köln Goethe Fluss",
    "fi": "ja Helsinki Sibelius joki",
}


def sentence_tags(draw: random.Random, words: int) -> list[str]:
    """Draw tags that form entities of one to four words."""
    tags: list[str] = []
    while len(tags) < words:
        if draw.random() < 0.5:
            tags.append("O")
        else:
            kind, length = draw.choice(PANX.types), min(draw.choice((1, 1, 2, 2, 3, 4)), words - len(tags))
            tags += [f"B-{kind}", *[f"I-{kind}"] * (length - 1)]
    return tags


def predicted_tags(draw: random.Random, tags: Sequence[str], quality: float) -> list[str]:
    """Draw predicted tags with a fraction of correct entities; the others are lost, cut short or of another type."""
    predicted = list(tags)
    for span in spans(tags):
        if draw.random() < quality:
            continue
        accident = draw.choice(("type", "border", "missed"))
        if accident == "missed" or (accident == "border" and span.first == span.last):
            predicted[span.first : span.last + 1] = ["O"] * (span.last - span.first + 1)
        elif accident == "border":
            predicted[span.last] = "O"
        else:
            kind = draw.choice([each for each in PANX.types if each != span.type])
            for word in range(span.first, span.last + 1):
                predicted[word] = f"{predicted[word][:2]}{kind}"
    for word, tag in enumerate(predicted):
        if tag == "O" and tags[word] == "O" and draw.random() < 0.15 * (1 - quality):
            predicted[word] = f"B-{draw.choice(PANX.types)}"
    return predicted


def count(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Counts:
    """Count the spans of an evaluation one by one."""

    def per_type(found: Sequence[set[Span]]) -> np.ndarray[Any, np.dtype[np.int32]]:
        return np.array(
            [[sum(span.type == kind for span in each) for kind in PANX.types] for each in found], dtype=np.int32
        )

    true, guess = [set(spans(tags)) for tags in gold], [set(spans(tags)) for tags in predicted]
    word_gold = np.array([PANX.labels[tag] for tags in gold for tag in tags], dtype=np.int8)
    word_predicted = np.array([PANX.labels[tag] for tags in predicted for tag in tags], dtype=np.int8)
    right = word_gold == word_predicted
    # Right words are more probable than wrong ones, which are between one half and one.
    calibration = calibrate(np.where(right, 1, 0.5) - np.linspace(0, 0.4, len(right)) * np.where(right, 1, -1), right)
    return Counts(
        correct=per_type([a & b for a, b in zip(true, guess, strict=True)]),
        predicted=per_type(guess),
        gold=per_type(true),
        sentence_words=np.array([len(tags) for tags in gold], dtype=np.int32),
        word_gold=word_gold,
        word_predicted=word_predicted,
        word_seen=word_gold % 2 == 0,
        bin_words=calibration.words,
        bin_probability=calibration.probability,
        bin_right=calibration.right,
    )


def evaluate(language: str, counts: Counts, *, zero_shot: bool) -> Evaluation:
    """Compute the scores of the counts; accuracy, macro and strict F1 are placeholders."""

    def f1(correct: int, predicted: int, gold: int) -> float:
        return 2 * correct / (predicted + gold) if predicted + gold else 0.0

    correct, predicted, gold = (int(each.sum()) for each in counts[:3])
    kinds = [f1(*(int(each[:, kind].sum()) for each in counts[:3])) for kind in range(len(PANX.types))]
    return Evaluation(
        language=language, split="test", zero_shot=zero_shot, f1=f1(correct, predicted, gold),
        precision=correct / max(predicted, 1), recall=correct / max(gold, 1), accuracy=0.9,
        f1_by_type=dict(zip(PANX.types, kinds, strict=True)), f1_strict=f1(correct, predicted, gold),
        f1_macro=sum(kinds) / 3, sentences=len(counts.sentence_words), words=len(counts.word_gold), entities=gold,
        unscored_words=0, seen_sentences=0, f1_unseen=f1(correct, predicted, gold), contaminated=False,
        f1_seen_entities=None, f1_unseen_entities=f1(correct, predicted, gold), near_duplicates=0, ece=0.0123,
        oracle=False, label_free=zero_shot,
    )  # fmt: skip


def write_run(
    path: Path,
    *,
    regimes: Sequence[str] = ("progressive",),
    sizes: Sequence[int] = (250, 1000, 4000),
    seeds: Sequence[int] = (42,),
    sentences: int = 120,
    zero_shot: bool = True,
    quality: float = 0.0,
    targets: Sequence[str] = ("tr",),
) -> Path:
    """Write the folder of a run with source language en.

    Args:
        path: The folder.
        regimes: Regimes of the few-shot stages.
        sizes: Sizes of the few-shot stages.
        seeds: Seeds of all stages.
        sentences: Number of sentences per test split.
        zero_shot: Whether the source stage is zero-shot.
        quality: Added to the fraction of correct entities.
        targets: Target languages.
    """
    draw = random.Random(0)
    gold = {each: [sentence_tags(draw, draw.randint(3, 12)) for _ in range(sentences)] for each in ("en", *targets)}
    for language, tags in gold.items():
        words = [[draw.choice(WORDS[language].split()) for _ in each] for each in tags]
        write_sentences(path, language, "test", words)
    for seed in seeds:
        few_shot = [(regime, target, size) for target in targets for regime in regimes for size in sizes]
        for regime, adapted, size in [("source", "en", 0), *few_shot]:
            stage = f"{regime}-en-seed{seed}" if regime == "source" else f"{regime}-{adapted}-{size}-seed{seed}"
            chance = random.Random(stage)
            share = {"en": 0.8 - 0.03 * (size > 0)}
            share |= {each: 0.6 + 0.08 * size**0.15 * (size > 0) * (each == adapted) for each in targets}
            counts = {
                (language, "test"): count(
                    tags, [predicted_tags(chance, each, share[language] + quality) for each in tags]
                )
                for language, tags in gold.items()
            }
            episode = Episode(
                source="sample", language="en", split="train", sentences=800, shuffle_seed=0, subset_seed=None,
                seed=seed, types=[*PANX.types], map_types={}, digest="0a1b2c3d" * 8, labels="gold",
            )  # fmt: skip
            result = Result(
                stage=stage, regime=regime, seed=seed, start_from="tiny" if size == 0 else f"source-en-seed{seed}",
                train_languages={"source": ["en"], "joint": ["en", adapted]}.get(regime, [adapted]),
                train_samples=size + (800 if regime in ("source", "joint") else 0), target_samples=size, shots=None,
                types=[*PANX.types],
                evaluations=[
                    evaluate(language, each, zero_shot=zero_shot and size == 0 and language != "en")
                    for (language, _), each in counts.items()
                ],
                seconds=1.5, definition={"num_samples": size}, fingerprint=stage,
                lineage={"origin": "tiny", "episodes": [episode]}, versions={"xner": "0.1.0"}, max_epochs=3,
                keep="all", model="0a1b2c3d" * 8,
            )  # fmt: skip
            folder = path / "stages" / stage
            folder.mkdir(parents=True)
            write_result(folder, result, counts)
    return path


@pytest.fixture(name="write_run")
def _write_run() -> Callable[..., Path]:
    return write_run
