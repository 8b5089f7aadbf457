"""The benchmark of scale runs on small sizes."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.scale import scale
from xner.data.sources import SAMPLE
from xner.errors import UserError

SAMPLE_OF = {"data": str(SAMPLE), "tokenizer": str(SAMPLE / "backbone"), "threads": 1}


@pytest.mark.slow
def test_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each size is encoded, loaded from the cache, trained on and tagged, and its time and memory are measured."""
    output = tmp_path / "scale.json"
    scale(**SAMPLE_OF, sizes=[100, 700], tagged=[20], output=str(output))
    readings = json.loads(output.read_text(encoding="utf-8"))["readings"]
    assert [(each["what"], each["sentences"]) for each in readings] == [
        ("encode", 100),
        ("encode", 700),
        ("load from the cache", 100),
        ("load from the cache", 700),
        ("fit", 100),
        ("fit", 700),
        ("tag", 20),
    ]
    assert all(each["seconds"] > 0 and each["peak_bytes"] > 1e8 for each in readings)
    # The sample's 600 training sentences are repeated.
    assert readings[1]["words"] > 6 * readings[0]["words"]
    table = capsys.readouterr().out
    assert table.count("| encode | ") == 2


@pytest.mark.parametrize("sizes", [[], [10, 10], [20, 10], [0]])
def test_mistakes(sizes: list[int]) -> None:
    """Sizes that do not ascend are one line."""
    with pytest.raises(UserError, match="sizes="):
        scale(**SAMPLE_OF, sizes=sizes)
