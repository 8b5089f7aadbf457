"""Linear layers that multiply by the fastest of the libraries that PyTorch has on this CPU.

In bfloat16, evaluation keeps its weights converted and packed instead of converting them for every batch.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from xner.model.fast.libraries import (
    FORWARD,
    INPUT_GRADIENT,
    MKL,
    ONEDNN,
    OWN,
    PACK,
    WEIGHT_GRADIENT,
    Libraries,
    fastest,
)

logger = logging.getLogger(__name__)

_SMALLEST = 2**16
"""Numbers in the smallest matrix that is measured. Calling another library costs a smaller one more than it gains."""


class _Multiply(torch.autograd.Function):
    """The product of a linear layer in training."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch gives it no type
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        libraries: Libraries,
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.libraries = libraries
        return FORWARD[libraries.forward](input, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - as above
        input, weight = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        by_input, by_weight, by_bias = None, None, None
        if ctx.needs_input_grad[0]:
            by_input = INPUT_GRADIENT[ctx.libraries.input_gradient](flat, weight).view(input.shape)
        if ctx.needs_input_grad[1]:
            by_weight = WEIGHT_GRADIENT[ctx.libraries.weight_gradient](flat, input.reshape(-1, input.shape[-1]))
        if ctx.needs_input_grad[2]:
            by_bias = flat.sum(dim=0)
        return by_input, by_weight, by_bias, None


class Products:
    """The products of a network's linear layers, valid until its modules or their weights change.

    Args:
        network: The network. Its larger float32 layers on a CPU take part. In evaluation, a packed copy of a matrix
            takes as much memory as the matrix, in bfloat16 half as much.
    """

    def __init__(self, network: nn.Module) -> None:
        usable = torch.backends.mkldnn.is_available() and torch.get_float32_matmul_precision() == "highest"  # type: ignore[no-untyped-call]
        self.products = [
            Product(layer, fastest(layer.in_features, layer.out_features))
            for layer in network.modules()
            if usable
            and type(layer) is nn.Linear
            and (layer.weight.is_cpu, layer.weight.dtype) == (True, torch.float32)
            and layer.weight.numel() >= _SMALLEST
        ]
        _log(tuple(dict.fromkeys((str([*each.layer.weight.shape]), each.libraries) for each in self.products)))

    @contextmanager
    def used(self) -> Iterator[None]:
        """Multiply by the fastest libraries within a block."""
        for product in self.products:
            product.layer.__dict__["forward"] = product
        try:
            yield
        finally:
            for product in self.products:
                del product.layer.__dict__["forward"]


@cache
def _log(chosen: tuple[tuple[str, Libraries], ...]) -> None:
    """Log what was chosen, once per process."""
    if not chosen or not in_first_process():
        return
    kinds = []
    for kind in asdict(chosen[0][1]):
        by_library: dict[str, list[str]] = {}
        for shape, libraries in chosen:
            by_library.setdefault(getattr(libraries, kind), []).append(shape)
        parts = [f"{each} {' '.join(on) if len(by_library) > 1 else ''}".strip() for each, on in by_library.items()]
        kinds.append(f"{kind.replace('_', ' ')} {', '.join(parts)}")
    logger.info("the fastest matrix products here: %s (model.accelerate=false: %s)", "; ".join(kinds), OWN)


class Product:
    """The product that a linear layer computes, in place of its ``forward``.

    Args:
        layer: The layer.
        libraries: The libraries to use.

    Attributes:
        packed: The type and, where it matters, the number of vectors that the matrix was prepared for, and the
            prepared product.
    """

    def __init__(self, layer: nn.Linear, libraries: Libraries) -> None:
        self.layer = layer
        self.libraries = libraries
        self.packed: tuple[tuple[torch.dtype, int | None], Callable[[Tensor], Tensor]] | None = None
        self._last: tuple[torch.dtype, int | None] | None = None

    def __call__(self, input: Tensor) -> Tensor:
        """Compute what ``torch.nn.Linear`` does. *Shapes:* (..., input features) and (..., output features)."""
        layer = self.layer
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        if input.shape[-1] != layer.in_features or not input.numel() or not layer.weight.is_cpu:
            return nn.Linear.forward(layer, input)
        if torch.is_grad_enabled():
            if dtype != torch.float32 or not self.libraries.in_training:
                return nn.Linear.forward(layer, input)
            product: Tensor = _Multiply.apply(input, layer.weight, layer.bias, self.libraries)  # type: ignore[no-untyped-call]
            return product
        if dtype == torch.bfloat16 and input.dtype in (torch.bfloat16, torch.float32) and has_bfloat16():
            library = ONEDNN
        elif dtype == input.dtype == torch.float32 and self.libraries.evaluation != OWN:
            library = self.libraries.evaluation
        else:
            return nn.Linear.forward(layer, input)
        vectors = input.numel() // layer.in_features
        fit = (dtype, vectors if library == MKL else None)
        if self.packed is None and self._last == fit:
            bias = None if layer.bias is None else layer.bias.to(dtype)
            self.packed = fit, PACK[library](layer.weight.detach().to(dtype), bias, vectors)
        self._last = fit
        if self.packed is None or self.packed[0] != fit:
            return nn.Linear.forward(layer, input)
        return self.packed[1](input.to(dtype))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the packed matrix, which PyTorch can neither copy nor save."""
        return {**self.__dict__, "packed": None}


def in_first_process() -> bool:
    """Return whether this is the only process, or the first of a distributed run, which speaks for all."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not distributed or torch.distributed.get_rank() == 0


@cache
def has_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 numbers in hardware, by AVX512_BF16 or AMX."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@cache
def warn_of_slow_bfloat16() -> None:
    """Log a warning, once per process, if bfloat16 is slower than float32 on this CPU."""
    if not has_bfloat16() and in_first_process():
        logger.warning(
            "bfloat16 is slower than float32 on this CPU, which has neither AVX512_BF16 nor AMX; use "
            "precision=float32 (trainer.precision=32-true and model.evaluation_precision=float32)"
        )
