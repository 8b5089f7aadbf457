"""An embedding matrix that stays in its model folder's file and is read block by block, never held as a whole."""

import json
import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_BLOCK = 8192
"""Rows read at a time: 25 MB of XLM-R base."""

_PROBE = 64
"""Rows compared: the most frequent pieces have the lowest ids, and no training leaves them as they were."""


class StoredMatrix:
    """A float32 matrix in a safetensors file; it can be read even when the file has been deleted or replaced since.

    Args:
        path: The file.
        name: The matrix's name in it.

    Raises:
        KeyError: If there is no such matrix.
    """

    def __init__(self, path: Path, name: str) -> None:
        with path.open("rb") as file:
            # The format: the header's length in 8 bytes, the header as JSON, and behind it the data.
            length = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(length))[name]
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if entry["dtype"] != "F32" or len(entry["shape"]) != 2:
            raise KeyError(name)
        self.shape = torch.Size(entry["shape"])
        self._offset = 8 + length + entry["data_offsets"][0]

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Give the matrix in pieces: which rows, and a copy of them. *Shape:* (up to 8192, width)."""
        rows, width = self.shape
        for first in range(0, rows, _BLOCK):
            count = min(_BLOCK, rows - first)
            at = self._offset + first * width * 4
            block = np.frombuffer(self._map, np.float32, count * width, at).reshape(count, width)
            yield slice(first, first + count), torch.from_numpy(block.copy())
            del block
            # Pages that were read would count as this process's memory for as long as the file is mapped.
            if hasattr(mmap, "MADV_DONTNEED"):
                self._map.madvise(mmap.MADV_DONTNEED)

    def rows(self, pieces: Tensor) -> Tensor:
        """Read some rows; ``pieces`` ascends. *Shapes:* (pieces,) and (pieces, width)."""
        return torch.cat(
            [block[pieces[(pieces >= at.start) & (pieces < at.stop)] - at.start] for at, block in self.blocks()]
        )

    def whole(self) -> Tensor:
        """Read all rows. *Shape:* (vocabulary, width)."""
        matrix = torch.empty(self.shape)
        for at, block in self.blocks():
            matrix[at] = block
        return matrix


class HeldMatrix:
    """The same, of a matrix in memory.

    Args:
        matrix: It is read, never written. *Shape:* (vocabulary, width)
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.shape = matrix.shape

    def rows(self, pieces: Tensor) -> Tensor:
        """Copy some rows. *Shapes:* (pieces,) and (pieces, width)."""
        return self.matrix[pieces]

    def whole(self) -> Tensor:
        """Copy all rows. *Shape:* (vocabulary, width)."""
        return self.matrix.clone()


Matrix = StoredMatrix | HeldMatrix


def find_matrix(folder: Path, like: Tensor) -> StoredMatrix | None:
    """Find an embedding matrix in a model folder.

    Args:
        folder: A folder that may hold ``model.safetensors``.
        like: The matrix as it was loaded from there. *Shape:* (vocabulary, width)

    Returns:
        The matrix in the file; ``None`` where there is none, or another one, as when the network was trained since.
    """
    from safetensors import safe_open

    path = folder / "model.safetensors"
    if not path.is_file() or like.dtype != torch.float32:
        return None
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - the file is no mapping
            part = file.get_slice(name)
            if (
                name.endswith("embeddings.weight")
                and part.get_shape() == list(like.shape)
                and part.get_dtype() == "F32"
            ):
                return StoredMatrix(path, name) if torch.equal(part[:_PROBE], like[:_PROBE].cpu()) else None
    return None
