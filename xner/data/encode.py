"""Encode words and tags as pieces and labels, and count the words that need special treatment.

A word is labelled on its first piece, and a sentence longer than a window is split at word boundaries.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xner.data.characters import normalise_words
from xner.data.hashes import hash_texts
from xner.data.sources import Sentence, Sentences, content_of, escaped_words
from xner.errors import UserError
from xner.tags import IGNORE, TagSet, find_spans, invalid_tags

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Int64 = npt.NDArray[np.int64]

_BLOCK = 4096
"""Number of sentences that are encoded at once, and so held in memory as words and as the tokenizer's objects."""


@dataclass(frozen=True)
class EncodingStats:
    """Counts over the words and sentences of an encoded split.

    Attributes:
        sentences: Number of sentences.
        words: Number of words.
        pieces: Number of pieces in all windows, special tokens included.
        windows: Number of windows, which equals the number of sentences unless some were split.
        split_sentences: Number of sentences with several windows.
        words_without_pieces: Number of words that the tokenizer removes, such as U+200B; they are predicted ``O``.
        cut_words: Number of words longer than a window; only their first pieces are encoded.
        invalid_tags: Number of tags invalid under IOB2; they are kept unchanged.
    """

    sentences: int
    words: int
    pieces: int
    windows: int
    split_sentences: int
    words_without_pieces: int
    cut_words: int
    invalid_tags: int


@dataclass(frozen=True)
class Encoded:
    """A split as flat arrays of pieces and labels, in the order of its source.

    Window ``w`` has the pieces ``window_start[w]`` to ``window_start[w + 1]``, sentence ``s`` the windows
    ``sentence_window[s]`` to ``sentence_window[s + 1]`` and the words ``sentence_word[s]`` to ``sentence_word[s + 1]``.

    Attributes:
        pieces: Piece ids, with the special tokens of each window. *Shape:* (pieces,)
        labels: The label of each word on its first piece, ``IGNORE`` elsewhere. *Shape:* (pieces,)
        window_start: The first piece of each window. *Shape:* (windows + 1,)
        sentence_window: The first window of each sentence. *Shape:* (sentences + 1,)
        sentence_word: The first word of each sentence. *Shape:* (sentences + 1,)
        word_piece: The index in ``pieces`` of each word's first piece, -1 for a word without pieces. *Shape:* (words,)
        word_label: The gold label of each word. *Shape:* (words,)
        word_hash: A 64-bit hash of each word. *Shape:* (words,)
        sentence_hash: A 64-bit hash of the words of each sentence. *Shape:* (sentences,)
        normal_hash: The same of the words as ``normalise_words`` returns them. *Shape:* (sentences,)
        digest: The digest of the sentences, see ``Sentences.digest``.
        stats: Counts over the split.
    """

    pieces: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int8 | np.int64]
    window_start: Int64
    sentence_window: Int64
    sentence_word: Int64
    word_piece: Int64
    word_label: npt.NDArray[np.int8 | np.int64]
    word_hash: Int64
    sentence_hash: Int64
    normal_hash: Int64
    digest: str
    stats: EncodingStats

    def __len__(self) -> int:
        return len(self.sentence_window) - 1

    @property
    def sentence_pieces(self) -> Int64:
        """Count the pieces of each sentence, special tokens included. *Shape:* (sentences,)."""
        return np.diff(self.window_start[self.sentence_window])

    @property
    def sentence_labelled(self) -> Int64:
        """Count the labelled pieces of each sentence, which are the terms of its loss. *Shape:* (sentences,)."""
        return np.diff(offsets(self.word_piece >= 0)[self.sentence_word])

    def entities(self, types: int) -> Int64:
        """Count the entities of each sentence by their type. *Shape:* (sentences, types).

        Args:
            types: Number of entity types.
        """
        spans = find_spans(self.word_label, np.diff(self.sentence_word))
        sentence = np.searchsorted(self.sentence_word, spans.first, side="right") - 1
        return np.bincount(sentence * types + spans.type, minlength=len(self) * types).reshape(len(self), types)

    def words_of(self, sentences: Int64) -> tuple[Int64, Int64]:
        """Find the words of some sentences.

        Args:
            sentences: Indices of sentences, in any order. *Shape:* (chosen,)

        Returns:
            The indices of their words, sentence by sentence. *Shape:* (words,)
            The number of words of each sentence. *Shape:* (chosen,)
        """
        return _concatenate_ranges(self.sentence_word, sentences)

    def pieces_of(self, sentences: Int64) -> tuple[Int64, Int64]:
        """Find the pieces of some sentences, with the special tokens of their windows.

        Args:
            sentences: Indices of sentences, in any order. *Shape:* (chosen,)

        Returns:
            The indices of their pieces, sentence by sentence and window by window. *Shape:* (pieces,)
            The number of pieces of each window. *Shape:* (windows,)
        """
        windows, _ = _concatenate_ranges(self.sentence_window, sentences)
        return _concatenate_ranges(self.window_start, windows)


def encode(
    sentences: Iterable[Sentence],
    tokenizer: "PreTrainedTokenizerFast",
    max_length: int,
    tag_set: TagSet,
    *,
    hashed: bool = True,
) -> Encoded:
    """Tokenize sentences, label the first piece of each word, and split long sentences at word boundaries.

    Args:
        sentences: One or more sentences. They are taken one by one and encoded in blocks, so an iterator may read them
            from a file that does not fit into memory.
        tokenizer: The fast tokenizer of the backbone.
        max_length: Maximum number of pieces per window, special tokens included.
        tag_set: The tag set that all tags belong to.
        hashed: Whether to compute hashes and the digest, by which sentences are recognised; else they are empty.

    Raises:
        UserError: If ``max_length`` leaves no room for a piece.
    """
    content, parts, remaining = hashlib.sha256(), [], iter(sentences)
    while block := [*islice(remaining, _BLOCK)]:
        for sentence in block if hashed else ():
            content.update(content_of(sentence))
        parts.append(_encode_block(Sentences.of(block), tokenizer, max_length, tag_set, hashed))
    return replace(join(parts), digest=content.hexdigest() if hashed else "")


def _encode_block(
    sentences: Sentences, tokenizer: "PreTrainedTokenizerFast", max_length: int, tag_set: TagSet, hashed: bool
) -> Encoded:
    """Encode some of the sentences of a split, without a digest."""
    before, after = _special_tokens(tokenizer)
    room = max_length - len(before) - len(after)
    if room < 1:
        raise UserError(f"data.max_length={max_length} leaves no room for a piece; use {max_length - room + 1} or more")
    fast = tokenizer.backend_tokenizer
    fast.no_truncation()
    fast.no_padding()
    encodings = fast.encode_batch(sentences.words, is_pretokenized=True, add_special_tokens=False)
    sentence_words = np.array([len(words) for words in sentences.words], dtype=np.int64)
    sentence_word = offsets(sentence_words)
    ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int32)
    piece_word = np.fromiter(chain.from_iterable(encoding.word_ids for encoding in encodings), np.int64)
    piece_word += np.repeat(sentence_word[:-1], [len(encoding) for encoding in encodings])
    word_pieces = np.bincount(piece_word, minlength=sentence_word[-1])

    window_in_sentence = _split_into_windows(word_pieces, sentence_word, room)
    sentence_windows = 1 + np.maximum.reduceat(window_in_sentence, sentence_word[:-1])
    sentence_window = offsets(sentence_windows)
    word_window = np.repeat(sentence_window[:-1], sentence_words) + window_in_sentence
    # A word longer than a window has a window of its own, and its last pieces are dropped.
    kept_pieces = np.minimum(word_pieces, room)
    window_pieces = np.bincount(word_window, kept_pieces, minlength=sentence_window[-1]).astype(np.int64)
    window_start = offsets(window_pieces + len(before) + len(after))

    # Before a word come all earlier words, the special tokens of the earlier windows and the first ones of its own.
    word_piece = offsets(kept_pieces)[:-1] + (word_window + 1) * len(before) + word_window * len(after)
    index_in_word = np.arange(len(ids)) - np.repeat(offsets(word_pieces)[:-1], word_pieces)
    kept = index_in_word < room
    pieces = np.empty(window_start[-1], dtype=np.int32)
    pieces[(word_piece[piece_word] + index_in_word)[kept]] = ids[kept]
    for offset, special in enumerate(before):
        pieces[window_start[:-1] + offset] = special
    for offset, special in enumerate(reversed(after), start=1):
        pieces[window_start[1:] - offset] = special

    to_label = tag_set.labels
    word_label = np.array([to_label[tag] for tags in sentences.tags for tag in tags], dtype=np.int8)
    has_piece = word_pieces > 0
    labels = np.full(len(pieces), IGNORE, dtype=np.int8)
    labels[word_piece[has_piece]] = word_label[has_piece]
    words = sentences.words if hashed else []
    return Encoded(
        pieces=pieces,
        labels=labels,
        window_start=window_start,
        sentence_window=sentence_window,
        sentence_word=sentence_word,
        word_piece=np.where(has_piece, word_piece, -1),
        word_label=word_label,
        word_hash=hash_texts(chain.from_iterable(words)),
        sentence_hash=hash_texts("\t".join(escaped_words(each)) for each in words),
        normal_hash=hash_texts("\t".join(escaped_words(normalise_words(each))) for each in words),
        digest="",
        stats=EncodingStats(
            sentences=len(sentences),
            words=len(word_label),
            pieces=len(pieces),
            windows=len(window_pieces),
            split_sentences=int((sentence_windows > 1).sum()),
            words_without_pieces=int((~has_piece).sum()),
            cut_words=int((word_pieces > room).sum()),
            invalid_tags=sum(map(invalid_tags, sentences.tags)),
        ),
    )


def join(parts: Sequence[Encoded]) -> Encoded:
    """Concatenate encoded splits: the sentences of each follow those of the previous one."""
    if len(parts) == 1:
        return parts[0]

    def concatenate(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    def concatenate_offsets(name: str) -> Int64:
        return offsets(np.concatenate([np.diff(getattr(part, name)) for part in parts]))

    word_piece = concatenate("word_piece")
    shift = np.repeat(offsets([len(part.pieces) for part in parts])[:-1], [len(part.word_piece) for part in parts])
    return Encoded(
        pieces=concatenate("pieces"),
        labels=concatenate("labels"),
        window_start=concatenate_offsets("window_start"),
        sentence_window=concatenate_offsets("sentence_window"),
        sentence_word=concatenate_offsets("sentence_word"),
        word_label=concatenate("word_label"),
        word_hash=concatenate("word_hash"),
        sentence_hash=concatenate("sentence_hash"),
        normal_hash=concatenate("normal_hash"),
        word_piece=np.where(word_piece < 0, -1, word_piece + shift),
        digest=hashlib.sha256("".join(part.digest for part in parts).encode()).hexdigest(),
        stats=EncodingStats(*map(sum, zip(*(astuple(part.stats) for part in parts), strict=True))),
    )


def offsets(lengths: npt.ArrayLike) -> Int64:
    """Compute the start of each of some consecutive ranges, followed by the end of the last one.

    >>> offsets([3, 0, 2]).tolist()
    [0, 3, 3, 5]
    """
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _concatenate_ranges(bounds: Int64, chosen: Int64) -> tuple[Int64, Int64]:
    """Concatenate the integers of the chosen ranges ``bounds[i]`` to ``bounds[i + 1]``; also return their lengths."""
    lengths = bounds[chosen + 1] - bounds[chosen]
    return np.arange(lengths.sum()) + np.repeat(bounds[chosen] - offsets(lengths)[:-1], lengths), lengths


def _special_tokens(tokenizer: "PreTrainedTokenizerFast") -> tuple[list[int], list[int]]:
    """Find the special tokens that the tokenizer puts before and after a sentence."""
    example = tokenizer("a", return_special_tokens_mask=True)
    content = [index for index, special in enumerate(example["special_tokens_mask"]) if not special]
    return example["input_ids"][: content[0]], example["input_ids"][content[-1] + 1 :]


def _split_into_windows(word_pieces: Int64, sentence_word: Int64, room: int) -> Int64:
    """Number the window of each word within its sentence; each window takes as many words as fit."""
    found = np.zeros(len(word_pieces), dtype=np.int64)
    for sentence in np.flatnonzero(np.add.reduceat(word_pieces, sentence_word[:-1]) > room):
        window = filled = 0
        for word in range(sentence_word[sentence], sentence_word[sentence + 1]):
            if word_pieces[word] and filled and filled + word_pieces[word] > room:
                window, filled = window + 1, 0
            filled += word_pieces[word]
            found[word] = window
    return found
