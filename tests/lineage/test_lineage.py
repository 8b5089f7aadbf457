import json
from pathlib import Path
from typing import Literal

import pytest

from xner.errors import RunError
from xner.lineage import FILE, Episode, Lineage, label_free, read_lineage, zero_shot


def episode(language: str, labels: Literal["gold", "predicted"] = "gold") -> Episode:
    return {
        "source": "sample",
        "language": language,
        "split": "train",
        "sentences": 10,
        "shuffle_seed": 0,
        "subset_seed": 42,
        "seed": 42,
        "types": ["PER"],
        "map_types": {},
        "digest": "0a1b",
        "labels": labels,
    }


def test_backbone_without_history() -> None:
    """A hub name, and a folder without a lineage, count as pretrained and not trained."""
    assert read_lineage("xlm-roberta-base") == {"origin": "xlm-roberta-base", "episodes": []}


def test_folder_without_history(tmp_path: Path) -> None:
    """A folder without the file is its own origin."""
    assert read_lineage(str(tmp_path)) == {"origin": str(tmp_path), "episodes": []}


def test_round_trip(tmp_path: Path) -> None:
    """A record written beside weights is read with them, whatever the folder is called."""
    lineage: Lineage = {"origin": "xlm-roberta-base", "episodes": [episode("en"), episode("tr")]}
    (tmp_path / FILE).write_text(json.dumps(lineage), encoding="utf-8")
    assert read_lineage(str(tmp_path)) == lineage


@pytest.mark.parametrize(
    ("trained", "language", "expected"),
    [
        ([], "tr", True),
        (["en"], "tr", True),
        (["en", "tr"], "tr", False),
        (["en"], "en", False),
        (["en"], "e", True),
        (["en"], "en_pud", False),
        (["en_ewt"], "en", False),
        (["zh"], "zh-yue", True),
        (["en"], "simple", False),
        (["be-x-old"], "be", False),
        (["pt-BR"], "pt", False),
        (["zh"], "zh-Hant-TW", False),
        (["sw"], "swa", False),
        (["EN"], "en", False),
        (["sq"], "als", True),
    ],
)
def test_zero_shot(trained: list[str], language: str, expected: bool) -> None:
    """A score is zero-shot only where no episode is of the evaluated language, however long ago."""
    assert zero_shot({"origin": "x", "episodes": [*map(episode, trained)]}, language) is expected


@pytest.mark.parametrize(
    ("trained", "language", "expected"),
    [
        ([], "tr", True),
        ([episode("en"), episode("tr", "predicted")], "tr", True),
        ([episode("tr", "predicted"), episode("tr")], "tr", False),
        ([episode("en"), episode("tr", "predicted")], "en_pud", False),
        ([episode("tr_boun", "predicted")], "tr", True),
    ],
)
def test_label_free(trained: list[Episode], language: str, expected: bool) -> None:
    """A score is label-free where no episode with gold labels is of its language, and the origin is recorded."""
    lineage: Lineage = {"origin": "x", "episodes": trained}
    assert label_free(lineage, language) is expected
    assert not label_free({**lineage, "unrecorded": True}, language)
    assert zero_shot(lineage, language) is (expected and not any(each["language"][:2] == "tr" for each in trained))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"origin": "x"}', b"null", b"\xff\xfe", b"[" * 100_000, b"9" * 5000]
)
def test_no_lineage(tmp_path: Path, content: bytes) -> None:
    """A file that is no lineage is told by its name: without it, nothing could be said about zero-shot."""
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(RunError) as caught:
        read_lineage(str(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path / FILE} is not a lineage (")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"episodes": 7},
        {"episodes": [[1]]},
        {"origin": None},
        {"episodes": [{"language": 7, "split": "a", "labels": "gold"}]},
        {"episodes": [{"language": "tr", "split": "train", "labels": "guessed"}]},
    ],
)
def test_wrong_types(tmp_path: Path, changes: dict[str, object]) -> None:
    """A lineage with inner values of other types is none."""
    (tmp_path / "lineage.json").write_text(json.dumps({"origin": "x", "episodes": [], **changes}), encoding="utf-8")
    with pytest.raises(RunError, match=r"lineage\.json is not a lineage"):
        read_lineage(str(tmp_path))
