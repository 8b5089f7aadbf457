"""The libraries that PyTorch multiplies by on a CPU, and the fastest of them for a shape, found by measuring.

PyTorch multiplies float32 matrices by MKL, which does not use AVX-512 on CPUs of AMD. There oneDNN, another library of
PyTorch, can be twice as fast. Both also multiply by weight matrices that were packed before, into the order in which
they are read; evaluation can use that, because its weights do not change.

Libraries round differently. So that a run can be repeated to the last digit, measurements are kept in the cache folder.
"""

import json
import logging
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor
from torch.nn.functional import linear

from xner.files import cache_folder, write_atomically

logger = logging.getLogger(__name__)

# oneDNN keeps the code that it generates for each shape of a product, by default of 1,024. One training step needs 25
# in bfloat16, and packed batches have some twenty shapes. On an Intel CPU, training with 256 was as fast as with 512
# and faster than with 128 or 32, and tagging took 0.2 GB less than with 512. oneDNN reads this at its first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")

Pack = Callable[[Tensor, Tensor | None, int], Callable[[Tensor], Tensor]]

OWN = "PyTorch's own"
MKL = "MKL, packed"
ONEDNN = "oneDNN, packed"
_ROWS = 256
"""Vectors per measured product: about half a training step of 32 sentences."""
_REPEATS = 3
_GAIN = 0.9
"""Fraction of the time of PyTorch's own product that another library must stay below, as its call costs time too."""


def _onednn(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return product


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
