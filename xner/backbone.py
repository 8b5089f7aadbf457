"""What there is to know of a backbone before its weights are loaded: its tokenizer and the shape of its input.

Ground floor: ``data`` needs a backbone's pieces and ``model`` its network; both ask here about the rest.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xner.errors import RunError, UserError
from xner.labels import TAGS

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerFast

_ROBERTA = ("camembert", "data2vec-text", "roberta", "xlm-roberta", "xlm-roberta-xl", "xmod")
_BERT = ("bert", "electra", "ernie", "rembert")


@cache
def load_config(backbone: str) -> "PreTrainedConfig":
    """Read a backbone's configuration.

    Args:
        backbone: A hub name, or a folder in Hugging Face layout.

    Raises:
        UserError: If the folder holds no backbone, or a token classifier with other tags.
        RunError: If the hub cannot be reached, or does not know the name.
    """
    from transformers import AutoConfig

    if Path(backbone).is_dir() and not (Path(backbone) / "config.json").is_file():
        raise UserError(f"backbone={backbone!r} holds no config.json: give a folder in Hugging Face layout or a hub name")
    config = _from_pretrained(AutoConfig, backbone)
    if any(name.endswith("ForTokenClassification") for name in config.architectures or ()):
        tags = tuple(config.id2label[label] for label in sorted(config.id2label))
        if tags != TAGS:
            raise UserError(
                f"backbone={backbone!r} is a token classifier with the tags {', '.join(tags)}: give one with "
                f"{', '.join(TAGS)}, in this order, or a backbone without a head"
            )
    return config  # type: ignore[no-any-return]


@cache
def load_tokenizer(backbone: str) -> "PreTrainedTokenizerFast":
    """Load a backbone's tokenizer.

    Raises:
        UserError: If the folder holds none, or one that cannot say which word a piece is of.
        RunError: If the hub cannot be reached, or does not know the name.
    """
    from transformers import AutoTokenizer

    if Path(backbone).is_dir() and not any(
        (Path(backbone) / name).is_file()
        for name in ("tokenizer.json", "sentencepiece.bpe.model", "spm.model", "spiece.model", "vocab.txt", "vocab.json")
    ):
        raise UserError(
            f"backbone={backbone!r} has no tokenizer: put tokenizer.json and tokenizer_config.json beside its config.json"
        )
    tokenizer = _from_pretrained(AutoTokenizer, backbone, add_prefix_space=True)
    if not tokenizer.is_fast:
        raise UserError(f"backbone={backbone!r} has no fast tokenizer (tokenizer.json): save one with save_pretrained")
    return tokenizer  # type: ignore[no-any-return]


def tokenizer_digest(backbone: str) -> str:
    """A key that changes when the backbone's pieces do; found without loading the tokenizer where that is possible."""
    path = Path(backbone) / "tokenizer.json"
    content = path.read_bytes() if path.is_file() else load_tokenizer(backbone).backend_tokenizer.to_str().encode()
    return hashlib.sha256(content).hexdigest()


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


def _from_pretrained(auto: Any, backbone: str, **options: Any) -> Any:  # noqa: ANN401 - one of transformers' Auto classes
    if not Path(backbone).exists() and (backbone.count("/") > 1 or backbone.startswith((".", "/", "~"))):
        raise UserError(f"backbone={backbone!r} is no folder: give a folder in Hugging Face layout or a hub name")
    try:
        return auto.from_pretrained(backbone, **options)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(
            f"backbone={backbone!r} cannot be loaded ({reason}): give a hub name that can be reached, or with "
            "--model.backbone a folder that holds config.json, model.safetensors and the tokenizer's files"
        ) from error
