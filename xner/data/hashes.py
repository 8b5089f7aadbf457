"""64-bit hashes of words and sentences, by which a model remembers what it was trained on without keeping the text.

Two different texts share a hash once in 2**64 pairs: among the 20,000 sentences of a PAN-X split compared with as many
others, once in 10**10 experiments.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


def word_hashes(sentences: Sequence[Sequence[str]]) -> Int64:
    """Hash every word, sentence after sentence.

    Args:
        sentences: Each sentence's words.

    Returns:
        A hash a word. *Shape:* (words,)
    """
    return _hashes(word for words in sentences for word in words)


def sentence_hashes(sentences: Sequence[Sequence[str]]) -> Int64:
    """Hash every sentence: the same where all words are, whatever their tags.

    Args:
        sentences: Each sentence's words, which hold no tab.

    Returns:
        A hash a sentence. *Shape:* (sentences,)
    """
    return _hashes(map("\t".join, sentences))


def _hashes(texts: Iterable[str]) -> Int64:
    # Signed, since not every library that keeps arrays knows unsigned ones.
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)
