"""What ``predict`` writes: in every format, of every kind of input, on any number of processes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

from tests.cli.fits import LEARN, keep
from tests.cli.test_processes import run as run_processes
from tests.cli.test_processes import words as command_of
from tests.commands import Run, assert_one_line, options
from tests.sources import as_jsonl, as_rows, as_tsv, random_sentences
from xner.cli.main import main
from xner.data.sources import Sentences, Split
from xner.tags import spans

TR = "--data.languages=[tr]"


@pytest.fixture(scope="module")
def model(source: Path, still_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose predictions differ from word to word."""
    root = tmp_path_factory.mktemp("fit")
    learn = ["--data.languages=[en,tr]", "--trainer.max_epochs=8", "--model.learning_rate=1e-2"]
    main(["fit", *options(source, still_backbone, root), *learn])
    return root / "model"


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def predicted(run: Run, model: Path, source: Path, root: Path, *flags: object, name: str = "tr-test") -> list[Any]:
    """The rows that ``predict`` writes about a Turkish source."""
    outcome = run("predict", *options(source, model, root), TR, *flags)
    assert outcome.code == 0, outcome
    assert f"predictions: {root / name}.jsonl" in outcome.out.splitlines()
    return rows_of(root / f"{name}.jsonl")


def written(folder: Path) -> list[str]:
    """The files of predictions in a folder, complete or not."""
    return sorted(path.name for path in folder.glob("*") if path.is_file())


def folder_of(root: Path, name: str, content: str) -> Path:
    """Write the one file of a Turkish folder source."""
    (root / "source" / "tr").mkdir(parents=True)
    (root / "source" / "tr" / name).write_text(content, encoding="utf-8")
    return root / "source"


class TestJsonl:
    def test_content(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        """Sentences are in order and numbered, with their own tags; tags and scores are those of transformers alone."""
        rows = predicted(run, model, source, tmp_path)
        sentences = Split(str(source), "tr", "test").sentences
        assert [[*row] for row in rows] == [["id", "tokens", "ner_tags", "predicted_tags", "scores", "entities"]] * 40
        assert [row["id"] for row in rows] == [*range(40)]
        assert [row["tokens"] for row in rows] == sentences.words
        assert [row["ner_tags"] for row in rows] == sentences.tags
        assert len({tag for row in rows for tag in row["predicted_tags"]}) > 2
        tokenizer = AutoTokenizer.from_pretrained(model)
        network = AutoModelForTokenClassification.from_pretrained(model).eval()
        for row in rows:
            pieces = tokenizer(row["tokens"], is_split_into_words=True, return_tensors="pt")
            first = [pieces.word_ids().index(word) for word in range(len(row["tokens"]))]
            with torch.no_grad():
                best = network(**pieces).logits[0, first].softmax(dim=-1).max(dim=-1)
            assert row["predicted_tags"] == [network.config.id2label[int(label)] for label in best.indices]
            assert row["scores"] == pytest.approx(best.values.tolist(), abs=6e-5)
            assert all(score == round(score, 4) for score in row["scores"])

    def test_entities(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        """Entities are the spans of the predicted tags; the score is the lowest of their words'."""
        rows = predicted(run, model, source, tmp_path)
        assert sum(len(row["entities"]) for row in rows) > 10
        for row in rows:
            assert [(each["type"], each["first"], each["last"]) for each in row["entities"]] == spans(
                row["predicted_tags"]
            )
            for each in row["entities"]:
                own = slice(each["first"], each["last"] + 1)
                assert each["text"] == " ".join(row["tokens"][own])
                assert each["score"] == min(row["scores"][own])

    @pytest.mark.parametrize("name", ["id", "sent id"])
    def test_ids(self, run: Run, model: Path, tmp_path: Path, name: str) -> None:
        """Identifiers of any kind are copied; a sentence without one has its number."""
        ids = ["b-1", 7, None, "ç\u2028", "\ud800", [1]]
        rows = [{name: each, "tokens": ["Ankara", "ve"]} for each in ids]
        source = folder_of(tmp_path, "test.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        flags = [] if name == "id" else ["--data.columns={id: sent id}"]
        found = predicted(run, model, source, tmp_path / "run", *flags)
        assert [row["id"] for row in found] == ["b-1", 7, 2, "ç\u2028", "\ud800", [1]]

    def test_few_ids(self, run: Run, model: Path, tmp_path: Path) -> None:
        """Lines differ in whether they have identifiers and tags, unless a column is asked for."""
        rows: list[dict[str, object]] = [{"tokens": ["bir"]}, {"id": "x", "tokens": ["ve"], "ner_tags": ["O"]}]
        source = folder_of(tmp_path, "test.jsonl", as_jsonl([*rows, rows[0]]))
        found = predicted(run, model, source, tmp_path / "run")
        assert [(row["id"], row.get("ner_tags")) for row in found] == [(0, None), ("x", ["O"]), (2, None)]
        flags = [*options(source, model, tmp_path / "other"), TR, "--data.columns={id: key}"]
        assert_one_line(run("predict", *flags), 1, f"{source / 'tr' / 'test.jsonl'}, line 1 has no column 'key'")

    @pytest.mark.parametrize(
        ("content", "columns", "ids"),
        [
            ("id,tokens\nx,Ankara ve\n,bir\n", "{}", ["x", 1]),
            ("key;text\nx;Ankara ve\n[2];bir\n", "{id: key}", ["x", "[2]"]),
            ("n,id,tokens,ner_tags\n1,x,Ankara,B-GPE\n1,y,ve,O\n2,,bir,O\n", "{sentence: n}", ["x", 1]),
        ],
        ids=["sentences", "text", "words"],
    )
    def test_ids_of_csv(
        self, run: Run, model: Path, tmp_path: Path, content: str, columns: str, ids: list[object]
    ) -> None:
        """A CSV file's identifiers are copied as text, that of its first word where each word has a row."""
        source = folder_of(tmp_path, "test.csv", content)
        found = predicted(run, model, source, tmp_path / "run", f"--data.columns={columns}")
        assert [row["id"] for row in found] == ids
        assert [row["tokens"] for row in found] == [["Ankara", "ve"], ["bir"]]
        assert [row.get("ner_tags") for row in found] == (
            [["B-GPE", "O"], ["O"]] if "ner_tags" in content else [None] * 2
        )

    @pytest.mark.parametrize("name", ["id", "number"])
    def test_ids_of_a_table(self, run: Run, model: Path, tmp_path: Path, name: str) -> None:
        """A Parquet file's identifiers are copied, dates as text; where no column is named so, numbers stand."""
        import datetime

        import datasets

        (tmp_path / "source" / "tr").mkdir(parents=True)
        day = datetime.date(2020, 2, 3)
        columns = {name: [day, datetime.date(2019, 1, 1)], "tokens": [["Ankara", "ve"], ["bir"]]}
        datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "source" / "tr" / "test.parquet")
        found = predicted(run, model, tmp_path / "source", tmp_path / "run")
        assert [row["id"] for row in found] == (["2020-02-03", "2019-01-01"] if name == "id" else [0, 1])
        assert [row["tokens"] for row in found] == columns["tokens"]
        assert all("ner_tags" not in row for row in found)

    @pytest.mark.parametrize(
        "tags", [["S-GPE", "O"], ["I-PER", "I-PER"], ["x", "y"], [99, 1], ["O"]], ids=lambda tags: str(tags[0])
    )
    def test_own_tags(self, run: Run, model: Path, tmp_path: Path, tags: list[object]) -> None:
        """The file's own tags are copied unchanged, whatever they are; the predicted tags are those of the head."""
        source = folder_of(tmp_path, "test.jsonl", as_jsonl([{"tokens": ["Ankara", "ve"], "ner_tags": tags}]))
        [row] = predicted(run, model, source, tmp_path / "run")
        assert row["ner_tags"] == tags
        assert {tag[2:] for tag in row["predicted_tags"]} <= {"", "PER", "ORG", "LOC"}

    def test_part(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        """With a limit on batches, each sentence that is predicted is the same row as without."""
        whole = predicted(run, model, source, tmp_path / "whole", "--data.evaluation_pieces=60")
        flags = ["--data.evaluation_pieces=60", "--trainer.limit_predict_batches=2"]
        outcome = run("predict", *options(source, model, tmp_path / "part"), TR, *flags)
        part = rows_of(tmp_path / "part" / "tr-test.jsonl")
        assert 1 < len(part) < 40
        assert outcome.out.splitlines()[-1] == f"part of tr/test: its {len(part)} longest sentences of 40"
        assert part == [whole[row["id"]] for row in part]
        assert [row["id"] for row in part] == sorted(row["id"] for row in part)
        assert [row["id"] for row in part] != [*range(len(part))]

    def test_word_without_subwords(self, run: Run, model: Path, tmp_path: Path) -> None:
        """A word that the tokenizer removes is certainly O."""
        source = folder_of(tmp_path, "test.jsonl", as_jsonl([{"tokens": ["Ankara", "\u200b"]}]))
        [row] = predicted(run, model, source, tmp_path / "run")
        assert (row["predicted_tags"][1], row["scores"][1]) == ("O", 1.0)
        assert row["scores"][0] < 1

    def test_prefix(self, run: Run, model: Path, tmp_path: Path) -> None:
        """The language before a word, as the archives have it, is removed as it is for the model."""
        source = folder_of(tmp_path, "test.tsv", "tr:Ankara\tB-LOC\n")
        [row] = predicted(run, model, source, tmp_path / "run")
        assert row["tokens"] == ["Ankara"]


class TestSplit:
    def test_name(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        """The files are named after the split."""
        rows = predicted(run, model, source, tmp_path, "--data.split=validation", name="tr-validation")
        assert [row["tokens"] for row in rows] == Split(str(source), "tr", "validation").sentences.words
        assert written(tmp_path) == ["tr-validation.jsonl"]

    @pytest.mark.parametrize("split", ["train", "validation"])
    def test_carved(self, run: Run, model: Path, tmp_path: Path, split: str) -> None:
        """A part of the training sentences is predicted as it would be scored, with its own tags."""
        source = folder_of(tmp_path, "train.tsv", as_tsv(random_sentences("tr", 40)))
        fraction = "--data.validation_fraction=0.25"
        rows = predicted(run, model, source, tmp_path / "run", fraction, f"--data.split={split}", name=f"tr-{split}")
        assert len(rows) == (10 if split == "validation" else 30)
        outcome = run("test", *options(source, model, tmp_path / "run"), TR, fraction, f"--data.split={split}")
        assert outcome.code == 0, outcome
        assert f"of {len(rows)} {split} sentences" in outcome.out
        all_tags = {tuple(words): tags for words, tags in random_sentences("tr", 40)}
        assert [row["ner_tags"] for row in rows] == [all_tags[tuple(row["tokens"])] for row in rows]


class TestFormats:
    def test_conll(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        """CoNLL columns are words and predicted tags, and a folder source of them reads as these."""
        rows = predicted(run, model, source, tmp_path / "run")
        outcome = run("predict", *options(source, model, tmp_path / "run"), TR, "--format=conll")
        assert outcome.code == 0, outcome
        path = tmp_path / "run" / "tr-test.conll"
        assert outcome.out.splitlines()[-1] == f"predictions: {path}"
        expected = Sentences([row["tokens"] for row in rows], [row["predicted_tags"] for row in rows])
        assert path.read_text(encoding="utf-8") == as_tsv(expected)
        again = folder_of(tmp_path, "train.conll", path.read_text(encoding="utf-8"))
        assert Split(str(again), "tr", "train").sentences == expected

    def test_brat(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        """A brat document has a sentence per line, and every entity at its offsets."""
        rows = predicted(run, model, source, tmp_path)
        outcome = run("predict", *options(source, model, tmp_path), TR, "--format=brat")
        assert outcome.code == 0, outcome
        assert outcome.out.splitlines()[-1] == f"predictions: {tmp_path / 'tr-test.txt'}, {tmp_path / 'tr-test.ann'}"
        text = (tmp_path / "tr-test.txt").read_text(encoding="utf-8")
        assert text.split("\n") == [*(" ".join(row["tokens"]) for row in rows), ""]
        entities = [each for row in rows for each in row["entities"]]
        lines = (tmp_path / "tr-test.ann").read_text(encoding="utf-8").split("\n")[:-1]
        assert len(lines) == len(entities) > 10
        place = 0
        for number, (line, entity) in enumerate(zip(lines, entities, strict=True), start=1):
            name, where, found = line.split("\t")
            kind, start, end = where.split()
            assert (name, kind, found) == (f"T{number}", entity["type"], entity["text"])
            assert text[int(start) : int(end)] == found
            assert int(start) >= place
            place = int(end)

    def test_languages(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        """Each language has files of its own."""
        outcome = run(
            "predict", *options(source, model, tmp_path), "--data.test_languages=[tr,en]", "--format=brat"
        )  # fmt: skip
        assert outcome.code == 0, outcome
        assert written(tmp_path) == ["en-test.ann", "en-test.txt", "tr-test.ann", "tr-test.txt"]

    @pytest.mark.parametrize("form", ["conll", "brat"])
    @pytest.mark.parametrize("word", ["a\tb", "a\nb", "a\rb"])
    def test_word_that_does_not_fit(self, run: Run, model: Path, tmp_path: Path, form: str, word: str) -> None:
        """A word with a separator is an error that names file and sentence, and no language's file is written."""
        rows = [{"id": "x", "tokens": ["Ankara"]}, {"id": "y", "tokens": ["bir", word]}]
        source = folder_of(tmp_path, "test.jsonl", as_jsonl(rows))
        (source / "en").mkdir()
        (source / "en" / "test.jsonl").write_text(as_jsonl(rows[:1]), encoding="utf-8")
        flags = ["--data.test_languages=[en,tr]", "--format", form]
        outcome = run("predict", *options(source, model, tmp_path / "run"), *flags)
        where = f"{source / 'tr' / 'test.jsonl'}, sentence 'y': the word {word!r} contains a tab or line break"
        assert_one_line(outcome, 1, where, f"--format {form} cannot represent; use --format jsonl")
        assert written(tmp_path / "run") == []

    def test_unknown(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        """Another format is refused before anything is written."""
        outcome = run("predict", *options(source, model, tmp_path / "run"), TR, "--format=xml")
        assert_one_line(outcome, 2, "format", "xml")
        assert not (tmp_path / "run").exists()

    def test_only_of_predict(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        """Other commands have no such option, but ignore it in a configuration that serves all."""
        outcome = run("test", *options(source, model, tmp_path / "run"), TR, "--format=conll")
        assert_one_line(outcome, 2, "format")
        config = tmp_path / "config.yaml"
        config.write_text("format: conll\n", encoding="utf-8")
        for command in ("test", "predict"):
            assert run(command, f"--config={config}", *options(source, model, tmp_path / "run"), TR).code == 0
        assert written(tmp_path / "run") == ["tr-test.conll"]


UNTAGGED = {
    "test.jsonl": as_jsonl([{"tokens": ["Ayşe", "geldi"]}, {"tokens": ["Ankara"]}]),
    "test.tsv": "Ayşe\ngeldi\n\nAnkara\n",
    "test.conll": "Ayşe\ngeldi\n\n\nAnkara\n\n",
    "test.txt": "Ayşe geldi\nAnkara\n",
    "test.csv": "text\nAyşe geldi\nAnkara\n",
}
"""Files of the same two sentences without tags."""

WITHOUT_TAGS = {
    ".jsonl": (".jsonl, line 1 has no column 'ner_tags', only tokens", "or use predict, which needs no tags"),
    ".tsv": (".tsv, line 1: expected word<TAB>tag, found 1 column: the sentence has no tags",),
    ".conll": (".conll, line 1: expected word<TAB>tag, found 1 column: the sentence has no tags",),
    ".txt": (".txt, line 2: expected 2 columns as on the lines before, found 1 column",),
    ".csv": (".csv has no column 'entities', only text", "or use predict, which needs no tags"),
}
"""What commands that need tags say of such a file."""


class TestUntagged:
    @pytest.mark.parametrize("name", UNTAGGED)
    def test_folder(self, run: Run, model: Path, tmp_path: Path, name: str) -> None:
        """Words without tags get the model's."""
        rows = predicted(run, model, folder_of(tmp_path, name, UNTAGGED[name]), tmp_path / "run")
        assert [row["tokens"] for row in rows] == [["Ayşe", "geldi"], ["Ankara"]]
        assert [len(row["predicted_tags"]) for row in rows] == [2, 1]
        assert not any("ner_tags" in row for row in rows)

    @pytest.mark.parametrize("name", UNTAGGED)
    @pytest.mark.parametrize("command", ["fit", "test"])
    def test_other_commands(self, run: Run, model: Path, tmp_path: Path, name: str, command: str) -> None:
        """They need tags, and say in one line where there are none."""
        source = folder_of(tmp_path, name, UNTAGGED[name])
        for split in ("train", "validation"):
            (source / "tr" / name.replace("test", split)).write_text(UNTAGGED[name], encoding="utf-8")
        outcome = run(command, *options(source, model, tmp_path / "run"), TR)
        assert_one_line(outcome, 1, f"{source / 'tr'}/", *WITHOUT_TAGS[Path(name).suffix])

    def test_checkpoint(self, run: Run, source: Path, still_backbone: Path, tmp_path: Path) -> None:
        """A checkpoint on a backbone without a head brings the tag set along."""
        fit = ["fit", *options(source, still_backbone, tmp_path / "fit"), *LEARN, TR, *keep(tmp_path / "fit")]
        assert run(*fit).code == 0
        untagged = folder_of(tmp_path, "test.tsv", UNTAGGED["test.tsv"])
        checkpoint = f"--ckpt_path={tmp_path / 'fit' / 'checkpoints' / 'last.ckpt'}"
        rows = predicted(run, still_backbone, untagged, tmp_path / "one", checkpoint)
        assert rows == predicted(run, tmp_path / "fit" / "model", untagged, tmp_path / "other")

    def test_no_head(self, run: Run, still_backbone: Path, tmp_path: Path) -> None:
        """Without a trained head nothing is predicted, and nothing written."""
        source = folder_of(tmp_path, "test.tsv", UNTAGGED["test.tsv"])
        outcome = run("predict", *options(source, still_backbone, tmp_path / "run"), TR)
        assert_one_line(outcome, 2, "has no trained head")
        assert not (tmp_path / "run").exists()


class TestFile:
    @pytest.mark.parametrize("name", UNTAGGED)
    @pytest.mark.parametrize("split", ["test", "validation"])
    def test_predict(self, run: Run, model: Path, tmp_path: Path, name: str, split: str) -> None:
        """A single file is the split of the one language, whatever stands beside it."""
        path = tmp_path / name
        path.write_text(UNTAGGED[name], encoding="utf-8")
        (tmp_path / "train.tsv").write_text(as_tsv(random_sentences("tr", 9)), encoding="utf-8")
        flags = [f"--data.split={split}", "--data.validation_fraction=0.5"]
        rows = predicted(run, model, path, tmp_path / "run", *flags, name=f"tr-{split}")
        assert [row["tokens"] for row in rows] == [["Ayşe", "geldi"], ["Ankara"]]

    def test_tagged(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        """A file predicts as the folder does that has it."""
        rows = predicted(run, model, source / "tr" / "test.tsv", tmp_path / "file")
        assert rows == predicted(run, model, source, tmp_path / "folder")

    @pytest.mark.parametrize("command", ["fit", "validate", "test", "transfer"])
    def test_other_commands(self, run: Run, model: Path, source: Path, tmp_path: Path, command: str) -> None:
        """Only predict takes a file."""
        path = source / "tr" / "test.tsv"
        languages = [] if command == "transfer" else [TR]
        outcome = run(command, *options(path, model, tmp_path / "run"), *languages)
        assert_one_line(
            outcome, 2, f"data.source={str(path)!r} is not a folder, and only predict can use a file; use a"
        )

    def test_several_languages(self, run: Run, model: Path, source: Path, tmp_path: Path) -> None:
        """A file has one language."""
        flags = [*options(source / "tr" / "test.tsv", model, tmp_path / "run"), "--data.languages=[tr,en]"]
        outcome = run("predict", *flags)
        assert_one_line(outcome, 2, "data.test_languages=['tr', 'en'] is not one language", 'use "[tr]"')
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("name", ["texts.pdf", "texts", "texts.gz"])
    def test_unknown_format(self, run: Run, model: Path, tmp_path: Path, name: str) -> None:
        """The suffix of a file says its format."""
        (tmp_path / name).write_text("Ankara\n", encoding="utf-8")
        outcome = run("predict", *options(tmp_path / name, model, tmp_path / "run"), TR)
        assert_one_line(outcome, 2, f"data.source={str(tmp_path / name)!r} is not a file of a known format; use .tsv")

    def test_not_its_own_output(self, run: Run, model: Path, tmp_path: Path) -> None:
        """A file is not replaced by its predictions, except in another format."""
        path = tmp_path / "tr-test.jsonl"
        path.write_text(UNTAGGED["test.jsonl"], encoding="utf-8")
        outcome = run("predict", *options(path, model, tmp_path), TR)
        assert_one_line(outcome, 2, f"data.source={str(path)!r} would be replaced by its predictions")
        assert run("predict", *options(path, model, tmp_path), TR, "--format=conll").code == 0
        assert path.read_text(encoding="utf-8") == UNTAGGED["test.jsonl"]

    def test_broken(self, run: Run, model: Path, tmp_path: Path) -> None:
        """The error of a line that is not a sentence names file and line."""
        path = tmp_path / "texts.jsonl"
        path.write_text(UNTAGGED["test.jsonl"] + '{"words": []}\n', encoding="utf-8")
        outcome = run("predict", *options(path, model, tmp_path / "run"), TR)
        assert_one_line(outcome, 1, f"{path}, line 3 has no column 'tokens', only words")
        assert written(tmp_path / "run") == []


@pytest.mark.parametrize("number", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_processes(run: Run, model: Path, source: Path, tmp_path: Path, number: int) -> None:
    """Several processes write one process's bytes, scores included, where batches have one sentence each."""
    flags = ["--data.test_languages=[en,tr]", "--data.evaluation_pieces=1"]
    run(*command_of("predict", source, model, tmp_path / "1", *flags))
    run_processes("lightning", number, command_of("predict", source, model, tmp_path / str(number), *flags))
    for name in ("en-test.jsonl", "tr-test.jsonl"):
        content = (tmp_path / "1" / name).read_bytes()
        assert content.count(b"\n") == 40
        assert (tmp_path / str(number) / name).read_bytes() == content


@pytest.mark.slow
def test_processes_in_batches(run: Run, model: Path, source: Path, tmp_path: Path) -> None:
    """With other batches, tags are equal and scores are but for rounding."""
    alone = predicted(run, model, source, tmp_path / "1")
    flags = [TR, "--data.evaluation_pieces=77"]
    run_processes("lightning", 2, command_of("predict", source, model, tmp_path / "2", *flags))
    rows = rows_of(tmp_path / "2" / "tr-test.jsonl")
    for row, one in zip(rows, alone, strict=True):
        assert row["scores"] == pytest.approx(one["scores"], abs=1.1e-4)
        for each in (row, one):
            del each["scores"], each["entities"]
    assert rows == alone


@pytest.mark.slow
def test_processes_format(run: Run, model: Path, tmp_path: Path) -> None:
    """Three processes with a sentence each write the files of a format once, of sentences without tags."""
    path = tmp_path / "texts.jsonl"
    path.write_text(as_jsonl([{"tokens": row["tokens"]} for row in as_rows(random_sentences("tr", 3))]), "utf-8")
    flags = [TR, "--format=brat"]
    run(*command_of("predict", path, model, tmp_path / "1", *flags))
    out = run_processes("lightning", 3, command_of("predict", path, model, tmp_path / "3", *flags))
    assert out.count("predictions: ") == 1
    for name in ("tr-test.txt", "tr-test.ann"):
        assert (tmp_path / "3" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()
