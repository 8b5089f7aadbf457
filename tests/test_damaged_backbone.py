"""A model folder whose configuration or tokenizer is damaged is one line that names the file."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.commands import Run, assert_one_line, options
from xner.backbone import head_tags, load_config
from xner.backbone.tokenizer import load_tokenizer
from xner.backbone.weights import load_network
from xner.errors import RunError, UserError
from xner.model.network import Network
from xner.tags import TagSet


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("pad_token_id", value) for value in (None, -1, 10**9, "x")),
        *(("hidden_size", value) for value in (0, -1, 10**12, "x", None)),
        *(("num_hidden_layers", value) for value in (0, -1, 10**12, "x")),
        *(("num_attention_heads", value) for value in (0, -1, 3, "x")),
        *(("vocab_size", value) for value in (0, -1, 10**12)),
        *(("max_position_embeddings", value) for value in (0, 10**12, "x")),
        *(("hidden_act", value) for value in ("x", 5)),
        ("layer_norm_eps", None),
        *(("calibration_temperature", value) for value in (None, 0, -1, "x", math.nan, math.inf)),
        ("id2label", []),
    ],
)
def test_configuration(scored_backbone: Path, tmp_path: Path, name: str, value: object) -> None:
    """Sizes that no network has, and values of other types, are found without building one."""
    folder = Path(shutil.copytree(scored_backbone, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, name: value}), encoding="utf-8")
    with pytest.raises(RunError, match=str(folder)):
        load_network(str(folder))


@pytest.mark.parametrize("content", ["", "[]", "7", "{}", "[" * 100_000, "null"])
def test_no_configuration(scored_backbone: Path, tmp_path: Path, content: str) -> None:
    """So is a file that is no configuration."""
    folder = Path(shutil.copytree(scored_backbone, tmp_path / "model"))
    (folder / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=str(folder)):
        head_tags(str(folder)) or load_config(str(folder))


def test_missing_weights(scored_backbone: Path, tmp_path: Path) -> None:
    """A file without all weights of the encoder is refused: transformers would draw random numbers for them."""
    folder = Path(shutil.copytree(scored_backbone, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if ".layer.0.attention.self.query" not in name}
    assert len(weights) - len(kept) == 2
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        RunError, match=r"lacks 2 weights of its encoder, such as .*layer\.0\.attention\.self\.query\.bias"
    ):
        load_network(str(folder))


def test_folder_written_again(scored_backbone: Path, tmp_path: Path) -> None:
    """A folder that is rewritten within a process, as in a notebook, is read again."""
    folder = Path(shutil.copytree(scored_backbone, tmp_path / "model"))
    first = load_config(str(folder))
    assert load_config(str(folder)) is first
    tokenizer = load_tokenizer(str(folder))
    turned = TagSet(("LOC", "ORG", "PER"))
    Network(str(folder), turned).save(tmp_path / "turned")
    shutil.copytree(tmp_path / "turned", folder, dirs_exist_ok=True)
    assert head_tags(str(folder)) == turned
    assert load_tokenizer(str(folder)) is not tokenizer


def test_network_saved_where_it_came_from(scored_backbone: Path, tmp_path: Path) -> None:
    """A network can be saved into the folder that it was loaded from."""
    folder = Path(shutil.copytree(scored_backbone, tmp_path / "model"))
    network = Network(str(folder))
    network.temperature = 2.0
    network.save(folder)
    assert Network(str(folder)).temperature == 2.0
    assert load_tokenizer(str(folder)).get_vocab() == load_tokenizer(str(scored_backbone)).get_vocab()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda _: b"",
        lambda _: b"no JSON",
        lambda _: b"[]",
        lambda content: content.replace(b'"', b"\0", 1),
        lambda content: b"\xff" + content,
        lambda _: b"[" * 100_000,
    ],
    ids=["cut", "empty", "text", "list", "flipped", "not UTF-8", "deep"],
)
def test_tokenizer(scored_backbone: Path, tmp_path: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    """So is a damaged file of the tokenizer, whatever type the error of its library has."""
    folder = Path(shutil.copytree(scored_backbone, tmp_path / "model"))
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(RunError, match=f"{folder / name} is damaged .*; restore it"):
        load_tokenizer(str(folder))


def test_tokenizer_without_a_model(scored_backbone: Path, tmp_path: Path) -> None:
    """So is a tokenizer whose content is JSON, but that of no tokenizer."""
    folder = Path(shutil.copytree(scored_backbone, tmp_path / "model"))
    content = json.loads((folder / "tokenizer.json").read_bytes())
    (folder / "tokenizer.json").write_text(json.dumps({**content, "model": {}}), encoding="utf-8")
    with pytest.raises(RunError, match=r"tokenizer.json is damaged \(data did not match"):
        load_tokenizer(str(folder))


def test_tokenizer_of_another_model(run: Run, scored_backbone: Path, source: Path, tmp_path: Path) -> None:
    """A tokenizer with more subwords than the embedding has rows is found by fit, from a cache as well, and by tag."""
    folder = tmp_path / "model"
    network = load_network(str(scored_backbone)).network
    network.resize_token_embeddings(100)
    network.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(scored_backbone / name, folder)
    told = f"{folder / 'tokenizer.json'} has a subword ", "but the embedding of the model has only 100 rows; restore"
    for _ in range(2):
        assert_one_line(run("fit", *options(source, folder, tmp_path / "run")), 1, *told)
    assert_one_line(run("tag", "--model", folder, "London"), 1, *told)
