"""Checkpoints that cannot be loaded are told from whole ones before anything is written."""

import errno
import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from xner.errors import RunError, UserError
from xner.lineage import NOTHING_SEEN
from xner.lineage.checkpoint import check_checkpoint

WHOLE: dict[str, Any] = {
    "epoch": 1,
    "global_step": 5,
    "pytorch-lightning_version": "2.6.1",
    "state_dict": {"weight": torch.arange(1000.0)},
    "hyper_parameters": {"types": ["PER"]},
    "loops": {},
    "callbacks": {},
    "optimizer_states": [],
    "lr_schedulers": [],
    "PanxDataModule": {"drawn_seed": None},
    "training": {},
    "history": {
        "lineage": {"origin": "", "episodes": []},
        "own": 1,
        **{name: torch.empty(0, dtype=torch.int64) for name in NOTHING_SEEN.hashes},
    },
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with all that loading it needs."""
    path = tmp_path_factory.mktemp("checkpoint") / "last.ckpt"
    torch.save(WHOLE, path)
    check_checkpoint(str(path))
    return path


@pytest.mark.parametrize("name", [*WHOLE])
def test_missing_or_wrong(tmp_path: Path, name: str) -> None:
    """Each part that is missing, or of another type, is named with the file."""
    path = tmp_path / "last.ckpt"
    torch.save({each: value for each, value in WHOLE.items() if each != name}, path)
    error, text = (
        (UserError, "not a checkpoint") if "version" in name else (RunError, f"is damaged: it has no {name!r}")
    )
    with pytest.raises(error, match=text):
        check_checkpoint(str(path))
    torch.save({**WHOLE, name: None}, path)
    with pytest.raises(RunError, match=rf"{path} is damaged: its {name!r} is None; delete it, and use another one"):
        check_checkpoint(str(path))


@pytest.mark.parametrize("name", [*WHOLE["history"]])
def test_history(tmp_path: Path, name: str) -> None:
    """So is each part of the history."""
    history = {each: value for each, value in WHOLE["history"].items() if each != name}
    torch.save({**WHOLE, "history": history}, tmp_path / "last.ckpt")
    with pytest.raises(RunError, match=f"is damaged: it has no {name!r}"):
        check_checkpoint(str(tmp_path / "last.ckpt"))


def test_weights_only(tmp_path: Path) -> None:
    """A checkpoint of weights has no state of a training, and is checked for what it has."""
    names = ("epoch", "global_step", "pytorch-lightning_version", "state_dict", "hyper_parameters", "loops")
    torch.save({name: WHOLE[name] for name in names}, tmp_path / "weights.ckpt")
    check_checkpoint(str(tmp_path / "weights.ckpt"))


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
@example(place=3000, bit=4)  # a weight, which torch.load takes as it is
@example(place=6598, bit=0)  # the place of a file in the archive, before its beginning then
@example(place=6622, bit=1)  # the number of disks in the end of the archive
def test_flipped(whole: Path, tmp_path: Path, place: int, bit: int) -> None:
    """A flipped bit is found, or is in what nobody reads: the same content is loaded."""
    content = bytearray(whole.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path = tmp_path / "flipped.ckpt"
    path.write_bytes(content)
    try:
        check_checkpoint(str(path))
    except UserError:
        return
    found = torch.load(path, weights_only=True)
    assert torch.equal(found.pop("state_dict")["weight"], WHOLE["state_dict"]["weight"])
    assert found.keys() == WHOLE.keys() - {"state_dict"}


def test_unreadable(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails does not make a checkpoint a damaged one, which the user would be told to delete."""
    monkeypatch.setattr(torch, "load", Mock(side_effect=OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        check_checkpoint(str(whole))


@given(size=st.integers(0, 10_000))
def test_truncated(whole: Path, tmp_path: Path, size: int) -> None:
    """A part of a checkpoint is one that is damaged, wherever it was cut."""
    content = whole.read_bytes()
    (tmp_path / "part.ckpt").write_bytes(content[: size % len(content)])
    if size % len(content) != 1:  # a letter is anything
        with pytest.raises(RunError, match=r"part\.ckpt is damaged.*; delete it"):
            check_checkpoint(str(tmp_path / "part.ckpt"))


def test_no_file(tmp_path: Path) -> None:
    """What is no file, no checkpoint, or at a place that nothing here can open is an error of the option."""
    torch.save([1, 2], tmp_path / "list.ckpt")
    for path, text in {
        "/dev/null": "is not a checkpoint of Lightning",
        str(tmp_path / "list.ckpt"): "is not a checkpoint of Lightning",
        "nowhere\0.ckpt": "does not exist",
        "nothing://last.ckpt": "cannot be opened",
    }.items():
        with pytest.raises(UserError, match=text) as caught:
            check_checkpoint(path)
        assert caught.value.exit_code == 2
