"""Attention within rows, and dropout, as fast as a CPU allows; both compute what transformers and torch do.

On a CPU, PyTorch's scaled dot product takes a general path in training: it prepares the mask anew in every layer and
draws dropout's random numbers one by one. With rows of 64 pieces that costs as much as the products themselves.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "xner_rows"
"""The name under which transformers knows ``row_attention``."""


def row_mask(windows: Tensor) -> Tensor:
    """Say which pieces see one another: those of one window. Padding sees padding, since an empty row would give nan.

    Args:
        windows: The number of each piece's window in its row, 0 on padding. *Shape:* (rows, width)

    Returns:
        On a CPU numbers to add to the scores, 0 or minus infinity; elsewhere truth values. *Shape:*
        (rows, 1, width, width)
    """
    same = windows[:, None, :, None] == windows[:, None, None, :]
    if windows.device.type != "cpu":
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
    **options: Any,  # noqa: ANN401 - what transformers hands to any attention function
) -> tuple[Tensor, None]:
    """Scaled dot-product attention (Vaswani et al. 2017), as a function of transformers' ``AttentionInterface``.

    Args:
        module: The attention layer.
        query: *Shape:* (rows, heads, width, head width)
        key: As ``query``.
        value: As ``query``.
        attention_mask: As ``row_mask`` makes it. *Shape:* (rows, 1, width, width)
        dropout: The probability of leaving a piece out.
        scaling: What scores are multiplied by.
        options: What PyTorch's own way may take.

    Returns:
        The mixed values, *shape:* (rows, width, heads, head width), and no weights.
    """
    # Without dropout, PyTorch's own way is the fast one on a CPU too.
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
    """Dropout (Srivastava et al. 2014) whose random numbers a CPU draws in bulk, 16 bits each."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training, and only then. *Shapes:* any."""
        if not self.training or self.p == 0:
            return input
        return _drop(input, self.p) if input.device.type == "cpu" else super().forward(input)


def patch_attention(network: "PreTrainedModel") -> None:
    """Have a network of transformers attend by ``row_attention`` and drop by ``Dropout``."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, row_attention)
    network.set_attn_implementation(NAME)
    for module in network.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p))


def _drop(values: Tensor, p: float) -> Tensor:
    """Make each value 0 with probability ``p``, and scale the others so that the mean stays."""
    if p == 1:
        return values * 0
    # Four draws in one 64-bit number; ranges from -2**63 to no bound mean all of its bits.
    draws = torch.empty((values.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    # 16 bits would round p. As many calls as are its due drop one draw in 65,536 more.
    dropped = (p * 2**16 + torch.rand((), dtype=torch.float64)).floor().clamp(max=2**16 - 1)
    numbers = draws.view(torch.int16)[: values.numel()].view(values.shape)
    # Written as numbers at once: truth values would be gone over once more.
    kept = torch.ge(numbers, (dropped - 2**15).to(torch.int16), out=torch.empty(values.shape, dtype=values.dtype))
    return values * kept.mul_(1 / (1 - p))
