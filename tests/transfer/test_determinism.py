"""The same transfer twice gives the same bytes, with an encoding cache and without, in one process and in two."""

import csv
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.commands import options
from tests.transfer.test_restart import REPOSITORY
from xner.cli.main import main
from xner.files import cache_folder


def transfer(source: Path, backbone: Path, root: Path, *further: str) -> list[str]:
    own = ("--sizes=[10]", "--model.learning_rate=5e-3", "--data.batch_size=4")
    return ["transfer", *options(source, backbone, root), *own, *further]


def without_seconds(path: Path) -> bytes:
    """Return the bytes of a ``results.csv`` without the content of its column ``seconds``."""
    text = path.read_bytes().decode()
    head, *rows = csv.reader(text.splitlines())
    column = head.index("seconds")
    lines = [line.split(",") for line in text.splitlines(keepends=True)]
    assert [len(line) for line in lines] == [len(head)] * (1 + len(rows))  # no cell is quoted
    return "".join(",".join([*line[:column], "", *line[column + 1 :]]) for line in lines[1:]).encode()


def assert_same_bytes(roots: Sequence[Path]) -> None:
    """Every run has the bytes of the first one: its scores, its counts and its weights."""
    first, *others = roots
    assert without_seconds(first / "results.csv").count(b"\n") == 4
    for other in others:
        assert without_seconds(other / "results.csv") == without_seconds(first / "results.csv")
        for path in (each for each in first.rglob("*") if each.suffix in (".npz", ".safetensors", ".csv")):
            if path.name not in ("results.csv", "metrics.csv"):
                assert path.read_bytes() == (other / path.relative_to(first)).read_bytes(), path


def test_twice(source: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Splits are encoded in the first run, taken from the cache in the second, and cannot be cached in the third."""
    main(transfer(source, tiny_backbone, tmp_path / "session"))
    measured = cache_folder() / "products.json"

    def refuse(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    for name, cache in (("new", "cache"), ("used", "cache"), ("none", "full")):
        folder = tmp_path / cache
        monkeypatch.setenv("XNER_CACHE", str(folder))
        if name != "used":
            folder.mkdir()
            if measured.is_file():  # which library of products is the fastest is measured once per machine
                shutil.copy(measured, folder)
        if name == "none":
            monkeypatch.setattr("xner.data.encoded_cache.write_atomically", refuse)
        assert bool([*folder.glob("en-train-*.safetensors")]) == (name == "used")
        main(transfer(source, tiny_backbone, tmp_path / name))
        assert bool([*folder.glob("en-train-*.safetensors")]) == (name != "none")
    assert_same_bytes([tmp_path / name for name in ("session", "new", "used", "none")])


@pytest.mark.slow
def test_two_processes(source: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """Two processes give the same bytes twice."""
    several = ("--trainer.strategy=ddp", "--trainer.devices=2", "--data.batch_size=2")
    for name in ("first", "second"):
        command = transfer(source, tiny_backbone, tmp_path / name, *several)
        subprocess.run([sys.executable, "train.py", *command], cwd=REPOSITORY, check=True)
    assert_same_bytes([tmp_path / "first", tmp_path / "second"])
