"""Corpora with other tag sets, in other formats: every command from the files to the scores."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from seqeval.metrics import classification_report, f1_score

from tests.cli.fits import LEARN
from tests.commands import Run, assert_one_line, options, results
from xner.data.sources import Sentences, Split
from xner.tags import TagSet, spans
from xner.transfer.result import read_counts, read_result

SIZES = {"train": 60, "validation": 30, "test": 30}

Write = Callable[[Path, Sentences], None]


def as_conll2003(path: Path, sentences: Sentences) -> None:
    """Write four columns under IOB1, with document lines, a comment and Windows line ends."""
    lines = ["# a comment", "-DOCSTART- -X- -X- O", ""]
    for words, tags in sentences:
        previous = "O"
        for word, tag in zip(words, tags, strict=True):
            kept = tag if tag == "O" or (tag[0] == "B" and previous[2:] == tag[2:]) else f"I-{tag[2:]}"
            lines.append(f"{word} NN I-NP {kept}")
            previous = tag
        lines.append("")
    path.with_suffix(".conll").write_bytes("\r\n".join(lines).encode())


def as_jsonl(path: Path, sentences: Sentences) -> None:
    rows = [{"words": words, "labels": tags} for words, tags in sentences]
    path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def as_csv(path: Path, sentences: Sentences) -> None:
    """Write a row per word, with the number of the sentence on its first word only."""
    with path.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Sentence #", "Word", "Tag"])
        for number, (words, tags) in enumerate(sentences):
            for place, pair in enumerate(zip(words, tags, strict=True)):
                writer.writerow([f"Sentence: {number}" if place == 0 else "", *pair])


def as_spans(path: Path, sentences: Sentences) -> None:
    """Write raw text with the characters of its entities."""
    rows = []
    for words, tags in sentences:
        starts = np.cumsum([0, *(len(word) + 1 for word in words)]).tolist()
        found = [
            {"start": starts[each.first], "end": starts[each.last] + len(words[each.last]), "label": each.type}
            for each in spans(tags)
        ]
        rows.append({"text": " ".join(words), "entities": found})
    path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


CORPORA: dict[str, tuple[Write, dict[str, str], list[str]]] = {
    "conll2003": (as_conll2003, {"ORG": "MISC"}, []),
    "jsonl": (
        as_jsonl,
        {"PER": "gene", "LOC": "Drug-name", "ORG": ""},
        ["--data.columns={tokens: words, ner_tags: labels}"],
    ),
    "csv": (as_csv, {}, ["--data.columns={sentence: 'Sentence #', tokens: Word, ner_tags: Tag}"]),
    "spans": (as_spans, {"ORG": "Corp"}, []),
}
"""How each corpus is written, the new names of the sample's types (empty drops one), and its options."""


@pytest.fixture(
    params=["conll2003", "spans", *(pytest.param(name, marks=pytest.mark.slow) for name in ("jsonl", "csv"))]
)
def corpus(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[str], list[str]]:
    """The sample with other types in another format: its folder, its options and its types, sorted."""
    write, renamed, given = CORPORA[request.param]
    for language in ("en", "tr"):
        (tmp_path / "corpus" / language).mkdir(parents=True)
        for name, size in SIZES.items():
            whole = Split("sample", language, name).sentences
            tags = [[rename(tag, renamed) for tag in some] for some in whole.tags[:size]]
            write(tmp_path / "corpus" / language / name, Sentences(whole.words[:size], tags))
    kept = (renamed.get(each, each) for each in ("PER", "ORG", "LOC"))
    return tmp_path / "corpus", given, sorted(each for each in kept if each)


def rename(tag: str, renamed: dict[str, str]) -> str:
    kind = renamed.get(tag[2:], tag[2:])
    return f"{tag[:2]}{kind}" if kind else "O"


def test_every_command(
    run: Run, corpus: tuple[Path, list[str], list[str]], sample_backbone: str, tmp_path: Path
) -> None:
    """A fit, its test, a transfer and the Tagger know the corpus's types, and the scores are seqeval's."""
    source, given, types = corpus
    outcome = run("fit", *options(source, sample_backbone, tmp_path / "fit"), *given, *LEARN)
    assert outcome.code == 0, outcome
    model = tmp_path / "fit" / "model"
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    tag_set = TagSet.of_tags(config["id2label"][str(label)] for label in range(len(config["id2label"])))
    assert tag_set
    assert sorted(tag_set.types) == types
    lineage = json.loads((model / "lineage.json").read_text(encoding="utf-8"))
    assert sorted(lineage["episodes"][0]["types"]) == types

    outcome = run("test", *options(source, model, tmp_path / "test"), *given, "--data.test_languages=[en,tr]")
    assert outcome.code == 0, outcome
    assert all(outcome.out.count(f" {each} ") == 2 for each in types)

    outcome = run("transfer", *options(source, sample_backbone, tmp_path / "run"), *given, *LEARN, "--sizes=[20]")
    assert outcome.code == 0, outcome
    rows = results(tmp_path / "run")
    for row in rows:
        assert {name[3:] for name in row if name.startswith("f1_") and row[name]} >= {*types, "strict", "macro"}
        assert {each: row[f"f1_{each}"] for each in {"PER", "ORG", "LOC"} - {*types}} == dict.fromkeys(
            {"PER", "ORG", "LOC"} - {*types}, ""
        )
        folder = tmp_path / "run" / "stages" / row["stage"]
        result = read_result(folder)
        assert result
        [evaluation] = [each for each in result["evaluations"] if each["language"] == row["eval_language"]]
        counts = read_counts(folder, evaluation)
        tags = TagSet(tuple(result["types"])).tags
        gold, predicted = (
            [[tags[label] for label in some] for some in np.split(labels, np.cumsum(counts.sentence_words)[:-1])]
            for labels in (counts.word_gold, counts.word_predicted)
        )
        assert float(row["f1"]) == f1_score(gold, predicted, zero_division=0)
        report = classification_report(gold, predicted, output_dict=True, zero_division=0)
        assert all(float(row[f"f1_{each}"]) == report[each]["f1-score"] for each in types)
        converted = Split("sample", row["eval_language"], "test").sentences
        assert [*map(len, gold)] == [*map(len, converted.words[: SIZES["test"]])] or "spans" in str(given)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert all(f'<th scope="col">{each}</th>' in page for each in types)

    outcome = run("tag", "--format=jsonl", "--model", model, "Alan Turing lived in London.")
    assert outcome.code == 0, outcome
    assert {each["type"] for each in json.loads(outcome.out)["entities"]} <= {*types}


def test_scores_do_not_depend_on_the_format(run: Run, sample_backbone: str, tmp_path: Path) -> None:
    """The same sentences in four formats and three schemes give the same weights and scores."""
    scores = []
    for name, (write, _, given) in CORPORA.items():
        if name == "spans":  # splits raw text into words of its own
            continue
        for language in ("en", "tr"):
            (tmp_path / name / language).mkdir(parents=True)
            for split, size in SIZES.items():
                whole = Split("sample", language, split).sentences
                write(tmp_path / name / language / split, Sentences(whole.words[:size], whole.tags[:size]))
        root = tmp_path / f"run-{name}"
        outcome = run("transfer", *options(tmp_path / name, sample_backbone, root), *given, *LEARN, "--sizes=[20]")
        assert outcome.code == 0, outcome
        scores.append(results(root))
    assert scores[0] == scores[1] == scores[2]


@pytest.fixture
def renamed_sample(tmp_path: Path) -> Path:
    """The sample with the types of a gold corpus: PERSON, ORG, GPE and DATE."""
    names = {"PER": "PERSON", "LOC": "GPE"}
    for language in ("en", "tr"):
        for split, size in SIZES.items():
            whole = Split("sample", language, split).sentences
            tags = [[rename(tag, names) for tag in some] for some in whole.tags[:size]]
            # The first word outside of the entities is a date.
            for some in tags:
                if "O" in some:
                    some[some.index("O")] = "B-DATE"
            (tmp_path / "gold" / language).mkdir(parents=True, exist_ok=True)
            as_conll2003(tmp_path / "gold" / language / split, Sentences(whole.words[:size], tags))
    return tmp_path / "gold"


MAPPED = "--data.map_types={PERSON: PER, GPE: LOC, DATE: O}"


def test_mapped_types(run: Run, fitted: Path, renamed_sample: Path, tmp_path: Path) -> None:
    """A model of PAN-X is tested on a corpus with other types through ``map_types``, and refused without it."""
    model = fitted / "model"
    command = ["test", *options(renamed_sample, model, tmp_path / "test"), "--data.test_languages=[tr]"]
    assert_one_line(
        run(*command),
        2,
        "has the entity types PER, ORG, LOC, but the data has ORG, DATE, GPE, PERSON",
        "data.map_types",
    )
    outcome = run(*command, MAPPED)
    assert outcome.code == 0, outcome
    # The same sentences with the sample's own types.
    for split in SIZES:
        whole = Split("sample", "tr", split).sentences
        (tmp_path / "plain" / "tr").mkdir(parents=True, exist_ok=True)
        as_conll2003(tmp_path / "plain" / "tr" / split, Sentences(whole.words[:30], whole.tags[:30]))
    own = run("test", *options(tmp_path / "plain", model, tmp_path / "own"), "--data.languages=[tr]")
    assert own.code == 0, own
    assert own.out.split("tr/test")[1] == outcome.out.split("tr/test")[1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--data.map_types={PERSONN: PER}", "data.map_types names 'PERSONN', but the data has only"),
        ("--data.types=[PERSON]", "the entity type"),
        ("--data.types=[PERSON,PERSON]", "names a type twice"),
        ("--data.types=[]", "has 0 entity types"),
        ("--data.map_types={PERSON: 'a b'}", "data.map_types={PERSON: 'a b'} is not an entity type"),
        ("--data.map_types={PERSON: B-PER}", "data.map_types={PERSON: 'B-PER'} is not an entity type"),
        ("--data.map_types={PERSON: O, ORG: O, GPE: O, DATE: O}", "data.map_types drops all entity types of the data"),
        ("--data.columns={tokens: 0, ner_tags: 0}", "data.columns gives words and tags the same column"),
        ("--data.columns={sentence: 0}", "data.columns names 'sentence', which"),
        ("--data.shots=100000", "data.shots=100000 exceeds the"),
        ("--data.sample_from=/", "is not in data.sample_from='/'"),
        ("--data.source=hub:../etc", "is not the id of a data set"),
        ("--data.columns={token: 0}", "data.columns names 'token'; use tokens, ner_tags"),
        ("--data.columns={tokens: 9}", "data.columns asks for columns 9 and -1, counted from 0, found 4 columns"),
        ("--data.columns={tokens: word}", "is not the number of a column"),
        ("--data.validation_fraction=1.5", "data.validation_fraction=1.5 is not between 0 and 1"),
    ],
)
def test_bad_options(
    run: Run, renamed_sample: Path, sample_backbone: str, tmp_path: Path, given: str, expected: str
) -> None:
    """A wrong option of reading is one line, and nothing is written."""
    outcome = run("fit", *options(renamed_sample, sample_backbone, tmp_path / "run"), given)
    assert_one_line(outcome, outcome.code, expected)
    assert outcome.code in (1, 2)
    assert not (tmp_path / "run").exists()


def test_new_head(run: Run, fitted: Path, renamed_sample: Path, tmp_path: Path) -> None:
    """A head of other types is replaced only if it is asked for; few-shot stages then keep the new one."""
    command = [*options(renamed_sample, fitted / "model", tmp_path / "run"), *LEARN]
    assert_one_line(run("fit", *command), 2, "model.new_head=true")
    assert not (tmp_path / "run").exists()
    outcome = run("transfer", *command, "--model.new_head=true", "--sizes=[20]", "--keep=all")
    assert outcome.code == 0, outcome
    for stage in (tmp_path / "run" / "stages").iterdir():
        found = read_result(stage)
        assert found
        assert found["types"] == ["ORG", "DATE", "GPE", "PERSON"]
    rows = results(tmp_path / "run")
    assert {row["zero_shot"] for row in rows} == {"False"}  # the replaced head's model was trained on Turkish
    assert_one_line(
        run("test", *options(renamed_sample, fitted / "model", tmp_path / "test"), "--model.new_head=true"),
        2,
        "model.new_head=true replaces the trained head by a new one",
    )


@pytest.mark.parametrize("name", ["dev", "valid", "val", "eval"])
def test_names_of_validation(run: Run, renamed_sample: Path, sample_backbone: str, tmp_path: Path, name: str) -> None:
    """A validation split may be called as other corpora call it."""
    path = renamed_sample / "en" / "validation.conll"
    path.rename(path.with_stem(name))
    outcome = run("fit", *options(renamed_sample, sample_backbone, tmp_path / "run"))
    assert outcome.code == 0, outcome


def test_validation_fraction(
    run: Run, renamed_sample: Path, sample_backbone: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a validation split, a part of the training sentences is set aside only if it is asked for, and said."""
    (renamed_sample / "en" / "validation.conll").unlink()
    command = ["fit", *options(renamed_sample, sample_backbone, tmp_path / "run")]
    assert_one_line(run(*command), 2, "split 'validation' is not in", "data.validation_fraction=0.1")
    with caplog.at_level("INFO"):
        outcome = run(*command, "--data.validation_fraction=0.2")
    assert outcome.code == 0, outcome
    said = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("en/validation: 12 sentences of ") for line in said)
    lineage = json.loads((tmp_path / "run" / "model" / "lineage.json").read_text(encoding="utf-8"))
    assert lineage["episodes"][0]["sentences"] == 48


def test_carved_parts(renamed_sample: Path) -> None:
    """The two parts of a training split are disjoint, complete, and in the order of the file; the seed decides."""
    from xner.data.sources import ReadOptions

    whole = Split(str(renamed_sample), "en", "train").sentences
    (renamed_sample / "en" / "validation.conll").unlink()

    def parts(seed: int) -> list[list[list[str]]]:
        read = ReadOptions(validation_fraction=0.25, shuffle_seed=seed)
        return [Split(str(renamed_sample), "en", name, read).sentences.words for name in ("train", "validation")]

    def places(words: Sequence[list[str]]) -> list[int]:
        return [whole.words.index(each) for each in words]

    train, validation = parts(0)
    assert (len(train), len(validation)) == (45, 15)
    assert places(train) == sorted(places(train))
    assert sorted(places(train) + places(validation)) == [*range(60)]
    assert parts(0) == [train, validation] != parts(1)


def test_many_types(run: Run, sample_backbone: str, tmp_path: Path) -> None:
    """Sixty types go through a whole transfer: log, table, results, curve and page."""
    types = [f"T{number:02}" for number in range(60)]
    for language in ("en", "tr"):
        (tmp_path / "many" / language).mkdir(parents=True)
        for split in SIZES:
            whole = Split("sample", language, split).sentences
            words, tags, number = whole.words[:80], [], 0
            for some in whole.tags[:80]:
                new = []
                for tag in some:
                    number += tag.startswith("B")
                    new.append("O" if tag == "O" else f"{tag[:2]}{types[number % 60]}")
                tags.append(new)
            as_conll2003(tmp_path / "many" / language / split, Sentences(words, tags))
    outcome = run("transfer", *options(tmp_path / "many", sample_backbone, tmp_path / "run"), *LEARN, "--sizes=[20]")
    assert outcome.code == 0, outcome
    assert max(map(len, outcome.out.splitlines())) < 160
    assert {f"f1_{each}" for each in types} <= results(tmp_path / "run")[0].keys()


def test_shots_and_sizes(run: Run, sample_backbone: str, tmp_path: Path) -> None:
    """A folder holds stages of one kind; those of the other are refused before anything is trained."""
    command = ["transfer", *options("sample", sample_backbone, tmp_path / "run"), *LEARN]
    assert run(*command, "--sizes=[20]").code == 0
    assert_one_line(run(*command, "--shots=[1]"), 2, "holds stages of sizes, and so cannot hold those of shots")
    assert not [*(tmp_path / "run" / "stages").glob("*shot*")]
    assert run(*command, "--sizes=[20]").code == 0
    assert_one_line(run(*command, "--sizes=[20]", "--shots=[1]"), 2, "exclude each other; use one")


def test_sample_of_other_types(run: Run, sample_backbone: str, renamed_sample: Path, tmp_path: Path) -> None:
    """A published sample's own tags are not read: those of the source are trained on."""
    command = ["fit", *options("sample", sample_backbone, tmp_path / "run"), "--data.languages=[tr]"]
    outcome = run(*command, f"--data.sample_from={renamed_sample}")
    assert outcome.code == 0, outcome
    lineage = json.loads((tmp_path / "run" / "model" / "lineage.json").read_text(encoding="utf-8"))
    assert (lineage["episodes"][0]["sentences"], lineage["episodes"][0]["types"]) == (60, ["PER", "ORG", "LOC"])


def test_shots(run: Run, sample_backbone: str, tmp_path: Path, write_run: Callable[..., Path]) -> None:
    """A transfer by entities per type names its stages, counts its sentences and draws its curve by them."""
    outcome = run(
        "transfer", *options("sample", sample_backbone, tmp_path / "run"), *LEARN, "--shots=[1,4]", "--seeds=[1,2]"
    )
    assert outcome.code == 0, outcome
    rows = [row for row in results(tmp_path / "run") if row["eval_language"] == "tr"]
    assert [row["shots"] for row in rows] == ["", "1", "4"] * 2
    assert all(int(row["target_samples"]) <= 3 * int(row["shots"]) for row in rows if row["shots"])
    assert (tmp_path / "run" / "stages" / "progressive-tr-4shot-seed2" / "result.json").is_file()
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Turkish F1 by number of Turkish entities per type" in page
    sizes = write_run(tmp_path / "sizes", sizes=(2,), sentences=20)
    told = "the sizes of some runs are sentences and of others entities per type"
    assert_one_line(run("report", sizes, tmp_path / "run"), 2, told)
    plan = [*options("sample", sample_backbone, tmp_path / "other"), "--shots=[1,4]", "--seeds=[1]", "--plan=true"]
    [stage] = [
        line for line in run("transfer", *plan).out.splitlines() if line.startswith("progressive-tr-1shot-seed1")
    ]
    assert f"tr {rows[1]['target_samples']}" in stage
    for wrong, expected in (
        ("[4,1]", "shots=[4, 1] is not increasing"),
        ("[100000]", "shots=[100000] exceeds the "),
    ):
        outcome = run("transfer", *options("sample", sample_backbone, tmp_path / "x"), f"--shots={wrong}")
        assert_one_line(outcome, 2, expected)
        assert not (tmp_path / "x").exists()
