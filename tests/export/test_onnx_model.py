import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import AutoConfig, AutoModelForTokenClassification

from tests.backbones import make
from tests.model.tiny import pretrained_backbone, quiet_trainer
from xner.backbone.weights import load_network
from xner.data.datamodule import PanxDataModule
from xner.data.sources import Split
from xner.export.comparison import ComparedModel, largest_difference, measure_split
from xner.export.onnx_model import OnnxNetwork, bytes_of, quantise, write_onnx
from xner.model.classifier import TokenClassifier
from xner.model.evaluation import run_test
from xner.tagger import Tagger

SHAPES = ((1, 1), (1, 7), (3, 2), (5, 40))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(pretrained_backbone(tmp_path_factory.mktemp("models") / "model"))


@pytest.fixture(scope="module")
def exported(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(load_network(model).network, path, 20)
    return path


def assert_same_logits(network: torch.nn.Module, path: Path) -> None:
    """Assert that an ONNX model has the logits of a network for several batch sizes, lengths and paddings."""
    session = OnnxNetwork(path).session
    generator = np.random.default_rng(0)
    for rows, width in SHAPES:
        pieces = generator.integers(5, 900, (rows, width))
        mask = np.ones_like(pieces)
        mask[-1, (width + 1) // 2 :] = 0
        pieces[mask == 0] = network.config.pad_token_id
        [logits] = session.run(None, {"input_ids": pieces, "attention_mask": mask})
        with torch.inference_mode():
            inputs = {"input_ids": torch.from_numpy(pieces), "attention_mask": torch.from_numpy(mask)}
            expected = network.eval()(**inputs).logits.numpy()
        assert np.abs(logits - expected)[mask > 0].max() < 1e-4


@pytest.mark.parametrize("family", ["mbert", pytest.param("mdeberta", marks=pytest.mark.slow)])
def test_other_families(family: str, tmp_path: Path) -> None:
    """BERT and DeBERTa are exported as well."""
    backbone = make(family, tmp_path / "backbone")
    network = AutoModelForTokenClassification.from_pretrained(backbone, num_labels=7, dtype=torch.float32)
    write_onnx(network, tmp_path / "model.onnx", 20)
    assert_same_logits(network, tmp_path / "model.onnx")


@pytest.mark.parametrize("opset", [pytest.param(18, marks=pytest.mark.slow), 23])
def test_opsets(model: str, opset: int, tmp_path: Path) -> None:
    """The oldest and the newest operator set give the logits of the network, for any batch size and length."""
    network = load_network(model).network
    write_onnx(network, tmp_path / "model.onnx", opset)
    assert_same_logits(network, tmp_path / "model.onnx")
    assert [each.version for each in onnx.load(tmp_path / "model.onnx").opset_import if not each.domain] == [opset]


def test_layout(exported: Path) -> None:
    """Inputs, output and metadata have the names that optimum and transformers.js expect."""
    content = onnx.load(exported)
    shapes = {
        each.name: [axis.dim_param or axis.dim_value for axis in each.type.tensor_type.shape.dim]
        for each in (*content.graph.input, *content.graph.output)
    }
    axes = ["batch_size", "sequence_length"]
    assert shapes == {"input_ids": axes, "attention_mask": axes, "logits": [*axes, 7]}
    [labels] = [each.value for each in content.metadata_props if each.key == "labels"]
    assert json.loads(labels)["1"] == "B-PER"


def test_same_scores(model: str, exported: Path) -> None:
    """F1 by ONNX is that of the command test, and the logits of real sentences are those of PyTorch."""
    whole = ComparedModel.of_network("PyTorch", model)
    run = OnnxNetwork(exported)
    onnx = whole._replace(name="onnx", logits=run.logits, predict=run.predict_labels)
    sentences = Split("sample", "tr", "test").sentences
    assert 0 < largest_difference(whole, onnx, sentences, 512) < 1e-4
    data = PanxDataModule(source="sample", backbone=model, languages=["tr"])
    [tested] = run_test(quiet_trainer(), TokenClassifier(backbone=model), data)
    measured = [measure_split(each, sentences, 512) for each in (whole, onnx)]
    assert [each.f1 for each in measured] == [tested.scores["f1"]] * 2
    assert torch.equal(measured[0].labels, measured[1].labels)
    tagged = Tagger.from_pretrained(model).tag_words(sentences.words)
    labels = [whole.tag_set.labels[tag] for each in tagged for tag in each.tags]
    assert measured[0].labels.tolist() == labels  # in the order of the source, whatever the batches are


def test_long_sentences(model: str, exported: Path) -> None:
    """A sentence of several windows, and words without pieces, are predicted as by PyTorch."""
    whole = ComparedModel.of_network("PyTorch", model)
    run = OnnxNetwork(exported)
    onnx = whole._replace(predict=run.predict_labels)
    sentences = Split("sample", "en", "test").sentences
    words = [[*sentences.words[0], "\u200b", *sentences.words[1]], ["\u200b"]]
    long = type(sentences)(words, [["O"] * len(each) for each in words])
    one, other = (measure_split(each, long, 8).labels for each in (whole, onnx))
    assert torch.equal(one, other)
    assert other[-1] == 0


def test_int8(model: str, exported: Path, tmp_path: Path) -> None:
    """The quantised model is smaller, has integer weights, and scores the labels much as before."""
    quantise(exported, tmp_path / "small.onnx")
    assert bytes_of(tmp_path / "small.onnx") < 0.6 * bytes_of(exported)
    weights = [each for each in onnx.load(tmp_path / "small.onnx").graph.initializer if np.prod(each.dims) > 999]
    # Of the embedding, and of the linear layers but the second one of each feed-forward layer.
    kinds, config = onnx.TensorProto, AutoConfig.from_pretrained(model)
    assert {each.data_type for each in weights} == {kinds.UINT8, kinds.INT8, kinds.FLOAT}
    narrowing = [config.intermediate_size, config.hidden_size]
    assert [[*each.dims] for each in weights if each.data_type == kinds.FLOAT] == [narrowing] * config.num_hidden_layers
    pieces = np.arange(5, 45).reshape(2, 20)
    inputs = {"input_ids": pieces, "attention_mask": np.ones_like(pieces)}
    one, other = (OnnxNetwork(each).session.run(None, inputs)[0] for each in (exported, tmp_path / "small.onnx"))
    assert 0 < np.abs(one - other).max() < 0.5 * np.abs(one).max()


def test_weights_in_a_file_of_their_own(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that a protobuf cannot hold lie beside the model, in float and in int8, and move with it."""
    monkeypatch.setattr("xner.export.onnx_model._LARGEST_FILE", 100_000)
    network = load_network(model).network
    (tmp_path / "part").mkdir()
    write_onnx(network, tmp_path / "part" / "model.onnx", 20)
    quantise(tmp_path / "part" / "model.onnx", tmp_path / "part" / "small.onnx")
    folder = (tmp_path / "part").rename(tmp_path / "whole")
    assert sorted(each.name for each in folder.iterdir()) == [
        "model.onnx",
        "model.onnx.data",
        "small.onnx",
        "small.onnx.data",
    ]
    weights = sum(each.nbytes for each in network.state_dict().values())
    assert 0.8 * weights < (folder / "model.onnx.data").stat().st_size < bytes_of(folder / "model.onnx")
    assert_same_logits(network, folder / "model.onnx")
    pieces = np.arange(5, 45).reshape(2, 20)
    inputs = {"input_ids": pieces, "attention_mask": np.ones_like(pieces)}
    one, other = (OnnxNetwork(folder / each).session.run(None, inputs)[0] for each in ("model.onnx", "small.onnx"))
    assert 0 < np.abs(one - other).max() < 0.5 * np.abs(one).max()
