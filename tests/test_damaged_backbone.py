"""A model folder whose configuration is impossible is one line that names it."""

import json
import shutil
from pathlib import Path

import pytest

from xner.backbone import head_tags, load_config
from xner.backbone.weights import load_network
from xner.errors import RunError, UserError


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
