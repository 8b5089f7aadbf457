"""Files that cannot be read: each gives one line that names the file, and the line or row, in every format."""

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.sources import as_dataset, as_tsv, random_sentences
from xner.data.sources import READERS, ReadOptions, Split
from xner.data.sources.conll import read_conll, read_txt
from xner.errors import RunError, UserError

LONGEST = 600
"""No message is longer, the path excepted, whatever the file contains."""

LINES = [suffix for suffix, reader in READERS.items() if reader in (read_conll, read_txt)]
"""The suffixes of files with one word per line."""

WORDS = {"tokens": "Word", "ner_tags": "Tag", "sentence": "Sentence #"}
"""The columns of a CSV file with a row per word."""

NESTED = "[" * 100_000 + "]" * 100_000
DIGITS = "9" * 5000


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / "tr" / name
    path.parent.mkdir(exist_ok=True)
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def message(folder: Path, options: ReadOptions | None = None) -> str:
    """Read a training split that cannot be read, and return the error, which must be short, of one line."""
    with pytest.raises(UserError) as caught:
        _ = Split(str(folder), "tr", "train", options or ReadOptions()).sentences
    text = str(caught.value)
    assert type(caught.value) in (UserError, RunError)
    assert len(text.splitlines()) == 1
    assert len(text.replace(str(folder), "")) < LONGEST
    return text


def check(folder: Path, name: str, content: str | bytes, expected: str, **options: Any) -> None:  # noqa: ANN401 - of ReadOptions
    path = write(folder, name, content)
    assert message(folder, ReadOptions(**options)).startswith(f"{path}{expected}")


@pytest.mark.parametrize("suffix", [*LINES, ".tsv.gz"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,O\nb,O\n", ", line 1: expected word<TAB>tag, found 1 column"),
        ("a;O\n", ", line 1: expected word<TAB>tag, found 1 column"),
        ("a|O\n", ", line 1: expected word<TAB>tag, found 1 column"),
        ("a\u00a0O\n", ", line 1: expected word<TAB>tag, found 1 column"),
        ("a\tO\n\nb\tX\tO\n", ", line 3: expected 2 columns as on the lines before, found 3 columns"),
        ("a X O\nb O\n", ", line 2: expected 3 columns as on the lines before, found 2 columns"),
        ("a\tO\nb\tQ-PER\n", ", line 2: unknown tag 'Q-PER'; use O and"),
        ("a\tb-per\n", ", line 1: unknown tag 'b-per'"),
        ("a\t\n", ", line 1: unknown tag ''"),
        ("a\tB-\n", ", line 1: unknown tag 'B-'"),
        ("a\tB-\x00\n", " is not text (NUL at offset 4)"),
        ("a\tB-\x01\n", ", line 1: unknown tag 'B-\\x01'"),
        ("a\tB-x y\n", ", line 1: unknown tag 'B-x y'"),
        ("\tO\n", ", line 1: the word is empty"),
        ("\ufeffa\tO\r\n\r\nb\tQ\r\n", ", line 3: unknown tag 'Q'"),
        ("a\x00\tO\n", " is not text (NUL at offset 1); convert it to UTF-8"),
        ("a\tO\n".encode("utf-16-le"), " is not text (NUL at offset 1)"),
        ("a\tO\n".encode("utf-16"), " is not UTF-8 (invalid byte at offset 0)"),
        ("a\tO\nı\tO\n".encode("iso-8859-9"), " is not UTF-8 (invalid byte at offset 4)"),
        ("a\tO\rb\tO\r", ", line 1: found a carriage return within the line"),
        ("", " contains no sentences"),
        ("\ufeff", " contains no sentences"),
        ("\n \n\t\n\r\n", " contains no sentences"),
        ("# only\n-DOCSTART- -X- O O\n", " contains no sentences"),
        ("a\tS-PER\nb\tU-PER\n", ", line 2: tag 'U-PER' of BILOU, after 'S-PER' of BIOES; use one scheme"),
        ("a\tL-PER\n\n\nb\tE-PER\n", ", line 4: tag 'E-PER' of BIOES, after 'L-PER' of BILOU; use one scheme"),
        ("a\tO\n" + "x" * 50_000 + "\n", ", line 2: expected 2 columns"),
        ("a\tB-" + "x " * 50_000 + "\n", ", line 1: unknown tag 'B-x x"),
    ],
)
def test_lines(tmp_path: Path, suffix: str, content: str | bytes, expected: str) -> None:
    """A bad line of a file with one word per line is named by its number."""
    check(tmp_path, f"train{suffix}", content, expected)


@pytest.mark.parametrize("zipped", ["", ".gz"])
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tokens", "expected {"),
        ("{'tokens': ['a'], 'ner_tags': ['O']}", "expected {"),
        ('{"tokens": ["a"], "ner_tags": ["O"]', "expected {"),
        ('["a", "O"]', "expected {"),
        ("3", "expected {"),
        ("null", "expected {"),
        (NESTED, "expected {"),
        ('{"tokens": ["a"], "ner_tags": ' + NESTED + "}", "expected {"),
        ('{"tokens": ["a"], "ner_tags": [' + "[" * 500 + "]" * 500 + "]}", "unknown tag [[[[...]]]]"),
        ('{"tokens": ["a"], "ner_tags": [' + DIGITS + "]}", "expected {"),
        ('{"tokens": ["a"], "ner_tags": [' + DIGITS[:4000] + "]}", "the tags are integers without names"),
        ('{"tokens": ["a"], "ner_tags": [NaN]}', "unknown tag nan"),
        ('{"tokens": ["a"], "ner_tags": [true]}', "unknown tag True; use a string"),
        ('{"tokens": ["a"], "ner_tags": [7]}', "the tags are integers without names"),
        ('{"tokens": ["a"], "ner_tags": [-1]}', "the tags are integers without names"),
        ('{"tokens": ["a"], "ner_tags": [null]}', "unknown tag None"),
        ('{"tokens": ["a"], "ner_tags": [["O"]]}', "unknown tag ['O']"),
        ('{"tokens": ["a"], "ner_tags": [{"O": 1}]}', "unknown tag {'O': 1}"),
        ('{"tokens": ["a"], "ner_tags": ["Q"]}', "unknown tag 'Q'"),
        ('{"tokens": ["a"], "ner_tags": "O"}', "ner_tags is not a list"),
        ('{"tokens": ["a"], "ner_tags": null}', "ner_tags is not a list"),
        ('{"tokens": {"a": 1}, "ner_tags": ["O"]}', "tokens is not a list"),
        ('{"tokens": ["a"], "ner_tags": []}', "1 tokens but 0 ner_tags"),
        ('{"tokens": [], "ner_tags": []}', "the sentence is empty"),
        ('{"tokens": [""], "ner_tags": ["O"]}', "the word is empty"),
        ('{"tokens": [3], "ner_tags": ["O"]}', "the word 3 is not a string"),
        ('{"tokens": [' + DIGITS[:4000] + '], "ner_tags": ["O"]}', "the word 999"),
        ('{"tokens": [["a"]], "ner_tags": ["O"]}', "the word ['a'] is not a string"),
        ('{"tokens": [null], "ner_tags": ["O"]}', "the word None is not a string"),
        ('{"tokens": ["\\u0000"], "ner_tags": ["O"]}', "the word '\\x00' contains NUL"),
        ('{"tokens": ["\\ud83d"], "ner_tags": ["O"]}', "'\\ud83d' contains a lone surrogate"),
        ('{"tokens": ["a"], "tags": ["O"]}', "expected {"),
        ('{"tokens": ["a"], "ner_tags": ["U-PER"]}', "tag 'U-PER' of BILOU, after 'S-PER' of BIOES"),
        ('{"text": "a", "entities": []}', "expected {"),
    ],
)
def test_json_lines(tmp_path: Path, zipped: str, line: str, expected: str) -> None:
    """A bad line of JSON is named by its number, blank lines counted, with Windows line ends and a mark as well."""
    good = '\ufeff{"tokens": ["a"], "ner_tags": ["S-PER"]}\r\n\r\n'
    check(tmp_path, f"train.jsonl{zipped}", f"{good}{line}\r\n", f", line 3: {expected}")


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        ('{"words": ["a"], "ner_tags": ["O"]}', {}, ", line 1 has no column 'tokens', only words, ner_tags; name"),
        ('{"tokens": ["a"], "tags": ["O"]}', {}, ", line 1 has no column 'ner_tags', only tokens, tags; name"),
        ('{"tokens": ["a"]}', {"columns": {"tokens": 0}}, ", line 1 has no column 0, only tokens"),
        ('{"text": "a"}', {}, ", line 1 has no column 'entities', only text; name"),
        ('{"text": "a", "label": []}', {"columns": {"entities": "spans"}}, ", line 1 has no column 'spans', only text"),
        ("{}", {}, ", line 1 has no column 'tokens', only ; name"),
        (json.dumps({"x" * 10**6: 1, "a\nb": 2}), {}, ", line 1 has no column 'tokens', only 'xxx"),
        (json.dumps(dict.fromkeys(map(str, range(10**5)))), {}, ", line 1 has no column 'tokens', only 0, 1, 2"),
        ("", {}, " contains no sentences"),
        ("\n \n", {}, " contains no sentences"),
        (b'{"tokens": ["\xff"]}', {}, " is not UTF-8 (invalid byte at offset 13)"),
    ],
)
def test_json_files(tmp_path: Path, content: str | bytes, options: Any, expected: str) -> None:  # noqa: ANN401 - of ReadOptions
    """Columns that do not exist are an error that lists those of the first row."""
    check(tmp_path, "train.jsonl", content, expected, **options)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize(
    ("entity", "expected"),
    [
        ([0, 99, "PER"], "entity [0, 99, 'PER'] is not within the text of 14 characters; use 0 <= start < end <= 14"),
        ([-1, 2, "PER"], "entity [-1, 2, 'PER'] is not within the text"),
        ([3, 2, "PER"], "entity [3, 2, 'PER'] is not within the text"),
        ([3, 3, "PER"], "entity [3, 3, 'PER'] is empty"),
        ([3, 4, "PER"], "entity [3, 4, 'PER'] is empty"),
        ([1, 6, "LOC"], "entity [1, 6, 'LOC'] overlaps entity [0, 3, 'PER']; keep one of them"),
        ([0, 3, "PER"], "entity [0, 3, 'PER'] overlaps entity [0, 3, 'PER']"),
        ([5.0, 6, "PER"], "start and end of entity [5.0, 6, 'PER'] are not integers"),
        ([True, 3, "PER"], "start and end of entity [True, 3, 'PER'] are not integers"),
        (["4", "6", "PER"], "start and end of entity ['4', '6', 'PER'] are not integers"),
        ([4, None, "PER"], "start and end of entity [4, None, 'PER'] are not integers"),
        ([4, 6, "O"], "the label 'O' of entity [4, 6, 'O'] is not an entity type; use a name without spaces, not O"),
        ([4, 6, "First Name"], "the label 'First Name' of entity [4, 6, 'First Name'] is not an entity type"),
        ([4, 6, ""], "the label '' of entity [4, 6, ''] is not an entity type"),
        ([4, 6, None], "the label None of entity [4, 6, None] is not an entity type"),
        ([4, 6], "entity [4, 6] is not of the form"),
        ("PER", "entity 'PER' is not of the form"),
        (None, "entity None is not of the form"),
        ({"start": 4, "label": "PER"}, "start and end of entity {'label': 'PER', 'start': 4} are not integers"),
        ([4, 6, "x" * 10**6 + " "], "the label 'xxx"),
    ],
)
def test_entities(tmp_path: Path, form: str, entity: object, expected: str) -> None:
    """An entity that is not one is an error with its file, its line or row, and the entity."""
    text, good = "Ali Ankara'da ", [0, 3, "PER"]
    rows = [{"text": "a", "entities": []}, {"text": text, "entities": [entity, good]}]
    path = write(tmp_path, f"train.{form}", "")
    if form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        cells = [json.dumps(row["entities"]).replace('"', '""') for row in rows]
        path.write_text(f'text,entities\na,"{cells[0]}"\n{text},"{cells[1]}"\n', encoding="utf-8")
    assert message(tmp_path).startswith(f"{path}, line {2 if form == 'jsonl' else 3}: {expected}")


@pytest.mark.parametrize(
    ("entity", "expected"),
    [
        ({"start": 0, "end": 4, "label": "PER"}, "{'end': 4, 'label': 'PER', 'start': 0} is not within the text of 3"),
        ({"start": 0, "end": None, "label": "PER"}, "{'end': None, 'label': 'PER', 'start': 0} are not integers"),
        ({"start": 0.0, "end": 1.0, "label": "PER"}, "{'end': 1.0, 'label': 'PER', 'start': 0.0} are not integers"),
        ({"start": 0, "label": "PER"}, "{'label': 'PER', 'start': 0} are not integers"),
        ([0, 3], "[0, 3] is not of the form"),
        (3, "3 is not of the form"),
        (None, "None is not of the form"),
    ],
)
def test_entities_of_parquet(tmp_path: Path, entity: object, expected: str) -> None:
    """An entity of a Parquet file that is not one is an error with its row."""
    path = write(tmp_path, "train.parquet", b"")
    rows = [{"text": "Ali", "entities": []}, {"text": "Ali", "entities": [entity]}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    text = message(tmp_path)
    assert text.startswith(f"{path}, row 1: ")
    assert expected in text


@pytest.mark.parametrize(
    ("text", "entities", "expected"),
    [
        (3, [], "the text 3 is not a string"),
        (None, [], "the text None is not a string"),
        ("a", None, "entities None are not a list; use [{"),
        ("a", {}, "entities {} are not a list"),
        ("a", "PER", "entities 'PER' are not a list"),
        (" \n", [], "the sentence is empty"),
        ("a\0", [], "the word 'a\\x00' contains NUL"),
        ("\ud83d", [], "'\\ud83d' contains a lone surrogate"),
    ],
)
def test_texts(tmp_path: Path, text: object, entities: object, expected: str) -> None:
    """A text that is not one is an error."""
    row = json.dumps({"text": text, "entities": entities})
    check(tmp_path, "train.jsonl", row, f", line 1: {expected}")


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        ("", {}, " contains no sentences"),
        ("\ufeff\r\n\r\n", {}, " contains no sentences"),
        ("tokens,ner_tags\n", {}, " contains no sentences"),
        ("tokens,ner_tags\n,\n", {}, " contains no sentences"),
        ("Word,Tag\na,O\n", {}, " has no column 'tokens', only Word, Tag; name its columns with --data.columns"),
        ("tokens|ner_tags\na|O\n", {}, " has no column 'tokens', only tokens|ner_tags; name"),
        ("x" * 10**6 + "\na\n", {}, " has no column 'tokens', only 'xxx"),
        ("tokens,Tag\na,O\n", {}, " has no column 'ner_tags', only tokens, Tag; name"),
        ("Word,Tag\na,O\n", {"columns": WORDS}, " has no column 'Sentence #', only Word, Tag"),
        ("Sentence #,Word\n1,a\n", {"columns": WORDS}, " has no column 'Tag', only Sentence #, Word"),
        ("tokens,ner_tags\na,O\n", {"columns": {"tokens": 2}}, None),
        ("tokens,ner_tags\na\n", {}, ", line 2: expected 2 columns as in the header, found 1"),
        ("tokens,ner_tags\na,O\nb,O,O\n", {}, ", line 3: expected 2 columns as in the header, found 3"),
        ('tokens,ner_tags,x\na,O,"1\n2\n3"\nb,Q,4\n', {}, ", line 5: unknown tag 'Q'"),
        ('tokens,ner_tags\n"a,O\nb,O\n', {}, ", line 2: the row is not CSV (unexpected end of data)"),
        ('tokens,ner_tags\n"a"b,O\n', {}, ", line 2: the row is not CSV ("),
        ("tokens,ner_tags\ra,O\r", {}, ", line 1: the row is not CSV ("),
        ("tokens,ner_tags\na b,O\n", {}, ", line 2: 2 tokens but 1 ner_tags"),
        ("tokens,ner_tags\na,\n", {}, ", line 2: 1 tokens but 0 ner_tags"),
        ("tokens,ner_tags\n,O\n", {}, ", line 2: 0 tokens but 1 ner_tags"),
        ("tokens,ner_tags\r\na,O\r\nb,Q\r\n", {}, ", line 3: unknown tag 'Q'"),
        ("tokens,ner_tags\na\0,O\n", {}, " is not text (NUL at offset 17)"),
        ('tokens,ner_tags\n"[""a""]",[O]\n', {}, ", line 2: unknown tag '[O]'"),
        (
            "tokens,ner_tags\n['a'],['O']\nb,['O']\n",
            {},
            ", line 3: tokens 'b' is not a list, as it is in the first row",
        ),
        ("tokens,ner_tags\n['a'],['O']\n['b'],O\n", {}, ", line 3: ner_tags 'O' is not a list, as it is in the first"),
        ("tokens,ner_tags\n['a'],['O']\n['a'b'],['O']\n", {}, ", line 3: tokens \"['a'b']\" is not a list"),
        ("tokens,ner_tags\n['a'],['O']\n['a''b'],['O']\n", {}, ", line 3: tokens \"['a''b']\" is not a list"),
        ("tokens,ner_tags\n['a'],['O']\n['a' ... 'b'],['O']\n", {}, ", line 3: tokens \"['a' ... 'b']\" is not a list"),
        ("tokens,ner_tags\n['a'],['O']\n['\\N{x}'],['O']\n", {}, ", line 3: tokens "),
        ("tokens,ner_tags\n['a'],['O']\n[print('a')],['O']\n", {}, ", line 3: tokens \"[print('a')]\" is not a list"),
        ("tokens,ner_tags\n['a'],['O']\n['a' 'b'],['B-PER' 'Q']\n", {}, ", line 3: unknown tag 'Q'"),
        (f"tokens,ner_tags\n['a'],['O']\n{NESTED},['O']\n", {}, ", line 3: tokens '[[["),
        (f"tokens,ner_tags\n['a'],['O']\n['a'],[{DIGITS}]\n", {}, ", line 3: ner_tags '[999"),
        ("tokens,ner_tags\n['a'],['O']\n['a'],[9]\n", {}, ", line 3: the tags are integers without names"),
        (f"text,entities\na,{NESTED}\n", {}, ", line 2: entit"),
        ("text,entities\na,f()\n", {}, ", line 2: entities 'f()' are not a list in JSON or Python"),
        ("Sentence #,Word,Tag\n1,a,O\n,b,Q\n", {"columns": WORDS}, ", line 3: unknown tag 'Q'"),
        ("Sentence #,Word,Tag\n1,a,O\n\n,b,O\n,,O\n", {"columns": WORDS}, ", line 5: the word is empty"),
        ('Sentence #,Word,Tag,x\n1,a,O,"\n\n"\n,b,Q,y\n', {"columns": WORDS}, ", line 5: unknown tag 'Q'"),
        ("Sentence #,Word,Tag\n1,a,S-X\n\n2,b,U-X\n", {"columns": WORDS}, ", line 4: tag 'U-X' of BILOU, after 'S-X'"),
        (b"tokens,ner_tags\n\xff,O\n", {}, " is not UTF-8 (invalid byte at offset 16)"),
    ],
)
@pytest.mark.parametrize("zipped", ["", ".gz"])
def test_csv(tmp_path: Path, zipped: str, content: str | bytes, options: Any, expected: str | None) -> None:  # noqa: ANN401 - of ReadOptions
    """A bad row of a CSV file is named by its first line, also after cells of several lines."""
    path = write(tmp_path, f"train.csv{zipped}", content)
    start = f"{path}{expected}" if expected else f"data.columns={{tokens: 2}} is not the number of a column of {path}"
    assert message(tmp_path, ReadOptions(**options)).startswith(start)


def table(**columns: Any) -> pyarrow.Table:  # noqa: ANN401 - arrays of any type
    return pyarrow.table({"tokens": [["a"], ["b"]], "ner_tags": [["O"], ["O"]]} | columns)


@pytest.mark.parametrize("zipped", ["", ".gz"])
@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"tokens": pyarrow.array([[("a", 1)]] * 2, pyarrow.map_("string", "int64"))}, ", row 0: the word ('a', 1) is"),
        (
            {"ner_tags": pyarrow.array([[("O", 1)]] * 2, pyarrow.map_("string", "int64"))},
            ", row 0: unknown tag ('O', 1)",
        ),
        ({"tokens": [3, 4]}, ", row 0: tokens is not a list"),
        ({"tokens": ["a", "b"]}, ", row 0: tokens is not a list"),
        ({"tokens": [["a"], None]}, ", row 1: tokens is not a list"),
        ({"tokens": [["a"], [None]]}, ", row 1: the word None is not a string"),
        ({"tokens": [["a"], [""]]}, ", row 1: the word is empty"),
        ({"tokens": [["a"], []]}, ", row 1: 0 tokens but 1 ner_tags"),
        ({"tokens": [[["a"]], [["b"]]]}, ", row 0: the word ['a'] is not a string"),
        ({"tokens": [[b"a"], [b"b"]]}, ", row 0: the word b'a' is not a string"),
        ({"tokens": [[1.5], [2.5]]}, ", row 0: the word 1.5 is not a string"),
        ({"tokens": [{"x": 1}, {"x": 2}]}, ", row 0: tokens is not a list"),
        ({"ner_tags": [0, 1]}, ", row 0: ner_tags is not a list"),
        ({"ner_tags": [["O"], None]}, ", row 1: ner_tags is not a list"),
        ({"ner_tags": [[0], [7]]}, ", row 0: the tags are integers without names"),
        ({"ner_tags": [[0], [-1]]}, ", row 0: the tags are integers without names"),
        ({"ner_tags": [[0], [None]]}, ", row 0: the tags are integers without names"),
        ({"ner_tags": [[[0]], [[0]]]}, ", row 0: unknown tag [0]"),
        ({"ner_tags": [[0.0], [0.0]]}, ", row 0: unknown tag 0.0"),
        ({"ner_tags": [["O"], ["Q"]]}, ", row 1: unknown tag 'Q'"),
        ({"ner_tags": [["S-X"], ["U-X"]]}, ", row 1: tag 'U-X' of BILOU, after 'S-X' of BIOES"),
        (
            {"tokens": pyarrow.ListArray.from_arrays([0, 1, 2], pyarrow.array([b"\xff"] * 2).view("string"))},
            " cannot be read: 'utf-8' codec can't decode byte 0xff",
        ),
    ],
)
def test_parquet_values(tmp_path: Path, zipped: str, columns: Any, expected: str) -> None:  # noqa: ANN401 - arrays of any type
    """A value of another type in a Parquet file is an error with its row, counted from 0."""
    path = write(tmp_path, "train.parquet", b"")
    pyarrow.parquet.write_table(table(**columns), path)
    if zipped:
        path = write(tmp_path, "train.parquet.gz", path.read_bytes())
        path.with_suffix("").unlink()
    assert message(tmp_path).startswith(f"{path}{expected}")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (b"{", " has damaged metadata of datasets: "),
        (b"\xff", " has damaged metadata of datasets: "),
        (b"[]", " has damaged metadata of datasets: "),
        (NESTED.encode(), " has damaged metadata of datasets: "),
        (b'{"info": []}', " has damaged metadata of datasets: "),
        (b'{"info": {"features": [1]}}', " has damaged metadata of datasets: "),
        (b'{"info": {"features": {"ner_tags": 3}}}', " has damaged metadata of datasets: "),
        (b'{"info": {"features": {"ner_tags": {"feature": {"names": 3}}}}}', " has damaged metadata of datasets: "),
        (b'{"info": {"features": {"ner_tags": {"feature": {"names": "OB"}}}}}', " has damaged metadata of datasets: "),
        (b'{"info": {"features": {"ner_tags": {"feature": {"names": [1]}}}}}', " has damaged metadata of datasets: "),
        (b'{"info": {"features": {"ner_tags": {"feature": {"names": ["Q"]}}}}}', ", row 0: unknown tag 'Q'"),
    ],
)
def test_parquet_metadata(tmp_path: Path, metadata: bytes, expected: str) -> None:
    """Damaged metadata of ``datasets``, which hold the names of tags, are an error."""
    path = write(tmp_path, "train.parquet", b"")
    integers = table(ner_tags=[[0], [0]]).replace_schema_metadata({b"huggingface": metadata})
    pyarrow.parquet.write_table(integers, path)
    assert message(tmp_path).startswith(f"{path}{expected}")


@pytest.mark.parametrize("zipped", ["", ".gz"])
@pytest.mark.parametrize("change", [lambda whole: b"", lambda whole: whole[:100], lambda whole: b"PAR1" + b"\0" * 50])
def test_damaged_parquet(tmp_path: Path, zipped: str, change: Callable[[bytes], bytes]) -> None:
    """A file that is not Parquet, or a part of one, is an error."""
    path = write(tmp_path, "train.parquet", b"")
    pyarrow.parquet.write_table(table(), path)
    content = change(path.read_bytes())
    path.unlink()
    path = write(tmp_path, f"train.parquet{zipped}", content)
    assert message(tmp_path).startswith(f"{path} is not a Parquet file: ")


@pytest.mark.parametrize("place", range(4, 400, 7))
def test_damaged_bytes_of_parquet(tmp_path: Path, place: int) -> None:
    """Whatever byte of a Parquet file is damaged, it is read or gives one line that names it."""
    path = write(tmp_path, "train.parquet", b"")
    pyarrow.parquet.write_table(table(), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    text = str(path)
    try:
        _ = Split(str(tmp_path), "tr", "train").sentences
    except UserError as error:
        text = str(error)
    assert text.startswith(str(path))
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json"])
@pytest.mark.parametrize("content", ["", "[]", "{}", "3", "null", "{", NESTED, "\udcff", "directory", "missing"])
def test_saved(tmp_path: Path, name: str, content: str) -> None:
    """A ``save_to_disk`` folder with a damaged file is an error, or is read where the file is not needed."""
    folder = tmp_path / "tr" / "train"
    as_dataset(random_sentences("tr", 3)).save_to_disk(folder)
    path = folder / name
    path.unlink()
    if content == "directory":
        path.mkdir()
    elif content != "missing":
        path.write_bytes(content.encode(errors="surrogateescape"))
    if (name, content) == ("dataset_info.json", "{}"):
        assert len(Split(str(tmp_path), "tr", "train").sentences) == 3
    elif name == "state.json" and content in ("directory", "missing"):
        assert message(tmp_path).startswith("language 'tr' is not in ")
    else:
        assert message(tmp_path).startswith(f"{folder} cannot be loaded as a folder written by save_to_disk: ")


@pytest.mark.parametrize("suffix", [suffix for suffix in READERS if suffix])
def test_types(tmp_path: Path, suffix: str) -> None:
    """A type that ``data.types`` does not have is an error in every format."""
    rows = {"tokens": [["a"]], "ner_tags": [["B-MISC"]]}
    path = write(tmp_path, f"train{suffix}", "a\tB-MISC\n")
    if suffix == ".jsonl":
        write(tmp_path, path.name, '{"tokens": ["a"], "ner_tags": ["B-MISC"]}\n')
    elif suffix == ".csv":
        write(tmp_path, path.name, "tokens,ner_tags\na,B-MISC\n")
    elif suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table(rows), path)
    text = message(tmp_path, ReadOptions(types=("PER", "LOC")))
    place = {".csv": "line 2", ".parquet": "row 0"}.get(suffix, "line 1")
    assert text.startswith(
        f"{path}, {place}: the entity type 'MISC' of tag 'B-MISC' is not in data.types; use PER, LOC"
    )


@pytest.mark.parametrize("suffix", [suffix for suffix in READERS if suffix])
def test_folder_in_place_of_a_file(tmp_path: Path, suffix: str) -> None:
    """A folder with a file's name is no split, and a file that becomes one is an error that names it."""
    path = tmp_path / "tr" / f"train{suffix}"
    path.mkdir(parents=True)
    assert message(tmp_path) == f"language 'tr' is not in data.source={str(tmp_path)!r}; none is available"
    with pytest.raises(RunError, match="Is a directory") as caught:
        _ = [*READERS[suffix](path, ReadOptions()).rows]
    assert str(caught.value).startswith(f"{path} ")


@pytest.mark.parametrize("suffix", [suffix for suffix in READERS if suffix])
@pytest.mark.parametrize("damage", ["truncated", "not gzip", "checksum", "bits"])
def test_damaged_gzip(tmp_path: Path, suffix: str, damage: str) -> None:
    """A compressed file that is truncated or damaged is an error that names it."""
    whole = bytearray(gzip.compress(as_tsv(random_sentences("tr", 1000)).encode()))
    if damage == "truncated":
        whole = whole[:-20]
    elif damage == "not gzip":
        whole[0] = 0
    elif damage == "checksum":
        whole[-5] ^= 0xFF
    else:
        whole[len(whole) // 2 :] = b"\xff" * (len(whole) // 2)
    path = tmp_path / "tr" / f"train{suffix}.gz"
    path.parent.mkdir()
    path.write_bytes(whole)
    kind = "is not a Parquet file" if suffix == ".parquet" else "cannot be decompressed"
    # The first chunk is parsed before the end of the file is reached, but no more than that.
    assert message(tmp_path).startswith(f"{path} {kind}")


def seconds(folder: Path, name: str, content: str) -> float:
    path = write(folder, name, content)
    start = time.perf_counter()
    message(folder)
    path.unlink()
    return time.perf_counter() - start


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.tsv", lambda size: "word\tB-PER\n" * size + "word\tQ\n"),
        (
            "train.jsonl",
            lambda size: json.dumps({"tokens": ["word"] * size, "ner_tags": ["B-PER"] * (size - 1) + ["Q"]}),
        ),
        (
            "train.jsonl",
            lambda size: json.dumps(
                {"text": "word " * size, "entities": [[n * 5 + 1, n * 5 + 3, "X"] for n in range(size)] + [[9, 8, "X"]]}
            ),
        ),
        ("train.csv", lambda size: f"tokens,ner_tags\n{'word ' * size},{'B-PER ' * (size - 1) + 'Q'}\n"),
        (
            "train.csv",
            lambda size: f'tokens,ner_tags\n"[{", ".join(["""word"""] * size)}]",[{" ".join(["O"] * size)}]\n',
        ),
    ],
    ids=["tsv", "jsonl", "entities", "csv", "csv of lists"],
)
def test_long_sentences(tmp_path: Path, name: str, content: Callable[[int], str]) -> None:
    """A sentence of half a million words takes a time that grows as its length does."""
    short, long = (seconds(tmp_path, name, content(size)) for size in (50_000, 500_000))
    assert long < 40 * short + 1


@pytest.mark.parametrize("suffix", [suffix for suffix in READERS if suffix not in ("", ".parquet")])
def test_long_lines(tmp_path: Path, suffix: str) -> None:
    """A line of 50 MB gives a short message."""
    check(tmp_path, f"train{suffix}", "x" * 50_000_000, "")


def test_long_words(tmp_path: Path) -> None:
    """A tag of 50 MB gives a short message."""
    check(tmp_path, "train.tsv", f"a\t{'x' * 50_000_000}\n", ", line 1: unknown tag 'xxx")


@pytest.mark.parametrize("name", ["train.tsv", "train.txt", "train.csv.gz", "train.jsonl", "train.parquet"])
def test_pipes(tmp_path: Path, name: str) -> None:
    """A pipe, at which a reader would wait for ever, is no file."""
    (tmp_path / "tr").mkdir()
    os.mkfifo(tmp_path / "tr" / name)
    assert message(tmp_path) == f"{tmp_path / 'tr' / name} is not a regular file; write its content into one"


@pytest.mark.parametrize("name", ["../train/data-00000-of-00001.arrow", "/etc/passwd", "x/../y", 3])
def test_saved_elsewhere(tmp_path: Path, name: object) -> None:
    """The ``state.json`` of a folder names no file outside of it."""
    folder = tmp_path / "tr" / "train"
    as_dataset(random_sentences("tr", 3)).save_to_disk(folder)
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    state["_data_files"] = [{"filename": name}]
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")
    assert message(tmp_path).startswith(f"{folder} cannot be loaded as a folder written by save_to_disk: ")


def test_million_words(tmp_path: Path) -> None:
    """A file without blank lines, which is one sentence, is refused with its line before it is encoded."""
    path = write(tmp_path, "train.tsv", "a\tO\n\n" + "b\tO\n" * 1_000_000)
    text = message(tmp_path)
    assert text == f"{path}, line 3: the sentence has 1,000,000 words, more than 50,000; split it into sentences"
