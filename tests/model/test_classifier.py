import csv
import logging
import math
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    get_scheduler,
)

from tests.model.tiny import fit, loaded, make_backbone, pretrained_backbone
from tests.weights import assert_close_weights
from xner.backbone import load_config, packable
from xner.backbone.tokenizer import load_tokenizer
from xner.batch import Batch
from xner.data.encode import Encoded, encode
from xner.data.packing import RowDataset
from xner.data.sampler import BatchIndices
from xner.data.sources import Sentences
from xner.model.classifier import TokenClassifier
from xner.tags import IGNORE, OUTSIDE, PANX

MAX_LENGTH = 40
"""Pieces a window here: little, so that sentences of several windows are quick."""

ROW_LENGTH = 16
"""Pieces a row here: less than the longest window."""

WORDS = ["a", ".", "Ankara'da", "İstanbul", "Alan", "Mathison", "Üniversitesi'nde", "the", "1912", "xqzjw", "\u200b"]

PACKABLE = (
    *("camembert", "data2vec-text", "roberta", "xlm-roberta", "xlm-roberta-xl"),
    *("bert", "electra", "ernie", "rembert"),
)


@st.composite
def random_sentences(draw: st.DrawFn) -> Sentences:
    """One to eight sentences, some longer than a row, some longer than a window."""
    length = st.one_of(st.integers(1, 6), st.integers(7, 15), st.integers(16, 60))
    sizes = draw(st.lists(length, min_size=1, max_size=8))
    generator = random.Random(draw(st.integers(0, 9999)))
    return Sentences(
        words=[generator.choices(WORDS, k=size) for size in sizes],
        tags=[generator.choices(PANX.tags, k=size) for size in sizes],
    )


EXTREMES = Sentences(
    words=[["a"], ["Alan"] * 9, ["Ankara'da", "."] * 30, ["\u200b"], ["the", "\u200b", "1912"], ["Mathison"] * 3],
    tags=[["O"], ["B-PER"] + ["I-PER"] * 8, ["B-LOC", "O"] * 30, ["B-ORG"], ["O", "B-ORG", "I-ORG"], ["B-PER"] * 3],
)
"""A sentence of one piece, one longer than a row, one of several windows, one without pieces and one with such a word.
"""


def small_config(model_type: str) -> PreTrainedConfig:
    """A network of two small layers, whose weights are large enough that every piece matters."""
    return AutoConfig.for_model(
        model_type,
        vocab_size=1800,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.2,
    )


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TokenClassifier]:
    """Makes a classifier of a family of encoders, ready to evaluate; each once."""

    @cache
    def make(model_type: str) -> TokenClassifier:
        return loaded(make_backbone(tmp_path_factory.mktemp(model_type), small_config(model_type)))

    return make


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's backbone with a head, without dropout."""
    return pretrained_backbone(tmp_path_factory.mktemp("backbone"))


@cache
def plain(model: TokenClassifier) -> PreTrainedModel:
    """The same network as transformers alone makes it."""
    return AutoModelForTokenClassification.from_pretrained(model.backbone_name, dtype=torch.float32).eval()


def encoded(model: TokenClassifier, sentences: Sentences) -> Encoded:
    return encode(sentences, load_tokenizer(model.backbone_name), MAX_LENGTH, PANX)


def laid_out(sentences: Encoded, *, packing: bool) -> Batch:
    """All sentences in one batch."""
    rows = RowDataset(sentences, padding_id=1, row_length=ROW_LENGTH if packing else None)
    return rows[BatchIndices(np.arange(len(sentences)), int(sentences.sentence_labelled.sum()))]


def by_window(values: Tensor, batch: Batch) -> list[Tensor]:
    """Return a batch's values of each window, in the window's order. *Shapes:* (pieces, ...)."""
    return [values[batch.windows == window] for window in range(1, int(batch.windows.max()) + 1)]


def word_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Compute the mean loss of a batch's words, in 64 bits: the last digit of a loss in 32 bits is near 1e-6 itself."""
    labels = batch.labels.flatten()
    total = cross_entropy(logits.double().flatten(0, 1), labels, ignore_index=IGNORE, reduction="sum")
    return total / batch.step_words.clamp(min=1)


@settings(max_examples=20)
@given(sentences=random_sentences())
@example(sentences=EXTREMES)
def test_rows_change_nothing(ready: Callable[[str], TokenClassifier], sentences: Sentences) -> None:
    """Logits in shared rows are those of padded rows and of each window alone in the bare network; so is the loss."""
    model = ready("xlm-roberta")
    data = encoded(model, sentences)
    packed, padded = laid_out(data, packing=True), laid_out(data, packing=False)
    assert len(padded.pieces) == len(data.window_start) - 1
    with torch.no_grad():
        packed_logits, padded_logits = model(packed), model(padded)
        windows = np.split(data.pieces.astype(np.int64), data.window_start[1:-1])
        alone = [plain(model)(input_ids=torch.from_numpy(window)[None]).logits[0] for window in windows]
        predicted, found = (
            model.network.decode(model.network.word_logits(batch), batch.word_sentence) for batch in (packed, padded)
        )
        assert predicted.tolist() == found.tolist()
    torch.testing.assert_close(by_window(packed_logits, packed), alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(by_window(padded_logits, padded), alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(word_loss(packed_logits, packed), word_loss(padded_logits, padded), atol=1e-6, rtol=1e-6)
    assert (predicted[data.word_piece < 0] == OUTSIDE).all()
    first = torch.cat(alone)[data.word_piece[data.word_piece >= 0]]
    assert predicted[data.word_piece >= 0].tolist() == first.argmax(dim=-1).tolist()


@pytest.mark.parametrize("words", [["a"], ["Alan", "Mathison", "the"], ["Ankara'da"] * 5])
def test_sentence_is_the_tokenizers(ready: Callable[[str], TokenClassifier], words: list[str]) -> None:
    """A sentence among others has the logits that tokenizer and network give it without anything of xner."""
    model = ready("xlm-roberta")
    among = Sentences([["1912", "."], words, ["İstanbul"]], [["O", "O"], ["O"] * len(words), ["B-LOC"]])
    batch = laid_out(encoded(model, among), packing=True)
    pieces = AutoTokenizer.from_pretrained(model.backbone_name)(words, is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(
            by_window(model(batch), batch)[1], plain(model)(**pieces).logits[0], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("model_type", PACKABLE)
def test_every_packable_family_packs(ready: Callable[[str], TokenClassifier], model_type: str) -> None:
    """Of each family that is said to be packable, a sentence has the same logits in a shared row as alone."""
    model = ready(model_type)
    assert packable(load_config(model.backbone_name))
    data = encoded(model, EXTREMES)
    batch, padded = laid_out(data, packing=True), laid_out(data, packing=False)
    assert len(batch.pieces) < len(padded.pieces)
    with torch.no_grad():
        packed = by_window(model(batch), batch)
        torch.testing.assert_close(packed, by_window(model(padded), padded), atol=1e-5, rtol=0)
        windows = np.split(data.pieces.astype(np.int64), data.window_start[1:-1])
        for window, logits in zip(windows, packed, strict=True):
            alone = plain(model)(input_ids=torch.from_numpy(window)[None]).logits[0]
            torch.testing.assert_close(logits, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model_type", PACKABLE)
def test_last_layer(ready: Callable[[str], TokenClassifier], model_type: str) -> None:
    """Words alone go through the last layer's end, with the logits and gradients that all pieces would give them."""
    model = ready(model_type)
    batch = laid_out(encoded(model, EXTREMES), packing=True)
    placed = batch.word_piece[batch.word_piece >= 0]
    assert 0 < len(placed) < batch.pieces.numel()
    sizes: list[int] = []
    layer = model.network.model.base_model.encoder.layer[-1]
    hook = layer.intermediate.register_forward_hook(lambda _, given, __: sizes.append(given[0].shape[:2].numel()))
    gradients = []
    for some in (False, True):
        model.zero_grad()
        logits = model.network(batch, placed) if some else model(batch).flatten(0, 1)[placed]
        cross_entropy(logits, batch.word_label[batch.word_piece >= 0]).backward()
        gradients.append({name: value.grad for name, value in model.named_parameters() if value.grad is not None})
    hook.remove()
    # In a multiple of 32.
    assert sizes == [batch.pieces.numel(), 96]
    assert 64 < len(placed) <= 96
    with torch.no_grad():
        every = model(batch).flatten(0, 1)[placed]
        torch.testing.assert_close(model.network.word_logits(batch)[batch.word_piece >= 0], every, atol=1e-5, rtol=0)
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, atol=1e-5, rtol=1e-4, msg=name)
    model.zero_grad()


def test_last_layer_of_no_word(ready: Callable[[str], TokenClassifier]) -> None:
    """A share without sentences, which only a rank among several gets, has a loss of 0 and gradients of 0."""
    model = ready("xlm-roberta")
    batch = laid_out(encoded(model, EXTREMES), packing=True)
    logits = model.network(batch, torch.zeros(0, dtype=torch.long))
    cross_entropy(logits, torch.zeros(0, dtype=torch.long), reduction="sum").backward()
    assert model.network.model.classifier.weight.grad is not None
    assert all(not value.grad.any() for value in model.parameters() if value.grad is not None)
    model.zero_grad()


@settings(max_examples=20)
@given(sentences=random_sentences(), seed=st.integers(0, 1000))
@example(sentences=EXTREMES, seed=0)
def test_no_leak(ready: Callable[[str], TokenClassifier], sentences: Sentences, seed: int) -> None:
    """Other pieces in one window leave every other window's logits as they are, to the bit."""
    model = ready("xlm-roberta")
    batch = laid_out(encoded(model, sentences), packing=True)
    generator = torch.Generator().manual_seed(seed)
    changed = int(torch.randint(1, int(batch.windows.max()) + 1, (), generator=generator))
    others = torch.randint(4, 1799, batch.pieces.shape, generator=generator)
    with torch.no_grad():
        before = model(batch)
        after = model(batch._replace(pieces=torch.where(batch.windows == changed, others, batch.pieces)))
    untouched = (batch.windows != changed) & (batch.windows > 0)
    assert torch.equal(before[untouched], after[untouched])
    assert not torch.allclose(before[batch.windows == changed], after[batch.windows == changed], atol=1e-3)


def test_no_gradient_leaks(ready: Callable[[str], TokenClassifier]) -> None:
    """A window's logits have no gradient on any piece of another window of its row."""
    model = ready("xlm-roberta")
    words = Sentences([["a", "b"], ["the"], ["1912", "."]], [["O", "O"], ["O"], ["O", "O"]])
    batch = laid_out(encoded(model, words), packing=True)
    assert len(batch.pieces) == 1
    vectors: list[Tensor] = []

    def keep(_: torch.nn.Module, __: object, output: Tensor) -> Tensor:
        vectors.append(output.detach().requires_grad_())
        return vectors[0]

    with torch.enable_grad():
        hook = model.network.model.get_input_embeddings().register_forward_hook(keep)
        by_window(model(batch), batch)[1].square().sum().backward()
        hook.remove()
    reached = vectors[0].grad.abs().sum(dim=-1) > 0
    assert torch.equal(reached, batch.windows == 2)


class Twice(Callback):
    """Asks for the same batch's logits twice, before each batch."""

    def __init__(self) -> None:
        self.training: list[bool] = []
        self.evaluation: list[bool] = []

    def _same(self, module: TokenClassifier, batch: Batch) -> bool:
        with torch.no_grad():
            return torch.equal(module(batch), module(batch))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:  # noqa: ANN401
        self.training.append(self._same(pl_module, batch))

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: Any,  # noqa: ANN401
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.evaluation.append(self._same(pl_module, batch))


def test_dropout(backbone: Path, tmp_path: Path) -> None:
    """Dropout is on in every step of every epoch and off in evaluation, and a backbone without dropout gets none."""
    with_dropout = pretrained_backbone(tmp_path, dropout=0.1)
    few = {"data": {"num_samples": 24, "batch_size": 8}, "trainer": {"max_epochs": 2}}
    watched, bare = Twice(), Twice()
    fit(with_dropout, **few, callbacks=[watched])
    assert watched.training == [False] * 6
    assert watched.evaluation
    assert all(watched.evaluation)
    fit(backbone, **few, callbacks=[bare])
    assert bare.training == [True] * 6


def test_gradients_are_freed(backbone: Path) -> None:
    """Gradients take no memory from the end of an optimizer step to the next backward pass."""

    class Kept(Callback):
        def __init__(self) -> None:
            self.gradients: list[int] = []

        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
            self.gradients.append(sum(each.grad is not None for each in pl_module.parameters()))

    kept = Kept()
    trainer = {"accumulate_grad_batches": 2, "limit_val_batches": 0}
    fit(backbone, data={"num_samples": 16, "batch_size": 4}, trainer=trainer, callbacks=[kept])
    assert kept.gradients[0] > 0
    assert kept.gradients == [kept.gradients[0], 0, kept.gradients[0], 0]


def test_decay_groups(backbone: Path) -> None:
    """All parameters are trained, with weight decay but for biases and LayerNorm's."""
    fitted = fit(backbone, data={"num_samples": 8}, model={"weight_decay": 0.25, "compact_vocabulary": False})
    names = {id(weight): name for name, weight in fitted.model.network.model.named_parameters()}
    decayed, spared = fitted.trainer.optimizers[0].param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.25, 0.0)
    found = [{names[id(weight)] for weight in group["params"]} for group in (decayed, spared)]
    expected = {name for name in names.values() if name.endswith("bias") or "LayerNorm" in name}
    assert found == [{*names.values()} - expected, expected]
    assert "classifier.bias" in expected
    assert len(expected) == 2 + 2 * 2 * 2 + 2 * 6 + 1  # LayerNorms of embeddings and layers; biases of layers and head


@pytest.mark.parametrize(
    ("schedule", "theirs", "warmup_ratio"),
    [
        ("linear", "linear", 0.0),
        ("linear", "linear", 0.13),
        ("linear", "linear", 1.0),
        ("cosine", "cosine", 0.25),
        ("constant", "constant_with_warmup", 0.25),
    ],
)
def test_schedule(backbone: Path, schedule: str, theirs: str, warmup_ratio: float) -> None:
    """Each step's learning rate is that of transformers' schedule over all steps; linear ends at zero."""
    fitted = fit(
        backbone,
        data={"num_samples": 28, "batch_size": 4},
        model={"schedule": schedule, "warmup_ratio": warmup_ratio, "learning_rate": 1e-3},
        trainer={"max_epochs": 2, "limit_val_batches": 0},
    )
    optimizer = torch.optim.AdamW([torch.zeros(1)], lr=1e-3)
    scheduler = get_scheduler(theirs, optimizer, math.ceil(14 * warmup_ratio), 14)
    expected = []
    for _ in range(14):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert fitted.record.rates == expected
    if schedule == "linear":
        assert fitted.trainer.optimizers[0].param_groups[0]["lr"] == 0


@pytest.mark.parametrize("clip", [1.0, 0.125, None])
def test_clipping(backbone: Path, clip: float | None) -> None:
    """The optimizer sees a gradient of at most the norm asked for, in its own direction, and all of it if none was."""
    few = {"data": {"num_samples": 16, "batch_size": 4}, "model": {"learning_rate": 1e-6}}
    fitted = fit(backbone, **few, trainer={"gradient_clip_val": clip, "limit_val_batches": 0})
    before, after = zip(*fitted.record.norms, strict=True)
    assert min(before) > 1
    assert after == pytest.approx([clip] * 4 if clip else before, rel=1e-5)


def test_small_gradients_are_not_clipped(backbone: Path) -> None:
    """A gradient below the norm asked for stays as it is."""
    fitted = fit(backbone, data={"num_samples": 8}, trainer={"gradient_clip_val": 1e3, "limit_val_batches": 0})
    before, after = fitted.record.norms[0]
    assert before == after


@pytest.mark.parametrize("sentences", [29, 25])
def test_loss_is_of_the_whole_step(backbone: Path, sentences: int) -> None:
    """Two batches of 4 accumulated are a batch of 8, also in an epoch's last step, which is smaller."""
    shared = {"model": {"learning_rate": 1e-4}}
    whole, halves = (
        fit(
            backbone,
            data={"num_samples": sentences, "batch_size": 8 // accumulate},
            trainer={"max_epochs": 2, "limit_val_batches": 0, "accumulate_grad_batches": accumulate},
            **shared,
        )
        for accumulate in (1, 2)
    )
    assert len(whole.record.sentences) == 8
    assert len(halves.record.sentences) == (16 if sentences == 29 else 14)
    assert [*chain(*halves.record.sentences)] == [*chain(*whole.record.sentences)]
    assert halves.record.rates == whole.record.rates
    assert_close_weights(halves.weights, whole.weights, atol=1e-5)
    assert halves.record.losses == pytest.approx(whole.record.losses, abs=1e-5)


def test_throughput_of_every_step(backbone: Path, tmp_path: Path) -> None:
    """Throughput is logged as often as the loss, also at an epoch's last step, which has fewer batches."""
    fit(
        backbone,
        data={"num_samples": 25, "batch_size": 4},
        trainer={
            "max_epochs": 2,
            "limit_val_batches": 0,
            "accumulate_grad_batches": 2,
            "log_every_n_steps": 1,
            "logger": CSVLogger(tmp_path, name="logs"),
        },
    )
    [file] = tmp_path.rglob("metrics.csv")
    with file.open(encoding="utf-8", newline="") as lines:
        rates = [row["train/sentences_per_second"] for row in csv.DictReader(lines) if row["train/loss"]]
    # Lightning repeats the number of the step before where none is logged.
    assert len({*rates}) == len(rates) == 2 * 4
    assert all(float(each) > 0 for each in rates)


def test_training_loss_in_rows(backbone: Path) -> None:
    """Training in shared rows and in padded ones has the same loss, step by step, and the same scores at the end."""
    packed, padded = (
        fit(
            backbone,
            data={"languages": ["tr"], "num_samples": 96, "batch_size": 8, "packing": packing},
            model={"learning_rate": 1e-3},
        )
        for packing in (True, False)
    )
    assert packed.record.losses == pytest.approx(padded.record.losses, abs=1e-5)
    assert packed.record.losses[0] == pytest.approx(padded.record.losses[0], abs=1e-6)
    assert packed.record.losses[-1] < packed.record.losses[0] - 0.2
    losses = [[scores.pop("val/loss") for scores in each.record.scores] for each in (packed, padded)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert packed.record.scores == padded.record.scores


def everything_in(value: object) -> Iterator[object]:
    """A value and all that is in it."""
    yield value
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from everything_in(part)


@pytest.mark.parametrize("compact_vocabulary", [True, False])
def test_checkpoint(backbone: Path, tmp_path: Path, compact_vocabulary: bool) -> None:
    """A checkpoint holds primitives alone, loads with weights_only, and has the whole embedding matrix."""
    keep = ModelCheckpoint(tmp_path, filename="it")
    fitted = fit(
        backbone,
        data={"num_samples": 16, "batch_size": 8},
        model={"compact_vocabulary": compact_vocabulary},
        trainer={"enable_checkpointing": True},
        callbacks=[keep],
    )
    checkpoint = torch.load(tmp_path / "it.ckpt", weights_only=True)
    primitives = (bool, int, float, str, bytes, type(None), Tensor, dict, OrderedDict, list, tuple)
    assert {type(value) for value in everything_in(checkpoint)} <= {*primitives}
    assert checkpoint["hyper_parameters"]["backbone"] == str(backbone)
    bare = AutoModelForTokenClassification.from_pretrained(backbone)
    weights = {name: value for name, value in checkpoint["state_dict"].items() if isinstance(value, Tensor)}
    bare.load_state_dict({name.removeprefix("network.model."): value for name, value in weights.items()})
    assert bare.get_input_embeddings().weight.shape == (1800, 64)
    assert_same(dict(bare.named_parameters()), fitted.weights)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal to the bit."""
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


@pytest.mark.parametrize("model_type", ["deberta-v2", "distilbert"])
def test_padding_where_packing_cannot_be(tmp_path: Path, caplog: pytest.LogCaptureFixture, model_type: str) -> None:
    """An encoder that cannot keep a row's windows apart gets padding, says so in a line, and trains."""
    folder = make_backbone(tmp_path, small_config(model_type))
    with caplog.at_level(logging.INFO, "xner"):
        fitted = fit(folder, data={"num_samples": 16, "batch_size": 4, "max_length": 64}, model={"learning_rate": 1e-3})
    line = f"{folder} ({model_type}) does not support packing: its batches are padded"
    assert line in caplog.messages
    assert len(fitted.record.losses) == 4
    assert all(map(math.isfinite, fitted.record.losses))
    assert 0 <= fitted.record.scores[0]["val/accuracy"] <= 1


def test_packed_rows_are_refused(ready: Callable[[str], TokenClassifier]) -> None:
    """Such an encoder refuses rows that windows share, and gives padded ones the bare network's logits."""
    model = ready("deberta-v2")
    data = encoded(model, EXTREMES)
    with pytest.raises(ValueError, match=r"cannot keep sentences of a row apart; use data\.packing=false"):
        model(laid_out(data, packing=True))
    batch = laid_out(data, packing=False)
    with torch.no_grad():
        logits = by_window(model(batch), batch)
        for window, found in zip(np.split(data.pieces, data.window_start[1:-1]), logits, strict=True):
            alone = plain(model)(input_ids=torch.from_numpy(window.astype(np.int64))[None]).logits[0]
            torch.testing.assert_close(found, alone, atol=1e-5, rtol=0)
