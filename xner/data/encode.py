"""From words and tags to pieces and labels, and a count of what could not be placed.

Only this module knows that a word is labelled on its first piece and that a long sentence is split into windows.
"""

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from xner.backbone import load_tokenizer, tokenizer_digest
from xner.data.hashes import sentence_hashes, word_hashes
from xner.data.sources import Sentences, Split
from xner.errors import UserError
from xner.files import write_atomically
from xner.tags import IGNORE, LABELS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Int64 = npt.NDArray[np.int64]

logger = logging.getLogger(__name__)

_FORMAT = "4"
"""Part of every cache key: raise it when what is cached changes its meaning."""


@dataclass(frozen=True)
class EncodingStats:
    """What became of a split's words.

    Attributes:
        sentences: Sentences encoded.
        words: Words in them.
        pieces: Pieces in all windows, specials included.
        windows: Windows; as many as sentences unless some were split.
        split_sentences: Sentences with several windows.
        words_without_pieces: Words that the tokenizer makes nothing of, as U+200B; they are predicted ``O``.
        cut_words: Words longer than a whole window, of which only the beginning is seen.
        invalid_tags: Tags that IOB2 forbids; they are kept.
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
    """A split as pieces and labels, flat, in the order of its source.

    Window ``w`` has the pieces ``window_start[w]`` to ``window_start[w + 1]``, sentence ``s`` the windows
    ``sentence_window[s]`` to ``sentence_window[s + 1]`` and the words ``sentence_word[s]`` to ``sentence_word[s + 1]``.

    Attributes:
        pieces: Piece ids with each window's specials. *Shape:* (pieces,)
        labels: The word's label on its first piece, ``IGNORE`` elsewhere. *Shape:* (pieces,)
        window_start: *Shape:* (windows + 1,)
        sentence_window: *Shape:* (sentences + 1,)
        sentence_word: *Shape:* (sentences + 1,)
        word_piece: The number of each word's first piece in ``pieces``, -1 for a word without. *Shape:* (words,)
        word_label: Each word's gold label. *Shape:* (words,)
        word_hash: See ``hashes.word_hashes``. *Shape:* (words,)
        sentence_hash: See ``hashes.sentence_hashes``. *Shape:* (sentences,)
        digest: The sentences' own digest, see ``Sentences.digest``.
        placement: What became of the words.
    """

    pieces: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int8]
    window_start: Int64
    sentence_window: Int64
    sentence_word: Int64
    word_piece: Int64
    word_label: npt.NDArray[np.int8]
    word_hash: Int64
    sentence_hash: Int64
    digest: str
    stats: EncodingStats

    def __len__(self) -> int:
        return len(self.sentence_window) - 1

    @property
    def sentence_pieces(self) -> Int64:
        """How many pieces each sentence has, specials included. *Shape:* (sentences,)."""
        return np.diff(self.window_start[self.sentence_window])

    @property
    def sentence_labelled(self) -> Int64:
        """How many labelled pieces, and so words in its loss, each sentence has. *Shape:* (sentences,)."""
        placed = np.concatenate([[0], np.cumsum(self.word_piece >= 0)])
        return np.diff(placed[self.sentence_word])


def encode(sentences: Sentences, tokenizer: "PreTrainedTokenizerFast", max_length: int) -> Encoded:
    """Cut words into pieces, label first pieces, and split what is longer than a window at the borders of words.

    Args:
        sentences: The sentences.
        tokenizer: The backbone's fast tokenizer.
        max_length: Pieces a window, specials included.

    Raises:
        UserError: If ``max_length`` leaves no room for a piece.
    """
    before, after = _specials(tokenizer)
    room = max_length - len(before) - len(after)
    if room < 1:
        raise UserError(f"data.max_length={max_length} leaves no room for a piece; use {max_length - room + 1} or more")
    cut = tokenizer.backend_tokenizer
    cut.no_truncation()
    cut.no_padding()
    encodings = cut.encode_batch(sentences.words, is_pretokenized=True, add_special_tokens=False)
    sentence_words = np.array([len(words) for words in sentences.words], dtype=np.int64)
    sentence_word = starts(sentence_words)
    ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int32)
    piece_word = np.fromiter(chain.from_iterable(encoding.word_ids for encoding in encodings), np.int64)
    piece_word += np.repeat(sentence_word[:-1], [len(encoding) for encoding in encodings])
    word_pieces = np.bincount(piece_word, minlength=sentence_word[-1])

    part = _parts(word_pieces, sentence_word, room)
    sentence_windows = 1 + np.maximum.reduceat(part, sentence_word[:-1])
    sentence_window = starts(sentence_windows)
    word_window = np.repeat(sentence_window[:-1], sentence_words) + part
    # A word longer than a whole window is alone in it, and the rest of its pieces is cut off.
    kept_pieces = np.minimum(word_pieces, room)
    window_pieces = np.bincount(word_window, kept_pieces, minlength=sentence_window[-1]).astype(np.int64)
    window_start = starts(window_pieces + len(before) + len(after))

    # Words lie one behind the other, with a window's specials around them.
    word_piece = starts(kept_pieces)[:-1] + (word_window + 1) * len(before) + word_window * len(after)
    within = np.arange(len(ids)) - np.repeat(starts(word_pieces)[:-1], word_pieces)
    kept = within < room
    pieces = np.empty(window_start[-1], dtype=np.int32)
    pieces[(word_piece[piece_word] + within)[kept]] = ids[kept]
    for offset, special in enumerate(before):
        pieces[window_start[:-1] + offset] = special
    for offset, special in enumerate(reversed(after), start=1):
        pieces[window_start[1:] - offset] = special

    word_label = np.array([LABELS[tag] for tags in sentences.tags for tag in tags], dtype=np.int8)
    placed = word_pieces > 0
    labels = np.full(len(pieces), IGNORE, dtype=np.int8)
    labels[word_piece[placed]] = word_label[placed]
    return Encoded(
        pieces=pieces,
        labels=labels,
        window_start=window_start,
        sentence_window=sentence_window,
        sentence_word=sentence_word,
        word_piece=np.where(placed, word_piece, -1),
        word_label=word_label,
        word_hash=word_hashes(sentences.words),
        sentence_hash=sentence_hashes(sentences.words),
        digest=sentences.digest,
        stats=EncodingStats(
            sentences=len(sentences),
            words=len(word_label),
            pieces=len(pieces),
            windows=len(window_pieces),
            split_sentences=int((sentence_windows > 1).sum()),
            words_without_pieces=int((~placed).sum()),
            cut_words=int((word_pieces > room).sum()),
            invalid_tags=sentences.invalid_tags,
        ),
    )


def encode_split(split: Split, backbone: str, max_length: int, cache: Path | None = None) -> Encoded:
    """Encode a split, or take it from the cache, where it is mapped into memory rather than read.

    What the cache holds is checked each time; where it is damaged, the split is encoded and cached again.

    Args:
        split: Which split.
        backbone: Hub name or folder whose tokenizer is used; it is loaded only where the cache does not help.
        max_length: Pieces a window, specials included.
        cache: The folder that keeps encoded splits; ``None`` stands for ``default_cache()``.
    """
    cache = cache or default_cache()
    parts = [_FORMAT, split.identity, tokenizer_digest(backbone), str(max_length)]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
    path = cache / f"{split.language}-{split.name}-{key}.safetensors"
    if path.is_file():
        try:
            return _load(path)
        except _DamagedError as error:
            logger.warning("%s is damaged (%s): %s is encoded again", path, error, split)
    encoded = encode(split.sentences, load_tokenizer(backbone), max_length)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _dump(encoded))
    except OSError as error:
        logger.warning("%s cannot be cached in %s (%s): it is encoded anew each time", split, cache, error.strerror)
    return encoded


def join(parts: Sequence[Encoded]) -> Encoded:
    """Lay several encoded splits end to end, as one: the sentences of each follow those of the one before."""
    if len(parts) == 1:
        return parts[0]

    def end_to_end(name: str) -> Int64:
        return starts(np.concatenate([np.diff(getattr(part, name)) for part in parts]))

    piece_shifts = starts(np.array([len(part.pieces) for part in parts]))
    return Encoded(
        pieces=np.concatenate([part.pieces for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        window_start=end_to_end("window_start"),
        sentence_window=end_to_end("sentence_window"),
        sentence_word=end_to_end("sentence_word"),
        word_piece=np.concatenate(
            [
                np.where(part.word_piece < 0, -1, part.word_piece + shift)
                for part, shift in zip(parts, piece_shifts, strict=False)
            ]
        ),
        word_label=np.concatenate([part.word_label for part in parts]),
        word_hash=np.concatenate([part.word_hash for part in parts]),
        sentence_hash=np.concatenate([part.sentence_hash for part in parts]),
        digest=hashlib.sha256("".join(part.digest for part in parts).encode()).hexdigest(),
        stats=EncodingStats(
            **{field.name: sum(getattr(part.stats, field.name) for part in parts) for field in fields(EncodingStats)}
        ),
    )


def default_cache() -> Path:
    """Where encoded splits are kept: ``$XNER_CACHE``, or ``xner`` in the user's cache folder."""
    if folder := os.environ.get("XNER_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xner"


def _specials(tokenizer: "PreTrainedTokenizerFast") -> tuple[list[int], list[int]]:
    """The pieces that the tokenizer puts before and after a sentence."""
    whole = tokenizer("a", return_special_tokens_mask=True)
    content = [place for place, special in enumerate(whole["special_tokens_mask"]) if not special]
    return whole["input_ids"][: content[0]], whole["input_ids"][content[-1] + 1 :]


def starts(lengths: Int64) -> Int64:
    """Where each of some ranges begins when they lie end to end, and behind them where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)])


def _parts(word_pieces: Int64, sentence_word: Int64, room: int) -> Int64:
    """Which of its sentence's windows each word is in: as many words a window as there is room for."""
    part = np.zeros(len(word_pieces), dtype=np.int64)
    for sentence in np.flatnonzero(np.add.reduceat(word_pieces, sentence_word[:-1]) > room):
        window = filled = 0
        for word in range(sentence_word[sentence], sentence_word[sentence + 1]):
            if word_pieces[word] and filled and filled + word_pieces[word] > room:
                window, filled = window + 1, 0
            filled += word_pieces[word]
            part[word] = window
    return part


_ARRAYS = tuple(field.name for field in fields(Encoded) if field.name not in ("digest", "stats"))


class _DamagedError(Exception):
    """A cached split is not what was written."""


def _dump(encoded: Encoded) -> bytes:
    from safetensors.numpy import save

    arrays = {name: getattr(encoded, name) for name in _ARRAYS}
    metadata = {"digest": encoded.digest, "stats": json.dumps(asdict(encoded.stats))}
    return save(arrays, {**metadata, "checksum": _checksum(arrays, metadata)})


def _load(path: Path) -> Encoded:
    """Map a cached split into memory, and check it.

    Raises:
        _DamagedError: If the file cannot be read, or its checksum is not that of its content.
    """
    from safetensors import safe_open

    try:
        # Through torch, since there the tensors lie in the mapped file.
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name).numpy() for name in _ARRAYS}
        intact = metadata.pop("checksum", None) == _checksum(arrays, metadata)
    except Exception as error:  # whatever a damaged header leads safetensors and torch to
        raise _DamagedError(" ".join(str(error).split()) or type(error).__name__) from error
    if not intact:
        raise _DamagedError("its checksum does not match")
    return Encoded(**arrays, digest=metadata["digest"], stats=EncodingStats(**json.loads(metadata["stats"])))


def _checksum(arrays: Mapping[str, npt.NDArray[np.generic]], metadata: Mapping[str, str]) -> str:
    """Compute the CRC-32 of arrays, with their names, types and shapes, and of metadata."""
    about = [sorted(metadata.items()), [(name, array.dtype.str, array.shape) for name, array in arrays.items()]]
    checksum = zlib.crc32(json.dumps(about).encode())
    for array in arrays.values():
        checksum = zlib.crc32(array.data, checksum)
    return f"{checksum:08x}"
