"""The head of a model folder: kept and reordered for the tag set of the data, refused, or replaced."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.model.tiny import pretrained_backbone
from xner.backbone import check_types, head_tags
from xner.backbone.tokenizer import load_tokenizer
from xner.backbone.weights import load_network
from xner.data.encode import encode
from xner.data.packing import RowDataset
from xner.data.sampler import EvaluationSampler
from xner.data.sources import Split
from xner.errors import UserError
from xner.model.network import Network
from xner.tagger import Tagger
from xner.tags import PANX, TagSet

ORDERS = {
    "types in another order": ["O", "B-LOC", "I-LOC", "B-PER", "I-PER", "B-ORG", "I-ORG"],
    "sorted tags": ["B-LOC", "B-ORG", "B-PER", "I-LOC", "I-ORG", "I-PER", "O"],
    "the same order": list(PANX.tags),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token classifier with the tags of PAN-X."""
    path = tmp_path_factory.mktemp("head") / "model"
    network = Network(str(pretrained_backbone(path.with_name("backbone"))))
    torch.nn.init.normal_(network.model.classifier.weight)
    torch.nn.init.normal_(network.model.classifier.bias)
    network.save(path)
    return path


@pytest.fixture
def relabelled(folder: Path, tmp_path: Path) -> Callable[[Sequence[str]], str]:
    """Write the same classifier with its labels in another order, or with other names."""

    def write(tags: Sequence[str]) -> str:
        shutil.copytree(folder, tmp_path / "other")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config |= {"id2label": dict(enumerate(tags)), "label2id": {tag: label for label, tag in enumerate(tags)}}
        (tmp_path / "other" / "config.json").write_text(json.dumps(config), encoding="utf-8")
        weights = load_file(folder / "model.safetensors")
        if {*tags} == {*PANX.tags}:
            order = [PANX.labels[tag] for tag in tags]
            weights |= {name: weights[name][order] for name in ("classifier.weight", "classifier.bias")}
        save_file(weights, tmp_path / "other" / "model.safetensors", {"format": "pt"})
        return str(tmp_path / "other")

    return write


def logits(network: Network) -> Tensor:
    """Score some sentences."""
    sentences = [*Split("sample", "tr", "validation").read()][:20]
    encoded = encode(sentences, load_tokenizer(network.backbone), 64, PANX)
    [chosen] = EvaluationSampler(encoded.sentence_pieces, budget=10**6)
    with torch.inference_mode():
        return network.eval().word_logits(RowDataset(encoded, padding_id=1)[chosen])


@pytest.mark.parametrize("order", ORDERS)
def test_order_does_not_matter(folder: Path, relabelled: Callable[[Sequence[str]], str], order: str) -> None:
    """A head whose labels are in another order gives the same scores, and is saved in the order of the data."""
    other = relabelled(ORDERS[order])
    network = Network(other, PANX)
    assert network.tag_set == PANX
    assert not network.head_is_new
    torch.testing.assert_close(logits(network), logits(Network(str(folder))), rtol=1e-5, atol=1e-5)
    network.save(Path(other) / "saved")
    assert head_tags(str(Path(other) / "saved")) == PANX


@pytest.mark.parametrize("order", ORDERS)
def test_own_order_is_kept(relabelled: Callable[[Sequence[str]], str], order: str) -> None:
    """Without data, the types have the order of the folder's labels, in which the Tagger finds the same entities."""
    other = relabelled(ORDERS[order])
    network = Network(other)
    assert network.tag_set == TagSet.of_tags(ORDERS[order])
    by_tag = dict(zip(network.tag_set.tags, logits(network).T, strict=True))
    expected = dict(zip(PANX.tags, logits(Network(other, PANX)).T, strict=True))
    for tag, scores in expected.items():
        torch.testing.assert_close(by_tag[tag], scores, rtol=1e-5, atol=1e-5)


def test_tagger_agrees(folder: Path, relabelled: Callable[[Sequence[str]], str]) -> None:
    """A Tagger finds the same entities whatever the order of the labels."""
    text = "Alan Turing Ankara'dan London'a gitti."
    one, other = (Tagger.from_pretrained(each)(text) for each in (str(folder), relabelled(ORDERS["sorted tags"])))
    assert one.tags == other.tags
    assert [each.type for each in one.entities] == [each.type for each in other.entities]


@pytest.mark.parametrize("types", [("PER", "ORG"), ("PER", "ORG", "LOC", "MISC"), ("person", "org", "loc")])
def test_other_types(folder: Path, types: tuple[str, ...]) -> None:
    """A subset, a superset and other names are refused in a line with both and with what to do."""
    for load in (check_types, load_network):
        with pytest.raises(UserError) as caught:
            load(str(folder), TagSet(types))
        text = str(caught.value)
        assert f"has the entity types PER, ORG, LOC, but the data has {', '.join(types)}; " in text
        assert all(option in text for option in ("data.map_types", "data.types", "model.new_head=true"))


def test_labels_that_are_no_tags(relabelled: Callable[[Sequence[str]], str]) -> None:
    """Labels of another task, or without a B- tag, are refused in a line that shows them; a new head replaces them."""
    tags = ["NOUN", "VERB", "ADJ", "ADV", "PRON", "DET", "X"]
    other = relabelled(tags)
    with pytest.raises(UserError, match=r"with the labels NOUN, VERB, .*, which are not O, B- and I- tags"):
        load_network(other)
    assert load_network(other, PANX, new_head=True).head_is_new


@pytest.mark.parametrize("types", [("PER", "ORG", "LOC"), ("A", "B", "C"), ("DATE",), ("A", "B", "C", "D", "E")])
def test_new_head(folder: Path, types: tuple[str, ...]) -> None:
    """A new head has random weights for the types of the data, on the folder's own encoder, and is never scored."""
    torch.manual_seed(0)
    network = Network(str(folder), TagSet(types), new_head=True)
    weights, old = network.model.state_dict(), load_file(folder / "model.safetensors")
    assert weights["classifier.weight"].shape[0] == 2 * len(types) + 1
    assert weights["classifier.weight"].std().item() == pytest.approx(network.model.config.initializer_range, rel=0.3)
    assert not weights["classifier.bias"].any()
    for name in old:
        if not name.startswith("classifier"):
            assert torch.equal(weights[name], old[name])
    with pytest.raises(UserError, match="has no trained head"):
        network.check_head()
