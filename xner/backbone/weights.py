"""The weights of a backbone: loaded under a head, saved, made at random, and known by a digest."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xner.backbone import (
    cached,
    check_types,
    errors_only,
    folder_of,
    from_pretrained,
    head_labels,
    head_tags,
    load_config,
)
from xner.backbone.tokenizer import load_tokenizer, save_tokenizer, tokenizer_digest
from xner.errors import RunError, UserError, check_seed, options_called, quoted
from xner.files import folder_atomically, hash_files
from xner.tags import PANX, TagSet

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear
    from transformers import PreTrainedModel

_MOST_WEIGHTS = 20_000_000_000
"""Number of weights above which a new backbone is a mistake: XLM-R's largest has half as many."""


class Loaded(NamedTuple):
    """A network that was loaded.

    Attributes:
        network: The encoder under a head.
        tag_set: The tag set of the head, in the order of its labels.
        head_is_new: Whether the head has random weights.
    """

    network: "PreTrainedModel"
    tag_set: TagSet
    head_is_new: bool


def load_network(
    backbone: str, tag_set: TagSet | None = None, *, new_head: bool = False, safetensors: bool = False
) -> Loaded:
    """Load a backbone's weights under a head for a tag set; the head is new if the backbone has none.

    Args:
        backbone: A hub name, a folder in Hugging Face layout, or ``sample``.
        tag_set: The tag set, whose order the labels get; ``None`` stands for that of the backbone's head, or PAN-X's.
        new_head: Whether to replace a head that the backbone has.
        safetensors: Whether to refuse weights in any other file format, such as pickled ones.

    Raises:
        UserError: If the backbone's head has other entity types, or the folder holds no weights.
        RunError: If the weights cannot be loaded, or are not all finite.
    """
    from transformers import AutoModelForTokenClassification

    own = None if new_head else head_tags(backbone)
    tag_set = tag_set or own or PANX
    check_types(backbone, tag_set, new_head=new_head)
    network, info = _load_weights(
        AutoModelForTokenClassification,
        backbone,
        id2label=dict(enumerate(tag_set.tags)),
        label2id=tag_set.labels,
        ignore_mismatched_sizes=new_head,
        safetensors=safetensors,
    )
    if new_head:
        _reset_head(network)
    elif own:
        places = {tag: label for label, tag in head_labels(load_config(backbone)).items()}
        _permute_head(network, [places[tag] for tag in tag_set.tags])
    _check_finite(backbone, network)
    encoder = f"{network.base_model_prefix}."
    head_is_new = new_head or any(not name.startswith(encoder) for name in info["missing_keys"])
    return Loaded(network, tag_set, head_is_new)


def load_head(network: "PreTrainedModel", backbone: str, tag_set: TagSet) -> bool:
    """Load a trained head of another shape than transformers' from a model folder into a network that has such a one.

    Args:
        network: The network.
        backbone: The model folder.
        tag_set: The tag set of the network's head.

    Returns:
        Whether the folder has the weights of a head.

    Raises:
        UserError: If its head has another shape than the network's, or its labels another order.
    """
    from safetensors import safe_open

    encoder = f"{network.base_model_prefix}."
    head: dict[str, Tensor] = {}
    for path in sorted(folder_of(backbone).glob("*.safetensors")) if head_tags(backbone) else ():
        if path.name != "seen.safetensors":
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if not name.startswith(encoder)]  # noqa: SIM118 - no mapping
                head |= {name: file.get_tensor(name) for name in names}
    if not head:
        return False
    due = {name: weight.shape for name, weight in network.state_dict().items() if not name.startswith(encoder)}
    if due != {name: weight.shape for name, weight in head.items()}:
        raise UserError(
            f"model.backbone={backbone!r} has a head of another shape ({', '.join(sorted(head))}); use the class that "
            "it was trained with as --model, or replace the head with model.new_head=true"
        )
    if head_tags(backbone) != tag_set:
        raise UserError(
            f"model.backbone={backbone!r} has its labels in another order; use data.types as in its training"
        )
    network.load_state_dict(head, strict=False)
    return True


def check_masked(backbone: str) -> None:
    """Check that a backbone can be trained by masked-language modelling, without loading its weights.

    Raises:
        UserError: If it cannot.
    """
    from transformers import MODEL_FOR_MASKED_LM_MAPPING

    config = load_config(backbone)
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING or not getattr(config, "tie_word_embeddings", True):
        raise UserError(
            f"model.backbone={backbone!r} ({config.model_type}) is not a masked language model whose head is tied to "
            "its embeddings; use another one, or adapt_backbone=null"
        )
    if load_tokenizer(backbone).mask_token_id is None:
        raise UserError(f"model.backbone={backbone!r} has no mask token; use another one, or adapt_backbone=null")


def load_masked(backbone: str) -> "PreTrainedModel":
    """Load a backbone's weights under its masked-language head, or under a new one where it has none.

    Raises:
        UserError: If the head is not tied to the embeddings, or the folder holds no weights.
        RunError: If the weights cannot be loaded, or are not all finite.
    """
    import torch
    from transformers import AutoModelForMaskedLM

    network, _ = _load_weights(AutoModelForMaskedLM, backbone)
    _check_finite(backbone, network)
    output: Any = network.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(output, torch.nn.Linear) or output.weight is not network.get_input_embeddings().weight:
        raise UserError(
            f"model.backbone={backbone!r} has a masked-language head that is not tied to its embeddings; use another "
            "one, or adapt_backbone=null"
        )
    return network


def _load_weights(
    auto: Any,  # noqa: ANN401 - one of transformers' Auto classes
    backbone: str,
    *,
    safetensors: bool = False,
    **options: Any,  # noqa: ANN401 - of from_pretrained
) -> "tuple[PreTrainedModel, dict[str, Any]]":
    """Load a network in float32 and training mode, with transformers' report on what was loaded."""
    import torch

    load_config(backbone)  # refuses what must not be loaded
    folder = folder_of(backbone)
    if (
        folder.is_dir()
        and not any(folder.glob("model*.safetensors"))
        and (safetensors or not any(folder.glob("*.bin")))
    ):
        raise UserError(f"model.backbone={backbone!r} holds no model.safetensors; use a folder with weights")
    # A new head is expected, so transformers' warning about it is left out.
    with errors_only():
        network, info = from_pretrained(
            auto,
            backbone,
            dtype=torch.float32,
            output_loading_info=True,
            use_safetensors=safetensors or None,
            **options,
        )
    # transformers gives weights that the file lacks random values. A head may be new; the pooler is not used.
    encoder = f"{network.base_model_prefix}."
    lost = [name for name in info["missing_keys"] if name.startswith(encoder) and ".pooler." not in name]
    if lost:
        raise RunError(
            f"model.backbone={backbone!r} lacks {len(lost)} weights of its encoder, such as {min(lost)}; restore its "
            "weights from the original"
        )
    # from_pretrained returns a network in evaluation mode, in which Lightning would train it without dropout.
    return network.train(), info


def _check_finite(backbone: str, network: "PreTrainedModel") -> None:
    if name := first_not_finite(network.state_dict()):
        raise RunError(
            f"model.backbone={backbone!r} has weights that are not finite ({name}), as after a training that diverged; "
            "use another model folder"
        )


def _head_layers(network: "PreTrainedModel") -> "list[Linear]":
    """Return the linear layers of a head, the one that scores labels last."""
    from torch.nn import Linear

    encoder = f"{network.base_model_prefix}."
    return [each for name, each in network.named_modules() if isinstance(each, Linear) and not name.startswith(encoder)]


def _reset_head(network: "PreTrainedModel") -> None:
    """Give a head random weights, as transformers initialises a new one."""
    from torch import nn

    for layer in _head_layers(network):
        nn.init.normal_(layer.weight, std=network.config.initializer_range)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _permute_head(network: "PreTrainedModel", places: Sequence[int]) -> None:
    """Reorder the labels of a head; ``places`` is the former label of each."""
    if [*places] != [*range(len(places))]:
        layer = _head_layers(network)[-1]
        for weight in layer.parameters():
            weight.data = weight.data[[*places]]


def first_not_finite(weights: Mapping[str, "Tensor"]) -> str | None:
    """Find a tensor that has an infinite number or a nan.

    Args:
        weights: Tensors by their names.

    Returns:
        The name of the first one, ``None`` where all numbers are finite.
    """
    for name, weight in weights.items():
        # A sum is several times as fast as checking each number, and finite only if all of them are.
        if not hasattr(weight, "is_floating_point") or not weight.is_floating_point():
            continue
        if not weight.sum().isfinite() and not weight.isfinite().all():
            return name
    return None


def save_network(network: "PreTrainedModel", folder: Path) -> None:
    """Write a network's configuration and weights into a model folder.

    Raises:
        OSError: If the file system fails, as on a full disk.
        RunError: If the weights cannot be written for another reason.
    """
    from safetensors import SafetensorError

    try:
        network.save_pretrained(folder)
    except SafetensorError as error:
        # The library reports the error of the system as a text.
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
        raise RunError(f"{folder.parent}: the weights cannot be written ({error}); repeat the command") from error


@cached
def backbone_digest(backbone: str) -> str:
    """Compute a key that changes with a backbone's weights, tokenizer and lineage, but not with its path.

    For a hub name, it is the name and the revision in use.
    """
    folder = folder_of(backbone)
    if not folder.is_dir():
        return f"{backbone}@{getattr(load_config(backbone), '_commit_hash', None)}"
    return folder_digest(folder)


def folder_digest(folder: Path) -> str:
    """Compute the SHA-256 of a model folder's weights, configuration, tokenizer and lineage."""
    digest = hash_files([*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*.json")])
    digest.update(tokenizer_digest(str(folder)).encode())
    return digest.hexdigest()


def new_backbone(
    tokenizer: str,
    output: str,
    hidden_size: int = 768,
    num_hidden_layers: int = 12,
    num_attention_heads: int = 12,
    intermediate_size: int = 3072,
    seed: int = 0,
) -> "PreTrainedModel":
    """Make a randomly initialised XLM-R with a given tokenizer, for baselines without pretraining and benchmarks.

    Args:
        tokenizer: Hub name, or folder with the tokenizer's files.
        output: The folder to make.
        hidden_size: Size of a piece's vector.
        num_hidden_layers: Number of layers.
        num_attention_heads: Number of attention heads, a divisor of the hidden size.
        intermediate_size: Size of the feed-forward layers.
        seed: Seed of the weights.

    Returns:
        The network.

    Raises:
        UserError: If a size is impossible, or the folder exists.
    """
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    sizes = {
        "hidden_size": hidden_size,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": num_attention_heads,
        "intermediate_size": intermediate_size,
    }
    for option, size in sizes.items():
        if size < 1:
            raise UserError(f"{option}={size} is not positive; use 1 or more")
    if hidden_size % num_attention_heads:
        raise UserError(f"hidden_size={hidden_size} is not a multiple of num_attention_heads={num_attention_heads}")
    weights = num_hidden_layers * hidden_size * (4 * hidden_size + 2 * intermediate_size)
    if weights > _MOST_WEIGHTS:
        given = ", ".join(f"{option}={quoted(size)}" for option, size in sizes.items())
        raise UserError(f"{given}: these sizes give more than {_MOST_WEIGHTS:,} weights; use smaller ones")
    check_seed("seed", seed)
    if Path(output).exists():
        raise UserError(f"output={output!r} exists; use a new folder")
    with options_called({"model.backbone": "tokenizer"}):
        pieces = load_tokenizer(tokenizer)
    config = XLMRobertaConfig(
        vocab_size=len(pieces),
        max_position_embeddings=514,  # 512 pieces, after the padding id and the one before it
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=pieces.pad_token_id,
        bos_token_id=pieces.bos_token_id,
        eos_token_id=pieces.eos_token_id,
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        intermediate_size=intermediate_size,
    )
    torch.manual_seed(seed)
    network = XLMRobertaModel(config, add_pooling_layer=False)
    with folder_atomically(Path(output)) as part:
        save_network(network, part)
        save_tokenizer(tokenizer, part)
    return network
