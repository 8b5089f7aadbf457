"""Read published samples of training sentences, so that a few-shot result can be repeated (Zhao et al. 2021)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xner.data.encode import Encoded
from xner.data.sources import Split
from xner.data.sources.lines import read_lines
from xner.errors import RunError, UserError


def read_sample(path: str, split: Split, encode: Callable[[Split], Encoded]) -> npt.NDArray[np.int64]:
    """Read which sentences of a split belong to a sample.

    Args:
        path: A file with the number of a sentence per line, from 0 and in the order of the source, or a folder whose
            ``<language>/train`` split has the sentences themselves.
        split: The split.
        encode: Encodes a split.

    Returns:
        Indices of the sentences, in the order of the sample. *Shape:* (chosen,)

    Raises:
        UserError: If the path does not exist, or a sentence is not in the split.
        RunError: If a line is not the number of a sentence.
    """
    if Path(path).is_dir():
        return _by_words(Split(path, split.language, "train", split.options), split, encode)
    if not Path(path).is_file():
        raise UserError(f"data.sample_from={path!r} does not exist; use a file of sentence numbers, or a folder")
    count = len(encode(split))
    chosen: dict[int, int] = {}
    for line, text in enumerate(read_lines(Path(path)), start=1):
        if not text.strip():
            continue
        if not (text.strip().isascii() and text.strip().isdigit() and len(text) < 20 and int(text) < count):
            raise RunError(f"{path}, line {line}: {text[:40]!r} is not a sentence of {split}; use 0 to {count - 1}")
        if int(text) in chosen:
            raise RunError(f"{path}, line {line}: sentence {int(text)} is on line {chosen[int(text)]} as well")
        chosen[int(text)] = line
    if not chosen:
        raise RunError(f"{path} contains no sentence numbers; write one per line, from 0")
    return np.fromiter(chosen, np.int64)


def _by_words(sample: Split, split: Split, encode: Callable[[Split], Encoded]) -> npt.NDArray[np.int64]:
    """Find the sentences of a sample by their words; equal sentences are taken in the order of the split."""
    places: dict[int, list[int]] = {}
    for place, digest in reversed([*enumerate(encode(split).sentence_hash.tolist())]):
        places.setdefault(digest, []).append(place)
    chosen = []
    for number, digest in enumerate(encode(sample).sentence_hash.tolist()):
        if not places.get(digest):
            raise UserError(
                f"data.sample_from: sentence {number} (from 0) of {sample.where} is not in {split.where}; use a sample "
                "of this split"
            )
        chosen.append(places[digest].pop())
    return np.array(chosen)
