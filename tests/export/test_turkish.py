"""One model on the whole Turkish test split: the command test, Tagger, ONNX and int8."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from tests.model.tiny import SAMPLE_BACKBONE, fit, quiet_trainer
from xner.backbone.weights import load_network
from xner.data.datamodule import PanxDataModule
from xner.data.encode import offsets
from xner.data.sources import Split
from xner.export.comparison import ComparedModel
from xner.export.onnx_model import OnnxNetwork, quantise, write_onnx
from xner.model.classifier import TokenClassifier
from xner.model.evaluation import run_test
from xner.model.metrics import SpanF1
from xner.tagger import Tagged, Tagger
from xner.tags import spans


@pytest.fixture(scope="module")
def model(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model folder that ``XNER_TEST_MODEL`` names, or the sample's backbone fine-tuned on real sentences."""
    if named := os.environ.get("XNER_TEST_MODEL"):
        return named
    folder = tmp_path_factory.mktemp("turkish") / "model"
    data = {"source": str(shared / "panx"), "languages": ["tr"], "num_samples": 4000}
    fitted = fit(SAMPLE_BACKBONE, data=data, model={"learning_rate": 1e-3}, trainer={"limit_val_batches": 0})
    fitted.model.network.save(folder)
    return str(folder)


def spans_of_words(tagged: Tagged) -> set[tuple[str, int, int]]:
    """Return the type, first and last word of a text's entities, by the characters where they start and end."""
    starts = {word.start: number for number, word in enumerate(tagged.words)}
    ends = {word.end: number for number, word in enumerate(tagged.words)}
    return {(each.type, starts[each.start], ends[each.end]) for each in tagged.entities}


@pytest.mark.slow
def test_same_spans(model: str, shared: Path, tmp_path: Path) -> None:
    """Of all sentences, Tagger and ONNX find the spans that ``test`` scores, up to ties; int8 is within 0.5 of F1."""
    source = str(shared / "panx")
    sentences = Split(source, "tr", "test").sentences
    data = PanxDataModule(source=source, backbone=model, languages=["tr"])
    [tested] = run_test(quiet_trainer(), TokenClassifier(backbone=model), data)
    tagger = Tagger.from_pretrained(model, device="cpu")
    names, labels = tagger.network.tag_set.tags, tested.words.predicted.tolist()
    first = offsets([len(words) for words in sentences.words]).tolist()
    scored = [{*spans([names[label] for label in labels[start:end]])} for start, end in pairwise(first)]
    found = [spans_of_words(each) for each in tagger.tag_words(sentences.words)]
    assert [place for place, both in enumerate(zip(scored, found, strict=True)) if both[0] != both[1]] == []
    gold = [{*spans(tags)} for tags in sentences.tags]
    correct = sum(len(one & other) for one, other in zip(found, gold, strict=True))
    f1 = 2 * correct / (sum(map(len, found)) + sum(map(len, gold)))
    assert f1 == pytest.approx(tested.scores["f1"], abs=1e-7)

    whole = ComparedModel.of_network("PyTorch", model)
    paths = {name: tmp_path / f"{name}.onnx" for name in ("onnx", "int8")}
    write_onnx(load_network(model).network, paths["onnx"], 20)
    quantise(paths["onnx"], paths["int8"])
    runs = {name: OnnxNetwork(path) for name, path in paths.items()}
    scores = {name: SpanF1(whole.tag_set) for name in runs}
    gaps = []
    for batch in whole.batches(sentences, 512):
        with torch.inference_mode():
            best = tagger.network.word_logits(batch).topk(2).values
        words = [torch.arange(first[place], first[place + 1]) for place in batch.sentences.tolist()]
        of_test = tested.words.predicted[torch.cat(words)]
        for name, run in runs.items():
            predicted = run.predict_labels(batch)
            scores[name].update(predicted, batch.word_label, batch.word_sentence)
            if name == "onnx":
                gaps += (best[:, 0] - best[:, 1])[predicted != of_test].tolist()
    f1_of = {name: float(score.compute()["f1"]) for name, score in scores.items()}
    print(f"F1 of test {tested.scores['f1']:.5f}, Tagger {f1:.5f}, {f1_of}; gaps of other labels by ONNX: {gaps}")
    assert max(gaps, default=0) < 1e-3
    assert f1_of["onnx"] == pytest.approx(f1, abs=1e-4)
    assert f1_of["int8"] == pytest.approx(f1, abs=0.005)
