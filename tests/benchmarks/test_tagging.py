"""The benchmark of tagging runs on a few sentences, and counts entities by their characters."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.tagging import character_f1, tagging
from tests.model.tiny import pretrained_backbone
from xner.data.sources import SAMPLE
from xner.errors import UserError


def test_tagging(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both sides tag the same sentences, and their speed, ratio and F1 are printed and written."""
    model = pretrained_backbone(tmp_path / "model")
    output = tmp_path / "it.json"
    tagging(str(model), str(SAMPLE), sentences=12, rounds=2, batch_sizes=[2, 4], output=str(output))
    figures = json.loads(output.read_text(encoding="utf-8"))
    speeds = figures["sentences_per_second"]
    assert {side: len(each) for side, each in speeds.items()} == {"pipeline, float32": 2, "xner, float32": 2}
    assert figures["batch_sizes"]["float32"] in (2, 4)
    mean = {side: sum(each) / 2 for side, each in speeds.items()}  # the median of two
    assert figures["ratios"]["float32"] == pytest.approx(mean["xner, float32"] / mean["pipeline, float32"])
    assert "| xner / pipeline, float32 | **" in capsys.readouterr().out


def test_f1_by_characters() -> None:
    """An entity counts where type, start and end are equal, and a text does not answer for another."""
    gold = [{("PER", 0, 4), ("LOC", 9, 12)}, set()]
    assert character_f1(gold, gold) == 1
    assert character_f1([set(), *gold[:1]], gold) == 0
    assert character_f1([{("PER", 0, 5), ("LOC", 9, 12)}, set()], gold) == 0.5
    assert character_f1([set(), set()], [set(), set()]) == 0


@pytest.mark.parametrize("options", [{"sentences": 0}, {"rounds": 0}, {"precisions": ["int8"]}, {"batch_sizes": [0]}])
def test_mistakes(options: dict[str, object]) -> None:
    """An option that makes no sense is one line that names it."""
    with pytest.raises(UserError, match=next(iter(options))):
        tagging("model", str(SAMPLE), **options)
