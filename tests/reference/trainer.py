"""The notebook's path: Hugging Face's Trainer fine-tunes a token classifier on PAN-X.

This is the witness that xner is compared with, for its numbers in the parity test and for its speed in the benchmarks.
It shares nothing with xner but the tag set: it tokenizes, labels, batches, trains and scores by other people's code.
It differs from a notebook in three ways only: it writes no checkpoints, it can be told the order of the sentences, and
it keeps what happened at each step unrounded. One process, at most one GPU.

As a command, ``python -m tests.reference.trainer --help``, it trains and evaluates once and writes its speed, memory,
scores and losses as JSON. A benchmark starts it in a fresh process.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from datasets import Dataset
from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    EvalPrediction,
    PreTrainedTokenizerBase,
    TrainingArguments,
    set_seed,
)

from tests.reference.watch import FixedBatches, StepClock, WatchedTrainer
from xner.tags import IGNORE, PANX, TagSet


class Sentences(NamedTuple):
    """A data set as PAN-X has it.

    Attributes:
        words: The words of each sentence.
        tags: The tags of each sentence, one a word.
    """

    words: Sequence[Sequence[str]]
    tags: Sequence[Sequence[str]]


class Scores(TypedDict):
    """The result of one evaluation: seqeval's scores in default mode, and the Trainer's mean of the batches' losses."""

    precision: float
    recall: float
    f1: float
    accuracy: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Where the time went, in seconds; loading and tokenizing are not in it.

    Attributes:
        train_seconds: The whole training loop without its evaluations.
        train_sentences: The sentences trained on in ``train_seconds``, each time counted.
        steady_seconds: From the end of the first step to the end of the last, without evaluations in between.
        steady_sentences: The sentences trained on in ``steady_seconds``.
        evaluation_seconds: Each evaluation, from the first batch to the scores.
        scoring_seconds: The part of each evaluation that turns logits into scores: argmax, tags and seqeval.
    """

    train_seconds: float
    train_sentences: int
    steady_seconds: float
    steady_sentences: int
    evaluation_seconds: list[float]
    scoring_seconds: list[float]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run of the reference.

    Attributes:
        losses: The training loss of each optimizer step, before the step.
        learning_rates: The learning rate each optimizer step used.
        scores: The validation scores after each epoch; empty without validation.
        timing: Where the time went.
    """

    losses: list[float]
    learning_rates: list[float]
    scores: list[Scores]
    timing: Timing


def encode(
    *,
    words: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    tag_set: TagSet = PANX,
) -> Dataset:
    """Cut words into pieces and put each word's label on its first piece.

    What lies beyond ``max_length`` is cut off, and a word without pieces is not there: neither is scored.

    Args:
        words: The words of each sentence.
        tags: The tags of each sentence, one a word.
        tokenizer: A fast tokenizer, which knows the word behind each piece.
        max_length: Pieces a sentence, specials included.
        tag_set: The tag set.

    Returns:
        A row a sentence with ``input_ids``, ``attention_mask`` and ``labels``, each of one sentence's own length.
    """
    encoded = tokenizer(
        [list(sentence) for sentence in words], is_split_into_words=True, truncation=True, max_length=max_length
    )
    labels = []
    for sentence, sentence_tags in enumerate(tags):
        word_ids = encoded.word_ids(sentence)
        labels.append(
            [
                IGNORE if word is None or word == previous else tag_set.labels[sentence_tags[word]]
                for previous, word in zip([None, *word_ids], word_ids, strict=False)
            ]
        )
    return Dataset.from_dict(
        {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "labels": labels}
    )


def compute_metrics(prediction: EvalPrediction, tag_set: TagSet = PANX) -> dict[str, float]:
    """Score the labelled pieces with seqeval's default mode.

    Args:
        prediction: The logits, *Shape:* (sentences, pieces, labels), and labels, *Shape:* (sentences, pieces), of a
            whole data set.
        tag_set: The tag set.
    """
    predicted = np.argmax(prediction.predictions, axis=-1)
    scored = prediction.label_ids != IGNORE
    gold_tags, predicted_tags = (
        [[tag_set.tags[label] for label in row[mask]] for row, mask in zip(labels, scored, strict=True)]
        for labels in (prediction.label_ids, predicted)
    )
    return {
        "precision": float(precision_score(gold_tags, predicted_tags)),
        "recall": float(recall_score(gold_tags, predicted_tags)),
        "f1": float(f1_score(gold_tags, predicted_tags)),
        "accuracy": float(accuracy_score(gold_tags, predicted_tags)),
    }


def train_and_evaluate(
    *,
    backbone: str | Path,
    train: Sentences,
    validation: Sentences | None,
    output_dir: str | Path,
    epochs: int = 3,
    max_steps: int | None = None,
    learning_rate: float = 2e-5,
    weight_decay: float = 0.01,
    warmup_ratio: float = 0.0,
    batch_size: int = 32,
    evaluation_batch_size: int = 32,
    max_length: int = 512,
    seed: int = 42,
    order: Sequence[Sequence[int]] | None = None,
    dropout: bool = True,
    device: str | None = None,
    bf16: bool = False,
    overrides: Mapping[str, Any] | None = None,
    tag_set: TagSet = PANX,
) -> Outcome:
    """Fine-tune a backbone as the notebook does, and evaluate it after each epoch.

    Args:
        backbone: Hub name or folder in Hugging Face layout. Of a folder that holds a token classifier the head is kept,
            so that two sides of a comparison can start from the same weights.
        train: The sentences to train on.
        validation: The sentences to evaluate on; ``None`` evaluates nothing.
        output_dir: The Trainer's folder, in which nothing is kept.
        epochs: Passes over ``train``, or over ``order``.
        max_steps: Optimizer steps to end after, to which the schedule then runs; ``None`` is all of the epochs.
        learning_rate: Highest learning rate; linear to zero.
        weight_decay: AdamW's, not on biases and LayerNorm.
        warmup_ratio: Share of the steps in which the learning rate rises linearly.
        batch_size: Sentences an optimizer step.
        evaluation_batch_size: Sentences an evaluation batch.
        max_length: Pieces a sentence, specials included.
        seed: Of a new head, the Trainer's order and dropout.
        order: The sentence numbers of each step of the whole run, an equal number of steps for each epoch; then
            ``batch_size`` has no say. ``None`` leaves the Trainer its own shuffling.
        dropout: Whether the backbone's dropout is on in training.
        device: ``cpu`` or ``cuda``; ``None`` takes a GPU where there is one.
        bf16: Whether to train and evaluate under bfloat16 autocast; the weights are float32 either way.
        overrides: Further ``TrainingArguments``, over all of the above. Not ``gradient_accumulation_steps``: a batch
            here is a step, and transformers 5.23 would sum XLM-R's losses over the batches of a step.
        tag_set: The tag set of the sentences.

    Returns:
        The losses, learning rates, scores and timing of the run.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    config = AutoConfig.from_pretrained(
        backbone, num_labels=len(tag_set.tags), id2label=dict(enumerate(tag_set.tags)), label2id=tag_set.labels
    )
    if not dropout:
        for option in config.to_dict():
            if "dropout" in option:
                setattr(config, option, 0.0)
    model = AutoModelForTokenClassification.from_pretrained(backbone, config=config, dtype=torch.float32)
    options = {
        "output_dir": str(output_dir),
        "num_train_epochs": epochs,
        "max_steps": -1 if max_steps is None else max_steps,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "lr_scheduler_type": "linear",
        # Since transformers 5 a number below 1 is a share of the steps.
        "warmup_steps": warmup_ratio,
        "max_grad_norm": 1.0,
        "per_device_train_batch_size": batch_size,
        "per_device_eval_batch_size": evaluation_batch_size,
        "eval_strategy": "no" if validation is None else "epoch",
        "save_strategy": "no",
        "logging_strategy": "steps",
        "logging_steps": 50,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": seed,
        "use_cpu": device == "cpu",
        "dataloader_pin_memory": device != "cpu",
        "bf16": bf16,
    }
    clock = StepClock()
    scoring_seconds: list[float] = []

    def timed_metrics(prediction: EvalPrediction) -> dict[str, float]:
        started = time.perf_counter()
        scores = compute_metrics(prediction, tag_set)
        scoring_seconds.append(time.perf_counter() - started)
        return scores

    def encoded(sentences: Sentences) -> Dataset:
        words, tags = sentences.words, sentences.tags
        return encode(words=words, tags=tags, tokenizer=tokenizer, max_length=max_length, tag_set=tag_set)

    trainer = WatchedTrainer(
        batches=None if order is None else FixedBatches(order=order, epochs=epochs),
        model=model,
        args=TrainingArguments(**{**options, **(overrides or {})}),
        data_collator=DataCollatorForTokenClassification(tokenizer),
        train_dataset=encoded(train),
        eval_dataset=None if validation is None else encoded(validation),
        processing_class=tokenizer,
        compute_metrics=timed_metrics,
        callbacks=[clock],
    )
    started = time.perf_counter()
    trainer.train()
    loop_seconds = time.perf_counter() - started
    evaluations = [entry for entry in trainer.state.log_history if "eval_f1" in entry]
    # The last epoch's evaluation comes after the last step.
    between_seconds = sum(trainer.evaluation_seconds[:-1])
    return Outcome(
        losses=[float(loss) for loss in trainer.step_losses],
        learning_rates=trainer.step_learning_rates,
        scores=[Scores(**{name: entry[f"eval_{name}"] for name in Scores.__annotations__}) for entry in evaluations],
        timing=Timing(
            train_seconds=loop_seconds - sum(trainer.evaluation_seconds),
            train_sentences=sum(trainer.step_sentences),
            steady_seconds=max(0.0, clock.readings[-1] - clock.readings[0] - between_seconds),
            steady_sentences=sum(trainer.step_sentences[1:]),
            evaluation_seconds=trainer.evaluation_seconds,
            scoring_seconds=scoring_seconds,
        ),
    )


def read_tsv(path: str | Path, *, sentences: int | None = None) -> Sentences:
    """Read the first sentences of a file with a word, a tab and its tag a line, and a blank line between sentences.

    Args:
        path: A UTF-8 file.
        sentences: How many; ``None`` is all.
    """
    # Not splitlines(): a word may hold U+2028 and the like.
    lines = [block.split("\n") for block in Path(path).read_text(encoding="utf-8").strip("\n").split("\n\n")]
    pairs = [[line.split("\t") for line in block] for block in lines[:sentences]]
    return Sentences(
        words=[[word for word, _ in sentence] for sentence in pairs],
        tags=[[tag for _, tag in sentence] for sentence in pairs],
    )


def peak_memory(device: str) -> int:
    """Tell this process's highest use of memory so far, in bytes: of the GPU's memory on ``cuda``, else resident."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    # Not getrusage's ru_maxrss: across fork and exec it inherits the peak of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and evaluate once and write speed, memory, scores and losses as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.reference.trainer",
        description="Train and evaluate by Hugging Face's Trainer; write speed, memory, scores and losses as JSON.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--backbone", required=True, help="folder in Hugging Face layout, or hub name")
    parser.add_argument("--train", required=True, type=Path, help="TSV file to train on")
    parser.add_argument("--validation", required=True, type=Path, help="TSV file to evaluate on")
    parser.add_argument("--output", required=True, type=Path, help="JSON file to write")
    parser.add_argument("--sentences", type=int, help="train on the first so many sentences")
    parser.add_argument("--validation_sentences", type=int, help="evaluate on the first so many sentences")
    parser.add_argument("--epochs", type=int, default=3, help="passes over the training sentences")
    parser.add_argument("--max_steps", type=int, help="optimizer steps to end after, epochs or not")
    parser.add_argument("--batch_size", type=int, default=32, help="sentences an optimizer step")
    parser.add_argument("--max_length", type=int, default=512, help="pieces a sentence, specials included")
    parser.add_argument("--learning_rate", type=float, default=2e-5, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=42, help="of a new head, the order and dropout")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=["32", "bf16"], default="32", help="bf16 is autocast to bfloat16")
    parser.add_argument("--group_by_length", action="store_true", help="batches of sentences of like length")
    options = parser.parse_args(arguments)

    train = read_tsv(options.train, sentences=options.sentences)
    validation = read_tsv(options.validation, sentences=options.validation_sentences)
    with tempfile.TemporaryDirectory() as output_dir:
        outcome = train_and_evaluate(
            backbone=options.backbone,
            train=train,
            validation=validation,
            output_dir=output_dir,
            epochs=options.epochs,
            max_steps=options.max_steps,
            learning_rate=options.learning_rate,
            batch_size=options.batch_size,
            max_length=options.max_length,
            seed=options.seed,
            device=options.device,
            bf16=options.precision == "bf16",
            overrides={"train_sampling_strategy": "group_by_length"} if options.group_by_length else None,
        )
    timing = outcome.timing
    report = {
        # A run of one step has no steady state.
        "train_sentences_per_second": timing.steady_sentences / timing.steady_seconds
        if timing.steady_seconds
        else None,
        "train_loop_sentences_per_second": timing.train_sentences / timing.train_seconds,
        "evaluation_sentences_per_second": len(validation.words) / timing.evaluation_seconds[-1],
        "peak_memory_bytes": peak_memory(options.device),
        "steps": len(outcome.losses),
        "threads": torch.get_num_threads(),
        **asdict(outcome),
    }
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
