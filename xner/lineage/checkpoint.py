"""Check a checkpoint before it is loaded: its path, its checksums, and the parts that loading it needs."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import lightning.pytorch as pl
import torch
from fsspec.core import url_to_fs  # type: ignore[import-untyped] # it ships no types
from lightning.pytorch.trainer.states import TrainerFn

from xner.errors import RunError, UserError, quoted
from xner.files import is_of_content
from xner.lineage import NOTHING_SEEN
from xner.tags import TagSet

_VERSION = "pytorch-lightning_version"
_PARTS: dict[str, type] = {
    "state_dict": dict,
    "epoch": int,
    "global_step": int,
    _VERSION: str,
    pl.LightningModule.CHECKPOINT_HYPER_PARAMS_KEY: dict,
}
"""The parts of every checkpoint, also of one that holds weights only."""

_OF_TRAINING: dict[str, type] = {
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "PanxDataModule": dict,
    "training": dict,
    "history": dict,
}
"""The parts of one that a training can be resumed from."""

_OF_HISTORY: dict[str, type] = {"lineage": dict, "own": int, **dict.fromkeys(NOTHING_SEEN.hashes, torch.Tensor)}


def check_checkpoint(path: str) -> None:
    """Check that a path is that of a checkpoint, as far as possible before Lightning loads it.

    Args:
        path: A file, a URL, or one of Lightning's keywords.

    Raises:
        UserError: If it is not a checkpoint.
        RunError: If it is a damaged one.
    """
    if path in ("best", "last", "hpc") or path.startswith("registry"):
        return
    if "://" in path:
        try:
            url_to_fs(path)
        except (ImportError, ValueError) as error:
            raise UserError(
                f"ckpt_path={path!r} cannot be opened ({error}); install what it needs, or copy the checkpoint here"
            ) from error
        return
    if "\0" in path or not Path(path).exists():
        raise UserError(f"ckpt_path={path!r} does not exist; use a checkpoint that a fit has written")
    if (Path(path) / "config.json").is_file():
        raise UserError(f"ckpt_path={path!r} is a model folder; use it as --model.backbone")
    if Path(path).is_dir():
        raise UserError(f"ckpt_path={path!r} is a folder; use the file of a checkpoint in it")
    check_file(Path(path))


def check_file(path: Path, *, name: str | None = None, advice: str = "delete it, and use another one") -> None:
    """Check the checksums of a checkpoint's file, and that it has the parts that loading it needs.

    Args:
        path: The file.
        name: The name of the checkpoint in messages; ``None`` stands for the path.
        advice: What to do about a damaged one.

    Raises:
        UserError: If it is not a checkpoint.
        RunError: If it is damaged.
    """
    name = name or str(path)
    other = UserError(f"ckpt_path={name!r} is not a checkpoint of Lightning; use one that a fit has written")
    if not path.is_file():
        raise other
    try:
        whole = is_zipfile(path)
    except BadZipFile:  # its end is damaged
        whole = False
    if not whole:
        with path.open("rb") as file:
            start = file.read(2)
        if start in (b"PK", b""):  # nothing is what a full disk leaves
            raise RunError(f"{name} is damaged: it is only a part of a checkpoint; {advice}")
        raise other
    try:
        with ZipFile(path) as file:  # torch does not compare its checksums
            if damaged := file.testzip():
                raise BadZipFile(f"the checksum of {damaged} is wrong")
        found = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except (BadZipFile, UnpicklingError, zlib.error, RuntimeError, ValueError, EOFError, OSError) as error:
        if not is_of_content(error):
            raise
        # PyTorch's text on a pickle advises to run the code in it.
        reason = "" if isinstance(error, UnpicklingError) else str(error).partition("\n")[0][:200]
        because = f" ({reason})" if reason else ""
        raise RunError(f"{name} is damaged, or holds more than tensors{because}; {advice}") from error
    if not isinstance(found, dict) or _VERSION not in found:
        raise other
    if wrong := _wrong_part(found):
        raise RunError(f"{name} is damaged: {wrong}; {advice}")


def check_loops(loops: Mapping[str, Any], trainer: pl.Trainer) -> None:
    """Check that a checkpoint has the progress that the loop of the running command restores.

    Raises:
        RunError: If a part of it is missing or of another type.
    """
    loop = {
        TrainerFn.FITTING: trainer.fit_loop,
        TrainerFn.VALIDATING: trainer.validate_loop,
        TrainerFn.TESTING: trainer.test_loop,
        TrainerFn.PREDICTING: trainer.predict_loop,
    }[TrainerFn(trainer.state.fn)]
    name = f"{TrainerFn(trainer.state.fn).value}_loop"
    # The positions of dataloaders are only there while they are read; xner's derive theirs from this progress.
    expected = {key: value for key, value in loop.state_dict().items() if not key.endswith("state_dict")}
    if wrong := _wrong_progress(loops, {name: expected}):
        raise RunError(f"{trainer.ckpt_path} is damaged: {wrong}; delete it, and use another one")


def _wrong_progress(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Describe the first part of a progress that is missing or of another type; empty where all are right."""
    for name, value in expected.items():
        if name not in found:
            return f"its progress has no {name!r}"
        if type(found[name]) is not type(value):
            return f"its progress has {name!r} {quoted(found[name])}"
        if isinstance(value, dict) and (wrong := _wrong_progress(found[name], value)):
            return wrong
    return ""


def tags_of_checkpoint(path: str) -> TagSet | None:
    """Return the tag set of a checkpoint's head; ``None`` where the path is not that of a single file."""
    if not Path(path).is_file():
        return None
    saved = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    types = saved[pl.LightningModule.CHECKPOINT_HYPER_PARAMS_KEY].get("types")
    return TagSet(tuple(types)) if types else None


def _wrong_part(found: Mapping[str, Any]) -> str:
    """Describe the first part of a checkpoint that is missing or of another type; empty where all are right."""
    parts = {**_PARTS, **(_OF_TRAINING if "optimizer_states" in found or "history" in found else {})}
    for content, names in ((found, parts), (found.get("history", {}), _OF_HISTORY if "history" in found else {})):
        for name, kind in names.items():
            if not isinstance(content.get(name), kind):
                return f"it has no {name!r}" if name not in content else f"its {name!r} is {quoted(content[name])}"
    return ""
