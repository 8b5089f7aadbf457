"""A backbone from the hub or from a folder in Hugging Face layout: its configuration and the tags of its head."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, TypeVar

from xner.errors import RunError, UserError, quoted
from xner.tags import TagSet

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Part = TypeVar("Part")

_ROBERTA = ("camembert", "data2vec-text", "roberta", "xlm-roberta", "xlm-roberta-xl")
_BERT = ("bert", "electra", "ernie", "rembert")


def folder_of(backbone: str) -> Path:
    """Return the folder of a backbone, which does not exist for a hub name; ``sample`` is the embedded one."""
    return Path(__file__).parents[1] / "data" / "sample" / "backbone" if backbone == "sample" else Path(backbone)


def cached(load: Callable[[str], Part]) -> Callable[[str], Part]:
    """Remember what a function of a backbone returns, until a file of its folder changes."""
    last: dict[str, tuple[object, Part]] = {}

    @wraps(load)
    def load_again(backbone: str) -> Part:
        files = [path for path in folder_of(backbone).glob("*") if path.suffix in _PARTS]
        state = {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in files}
        if backbone not in last or last[backbone][0] != state:
            last[backbone] = state, load(backbone)
        return last[backbone][1]

    return load_again


_PARTS = (".json", ".safetensors", ".bin", ".model", ".txt")
"""Suffixes of the files of a backbone: its configuration, weights and tokenizer."""


@cached
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
    config: PreTrainedConfig = from_pretrained(AutoConfig, backbone)
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
    """Check that a network of a configuration's sizes can exist, and that its probabilities can be calibrated.

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
    temperature = getattr(config, "calibration_temperature", 1.0)
    if type(temperature) not in (int, float) or not 0 < temperature < math.inf:
        raise RunError(
            f"{path}: calibration_temperature={quoted(temperature)} is not a positive number; restore the file, or "
            "remove the entry, which leaves probabilities as they are"
        )
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
    tags = [tag for _, tag in sorted(head_labels(config).items())]
    found = TagSet.of_tags(tags)
    if found is None:
        raise UserError(
            f"model.backbone={backbone!r} is a token classifier with the labels {', '.join(tags)}, which are not O, B- "
            "and I- tags of entity types; use another one, or replace its head with model.new_head=true"
        )
    return found


def head_labels(config: "PreTrainedConfig") -> dict[int, str]:
    """Return the tag of each label of a token classifier."""
    return {int(label): str(tag) for label, tag in (config.id2label or {}).items()}


def check_types(backbone: str, tag_set: TagSet, *, new_head: bool = False) -> None:
    """Check that a backbone's head, if it is to be kept, has the entity types of the data, in whichever order.

    Args:
        backbone: Hub name or folder.
        tag_set: The tag set of the data.
        new_head: Whether the head is replaced, so that its types do not matter.

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


@contextmanager
def errors_only() -> Iterator[None]:
    """Silence the warnings of transformers within a block."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def from_pretrained(auto: Any, backbone: str, **options: Any) -> Any:  # noqa: ANN401 - one of transformers' Auto classes
    """Load a part of a backbone by one of transformers' Auto classes, without running code that comes with it.

    Args:
        auto: The class, such as ``AutoConfig``.
        backbone: A hub name, a folder in Hugging Face layout, or ``sample``.
        options: Options of the class's ``from_pretrained``.

    Raises:
        UserError: If the folder does not exist.
        RunError: If it cannot be loaded.
    """
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
