import os
import time
from pathlib import Path

import pytest

from xner.files import STALE, file_atomically, folder_atomically, remove_folder, remove_parts, write_atomically


def test_write(tmp_path: Path) -> None:
    """Text is written as UTF-8 and bytes unchanged; they replace the old file, and no part is left."""
    write_atomically(tmp_path / "file", "İ\n")
    write_atomically(tmp_path / "file", b"\xff")
    assert (tmp_path / "file").read_bytes() == b"\xff"
    write_atomically(tmp_path / "file", "İ\n")
    assert (tmp_path / "file").read_bytes() == "İ\n".encode()
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


def test_write_that_fails(tmp_path: Path) -> None:
    """Text that cannot be encoded leaves the old file unchanged, and no part."""
    write_atomically(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "file", "\ud800")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "old"
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


def test_folder(tmp_path: Path) -> None:
    """A folder replaces the old one completely, so that no old file remains."""
    (tmp_path / "folder" / "old").mkdir(parents=True)
    with folder_atomically(tmp_path / "folder") as part:
        (part / "new").write_text("new", encoding="utf-8")
        assert (tmp_path / "folder" / "old").is_dir()
    assert [*(tmp_path / "folder").iterdir()] == [tmp_path / "folder" / "new"]
    assert [*tmp_path.iterdir()] == [tmp_path / "folder"]


def test_folder_that_fails(tmp_path: Path) -> None:
    """A block that fails leaves the old folder unchanged, and no part."""
    (tmp_path / "folder" / "old").mkdir(parents=True)

    def write_half() -> None:
        with folder_atomically(tmp_path / "folder") as part:
            (part / "new").write_text("new", encoding="utf-8")
            raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        write_half()
    assert [*(tmp_path / "folder").iterdir()] == [tmp_path / "folder" / "old"]
    assert [*tmp_path.iterdir()] == [tmp_path / "folder"]


def test_file(tmp_path: Path) -> None:
    """A file replaces the old one when the block ends, and not before."""
    write_atomically(tmp_path / "file", "old")
    with file_atomically(tmp_path / "file") as file:
        file.write(b"new")
        assert (tmp_path / "file").read_bytes() == b"old"
    assert (tmp_path / "file").read_bytes() == b"new"
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


def test_remove_folder(tmp_path: Path) -> None:
    """A folder is deleted completely; a missing one is not an error."""
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    remove_folder(tmp_path / "folder")
    remove_folder(tmp_path / "folder")
    assert [*tmp_path.iterdir()] == []


def test_folder_of_a_killed_process(tmp_path: Path) -> None:
    """What a process of the same number has left behind, as in containers, is not in the way of another folder."""
    (tmp_path / f".folder.{os.getpid()}-old.part" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    with folder_atomically(tmp_path / "folder") as part:
        (part / "new").touch()
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == {"folder", "folder/new"}


def leave_parts(folder: Path) -> None:
    """Create what killed processes leave: an incomplete file and an incomplete folder."""
    (folder / ".file.1.part").write_text("half", encoding="utf-8")
    (folder / ".folder.1.part" / "inner").mkdir(parents=True)


def test_remove_parts(tmp_path: Path) -> None:
    """Parts are deleted in all subfolders, and nothing else is."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "deep" / "er"):
        leave_parts(folder)
        (folder / "file.part").touch()
        (folder / ".lock").touch()
    remove_parts(tmp_path)
    assert {path.name for path in tmp_path.rglob("*")} == {"deep", "er", "file.part", ".lock"}


def test_stale_parts(tmp_path: Path) -> None:
    """Writing a path again deletes its parts without a change for an hour, and keeps newer ones."""
    leave_parts(tmp_path)
    (tmp_path / ".file.2.part").touch()
    old = time.time() - STALE - 1
    for name in (".file.1.part", ".folder.1.part"):
        os.utime(tmp_path / name, (old, old))
    write_atomically(tmp_path / "file", "new")
    with folder_atomically(tmp_path / "folder"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder", ".file.2.part"}
