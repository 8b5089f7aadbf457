"""Encode splits once: what is encoded is cached in a file, and mapped into memory from there."""

import hashlib
import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xner.backbone.tokenizer import encoding_key, load_tokenizer
from xner.data.encode import Encoded, EncodingStats, encode
from xner.data.sources import Split
from xner.files import cache_folder, write_atomically
from xner.tags import TagSet

logger = logging.getLogger(__name__)

_FORMAT = "6"
"""Part of every cache key; increase it when the cached content changes."""

_ARRAYS = tuple(field.name for field in fields(Encoded) if field.name not in ("digest", "stats"))


def encode_split(split: Split, backbone: str, max_length: int, tag_set: TagSet, cache: Path | None = None) -> Encoded:
    """Encode a split, or map it into memory from the cache.

    A cached file is verified by its checksum; if it is damaged, the split is encoded and cached again.

    Args:
        split: The split.
        backbone: Hub name or folder of the tokenizer, which is only loaded if the split is not in the cache.
        max_length: Maximum number of pieces per window, special tokens included.
        tag_set: The tag set that all tags belong to.
        cache: The folder of the cache; ``None`` stands for ``cache_folder()``.
    """
    cache = cache or cache_folder()
    parts = [_FORMAT, split.identity, encoding_key(backbone), str(max_length), *tag_set.types]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
    path = cache / f"{split.language}-{split.name}-{key}.safetensors"
    if path.is_file():
        try:
            return _load(path)
        except Exception as error:  # a damaged file makes safetensors and torch raise exceptions of many types
            reason = " ".join(str(error).split()) or type(error).__name__
            logger.warning("%s is damaged (%s); %s is encoded again", path, reason, split)
    encoded = encode(split.read(), load_tokenizer(backbone), max_length, tag_set)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _dump(encoded))
    except OSError as error:
        logger.warning("%s cannot be cached in %s (%s); every run encodes it again", split, cache, error.strerror)
    return encoded


def _dump(encoded: Encoded) -> bytes:
    from safetensors.numpy import save

    arrays = {name: getattr(encoded, name) for name in _ARRAYS}
    metadata = {"digest": encoded.digest, "stats": json.dumps(asdict(encoded.stats))}
    return save(arrays, {**metadata, "checksum": _checksum(arrays, metadata)})


def _load(path: Path) -> Encoded:
    """Map a cached split into memory and verify its checksum."""
    from safetensors import safe_open

    # By torch, because its tensors stay in the memory-mapped file, whereas numpy's arrays are copies.
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        arrays = {name: file.get_tensor(name).numpy() for name in _ARRAYS}
    if metadata.pop("checksum", None) != _checksum(arrays, metadata):
        raise ValueError("its checksum does not match")
    return Encoded(**arrays, digest=metadata["digest"], stats=EncodingStats(**json.loads(metadata["stats"])))


def _checksum(arrays: Mapping[str, npt.NDArray[np.generic]], metadata: Mapping[str, str]) -> str:
    """Compute the CRC-32 of the metadata and of the arrays with their names, types and shapes."""
    header = [sorted(metadata.items()), [(name, array.dtype.str, array.shape) for name, array in arrays.items()]]
    checksum = zlib.crc32(json.dumps(header).encode())
    for array in arrays.values():
        checksum = zlib.crc32(array.data, checksum)
    return f"{checksum:08x}"
