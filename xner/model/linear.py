"""Linear layers that multiply by a matrix laid out once, while an evaluation on a CPU takes equal batch after batch.

MKL's sgemm copies each matrix into the order in which it is read, anew in every call: 5 to 8 % of it, for a batch of
1,024 pieces. It can be given the copy instead, to the same result. Where PyTorch has no MKL, nothing happens.
"""

from typing import Any

import torch
from torch import Tensor, nn


class Linear(nn.Linear):
    """A linear layer that may keep its matrix as MKL reads it; the copy takes as much memory as the matrix."""

    keeps = False
    """Whether it keeps a copy, made for a number of vectors that two inputs in succession had."""
    vectors = -1
    """Of the last input."""
    laid_out: tuple[int, Tensor] | None = None
    """The number of vectors that the copy was made for, and the copy."""

    def forward(self, input: Tensor) -> Tensor:
        """Compute what ``torch.nn.Linear`` does. *Shapes:* (..., input features) and (..., output features)."""
        if not self.keeps:
            return super().forward(input)
        if torch.is_grad_enabled() or not self._is_plain(input):
            self.laid_out = None  # a training that an evaluation was broken off for will change the matrix
            return super().forward(input)
        vectors, before = input.numel() // self.in_features, self.vectors
        self.vectors = vectors
        if vectors == before and (self.laid_out is None or self.laid_out[0] != vectors):
            self.laid_out = vectors, torch.ops.mkl._mkl_reorder_linear_weight(self.weight, vectors)
        if self.laid_out is None or self.laid_out[0] != vectors:
            return super().forward(input)
        product: Tensor = torch.ops.mkl._mkl_linear(input, self.laid_out[1], self.weight, self.bias, vectors)
        return product

    def __getstate__(self) -> dict[str, Any]:
        """Leave the copy out, which torch can neither copy nor save."""
        return {name: value for name, value in self.__dict__.items() if name != "laid_out"}

    def _is_plain(self, input: Tensor) -> bool:
        """Whether sgemm is what would be called."""
        return (
            input.is_cpu
            and input.dtype == self.weight.dtype == torch.float32
            and input.numel() > 0
            and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
            and not torch.is_autocast_enabled("cpu")
        )


def keep_layouts(network: nn.Module, keeps: bool) -> None:
    """Have a network's linear layers keep copies from now on, or forget them: before their matrices change."""
    for module in network.modules():
        if isinstance(module, Linear):
            module.keeps, module.vectors, module.laid_out = keeps, -1, None
