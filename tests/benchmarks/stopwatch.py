"""Callbacks that measure ``train.py fit`` from within, as a user runs it; LightningCLI is told of them by name."""

import json
import time
from pathlib import Path
from typing import TypedDict

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from tests.benchmarks.machine import clock, product_rates
from tests.reference.trainer import peak_memory
from xner.batch import Batch
from xner.data.datamodule import PanxDataModule
from xner.model.classifier import TokenClassifier
from xner.model.vocabulary import CompactEmbedding

PRODUCT_ROWS = 512
"""Rows of the matrix product that the machine's rate is measured with: about the pieces of 32 sentences."""


class Reading(TypedDict):
    """The measurements of one fit.

    Attributes:
        train_sentences_per_second: From the end of the warm-up to the end of the last step, without evaluations.
        evaluation_sentences_per_second: Of the last evaluation, with its scores.
        peak_memory_bytes: The highest until the network has its whole vocabulary back.
        peak_memory_in_loop_bytes: The highest until the last evaluation ended.
        threads: torch's, within an operation.
        train_sentences: Trained on in all, each time counted.
        train_pieces: Trained on in all, without padding.
        train_filled: The share of the rows' places in training that hold a piece.
        evaluation_sentences: Of one evaluation.
        evaluation_pieces: Of one evaluation, without padding.
        evaluation_filled: The share of the rows' places in evaluation that hold a piece.
        parameters: Parameters that are no embedding.
        embedding_rows: Pieces that are trained.
        precision: Of the products, ``float32`` or ``bfloat16``.
        product_rates: Floating-point operations per second of matrix products by precision and library, the higher of
            before and after.
        train_share: Share that useful arithmetic reaches of the best of ``product_rates`` in this precision: 6
            operations per parameter and piece.
        evaluation_share: The same of an evaluation: 2 operations per parameter and piece.
    """

    train_sentences_per_second: float
    evaluation_sentences_per_second: float
    peak_memory_bytes: int
    peak_memory_in_loop_bytes: int
    threads: int
    train_sentences: int
    train_pieces: int
    train_filled: float
    evaluation_sentences: int
    evaluation_pieces: int
    evaluation_filled: float
    parameters: int
    embedding_rows: int
    precision: str
    product_rates: dict[str, float]
    train_share: float
    evaluation_share: float


class Tally:
    """Counts what some batches hold; the numbers stay on their device until they are asked for."""

    def __init__(self) -> None:
        self.sentences = 0
        self.places = 0
        self.pieces: list[Tensor] = []

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        self.sentences += len(batch.sentences)
        self.places += batch.windows.numel()
        self.pieces.append(batch.windows.count_nonzero())

    @property
    def real_pieces(self) -> int:
        """Pieces that are no padding."""
        return sum(int(pieces) for pieces in self.pieces)


class Stopwatch(Callback):
    """Measures a fit that evaluates after each epoch, and writes a ``Reading``.

    Args:
        output: JSON file to write.
        vocabulary: Source of data whose train and validation splits say which pieces are trained. A measurement trains
            on few sentences, but as many embedding rows as in a real run should take part.
        warmup_steps: Steps before the clock starts, at the end of the last of them.
    """

    def __init__(self, output: str, vocabulary: str, warmup_steps: int = 1) -> None:
        self.output = Path(output)
        self.vocabulary = vocabulary
        self.warmup_steps = warmup_steps
        self.warmup = Tally()
        self.steady = Tally()
        self.evaluation = Tally()
        self.step_end = self.steady_start = self.steady_end = 0.0
        self.evaluation_seconds: list[float] = []
        self.rates: dict[str, float] = {}

    def setup(self, trainer: pl.Trainer, pl_module: TokenClassifier, stage: str) -> None:
        """Have the whole data's pieces trained."""
        data = trainer.datamodule  # type: ignore[attr-defined] # set by Lightning
        whole = PanxDataModule(source=self.vocabulary, languages=data.languages, backbone=data.backbone)
        data.used_pieces = whole.used_pieces

    def on_fit_start(self, trainer: pl.Trainer, pl_module: TokenClassifier) -> None:
        """Measure the machine, and count parameters."""
        self.device = pl_module.device.type
        self.precision = "bfloat16" if str(trainer.precision).startswith("bf16") else "float32"
        network = pl_module.network.model
        embeddings = [module for module in network.modules() if isinstance(module, nn.Embedding | CompactEmbedding)]
        self.embedding_rows = len(network.get_input_embeddings().weight)
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        self.parameters -= sum(parameter.numel() for module in embeddings for parameter in module.parameters())
        self.sizes = (network.config.hidden_size, network.config.intermediate_size)
        self._measure_rate()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: TokenClassifier, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Read the clock at the end of the warm-up and of each epoch, and count."""
        if trainer.global_step == self.warmup_steps:
            self.steady_start = clock(self.device)
            self.evaluation_seconds.clear()
        (self.warmup if trainer.global_step <= self.warmup_steps else self.steady).add(batch)
        if trainer.is_last_batch:
            self.step_end = self.steady_end = clock(self.device)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: TokenClassifier) -> None:
        """Start counting anew."""
        self.evaluation = Tally()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: TokenClassifier,
        outputs: object,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count."""
        self.evaluation.add(batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: TokenClassifier) -> None:
        """Read the clock: from the last step's end, so that all Lightning does around an evaluation is in it."""
        self.evaluation_seconds.append(clock(self.device) - self.step_end)
        self.peak_in_loop = peak_memory(self.device)

    def teardown(self, trainer: pl.Trainer, pl_module: TokenClassifier, stage: str) -> None:
        """Write what was measured."""
        peak = peak_memory(self.device)
        self._measure_rate()
        rate = max(value for name, value in self.rates.items() if name.startswith(self.precision))
        # The last epoch's evaluation comes after the last step.
        train_seconds = self.steady_end - self.steady_start - sum(self.evaluation_seconds[:-1])
        evaluation_seconds = self.evaluation_seconds[-1]
        steady_pieces, evaluation_pieces = self.steady.real_pieces, self.evaluation.real_pieces
        reading = Reading(
            train_sentences_per_second=self.steady.sentences / train_seconds,
            evaluation_sentences_per_second=self.evaluation.sentences / evaluation_seconds,
            peak_memory_bytes=peak,
            peak_memory_in_loop_bytes=self.peak_in_loop,
            threads=torch.get_num_threads(),
            train_sentences=self.warmup.sentences + self.steady.sentences,
            train_pieces=self.warmup.real_pieces + steady_pieces,
            train_filled=steady_pieces / self.steady.places,
            evaluation_sentences=self.evaluation.sentences,
            evaluation_pieces=evaluation_pieces,
            evaluation_filled=evaluation_pieces / self.evaluation.places,
            parameters=self.parameters,
            embedding_rows=self.embedding_rows,
            precision=self.precision,
            product_rates=self.rates,
            train_share=6 * self.parameters * steady_pieces / train_seconds / rate,
            evaluation_share=2 * self.parameters * evaluation_pieces / evaluation_seconds / rate,
        )
        self.output.write_text(json.dumps(reading, indent=2) + "\n", encoding="utf-8")

    def _measure_rate(self) -> None:
        width, inner = self.sizes
        rates = product_rates(rows=PRODUCT_ROWS, width=width, inner=inner, device=self.device)
        self.rates = {name: max(rate, self.rates.get(name, 0.0)) for name, rate in rates.items()}


class FirstStep(Callback):
    """Writes down when the first step has ended, by the clock that all processes of a machine share.

    Args:
        output: File to write the seconds to.
    """

    def __init__(self, output: str) -> None:
        self.output = Path(output)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: TokenClassifier, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Write it."""
        self.output.write_text(str(time.monotonic()), encoding="utf-8")
