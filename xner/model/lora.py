"""LoRA: train low-rank adapters in place of an encoder's weights (Hu et al. 2021).

The head is trained in full. When training ends, the adapters are merged into the weights, so that a model folder holds
an ordinary network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from xner.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Low-rank adapters (Hu et al. 2021, whose values for RoBERTa base are the defaults).

    Args:
        rank: Rank of each adapter, which has rank times (m + n) parameters for a layer of m inputs and n outputs.
        alpha: Scale of the adapters: their output is multiplied by alpha / rank.
        dropout: Dropout probability of an adapter's input.
        targets: Names of the encoder's linear layers that get an adapter, such as [query, value]; null is peft's
            default for the encoder's type, the query and value of attention.
    """

    rank: int = 8
    alpha: int = 8
    dropout: float = 0.0
    targets: Sequence[str] | None = None

    def check(self) -> None:
        """Check the options, before anything is loaded or written.

        Not in the constructor, because jsonargparse would wrap the error into a longer text.

        Raises:
            UserError: If an option is out of its range, or peft is not installed.
        """
        for name in ("rank", "alpha", "dropout"):  # jsonargparse takes null within a dataclass that may be null itself
            if getattr(self, name) is None:
                raise UserError(f"model.lora.{name}=null is not a number; use one, or leave it out")
        if self.rank < 1:
            raise UserError(f"model.lora.rank={self.rank} is not positive; use 1 or more")
        if self.alpha < 1:
            raise UserError(f"model.lora.alpha={self.alpha} is not positive; use 1 or more")
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.lora.dropout={self.dropout} is not in [0, 1); use a smaller number")
        if self.targets is not None and not self.targets:
            raise UserError("model.lora.targets=[] is empty; use layers such as [query, value], or leave it out")
        try:
            import peft  # noqa: F401 - whether it is there
        except ImportError as error:
            raise UserError("model.lora needs peft; install it with pip install '.[lora]'") from error


def adapt(network: "PreTrainedModel", lora: LoRA) -> None:
    """Add adapters to a network's encoder, unless it has them, and freeze its weights.

    New adapters do not change the output, because one of their two matrices is zero.

    Args:
        network: The network; its head is left unchanged.
        lora: The adapters.

    Raises:
        UserError: If a target is not a linear layer of the encoder, or the rank is not lower than its own.
    """
    from peft import LoraConfig, inject_adapter_in_model

    encoder = network.base_model
    if hasattr(encoder, "peft_config"):
        return
    targets = _targets(network, lora)
    encoder.requires_grad_(False)
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, bias="none"
    )
    inject_adapter_in_model(config, encoder)


def check_adapters(lora: LoRA, config: "PreTrainedConfig") -> None:
    """Check that an encoder has the layers that get adapters, and that these are of low rank, before it is loaded.

    Raises:
        UserError: If not.
    """
    from transformers import AutoModelForTokenClassification

    with torch.device("meta"):
        _targets(AutoModelForTokenClassification.from_config(config), lora)  # type: ignore[no-untyped-call]


def _targets(network: "PreTrainedModel", lora: LoRA) -> list[str]:
    """Return the names of the encoder's layers that get adapters.

    Raises:
        UserError: If one is not a linear layer, or the rank exceeds that of its weight.
    """
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    kind = network.config.model_type
    targets = lora.targets or TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind, ("query", "value"))
    modules = network.base_model.named_modules()
    ranks = {name.rpartition(".")[2]: min(each.weight.shape) for name, each in modules if isinstance(each, nn.Linear)}
    for target in targets:
        if target not in ranks:
            raise UserError(
                f"model.lora.targets: {target!r} is not a linear layer of the encoder ({kind}); use some of "
                f"{', '.join(sorted(ranks))}"
            )
        if lora.rank > ranks[target]:
            raise UserError(
                f"model.lora.rank={lora.rank} is more than the {ranks[target]} of the weights of {target}; use a "
                "smaller one, such as 8"
            )
    return list(targets)


def merge(network: "PreTrainedModel") -> None:
    """Merge the adapters of a network, if it has any, into its weights."""
    encoder = network.base_model
    if not hasattr(encoder, "peft_config"):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in [*encoder.named_modules()]:
        if isinstance(module, BaseTunerLayer):
            module.merge()
            encoder.set_submodule(name, module.get_base_layer())
    del encoder.peft_config
    encoder.requires_grad_(True)
