"""Hashes by which words, sentences and entities are recognised without keeping their text."""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from xner.tags import LabelSpans

Int64 = npt.NDArray[np.int64]


def hash_bytes(content: bytes) -> bytes:
    """Compute a 64-bit BLAKE2b hash."""
    return hashlib.blake2b(content, digest_size=8).digest()


def as_hashes(digests: Iterable[bytes]) -> Int64:
    """Turn results of ``hash_bytes`` into numbers. *Shape:* (digests,)."""
    # Signed integers, since some libraries that store arrays lack unsigned ones.
    return np.frombuffer(b"".join(digests), dtype="<i8").astype(np.int64)


def hash_texts(texts: Iterable[str]) -> Int64:
    """Compute 64-bit BLAKE2b hashes, by which a model folder remembers its training data without storing the text.

    Two different texts have the same hash with probability 2**-64. *Shape:* (texts,)
    """
    return as_hashes(hash_bytes(text.encode()) for text in texts)


def span_hashes(word_hash: Int64, spans: LabelSpans) -> Int64:
    """Compute a 64-bit hash of the words of each span, whatever its type.

    Args:
        word_hash: The hash of each word. *Shape:* (words,)
        spans: Spans of these words.

    Returns:
        Equal hashes where spans have the same words. *Shape:* (spans,)
    """
    content, borders = word_hash.astype("<i8").tobytes(), zip(spans.first.tolist(), spans.last.tolist(), strict=True)
    return as_hashes(hash_bytes(content[8 * first : 8 * last + 8]) for first, last in borders)
