"""The tokenizer of a backbone: loaded, checked and copied."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from xner.backbone import cached, errors_only, folder_of, from_pretrained, load_config
from xner.errors import RunError, UserError
from xner.files import hash_files

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from transformers import PreTrainedTokenizerFast

_TOKENIZER_FILES = (
    "tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json sentencepiece.bpe.model spm.model "
    "spiece.model vocab.txt vocab.json merges.txt"
).split()
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


@cached
def load_tokenizer(backbone: str) -> "PreTrainedTokenizerFast":
    """Load a backbone's tokenizer.

    Raises:
        UserError: If the folder holds none, or one that is not fast.
        RunError: If a file is damaged, or the hub cannot be reached or does not know the name.
    """
    from transformers import AutoTokenizer

    if folder_of(backbone).is_dir() and not any((folder_of(backbone) / name).is_file() for name in _TOKENIZER_FILES):
        raise UserError(f"model.backbone={backbone!r} has no tokenizer; add tokenizer.json and tokenizer_config.json")
    try:
        # transformers warns about an unknown model type, which a tokenizer may not need.
        with errors_only():
            tokenizer = from_pretrained(AutoTokenizer, backbone, add_prefix_space=True)
    except Exception:  # the errors of tokenizers have no other type
        _check_tokenizer_files(folder_of(backbone))
        raise
    if not tokenizer.is_fast:
        raise UserError(
            f"model.backbone={backbone!r} has no fast tokenizer (tokenizer.json); save one with save_pretrained"
        )
    return tokenizer  # type: ignore[no-any-return]


def _check_tokenizer_files(folder: Path) -> None:
    """Find the file that a tokenizer cannot be loaded from.

    Raises:
        UserError: If all that there is are settings.
        RunError: If one is damaged.
    """
    from tokenizers import Tokenizer

    if folder.is_dir() and not any((folder / name).is_file() for name in _TOKENIZER_FILES if name not in _SETTINGS):
        raise UserError(f"model.backbone={str(folder)!r} has no tokenizer.json; add that of the original backbone")
    for path in [folder / name for name in _TOKENIZER_FILES if name.endswith(".json")]:
        try:
            if path.is_file() and not isinstance(json.loads(path.read_bytes()), dict):
                raise TypeError("it is not a JSON object")
            if path.is_file() and path.name == "tokenizer.json":
                Tokenizer.from_file(str(path))
        except Exception as error:  # as above
            raise RunError(f"{path} is damaged ({error}); restore it from the original backbone") from error


def check_pieces(backbone: str, pieces: "npt.NDArray[np.int32]") -> None:
    """Check that a backbone's embedding has a row for each piece of some text.

    Args:
        backbone: Hub name or folder.
        pieces: The ids of the pieces, at least one. *Shape:* (pieces,)

    Raises:
        RunError: If its tokenizer is that of a backbone with more pieces.
    """
    rows, largest = getattr(load_config(backbone), "vocab_size", None), int(pieces.max())
    if rows and largest >= rows:
        raise RunError(
            f"{folder_of(backbone) / 'tokenizer.json'} has a subword {largest}, but the embedding of the model has "
            f"only {rows} rows; restore the tokenizer that belongs to it"
        )


def save_tokenizer(backbone: str, folder: Path) -> None:
    """Write a backbone's tokenizer into a model folder without changing its digest.

    The files are copied. A missing tokenizer.json, as in mDeBERTa's folder, is made, which takes seconds.
    """
    if folder.exists() and folder_of(backbone).exists() and folder.samefile(folder_of(backbone)):
        return
    if (folder_of(backbone) / "tokenizer.json").is_file():
        for name in _TOKENIZER_FILES:
            if (folder_of(backbone) / name).is_file():
                shutil.copyfile(folder_of(backbone) / name, folder / name)
    else:
        load_tokenizer(backbone).save_pretrained(folder)


def encoding_key(backbone: str) -> str:
    """Compute a key that changes with how text is split: the tokenizer, and the settings that transformers adds."""
    settings = [folder_of(backbone) / name for name in _SETTINGS]
    return tokenizer_digest(backbone) + hash_files(path for path in settings if path.is_file()).hexdigest()


def tokenizer_digest(backbone: str) -> str:
    """Compute a key that changes with ``tokenizer.json``, without loading the tokenizer if possible."""
    path = folder_of(backbone) / "tokenizer.json"
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    # The text that save_tokenizer writes.
    return hashlib.sha256(load_tokenizer(backbone).backend_tokenizer.to_str(pretty=True).encode()).hexdigest()
