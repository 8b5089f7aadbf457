"""The benchmark of tagging runs on a few sentences, and counts entities by their characters."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.tagging import character_f1, tagging
from tests.model.tiny import pretrained_backbone
from xner.data.sources import SAMPLE
from xner.errors import UserError


def test_tagging(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All sides tag the same sentences, and their speed, ratio and F1 are printed and written."""
    model = pretrained_backbone(tmp_path / "model")
    output = tmp_path / "it.json"
    decodings = ("greedy", "viterbi")
    tagging(
        str(model), str(SAMPLE), sentences=12, rounds=2, batch_sizes=[2, 4], decodings=decodings, output=str(output)
    )
    figures = json.loads(output.read_text(encoding="utf-8"))
    speeds = figures["sentences_per_second"]
    ours = ["xner, float32", "xner, float32, viterbi"]
    assert {side: len(each) for side, each in speeds.items()} == dict.fromkeys(["pipeline, float32", *ours], 2)
    assert figures["f1"][ours[0]] != figures["f1"][ours[1]]
    assert figures["batch_sizes"]["float32"] in (2, 4)
    mean = {side: sum(each) / 2 for side, each in speeds.items()}  # the median of two
    for side in ours:
        ratio = figures["ratios"][f"{side} / pipeline, float32"]
        assert ratio == pytest.approx(mean[side] / mean["pipeline, float32"])
    assert "| xner, float32, viterbi / pipeline, float32 | **" in capsys.readouterr().out


def test_f1_by_characters() -> None:
    """An entity counts where type, start and end are equal, and a text does not answer for another."""
    gold = [{("PER", 0, 4), ("LOC", 9, 12)}, set()]
    assert character_f1(gold, gold) == 1
    assert character_f1([set(), *gold[:1]], gold) == 0
    assert character_f1([{("PER", 0, 5), ("LOC", 9, 12)}, set()], gold) == 0.5
    assert character_f1([set(), set()], [set(), set()]) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"sentences": 0},
        {"rounds": 0},
        {"precisions": ["int8"]},
        {"precisions": []},
        {"decodings": ["beam"]},
        {"batch_sizes": [0]},
    ],
)
def test_mistakes(options: dict[str, object]) -> None:
    """An option that makes no sense is one line that names it."""
    with pytest.raises(UserError, match=next(iter(options))):
        tagging("model", str(SAMPLE), **options)
