from pathlib import Path

import pytest

from xner.files import folder_atomically, write_atomically


def test_write(tmp_path: Path) -> None:
    """Text is written as UTF-8 and bytes as they are, in place of what was there, and nothing is left beside it."""
    write_atomically(tmp_path / "file", "İ\n")
    write_atomically(tmp_path / "file", b"\xff")
    assert (tmp_path / "file").read_bytes() == b"\xff"
    write_atomically(tmp_path / "file", "İ\n")
    assert (tmp_path / "file").read_bytes() == "İ\n".encode()
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


def test_write_that_fails(tmp_path: Path) -> None:
    """What cannot be encoded leaves the old file and no part of the new one."""
    write_atomically(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "file", "\ud800")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "old"
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


def test_folder(tmp_path: Path) -> None:
    """A folder takes the place of the old one whole, so that no file of that stays."""
    (tmp_path / "folder" / "old").mkdir(parents=True)
    with folder_atomically(tmp_path / "folder") as part:
        (part / "new").write_text("new", encoding="utf-8")
        assert (tmp_path / "folder" / "old").is_dir()
    assert [*(tmp_path / "folder").iterdir()] == [tmp_path / "folder" / "new"]
    assert [*tmp_path.iterdir()] == [tmp_path / "folder"]


def test_folder_that_fails(tmp_path: Path) -> None:
    """A block that fails leaves the old folder and no part of the new one."""
    (tmp_path / "folder" / "old").mkdir(parents=True)

    def write_half() -> None:
        with folder_atomically(tmp_path / "folder") as part:
            (part / "new").write_text("new", encoding="utf-8")
            raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        write_half()
    assert [*(tmp_path / "folder").iterdir()] == [tmp_path / "folder" / "old"]
    assert [*tmp_path.iterdir()] == [tmp_path / "folder"]
