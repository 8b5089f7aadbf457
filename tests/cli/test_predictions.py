from pathlib import Path

import pytest
import torch
from seqeval.metrics import classification_report
from transformers import AutoModelForTokenClassification

from tests.commands import Run, options
from tests.model.tiny import pretrained_backbone, write_split
from xner.cli.predictions import report
from xner.data.sources import Sentences

NONE = "No entities, neither in the data nor predicted: F1 is 0 by seqeval's convention.\n"


def test_no_entities(run: Run, tmp_path: Path) -> None:
    """Testing a model that finds nothing on a split where there is nothing gives a line in place of the table."""
    folder = pretrained_backbone(tmp_path / "model")
    network = AutoModelForTokenClassification.from_pretrained(folder)
    torch.nn.init.zeros_(network.classifier.weight)
    network.classifier.bias.data = torch.eye(7)[0]
    network.save_pretrained(folder)
    words = [["Hava", "güzel"], ["Bugün", "."]]
    write_split(tmp_path / "source" / "tr" / "test.tsv", Sentences(words, [["O", "O"], ["O", "O"]]))
    outcome = run("test", *options(tmp_path / "source", folder, tmp_path / "root"), "--data.languages=[tr]")
    assert outcome.code == 0, outcome
    assert "\ntr/test: F1 0.0000" in outcome.out
    assert outcome.out.endswith(f"\n{NONE}\n")


@pytest.mark.parametrize("predicted", [["O", "O", "O"], ["O", "I-LOC", "O"]])
@pytest.mark.parametrize("tags", [["O", "O", "O"], ["B-PER", "O", "O"], ["I-ORG", "O", "O"]])
def test_report_is_seqevals(predicted: list[str], tags: list[str]) -> None:
    """The report is seqeval's own, wherever seqeval has one: where a single entity is gold or predicted."""
    gold = Sentences([["a", "b", "c"], ["not", "predicted", "."]], [tags, ["B-ORG", "O", "O"]])
    if {*predicted, *tags} == {"O"}:
        with pytest.raises(ValueError, match="max"):
            classification_report([tags], [predicted])
        assert report({0: predicted}, gold) == NONE
    else:
        assert report({0: predicted}, gold) == classification_report([tags], [predicted], digits=4, zero_division=0)
