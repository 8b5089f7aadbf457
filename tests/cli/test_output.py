import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from transformers import AutoModelForTokenClassification

from tests.commands import Run, options
from tests.model.tiny import pretrained_backbone, write_split
from xner.cli.commands import seqeval_report
from xner.cli.output import interlinear, table
from xner.cli.transfer import results_table
from xner.data.sources import Sentences
from xner.report.runs import load_run

NONE = "No entities, neither in the data nor predicted: F1 is 0 by seqeval's convention.\n"


@given(cells=st.integers(0, 200), width=st.integers(3, 60))
def test_every_cell_stands_over_its_own(cells: int, width: int) -> None:
    """However narrow the terminal, each row holds all its cells, in order, and no line is wider than it."""
    numbers = [str(number) for number in range(cells)]
    blocks = [block.split("\n") for block in interlinear([numbers, numbers[::-1]], width).split("\n\n")]
    assert [cell for block in blocks for cell in block[0].split()] == numbers
    assert [cell for block in blocks for cell in block[-1].split()] == numbers[::-1]
    assert all(len(line) <= width for block in blocks for line in block)


def test_columns_align_by_what_a_terminal_shows() -> None:
    """Wide characters take two columns, combining and zero-width ones none, and control characters are escaped."""
    upper, lower = interlinear([["東京", "e\u0301", "\x1b", "x"], ["B", "O", "O", "O"]], 80).split("\n")
    assert upper == "東京  e\u0301  \\x1b  x"
    assert lower == "B     O  O     O"


def test_a_table_without_rows_is_its_head() -> None:
    """A table of nothing has a head and a rule."""
    assert table(["split", "words"], []) == "split  words\n-----  -----"


def test_a_row_per_stage_and_evaluation(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    """The table has a row per stage and evaluation, scores as fractions with four decimals, and aligned columns."""
    results = load_run(write_run(tmp_path / "run", regimes=("progressive", "joint"), sizes=(250,))).results
    head, rule, *rows = results_table(results).splitlines()
    assert len(rows) == 6
    assert head.split()[:3] == ["stage", "trained", "on"]
    zero_shot = results[0]["evaluations"][1]
    line = next(row for row in rows if "zero-shot" in row)
    assert line.startswith("source-en-seed42 ")
    assert f"{zero_shot['f1']:.4f}" in line
    assert any("en 800 + tr 250" in row for row in rows)
    ends = [column.end() for column in re.finditer("-+", rule)]
    assert all(len(row) == ends[-1] for row in (head, *rows))


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
        assert seqeval_report({0: predicted}, gold) == NONE
    else:
        assert seqeval_report({0: predicted}, gold) == classification_report(
            [tags], [predicted], digits=4, zero_division=0
        )
