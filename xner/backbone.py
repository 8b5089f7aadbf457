"""What there is to know of a backbone before its weights are loaded: its tokenizer and the shape of its input.

Ground floor: ``data`` needs a backbone's pieces and ``model`` its network; both ask here about the rest.
"""

import hashlib
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, NamedTuple

from xner.errors import RunError, UserError, options_called
from xner.files import folder_atomically
from xner.tags import TAGS

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

_ROBERTA = ("camembert", "data2vec-text", "roberta", "xlm-roberta", "xlm-roberta-xl")
_BERT = ("bert", "electra", "ernie", "rembert")
_TOKENIZER_FILES = (
    "tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json sentencepiece.bpe.model spm.model "
    "spiece.model vocab.txt vocab.json merges.txt"
).split()


def folder_of(backbone: str) -> Path:
    """The folder that a backbone is, if it is one: ``sample`` is the embedded one, a hub name is none."""
    return Path(__file__).parent / "data" / "sample" / "backbone" if backbone == "sample" else Path(backbone)


@cache
def load_config(backbone: str) -> "PreTrainedConfig":
    """Read a backbone's configuration.

    Args:
        backbone: A hub name, a folder in Hugging Face layout, or ``sample``.

    Raises:
        UserError: If the folder holds no backbone, or a token classifier with other tags.
        RunError: If the hub cannot be reached, or does not know the name.
    """
    from transformers import AutoConfig

    if folder_of(backbone).is_dir() and not (folder_of(backbone) / "config.json").is_file():
        raise UserError(
            f"model.backbone={backbone!r} holds no config.json; use a folder in Hugging Face layout or a hub name"
        )
    config = _from_pretrained(AutoConfig, backbone)
    if has_head(config):
        tags = tuple(config.id2label[label] for label in sorted(config.id2label))
        if tags != TAGS:
            raise UserError(
                f"model.backbone={backbone!r} is a token classifier with the tags {', '.join(tags)}: give one with "
                f"{', '.join(TAGS)}, in this order, or a backbone without a head"
            )
    return config  # type: ignore[no-any-return]


def has_head(config: "PreTrainedConfig") -> bool:
    """Whether a configuration is that of a token classifier, with a head over its encoder."""
    return any(name.endswith("ForTokenClassification") for name in config.architectures or ())


def check_head(backbone: str) -> None:
    """Check that a backbone is a token classifier, so that its scores are not those of random weights.

    Raises:
        UserError: If it has no head.
    """
    if not has_head(load_config(backbone)):
        raise no_head(backbone)


def no_head(backbone: str) -> UserError:
    """Make the error of a backbone that is to be scored and brings no head."""
    return UserError(
        f"model.backbone={backbone!r} has no trained head for tags; train it with fit, and give the model folder that "
        "fit writes"
    )


@cache
def load_tokenizer(backbone: str) -> "PreTrainedTokenizerFast":
    """Load a backbone's tokenizer.

    Raises:
        UserError: If the folder holds none, or one that cannot say which word a piece is of.
        RunError: If the hub cannot be reached, or does not know the name.
    """
    from transformers import AutoTokenizer

    if folder_of(backbone).is_dir() and not any((folder_of(backbone) / name).is_file() for name in _TOKENIZER_FILES):
        raise UserError(
            f"model.backbone={backbone!r} has no tokenizer: put tokenizer.json and tokenizer_config.json into it"
        )
    # transformers warns of a model type that it does not know, but the tokenizer may not need one.
    with _errors_only():
        tokenizer = _from_pretrained(AutoTokenizer, backbone, add_prefix_space=True)
    if not tokenizer.is_fast:
        raise UserError(
            f"model.backbone={backbone!r} has no fast tokenizer (tokenizer.json): save one with save_pretrained"
        )
    return tokenizer  # type: ignore[no-any-return]


class Loaded(NamedTuple):
    """A network as it was loaded.

    Attributes:
        network: The encoder under a head for xner's tags.
        head_is_new: Whether the head has random weights, since the backbone has none.
    """

    network: "PreTrainedModel"
    head_is_new: bool


def load_network(backbone: str) -> Loaded:
    """Load a backbone's weights under a head for xner's tags, which is new where the backbone has none.

    Raises:
        UserError: If the folder holds a token classifier with other tags, or no weights.
        RunError: If the weights cannot be loaded, or are not all finite.
    """
    import torch
    from transformers import AutoModelForTokenClassification

    load_config(backbone)
    folder = folder_of(backbone)
    if folder.is_dir() and not any((*folder.glob("*.safetensors"), *folder.glob("*.bin"))):
        raise UserError(f"model.backbone={backbone!r} holds no model.safetensors; use a folder with weights")
    # That a head is new is what this command is for, not a warning.
    with _errors_only():
        network, info = _from_pretrained(
            AutoModelForTokenClassification,
            backbone,
            id2label=dict(enumerate(TAGS)),
            label2id={tag: label for label, tag in enumerate(TAGS)},
            dtype=torch.float32,
            output_loading_info=True,
        )
    if name := first_not_finite(network.state_dict()):
        raise RunError(
            f"model.backbone={backbone!r} holds weights that are not finite ({name}), as of a training that diverged; "
            "use another model folder"
        )
    encoder = f"{network.base_model_prefix}."
    head_is_new = any(not name.startswith(encoder) for name in info["missing_keys"])
    # from_pretrained gives a network in evaluation mode, and Lightning would leave it without dropout.
    return Loaded(network.train(), head_is_new)


def first_not_finite(weights: Mapping[str, "Tensor"]) -> str | None:
    """Find a tensor that holds an infinite number or a nan.

    Args:
        weights: Tensors by their names.

    Returns:
        The name of the first one, ``None`` where all numbers are finite.
    """
    for name, weight in weights.items():
        # A sum is several times as fast as a look at each number, and finite only where all of them are.
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
        raise RunError(
            f"{folder.parent}: the weights cannot be written ({error}): give the same command again"
        ) from error


def save_tokenizer(backbone: str, folder: Path) -> None:
    """Put a backbone's tokenizer into a model folder, so that its digest stays: a folder's files as they are.

    Where there is no tokenizer.json, as in mDeBERTa's, one is made: to make it takes seconds each time.
    """
    if (folder_of(backbone) / "tokenizer.json").is_file():
        for name in _TOKENIZER_FILES:
            if (folder_of(backbone) / name).is_file():
                shutil.copyfile(folder_of(backbone) / name, folder / name)
    else:
        load_tokenizer(backbone).save_pretrained(folder)


@cache
def backbone_digest(backbone: str) -> str:
    """Compute a key that changes when a backbone's weights, tokenizer or lineage do, wherever the backbone lies.

    Of a hub name it is the name and the revision in use.
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
    """A key that changes when the backbone's pieces do; found without loading the tokenizer where that is possible."""
    path = folder_of(backbone) / "tokenizer.json"
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    # As save_tokenizer writes it.
    return hashlib.sha256(load_tokenizer(backbone).backend_tokenizer.to_str(pretty=True).encode()).hexdigest()


def packable(config: "PreTrainedConfig") -> bool:
    """Whether the network takes position ids and a mask of any shape, so that several sentences can share a row."""
    return config.model_type in _ROBERTA + _BERT


def position_start(config: "PreTrainedConfig") -> int:
    """The position id of a window's first piece: RoBERTa's family counts from its padding index plus one."""
    return config.pad_token_id + 1 if config.model_type in _ROBERTA else 0


def longest_window(config: "PreTrainedConfig") -> int | None:
    """The most pieces, specials included, that the network has positions for; ``None`` where there is no limit."""
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
) -> None:
    """Make a randomly initialised XLM-R with a given tokenizer, for baselines without pretraining and measurements.

    Args:
        tokenizer: Hub name, or folder with the tokenizer's files.
        output: The folder to make, in Hugging Face layout.
        hidden_size: Width of a piece's vector.
        num_hidden_layers: Layers.
        num_attention_heads: Attention heads; they share the hidden size evenly.
        intermediate_size: Width of the feed-forward layers.
        seed: Seed of the weights.

    Raises:
        UserError: If a size is impossible, or the folder is there already.
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
            raise UserError(f"{option}={size} must be 1 or more")
    if hidden_size % num_attention_heads:
        raise UserError(f"hidden_size={hidden_size} is no multiple of num_attention_heads={num_attention_heads}")
    if Path(output).exists():
        raise UserError(f"output={output!r} is there already: name a new folder")
    with options_called({"model.backbone": "tokenizer"}):
        pieces = load_tokenizer(tokenizer)
    config = XLMRobertaConfig(
        vocab_size=len(pieces),
        max_position_embeddings=514,  # 512 pieces, behind the padding index and the one before it
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
    print(f"{output}: {network.num_parameters():,} parameters, {len(pieces):,} pieces")


@contextmanager
def _errors_only() -> Iterator[None]:
    """Leave out transformers' warnings."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def _from_pretrained(auto: Any, backbone: str, **options: Any) -> Any:  # noqa: ANN401 - one of transformers' Auto classes
    from safetensors import SafetensorError

    if not folder_of(backbone).exists() and (backbone.count("/") > 1 or backbone.startswith((".", "/", "~"))):
        raise UserError(
            f"model.backbone={backbone!r} is not a folder; use a folder in Hugging Face layout or a hub name"
        )
    try:
        folder = folder_of(backbone)
        # Without a decision, transformers asks on standard input, where the texts of ``tag`` come from.
        return auto.from_pretrained(str(folder) if folder.is_dir() else backbone, trust_remote_code=False, **options)
    except (OSError, ValueError, LookupError, TypeError, ImportError, UnpicklingError, SafetensorError) as error:
        if "trust_remote_code" in str(error):
            raise RunError(
                f"model.backbone={backbone!r} wants Python code of its own to be run (auto_map), which xner never "
                "does; use a folder or hub name whose model type and tokenizer are transformers' own"
            ) from error
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if isinstance(error, UnpicklingError):  # torch's own text advises to run what the file holds
            reason = "its weights are damaged, or hold more than tensors"
        raise RunError(
            f"model.backbone={backbone!r} cannot be loaded ({reason}); use a hub name that can be reached, or a folder "
            "that holds config.json, model.safetensors and the tokenizer's files"
        ) from error
