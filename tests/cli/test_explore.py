import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from xner.cli.main import main
from xner.data.sources import SAMPLE


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, str]:
    """Run ``xner explore`` and return what it prints under each title."""
    main(["explore", *args])
    parts = re.split(
        r"(?:\A|\n\n)(\S.*)\n\n(?=(?:language|feature|label|subword|\S.*\n(?:O|B-)))", capsys.readouterr().out
    )
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(table: str) -> list[list[str]]:
    """Split a table into its cells, without the head and the rule."""
    return [line.split() for line in table.strip().splitlines()[2:]]


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")


def test_counts_are_those_of_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    """Sentences, words and entities equal the counts in the files of the sample."""
    found = shown(capsys, "--source", "sample", "--languages", "tr", "en")
    sentences, entities = [], []
    for language in ("tr", "en"):
        for split in ("train", "validation", "test"):
            text = (SAMPLE / language / f"{split}.tsv").read_text(encoding="utf-8")
            tags = Counter(line.split("\t")[1] for line in text.splitlines() if line)
            counts = [tags[f"B-{kind}"] for kind in ("PER", "ORG", "LOC")]
            words = sum(tags.values())
            sentences.append([language, split, str(len(text.strip("\n").split("\n\n"))), str(words)])
            entities.append([language, split, *map(str, counts), str(sum(counts))])
    assert rows(found["Sentences and words"]) == sentences
    assert rows(found["Entities (B- tags) by type"]) == entities


def test_counts_are_those_of_the_facts(capsys: pytest.CaptureFixture[str], shared: Path) -> None:
    """On the real PAN-X, sentences, words, entities and subwords equal the table of facts beside the data."""
    found = shown(
        capsys,
        "--source",
        str(shared / "panx"),
        "--languages",
        "en",
        "tr",
        "--tokenizer",
        str(shared / "xlmr-tokenizer"),
    )
    pieces = "Subwords per sentence, special tokens included, by"
    tables = zip(
        rows(found["Sentences and words"]),
        rows(found["Entities (B- tags) by type"]),
        rows(next(table for title, table in found.items() if title.startswith(pieces))),
        strict=True,
    )
    # Other tables follow this section.
    section = (
        (shared / "README.md").read_text(encoding="utf-8").partition("## Facts of the data")[2].partition("\n## ")[0]
    )
    facts = re.findall(r"^\| ((?:en|tr) \w+) \| (.*) \|$", section, re.MULTILINE)
    assert len(facts) == 6
    for (split, fact), (sentences, entities, lengths) in zip(facts, tables, strict=True):
        assert sentences[:2] == entities[:2] == lengths[:2] == split.split()
        per, org, loc, _ = entities[2:]
        assert re.split(r" \| |, ", fact) == [*sentences[2:], loc, per, org, *lengths[2:]]


def test_tags_and_features(capsys: pytest.CaptureFixture[str]) -> None:
    """The tag set is shown with its labels, and the features with the names of PAN-X."""
    found = shown(capsys, "--source", "sample")
    tags = "O B-PER I-PER B-ORG I-ORG B-LOC I-LOC".split()
    assert rows(found["Tag set"]) == [[str(label), tag] for label, tag in enumerate(tags)]
    assert [row[0] for row in rows(found["Features of a sentence"])] == ["tokens", "ner_tags"]


def test_example_stands_over_its_tags(capsys: pytest.CaptureFixture[str]) -> None:
    """The example is the training sentence of that index, with each word above its tag."""
    found = shown(capsys, "--source", "sample", "--languages", "tr", "--example", "7")
    text = (SAMPLE / "tr" / "train.tsv").read_text(encoding="utf-8").strip("\n").split("\n\n")[7]
    words, tags = found["tr/train, sentence 7: words and tags"].strip().splitlines()
    assert [*zip(words.split(), tags.split(), strict=True)] == [tuple(line.split("\t")) for line in text.splitlines()]
    assert [cell.start() for cell in re.finditer(r"\S+", words)] == [cell.start() for cell in re.finditer(r"\S+", tags)]


def test_encoded_example(capsys: pytest.CaptureFixture[str], sample_backbone: str) -> None:
    """The first subword of each word has its label; special tokens and later subwords have -100 and IGN."""
    from transformers import AutoTokenizer

    found = shown(capsys, "--source", "sample", "--languages", "tr", "--example", "7")
    tokenizer = AutoTokenizer.from_pretrained(sample_backbone)
    pairs = [pair.split() for pair in found["tr/train, sentence 7: words and tags"].strip().splitlines()]
    expected = tokenizer(pairs[0], is_split_into_words=True)
    lines = found["tr/train, sentence 7: encoded"].strip().splitlines()
    pieces, ids, label_ids, labels = (re.split(r"\s{2,}", line)[1:] for line in lines)
    assert pieces == expected.tokens()
    assert ids == [str(piece) for piece in expected["input_ids"]]
    before = [None, *expected.word_ids()]
    firsts = [None if word in (None, last) else word for last, word in zip(before, expected.word_ids(), strict=False)]
    assert labels == ["IGN" if word is None else pairs[1][word] for word in firsts]
    assert [label == "-100" for label in label_ids] == [word is None for word in firsts]
    assert (labels[0], labels[-1]) == ("IGN", "IGN")


def test_text_is_tokenized(capsys: pytest.CaptureFixture[str], sample_backbone: str) -> None:
    """The subwords of the given text and their ids are those of the tokenizer."""
    from transformers import AutoTokenizer

    text = "Enver Paşa Londra'da"
    found = shown(capsys, "--source", "sample", "--languages", "en", "--text", text)
    lines = found[f"Subwords of {text!r}"].strip().splitlines()
    pieces, ids = (re.split(r"\s{2,}", line)[1:] for line in lines)
    expected = AutoTokenizer.from_pretrained(sample_backbone)(text)
    assert pieces == expected.tokens()
    assert ids == [str(piece) for piece in expected["input_ids"]]


def test_lines_keep_to_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No line of an example is wider than the terminal."""
    monkeypatch.setenv("COLUMNS", "40")
    main(["explore", "--source", "sample", "--languages", "[tr]"])
    _, _, examples = capsys.readouterr().out.partition("tr/train, sentence 0: encoded")
    assert max(map(len, examples.splitlines())) <= 40


@pytest.mark.parametrize(
    ("args", "code", "problem"),
    [
        (["--languages", "xx"], 2, "'xx'"),
        (["--languages", "[]"], 2, "languages"),
        (["--example", "600"], 2, "example=600"),
        (["--example", "-1"], 2, "example=-1"),
        (["--tokenizer", "./nowhere"], 2, "tokenizer='./nowhere'"),
        (["--tokenizer", "nobody/nothing"], 1, "tokenizer='nobody/nothing' cannot be loaded"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], args: list[str], code: int, problem: str) -> None:
    """A missing language, sentence or tokenizer ends the command with one line that names the option."""
    with pytest.raises(SystemExit) as raised:
        main(["explore", "--source", "sample", *args])
    assert raised.value.code == code
    error = capsys.readouterr().err.strip()
    assert problem in error
    assert "\n" not in error


def test_starts_fast() -> None:
    """The tools import torch, transformers, datasets and lightning only when they need them."""
    script = (
        "import sys, xner.cli.main, xner.cli.tools, xner.tagger; "
        "print([name for name in ('torch', 'transformers', 'datasets', 'lightning', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_closed_output() -> None:
    """If the reader of the output ends first, as ``head`` does, the command ends without a traceback."""
    script = "from xner.cli.main import main; main(['explore', '--source', 'sample'])"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 141
