"""Attention, dropout and a last layer that compute what those of PyTorch and transformers do, faster on a CPU.

- In training, PyTorch's scaled dot-product attention prepares the mask in every layer and draws the random numbers of
  dropout one by one. For sequences of 64 subwords that costs as much as the matrix products themselves.
- After its attention, a layer of the BERT family transforms each piece independently, which is two thirds of its
  arithmetic. Nothing attends to the last layer, so pieces that are not scored can be left out there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "xner_rows"
"""The name under which transformers knows ``row_attention``."""


def row_mask(windows: Tensor, *, additive: bool = True) -> Tensor:
    """Make the block-diagonal attention mask of packed sequences: pieces attend within their window.

    Padding attends to padding, because a row of the mask without any piece would give nan.

    Args:
        windows: The number of each piece's window in its row, 0 on padding. *Shape:* (rows, width)
        additive: Whether to make, on a CPU, numbers to add to the scores.

    Returns:
        Numbers, 0 or minus infinity, or truth values. *Shape:* (rows, 1, width, width)
    """
    same = windows[:, None, :, None] == windows[:, None, None, :]
    if not additive or windows.device.type != "cpu":
        return same
    return torch.zeros(same.shape).masked_fill_(~same, float("-inf"))


def row_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,  # noqa: ANN401 - whatever transformers passes to an attention function
) -> tuple[Tensor, None]:
    """Compute scaled dot-product attention (Vaswani et al. 2017), for transformers' ``AttentionInterface``.

    Args:
        module: The attention layer.
        query: *Shape:* (rows, heads, width, head width)
        key: As ``query``.
        value: As ``query``.
        attention_mask: As ``row_mask`` makes it. *Shape:* (rows, 1, width, width)
        dropout: Dropout probability of the attention weights.
        scaling: Factor of the scores.
        options: Options of PyTorch's own attention.

    Returns:
        The attention output, *shape:* (rows, width, heads, head width), and no weights.
    """
    # Without dropout, PyTorch's own attention is faster on a CPU as well.
    if query.device.type != "cpu" or not dropout or attention_mask is None or scaling is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        mixed: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return mixed
    scores = torch.add(attention_mask, query @ key.transpose(2, 3), alpha=scaling)
    weights = _drop(scores.softmax(dim=-1), dropout)
    return (weights.to(value.dtype) @ value).transpose(1, 2).contiguous(), None


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al. 2014) that draws its random numbers in bulk on a CPU, 16 bits each."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop values in training. *Shapes:* any."""
        if not self.training or self.p == 0:
            return input
        return _drop(input, self.p) if input.device.type == "cpu" else super().forward(input)


def patch_attention(network: "PreTrainedModel") -> None:
    """Make a network of transformers use ``row_attention`` and ``Dropout``."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, row_attention)
    network.set_attn_implementation(NAME)
    for module in network.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p))


def _drop(values: Tensor, p: float) -> Tensor:
    """Set each value to 0 with probability ``p``, and scale the others so that the mean stays."""
    if p == 1:
        return values * 0
    # Four draws per 64-bit number; from -2**63 without an upper bound, all of its bits are random.
    draws = torch.empty((values.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    # 16 bits would round p: at random, a call drops one draw in 65,536 more, so that p is right on average.
    dropped = (p * 2**16 + torch.rand((), dtype=torch.float64)).floor().clamp(max=2**16 - 1)
    numbers = draws.view(torch.int16)[: values.numel()].view(values.shape)
    # Written as numbers directly: truth values would need another pass.
    kept = torch.ge(numbers, (dropped - 2**15).to(torch.int16), out=torch.empty(values.shape, dtype=values.dtype))
    return values * kept.mul_(1 / (1 - p))


class LastLayer:
    """The last layer of a network, which can be restricted to some pieces.

    Args:
        network: A token classifier of the BERT or RoBERTa family; a hook is added to its layer.
    """

    def __init__(self, network: "PreTrainedModel") -> None:
        self.places: Tensor | None = None
        encoder: Any = network.base_model.encoder
        layer = encoder.layer[-1]
        layer.attention.output.register_forward_pre_hook(self._choose)
        # Gradient checkpointing would recompute this layer right away, and for all pieces.
        layer.gradient_checkpointing = False

    @contextmanager
    def only(self, places: Tensor) -> Iterator[None]:
        """Restrict the network's output within a block to one row of these pieces.

        Args:
            places: The pieces, by their place in the concatenated rows. *Shape:* (places,)
        """
        self.places = places
        try:
            yield
        finally:
            self.places = None

    def _choose(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Select from the attention output and from its residual. *Shapes:* (rows, width, hidden)."""
        if self.places is None:
            return None
        return tuple(each.flatten(0, 1).index_select(0, self.places)[None] for each in inputs)
