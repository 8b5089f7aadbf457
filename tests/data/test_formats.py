"""Every format and scheme gives the sentences that were written, tagged or not."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, Entities

from tests.sources import HUB_TAGS, as_dataset, as_jsonl, as_rows, as_tsv, random_sentences
from xner.data.sources import READERS, ReadOptions, Sentences, Split
from xner.data.sources.sentences import Column, Row
from xner.tags import spans
from xner.words import split_words

CONLL2003 = """-DOCSTART- -X- -X- O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
German JJ I-NP I-MISC
British JJ I-NP B-MISC
# NN I-NP O

# NN I-NP O
Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER
"""
UNER = """# newdoc id = a
# sent_id = a-1
# text = New York I-95 O
1\tNew\tB-LOC\t-\tme
2\tYork\tI-LOC\t-\tme

# sent_id = a-2
# text = # one
1\t#\tO\t-\tme
2\tone\tO\t-\tme
"""
WNUT = "@paul\tO\nEmpire\tB-location\nState\tI-location \n\t\n#fun\tO\n#\tO\n\t\nend\tO"

REAL: dict[str, tuple[str, dict[str, Column], Sentences]] = {
    "CoNLL-2003": (
        CONLL2003,
        {},
        Sentences(
            [["EU", "rejects", "German", "British", "#"], ["#", "Peter", "Blackburn"]],
            [["B-ORG", "O", "B-MISC", "B-MISC", "O"], ["O", "B-PER", "I-PER"]],
        ),
    ),
    "UNER": (
        UNER,
        {"tokens": 1, "ner_tags": 2},
        Sentences([["New", "York"], ["#", "one"]], [["B-LOC", "I-LOC"], ["O", "O"]]),
    ),
    "comments": (
        "# text = Flight I-95\nFlight O\n\n# text = I-95\n# O\nI-95 O\n\n# x\n",
        {},
        Sentences([["Flight"], ["#", "I-95"]], [["O"], ["O", "O"]]),
    ),
    "WNUT": (
        WNUT,
        {},
        Sentences(
            [["@paul", "Empire", "State"], ["#fun", "#"], ["end"]],
            [["O", "B-location", "I-location"], ["O", "O"], ["O"]],
        ),
    ),
}
"""Files as they are published, the numbers of their columns, and their sentences."""

CHANGES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "mark": lambda text: f"\ufeff{text}",
    "Windows": lambda text: text.replace("\n", "\r\n"),
    "spaces": lambda text: text.replace("\n", "  \n"),
    "no last newline": lambda text: text.rstrip("\n"),
    "blank lines": lambda text: "\n\n" + text.replace("\n\n", "\n\n\n") + "\n\n",
}


def read(folder: Path, name: str, content: str | bytes, **options: Any) -> Sentences:  # noqa: ANN401 - of ReadOptions
    """Write a training split, and read it."""
    path = folder / "tr" / name
    path.parent.mkdir(exist_ok=True)
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    try:
        return Split(str(folder), "tr", "train", ReadOptions(**options)).sentences
    finally:
        path.unlink()


def untagged(folder: Path, name: str, content: str | bytes, **options: Any) -> list[Row]:  # noqa: ANN401 - of ReadOptions
    """Read the rows of a file whose tags are not needed; ``Split`` reads the same words, all tagged O."""
    found = read(folder, name, content, tagged=False, **options)
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    rows = [*READERS[path.suffix](path, ReadOptions(tagged=False, **options)).rows]
    assert [[*row.words] for row in rows] == found.words
    assert {tag for tags in found.tags for tag in tags} == {"O"}
    return rows


def as_csv(rows: Sequence[Sequence[object]], **options: Any) -> str:  # noqa: ANN401 - of csv.writer
    file = io.StringIO()
    csv.writer(file, **options).writerows(rows)
    return file.getvalue()


def as_words(sentences: Sentences, *, filled: bool) -> list[Sequence[object]]:
    """Make a row per word, with the number of its sentence in the first row of the sentence, or in every row."""
    return [
        ("Sentence #", "Word", "POS", "Tag"),
        *(
            (f"Sentence: {number}" if filled or not place else "", word, "a\nb,", tag)
            for number, (words, tags) in enumerate(sentences)
            for place, (word, tag) in enumerate(zip(words, tags, strict=True))
        ),
    ]


def as_lists(sentences: Sentences, form: Callable[[list[str]], str]) -> list[Sequence[object]]:
    return [("id", "tokens", "ner_tags"), *((n, form(words), form(tags)) for n, (words, tags) in enumerate(sentences))]


def as_numpy(values: list[str]) -> str:
    return f"[{' '.join(map(repr, values))}]".replace("' '", "'\n '")


def with_entities(sentences: Sentences, form: Callable[[int, int, str], object]) -> list[dict[str, Any]]:
    """Make texts of words separated by spaces, with their entities."""
    rows = []
    for words, tags in sentences:
        starts = [0]
        for word in words:
            starts.append(starts[-1] + len(word) + 1)
        entities = [form(starts[first], starts[last + 1] - 1, kind) for kind, first, last in spans(tags)]
        rows.append({"text": " ".join(words), "entities": entities[::-1]})
    return rows


def doccano(start: int, end: int, kind: str) -> dict[str, object]:
    return {"id": 7, "label": kind, "start_offset": start, "end_offset": end}


def to_csv(sentences: Sentences) -> str:
    file = io.BytesIO()
    as_dataset(sentences).to_csv(file)
    return file.getvalue().decode()


KAGGLE: dict[str, Column] = {"sentence": "Sentence #", "tokens": "Word", "ner_tags": "Tag"}
NUMBERED: dict[str, Column] = {"sentence": 0, "tokens": 1, "ner_tags": -1}

WRITERS: dict[str, tuple[str, Callable[[Sentences], str], dict[str, Column]]] = {
    **{f"{suffix} of tabs": (suffix, as_tsv, {}) for suffix in (".tsv", ".conll", ".txt", ".iob2", ".iob", ".bio")},
    "spaces": (".conll", lambda sentences: as_tsv(sentences).replace("\t", " X  "), {}),
    "jsonl": (".jsonl", lambda sentences: as_jsonl(as_rows(sentences)), {}),
    "csv of words": (".csv", lambda sentences: as_csv(as_words(sentences, filled=False)), KAGGLE),
    "csv of words, every row": (".csv", lambda sentences: as_csv(as_words(sentences, filled=True)), KAGGLE),
    "csv of words, numbers": (".csv", lambda sentences: as_csv(as_words(sentences, filled=True)), NUMBERED),
    "csv of words, semicolons": (
        ".csv",
        lambda sentences: as_csv(as_words(sentences, filled=False), delimiter=";", lineterminator="\n"),
        KAGGLE,
    ),
    "csv of JSON": (".csv", lambda sentences: as_csv(as_lists(sentences, json.dumps)), {}),
    "csv of Python": (".csv", lambda sentences: as_csv(as_lists(sentences, repr)), {}),
    "csv of numpy": (".csv", lambda sentences: as_csv(as_lists(sentences, as_numpy)), {}),
    "csv of datasets": (".csv", to_csv, {}),
    "csv of spaces": (".csv", lambda sentences: as_csv(as_lists(sentences, " ".join)), {}),
    "csv of entities": (
        ".csv",
        lambda sentences: as_csv(
            [("text", "entities"), *(row.values() for row in with_entities(sentences, lambda *each: each))]  # type: ignore[list-item] # values are ordered
        ),
        {},
    ),
    "Doccano": (".jsonl", lambda sentences: as_jsonl(with_entities(sentences, doccano)), {}),
    "Doccano before": (
        ".jsonl",
        lambda sentences: as_jsonl(with_entities(sentences, lambda *each: [*each])).replace('"entities"', '"label"'),
        {},
    ),
    "spaCy": (
        ".jsonl",
        lambda sentences: as_jsonl(
            with_entities(sentences, lambda start, end, kind: {"start": start, "end": end, "label": kind})
        ),
        {},
    ),
    "named spans": (
        ".jsonl",
        lambda sentences: as_jsonl(with_entities(sentences, doccano)).replace('"text"', '"t"').replace("entities", "s"),
        {"text": "t", "entities": "s"},
    ),
}
"""A suffix, the function that formats sentences, and the columns to read, by the name of a format."""


@pytest.mark.parametrize("zipped", ["", ".gz"])
@pytest.mark.parametrize("form", WRITERS)
def test_formats(tmp_path: Path, form: str, zipped: str) -> None:
    """Each format gives the sentences that were written, compressed or not."""
    sentences = random_sentences("tr", 30)
    assert len({*map(tuple, sentences.tags)}) > 10
    suffix, write, columns = WRITERS[form]
    assert read(tmp_path, f"train{suffix}{zipped}", write(sentences), columns=columns) == sentences


@pytest.mark.parametrize("form", [form for form in WRITERS if form.startswith(("csv of J", "csv of P", "csv of n"))])
def test_words_in_lists(tmp_path: Path, form: str) -> None:
    """Words with quotes, commas, brackets, spaces and backslashes survive in the lists of a CSV file."""
    words = ["'", '"', ",", "[", "]", "' '", "a b", "\\", "\\'", "'\"", "ş\u2028", "\n", "\t", "1"]
    sentences = Sentences([["a"], words], [["O"], ["B-PER"] * len(words)])
    suffix, write, columns = WRITERS[form]
    content = write(sentences) if "numpy" not in form else write(sentences).replace("'\n '", "' '")
    assert read(tmp_path, f"train{suffix}", content, columns=columns) == sentences


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", REAL)
def test_published_files(tmp_path: Path, name: str, change: str) -> None:
    """Files as they are published are read, with other line ends, spaces and a byte-order mark as well."""
    content, columns, sentences = REAL[name]
    assert read(tmp_path, "train.conll", CHANGES[change](content), columns=columns) == sentences


def test_parquet_of_entities(tmp_path: Path) -> None:
    """Texts and entities in a Parquet file, and in a ``save_to_disk`` folder, are read."""
    import datasets
    import pyarrow
    import pyarrow.parquet

    sentences = random_sentences("tr", 30)
    rows = with_entities(sentences, doccano)
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    assert read(tmp_path, "train.parquet", file.getvalue()) == sentences
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "tr" / "train")
    assert Split(str(tmp_path), "tr", "train").sentences == sentences


def test_parquet_of_class_labels_in_another_type(tmp_path: Path) -> None:
    """Names of class labels count where other software has changed the type of the integers."""
    import pyarrow
    import pyarrow.parquet

    sentences = random_sentences("tr", 30)
    file = io.BytesIO()
    as_dataset(sentences, HUB_TAGS).to_parquet(file)
    table = pyarrow.parquet.read_table(file)
    narrow = table.schema.set(1, table.schema.field(1).with_type(pyarrow.large_list(pyarrow.int8())))
    file = io.BytesIO()
    pyarrow.parquet.write_table(table.cast(narrow), file)
    assert read(tmp_path, "train.parquet", file.getvalue()) == sentences


def test_parquet_reads_only_what_it_needs(tmp_path: Path) -> None:
    """Columns of other types beside words and tags do not matter, nor do categories in place of strings."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table(
        {
            "other": pyarrow.array([[("k", 1)]], pyarrow.map_("string", "int64")),
            "tokens": pyarrow.ListArray.from_arrays([0, 2], pyarrow.array(["a", "b"]).dictionary_encode()),
            "ner_tags": [["O", "B-X"]],
        }
    )
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)
    assert read(tmp_path, "train.parquet", file.getvalue()) == Sentences([["a", "b"]], [["O", "B-X"]])


@pytest.mark.parametrize(
    ("text", "entities", "words", "tags"),
    [
        ("Ankara'dan geldi.", [[0, 6, "LOC"]], "Ankara 'dan geldi .", "B-LOC O O O"),
        ("anti-NATO-Gegner", [[5, 9, "ORG"]], "anti- NATO -Gegner", "O B-ORG O"),
        (" Ali  Veli ", [[0, 11, "PER"]], "Ali Veli", "B-PER I-PER"),
        ("AliVeli", [[3, 7, "PER"], [0, 3, "PER"]], "Ali Veli", "B-PER B-PER"),
        ("Ali Veli", [[0, 4, "PER"], [3, 8, "LOC"]], "Ali Veli", "B-PER B-LOC"),
        ("x(New York)y", [[2, 10, "LOC"]], "x ( New York ) y", "O O B-LOC I-LOC O O"),
        ("e\u0301 👨‍👩 ok", [[0, 1, "X"], [4, 5, "Y"]], "e \u0301 👨 \u200d 👩 ok", "B-X O O B-Y O O"),
        ("a\nb", [{"type": "X", "start": 0, "end": 3}], "a b", "B-X I-X"),
        ("nothing here", [], "nothing here", "O O"),
    ],
)
def test_words_are_cut_at_entities(
    tmp_path: Path, text: str, entities: list[object], words: str, tags: str
) -> None:  # fmt: skip
    """A word that an entity begins or ends in is cut there, and white space at an entity's edges is left out."""
    row = {"text": text, "entities": entities}
    assert read(tmp_path, "train.jsonl", as_jsonl([row])) == Sentences([words.split(" ")], [tags.split(" ")])


@given(st.text(st.sampled_from("ab'. (-\n\u00a0ş😀"), max_size=30), st.data())
def test_entities_are_exact(tmp_path: Path, text: str, data: st.DataObject) -> None:
    """Whatever the text, its entities cover exactly the characters they are meant to, white space apart."""
    assume(text.strip())
    edges = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=10)))
    entities = [
        [start, end, data.draw(st.sampled_from("XY"))]
        for start, end in pairwise(edges)
        if text[start:end].strip() and data.draw(st.booleans())
    ]
    found = read(tmp_path, "train.jsonl", as_jsonl([{"text": text, "entities": data.draw(st.permutations(entities))}]))
    [(words, tags)] = found
    assert "".join(words) == "".join(text.split())
    covered = [(kind, "".join(words[first : last + 1])) for kind, first, last in spans(tags)]
    assert covered == [(kind, "".join(text[start:end].split())) for start, end, kind in entities]


def test_two_forms_of_rows(tmp_path: Path) -> None:
    """Where rows have words and a text, the words are read, unless ``data.columns`` names the text."""
    row = {"tokens": ["Ali-Veli"], "ner_tags": ["O"], "text": "Ali-Veli", "spans": [[0, 3, "PER"]]}
    assert read(tmp_path, "train.jsonl", as_jsonl([row])) == Sentences([["Ali-Veli"]], [["O"]])
    columns = {"text": "text", "entities": "spans"}
    assert read(tmp_path, "train.jsonl", as_jsonl([row]), columns=columns).words == [["Ali", "-Veli"]]


TAGS = st.lists(st.sampled_from([None, "PER", "LOC"]), min_size=1, max_size=8).flatmap(
    lambda kinds: st.lists(st.booleans(), min_size=len(kinds), max_size=len(kinds)).map(
        lambda begins: [
            "O" if kind is None else f"{'B' if begin or kind != previous else 'I'}-{kind}"
            for previous, kind, begin in zip([None, *kinds], kinds, begins, strict=False)
        ]
    )
)
"""Valid tags of a sentence under IOB2."""

ENDS = {"BIOES": "ES", "BILOU": "LU"}
SEQEVAL = {"IOB1": IOB1, "IOB2": IOB2, "BIOES": IOBES, "BILOU": BILOU}


def in_scheme(tags: Sequence[str], scheme: str) -> list[str]:
    """Write the tags of a sentence in a scheme, entity by entity."""
    written = ["O"] * len(tags)
    before = None
    for span in spans(tags):
        kind, first, last = span
        adjacent = before is not None and before.type == kind and before.last == first - 1
        for word in range(first, last + 1):
            prefix = "B" if word == first and (scheme != "IOB1" or adjacent) else "I"
            if scheme in ENDS and word == last:
                prefix = ENDS[scheme][first == last]
            written[word] = f"{prefix}-{kind}"
        before = span
    return written


def seqeval_spans(sentences: Sequence[Sequence[str]], scheme: str) -> list[list[tuple[str, int, int]]]:
    """Find the entities of sentences as seqeval does."""
    strict = Entities([[*tags] for tags in sentences], SEQEVAL[scheme]).entities
    return [[(each.tag, each.start, each.end - 1) for each in sentence] for sentence in strict]


@pytest.mark.parametrize("suffix", [".tsv", ".jsonl", ".csv"])
@pytest.mark.parametrize("scheme", SEQEVAL)
@given(st.lists(TAGS, min_size=1, max_size=5))
@example([["B-PER", "B-PER", "I-PER", "O", "B-LOC", "B-PER"]])
@example([["B-PER"], ["B-LOC", "I-LOC", "B-LOC"]])
@example([["O"]])
def test_schemes(tmp_path: Path, scheme: str, suffix: str, tags: list[list[str]]) -> None:
    """Tags in any scheme are read as IOB2, with the entities that seqeval finds in the scheme."""
    written = [in_scheme(sentence, scheme) for sentence in tags]
    words = [[f"w{place}" for place, _ in enumerate(sentence)] for sentence in tags]
    form = {".tsv": ".tsv of tabs", ".jsonl": "jsonl", ".csv": "csv of spaces"}[suffix]
    found = read(tmp_path, f"train{suffix}", WRITERS[form][1](Sentences(words, written)))
    assert found == Sentences(words, tags)
    assert seqeval_spans(written, scheme) == seqeval_spans(found.tags, "IOB2")
    assert [get_entities(sentence) for sentence in found.tags] == [[*spans(sentence)] for sentence in tags]


TEXT = "Ankara'dan geldi.\n\nAli (Veli)\n"


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("train.txt", TEXT, {}),
        ("train.txt", TEXT.replace("\n", "\r\n"), {}),
        ("train.txt", f"# A heading of several words\n{TEXT}", {}),
        ("train.txt", f"\ufeff\n{TEXT}", {"columns": {"text": "body"}}),
        ("train.jsonl", as_jsonl({"text": line} for line in TEXT.splitlines() if line), {}),
        ("train.jsonl", as_jsonl({"text": line, "label": [[0, 1, "X"]]} for line in TEXT.split("\n") if line), {}),
        ("train.csv", as_csv([("text",), *((line,) for line in TEXT.splitlines() if line)]), {}),
        (
            "train.csv",
            as_csv([("id", "t"), *((1, line) for line in TEXT.split("\n") if line)]),
            {"columns": {"text": "t"}},
        ),
    ],
)
def test_raw_text(tmp_path: Path, name: str, content: str, options: Any) -> None:  # noqa: ANN401 - of ReadOptions
    """Raw text is split into words where tags are not needed, and has none; entities cut no word."""
    rows = untagged(tmp_path, name, content, **options)
    expected = ["Ankara'dan geldi .", "Ali ( Veli )"]
    heading = ["# A heading of several words"] if "heading" in content else []
    assert [" ".join(map(str, row.words)) for row in rows] == heading + expected
    assert {row.tags for row in rows} == {None}


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("train.conll", "Ali\nVeli\n\n#fun\n", {}),
        ("train.txt", "Ali \nVeli\n\n#fun\n", {}),
        ("train.tsv", "1\tAli\n2\tVeli\n\n1\t#fun\n", {"columns": {"tokens": 1}}),
        ("train.jsonl", '{"tokens": ["Ali", "Veli"]}\n{"tokens": ["#fun"], "ner_tags": null}', {}),
        ("train.csv", "tokens\nAli Veli\n#fun\n", {}),
        ("train.csv", "tokens\n\"['Ali', 'Veli']\"\n\"['#fun']\"\n", {}),
        ("train.csv", "s,w\n1,Ali\n,Veli\n2,#fun\n", {"columns": {"sentence": "s", "tokens": "w"}}),
    ],
)
def test_words_without_tags(tmp_path: Path, name: str, content: str, options: Any) -> None:  # noqa: ANN401 - of ReadOptions
    """Words without tags are read where tags are not needed."""
    rows = untagged(tmp_path, name, content, **options)
    assert [(row.words, row.tags) for row in rows] == [(["Ali", "Veli"], None), (["#fun"], None)]


@pytest.mark.parametrize("column", ["tokens", "text"])
def test_tables_without_tags(tmp_path: Path, column: str) -> None:
    """Parquet files and ``save_to_disk`` folders without tags are read where tags are not needed."""
    import datasets

    data = datasets.Dataset.from_dict({column: [["Ali", "Veli"]] if column == "tokens" else ["Ali Veli"]})
    file = io.BytesIO()
    data.to_parquet(file)
    [row] = untagged(tmp_path, "train.parquet", file.getvalue())
    assert row == Row(["Ali", "Veli"], None, 0)
    data.save_to_disk(tmp_path / "tr" / "train")
    options = ReadOptions(tagged=False)
    assert Split(str(tmp_path), "tr", "train", options).sentences == Sentences([["Ali", "Veli"]], [["O", "O"]])


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("train.txt", "Ali B-PER\nVeli Q\n", {}),
        ("train.conll", "# sent_id = 1\nAli X B-PER\nVeli Y Q\n", {}),
        ("train.jsonl", '{"tokens": ["Ali", "Veli"], "ner_tags": ["B-PER", "Q"]}', {}),
        ("train.csv", "tokens,ner_tags\nAli Veli,B-PER Q\n", {}),
        ("train.csv", "s,w,t\n1,Ali,B-PER\n,Veli,Q\n", {"columns": {"sentence": "s", "tokens": "w", "ner_tags": "t"}}),
    ],
)
def test_tags_that_are_not_needed(tmp_path: Path, name: str, content: str, options: Any) -> None:  # noqa: ANN401 - of ReadOptions
    """Tags are kept unchecked where they are not needed."""
    [row] = untagged(tmp_path, name, content, **options)
    assert (row.words, row.tags) == (["Ali", "Veli"], ["B-PER", "Q"])


def test_text_is_split_as_the_tagger_does(tmp_path: Path) -> None:
    """The words of raw text are those of ``split_words``."""
    text = "Dr. No isn't in St. Mary's, Ankara'da 3:52 (1954)..."
    [row] = untagged(tmp_path, "train.txt", text)
    assert row.words == [word.text for word in split_words(text)]
