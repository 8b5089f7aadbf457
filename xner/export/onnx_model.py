"""Networks as ONNX models: exported by torch, quantised to int8 and run by ONNX Runtime."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from xner.batch import Batch
from xner.errors import RunError, UserError
from xner.tags import OUTSIDE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OPSETS = range(18, 24)
"""Versions of the operator set that can be asked for."""

_LARGEST_FILE = 1_900_000_000
"""Bytes of weights above which they need a file of their own, because a protobuf has at most 2 GiB."""


def check_installed() -> None:
    """Check that the packages of the extra are installed.

    Raises:
        UserError: If one is not.
    """
    try:
        for package in ("onnx", "onnxruntime", "onnxscript"):
            import_module(package)
    except ImportError as error:
        raise UserError("format=onnx needs onnx, onnxruntime and onnxscript; use pip install '.[export]'") from error


class _Logits(nn.Module):
    """A network whose result is a tensor."""

    def __init__(self, network: "PreTrainedModel") -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.network(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def write_onnx(network: "PreTrainedModel", path: Path, opset: int) -> None:
    """Write a token classifier as an ONNX model of any batch size and length.

    Its inputs ``input_ids`` and ``attention_mask`` have the shape (batch_size, sequence_length) and type int64; its
    output ``logits`` has the shape (batch_size, sequence_length, labels). The metadata has the labels as JSON.

    Args:
        network: The network.
        path: The file to write; weights of more than 1.9 GB are written beside it.
        opset: Version of ONNX's operator set.

    Raises:
        RunError: If torch cannot export the network.
    """
    pieces = torch.full((2, 8), network.config.pad_token_id or 0)
    axes = {0: torch.export.Dim("batch_size"), 1: torch.export.Dim("sequence_length")}
    example = {"input_ids": pieces, "attention_mask": torch.ones_like(pieces)}
    try:
        with _quiet(), torch.inference_mode():
            program = torch.onnx.export(
                _Logits(network).eval(),
                (),
                kwargs=example,
                dynamo=True,
                dynamic_shapes=dict.fromkeys(example, axes),
                output_names=["logits"],
                opset_version=opset,
                verbose=False,
            )
            assert program is not None
            program.model.metadata_props["labels"] = json.dumps(network.config.id2label)
            bytes_of_weights = sum(each.nbytes for each in network.state_dict().values())
            program.save(str(path), external_data=bytes_of_weights > _LARGEST_FILE)
    except torch.onnx.errors.OnnxExporterError as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        kind = network.config.model_type
        raise RunError(f"opset={opset}: torch cannot export the network ({kind}): {reason}; use another one") from error


def quantise(source: Path, path: Path) -> None:
    """Write an ONNX model with int8 weights, whose activations are quantised as it runs (dynamic quantisation).

    The second matrix of each feed-forward layer stays in float32: its input has outliers, beside which the other values
    of a tensor have hardly any of the 256 steps left (Bondarenko et al. 2021). So does the head, which is small.
    Weights have 7 of the 8 bits: on CPUs without VNNI, sums of products of 8 bits would be cut off at 16 (ONNX
    Runtime's guide to quantisation).

    Args:
        source: The model in float32.
        path: The file to write.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source, load_external_data=False).graph
    shapes = {weights.name: weights.dims for weights in graph.initializer}
    products = {node.name: shapes.get(node.input[1]) for node in graph.node if node.op_type == "MatMul"}
    with _quiet():
        quantize_dynamic(
            source,
            path,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            nodes_to_exclude=[name for name, shape in products.items() if shape and shape[0] > shape[1]],
            use_external_data_format=bytes_of(source) > _LARGEST_FILE,
        )


def bytes_of(path: Path) -> int:
    """Return the size of a file of weights, and of the file beside it that holds some of them."""
    return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))


class OnnxNetwork:
    """An ONNX model that ``write_onnx`` or ``quantise`` wrote, run by ONNX Runtime on the CPU.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        from onnxruntime import InferenceSession, SessionOptions

        options = SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.session = InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def logits(self, batch: Batch) -> Tensor:
        """Score every label on all pieces of windows that have a row each. *Shape:* (rows, width, labels)."""
        inputs = {"input_ids": batch.pieces.numpy(), "attention_mask": (batch.windows > 0).long().numpy()}
        [logits] = self.session.run(["logits"], inputs)
        return torch.from_numpy(logits)

    def predict_labels(self, batch: Batch) -> Tensor:
        """Predict the label of every word, by its first piece; a word without pieces is ``O``. *Shape:* (words,)."""
        labels = self.logits(batch).flatten(0, 1)[batch.word_piece.clamp(min=0)].argmax(dim=-1)
        return labels.masked_fill(batch.word_piece < 0, OUTSIDE)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the libraries' advice to their developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
