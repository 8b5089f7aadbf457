import csv
import errno
import json
import os
from pathlib import Path
from typing import Any, get_type_hints
from unittest.mock import Mock

import numpy as np
import pytest

from xner.errors import RunError
from xner.transfer.result import (
    CSV_COLUMNS,
    Counts,
    Evaluation,
    Result,
    csv_rows,
    earlier_configs,
    read_counts,
    read_result,
    read_sentences,
    write_csv,
    write_result,
    write_sentences,
)

CONTRACT = (
    "stage, regime, seed, start_from, train_languages, train_samples, eval_language, split, zero_shot, f1, precision, "
    "recall, accuracy, f1_PER, f1_ORG, f1_LOC, f1_strict, sentences, words, entities, unscored_words, seconds"
).split(", ")
"""The columns that other tools rely on, as DESIGN.md section 3 lists them."""


def evaluation(language: str, **changes: Any) -> Evaluation:  # noqa: ANN401 - Evaluation's own
    blank: dict[Any, Any] = {int: 3, int | None: 3, bool: False, dict[str, float]: {"PER": 0.1, "ORG": 0.2, "LOC": 0.3}}
    values = {name: blank.get(kind, 0.1 + 0.2) for name, kind in get_type_hints(Evaluation).items()}
    return {**values, "language": language, "split": "test", "zero_shot": language == "tr", **changes}


def result(stage: str, **changes: Any) -> Result:  # noqa: ANN401 - Result's own
    return {
        "stage": stage,
        "regime": "joint",
        "seed": 42,
        "start_from": "bäckbone, with a comma",
        "train_languages": ["en", "tr"],
        "train_samples": 20_250,
        "target_samples": 250,
        "shots": None,
        "types": ["PER", "ORG", "LOC"],
        "evaluations": [evaluation("en"), evaluation("tr")],
        "seconds": 1.5,
        "definition": {"model.learning_rate": 2e-5, "train": [["en", None]]},
        "fingerprint": "0a1b",
        "lineage": {"origin": "x", "episodes": []},
        "versions": {"xner": "0.1.0"},
        "max_epochs": 3,
        "keep": "all",
        "model": "0a1b",
        **changes,
    }


def counts() -> Counts:
    per_type = {name: np.arange(6, dtype=np.int32).reshape(2, 3) for name in ("correct", "predicted", "gold")}
    words = {name: np.array([0, 1, 6], dtype=np.int8) for name in ("word_gold", "word_predicted")}
    others = {name: np.array([True, False, True]) for name in {*Counts._fields} - {*per_type, *words, "sentence_words"}}
    return Counts(**per_type, sentence_words=np.array([1, 2], dtype=np.int32), **words, **others)


EVALUATION = evaluation("tr", sentences=2, f1=1.0)
"""That of ``counts()``."""


def test_round_trip(tmp_path: Path) -> None:
    """A stage's result and its evidence are read as they were written, to the last digit and type."""
    evidence = {
        ("en", "test"): counts(),
        ("tr", "test"): counts()._replace(gold=np.arange(6, 12, dtype=np.int32).reshape(2, 3)),
    }
    write_result(tmp_path, result("one"), evidence)
    assert read_result(tmp_path) == result("one")
    for (language, _), expected in evidence.items():
        f1 = 2 * expected.correct.sum() / (expected.predicted + expected.gold).sum()
        found = read_counts(tmp_path, evaluation(language, sentences=2, f1=f1))
        for name in Counts._fields:
            assert getattr(found, name).dtype == getattr(expected, name).dtype
            assert np.array_equal(getattr(found, name), getattr(expected, name))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counts.npz", "result.json"]


def test_result_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The evidence is there before ``result.json`` says that the stage is complete."""
    written: list[str] = []
    replace = Path.replace

    def note(self: Path, target: Path) -> Path:
        written.append(Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", note)
    write_result(tmp_path, result("one"), {("en", "test"): counts()})
    assert written == ["counts.npz", "result.json"]


@pytest.mark.parametrize("failing", ["counts.npz", "result.json"])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failing_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, step: str) -> None:
    """A write that fails, at the disk or at the rename, leaves the old files whole and no part of the new."""
    write_result(tmp_path, result("old"), {("en", "test"): counts()})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    if failing == "result.json":
        before.pop("counts.npz")
    fsync, replace = os.fsync, Path.replace

    def refuse_fsync(descriptor: int) -> None:
        if failing in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    def refuse_replace(self: Path, target: Path) -> Path:
        if Path(target).name == failing:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", refuse_fsync)
    else:
        monkeypatch.setattr(Path, "replace", refuse_replace)
    with pytest.raises(OSError, match="No space left"):
        write_result(tmp_path, result("new"), {("tr", "test"): counts()})
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.keys() == {"counts.npz", "result.json"}
    assert before.items() <= after.items()
    assert read_result(tmp_path) == result("old")


def test_incomplete_stage(tmp_path: Path) -> None:
    """A stage without ``result.json`` is not complete, whatever else it holds."""
    (tmp_path / "counts.npz").write_bytes(b"")
    assert read_result(tmp_path) is None
    assert read_result(tmp_path / "nowhere") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"no archive"])
def test_damaged_evidence(tmp_path: Path, content: bytes) -> None:
    """Evidence that cannot be read is one line that says what to delete."""
    (tmp_path / "counts.npz").write_bytes(content)
    with pytest.raises(RunError, match=f"counts.npz is damaged .*; delete {tmp_path} to run the stage again"):
        read_counts(tmp_path, EVALUATION)


def test_flipped_evidence(tmp_path: Path) -> None:
    """A flipped bit of the archive's directory, or at many places before it, is found, or in what nobody reads."""
    write_result(tmp_path, result("one"), {("tr", "test"): counts()})
    path = tmp_path / "counts.npz"
    content = path.read_bytes()
    directory = content.index(b"PK\x01\x02")
    refused = 0
    for place in [*range(0, directory, 37), *range(directory, len(content))]:
        for bit in range(8):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            try:
                found = read_counts(tmp_path, EVALUATION)
            except RunError:
                refused += 1
                continue
            assert all(np.array_equal(one, other) for one, other in zip(found, counts(), strict=True))
    assert refused > 100


def test_unreadable_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails does not make a file a damaged one, which the user would be told to delete."""
    error = OSError(errno.EIO, os.strerror(errno.EIO))
    monkeypatch.setattr(np, "load", Mock(side_effect=error))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        read_counts(tmp_path, EVALUATION)


@pytest.mark.parametrize(
    "changes",
    [
        {"correct": np.arange(6)},
        {"gold": np.zeros((2, 4), dtype=np.int32)},
        {"sentence_words": np.array([1, 1])},
        {"word_seen": np.zeros(2, dtype=bool)},
        {"bin_right": np.zeros(4)},
        {"word_gold": np.array([0, 1, 7])},
        {"word_predicted": np.array([0, -1, 6])},
        {"correct": np.array([[-1, 2, 2], [3, 4, 5]])},
        {"correct": np.array([[1, 0, 2], [3, 4, 5]])},
        {"gold": np.full((2, 3), "1")},
    ],
)
def test_evidence_of_other_shapes(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Arrays that do not belong together are damage as well."""
    write_result(tmp_path, result("one"), {("tr", "test"): counts()._replace(**changes)})
    with pytest.raises(RunError, match=r"counts\.npz is damaged .*; delete"):
        read_counts(tmp_path, EVALUATION)


def test_earlier_configs(tmp_path: Path) -> None:
    """They are numbered; what else a user puts beside them is none of them."""
    for name in ("config.yaml", "config-2.yaml", "config-10.yaml", "config-mine.yaml", "config-1.yml"):
        (tmp_path / name).touch()
    (tmp_path / "config-3.yaml").mkdir()
    assert earlier_configs(tmp_path) == {number: tmp_path / f"config-{number}.yaml" for number in (2, 10)}


def test_missing_evidence(tmp_path: Path) -> None:
    """Evidence that was deleted is one line as well."""
    with pytest.raises(RunError, match=f"counts.npz is missing; delete {tmp_path} to run the stage again"):
        read_counts(tmp_path, EVALUATION)


@pytest.mark.parametrize("changes", [{"f1": 0.9999}, {"sentences": 3}, {"split": "validation"}])
def test_evidence_of_another_evaluation(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Counts that do not give the F1 of the result are not taken for those behind it."""
    write_result(tmp_path, result("one"), {("tr", "test"): counts()})
    read_counts(tmp_path, EVALUATION)
    with pytest.raises(RunError, match=r"counts\.npz is damaged .*; delete"):
        read_counts(tmp_path, {**EVALUATION, **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seed": "42"}, "it['seed'] is '42', not of type"),
        ({"stage": "../../elsewhere"}, "a name in it is not that of a file"),
        ({"stage": 7}, "it['stage'] is 7, not of type str"),
        ({"train_samples": True}, "it['train_samples'] is True, not of type int"),
        ({"train_languages": []}, "it has no evaluation or no language"),
        ({"evaluations": []}, "it has no evaluation or no language"),
        ({"evaluations": [{"language": "tr"}]}, "it['evaluations'][0] has no 'accuracy'"),
        ({"evaluations": [evaluation("../tr")]}, "a name in it is not that of a file"),
        ({"evaluations": [evaluation("tr", f1_by_type={"PER": "x"})]}, "it['evaluations'][0]['f1_by_type']['PER'] is"),
        ({"lineage": {"episodes": 1}}, "its lineage has no episodes"),
        ({"definition": 1}, "it['definition'] is 1, not of type dict"),
    ],
)
def test_result_of_other_types(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    """A part of another type is named with the file, and with the folder to delete."""
    write_result(tmp_path, {**result("one"), **changes}, {})
    with pytest.raises(RunError) as caught:
        read_result(tmp_path)
    assert f"{tmp_path / 'result.json'} is damaged ({expected}" in str(caught.value)
    assert str(caught.value).endswith(f"; delete {tmp_path} to run the stage again")


@pytest.mark.parametrize("name", ["evaluations", "seed", "definition"])
def test_result_without(tmp_path: Path, name: str) -> None:
    """So is a part that is missing."""
    write_result(tmp_path, {key: value for key, value in result("one").items() if key != name}, {})
    with pytest.raises(RunError, match=f"it has no '{name}'"):
        read_result(tmp_path)


def test_result_with_another_digit(tmp_path: Path) -> None:
    """So is a number that is another one."""
    write_result(tmp_path, result("one"), {})
    path = tmp_path / "result.json"
    text = path.read_text(encoding="utf-8")
    assert text.count('"seed": 42') == 1
    path.write_text(text.replace('"seed": 42', '"seed": 43'), encoding="utf-8")
    with pytest.raises(RunError, match=r"result.json is damaged \(its checksum does not match\)"):
        read_result(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[1]", b"[[1]]", b"\xff", b"[" * 100_000])
def test_damaged_sentences(tmp_path: Path, content: bytes) -> None:
    """Sentences that cannot be read are one line that names the file, and so is a result of that content."""
    write_sentences(tmp_path, "tr", "test", [["a"]])
    path = tmp_path / "sentences" / "tr-test.json"
    path.write_bytes(content)
    with pytest.raises(RunError, match=f"{path} is damaged .*; delete it"):
        read_sentences(tmp_path, "tr", "test")
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(RunError, match=r"result\.json is damaged"):
        read_result(tmp_path)


def test_csv(tmp_path: Path) -> None:
    """``results.csv`` has the contract's columns first and in order, and a row per stage and evaluation."""
    write_csv(tmp_path / "results.csv", [result("one"), result("two", evaluations=[evaluation("de")])])
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head[: len(CONTRACT)] == CONTRACT
    assert tuple(head) == CSV_COLUMNS
    assert [(row[0], row[6]) for row in rows] == [("one", "en"), ("one", "tr"), ("two", "de")]
    first = dict(zip(head, rows[0], strict=True))
    assert first["train_languages"] == "en+tr"
    assert first["start_from"] == "bäckbone, with a comma"
    assert (first["zero_shot"], dict(zip(head, rows[1], strict=True))["zero_shot"]) == ("False", "True")
    assert float(first["f1"]) == 0.1 + 0.2
    assert first["target_samples"] == "250"


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_csv_without_formulas(tmp_path: Path, formula: str) -> None:
    """A text that a spreadsheet would calculate begins with an apostrophe; a number stays one."""
    write_csv(tmp_path / "results.csv", [{**result("one"), "start_from": formula, "seconds": -1.5}])
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["start_from"], row["seconds"]) == (f"'{formula}", "-1.5")


def test_csv_rows_have_all_columns() -> None:
    """Each row has every column and no other."""
    for row in csv_rows([result("one")]):
        assert row.keys() == {*CSV_COLUMNS}


def test_csv_of_nothing(tmp_path: Path) -> None:
    """Without results there is the head alone."""
    write_csv(tmp_path / "results.csv", [])
    assert (tmp_path / "results.csv").read_text(encoding="utf-8") == ",".join(CSV_COLUMNS) + "\n"


def test_result_is_plain_json(tmp_path: Path) -> None:
    """``result.json`` is JSON that any tool reads, in UTF-8 and without escapes."""
    write_result(tmp_path, result("one"), {})
    text = (tmp_path / "result.json").read_text(encoding="utf-8")
    assert json.loads(text)["start_from"] == "bäckbone, with a comma"
    assert "bäckbone" in text


def test_sentences(tmp_path: Path) -> None:
    """The words of an evaluated split are read as they were, odd characters included; later ones replace them."""
    words = [["a\u2028", "İstanbul"], ["\u200b"]]
    write_sentences(tmp_path, "tr", "test", words)
    assert read_sentences(tmp_path, "tr", "test") == words
    write_sentences(tmp_path, "tr", "test", words[:1])
    assert read_sentences(tmp_path, "tr", "test") == words[:1]
