"""CompactEmbedding: train only the embedding rows that the data uses, and give the whole matrix back exactly.

192 of XLM-R base's 278 million parameters are embedding rows, and 88 % of them never occur in PAN-X's English and
Turkish together. A row that never occurs gets no gradient and, from Adam, no update but weight decay (Loshchilov and
Hutter 2019), which shrinks all such rows by the same factor. Some ghost rows, never looked up, measure it.

They measure it for each number's own digits: a step of decay is but a few times a number's last digit, and how it is
rounded depends on the digits before, so that after many steps one factor would be off in the sixth digit. A number's
sign and power of two change nothing, so that ghosts between 1 and 2 stand for all numbers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from xner.errors import UserError
from xner.model.stored import HeldMatrix, Matrix, find_matrix

_DIGITS = 16
"""How many of a number's binary digits, behind its first, tell which ghost stands for it."""

_BITS = {torch.float64: (torch.int64, 52), torch.float32: (torch.int32, 23), torch.bfloat16: (torch.int16, 7)}
"""By type, integers of its size, and how many of its bits are digits."""

_AT_ONCE = 2**16
"""Numbers decayed at a time, about: what a processor core keeps at hand."""


class Embedded(Protocol):
    """A network of transformers, as far as this module needs it."""

    def get_input_embeddings(self) -> nn.Module:
        """The module that makes vectors of pieces."""

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another in its place."""


class CompactEmbedding(nn.Module):
    """An embedding of some pieces of a vocabulary, looked up by the vocabulary's own ids.

    Args:
        matrix: The whole matrix, in memory or in a file, in the type that is trained in, whose digits the ghosts are
            for. *Shape:* (vocabulary, width)
        pieces: The ids of the pieces in use, ascending. *Shape:* (used,)
        padding_idx: The id of the piece that gets no gradient, or ``None``.

    Attributes:
        weight: The rows in use, and behind them the ghost rows. *Shape:* (used + ghosts, width)
    """

    row_of: Tensor

    def __init__(self, matrix: Matrix, pieces: Tensor, padding_idx: int | None = None) -> None:
        super().__init__()
        self.matrix = matrix
        self.pieces = pieces
        rows = matrix.rows(pieces)
        self.weight = nn.Parameter(torch.cat([rows, ghost_rows(matrix.shape[1], rows.dtype)]))
        # A piece that is not in use points behind the ghost rows, which no look-up survives.
        row_of = torch.full((matrix.shape[0],), len(self.weight))
        row_of[pieces] = torch.arange(len(pieces))
        self.register_buffer("row_of", row_of, persistent=False)
        self.padding_idx = padding_idx
        self.padding_row = None if padding_idx is None or padding_idx not in pieces else int(row_of[padding_idx])

    def forward(self, pieces: Tensor) -> Tensor:
        """Look up pieces.

        Args:
            pieces: Piece ids. *Shape:* (rows, width)

        Returns:
            Their vectors. *Shape:* (rows, width, hidden)

        Raises:
            IndexError: If a piece is not among those in use (on a GPU, a device-side assertion).
        """
        try:
            return embedding(self.row_of[pieces], self.weight, padding_idx=self.padding_row)
        except IndexError as error:
            absent = pieces[self.row_of[pieces] >= len(self.weight)].tolist()
            raise IndexError(f"pieces {absent[:5]} are not among the {len(self.pieces)} in use") from error

    def expand(self, weight: Tensor | None = None) -> Tensor:
        """The whole matrix as training all of it would have left it. *Shape:* (vocabulary, width).

        Args:
            weight: The rows to put in; ``None`` takes the module's own.
        """
        weight = (self.weight if weight is None else weight).detach().cpu()
        used = len(self.pieces)
        whole = self.matrix.whole().to(weight.dtype)
        _decay(whole, weight[used:])
        whole[self.pieces] = weight[:used]
        return whole


def ghost_rows(width: int, dtype: torch.dtype) -> Tensor:
    """Numbers from 1 to 2, one for each beginning that a number's digits may have, in rows of an embedding.

    Args:
        width: Numbers a row.
        dtype: Their type, one of those in ``_BITS``.

    Returns:
        The numbers, ascending, and ones in what is left of the last row. *Shape:* (ghosts, width)
    """
    count = 2 ** min(_DIGITS, _BITS[dtype][1])
    rows = torch.ones(-(-count // width) * width, dtype=dtype)
    # In the middle of the numbers that it stands for, or, where it stands for one alone, that one.
    middle = 0.5 if _BITS[dtype][1] > _DIGITS else 0.0
    rows[:count] = ((torch.arange(count, dtype=torch.float64) + middle) / count + 1).to(dtype)
    return rows.view(-1, width)


def _decay(matrix: Tensor, ghosts: Tensor) -> None:
    """Do to a matrix what was done to the ghosts since they were made.

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


def compact(network: Embedded, pieces: Tensor, folder: Path | None = None) -> None:
    """Let a network train only the embedding rows of some pieces.

    Args:
        network: The network; its embedding is replaced.
        pieces: The ids of the pieces in use, ascending. *Shape:* (used,)
        folder: The folder that the network was loaded from: where it holds the matrix, that is not kept in memory.

    Raises:
        UserError: If the network is of a type that ghosts are not made for, as float16.
    """
    whole = network.get_input_embeddings()
    if not isinstance(whole, nn.Embedding):
        raise TypeError(f"the network embeds pieces by a {type(whole).__name__}, not by an Embedding")
    matrix = whole.weight.detach()
    if matrix.dtype not in _BITS:
        raise UserError(
            f"the decay of rows that are not trained is not exact in {matrix.dtype}: give "
            "model.compact_vocabulary=false"
        )
    stored = find_matrix(folder, matrix) if folder else None
    rows = CompactEmbedding(stored or HeldMatrix(matrix.cpu()), pieces, whole.padding_idx)
    network.set_input_embeddings(rows.to(whole.weight.device))


def restore(network: Embedded) -> None:
    """Give a compacted network its whole embedding back."""
    rows = network.get_input_embeddings()
    if not isinstance(rows, CompactEmbedding):
        return
    matrix = rows.expand()
    whole = nn.Embedding(matrix.shape[0], matrix.shape[1], padding_idx=rows.padding_idx, _weight=matrix)
    network.set_input_embeddings(whole.to(rows.weight.device))


def save_rows(rows: CompactEmbedding, name: str, checkpoint: dict[str, Any]) -> None:
    """Put the whole matrix into a checkpoint, and beside it the ghost and which rows the optimizer's states are of.

    Args:
        rows: The embedding.
        name: Its weight's name in the checkpoint's ``state_dict``.
        checkpoint: A checkpoint of Lightning.
    """
    checkpoint["state_dict"][name] = rows.expand()
    checkpoint["compact_pieces"] = rows.pieces
    checkpoint["compact_ghosts"] = rows.weight[len(rows.pieces) :].detach().cpu()


def load_rows(embedding_: nn.Module, name: str, place: int, checkpoint: dict[str, Any]) -> None:
    """Make a checkpoint fit an embedding that may be compact, or be of other pieces than the one that was saved.

    Args:
        embedding_: The network's embedding; a compact one goes on with its own absent rows and the checkpoint's ghosts
            where they make the checkpoint's absent rows, to the bit, and otherwise takes those and new ghosts.
        name: Its weight's name in the checkpoint's ``state_dict``.
        place: Which of the optimizer's parameters the weight is.
        checkpoint: A checkpoint of Lightning, with the whole matrix; it is changed in place.
    """
    whole: Tensor = checkpoint["state_dict"][name]
    everything = torch.arange(len(whole))
    old: Tensor = checkpoint.get("compact_pieces", everything)
    new = everything
    if isinstance(embedding_, CompactEmbedding):
        new, whole = embedding_.pieces, whole.to(embedding_.weight.dtype)
        fresh = ghost_rows(whole.shape[1], whole.dtype)
        kept = checkpoint.get("compact_ghosts", fresh)
        # Those of a training in another type are for other digits.
        alike = (kept.dtype, kept.shape) == (fresh.dtype, fresh.shape)
        weight = torch.cat([whole[new], kept if alike else fresh])
        if not alike or not torch.equal(embedding_.expand(weight), whole):
            embedding_.matrix = HeldMatrix(whole)
            weight = torch.cat([whole[new], fresh])
        checkpoint["state_dict"][name] = weight
    for states in checkpoint.get("optimizer_states", ()):
        if place in states["state"]:
            ghosts = 0 if new is everything else len(checkpoint["state_dict"][name]) - len(new)
            states["state"][place] = _moved(states["state"][place], old, new, ghosts)


def _moved(states: Mapping[str, Any], old: Tensor, new: Tensor, ghosts: int) -> dict[str, Any]:
    """Carry the optimizer's states of one parameter over to other rows; rows without a gradient so far have zeros.

    Args:
        states: Tensors with a row a piece, and scalars.
        old: The pieces that the states are of. *Shape:* (used,)
        new: The pieces that states are wanted of. *Shape:* (wanted,)
        ghosts: How many ghost rows belong behind them.
    """
    at = torch.searchsorted(old, new).clamp(max=len(old) - 1)
    known = old[at] == new
    moved = dict(states)
    for name, state in states.items():
        if isinstance(state, Tensor) and state.dim() == 2:
            moved[name] = state.new_zeros(len(new) + ghosts, state.shape[1])
            moved[name][: len(new)][known] = state[at[known]]
    return moved
