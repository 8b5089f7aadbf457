"""CompactEmbedding: train only the embedding rows that occur, and restore the whole matrix exactly.

Of XLM-R base's 278 million parameters, 192 million are embedding rows, and 88 % of these never occur in PAN-X's English
and Turkish. A row that never occurs gets no gradient and, from AdamW, no update but weight decay (Loshchilov and Hutter
2019), which multiplies all such rows by the same factor. Ghost rows, which are never looked up, measure that factor.

They measure it separately for different leading digits of a number: a step of decay is only a few times a number's last
digit, and its rounding depends on the digits, so that after many steps a single factor would be wrong in the sixth
digit. A number's sign and exponent change nothing, so ghosts between 1 and 2 stand for all numbers.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import PreTrainedModel

from xner.errors import UserError

_DIGITS = 16
"""Number of a number's binary digits after the first that select its ghost."""

_BITS = {torch.float64: (torch.int64, 52), torch.float32: (torch.int32, 23), torch.bfloat16: (torch.int16, 7)}
"""By type, integers of the same size, and how many of their bits are digits."""

_AT_ONCE = 2**16
"""Numbers decayed at a time, about as many as a processor core's cache holds."""

_BLOCK = 8192
"""Rows read at a time: 25 MB of XLM-R base."""


class StoredMatrix:
    """A float32 matrix in a safetensors file, read block by block, even after the file was deleted or replaced.

    It has those methods of a tensor that ``CompactEmbedding`` calls.

    Args:
        path: The file.
        name: The name of the matrix in it.
        shape: Its shape.
    """

    def __init__(self, path: Path, name: str, shape: torch.Size) -> None:
        self._file = path.open("rb")
        # Through an open file, Linux reads what was there when it was opened.
        opened = f"/proc/self/fd/{self._file.fileno()}"
        self._path = opened if os.path.exists(opened) else str(path)
        self._name = name
        self.shape = shape

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield the matrix in blocks: which rows, and a copy of them. *Shape:* (up to 8192, width)."""
        from safetensors import safe_open

        for start in range(0, self.shape[0], _BLOCK):
            at = slice(start, min(start + _BLOCK, self.shape[0]))
            # Opened per block: mapped pages count as the memory of this process until the file is closed.
            with safe_open(self._path, framework="pt") as file:
                block = file.get_slice(self._name)[at].clone()
            yield at, block

    def __getitem__(self, pieces: Tensor) -> Tensor:
        """Read some rows; ``pieces`` is ascending. *Shapes:* (pieces,) and (pieces, width)."""
        blocks = self.blocks()
        return torch.cat([block[pieces[(pieces >= at.start) & (pieces < at.stop)] - at.start] for at, block in blocks])

    def clone(self) -> Tensor:
        """Read all rows. *Shape:* (vocabulary, width)."""
        matrix = torch.empty(self.shape)
        for at, block in self.blocks():
            matrix[at] = block
        return matrix


def find_matrix(folder: Path, like: Tensor) -> StoredMatrix | None:
    """Find an embedding matrix in a model folder.

    Args:
        folder: A folder that may hold ``model.safetensors``.
        like: The matrix as it was loaded from there. *Shape:* (vocabulary, width)

    Returns:
        The matrix in the file; ``None`` where there is none, or another one because the network was trained since.
    """
    from safetensors import safe_open

    path = folder / "model.safetensors"
    if not path.is_file() or like.dtype != torch.float32:
        return None
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - the file is not a mapping
            part = file.get_slice(name)
            if (
                name.endswith("embeddings.weight")
                and part.get_shape() == list(like.shape)
                and part.get_dtype() == "F32"
            ):
                stored = StoredMatrix(path, name, like.shape)
                same = all(torch.equal(block, like[at].cpu()) for at, block in stored.blocks())
                return stored if same else None
    return None


class CompactEmbedding(nn.Module):
    """An embedding of some pieces of a vocabulary, looked up by the vocabulary's own ids.

    Its ``state_dict`` holds the whole matrix under ``weight``, as that of an ``Embedding`` does, and as extra state the
    pieces that occur and the ghost rows. Loading takes the state of either class.

    Args:
        matrix: The whole matrix, on the CPU or in a file, in the precision of training. *Shape:* (vocabulary, width)
        pieces: The ids of the pieces that occur, ascending. *Shape:* (used,)
        padding_idx: The id of the piece that gets no gradient, or ``None``.

    Attributes:
        weight: The rows of the pieces that occur, followed by the ghost rows. *Shape:* (used + ghosts, width)
    """

    row_of: Tensor

    def __init__(self, matrix: Tensor | StoredMatrix, pieces: Tensor, padding_idx: int | None = None) -> None:
        super().__init__()
        self.matrix = matrix
        self.pieces = pieces
        rows = matrix[pieces]
        self.weight = nn.Parameter(torch.cat([rows, ghost_rows(matrix.shape[1], rows.dtype)]))
        # A piece that does not occur points beyond the last row, so looking it up fails.
        row_of = torch.full((matrix.shape[0],), len(self.weight))
        row_of[pieces] = torch.arange(len(pieces))
        self.register_buffer("row_of", row_of, persistent=False)
        self.padding_idx = padding_idx
        self.padding_row = None if padding_idx is None or padding_idx not in pieces else int(row_of[padding_idx])
        self.register_state_dict_post_hook(_save_whole)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_load_compact)  # type: ignore[no-untyped-call]

    def forward(self, pieces: Tensor) -> Tensor:
        """Look up pieces.

        Args:
            pieces: Piece ids. *Shape:* (rows, width)

        Returns:
            Their vectors. *Shape:* (rows, width, hidden)

        Raises:
            IndexError: If a piece is not among those that occur (on a GPU, a device-side assertion).
        """
        try:
            return embedding(self.row_of[pieces], self.weight, padding_idx=self.padding_row)
        except IndexError as error:
            absent = pieces[self.row_of[pieces] >= len(self.weight)].tolist()
            raise IndexError(f"pieces {absent[:5]} are not among the {len(self.pieces)} in use") from error

    def expand(self, weight: Tensor | None = None) -> Tensor:
        """Compute the whole matrix as training all of it would have left it. *Shape:* (vocabulary, width).

        Args:
            weight: The rows to put in; ``None`` takes the module's own.
        """
        weight = (self.weight if weight is None else weight).detach().cpu()
        used = len(self.pieces)
        whole = self.matrix.clone().to(weight.dtype)
        _decay(whole, weight[used:])
        whole[self.pieces] = weight[:used]
        return whole

    def get_extra_state(self) -> dict[str, Tensor]:
        """Return what an ``Embedding`` does not have: the pieces that occur and the ghost rows."""
        return {"pieces": self.pieces, "ghosts": self.weight[len(self.pieces) :].detach().cpu()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Do nothing: the extra state is used when the rows are loaded."""


def _save_whole(module: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
    """Put the whole matrix into a state that is being saved."""
    assert isinstance(module, CompactEmbedding)
    state[f"{prefix}weight"] = module.expand()


def _load_compact(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Make a state that is being loaded fit: the rows that occur, and ghost rows.

    The module keeps its own absent rows with the state's ghosts where they give the state's absent rows to the bit, and
    otherwise takes those and new ghosts.
    """
    assert isinstance(module, CompactEmbedding)
    extra = state.setdefault(f"{prefix}_extra_state", {})
    whole: Tensor = state[f"{prefix}weight"].to(module.weight.dtype)
    fresh = ghost_rows(whole.shape[1], whole.dtype)
    kept = extra.get("ghosts", fresh)
    # The ghosts of a training in another precision are for other digits.
    alike = (kept.dtype, kept.shape) == (fresh.dtype, fresh.shape)
    weight = torch.cat([whole[module.pieces], kept if alike else fresh])
    if not alike or not torch.equal(module.expand(weight), whole):
        module.matrix = whole
        weight = torch.cat([whole[module.pieces], fresh])
    state[f"{prefix}weight"] = weight


def ghost_rows(width: int, dtype: torch.dtype) -> Tensor:
    """Make numbers from 1 to 2, one per possible start of a number's digits, as rows of an embedding.

    Args:
        width: Numbers per row.
        dtype: Their type, one of those in ``_BITS``.

    Returns:
        The numbers, ascending, and ones in the rest of the last row. *Shape:* (ghosts, width)
    """
    count = 2 ** min(_DIGITS, _BITS[dtype][1])
    rows = torch.ones(-(-count // width) * width, dtype=dtype)
    # Each is in the middle of the numbers it stands for, or equal to the only one.
    middle = 0.5 if _BITS[dtype][1] > _DIGITS else 0.0
    rows[:count] = ((torch.arange(count, dtype=torch.float64) + middle) / count + 1).to(dtype)
    return rows.view(-1, width)


def _decay(matrix: Tensor, ghosts: Tensor) -> None:
    """Decay a matrix as the ghosts were decayed since they were made.

    Args:
        matrix: It is changed in place. *Shape:* (vocabulary, width)
        ghosts: *Shape:* (ghosts, width)
    """
    integers, bits = _BITS[matrix.dtype]
    count = 2 ** min(_DIGITS, bits)
    before, after = (rows.flatten()[:count].double() for rows in (ghost_rows(matrix.shape[1], ghosts.dtype), ghosts))
    factors = (after / before).to(matrix.dtype)
    if bool((factors == 1).all()):
        return
    step = -(-_AT_ONCE // matrix.shape[1])
    for first in range(0, len(matrix), step):
        rows = matrix[first : first + step]
        digits = (rows.view(integers) >> (bits - min(_DIGITS, bits))).bitwise_and_(count - 1)
        rows.mul_(factors.index_select(0, digits.flatten().int()).view_as(rows))


def compact(network: PreTrainedModel, pieces: Tensor, folder: Path | None = None) -> None:
    """Replace a network's embedding by a compact one.

    Args:
        network: The network; its embedding is replaced.
        pieces: The ids of the pieces that occur, ascending. *Shape:* (used,)
        folder: The folder that the network was loaded from; if it holds the matrix, that is not kept in memory.

    Raises:
        UserError: If the precision is one that ghosts cannot be made for, such as float16.
    """
    whole = network.get_input_embeddings()
    if not isinstance(whole, nn.Embedding):
        raise TypeError(f"the network embeds pieces by a {type(whole).__name__}, not by an Embedding")
    matrix = whole.weight.detach()
    if matrix.dtype not in _BITS:
        raise UserError(
            f"model.compact_vocabulary=true is not exact in {matrix.dtype}; use model.compact_vocabulary=false"
        )
    stored = find_matrix(folder, matrix) if folder else None
    rows = CompactEmbedding(stored or matrix.cpu(), pieces, whole.padding_idx)
    network.set_input_embeddings(rows.to(whole.weight.device))
    # transformers maps the file of the weights into memory, and what was read of the matrix stays there as long as
    # another weight is part of the map. If the embedding is trained, so are the others, which Linux would copy then.
    for each in chain(network.parameters(), network.buffers()):
        if each.is_cpu:
            each.data = each.data.clone()


def restore(network: PreTrainedModel) -> None:
    """Restore the whole embedding of a network, if it has a compact one."""
    rows = network.get_input_embeddings()
    if not isinstance(rows, CompactEmbedding):
        return
    matrix = rows.expand()
    whole = nn.Embedding(matrix.shape[0], matrix.shape[1], padding_idx=rows.padding_idx, _weight=matrix)
    network.set_input_embeddings(whole.to(rows.weight.device))


def move_optimizer_states(
    checkpoint: dict[str, Any], model: nn.Module, rows: nn.Module, groups: Sequence[Mapping[str, Any]]
) -> None:
    """Move a checkpoint's optimizer states to the embedding rows that are trained now.

    Rows that had no gradient so far get zeros.

    Args:
        checkpoint: A checkpoint of Lightning; it is changed in place.
        model: The model that is to load it.
        rows: Its embedding, compact or whole.
        groups: The parameter groups of its optimizer.
    """
    trained = [id(each) for group in groups for each in group["params"]]
    if id(rows.weight) not in trained:
        return
    place = trained.index(id(rows.weight))
    name = next(name for name, each in model.named_parameters() if each is rows.weight)
    every = torch.arange(len(checkpoint["state_dict"][name]))
    new = rows.pieces if isinstance(rows, CompactEmbedding) else every
    old = checkpoint["state_dict"].get(f"{name.removesuffix('weight')}_extra_state", {}).get("pieces", every)
    at = torch.searchsorted(old, new).clamp(max=len(old) - 1)
    known = old[at] == new
    for optimizer in checkpoint.get("optimizer_states", ()):
        for key, state in optimizer["state"].get(place, {}).items():
            if state.dim() == 2:
                moved = state.new_zeros(rows.weight.shape)
                moved[: len(new)][known] = state[at[known]]
                optimizer["state"][place][key] = moved
