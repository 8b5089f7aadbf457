"""LoRA: instead of an encoder's weights, train small matrices beside them (Hu et al. 2021).

The head above the encoder trains in full. When training ends, the matrices are added to the weights that they stand
beside: a model folder holds an ordinary network, and whoever loads it needs to know nothing of this.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from xner.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Low-rank adapters (Hu et al. 2021, whose values for RoBERTa base are the defaults).

    Args:
        rank: Rank of an adapter: for a layer of m inputs and n outputs it trains rank times (m + n) numbers.
        alpha: An adapter's output is multiplied by alpha over rank.
        dropout: Probability that an adapter does not see an input, in training.
        targets: Names of the encoder's linear layers that get an adapter, as [query, value]; null stands for those
            that peft has for the encoder's type: attention's query and value.
    """

    rank: int = 8
    alpha: int = 8
    dropout: float = 0.0
    targets: Sequence[str] | None = None

    def check(self) -> None:
        """Say what is wrong before anything is loaded or written.

        Not when it is made: jsonargparse would wrap the line into its own words.

        Raises:
            UserError: If a value makes no sense, or peft is not installed.
        """
        if self.rank < 1:
            raise UserError(f"model.lora.rank={self.rank} must be 1 or more")
        if self.alpha < 1:
            raise UserError(f"model.lora.alpha={self.alpha} must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.lora.dropout={self.dropout} must be 0 or more, and below 1")
        if self.targets is not None and not self.targets:
            raise UserError("model.lora.targets is empty: name a layer, as [query, value], or leave it out")
        try:
            import peft  # noqa: F401 - whether it is there
        except ImportError as error:
            raise UserError("model.lora needs peft: pip install 'xner[lora]'") from error


def adapt(network: "PreTrainedModel", lora: LoRA) -> None:
    """Give a network's encoder adapters and freeze the rest of it; where it has adapters, do nothing.

    New adapters change no output: one of the two matrices of each is zero.

    Args:
        network: The network; its head is left as it is.
        lora: The adapters.

    Raises:
        UserError: If a target is none of the encoder's linear layers.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    encoder = network.base_model
    if hasattr(encoder, "peft_config"):
        return
    kind = network.config.model_type
    targets = lora.targets or TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind, ("query", "value"))
    layers = {name.rpartition(".")[2] for name, module in encoder.named_modules() if isinstance(module, nn.Linear)}
    for target in targets:
        if target not in layers:
            raise UserError(
                f"model.lora.targets: {target!r} is no linear layer of the encoder ({kind}): name some of "
                f"{', '.join(sorted(layers))}"
            )
    encoder.requires_grad_(False)
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(targets), bias="none"
    )
    inject_adapter_in_model(config, encoder)


def merge(network: "PreTrainedModel") -> None:
    """Add the adapters to the weights that they stand beside, and take them away; without any, do nothing."""
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
