"""The weight matrices of linear layers, packed once for the many batches of an evaluation on a CPU.

MKL's sgemm packs each matrix into the order in which it is read in every call, which takes 5 to 8 % of the time for a
batch of 1,024 pieces. It can be given the packed matrix instead, for the same product up to rounding. Without MKL, this
does nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class PackedMatrices:
    """Packed copies of a network's matrices, which must not change meanwhile.

    Args:
        network: The network; its float32 linear layers that MKL multiplies are packed when that first pays. A copy
            takes the memory of its matrix, and about 10 MB of addresses.
    """

    def __init__(self, network: nn.Module) -> None:
        has_mkl = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        multiplies = has_mkl and torch.get_float32_matmul_precision() == "highest"
        self.products = [
            _Product(layer)
            for layer in network.modules()
            if multiplies and type(layer) is nn.Linear and layer.weight.is_cpu and layer.weight.dtype == torch.float32
        ]

    @contextmanager
    def used(self) -> Iterator[None]:
        """Multiply by the copies within a block."""
        for product in self.products:
            product.layer.__dict__["forward"] = product
        try:
            yield
        finally:
            for product in self.products:
                del product.layer.__dict__["forward"]


class _Product:
    """The product that a linear layer computes.

    Attributes:
        layer: The layer.
        vectors: The number of vectors of the last input.
        copy: The number of vectors that its matrix was packed for, the first that two successive inputs had, and the
            packed matrix.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer
        self.vectors = -1
        self.copy: tuple[int, Tensor] | None = None

    def __call__(self, input: Tensor) -> Tensor:
        """Compute what ``torch.nn.Linear`` does. *Shapes:* (..., input features) and (..., output features)."""
        layer = self.layer
        plain = input.dtype == torch.float32 and input.shape[-1] == layer.in_features and input.numel() > 0
        if not plain or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return nn.Linear.forward(layer, input)
        vectors, before = input.numel() // layer.in_features, self.vectors
        self.vectors = vectors
        if self.copy is None and vectors == before:
            self.copy = vectors, torch.ops.mkl._mkl_reorder_linear_weight(layer.weight, vectors)
        if self.copy is None or self.copy[0] != vectors:
            return nn.Linear.forward(layer, input)
        product: Tensor = torch.ops.mkl._mkl_linear(input, self.copy[1], layer.weight, layer.bias, vectors)
        return product

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the packed matrix, which PyTorch can neither copy nor save."""
        return {**self.__dict__, "copy": None}
