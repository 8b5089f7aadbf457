"""Linear layers that multiply by the fastest of the libraries that PyTorch has on this CPU, found by measuring.

PyTorch multiplies float32 matrices by MKL, which does not use AVX-512 on CPUs of AMD. There oneDNN, another library of
PyTorch, can be twice as fast. Both also multiply by weight matrices that were packed before, into the
order in which they are read; evaluation can use that, because its weights do not change. In bfloat16, evaluation keeps
its weights converted and packed instead of converting them for every batch.

Libraries round differently. So that a run can be repeated to the last digit, measurements are kept in the cache folder.
"""

import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from xner.files import cache_folder, write_atomically

logger = logging.getLogger(__name__)

# oneDNN keeps the code that it generates for each shape of a product, by default of 1,024. One training step needs 25
# in bfloat16, and packed batches have some twenty shapes. On an Intel CPU, training with 256 was as fast as with 512
# and faster than with 128 or 32, and tagging took 0.2 GB less than with 512. oneDNN reads this at its first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")

OWN = "PyTorch's own"
_ROWS = 256
"""Vectors per measured product: about half a training step of 32 sentences."""
_REPEATS = 3
_SMALLEST = 2**16
"""Numbers in the smallest matrix that is measured. Calling another library costs a smaller one more than it gains."""
_GAIN = 0.9
"""Fraction of the time of PyTorch's own product that another library must stay below, as its call costs time too."""


@dataclass(frozen=True)
class Libraries:
    """The fastest library for each product of a linear layer.

    Attributes:
        forward: Of the forward pass, in training.
        input_gradient: Of the gradient with respect to the input.
        weight_gradient: Of the gradient with respect to the weights.
        evaluation: Of the forward pass without gradients, where the matrix may be packed.
    """

    forward: str = OWN
    input_gradient: str = OWN
    weight_gradient: str = OWN
    evaluation: str = OWN

    @property
    def in_training(self) -> bool:
        """Whether training differs from PyTorch's own."""
        return {self.forward, self.input_gradient, self.weight_gradient} != {OWN}


def fastest(inputs: int, outputs: int) -> Libraries:
    """Return the fastest libraries for float32 matrices of a shape, measured now or earlier on this machine.

    Args:
        inputs: Input features.
        outputs: Output features.
    """
    # Virtual machines may call different CPUs by one name.
    cpu = f"{cpu_model()} ({torch.backends.cpu.get_cpu_capability()})"
    machine = f"{cpu}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
    return _fastest(cache_folder() / "products.json", machine, inputs, outputs)


@cache
def _fastest(path: Path, machine: str, inputs: int, outputs: int) -> Libraries:
    shape = f"{outputs} x {inputs}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Of several processes, one measures, alone, and the others read what it wrote.
        with FileLock(path.with_suffix(".lock")):
            known = _read(path)
            kept = known.setdefault(machine, {})
            if shape not in kept:
                kept[shape] = asdict(measure_products(inputs, outputs))
                write_atomically(path, json.dumps(known, indent=1))
            return Libraries(**kept[shape])
    except OSError as error:
        _warn_of_cache(path, error.strerror)
        return measure_products(inputs, outputs)


@cache
def _warn_of_cache(path: Path, reason: str | None) -> None:
    """Log a warning, once per process, that measurements cannot be kept."""
    logger.warning(
        "%s cannot be written (%s); matrix products are measured at every start and may round differently", path, reason
    )


def _read(path: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Read what was measured; a damaged file is one without measurements."""
    try:
        known: dict[str, dict[str, dict[str, str]]] = json.loads(path.read_bytes())
        whole = all(
            {*kept} == {*_KINDS} and all(library in _KINDS[kind] for kind, library in kept.items())
            for shapes in known.values()
            for kept in shapes.values()
        )
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}
    return known if whole else {}


@cache
def cpu_model() -> str:
    """Return the model of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def measure_products(inputs: int, outputs: int) -> Libraries:
    """Measure the libraries for float32 matrices of a shape. It takes about 20 ms for 768 by 768 on two cores."""
    input, weight, bias, gradient = (
        torch.full(shape, 0.5) for shape in ((_ROWS, inputs), (outputs, inputs), (outputs,), (_ROWS, outputs))
    )
    with torch.inference_mode():
        return Libraries(
            forward=_winner({name: partial(each, input, weight, bias) for name, each in FORWARD.items()}),
            input_gradient=_winner({name: partial(each, gradient, weight) for name, each in INPUT_GRADIENT.items()}),
            weight_gradient=_winner({name: partial(each, gradient, input) for name, each in WEIGHT_GRADIENT.items()}),
            evaluation=_winner({name: partial(pack(weight, bias, _ROWS), input) for name, pack in PACK.items()}),
        )


def _winner(products: dict[str, Callable[[], Tensor]]) -> str:
    seconds: dict[str, list[float]] = {name: [] for name in products}
    for _ in range(1 + _REPEATS):
        for name, multiply in products.items():
            started = time.perf_counter()
            multiply()
            seconds[name].append(time.perf_counter() - started)
    # The first call prepares.
    least = {name: min(values[1:]) for name, values in seconds.items()}
    best = min(least, key=least.__getitem__)
    return best if least[best] < _GAIN * least[OWN] else OWN


def _onednn(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return product


Pack = Callable[[Tensor, Tensor | None, int], Callable[[Tensor], Tensor]]


def _keep(weight: Tensor, bias: Tensor | None, vectors: int) -> Callable[[Tensor], Tensor]:
    return lambda input: linear(input, weight, bias)


def _keep_onednn(weight: Tensor, bias: Tensor | None, vectors: int) -> Callable[[Tensor], Tensor]:
    return lambda input: _onednn(input, weight, bias)


def _pack_mkl(weight: Tensor, bias: Tensor | None, vectors: int) -> Callable[[Tensor], Tensor]:
    """Pack for MKL, which multiplies inputs of that many vectors by the packed matrix."""
    packed = torch.ops.mkl._mkl_reorder_linear_weight(weight, vectors)
    return lambda input: torch.ops.mkl._mkl_linear(input, packed, weight, bias, vectors)


def _pack_onednn(weight: Tensor, bias: Tensor | None, vectors: int) -> Callable[[Tensor], Tensor]:
    """Pack for oneDNN, which multiplies any input by the packed matrix."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, vectors)
    return lambda input: _onednn(input, packed, bias)


FORWARD: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {OWN: linear, "oneDNN": _onednn}
INPUT_GRADIENT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    OWN: torch.mm,
    "oneDNN": lambda gradient, weight: _onednn(gradient, weight.t()),
}
WEIGHT_GRADIENT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    OWN: lambda gradient, input: gradient.t() @ input,
    "oneDNN": lambda gradient, input: _onednn(gradient.t(), input.t()),
}
MKL = "MKL, packed"
ONEDNN = "oneDNN, packed"
PACK: dict[str, Pack] = {OWN: _keep, "oneDNN": _keep_onednn, ONEDNN: _pack_onednn}
"""How each library prepares a matrix and its bias for inputs of a number of vectors. *Shape:* (outputs, inputs)"""
if torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
    PACK[MKL] = _pack_mkl


_KINDS: dict[str, Mapping[str, object]] = {
    "forward": FORWARD,
    "input_gradient": INPUT_GRADIENT,
    "weight_gradient": WEIGHT_GRADIENT,
    "evaluation": PACK,
}
"""The libraries of each attribute of ``Libraries``."""


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
