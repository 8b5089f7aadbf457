"""The tool ``tag``: what it reads and writes, how it goes on after an interruption, and mistakes."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import xner.cli.tagging
import xner.cli.writers
from tests.cli.fits import process
from tests.commands import Run, assert_one_line
from xner.cli.formats import format_of
from xner.cli.tagging import read_texts
from xner.cli.writers import FileOutput
from xner.tagger import Tagged, Tagger
from xner.typed import with_checksum

ROOT = Path(__file__).parents[2]
TURING = "Alan Mathison Turing was an English mathematician, computer scientist from London."
TEXTS = [TURING, "", '<b>Ankara\'da & "İzmir"</b> 東京', "القاهرة e\u0301 👨‍👩‍👧"]


OPTIONS = {"format": "jsonl", "fields": "xner", "precision": "float32", "decoding": "greedy", "resume": False}
"""The options of ``tag`` on which a file depends."""


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A file with a text per line."""
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return path


def test_table(run: Run, tagging_model: str, tagger: Tagger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each text's words stand over its tags, wrapped at the terminal's width, texts apart by a line."""
    monkeypatch.setenv("COLUMNS", "60")
    outcome = run("tag", "--model", tagging_model, TURING, "Ankara")
    blocks = [block.splitlines() for block in outcome.out.strip("\n").split("\n\n")]
    assert max(len(line) for block in blocks for line in block) <= 60
    first, second = tagger([TURING, "Ankara"])
    assert [word for block in blocks for word in block[0].split()] == [word.text for word in first.words + second.words]
    assert [tag for block in blocks for tag in block[1].split()] == first.tags + second.tags
    assert blocks[-1][0] == "Ankara"


@pytest.mark.parametrize("given", ["arguments", "file", "standard input"])
def test_jsonl(
    run: Run, tagging_model: str, tagger: Tagger, lines: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """Each text, an argument or a line of a file or of standard input, is an object with words, tags and entities."""
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS)))
    arguments = {"arguments": TEXTS, "file": [lines], "standard input": []}[given]
    outcome = run("tag", "--format", "jsonl", "--model", tagging_model, *arguments)
    found = [json.loads(line) for line in outcome.out.split("\n")[:-1]]
    assert [each["text"] for each in found] == TEXTS
    for each, tagged in zip(found, tagger(TEXTS), strict=True):
        assert list(each) == ["text", "words", "tags", "entities"]
        assert each["words"] == [word.text for word in tagged.words]
        assert each["tags"] == tagged.tags
        assert len(each["entities"]) == len(tagged.entities)
        for entity in each["entities"]:
            assert list(entity) == ["type", "text", "start", "end", "score"]
            assert each["text"][entity["start"] : entity["end"]] == entity["text"]


def test_fields_of_transformers(run: Run, tagging_model: str, tagger: Tagger) -> None:
    """The fields of an entity can have the names that the pipeline of transformers gives them."""
    outcome = run("tag", "--format=jsonl", "--fields=transformers", "--model", tagging_model, TURING)
    [first, *_] = json.loads(outcome.out)["entities"]
    own = tagger(TURING).entities[0]
    assert list(first) == ["entity_group", "score", "word", "start", "end"]
    assert (first["entity_group"], first["word"], first["start"], first["end"]) == own[:4]
    assert first["score"] == pytest.approx(own.score, abs=1e-4)


def test_conll(run: Run, tagging_model: str, tagger: Tagger, lines: Path) -> None:
    """A line has a word, a tab and its tag; a blank line follows each text, an empty one too."""
    outcome = run("tag", "--format=conll", "--model", tagging_model, lines)
    blocks = [[line.split("\t") for line in block.split("\n") if line] for block in outcome.out.split("\n\n")]
    expected = [[[word.text, tag] for word, tag in zip(each.words, each.tags, strict=True)] for each in tagger(TEXTS)]
    assert [block for block in blocks if block] == [block for block in expected if block]
    assert outcome.out.split("\n").count("") == len(TEXTS) + 1


def test_brat(run: Run, tagging_model: str, tagger: Tagger, tmp_path: Path) -> None:
    """Offsets are those of the whole document; a line break within a text is a space."""
    texts = [*TEXTS, "Alan\nTuring\tAnkara"]
    assert run("tag", "--format=brat", "--model", tagging_model, "--output", tmp_path / "it.txt", *texts).code == 0
    document = (tmp_path / "it.txt").read_text(encoding="utf-8")
    assert document == "".join(text.translate({9: " ", 10: " "}) + "\n" for text in texts)
    rows = [line.split("\t") for line in (tmp_path / "it.ann").read_text(encoding="utf-8").splitlines()]
    assert [row[0] for row in rows] == [f"T{number + 1}" for number in range(len(rows))]
    assert len(rows) == sum(len(each.entities) for each in tagger(texts)) > 3
    for _, place, text in rows:
        _, start, end = place.split()
        assert document[int(start) : int(end)] == text


class Marks(HTMLParser):
    """Collects the paragraphs of a page and its marks."""

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: list[str] = []
        self.marks: list[str] = []
        self.path: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.path.append(tag)
        if tag == "p":
            self.paragraphs.append("")
        elif tag == "mark":
            self.marks.append("")
        elif tag == "br":
            self.path.pop()

    def handle_endtag(self, tag: str) -> None:
        while self.path.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "p" in self.path and "small" not in self.path:
            self.paragraphs[-1] += data
        if self.path[-1:] == ["mark"]:
            self.marks[-1] += data


def test_html(run: Run, tagging_model: str, tagger: Tagger, tmp_path: Path) -> None:
    """The page has each text as it is, its entities marked, and needs nothing from elsewhere."""
    assert run("tag", "--format=html", "--model", tagging_model, "--output", tmp_path / "it.html", *TEXTS).code == 0
    page = (tmp_path / "it.html").read_text(encoding="utf-8")
    marks = Marks()
    marks.feed(page)
    assert marks.paragraphs == TEXTS
    assert marks.marks == [entity.text for each in tagger(TEXTS) for entity in each.entities]
    assert page.count("<small>") == len(marks.marks) > 3
    assert "://" not in page
    assert "<b>" not in page


def _files(folder: Path) -> dict[str, bytes]:
    """The content of each file in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class Interrupted:
    """Runs ``tag`` on two texts at a time, and ends it at the write of a batch, as a full disk does.

    Args:
        run: Runs a command.
        monkeypatch: Replaces the size of a batch and the write.
        recorded: Whether each batch is recorded at once; none otherwise, as in a run of less than a second.
    """

    def __init__(self, run: Run, monkeypatch: pytest.MonkeyPatch, recorded: bool = True) -> None:
        self.run = run
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(xner.cli.tagging, "_TEXTS", 2)
        monkeypatch.setattr(xner.cli.writers, "_SECONDS", -1.0 if recorded else 1e9)

    def __call__(self, batches: int, *command: object) -> None:
        left = iter(range(batches))
        write = FileOutput.write

        def write_or_fail(output: FileOutput, batch: list[Tagged]) -> None:
            write(output, batch)
            if next(left, None) is None:
                raise OSError(errno.ENOSPC, "No space left on device", output.options.output)

        with self.monkeypatch.context() as patch:
            patch.setattr(FileOutput, "write", write_or_fail)
            assert_one_line(self.run(*command), 1, "No space left on device")


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("form", ["table", "jsonl", "conll", "html", "brat"])
def test_resume(
    run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, recorded: bool
) -> None:
    """After whichever batch a run ended, and whatever it wrote of the next, a resumed one ends with the same files."""
    interrupt = Interrupted(run, monkeypatch, recorded)
    whole, part = tmp_path / "whole.txt", tmp_path / "part.txt"
    command = ["tag", "--format", form, "--model", tagging_model, *TEXTS, *TEXTS, TURING]
    assert run(*command, "--output", whole).code == 0
    suffixes = [".txt", ".ann"] if form == "brat" else [".txt"]
    for batches in range(5):
        interrupt(batches, *command, "--output", part)
        for suffix in suffixes:
            with part.with_suffix(suffix).open("ab") as file:
                file.write("Ayş".encode()[:-1])
        record = json.loads((tmp_path / "part.txt.resume").read_text(encoding="utf-8"))
        assert record["texts"] == (min(9, 2 * batches + 2) if recorded else 0)
        if batches < 4:
            interrupt(0, *command, "--output", part, "--resume")
        assert run(*command, "--output", part, "--resume").code == 0
        for suffix in suffixes:
            assert part.with_suffix(suffix).read_bytes() == whole.with_suffix(suffix).read_bytes()
    names = {name + suffix for name in ("whole", "part") for suffix in suffixes}
    assert {*_files(tmp_path)} == {*names, "part.txt.resume"}
    # The record stays where a run was continued: the same command has nothing to do, and one that begins removes it.
    before = _files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Tagger, "__call__", None)
        assert run(*command, "--output", part, "--resume").code == 0
    assert _files(tmp_path) == before
    assert run(*command, "--output", part).code == 0
    assert {*_files(tmp_path)} == names


def test_resume_before_the_first_run(run: Run, tagging_model: str, tmp_path: Path) -> None:
    """Where there is nothing yet, not even the folder, or no batch was complete, a run that would continue begins."""
    path = tmp_path / "new" / "folder" / "it.jsonl"
    command = ["tag", "--format=jsonl", "--model", tagging_model, TURING, "--output"]
    assert run(*command, path, "--resume").code == 0
    assert json.loads(path.read_text(encoding="utf-8"))["text"] == TURING
    (tmp_path / "empty.jsonl").touch()
    assert run(*command, tmp_path / "empty.jsonl", "--resume").code == 0
    assert (tmp_path / "empty.jsonl").read_bytes() == path.read_bytes()


def test_resume_after_the_end(run: Run, tagging_model: str, tmp_path: Path) -> None:
    """What was added to a complete file is not cut off; more texts go on from its end."""
    path = tmp_path / "it.jsonl"
    command = ["tag", "--format=jsonl", "--model", tagging_model, "--output", path, "--resume", TURING]
    assert run(*command).code == 0
    written = path.read_bytes()
    path.write_bytes(written + b"mine\n")
    for more in ([], ["Ankara"]):
        assert_one_line(run(*command, *more), 2, f"'{path}' has changed since tag wrote it")
        assert path.read_bytes() == written + b"mine\n"
    path.write_bytes(written)
    assert run(*command, "Ankara").code == 0
    assert path.read_bytes().startswith(written)
    assert path.read_bytes().count(b"\n") == 2


def test_resume_tags_the_same_batches(
    run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The texts that are tagged together are those of an undisturbed run, on which a score's last digit may depend."""
    interrupt = Interrupted(run, monkeypatch)
    batches: list[list[str]] = []
    call = Tagger.__call__

    def noted(tagger: Tagger, texts: list[str]) -> list[Tagged]:
        batches.append(texts)
        return call(tagger, texts)

    monkeypatch.setattr(Tagger, "__call__", noted)
    command = ["tag", "--format=jsonl", "--model", tagging_model, *"abcdefg", "--output", tmp_path / "it.jsonl"]
    interrupt(1, *command)
    batches.clear()
    assert run(*command, "--resume").code == 0
    assert batches == [["e", "f"], ["g"]]


def test_resume_with_other_texts(run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts that the file is not the beginning of are refused, and the file is left unchanged; more texts are not."""
    interrupt = Interrupted(run, monkeypatch)
    path, texts = tmp_path / "it.txt", ["Ayşe <b> lives\tin İzmir.", "A \ud83d b & c"]
    command = ["tag", "--format=jsonl", "--model", tagging_model, "--output", path]
    interrupt(0, *command, *texts, TURING)
    before = path.read_bytes()
    for other in ([texts[1], texts[0], TURING], [texts[0]], [], [texts[0] + texts[1], ""], ["", *texts]):
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        outcome = run(*command, *other, "--resume")
        assert_one_line(outcome, 2, f"output='{path}' has 2 texts, which are not the first ones of those given")
        assert path.read_bytes() == before
    assert run(*command, *texts, TURING, "Ankara", "--resume").code == 0
    whole = path.read_bytes()
    assert run(*command, *texts, TURING, "Ankara").code == 0
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "other", ["--precision=bfloat16", "--decoding=viterbi", "--format=html", "--fields=transformers", "--model"]
)
def test_resume_with_other_options(
    run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """Results of two models, or under two settings, are not mixed in a file."""
    copy = shutil.copytree(tagging_model, tmp_path / "copy")
    path = tmp_path / "it.txt"
    command = ["tag", "--format=jsonl", "--output", path, TURING, *TEXTS]
    Interrupted(run, monkeypatch)(0, *command, "--model", tagging_model)
    before = path.read_bytes()
    changed = ["--model", tagging_model, other]
    if other == "--model":
        changed = ["--model", str(copy)]
        other = f"model='{copy}'"
        calibration = json.loads((copy / "config.json").read_text(encoding="utf-8"))
        (copy / "config.json").write_text(json.dumps({**calibration, "temperature": 9.0}), encoding="utf-8")
    outcome = run(*command, "--resume", *changed)
    name, value = other.removeprefix("--").split("=")
    assert_one_line(outcome, 2, f"output='{path}' was begun with another {name} than {name}=", value)
    assert path.read_bytes() == before


def test_resume_with_a_moved_model(
    run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the model's content that counts, not its path."""
    copy = shutil.copytree(tagging_model, tmp_path / "copy")
    command = ["tag", "--format=jsonl", "--output", tmp_path / "it.jsonl", *TEXTS]
    Interrupted(run, monkeypatch)(0, *command, "--model", tagging_model)
    assert run(*command, "--resume", "--model", copy).code == 0


@pytest.mark.parametrize("damage", ["changed", "shortened", "lost", "record", "no record"])
@pytest.mark.parametrize("suffix", [".txt", ".ann"])
def test_resume_after_damage(
    run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, suffix: str
) -> None:
    """Files that are not what was written, as after an edit, are refused and stay as they are."""
    path, record = tmp_path / "it.txt", tmp_path / "it.txt.resume"
    command = ["tag", "--format=brat", "--model", tagging_model, "--output", path, TURING, *TEXTS]
    Interrupted(run, monkeypatch)(0, *command)
    changed = path.with_suffix(suffix)
    content = changed.read_bytes()
    problem = f"'{changed}' has changed since tag wrote it"
    if damage == "changed":
        changed.write_bytes(content[:3] + b"!" + content[4:])
    elif damage == "shortened":
        changed.write_bytes(content[:-1])
    elif damage == "lost":
        changed.unlink()
    elif damage == "record":
        record.write_bytes(record.read_bytes().replace(b'"entities": ', b'"entities": 1'))
        problem = f"'{record}' is damaged, or not of tag (its checksum does not match)"
    elif damage == "no record":
        record.unlink()
        problem = "has no 'it.txt.resume' beside it: it is complete, or tag did not write it"
    before = _files(tmp_path)
    assert_one_line(run(*command, "--resume"), 2, problem, "leave --resume out")
    assert _files(tmp_path) == before
    if damage == "record":
        record.unlink()
    assert run(*command).code == 0
    assert not record.exists()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", "null", "[" * 9999, {"texts": "2"}, {"entities": None}, {"files": [1]}],
)
def test_resume_with_another_record(
    run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | dict[str, object]
) -> None:
    """A record of any other content is refused in a line."""
    path, record = tmp_path / "it.jsonl", tmp_path / "it.jsonl.resume"
    command = ["tag", "--format=jsonl", "--model", tagging_model, "--output", path, *TEXTS]
    Interrupted(run, monkeypatch)(0, *command)
    if isinstance(content, dict):
        changed = json.loads(record.read_bytes()) | content
        checked = {name: value for name, value in changed.items() if name != "checksum"}
        content = json.dumps(with_checksum(checked))
    record.write_text(content, encoding="utf-8")
    assert_one_line(run(*command, "--resume"), 2, f"'{record}' is damaged", "delete it and leave --resume out")
    assert json.loads(path.read_bytes().splitlines()[0])["text"] == TURING


@pytest.mark.parametrize("name", ["it.txt", "link.txt", "hard.txt", "it.ann"])
def test_output_of_another_process(run: Run, tagging_model: str, tmp_path: Path, name: str) -> None:
    """Files that another process writes are refused, by whatever name, with and without --resume."""
    path = tmp_path / "it.txt"
    brat = ["tag", "--format=brat", "--model", tagging_model, TURING]
    assert run(*brat, "--output", path).code == 0
    (tmp_path / "link.txt").symlink_to(path)
    (tmp_path / "hard.txt").hardlink_to(path)
    before = _files(tmp_path)
    with FileOutput(format_of("brat", "xner", 80), Namespace(**OPTIONS, model=tagging_model, output=str(path))):
        for more in ([], ["--resume"]):
            command = ["tag", "--format=jsonl", "--model", tagging_model, TURING, "--output", tmp_path / name, *more]
            assert_one_line(run(*command), 1, f"output='{tmp_path / name}' is in use by another process")
    assert _files(tmp_path) == before
    assert run(*brat, "--output", path).code == 0


def test_two_begin_one_output(run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that this process creates, and another one locks before it does, is not deleted."""
    monkeypatch.setattr(xner.cli.writers, "lock_descriptor", lambda *_, **__: False)
    path = tmp_path / "it.jsonl"
    assert_one_line(run("tag", "--model", tagging_model, TURING, "--output", path), 1, "is in use by another process")
    assert path.exists()


def test_file_system_without_locks(
    run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where files cannot be locked, as on some clusters, a line says so and the texts are tagged."""

    def fail(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(xner.cli.writers, "lock_descriptor", fail)
    path = tmp_path / "it.jsonl"
    assert run("tag", "--format=jsonl", "--model", tagging_model, TURING, "--output", path).code == 0
    assert path.read_bytes().count(b"\n") == 1
    assert caplog.messages == [f"{path} is on a file system without locks: no other process must write it now"]


def test_resume_through_a_link(run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is continued by its own name where it was begun by that of a link, in another folder."""
    (tmp_path / "links").mkdir()
    path, link = tmp_path / "it.jsonl", tmp_path / "links" / "link"
    link.symlink_to(path)
    command = ["tag", "--format=jsonl", "--model", tagging_model, *TEXTS, "--output"]
    Interrupted(run, monkeypatch)(0, *command, link)
    assert run(*command, path, "--resume").code == 0
    assert path.read_bytes().count(b"\n") == len(TEXTS)
    assert {*_files(tmp_path)} == {"it.jsonl", "it.jsonl.resume"}


def test_width_of_a_file(run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table in a file is as wide whatever the terminal, which may be another one when it is continued."""
    contents = set()
    for columns in "40", "200":
        monkeypatch.setenv("COLUMNS", columns)
        assert run("tag", "--model", tagging_model, "--output", tmp_path / "it.txt", f"{TURING} {TURING}").code == 0
        contents.add((tmp_path / "it.txt").read_text(encoding="utf-8"))
    [content] = contents
    assert 80 < max(map(len, content.splitlines())) <= 100


def test_foreign_record(run: Run, tagging_model: str, tmp_path: Path) -> None:
    """A file that has the record's name, but is none, is neither replaced nor deleted."""
    (tmp_path / "it.jsonl.resume").write_text("my own\n", encoding="utf-8")
    command = ["tag", "--format=jsonl", "--model", tagging_model, TURING, "--output", tmp_path / "it.jsonl"]
    for more in ([], ["--resume"]):
        assert_one_line(run(*command, *more), 2, f"'{tmp_path / 'it.jsonl.resume'}' is damaged, or not of tag")
        assert _files(tmp_path) == {"it.jsonl.resume": b"my own\n"}


def test_parts_are_removed(run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill within the write of the record leaves is deleted when the file is complete."""
    command = ["tag", "--format=jsonl", "--model", tagging_model, *TEXTS, "--output", tmp_path / "[it].jsonl"]
    Interrupted(run, monkeypatch)(0, *command)
    (tmp_path / ".[it].jsonl.resume.4194305.part").touch()
    assert run(*command, "--resume").code == 0
    assert {*_files(tmp_path)} == {"[it].jsonl", "[it].jsonl.resume"}


def test_full_disk(run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails names the output and how to go on."""
    path = tmp_path / "it.jsonl"
    command = ["tag", "--format=jsonl", "--model", tagging_model, *TEXTS, "--output", path]

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(xner.cli.writers._HashedFile, "state", fail)
        assert_one_line(
            run(*command),
            1,
            f"output='{path}' cannot be written (No space left on device); correct that, or use another one",
        )
        assert _files(tmp_path) == {}
    with monkeypatch.context() as patch:
        patch.setattr(xner.cli.writers._HashedFile, "write", fail)
        assert_one_line(run(*command), 1, f"output='{path}' cannot be written (No space", "use --resume to go on")
    assert run(*command, "--resume").code == 0


def test_nothing_on_standard_error(tagging_model: str, tmp_path: Path) -> None:
    """A tagged text leaves standard error empty, without a progress bar of loading, also in other processes."""
    done = process("tag", "--model", tagging_model, "--processes", 2, "--", TURING, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.slow
def test_limited_file(tagging_model: str, tmp_path: Path) -> None:
    """Where the system itself refuses a write, the line names the output too, and a resumed run completes it."""
    texts, path = tmp_path / "texts.txt", tmp_path / "it.jsonl"
    texts.write_text(f"{TURING}\n" * 700, encoding="utf-8")
    command = [sys.executable, "-m", "xner.cli", "tag", "--model", tagging_model, "--format=jsonl", str(texts)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    limited = "import resource, os, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); "
    limited += "os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", limited, *command, "--output", str(path)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"xner: error: output='{path}' cannot be written (File too large" in done.stderr
    assert done.stderr.strip().endswith("correct that, and use --resume to go on")
    subprocess.run([*command, "--output", str(path), "--resume"], env=environment, check=True)
    assert path.read_bytes().count(b"\n") == 700


def test_entities_that_are_no_file(run: Run, tagging_model: str, tmp_path: Path) -> None:
    """Where brat's entities cannot be written, the texts of an earlier run stay."""
    (tmp_path / "it.ann").mkdir()
    (tmp_path / "it.txt").write_text("kept", encoding="utf-8")
    outcome = run("tag", "--format=brat", "--model", tagging_model, "--output", tmp_path / "it.txt", TURING)
    assert_one_line(outcome, 2, f"would replace '{tmp_path / 'it.ann'}', which is not a file; use another one")
    assert _files(tmp_path) == {"it.txt": b"kept"}


def test_record_is_no_input(run: Run, tagging_model: str, tmp_path: Path) -> None:
    """The record that would stand beside the output is not read as texts."""
    texts = tmp_path / "it.resume"
    texts.write_text(TURING, encoding="utf-8")
    outcome = run("tag", "--format=jsonl", "--model", tagging_model, "--output", tmp_path / "it", texts)
    assert_one_line(outcome, 2, f"would replace '{texts}', which is a file to read")
    assert texts.read_text(encoding="utf-8") == TURING


def test_entities_beside_are_no_input(run: Run, tagging_model: str, tmp_path: Path) -> None:
    """The file of entities that brat's output would replace is not read as texts."""
    texts = tmp_path / "it.ann"
    texts.write_text(f"{TURING}\n", encoding="utf-8")
    outcome = run("tag", "--format=brat", "--model", tagging_model, "--output", tmp_path / "it.txt", texts)
    assert_one_line(outcome, 2, f"would replace '{texts}', which is a file to read")
    assert texts.read_text(encoding="utf-8") == f"{TURING}\n"
    assert not (tmp_path / "it.txt").exists()


def test_standard_input_is_read_like_a_file(
    run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a byte-order mark nor the line ends of Windows are part of a text."""
    content = b"\xef\xbb\xbfAnkara is large.\r\nAli\r\n"
    (tmp_path / "it.txt").write_bytes(content)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="\n"))
    outcomes = [run("tag", "--format=jsonl", "--model", tagging_model, *more) for more in ([], [tmp_path / "it.txt"])]
    assert outcomes[0].out == outcomes[1].out
    assert [json.loads(line)["text"] for line in outcomes[0].out.splitlines()] == ["Ankara is large.", "Ali"]


def test_name_of_no_file(run: Run, tagging_model: str, caplog: pytest.LogCaptureFixture) -> None:
    """A text that looks like the path of a file is tagged, with a warning."""
    assert run("tag", "--model", tagging_model, "nowhere.txt", "Ankara").code == 0
    assert caplog.messages == ["'nowhere.txt' is not a file, so it is tagged as text"]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends a process with its parent")
@pytest.mark.slow
def test_processes_end_with_the_command(tagging_model: str, tmp_path: Path) -> None:
    """The processes of a command that is killed do not stay behind."""
    texts = tmp_path / "texts.txt"
    texts.write_text(f"{TURING}\n" * 20_000, encoding="utf-8")
    output = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "xner.cli", "tag", "--model", tagging_model, "--format", "jsonl", str(texts)]
    running = subprocess.Popen(
        [*command, "--output", str(output), "--processes", "2"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    while running.poll() is None and not (output.exists() and output.stat().st_size):
        time.sleep(0.05)
    running.kill()
    # Standard error ends when the last process that has it does.
    running.communicate(timeout=30)


@pytest.mark.slow
def test_killed_run_goes_on(tagging_model: str, tmp_path: Path) -> None:
    """A run that is killed while it writes, and resumed, ends with the file of an undisturbed one."""
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"{TURING} {number}\n" for number in range(3000)), encoding="utf-8")
    base = [sys.executable, "-m", "xner.cli", "tag", "--model", tagging_model, "--format", "jsonl", str(texts)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    part, whole, several = (tmp_path / f"{name}.jsonl" for name in ("part", "whole", "several"))
    running = subprocess.Popen([*base, "--output", str(part)], env=environment)
    while running.poll() is None and (not part.exists() or part.stat().st_size < 50_000):
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = part.stat().st_size
    subprocess.run([*base, "--output", str(part), "--resume"], env=environment, check=True)
    subprocess.run([*base, "--output", str(whole)], env=environment, check=True)
    subprocess.run([*base, "--output", str(several), "--processes", "2"], env=environment, check=True)
    assert 50_000 <= before < whole.stat().st_size
    assert part.read_bytes() == whole.read_bytes()
    # With another number of threads, the last digit of a score may be another.
    one, other = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in (whole, several)
    )
    assert len(one) == 3000
    for left, right in zip(one, other, strict=True):
        assert left["text"] == right["text"]
        assert left["tags"] == right["tags"]


def test_input_is_read_lazily(run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are written while the input is read, so that it may be larger than the memory."""
    output, ahead = tmp_path / "it.jsonl", []

    class Lines(io.StringIO):
        count = 0

        def readline(self, size: int = -1, /) -> str:
            self.count += 1
            written = output.read_text(encoding="utf-8").count("\n") if output.exists() else 0
            ahead.append(self.count - written)
            return "Ankara " * 40 + "\n" if self.count < 900 else ""

    monkeypatch.setattr("sys.stdin", Lines())
    assert run("tag", "--format=jsonl", "--model", tagging_model, "--output", output).code == 0
    assert len(ahead) == 900
    assert max(ahead) <= 300
    assert output.read_text(encoding="utf-8").count("\n") == 899


def test_long_line_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is too long is read in parts, cut at white space where there is some, and nothing is lost."""
    monkeypatch.setattr(xner.cli.tagging, "LONGEST", 20)
    lines = ["Ankara'da " * 10, "short", "", "x" * 50, "x" * 20, "a " * 10, "end"]
    parts = [*read_texts(io.StringIO("\n".join(lines)), "it")]
    assert "".join(parts) == "".join(lines)
    assert max(map(len, parts)) <= 20
    assert all(part.endswith(" ") for part in parts[:5])
    assert {"short", "", "end"} <= {*parts}


def test_long_line_in_little_memory(tmp_path: Path, tagging_model: str) -> None:
    """A line of 30 MB is read with memory for a small part of it."""
    path = tmp_path / "long.txt"
    path.write_text("Ankara'da yaşadı " * 1_800_000, encoding="utf-8")
    code = (
        "import resource, sys; from xner.cli.tagging import _batches, _read\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(sum(len(text) for batch in _batches(_read(sys.argv[1:])) for text in batch))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, cwd=ROOT)
    characters, kilobytes = map(int, done.stdout.split())
    assert characters == 17 * 1_800_000
    assert kilobytes < 20_000


def test_nothing_to_tag(run: Run, tagging_model: str, tmp_path: Path) -> None:
    """An empty file has no texts: nothing is printed, and a page is complete without any."""
    (tmp_path / "empty.txt").touch()
    assert run("tag", "--model", tagging_model, tmp_path / "empty.txt") == (0, "", "")
    outcome = run("tag", "--model", tagging_model, "--format=html", tmp_path / "empty.txt")
    assert outcome.out.startswith("<!doctype html>")
    assert "<p" not in outcome.out


def test_dash(run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After --, a text and the name of a file may begin with a dash."""
    monkeypatch.chdir(tmp_path)
    Path("-file").write_text("Ankara\n", encoding="utf-8")
    outcome = run(
        "tag", "a", "--model", tagging_model, "--format=jsonl", "b", "--", "-hello Berlin", "-file", "--", "c"
    )
    texts = [json.loads(line)["text"] for line in outcome.out.splitlines()]
    assert texts == ["a", "b", "-hello Berlin", "Ankara", "--", "c"]


def test_half_a_surrogate(run: Run, tagging_model: str) -> None:
    """A surrogate without its other half, which no file can hold, is a question mark."""
    outcome = run("tag", "--model", tagging_model, "--format=jsonl", "Ankara \ud83d İzmir")
    assert json.loads(outcome.out)["text"] == "Ankara ? İzmir"


def test_input_that_is_no_text(run: Run, tagging_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Input in another encoding is one clear line, not a traceback."""
    content = "Ankara\nŞişli".encode("iso-8859-9")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
    assert_one_line(run("tag", "--model", tagging_model), 1, "standard input is not UTF-8")
    (tmp_path / "it.txt").write_bytes(content)
    assert_one_line(run("tag", "--model", tagging_model, tmp_path / "it.txt"), 1, f"{tmp_path / 'it.txt'} is not UTF-8")


def test_input_that_is_no_text_replaces_nothing(run: Run, tagging_model: str, tmp_path: Path) -> None:
    """The results of an earlier run are still there after one whose input cannot be read."""
    (tmp_path / "it.txt").write_bytes("Şişli".encode("iso-8859-9"))
    for form, names in {"jsonl": ["earlier.txt"], "brat": ["earlier.txt", "earlier.ann"]}.items():
        for name in names:
            (tmp_path / name).write_text("kept", encoding="utf-8")
        output = [f"--format={form}", "--output", tmp_path / "earlier.txt"]
        assert_one_line(run("tag", "--model", tagging_model, *output, tmp_path / "it.txt"), 1, "it.txt is not UTF-8")
        assert {(tmp_path / name).read_text(encoding="utf-8") for name in names} == {"kept"}
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "target.jsonl")
    output = ["--output", tmp_path / "link.jsonl"]
    assert_one_line(run("tag", "--model", tagging_model, *output, tmp_path / "it.txt"), 1, "it.txt is not UTF-8")
    assert (tmp_path / "link.jsonl").is_symlink()
    assert not (tmp_path / "target.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["."], "'.' is a folder; use files"),
        (["--processes=0", "a"], "processes=0 is out of range"),
        (["--fields=transformers", "a"], "fields=transformers is not possible with format=table"),
        (["--format=brat", "a"], "format=brat needs a file to write; use --output FILE"),
        (["--resume", "--format=jsonl", "a"], "resume=true needs a file to write"),
        (["--output=/dev/null", "a"], "output='/dev/null' would replace '/dev/null', which is not a file"),
        (["--format=brat", "--output=x.ann", "a"], "output='x.ann' is the name of the texts in format=brat"),
        (["--output=.", "a"], "output='.' is a folder; use a file in it"),
        (["--format=pdf", "a"], "invalid choice: 'pdf'"),
    ],
)
def test_mistakes(run: Run, tagging_model: str, options: list[str], problem: str) -> None:
    """An option that makes no sense is one line."""
    assert_one_line(run("tag", "--model", tagging_model, *options), 2, problem)


def test_input_is_not_overwritten(run: Run, tagging_model: str, lines: Path) -> None:
    """A file is not replaced by its own entities."""
    assert_one_line(run("tag", "--model", tagging_model, "--output", lines, lines), 2, "which is a file to read")
    assert lines.read_text(encoding="utf-8").startswith(TURING)


@pytest.mark.parametrize("processes", [1, 2])
def test_models_that_are_refused(
    run: Run, tiny_backbone: str, tagging_model: str, tmp_path: Path, processes: int
) -> None:
    """No head, another task, an empty folder and no folder are one line each; nothing is written."""
    other = shutil.copytree(tagging_model, tmp_path / "other")
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["XLMRobertaForSequenceClassification"]
    (other / "config.json").write_text(json.dumps(config), encoding="utf-8")
    output = tmp_path / "it.txt"
    for folder, problem, code in (
        (tiny_backbone, "no trained head", 2),
        (str(other), "no trained head", 2),
        (str(tmp_path), "holds no config.json", 2),
        ("./nowhere", "is not a folder", 2),
        ("nobody/nothing", "cannot be loaded", 1),
    ):
        outcome = run("tag", "--model", folder, "--processes", processes, "--output", output, "Ankara")
        assert_one_line(outcome, code, f"model={folder!r}", problem)
    assert not output.exists()


def test_pickled_weights_are_refused(run: Run, tagging_model: str, tmp_path: Path) -> None:
    """Weights that are only pickled, even without code, are not read."""
    folder = shutil.copytree(tagging_model, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert_one_line(run("tag", "--model", folder, "Ankara"), 2, "holds no model.safetensors")
