from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.sources import FORMATS, as_dataset, as_jsonl, as_rows, as_tsv, random_sentences, write_hub
from xner.data.sources import SPLITS, ReadOptions, Sentences, Split, hub, lines
from xner.data.sources.hub import presets
from xner.errors import RunError, UserError

ODD = Sentences(
    words=[
        ["a\u2028b", "\u2029", "New\u00a0York", "two words", " ", "\u200b", "\u0085", "\x0b"],
        ["tr:", "\ufeff", "Ankara\u2028", "en:Paris", "'"],
        ["son"],
    ],
    tags=[
        ["O", "O", "B-LOC", "I-LOC", "O", "O", "B-PER", "I-ORG"],
        ["O", "O", "B-LOC", "I-PER", "O"],
        ["O"],
    ],
)
"""Sentences whose words contain line separators, spaces and similar characters."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a source with one language, tr, still empty."""
    (tmp_path / "source" / "tr").mkdir(parents=True)
    return tmp_path / "source"


def read(folder: Path, split: str = "train") -> Sentences:
    return Split(str(folder), "tr", split).sentences


def message(folder: Path, kind: type[UserError] = RunError, language: str = "tr", split: str = "train") -> str:
    """Read a split that cannot be read, and return the one-line error message."""
    with pytest.raises(kind) as caught:
        _ = Split(str(folder), language, split).sentences
    assert type(caught.value) is kind
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("sentences", [random_sentences("tr", 20), ODD], ids=["plain", "odd"])
def test_every_format_gives_the_same_sentences(folder: Path, form: str, sentences: Sentences) -> None:
    """Every format gives the sentences that were written, with the same digest, in every split."""
    for split in SPLITS:
        FORMATS[form](folder / "tr", split, sentences)
        assert read(folder, split) == sentences
        assert read(folder, split).digest == sentences.digest


@pytest.mark.parametrize("form", FORMATS)
def test_language_prefix_is_removed(folder: Path, form: str) -> None:
    """The prefix ``tr:`` is removed once, and only for this language; a word that consists of it is kept."""
    words = ["tr:Ankara", "en:Paris", "tr:", "tr:tr:x", "atr:b", "TR:c"]
    FORMATS[form](folder / "tr", "train", Sentences([words], [["B-LOC", "O", "O", "O", "O", "O"]]))
    assert read(folder).words == [["Ankara", "en:Paris", "tr:", "tr:x", "atr:b", "TR:c"]]


@pytest.mark.parametrize("suffix", [".tsv", ".conll", ".txt"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text.rstrip("\n").replace("\n", "\r\n"),
        lambda text: "\n\n" + text.replace("\n\n", "\n\n\n\n") + "\n\n\n",
        lambda text: "\r\n" + text.replace("\n\n", "\n\r\n\n"),
    ],
    ids=["CRLF", "no newline at the end", "CRLF, no newline at the end", "many blank lines", "mixed line ends"],
)
def test_line_ends_and_blank_lines(folder: Path, suffix: str, change: Any) -> None:  # noqa: ANN401 - of text to text
    """Line endings of any kind, missing or repeated, do not change the sentences."""
    (folder / "tr" / f"train{suffix}").write_bytes(change(as_tsv(ODD)).encode())
    assert read(folder) == ODD


def test_identity_follows_the_content(folder: Path) -> None:
    """The identity of a split depends on the content of its file."""
    FORMATS["tsv"](folder / "tr", "train", ODD)
    before = Split(str(folder), "tr", "train").identity
    assert Split(str(folder), "tr", "train").identity == before
    FORMATS["tsv"](folder / "tr", "train", random_sentences("tr", 3))
    assert Split(str(folder), "tr", "train").identity != before


def test_identity_of_a_saved_folder_follows_its_content(folder: Path) -> None:
    """The identity of a ``save_to_disk`` folder depends on the content of its files."""
    identities = set()
    for number in (1, 2):
        as_dataset(random_sentences("tr", 3, seed=number)).save_to_disk(folder / "tr" / "train")
        identities.add(Split(str(folder), "tr", "train").identity)
    assert len(identities) == 2


def test_digest_depends_on_the_sentences() -> None:
    """The digest depends on the words, the tags, the order and the boundaries of sentences."""
    variants = [
        Sentences([["a", "b"], ["c"]], [["O", "O"], ["O"]]),
        Sentences([["a", "B"], ["c"]], [["O", "O"], ["O"]]),
        Sentences([["a", "b"], ["c"]], [["O", "B-PER"], ["O"]]),
        Sentences([["c"], ["a", "b"]], [["O"], ["O", "O"]]),
        Sentences([["a"], ["b", "c"]], [["O"], ["O", "O"]]),
        Sentences([["a", "b", "c"]], [["O", "O", "O"]]),
        # Only JSON has words such as these.
        Sentences([["a\tO\nb"], ["c"]], [["O"], ["O"]]),
        Sentences([[r"a\tO\nb"], ["c"]], [["O"], ["O"]]),
    ]
    assert len({sentences.digest for sentences in variants}) == len(variants)


def test_invalid_tags_are_kept(folder: Path) -> None:
    """Tags that are invalid under IOB2 are read unchanged."""
    (folder / "tr" / "train.tsv").write_text("a\tI-PER\nb\tI-PER\nc\tO\nd\tI-LOC\n\ne\tB-ORG\n", encoding="utf-8")
    assert read(folder).tags == [["I-PER", "I-PER", "O", "I-LOC"], ["B-ORG"]]


@pytest.mark.parametrize(("language", "split"), [("en", "train"), ("tr", "validation"), ("tr", "test")])
def test_sample(language: str, split: str) -> None:
    """The embedded sample is a source without a folder."""
    assert len(Split("sample", language, split).sentences) >= 100


def test_real_data(shared: Path) -> None:
    """Real PAN-X is read completely: 10,000 Turkish test sentences with 75,731 words."""
    sentences = Split(str(shared / "panx"), "tr", "test").sentences
    assert len(sentences) == 10_000
    assert sum(map(len, sentences.words)) == 75_731


class TestHub:
    @pytest.fixture
    def local_hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder in the layout of the data set on the hub, used in its place."""
        splits = {split: random_sentences("tr", 5, seed=seed) for seed, split in enumerate(SPLITS)}
        folder = write_hub(tmp_path / "xtreme", "tr", splits)
        monkeypatch.setattr(hub, "presets", lambda: {"panx": replace(presets()["panx"], id=str(folder))})
        return folder

    @pytest.mark.usefixtures("local_hub")
    def test_same_sentences(self) -> None:
        """Parquet files of the hub, with prefixed words and a class label, give the sentences that were written."""
        for seed, split in enumerate(SPLITS):
            found = Split("panx", "tr", split)
            assert found.sentences == random_sentences("tr", 5, seed=seed)

    @pytest.mark.usefixtures("local_hub")
    def test_missing_language(self) -> None:
        """A language of PAN-X that is missing on the hub is an error that names it."""
        assert "PAN-X.de" in message(Path("panx"), language="de")

    def test_unreachable(self) -> None:
        """Without a network, the error explains how to use a folder instead."""
        text = message(Path("panx"))
        assert text.startswith("google/xtreme PAN-X.tr cannot be loaded from the Hugging Face Hub (")
        assert "--data.source FOLDER" in text
        assert "FOLDER/<language>/train.tsv" in text

    def test_all_languages_are_known(self) -> None:
        """The 40 languages of PAN-X are known without a network."""
        languages = presets()["panx"].languages
        assert len(set(languages)) == 40
        for language in languages:
            assert str(Split("panx", language, "test")) == f"{language}/test"

    @pytest.mark.parametrize(("wrong", "meant"), [("tur", "tr"), ("eng", "en"), ("de-DE", "de"), ("trr", "tr")])
    def test_unknown_language(self, wrong: str, meant: str) -> None:
        """The error of an unknown language suggests similar ones, without a network."""
        text = message(Path("panx"), UserError, language=wrong)
        assert text.startswith(f"language {wrong!r} is not in PAN-X; did you mean ")
        assert repr(meant) in text

    def test_unknown_split(self) -> None:
        """The error of an unknown split lists the known ones."""
        assert "train, validation, test" in message(Path("panx"), UserError, split="dev")


class TestMissing:
    def test_folder(self, tmp_path: Path) -> None:
        """The error of a missing folder names it and the possible sources."""
        text = message(tmp_path / "nowhere", UserError)
        assert text.startswith(f"data.source={str(tmp_path / 'nowhere')!r} does not exist; use")
        assert "'panx', 'sample'" in text

    def test_file_in_place_of_a_folder(self, tmp_path: Path) -> None:
        """A file is not a source."""
        (tmp_path / "train.tsv").write_text("a\tO\n", encoding="utf-8")
        assert "is not a folder" in message(tmp_path / "train.tsv", UserError)

    def test_language(self, folder: Path) -> None:
        """The error of a language without a folder suggests similar ones."""
        FORMATS["tsv"](folder / "tr", "train", ODD)
        text = message(folder, UserError, language="tur")
        assert text == f"language 'tur' is not in data.source={str(folder)!r}; did you mean 'tr'? Choose from tr"

    def test_every_language(self, folder: Path) -> None:
        """The error of an empty source says that no language is available."""
        assert message(folder, UserError).endswith("; none is available")

    def test_split(self, folder: Path) -> None:
        """The error of a split without a file lists the available ones."""
        FORMATS["tsv"](folder / "tr", "train", ODD)
        text = message(folder, UserError, split="validation")
        assert text.startswith(f"split 'validation' is not in {folder / 'tr'}; ")
        assert text.endswith("or take it from the training split with data.validation_fraction=0.1")

    def test_known_format(self, folder: Path) -> None:
        """Files of other formats, hidden files and folders without a data set are not splits."""
        FORMATS["tsv"](folder / "tr", "test", ODD)
        (folder / "tr" / "train.xml").write_text("a,O\n", encoding="utf-8")
        (folder / "tr" / ".train.tsv").write_text("a\tO\n", encoding="utf-8")
        (folder / "tr" / "train").mkdir()
        assert message(folder, UserError).endswith("hoose from test")

    def test_two_formats(self, folder: Path) -> None:
        """A split in two formats is an error that names both files."""
        FORMATS["tsv"](folder / "tr", "train", ODD)
        FORMATS["save_to_disk of strings"](folder / "tr", "train", ODD)
        text = message(folder, UserError)
        assert text == f"{folder / 'tr'} contains split 'train' more than once (train, train.tsv); keep one"

    def test_vanished_file(self, folder: Path) -> None:
        """A file that is deleted before it is read is an error that names it."""
        FORMATS["tsv"](folder / "tr", "train", ODD)
        split = Split(str(folder), "tr", "train")
        (folder / "tr" / "train.tsv").unlink()
        with pytest.raises(RunError, match=r"train\.tsv cannot be read: No such file"):
            _ = split.sentences


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a\nb\n", "line 1: expected word<TAB>tag, found 1 column"),
        ("a\tO\n\n\nb\n", "line 4: expected 2 columns as on the lines before, found 1 column"),
        ("a\tO\nb\tx\tO\n", "line 2: expected 2 columns as on the lines before, found 3 columns"),
        ("\ta\tO\n", "line 1: the word is empty"),
        ("a\tO\r\nb\tPER\r\n", "line 2: unknown tag 'PER'; use O and tags such as B-PER and I-PER (IOB1, IOB2), also"),
        ("a\tE-PER\nb\tU-PER\n", "line 2: tag 'U-PER' of BILOU, after 'E-PER' of BIOES; use one scheme in a file"),
        ("a\tb-per\n", "line 1: unknown tag 'b-per'"),
        ("a\t\n", "line 1: unknown tag ''"),
        ("a\tO\nb O\n", "line 2: expected 2 columns as on the lines before, found 1 column"),
        ("a\u2028\tO\n\tO\n", "line 2: the word is empty"),
    ],
)
def test_bad_line(folder: Path, content: str, expected: str) -> None:
    """The error of a line in another form names the file and the line number as an editor counts it."""
    path = folder / "tr" / "train.tsv"
    path.write_bytes(content.encode())
    assert message(folder).startswith(f"{path}, {expected}")


@pytest.mark.parametrize("chunk", [1, 7, 40])
@pytest.mark.parametrize("form", ["tsv", "jsonl of strings"])
def test_chunks_change_nothing(folder: Path, form: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentences, and the offset of an invalid byte, do not depend on how much of a file is read at once."""
    FORMATS[form](folder / "tr", "train", ODD)
    identity = Split(str(folder), "tr", "train").identity
    monkeypatch.setattr(lines, "_CHUNK", chunk)
    split = Split(str(folder), "tr", "train")
    assert [*split.read()] == [*ODD]
    assert split.sentences == ODD
    assert split.identity == identity
    [path] = (folder / "tr").iterdir()
    content = path.read_bytes()
    path.write_bytes(content + b"\xff\n")
    assert f"offset {len(content)})" in message(folder)


@pytest.mark.parametrize(
    ("name", "valid"),
    [("train.tsv", "İstanbul\tB-LOC\n"), ("train.jsonl", '{"tokens": ["İstanbul"], "ner_tags": ["B-LOC"]}\n')],
)
def test_bad_encoding(folder: Path, name: str, valid: str) -> None:
    """The error of a file that is not UTF-8 gives the offset of the first invalid byte."""
    path = folder / "tr" / name
    path.write_bytes(valid.encode() + "Iğdir\tB-LOC\n".encode("iso-8859-9"))
    assert message(folder) == f"{path} is not UTF-8 (invalid byte at offset {len(valid.encode()) + 1}); convert it"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"tokens": ["a", "b"], "ner_tags": ["O"]}, "2 tokens but 1 ner_tags; give one tag per word"),
        ({"tokens": ["a"], "ner_tags": []}, "1 tokens but 0 ner_tags"),
        ({"tokens": [], "ner_tags": []}, "the sentence is empty"),
        ({"tokens": ["a", ""], "ner_tags": ["O", "O"]}, "the word is empty"),
        ({"tokens": ["a", 3], "ner_tags": ["O", "O"]}, "the word 3 is not a string"),
        ({"tokens": ["a", None], "ner_tags": ["O", "O"]}, "the word None is not a string"),
        ({"tokens": "ab", "ner_tags": ["O", "O"]}, "tokens is not a list"),
        ({"tokens": ["a"], "ner_tags": "O"}, "ner_tags is not a list"),
        ({"tokens": ["a"], "ner_tags": None}, "ner_tags is not a list"),
        ({"tokens": ["a"], "ner_tags": ["PER"]}, "unknown tag 'PER'; use O and tags such as B-PER"),
        (
            {"tokens": ["a"], "ner_tags": [7]},
            "the tags are integers without names; give",
        ),
        ({"tokens": ["a"], "ner_tags": [-1]}, "the tags are integers without names"),
        ({"tokens": ["a"], "ner_tags": [True]}, "unknown tag True"),
        ({"tokens": ["a"], "ner_tags": [1.0]}, "unknown tag 1.0"),
        ({"tokens": ["a"], "ner_tags": [None]}, "unknown tag None"),
        ({"tokens": ["a"], "ner_tags": [["O"]]}, "unknown tag ['O']"),
        ({"tokens": ["a"]}, 'expected {"tokens": [...], "ner_tags": [...]}'),
        ({"words": ["a"], "ner_tags": ["O"]}, 'expected {"tokens": [...], "ner_tags": [...]}'),
        (["a", "O"], 'expected {"tokens": [...], "ner_tags": [...]}'),
        (3, 'expected {"tokens": [...], "ner_tags": [...]}'),
    ],
)
def test_bad_row(folder: Path, row: object, expected: str) -> None:
    """The error of a JSON line that is not a sentence names the file and the line number, including blank lines."""
    path = folder / "tr" / "train.jsonl"
    path.write_text(as_jsonl(as_rows(ODD)) + "\n" + as_jsonl([row]), encoding="utf-8")
    assert message(folder).startswith(f"{path}, line {len(ODD) + 2}: {expected}")


def test_integers(folder: Path) -> None:
    """Integers without names are the labels of data.types, and an error where these are not given."""
    path = folder / "tr" / "train.jsonl"
    path.write_text('{"tokens": ["a", "b", "c"], "ner_tags": [3, 4, 0]}\n', encoding="utf-8")
    read_as = ReadOptions(types=("LOC", "GENE"))
    assert Split(str(folder), "tr", "train", read_as).sentences.tags == [["B-GENE", "I-GENE", "O"]]
    assert "the tags are integers without names" in message(folder)
    path.write_text('{"tokens": ["a"], "ner_tags": [5]}\n', encoding="utf-8")
    with pytest.raises(RunError, match="line 1: unknown tag 5; use a string, or 0 to 4"):
        _ = Split(str(folder), "tr", "train", read_as).sentences


@pytest.mark.parametrize("line", ['{"tokens": ["a"], "ner_tags": ["O"]', "tokens", "{'tokens': []}", '"\\x00"'])
def test_broken_json(folder: Path, line: str) -> None:
    """The error of a line that is not JSON names the file, the line number and the expected form."""
    path = folder / "tr" / "train.jsonl"
    path.write_text(as_jsonl(as_rows(ODD)) + line + "\n", encoding="utf-8")
    text = message(folder)
    assert text.startswith(f'{path}, line {len(ODD) + 1}: expected {{"tokens": [...], "ner_tags": [...]}}')


def test_lone_surrogate(folder: Path) -> None:
    """The error of a lone surrogate, which JSON can encode and UTF-8 cannot, names the file and the line number."""
    path = folder / "tr" / "train.jsonl"
    path.write_text('{"tokens": ["\\ud83d"], "ner_tags": ["O"]}\n', encoding="utf-8")
    assert message(folder).startswith(f"{path}, line 1: ")


@pytest.mark.parametrize("name", ["train.tsv", "train.conll", "train.txt", "train.jsonl"])
@pytest.mark.parametrize("content", ["", "\n\n", "\r\n"])
def test_empty_file(folder: Path, name: str, content: str) -> None:
    """A file without sentences is an error."""
    (folder / "tr" / name).write_bytes(content.encode())
    assert message(folder) == f"{folder / 'tr' / name} contains no sentences"


@pytest.mark.parametrize("form", [form for form in FORMATS if "parquet" in form or "disk" in form])
def test_empty_table(folder: Path, form: str) -> None:
    """A table without rows is an error."""
    FORMATS[form](folder / "tr", "train", Sentences([], []))
    assert message(folder).endswith(" contains no sentences")


@pytest.mark.parametrize("column", ["tokens", "ner_tags"])
@pytest.mark.parametrize("form", ["parquet", "save_to_disk"])
def test_missing_column(folder: Path, form: str, column: str) -> None:
    """The error of a missing column lists the columns of the table."""
    table = as_dataset(ODD).rename_column(column, "other")
    path = folder / "tr" / ("train.parquet" if form == "parquet" else "train")
    table.to_parquet(path) if form == "parquet" else table.save_to_disk(path)
    text = message(folder)
    assert text.startswith(f"{path} has no column {column!r}, only ")
    assert "other" in text


def test_broken_parquet(folder: Path) -> None:
    """A file that is not Parquet is an error."""
    (folder / "tr" / "train.parquet").write_bytes(b"PAR1 and nothing more")
    assert message(folder).startswith(f"{folder / 'tr' / 'train.parquet'} is not a Parquet file")


def test_broken_save_to_disk(folder: Path) -> None:
    """A ``save_to_disk`` folder with a missing file is an error."""
    as_dataset(ODD).save_to_disk(folder / "tr" / "train")
    for path in (folder / "tr" / "train").glob("*.arrow"):
        path.unlink()
    assert message(folder).startswith(f"{folder / 'tr' / 'train'} cannot be loaded as a folder written by save_to_disk")


@pytest.mark.parametrize("form", ["parquet", "save_to_disk"])
def test_bad_row_of_a_table(folder: Path, form: str) -> None:
    """The error of a row with fewer tags than words names the file and the row, counted from 0."""
    table = as_dataset(Sentences([["a"], ["b", "c"]], [["O"], ["O"]]))
    path = folder / "tr" / ("train.parquet" if form == "parquet" else "train")
    table.to_parquet(path) if form == "parquet" else table.save_to_disk(path)
    assert message(folder) == f"{path}, row 1: 2 tokens but 1 ner_tags; give one tag per word"


def test_class_label_of_another_tag_set(folder: Path) -> None:
    """The names of a class label give the entity types; one that is not a tag is an error that names it."""
    names = ["O", "B-MISC", "I-MISC", "B-PER", "I-PER"]
    as_dataset(Sentences([["a"]], [["B-MISC"]]), names).to_parquet(folder / "tr" / "train.parquet")
    assert {*Split(str(folder), "tr", "train").types} == {"MISC", "PER"}
    as_dataset(Sentences([["a"]], [["B-MISC"]]), ["O", "B-MISC", "noun"]).to_parquet(folder / "tr" / "train.parquet")
    assert [*read(folder).tags] == [["B-MISC"]]
    as_dataset(Sentences([["a"]], [["noun"]]), ["O", "B-MISC", "noun"]).to_parquet(folder / "tr" / "train.parquet")
    assert "row 0: unknown tag 'noun'" in message(folder)


@pytest.mark.parametrize(
    "change", [("IOB2", "IOB1"), ('"PER"', '"ORG"'), ('"sentences": 1', '"sentences": 9'), ("{", "")]
)
def test_damaged_survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str]) -> None:
    """What is cached of the first reading of a file is not believed when it was changed: the file is read again."""
    monkeypatch.setenv("XNER_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "data" / "tr" / "train.tsv"
    path.parent.mkdir(parents=True)
    path.write_text("Ali\tB-PER\n", encoding="utf-8")
    found = Split(str(tmp_path / "data"), "tr", "train").survey
    [cached] = (tmp_path / "cache").glob("tr-train-*.json")
    before = cached.read_text(encoding="utf-8")
    assert change[0] in before
    cached.write_text(before.replace(*change), encoding="utf-8")
    assert Split(str(tmp_path / "data"), "tr", "train").survey == found
    assert cached.read_text(encoding="utf-8") == before
