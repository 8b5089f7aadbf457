"""A backbone: its configuration, tokenizer and weights, from the hub or from a folder in Hugging Face layout."""

import hashlib
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, NamedTuple

from xner.errors import RunError, UserError, options_called, quoted
from xner.files import folder_atomically
from xner.tags import PANX, TagSet

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Linear
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

_ROBERTA = ("camembert", "data2vec-text", "roberta", "xlm-roberta", "xlm-roberta-xl")
_BERT = ("bert", "electra", "ernie", "rembert")
_TOKENIZER_FILES = (
    "tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json sentencepiece.bpe.model spm.model "
    "spiece.model vocab.txt vocab.json merges.txt"
).split()

_MOST_WEIGHTS = 20_000_000_000
"""Number of weights above which a new backbone is a mistake: XLM-R's largest has half as many."""


def folder_of(backbone: str) -> Path:
    """Return the folder of a backbone, which does not exist for a hub name; ``sample`` is the embedded one."""
    return Path(__file__).parent / "data" / "sample" / "backbone" if backbone == "sample" else Path(backbone)


@cache
def load_config(backbone: str) -> "PreTrainedConfig":
    """Read a backbone's configuration.

    Args:
        backbone: A hub name, a folder in Hugging Face layout, or ``sample``.

    Raises:
        UserError: If the folder holds no backbone.
        RunError: If the hub cannot be reached, or does not know the name.
    """
    from transformers import AutoConfig

    if folder_of(backbone).is_dir() and not (folder_of(backbone) / "config.json").is_file():
        raise UserError(
            f"model.backbone={backbone!r} holds no config.json; use a folder in Hugging Face layout or a hub name"
        )
    config: PreTrainedConfig = _from_pretrained(AutoConfig, backbone)
    _check_sizes(config, backbone)
    # An implementation with the name of a repository is code that transformers downloads and runs.
    if "/" in (attention := str(config._attn_implementation)):
        raise RunError(
            f"model.backbone={backbone!r} needs code of the hub (attn_implementation={quoted(attention)}), which xner "
            "never runs; remove that entry from its config.json"
        )
    return config


_LARGEST = {
    "hidden_size": 1_000_000,
    "num_hidden_layers": 10_000,
    "num_attention_heads": 1_000_000,
    "intermediate_size": 10_000_000,
    "vocab_size": 100_000_000,
    "max_position_embeddings": 1_000_000_000,
}
"""Sizes that no network exceeds; larger ones would be allocated, or counted to, for hours."""


def _check_sizes(config: "PreTrainedConfig", backbone: str) -> None:
    """Check that a network of a configuration's sizes can exist.

    Raises:
        RunError: If it cannot.
    """
    path = folder_of(backbone) / "config.json"
    for name, largest in _LARGEST.items():
        size = getattr(config, name, None)
        # Some types of networks count positions from -1, which stands for no limit.
        least = -1 if name == "max_position_embeddings" else 1
        if type(size) is int and (size == 0 or not least <= size <= largest):
            raise RunError(f"{path}: {name}={quoted(size)} is not possible; restore the file")
    padding, pieces = config.pad_token_id, getattr(config, "vocab_size", None)
    if type(padding) is not int or not 0 <= padding < (pieces or padding + 1):
        raise RunError(
            f"{path}: pad_token_id={quoted(padding)} is not the id of a subword; restore the file, or set it to that "
            "of the tokenizer"
        )


def has_head(config: "PreTrainedConfig") -> bool:
    """Return whether a configuration is that of a token classifier, which has a head."""
    return any(name.endswith("ForTokenClassification") for name in config.architectures or ())


def head_tags(backbone: str) -> TagSet | None:
    """Return the tag set of a backbone's head, types in the order of their labels; ``None`` where it has no head.

    Raises:
        UserError: If its labels are not those of entity types under IOB2.
    """
    config = load_config(backbone)
    if not has_head(config):
        return None
    tags = [tag for _, tag in sorted(_labels(config).items())]
    found = TagSet.of_tags(tags)
    if found is None:
        raise UserError(
            f"model.backbone={backbone!r} is a token classifier with the labels {', '.join(tags)}, which are not O, B- "
            "and I- tags of entity types; use another one, or replace its head with model.new_head=true"
        )
    return found


def _labels(config: "PreTrainedConfig") -> dict[int, str]:
    """Return the tag of each label of a token classifier."""
    return {int(label): str(tag) for label, tag in (config.id2label or {}).items()}


def check_types(backbone: str, tag_set: TagSet, *, new_head: bool = False) -> None:
    """Check that a backbone's head, if it is to be kept, has the entity types of the data, in whichever order.

    Raises:
        UserError: If it has others.
    """
    own = None if new_head else head_tags(backbone)
    if own and {*own.types} != {*tag_set.types}:
        raise UserError(
            f"model.backbone={backbone!r} has the entity types {own}, but the data has {tag_set}; rename or drop types "
            "of the data with data.map_types, name types that do not occur in it with data.types, or replace the head "
            "in fit or transfer with model.new_head=true"
        )


def check_head(backbone: str) -> None:
    """Check that a backbone is a token classifier, so that its scores are not those of random weights.

    Raises:
        UserError: If it has no head.
    """
    if not has_head(load_config(backbone)):
        raise no_head(backbone)


def no_head(backbone: str) -> UserError:
    """Return the error of a backbone that is to be scored but has no trained head."""
    return UserError(
        f"model.backbone={backbone!r} has no trained head for tags; train it with fit, and use the model folder that "
        "fit writes"
    )


@cache
def load_tokenizer(backbone: str) -> "PreTrainedTokenizerFast":
    """Load a backbone's tokenizer.

    Raises:
        UserError: If the folder holds none, or one that is not fast.
        RunError: If the hub cannot be reached, or does not know the name.
    """
    from transformers import AutoTokenizer

    if folder_of(backbone).is_dir() and not any((folder_of(backbone) / name).is_file() for name in _TOKENIZER_FILES):
        raise UserError(f"model.backbone={backbone!r} has no tokenizer; add tokenizer.json and tokenizer_config.json")
    # transformers warns about an unknown model type, which a tokenizer may not need.
    with _errors_only():
        tokenizer = _from_pretrained(AutoTokenizer, backbone, add_prefix_space=True)
    if not tokenizer.is_fast:
        raise UserError(
            f"model.backbone={backbone!r} has no fast tokenizer (tokenizer.json); save one with save_pretrained"
        )
    return tokenizer  # type: ignore[no-any-return]


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
        places = {tag: label for label, tag in _labels(load_config(backbone)).items()}
        _permute_head(network, [places[tag] for tag in tag_set.tags])
    _check_finite(backbone, network)
    encoder = f"{network.base_model_prefix}."
    head_is_new = new_head or any(not name.startswith(encoder) for name in info["missing_keys"])
    return Loaded(network, tag_set, head_is_new)


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
    if folder.is_dir() and not any(folder.glob("*.safetensors")) and (safetensors or not any(folder.glob("*.bin"))):
        raise UserError(f"model.backbone={backbone!r} holds no model.safetensors; use a folder with weights")
    # A new head is expected, so transformers' warning about it is left out.
    with _errors_only():
        network, info = _from_pretrained(
            auto,
            backbone,
            dtype=torch.float32,
            output_loading_info=True,
            use_safetensors=safetensors or None,
            **options,
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
        RunError: If they cannot be written, as on a full disk.
    """
    from safetensors import SafetensorError

    try:
        network.save_pretrained(folder)
    except SafetensorError as error:
        raise RunError(f"{folder.parent}: the weights cannot be written ({error}); repeat the command") from error


def save_tokenizer(backbone: str, folder: Path) -> None:
    """Write a backbone's tokenizer into a model folder without changing its digest.

    The files are copied. A missing tokenizer.json, as in mDeBERTa's folder, is made, which takes seconds.
    """
    if (folder_of(backbone) / "tokenizer.json").is_file():
        for name in _TOKENIZER_FILES:
            if (folder_of(backbone) / name).is_file():
                shutil.copyfile(folder_of(backbone) / name, folder / name)
    else:
        load_tokenizer(backbone).save_pretrained(folder)


@cache
def backbone_digest(backbone: str) -> str:
    """Compute a key that changes with a backbone's weights, tokenizer and lineage, but not with its path.

    For a hub name, it is the name and the revision in use.
    """
    folder = folder_of(backbone)
    if not folder.is_dir():
        return f"{backbone}@{getattr(load_config(backbone), '_commit_hash', None)}"
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*.json")]):
        with path.open("rb") as file:
            digest.update(f"{path.name}\n".encode() + hashlib.file_digest(file, "sha256").digest())
    digest.update(tokenizer_digest(backbone).encode())
    return digest.hexdigest()


def tokenizer_digest(backbone: str) -> str:
    """Compute a key that changes with the tokenizer, without loading it if possible."""
    path = folder_of(backbone) / "tokenizer.json"
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    # The text that save_tokenizer writes.
    return hashlib.sha256(load_tokenizer(backbone).backend_tokenizer.to_str(pretty=True).encode()).hexdigest()


def packable(config: "PreTrainedConfig") -> bool:
    """Return whether a network supports packing, for which it needs position ids and a 4-D attention mask."""
    return config.model_type in _ROBERTA + _BERT


def position_start(config: "PreTrainedConfig") -> int:
    """Return the position id of a window's first piece: the RoBERTa family counts from the padding id plus one."""
    return config.pad_token_id + 1 if config.model_type in _ROBERTA else 0


def longest_window(config: "PreTrainedConfig") -> int | None:
    """Return the maximum number of pieces per window, special tokens included; ``None`` for no limit."""
    limit = getattr(config, "max_position_embeddings", None)
    return limit - position_start(config) if limit and limit > 0 else None


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
    from transformers.utils.logging import disable_progress_bar

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
        raise UserError(f"these sizes give more than {_MOST_WEIGHTS:,} weights; use smaller ones")
    if not 0 <= seed < 2**32:
        raise UserError(f"seed={seed} is out of range; use 0 to 4294967295")
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
    disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.manual_seed(seed)
    network = XLMRobertaModel(config, add_pooling_layer=False)
    with folder_atomically(Path(output)) as part:
        save_network(network, part)
        save_tokenizer(tokenizer, part)
    return network


@contextmanager
def _errors_only() -> Iterator[None]:
    """Silence the warnings of transformers within a block."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def _from_pretrained(auto: Any, backbone: str, **options: Any) -> Any:  # noqa: ANN401 - one of transformers' Auto classes
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    if not folder_of(backbone).exists() and (backbone.count("/") > 1 or backbone.startswith((".", "/", "~"))):
        raise UserError(
            f"model.backbone={backbone!r} is not a folder; use a folder in Hugging Face layout or a hub name"
        )
    try:
        folder = folder_of(backbone)
        # Without a decision, transformers asks on standard input, which ``tag`` reads texts from.
        return auto.from_pretrained(str(folder) if folder.is_dir() else backbone, trust_remote_code=False, **options)
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        RuntimeError,
        ImportError,
        AttributeError,
        AssertionError,
        ArithmeticError,
        UnpicklingError,
        SafetensorError,
        StrictDataclassError,
    ) as error:
        if "trust_remote_code" in str(error):
            raise RunError(
                f"model.backbone={backbone!r} needs Python code of its own (auto_map), which xner never runs; use a "
                "folder or hub name whose model type and tokenizer are part of transformers"
            ) from error
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if isinstance(error, UnpicklingError):  # the text of torch advises to run the code in the file
            reason = "its weights are damaged, or hold more than tensors"
        raise RunError(
            f"model.backbone={backbone!r} cannot be loaded ({reason}); use a hub name that can be reached, or a folder "
            "with config.json, model.safetensors and the tokenizer's files"
        ) from error
