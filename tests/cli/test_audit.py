"""The command ``audit``: tables, JSON, exit codes and mistakes."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from tests.commands import Run, assert_one_line
from xner.data.audit import FINDINGS, OF_TOKENIZER

LINES = {"train": "Ford\tB-ORG\nleft\tO\n\nFord\tB-PER\nleft\tO\n\nof\tO\n", "test": "of\tO\n\nAn\u200bkara\tB-LOC\n"}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus of five English sentences with a repeated, an overlapping and an unreadable one."""
    folder = tmp_path / "corpus"
    (folder / "en").mkdir(parents=True)
    for name, text in LINES.items():
        (folder / "en" / f"{name}.tsv").write_text(text, encoding="utf-8")
    return folder


def sections(out: str) -> dict[str, list[list[str]]]:
    """Return the cells of each table by its title."""
    parts = out.split("\n\n")
    return {
        title: [line.split() for line in content.splitlines()[2:]]
        for title, content in pairwise(parts)
        if "\n---" in content
    }


def test_tables(run: Run, corpus: Path) -> None:
    """Each group of findings is a table, with its definitions and examples below."""
    outcome = run("audit", "--source", corpus, "--languages", "en")
    assert (outcome.code, outcome.err) == (0, "")
    assert sections(outcome.out) == {
        "Splits": [["en", "train", "IOB2", "3", "5", "2"], ["en", "test", "IOB2", "2", "2", "1"]],
        "Sentences": [
            ["en", "train", "3", "1", "33.33", "2", "66.67", "0", "0.00"],
            ["en", "test", "2", "0", "0.00", "0", "0.00", "0", "0.00"],
        ],
        "Overlap with training splits": [["en", "test", "en", "2", "1", "50.00", "0", "0.00"]],
        "Near-duplicates of training sentences": [["en", "test", "en", "2", "1", "50.00"]],
        "Words": [["en", "train", "5", "0", "0.00"], ["en", "test", "2", "1", "50.00"]],
        "Tags": [["en", "train", "5", "0", "0.00", "0", "0.00"], ["en", "test", "2", "0", "0.00", "0", "0.00"]],
        "Entities": [["en", "test", "en", "1", "0", "0.00", "0", "0.00"]],
        "Ambiguous entities": [["en", "3", "2", "66.67", "1", "50.00"]],
    }
    lines = outcome.out.splitlines()
    for finding, example in {
        "duplicates": "  en/train, sentence 1: Ford left",
        "conflicting": "  en/train, sentence 0: Ford/B-ORG left",
        "overlap": "  en/test, sentence 0: of",
        "invisible": "  en/test, sentence 1: An\\u200bkara",
        "ambiguous": "  en: Ford: ORG 1, PER 1",
    }.items():
        assert lines[lines.index(f"{finding}: {FINDINGS[finding].description}") + 1] == example


def test_examples_can_be_left_out(run: Run, corpus: Path) -> None:
    """With no examples, no sentence is printed."""
    assert "sentence 1" in run("audit", "--source", corpus, "--languages", "en", "--examples", 1).out
    assert "sentence 1" not in run("audit", "--source", corpus, "--languages", "en", "--examples", 0).out


def test_lines_fit(run: Run, corpus: Path) -> None:
    """No line has more than 100 columns, however long a sentence is."""
    text = "".join(f"word{number}\tB-ORG\n" for number in range(200))
    (corpus / "en" / "validation.tsv").write_text(f"{text}\n{text}", encoding="utf-8")
    outcome = run("audit", "--source", corpus, "--languages", "en", "--tokenizer", "sample")
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines())) == 100
    assert "word0 word1" in outcome.out
    assert sum(line.endswith("…") for line in outcome.out.splitlines()) >= 2


def test_json(run: Run, corpus: Path) -> None:
    """The JSON is one line with the same counts, in a fixed order, and null for findings that need a tokenizer."""
    outcome = run("audit", "--source", corpus, "--languages", "en", "--json")
    assert (outcome.code, outcome.err, outcome.out.count("\n")) == (0, "", 1)
    content = json.loads(outcome.out)
    assert [*content] == ["source", "languages", "tokenizer", "max_length", "splits", "findings"]
    assert [content[name] for name in ("source", "languages", "tokenizer", "max_length")] == [
        str(corpus),
        ["en"],
        None,
        512,
    ]
    assert content["splits"][0] == {
        "language": "en",
        "split": "train",
        "scheme": "IOB2",
        "sentences": 3,
        "words": 5,
        "entities": 2,
    }
    assert [*content["findings"]] == [*FINDINGS]
    assert [name for name, finding in content["findings"].items() if finding is None] == [*OF_TOKENIZER]
    tally = {
        "language": "en",
        "split": "test",
        "train_language": "en",
        "count": 1,
        "total": 2,
        "examples": [{"sentence": 0, "text": "of"}],
    }
    assert content["findings"]["overlap"] == {"unit": "sentences", "count": 1, "tallies": [tally]}


def test_json_escapes_invisible_characters(run: Run, corpus: Path) -> None:
    """Invisible characters are escaped in JSON as well, also beyond the BMP, and all others are as they are."""
    (corpus / "en" / "test.tsv").write_text("Ş\u202eırnak\U000f0000\tB-LOC\n", encoding="utf-8")
    outcome = run("audit", "--source", corpus, "--languages", "en", "--json")
    assert '"text": "Ş\\u202eırnak\\udb80\\udc00"' in outcome.out
    tally = json.loads(outcome.out)["findings"]["invisible"]["tallies"][1]
    assert tally["examples"] == [{"sentence": 0, "text": "Ş\u202eırnak\U000f0000"}]


@pytest.mark.parametrize("names", ["overlap", "redirects,overlap", "[redirects, overlap]"])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_fail_on(run: Run, corpus: Path, names: str, options: list[str]) -> None:
    """If a named finding occurs, the command still prints everything, and ends with code 3 and a line that names it."""
    outcome = run("audit", "--source", corpus, "--languages", "en", "--fail_on", names, *options)
    assert outcome.code == 3
    assert outcome.err.startswith("xner: error: fail_on=")
    assert outcome.err.endswith(": found overlap (1)\n")
    assert outcome.out == run("audit", "--source", corpus, "--languages", "en", *options).out


def test_fail_on_something_else(run: Run, corpus: Path) -> None:
    """If no named finding occurs, the exit code is 0."""
    outcome = run("audit", "--source", corpus, "--languages", "en", "--fail_on", "redirects,invalid_tags")
    assert (outcome.code, outcome.err) == (0, "")


def test_sample(run: Run) -> None:
    """The sample has no leaks, but redirects, and its own tokenizer reads every word."""
    clean = "duplicates,conflicting,overlap,invisible,invalid_tags,long,no_pieces,cut_words"
    outcome = run("audit", "--source", "sample", "--tokenizer", "sample", "--fail_on", clean)
    assert (outcome.code, outcome.err) == (0, "")
    assert ["tr", "train", "600", "0", "0.00", "0", "0.00", "89", "14.83"] in sections(outcome.out)["Sentences"]
    assert run("audit", "--source", "sample", "--fail_on", "redirects").code == 3


def test_columns_and_types(run: Run, tmp_path: Path) -> None:
    """Columns and types are given as in a configuration."""
    (tmp_path / "tr").mkdir()
    row = {"words": ["Ankara", "dün"], "labels": ["B-GPE", "B-DATE"]}
    (tmp_path / "tr" / "train.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    options = ["--source", tmp_path, "--languages", "[tr]", "--columns", "{tokens: words, ner_tags: labels}"]
    given = ["--map_types", "{GPE: LOC, DATE: O}", "--types", "LOC", "PER"]
    outcome = run("audit", *options, *given)
    assert sections(outcome.out)["Splits"] == [["tr", "train", "IOB2", "1", "2", "1"]]
    (tmp_path / "tr" / "train.jsonl").unlink()
    (tmp_path / "tr" / "train.tsv").write_text("1\tB-LOC\tAnkara\n", encoding="utf-8")
    outcome = run("audit", *options[:4], "--columns", "{tokens: -1, ner_tags: 1}")
    assert sections(outcome.out)["Splits"] == [["tr", "train", "IOB2", "1", "1", "1"]]


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["--fail_on", "duplicate"], "fail_on='duplicate' is not a finding; did you mean 'duplicates'"),
        (["--fail_on", "long"], "fail_on='long' needs a tokenizer"),
        (["--examples", "-1"], "examples=-1 is negative; use 0 or more"),
        (["--examples", "x"], "--examples"),
        (["--languages", "[]"], "languages=[] is empty"),
        (["--languages", "tr"], "language 'tr'"),
        (["--source", "./nowhere"], "source='./nowhere' does not exist"),
        (["--types", "LOC"], "is not in types; use LOC"),
        (["--types", "LOC", "LOC", "--map_types", "{PER: LOC, ORG: LOC}"], "types=['LOC', 'LOC'] names a type twice"),
        (["--map_types", "{GPO: LOC}"], "map_types names 'GPO'"),
        (["--map_types", "PER"], "argument --map_types: 'PER' is not a mapping"),
        (["--map_types", "{PER: [LOC]}"], "--map_types"),
        (["--map_types", "{PER"], "--map_types"),
        (["--columns", "{word: 0}"], "columns names 'word'"),
        (["--columns", "{tokens: 7}"], "columns asks for columns 7 and -1"),
        (["--tokenizer", "sample", "--max_length", "2"], "max_length=2 leaves no room"),
        (["--tokenizer", "./nowhere"], "tokenizer='./nowhere'"),
        (["--fail", "overlap"], "--fail"),
    ],
)
def test_mistakes(run: Run, corpus: Path, args: list[str], problem: str) -> None:
    """A wrong option is one line that names it by its own name."""
    outcome = run("audit", "--source", corpus, "--languages", "en", *args)
    assert_one_line(outcome, 1 if "is not in types" in problem or "asks for" in problem else 2, problem)
    assert outcome.out == ""
    assert "data." not in outcome.err


def test_invalid_file(run: Run, corpus: Path) -> None:
    """A file that is not a corpus is one line that names file and line."""
    (corpus / "en" / "test.tsv").write_text("Ankara\tX-LOC\n", encoding="utf-8")
    assert_one_line(run("audit", "--source", corpus, "--languages", "en"), 1, "test.tsv, line 1: unknown tag 'X-LOC'")


def test_help(run: Run) -> None:
    """The help names every finding, and defaults."""
    outcome = run("audit", "--help")
    assert outcome.code == 0
    shown = " ".join(outcome.out.split())
    for word in ("xner audit", "(default: 512)", "(default: panx)", *FINDINGS):
        assert word in shown
