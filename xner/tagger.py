"""Find entities with character offsets in raw text, with the network of a model folder."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, overload

from xner.errors import UserError, options_called
from xner.tags import spans
from xner.words import Word, join_words, split_words

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

    from xner.data.encode import Encoded
    from xner.model.decoding import Decoding
    from xner.model.network import Network, Precision


class Entity(NamedTuple):
    """An entity and its place in the text.

    Attributes:
        type: The entity type, such as PER.
        text: The text from its first word to its last, ``text[start:end]``.
        start: Index of its first character.
        end: Index after its last character.
        score: The lowest probability of its words' tags. The probabilities are calibrated: logits are divided by the
            temperature of the model folder, which was fitted on validation (Guo et al. 2017; see ``Temperature``).
    """

    type: str
    text: str
    start: int
    end: int
    score: float

    def as_json(self) -> dict[str, str | int | float]:
        """Return the content of an object of JSON, the score with four decimals."""
        return {**self._asdict(), "score": round(self.score, 4)}


class Tagged(NamedTuple):
    """A text with its words, tags and entities.

    Attributes:
        text: The text; lone surrogates are replaced by question marks.
        words: The words.
        tags: One tag per word.
        entities: The entities, from left to right; no two overlap.
    """

    text: str
    words: list[Word]
    tags: list[str]
    entities: list[Entity]

    @classmethod
    def of(cls, text: str, words: list[Word], tags: list[str], scores: Sequence[float]) -> "Tagged":
        """Find the entities of tagged words.

        Args:
            text: The text.
            words: Its words.
            tags: One tag per word.
            scores: The probability of each tag. *Length:* words.
        """
        entities = []
        for kind, first, last in spans(tags):
            start, end = words[first].start, words[last].end
            entities.append(Entity(kind, text[start:end], start, end, min(scores[first : last + 1])))
        return cls(text, words, tags, entities)


class Tagger:
    """Tag raw texts with a network.

    Words are those of ``split_words``, as the network was trained on them; in Chinese, Japanese and Thai they are
    single characters, as in PAN-X. A text longer than a window is tagged in windows that overlap by half, each word by
    the one in which it is farthest from the ends, with the context of about a quarter of a window or more on each side.
    Texts never see each other, and are packed by length into batches. Several threads may use one tagger; the network
    works for one of them at a time.

    Args:
        network: A network with a trained head.
        tokenizer: Its tokenizer.
        max_length: Maximum number of pieces per window, special tokens included, within the limit of the network.

    Raises:
        UserError: If the head has random weights.
    """

    def __init__(self, network: "Network", tokenizer: "PreTrainedTokenizerFast", *, max_length: int = 512) -> None:
        from xner.backbone import longest_window

        network.check_head()
        config = network.model.config
        self.network = network.eval()
        self.tokenizer = tokenizer
        self.padding_id: int = config.pad_token_id
        self.max_length = min(max_length, longest_window(config) or max_length)
        # The accelerations keep the places and products of the batch in use with the network.
        self._in_use = Lock()

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        max_length: int = 512,
        device: str | None = None,
        precision: "Precision" = "float32",
        decoding: "Decoding" = "greedy",
    ) -> "Tagger":
        """Load a model folder, or a model of the hub.

        Args:
            model: A model folder, as ``fit`` and ``transfer`` write it, or a hub name. Weights are read from
                safetensors only.
            max_length: As of the class.
            device: Device of PyTorch; ``None`` takes a GPU if there is one.
            precision: Precision of matrix products, ``float32`` or ``bfloat16``. On a CPU with AVX512_BF16 or AMX,
                bfloat16 is about twice as fast, on others slower; a tag may differ where two are about as probable.
            decoding: ``greedy`` or ``viterbi``, as ``decoding`` of ``TokenClassifier``.

        Raises:
            UserError: If it has no token classifier with tags under IOB2, no tokenizer, or no weights in safetensors;
                or if the device cannot be used.
            RunError: If its content cannot be loaded, or the hub cannot be reached.
        """
        import torch

        from xner.backbone import check_head
        from xner.backbone.tokenizer import load_tokenizer
        from xner.model.network import Network

        if precision not in ("float32", "bfloat16"):
            raise UserError(f"precision={precision!r} is not a precision; use float32 or bfloat16")
        with options_called({"model.backbone": "model", "model.decoding": "decoding"}):
            check_head(model)
            tokenizer = load_tokenizer(model)
            reduced = precision if precision == "bfloat16" else None
            network = Network(model, evaluation_precision=reduced, safetensors=True, decoding=decoding)
            device = device or ("cuda" if torch.cuda.is_available() else "cpu")
            try:
                network = network.to(device)
            except RuntimeError as error:
                reason = str(error).partition("\n")[0]
                raise UserError(f"device={device!r} cannot be used ({reason}); use cpu, cuda or None") from error
            return cls(network, tokenizer, max_length=max_length)

    @overload
    def __call__(self, texts: str) -> Tagged: ...  # type: ignore[overload-overlap] # a string is a sequence of strings

    @overload
    def __call__(self, texts: Sequence[str]) -> list[Tagged]: ...

    def __call__(self, texts: str | Sequence[str]) -> Tagged | list[Tagged]:
        """Tag a text, or each of several; an empty text has no words.

        Args:
            texts: A string, or a sequence of strings. Lone surrogates are replaced by question marks.

        Returns:
            The result for the string, or a list with the result for each string.

        Raises:
            TypeError: If an argument is something else.
        """
        if isinstance(texts, str):
            [tagged] = self([texts])
            return tagged
        texts = [encodable(text) for text in _checked(texts, "texts", "a string or a sequence of strings")]
        return self._tag(texts, [split_words(text) for text in texts])

    def tag_words(self, sentences: Sequence[Sequence[str]]) -> list[Tagged]:
        """Tag sentences that are split into words already, as those of a corpus.

        Args:
            sentences: The words of each sentence. Lone surrogates are replaced by question marks.

        Returns:
            The result for each sentence, whose text is its words with a space between them.

        Raises:
            TypeError: If a sentence is something else than words.
        """
        if isinstance(sentences, str):
            raise TypeError("sentences is a string; use a list with the words of each sentence")
        joined = [
            join_words([encodable(word) for word in _checked(sentence, f"sentences[{number}]", "a sequence of words")])
            for number, sentence in enumerate(sentences)
        ]
        return self._tag([text for text, _ in joined], [words for _, words in joined])

    def _tag(self, texts: Sequence[str], words: Sequence[list[Word]]) -> list[Tagged]:
        """Tag the words of each of several texts."""
        labels, scores = self._predict_words([[word.text for word in some] for some in words])
        tags = [self.network.tag_set.tags[label] for label in labels]
        tagged, first = [], 0
        for text, some in zip(texts, words, strict=True):
            own = slice(first, first + len(some))
            tagged.append(Tagged.of(text, some, tags[own], scores[own]))
            first += len(some)
        return tagged

    def _predict_words(self, texts: Sequence[Sequence[str]]) -> tuple[list[int], list[float]]:
        """Predict the labels of the words of each text together, and their probabilities. *Length of both:* words."""
        import numpy as np
        import torch

        texts = [text for text in texts if text]
        if not texts:
            return [], []
        encoded = self._encode(texts)
        logits = self._logits(encoded)
        bridges = [*_bridges(encoded)]
        if bridges:
            flat = [word for text in texts for word in text]
            between = self._encode([flat[bridge.first : bridge.end] for bridge in bridges])
            better = self._logits(between)
            for bridge, shift in zip(bridges, between.sentence_word.tolist(), strict=False):
                own = slice(bridge.chosen.start - bridge.first + shift, bridge.chosen.stop - bridge.first + shift)
                logits[bridge.chosen] = better[own]
        text_of_word = torch.from_numpy(np.repeat(np.arange(len(encoded)), np.diff(encoded.sentence_word)))
        device = self.network.model.device
        with torch.inference_mode():
            labels, scores = self.network.decode_scored(
                logits.to(device), text_of_word.to(device), self.network.temperature
            )
        return labels.tolist(), scores.tolist()

    def _encode(self, sentences: Sequence[Sequence[str]]) -> "Encoded":
        from xner.backbone.tokenizer import check_pieces
        from xner.data.encode import encode
        from xner.data.sources import Sentences

        untagged = [["O"] * len(sentence) for sentence in sentences]
        encoded = encode(
            Sentences([[*sentence] for sentence in sentences], untagged),
            self.tokenizer,
            self.max_length,
            self.network.tag_set,
            hashed=False,
        )
        check_pieces(self.network.backbone, encoded.pieces)
        return encoded

    def _logits(self, encoded: "Encoded") -> "Tensor":
        """Score every label on each encoded word. *Shape:* (words, labels)."""
        import torch

        from xner.data.packing import padded_batches

        encoded = _by_window(encoded)
        logits = torch.zeros(len(encoded.word_piece), len(self.network.tag_set.tags))
        for batch in padded_batches(encoded, self.padding_id):
            with self._in_use, torch.inference_mode():
                found = self.network.word_logits(batch.to(self.network.model.device))
            places, _ = encoded.words_of(batch.sentences.numpy())
            logits[places] = found.float().cpu()
        return logits


class _Bridge(NamedTuple):
    """A window over the border of two others.

    Attributes:
        first: Its first word, counted over all texts.
        end: The word after its last one.
        chosen: The words that are farther from its borders than from those of the other two.
    """

    first: int
    end: int
    chosen: slice


def _bridges(encoded: "Encoded") -> Iterator[_Bridge]:
    """Cover the border of each two consecutive windows of a text by the second half of one and the first of the other.

    Args:
        encoded: The texts.
    """
    import numpy as np

    windows = int(encoded.sentence_window[-1])
    borders = np.setdiff1d(np.arange(1, windows), encoded.sentence_window)
    if not len(borders):
        return
    words = np.flatnonzero(encoded.word_piece >= 0)
    # All of these ascend, so that each bridge is found by bisection, however long the text is.
    start = encoded.word_piece[words]
    window = np.searchsorted(encoded.window_start, start, side="right") - 1
    first = np.searchsorted(window, np.arange(windows + 1))
    # A word ends where the next one of its window starts, or at the window's end.
    end = np.minimum(np.append(start[1:], len(encoded.pieces)), encoded.window_start[window + 1])
    half = int(np.diff(encoded.window_start).max()) // 2
    for border in borders.tolist():
        place, middle = encoded.window_start[border], first[border]
        left = max(first[border - 1], np.searchsorted(start, place - half))
        right = min(first[border + 1], np.searchsorted(end, place + half, side="right"))
        # Farther from the ends of the bridge than from the border.
        near, far = np.searchsorted(start, [place - half // 2, place + half // 2])
        near, far = max(left, near), min(right, far)
        if left < middle < right and near < far:
            chosen = slice(int(words[near]), int(words[far - 1]) + 1)
            yield _Bridge(int(words[left]), int(words[right - 1]) + 1, chosen)


def _by_window(encoded: "Encoded") -> "Encoded":
    """Make each window a sentence of its own, so that the windows of a long text need not be in one batch."""
    import numpy as np

    windows = int(encoded.sentence_window[-1])
    if windows == len(encoded):
        return encoded
    own = np.searchsorted(encoded.window_start, encoded.word_piece, side="right") - 1
    # A word without pieces, for which this is -1, is in the window of the word before it, or the first of its sentence.
    first = np.repeat(encoded.sentence_window[:-1], np.diff(encoded.sentence_word))
    window = np.maximum.accumulate(np.maximum(own, first))
    return replace(
        encoded,
        sentence_window=np.arange(windows + 1),
        sentence_word=np.searchsorted(window, np.arange(windows + 1)),
    )


def encodable(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode, by question marks."""
    return text.encode(errors="replace").decode()


def _checked(texts: object, name: str, advice: str) -> list[str]:
    """Check that an argument is a sequence of strings.

    Args:
        texts: The argument.
        name: What it is called in the error.
        advice: What to use instead.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise TypeError(f"{name} is of type {type(texts).__name__}; use {advice}")
    texts = list(texts)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{number}] is of type {type(text).__name__}; use a string")
    return texts
