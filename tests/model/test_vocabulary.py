import copy
import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification

from tests.model.tiny import Fitted, Record, fit, pretrained_backbone, quiet_trainer, write_split
from xner.data.datamodule import PanxDataModule
from xner.data.sources import Split
from xner.lineage import NOTHING_SEEN
from xner.model.classifier import TokenClassifier
from xner.model.evaluation import run_test
from xner.model.vocabulary import CompactEmbedding, compact, find_matrix, restore
from xner.transfer.training import write_model

EMBEDDING = "roberta.embeddings.word_embeddings.weight"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's backbone with a head, without dropout."""
    return pretrained_backbone(tmp_path_factory.mktemp("backbone"))


def assert_same_training(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], used: Tensor) -> None:
    """Equal to the bit but for rows of pieces that are not in use, whose every number is equal to 1e-6 of itself."""
    assert found.keys() == expected.keys()
    absent = torch.ones(len(expected[EMBEDDING]), dtype=torch.bool)
    absent[used] = False
    assert absent.any()
    assert torch.equal(found[EMBEDDING][used], expected[EMBEDDING][used])
    torch.testing.assert_close(found[EMBEDDING][absent], expected[EMBEDDING][absent], rtol=1e-6, atol=0)
    others = expected.keys() - {EMBEDDING}
    assert [name for name in others if not torch.equal(found[name], expected[name])] == []


def test_plain_loop(backbone: Path) -> None:
    """A hundred clipped AdamW steps with decay leave the same network whether all rows are trained or those in use."""
    whole = AutoModelForTokenClassification.from_pretrained(backbone).train()
    compacted = copy.deepcopy(whole)
    used = torch.tensor([0, 1, 2, 3, *range(5, 1799, 7)])
    compact(compacted, used)
    generator = torch.Generator().manual_seed(0)
    losses: dict[str, list[float]] = {}
    batches = [used[torch.randint(len(used), (8, 12), generator=generator)] for _ in range(100)]
    for name, network in {"whole": whole, "compacted": compacted}.items():
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.1)
        losses[name] = []
        for pieces in batches:
            loss = network(input_ids=pieces, labels=pieces % 7).loss
            loss.backward()
            assert nn.utils.clip_grad_norm_(network.parameters(), 1.0) > 0
            optimizer.step()
            optimizer.zero_grad()
            losses[name].append(loss.item())
    assert losses["whole"] == losses["compacted"]
    assert losses["whole"][-1] < losses["whole"][0] / 2
    before = AutoModelForTokenClassification.from_pretrained(backbone).get_input_embeddings().weight
    restore(compacted)
    assert_same_training(dict(compacted.named_parameters()), dict(whole.named_parameters()), used)
    after = compacted.get_input_embeddings().weight
    torch.testing.assert_close(after[4], before[4] * (1 - 1e-4) ** 100, rtol=1e-5, atol=0)


SHORT = {"data": {"num_samples": 200, "batch_size": 8}, "model": {"learning_rate": 1e-3, "weight_decay": 0.01}}
"""Fits of 25 steps an epoch."""


def fit_short(backbone: Path, *, compact_vocabulary: bool, epochs: int = 2, **options: Any) -> Fitted:  # noqa: ANN401
    """Fit on English, or as ``SHORT`` and the options say."""
    return fit(
        backbone,
        data={**SHORT["data"], **options.pop("data", {})},
        model={**SHORT["model"], "compact_vocabulary": compact_vocabulary},
        trainer={"max_epochs": epochs, **options.pop("trainer", {})},
        **options,
    )


def test_lightning(backbone: Path) -> None:
    """A hundred steps of a real fit leave the same network, losses and scores with and without CompactEmbedding."""
    rows: list[type] = []
    bare, whole = (
        fit_short(backbone, compact_vocabulary=compact_vocabulary, epochs=4, callbacks=[WhatIsTrained(rows)])
        for compact_vocabulary in (True, False)
    )
    assert rows == [CompactEmbedding, nn.Embedding]
    assert len(whole.record.losses) == 100
    assert bare.record.losses == whole.record.losses
    assert bare.record.norms == whole.record.norms
    assert bare.record.scores == whole.record.scores
    assert whole.record.losses[-1] < whole.record.losses[0] / 2
    assert_same_training(bare.weights, whole.weights, torch.from_numpy(whole.data.used_pieces()))


class WhatIsTrained(Callback):
    """Notes what kind of embedding a fit trains."""

    def __init__(self, kinds: list[type]) -> None:
        self.kinds = kinds

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:  # noqa: ANN401 - a TokenClassifier
        self.kinds.append(type(pl_module.network.model.get_input_embeddings()))


def test_fitting_again(backbone: Path) -> None:
    """A model that is fitted again, on another language, takes the steps of one that trained all rows both times."""
    second = []
    for compact_vocabulary in (True, False):
        fitted = fit_short(backbone, compact_vocabulary=compact_vocabulary, epochs=1)
        turkish = PanxDataModule(**SHORT["data"], source="sample", languages=["tr"], backbone=str(backbone))
        second.append(Record())
        with patch.dict(os.environ, PL_GLOBAL_SEED="0"):
            quiet_trainer(max_epochs=1, callbacks=[second[-1]]).fit(fitted.model, datamodule=turkish)
    assert len(second[0].losses) == 25
    # Rows that only Turkish uses were absent in the first fit, and so are not the same to the bit.
    assert second[0].losses == pytest.approx(second[1].losses, abs=1e-6)
    assert second[0].scores == second[1].scores


def test_piece_not_in_use() -> None:
    """A piece that is not in use never passes: the error names it."""
    rows = CompactEmbedding(torch.randn(10, 4), torch.tensor([1, 3, 7]), padding_idx=1)
    assert torch.equal(rows(torch.tensor([[3, 7, 1]])), rows.matrix[torch.tensor([3, 7, 1])][None])
    for absent in (0, 2, 8, 9):
        with pytest.raises(IndexError, match=rf"pieces \[{absent}\] are not among the 3 in use"):
            rows(torch.tensor([[3, absent], [7, 1]]))
    with pytest.raises(IndexError):
        rows(torch.tensor([[3, 10]]))


def test_network_refuses_absent_pieces(backbone: Path) -> None:
    """A compacted network refuses a sentence with a piece that is not in use, and takes it once it is restored."""
    network = AutoModelForTokenClassification.from_pretrained(backbone).eval()
    sentence = torch.tensor([[0, 100, 200, 2]])
    expected = network(input_ids=sentence).logits
    compact(network, torch.tensor([0, 1, 2, 100]))
    with pytest.raises(IndexError, match=r"pieces \[200\] are not among the 4 in use"):
        network(input_ids=sentence)
    restore(network)
    assert torch.equal(network(input_ids=sentence).logits, expected)
    assert isinstance(network.get_input_embeddings(), nn.Embedding)
    restore(network)  # has nothing to do


def test_padding_gets_no_gradient() -> None:
    """As in an Embedding, the padding piece's row has no gradient, and neither have the ghost rows."""
    rows = CompactEmbedding(torch.randn(10, 4), torch.tensor([1, 3, 7]), padding_idx=1)
    rows(torch.tensor([[1, 3, 3, 1]])).sum().backward()
    assert rows.weight.grad[:3].tolist() == [[0.0] * 4, [2.0] * 4, [0.0] * 4]
    assert not rows.weight.grad[3:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("rate", "steps"), [(2e-5, 1875), (5e-4, 300), (3e-3, 300)])
def test_many_steps_of_decay(dtype: torch.dtype, rate: float, steps: int) -> None:
    """After as many steps as a training has, rows that are not in use are what AdamW's decay makes of each number.

    Nearly all are so to the last digit; some few are near a power of two, and cross it some steps before their ghost.
    """
    generator = torch.Generator().manual_seed(0)
    matrix = (torch.randn(300, 24, generator=generator) * 0.02).to(dtype)
    whole = nn.Parameter(matrix.clone())
    rows = CompactEmbedding(matrix, torch.tensor([5, 7]))
    optimizer = torch.optim.AdamW([whole, rows.weight], lr=rate, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for parameter in (whole, rows.weight):
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(steps):
        optimizer.step()
        schedule.step()
    found, expected = rows.expand().double(), whole.detach().double()
    off = ((found - expected) / expected).abs()
    assert off.max() < {torch.float32: 5e-6, torch.float64: 1e-12, torch.bfloat16: 1e-2}[dtype]
    assert off.flatten().quantile(0.99) < {torch.float32: 2e-7, torch.float64: 1e-12, torch.bfloat16: 1e-2}[dtype]
    if dtype != torch.bfloat16:
        assert not torch.equal(whole, matrix)


def test_find_matrix(backbone: Path, tmp_path: Path) -> None:
    """The matrix is found in a model folder's file, and nowhere else: other weights, shapes or types are not it."""
    matrix = AutoModelForTokenClassification.from_pretrained(backbone).get_input_embeddings().weight.detach()
    found = find_matrix(backbone, matrix)
    assert found is not None
    assert torch.equal(found.clone(), matrix)
    assert find_matrix(backbone, matrix + 1e-6) is None
    last = matrix.clone()
    last[-1, -1] += 1e-6  # a training may leave all rows but a few unchanged
    assert find_matrix(backbone, last) is None
    assert find_matrix(backbone, matrix[:-1]) is None
    assert find_matrix(backbone, matrix.double()) is None
    assert find_matrix(tmp_path, matrix) is None
    tensors = load_file(backbone / "model.safetensors")
    save_file({name: tensor for name, tensor in tensors.items() if name != EMBEDDING}, tmp_path / "model.safetensors")
    assert find_matrix(tmp_path, matrix) is None


def test_stored_matrix(tmp_path: Path) -> None:
    """A matrix of several blocks is read from its file to the bit, in part and whole, even when the file is gone."""
    matrix = torch.randn(20_000, 3)
    path = tmp_path / "model.safetensors"
    save_file({"first": torch.ones(7), "a.embeddings.weight": matrix, "last": torch.ones(3)}, path)
    stored = find_matrix(tmp_path, matrix)
    assert stored is not None
    path.unlink()
    pieces = torch.tensor([0, 8191, 8192, 16384, 19_999])
    assert torch.equal(stored[pieces], matrix[pieces])
    assert torch.equal(stored.clone(), matrix)


def test_backbone_is_left_alone(backbone: Path) -> None:
    """A fit whose absent rows lie in the backbone's mapped file does not write into it."""
    before = hashlib.sha256((backbone / "model.safetensors").read_bytes()).hexdigest()
    fit_short(backbone, compact_vocabulary=True, epochs=1)
    assert hashlib.sha256((backbone / "model.safetensors").read_bytes()).hexdigest() == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists what a process has mapped")
def test_file_is_not_kept_in_memory(backbone: Path, tmp_path: Path) -> None:
    """Once the matrix is compact, no part of the file of the weights is mapped, whose pages would count as memory."""
    folder = shutil.copytree(backbone, tmp_path / "backbone")
    maps, file = Path("/proc/self/maps"), str(folder / "model.safetensors")
    network = AutoModelForTokenClassification.from_pretrained(folder)
    before = {name: each.clone() for name, each in network.state_dict().items()}
    assert file in maps.read_text()
    compact(network, torch.tensor([0, 1, 2, 100]), folder)
    assert file not in maps.read_text()
    restore(network)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], each) for name, each in before.items())


class Sources(NamedTuple):
    """Two folders of the same training sentences whose validation has other pieces."""

    one: Path
    other: Path


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    folder = tmp_path_factory.mktemp("sources")
    made = Sources(folder / "one", folder / "other")
    for source, language in zip(made, ("en", "tr"), strict=True):
        for split, its in {"train": "en", "validation": language, "test": "tr"}.items():
            write_split(source / "en" / f"{split}.tsv", Split("sample", its, split).sentences)
    return made


class Runs(NamedTuple):
    """Uninterrupted runs of two epochs of 25 steps, with a checkpoint every five."""

    whole: Fitted
    whole_checkpoints: Path
    compact: Fitted
    compact_checkpoints: Path


@pytest.fixture(scope="module")
def runs(backbone: Path, sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    made: list[Any] = []
    for compact_vocabulary in (False, True):
        folder = tmp_path_factory.mktemp("checkpoints")
        each = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=5, save_top_k=-1)
        data = {"source": str(sources.one)}
        options = {"data": data, "callbacks": [each], "trainer": {"enable_checkpointing": True}}
        made.append(fit_short(backbone, compact_vocabulary=compact_vocabulary, **options))
        made.append(folder)
    return Runs(*made)


@pytest.mark.parametrize("after", ["compact", "whole", "other pieces"])
@pytest.mark.parametrize("before", ["compact", "whole"])
@pytest.mark.parametrize("step", [10, pytest.param(25, marks=pytest.mark.slow)])
def test_resuming(backbone: Path, sources: Sources, runs: Runs, step: int, before: str, after: str) -> None:
    """A run that goes on from an epoch's end, or from within, ends as the uninterrupted one, either of them compact.

    With the same pieces in use before and after, absent rows are the same to the bit, too.
    """
    source = sources.other if after == "other pieces" else sources.one
    resumed = fit_short(
        backbone,
        compact_vocabulary=after != "whole",
        data={"source": str(source)},
        ckpt_path=(runs.compact_checkpoints if before == "compact" else runs.whole_checkpoints) / f"step={step}.ckpt",
    )
    assert len(resumed.record.losses) == 50 - step
    assert resumed.record.sentences == runs.whole.record.sentences[step:]
    assert resumed.record.losses == runs.whole.record.losses[step:]
    assert resumed.record.rates == runs.whole.record.rates[step:]
    used = [data.used_pieces() for data in (runs.whole.data, resumed.data)]
    if after == "other pieces":
        assert len(np.setdiff1d(*used)) > 0
        assert len(np.setdiff1d(*reversed(used))) > 0
    assert_same_training(resumed.weights, runs.whole.weights, torch.from_numpy(np.intersect1d(*used)))
    if before == after == "compact":
        assert torch.equal(resumed.weights[EMBEDDING], runs.compact.weights[EMBEDDING])


def test_checkpoint_is_tested(backbone: Path, sources: Sources, runs: Runs) -> None:
    """A compact fit's checkpoint can be tested at once, with pieces that the fit did not use."""
    scores = []
    for folder in (runs.compact_checkpoints, runs.whole_checkpoints):
        model = TokenClassifier(backbone=str(backbone))
        data = PanxDataModule(source=str(sources.one), backbone=str(backbone))
        scores.append(run_test(quiet_trainer(), model, data, ckpt_path=folder / "step=25.ckpt")[0].scores)
    assert scores[0] == scores[1]


def test_whole_vocabulary_after_fit(backbone: Path, sources: Sources, runs: Runs, tmp_path: Path) -> None:
    """After a compact fit the network and its model folder have all rows, and read what no row was trained for."""
    network = runs.compact.model.network.model
    assert isinstance(network.get_input_embeddings(), nn.Embedding)
    assert network.get_input_embeddings().weight.shape == (1800, 64)
    write_model(tmp_path / "model", runs.compact.model, NOTHING_SEEN)
    written = AutoModelForTokenClassification.from_pretrained(tmp_path / "model")
    for name, weight in written.named_parameters():
        assert torch.equal(weight, runs.compact.weights[name]), name

    # The folder's test split is Turkish, its train and validation are English.
    data = PanxDataModule(source=str(sources.one), backbone=str(tmp_path / "model"))
    read = data.encoded(data.split_of("en", "test")).pieces
    assert len(np.setdiff1d(read, runs.compact.data.used_pieces())) > 100
    tested = []
    for model in (TokenClassifier(backbone=str(tmp_path / "model")), runs.compact.model, runs.whole.model):
        tested.append(run_test(quiet_trainer(), model, data)[0])
    for other in tested[1:]:
        assert other.scores == tested[0].scores
        assert torch.equal(other.words.predicted, tested[0].words.predicted)
