"""Freezing: fine-tune the upper layers of an encoder and leave the lower ones as they were pretrained.

The lower layers of a multilingual encoder serve all of its languages; leaving them alone can help transfer to another
language (Wu and Dredze 2019), and saves memory and time, since no gradient is computed there.
"""

from typing import TYPE_CHECKING, Literal

from torch import nn

from xner.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

Freeze = Literal["embeddings"] | int
"""``embeddings``, or how many of the encoder's first layers as well."""

_RELATIVE_POSITIONS = ("encoder.rel_embeddings.", "encoder.LayerNorm.")
"""DeBERTa's embeddings of relative positions and their normalization, an input of every layer, registered last."""


def freeze(network: "PreTrainedModel", which: Freeze) -> None:
    """Stop the training of an encoder's lower layers; dropout in them stays as it is in training.

    Args:
        network: A token classifier; its head is left as it is.
        which: ``embeddings`` freezes the encoder's embeddings, those of relative positions included; a number freezes
            them and that many encoder layers, counted from the embeddings.

    Raises:
        UserError: If the encoder has fewer layers, or does not have one module per layer.
    """
    check_layers(which, network.config)
    encoder, kind = network.base_model, network.config.model_type
    count = network.config.num_hidden_layers
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


def check_layers(which: Freeze, config: "PreTrainedConfig") -> None:
    """Look whether an encoder has as many layers as are to be frozen.

    Args:
        which: See ``freeze``.
        config: The encoder's configuration.

    Raises:
        UserError: If it has fewer.
    """
    layers = config.num_hidden_layers
    if which != "embeddings" and which > layers:
        raise UserError(
            f"model.freeze={which} is not possible with {layers} encoder layers; use 1 to {layers}, or embeddings"
        )
