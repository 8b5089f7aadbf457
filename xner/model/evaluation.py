"""Tests and predictions: the words of all batches and processes in order, and the scores of each data set."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from xner.batch import BatchSource
from xner.model.metrics import SpanCounts, Temperature, all_scores, span_counts
from xner.tags import TagSet


class Words(NamedTuple):
    """Evaluated or predicted words, in the order of the data set's sentences.

    Attributes:
        predicted: Predicted labels. *Shape:* (words,)
        gold: Gold labels, those of ``O`` where tags are not read. *Shape:* (words,)
        sentence: The number of each word's sentence in the data set. *Shape:* (words,)
        score: The probability of each predicted label, in float32. *Shape:* (words,)
    """

    predicted: Tensor
    gold: Tensor
    sentence: Tensor
    score: Tensor


class Tested(NamedTuple):
    """The result of a test of one data set.

    Attributes:
        words: The words with their predicted and gold labels, and the probabilities of the former.
        sentences: The numbers of the sentences that have words, ascending. *Shape:* (sentences,)
        sentence_words: Number of words of each of them. *Shape:* (sentences,)
        counts: Spans of each of them, in seqeval's default mode. *Shape of each:* (sentences, types)
        scores: The scores of the sums of these counts, as ``SpanF1`` names them.
    """

    words: Words
    sentences: Tensor
    sentence_words: Tensor
    counts: SpanCounts
    scores: dict[str, float]


def score_words(words: Words, tag_set: TagSet) -> Tested:
    """Count the spans of each sentence, and score the sums.

    >>> from xner.tags import PANX
    >>> words = Words(torch.tensor([1, 2, 0]), torch.tensor([1, 2, 5]), torch.tensor([3, 3, 8]), torch.ones(3))
    >>> tested = score_words(words, PANX)
    >>> tested.sentences.tolist(), tested.counts.gold.tolist(), round(tested.scores["f1"], 3)
    ([3, 8], [[1, 0, 0], [0, 0, 1]], 0.667)
    """
    sentences, place, sentence_words = words.sentence.unique_consecutive(return_inverse=True, return_counts=True)  # type: ignore[no-untyped-call]
    counts, strict = (
        span_counts(words.predicted, words.gold, place, len(sentences), len(tag_set.types), strict=strict)
        for strict in (False, True)
    )
    summed, summed_strict = (SpanCounts(*(count.sum(dim=0) for count in each)) for each in (counts, strict))
    right = (words.predicted == words.gold).sum()
    scores = all_scores(tag_set, summed, summed_strict, right, torch.tensor(len(words.gold)))
    return Tested(words, sentences, sentence_words, counts, {name: value.item() for name, value in scores.items()})


class WordCollection(Metric):
    """The evaluated or predicted words of all processes, in order.

    ``compute`` returns what the updates added as rows, sorted by sentence, with the words of a sentence in the order of
    the updates. *Shape:* (rows, words)

    Args:
        rows: Number of rows; the third is the number of each word's sentence.

    >>> words = WordCollection()
    >>> words.update(torch.tensor([5, 1, 2]), torch.tensor([5, 1, 0]), torch.tensor([7, 4, 4]))
    >>> words.compute().tolist()
    [[1, 2, 5], [1, 0, 5], [4, 4, 7]]
    """

    is_differentiable = False
    full_state_update = False

    seen: list[Tensor] | Tensor

    def __init__(self, rows: int = 3) -> None:
        super().__init__()
        self.rows = rows
        self.add_state("seen", [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Discard all words."""
        super().reset()
        # For a process without words, torchmetrics would gather an empty float vector, which fits no other's integers.
        self.seen = [torch.zeros(0, self.rows, dtype=torch.long, device=self.device)]

    def update(self, *rows: Tensor) -> None:
        """Add the words of whole sentences, as in ``Words``; scores become their bits."""
        assert isinstance(self.seen, list)  # a tensor only while processes are in sync, when updates are refused
        integers = [row.view(torch.int32) if row.is_floating_point() else row for row in rows]
        self.seen.append(torch.stack([row.long() for row in integers], dim=1))

    def compute(self) -> Tensor:
        """Sort the words by sentence."""
        # One tensor, not one per row: torchmetrics would squeeze the shape (1,) of a single word to ().
        words = dim_zero_cat(self.seen)
        return words[words[:, 2].argsort(stable=True)].T


class CollectWords(Callback):
    """Collect what ``test_step`` and ``predict_step`` return, and log ``test/<score>/<data set>``.

    ``TokenClassifier`` adds it to every trainer; ``run_test`` and ``run_predict`` return what it has collected.
    """

    def __init__(self) -> None:
        self.collections: list[WordCollection] = []
        self.tested: list[Tested] = []
        self.predicted: list[Words] = []

    @staticmethod
    def of(trainer: pl.Trainer) -> "CollectWords":
        """Return the callback of a trainer."""
        return next(each for each in trainer.callbacks if isinstance(each, CollectWords))  # type: ignore[attr-defined]

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make a collection per data set."""
        loaders: Any = trainer.test_dataloaders if trainer.testing else trainer.predict_dataloaders
        count = len(loaders) if isinstance(loaders, list) else int(loaders is not None)
        self.collections = [WordCollection(len(Words._fields)).to(pl_module.device) for _ in range(count)]

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,  # noqa: ANN401 - tuples
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Collect the words of a batch; end at a SIGTERM, which Lightning does not check while it predicts."""
        self.collections[dataloader_idx].update(*outputs)
        if trainer.received_sigterm:
            raise SIGTERMException

    on_predict_start = on_test_start
    on_predict_batch_end = on_test_batch_end

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score each data set, and log the scores under its name."""
        tag_set: Any = pl_module.network.tag_set  # type: ignore[union-attr] # a TokenClassifier
        self.tested = [score_words(words, tag_set) for words in self._gather()]
        data = trainer.datamodule  # type: ignore[attr-defined] # set by Lightning
        names = data.test_languages if isinstance(data, BatchSource) else [*map(str, range(len(self.tested)))]
        for name, tested in zip(names, self.tested, strict=True):
            pl_module.log_dict({f"test/{key}/{name}": value for key, value in tested.scores.items()})

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Order the words of each data set."""
        self.predicted = self._gather()

    def _gather(self) -> list[Words]:
        collected = [collection.compute().cpu() for collection in self.collections]
        self.collections = []
        return [
            Words(predicted, gold, sentence, bits.int().view(torch.float32))
            for predicted, gold, sentence, bits in collected
        ]


class FitTemperature(Callback):
    """Fit the temperature of a network's probabilities in each validation pass of a fit, see ``Temperature``.

    ``TokenClassifier`` adds it to every trainer. When a fit ends, its network has the temperature of the last
    validation pass, which a model folder keeps; 1 where there was none. Checkpoints have it as well.

    Attributes:
        temperature: The temperature of the last validation pass.
    """

    def __init__(self) -> None:
        self.temperature = 1.0
        self.metric = Temperature()

    @staticmethod
    def of_checkpoint(checkpoint: Mapping[str, Any]) -> float:
        """Return the temperature in a checkpoint; 1 where none was fitted."""
        return float(checkpoint.get("callbacks", {}).get(FitTemperature.__name__, {}).get("temperature", 1.0))

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"temperature": self.temperature}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what a checkpoint has kept."""
        self.temperature = state_dict["temperature"]

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a validation pass."""
        self.metric = Temperature().to(pl_module.device)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,  # noqa: ANN401 - a Batch
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Add the logits that ``validation_step`` returns."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.metric.update(outputs, batch.word_targets)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fit the temperature."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.temperature = self.metric.compute()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the temperature of the network."""
        pl_module.network.temperature = self.temperature  # type: ignore[union-attr] # of a TokenClassifier


def run_test(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    data: pl.LightningDataModule,
    **options: Any,  # noqa: ANN401 - Lightning's
) -> list[Tested]:
    """Test a model, and return the result of each test data set in the order of the data module.

    Args:
        trainer: The trainer.
        model: A ``TokenClassifier``.
        data: The data module.
        options: Options of ``Trainer.test``, such as ``ckpt_path``.

    Returns:
        The results; empty where ``limit_test_batches`` is 0.
    """
    trainer.test(model, datamodule=data, verbose=False, **options)
    return CollectWords.of(trainer).tested


def run_predict(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    data: pl.LightningDataModule,
    **options: Any,  # noqa: ANN401 - Lightning's
) -> list[Words]:
    """Predict the labels of all words of each test data set; arguments and order are those of ``run_test``."""
    trainer.predict(model, datamodule=data, **options)
    return CollectWords.of(trainer).predicted
