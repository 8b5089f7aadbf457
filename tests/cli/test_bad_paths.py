"""Paths of configurations, texts, corpora and runs that cannot be read, and files that are odd but can be."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands import Run, assert_one_line, options

NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Take away the rights of root, whom no file is closed to."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


Words = Callable[[str, Path], list[object]]

KINDS = (
    "config data sample_from ckpt_path root source backbone predict tag model output corpus report report-to".split()
)
"""What reads or writes the path."""


@pytest.fixture
def words(source: Path, scored_backbone: Path, tiny_backbone: str, tmp_path: Path) -> Words:
    """Make a command that uses a path; what it writes otherwise is in ``tmp_path / "new"``."""
    new = tmp_path / "new"
    fit, tag = ["fit", *options(source, tiny_backbone, new / "run")], ["tag", "--model", scored_backbone]
    export = ["export", "--model", scored_backbone, "--format=safetensors", f"--output={new / 'export'}"]

    def make(kind: str, path: Path) -> list[object]:
        commands: dict[str, list[object]] = {
            "config": [*fit, f"--config={path}"],
            "data": [*fit, f"--data={path}"],
            "sample_from": [*fit, f"--data.sample_from={path}"],
            "ckpt_path": [*fit, f"--ckpt_path={path}"],
            "root": [*fit, f"--trainer.default_root_dir={path}"],
            "source": [*fit, f"--data.source={path}"],
            "backbone": [*fit, f"--model.backbone={path}"],
            "predict": ["predict", *options(path, scored_backbone, new / "run"), "--data.languages=[tr]"],
            "tag": [*tag, path],
            "model": ["tag", "--model", path, "Ankara"],
            "output": [*tag, "Ankara", f"--output={path}"],
            "corpus": [*export, f"--corpus={path}"],
            "report": ["report", path],
            "report-to": ["report", tmp_path / "run", f"--output={path}"],
        }
        return commands[kind]

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_loops(run: Run, words: Words, write_run: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    """A symbolic link to itself gives one line with its name, and nothing is written."""
    if kind == "report-to":
        write_run(tmp_path / "run", sizes=(250,), sentences=8)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    outcome = run(*words(kind, loop))
    assert_one_line(outcome, outcome.code, str(loop))
    assert outcome.code in (1, 2)
    assert loop.is_symlink()
    assert not (tmp_path / "new").exists()


@pytest.fixture
def closed(
    source: Path, scored_backbone: Path, tiny_backbone: str, tmp_path: Path, write_run: Callable[..., Path]
) -> Iterator[tuple[Path, Path]]:
    """A file and a folder that only root may read, where everything else is open to everyone."""
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("a: 1\n", encoding="utf-8")
    folder.mkdir()
    write_run(tmp_path / "run", sizes=(250,), sentences=8)
    used = (source, scored_backbone, Path(tiny_backbone), tmp_path, tmp_path / "cwd", Path(os.environ["XNER_CACHE"]))
    folders = {each for path in used for each in (path, *path.parents) if "pytest" in str(each)}
    modes = {each: each.stat().st_mode for each in folders}
    for each in modes:
        each.chmod(0o777)
    for each in (file, folder):
        each.chmod(0)
    yield file, folder
    for each in (file, folder):
        each.chmod(0o700)
    for each, mode in modes.items():
        each.chmod(mode)


@pytest.mark.parametrize("kind", KINDS)
def test_no_permission(run: Run, words: Words, kind: str, tmp_path: Path, closed: tuple[Path, Path]) -> None:
    """A file or a folder that its owner has closed gives one line with its name."""
    path = closed[kind in ("root", "source", "backbone", "model", "report", "report-to")]
    run(*words(kind, path))  # imports everything as root, because the interpreter may be root's alone
    shutil.rmtree(tmp_path / "new", ignore_errors=True)
    with unprivileged():
        outcome = run(*words(kind, path))
    assert_one_line(outcome, outcome.code, str(path))
    assert outcome.code in (1, 2)


@pytest.mark.parametrize(
    "content", ["data:\r\n  batch_size: 7\r\n", "\ufeffdata: {batch_size: 7}\n", "data: {batch_size: 7}"]
)
def test_odd_configurations(run: Run, source: Path, tiny_backbone: str, tmp_path: Path, content: str) -> None:
    """Configurations with Windows line ends, a byte-order mark, or no line end are read."""
    (tmp_path / "config.yaml").write_text(content, encoding="utf-8", newline="")
    command = ["fit", f"--config={tmp_path / 'config.yaml'}", *options(source, tiny_backbone, tmp_path / "run")]
    outcome = run(*command, "--print_config")
    assert outcome.code == 0, outcome
    assert "batch_size: 7" in outcome.out


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"data: {batch_size: 7}\0",
        b"data: {source: '" + b"x" * 50_000_000 + b"'}",
        b"x" * 50_000_000,
        b'data: {source: "a\\0b"}',
        b'data: {source: "\\ud83d"}',
        "data: {batch_size: 7}".encode("utf-16"),
        b"\t- : {",
    ],
    ids=["empty", "NUL", "long value", "long line", "escaped NUL", "half a surrogate", "UTF-16", "no YAML"],
)
def test_wrong_configurations(run: Run, source: Path, tiny_backbone: str, tmp_path: Path, content: bytes) -> None:
    """A configuration that is none gives one short line."""
    (tmp_path / "config.yaml").write_bytes(content)
    command = ["fit", *options(source, tiny_backbone, tmp_path / "run"), f"--config={tmp_path / 'config.yaml'}"]
    outcome = run(*command)
    assert_one_line(outcome, 2, "config.yaml" if len(content) > 100 else "")
    assert len(outcome.err) < 3000
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_odd_texts(run: Run, scored_backbone: Path, tmp_path: Path, end: str) -> None:
    """A byte-order mark and line ends are no part of a text; NUL and a word of 100,000 characters are."""
    texts = ["Ankara", "a\0b", "x" * 100_000]
    (tmp_path / "texts").write_text("\ufeff" + end.join(texts) + end, encoding="utf-8", newline="")
    outcome = run("tag", "--model", scored_backbone, "--format=jsonl", tmp_path / "texts")
    assert outcome.code == 0
    assert [json.loads(line)["text"] for line in outcome.out.splitlines()] == texts
