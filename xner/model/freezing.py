"""Which weights of an encoder are trained: freezing its lower layers, and the checks that freezing shares with LoRA."""

from typing import Literal

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from xner.errors import UserError
from xner.model.lora import LoRA, check_adapters

Freeze = Literal["embeddings"] | int
"""``embeddings``, or the number of the first encoder layers that are frozen as well."""

_RELATIVE_POSITIONS = ("encoder.rel_embeddings.", "encoder.LayerNorm.")
"""DeBERTa's embeddings of relative positions and their normalization, an input of every layer that comes last."""


def freeze_layers(model: PreTrainedModel, which: Freeze) -> None:
    """Stop the training of an encoder's lower layers; their dropout stays as in training.

    The lower layers of a multilingual encoder serve all of its languages; freezing them can help transfer to another
    language (Wu and Dredze 2019), and saves memory and time.

    Args:
        model: A token classifier; its head is left unchanged.
        which: ``embeddings`` freezes the encoder's embeddings, those of relative positions included; a number freezes
            them and that many encoder layers, counted from the embeddings.

    Raises:
        UserError: If the encoder has fewer layers, or does not have one module per layer.
    """
    check_layers(which, model.config)
    encoder, kind = model.base_model, model.config.model_type
    count = model.config.num_hidden_layers
    lists = [each for each in encoder.modules() if isinstance(each, nn.ModuleList) and len(each) == count]
    if len(lists) != 1:
        raise UserError(f"model.freeze={which} is not possible with {kind}, whose layers are not modules; use null")
    trained = {id(each) for each in lists[0][0 if which == "embeddings" else which :].parameters()}
    above = False
    # Modules are registered in the order of the forward pass: what comes before the first trained layer is below it.
    for name, parameter in encoder.named_parameters():
        above = above or id(parameter) in trained
        if not above or (kind.startswith("deberta") and name.startswith(_RELATIVE_POSITIONS)):
            parameter.requires_grad_(False)


def check_trained(lora: LoRA | None, freeze: Freeze | None) -> None:
    """Check the options that say what is trained.

    Raises:
        UserError: If one is out of its range, or both are given.
    """
    if not (freeze in (None, "embeddings") or (type(freeze) is int and freeze >= 1)):
        raise UserError(f"model.freeze={freeze} is not a number of encoder layers; use 1 or more, or embeddings")
    if lora and freeze is not None:
        raise UserError(f"model.freeze={freeze} is not possible with model.lora, which freezes all layers; use one")
    if lora:
        lora.check()


def check_layers(which: Freeze | None, config: PreTrainedConfig, lora: LoRA | None = None) -> None:
    """Check that an encoder has as many layers as are to be frozen, and those that get adapters.

    Args:
        which: As in ``freeze_layers``.
        config: The encoder's configuration.
        lora: The adapters, if any.

    Raises:
        UserError: If it has fewer, or others.
    """
    if lora:
        check_adapters(lora, config)
    layers = config.num_hidden_layers
    if isinstance(which, int) and which > layers:
        raise UserError(
            f"model.freeze={which} is not possible with {layers} encoder layers; use 1 to {layers}, or embeddings"
        )
