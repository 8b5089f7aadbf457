"""Find entities with character offsets in raw text, with the network of a model folder."""

from collections.abc import Iterable, Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, overload

from xner.errors import UserError, options_called
from xner.tags import spans
from xner.words import Word, split_words

if TYPE_CHECKING:
    from xner.model.decoding import Decoding


class Entity(NamedTuple):
    """An entity and its place in the text.

    Attributes:
        type: The entity type, such as PER.
        text: The text from its first word to its last, ``text[start:end]``.
        start: Index of its first character.
        end: Index after its last character.
        score: The lowest probability of its words' tags.
    """

    type: str
    text: str
    start: int
    end: int
    score: float


class Tagged(NamedTuple):
    """A text with its words, tags and entities.

    Attributes:
        text: The text; lone surrogates are replaced by question marks.
        words: The words.
        tags: One tag per word.
        entities: The entities, from left to right.
    """

    text: str
    words: list[Word]
    tags: list[str]
    entities: list[Entity]

    def to_json(self) -> str:
        """Format as a line of JSON: words without offsets, scores with four decimals."""
        return dumps(
            {
                "text": self.text,
                "words": [word.text for word in self.words],
                "tags": self.tags,
                "entities": [entity._replace(score=round(entity.score, 4))._asdict() for entity in self.entities],
            },
            ensure_ascii=False,
        )


_BUDGET = 4096
"""Pieces per batch."""


class Tagger:
    """Tag raw texts with the network of a model folder.

    Args:
        folder: A model folder written by ``fit``.
        max_length: Maximum number of pieces per window, special tokens included, within the limit of the network.
        longest: Words that a text is cut into ranges of before it is tagged, which bounds the memory it needs.
        decoding: How tags are predicted, as ``decoding`` of ``TokenClassifier``; each range is decoded on its own.

    Raises:
        UserError: If the folder has no token classifier with tags under IOB2, or no tokenizer.
        RunError: If its content cannot be loaded.
    """

    def __init__(
        self, folder: str, *, max_length: int = 512, longest: int = 512, decoding: "Decoding" = "greedy"
    ) -> None:
        import torch

        from xner.backbone import check_head, load_config, load_tokenizer, longest_window
        from xner.model.network import Network

        if not (Path(folder) / "config.json").is_file():
            problem = "has no config.json" if Path(folder).is_dir() else "is not a folder"
            raise UserError(f"model={folder!r} {problem}; use a model folder that fit has written")
        with options_called({"model.backbone": "model", "model.decoding": "decoding"}):
            check_head(folder)
            config = load_config(folder)
            self.tokenizer = load_tokenizer(folder)
            self.network = Network(folder, decoding=decoding)
            self.network.check_head()
        self.padding_id: int = config.pad_token_id
        self.max_length = min(max_length, longest_window(config) or max_length)
        self.longest = longest
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network.eval().to(self.device)

    @overload
    def __call__(self, texts: str) -> Tagged: ...  # type: ignore[overload-overlap] # a string is a sequence of strings

    @overload
    def __call__(self, texts: Sequence[str]) -> list[Tagged]: ...

    def __call__(self, texts: str | Sequence[str]) -> Tagged | list[Tagged]:
        """Tag a text, or each of several; an empty text has no words.

        Args:
            texts: A string, or a sequence of strings.

        Returns:
            The result for the string, or a list with the result for each string.

        Raises:
            TypeError: If an argument is something else.
        """
        if isinstance(texts, str):
            [tagged] = self._tag_texts([texts])
            return tagged
        if isinstance(texts, bytes) or not isinstance(texts, Iterable):
            raise TypeError(f"texts is of type {type(texts).__name__}; use a string or a sequence of strings")
        texts = list(texts)
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"texts[{number}] is of type {type(text).__name__}; use a string")
        return self._tag_texts(texts)

    def _tag_texts(self, texts: Sequence[str]) -> list[Tagged]:
        """Tag each of several texts."""
        texts = [text.encode(errors="replace").decode() for text in texts]
        words = [split_words(text) for text in texts]
        tags, scores = self._tag(
            [some[first : first + self.longest] for some in words for first in range(0, len(some), self.longest)]
        )
        tagged, first = [], 0
        for text, some in zip(texts, words, strict=True):
            own = slice(first, first + len(some))
            tagged.append(Tagged(text, some, tags[own], _entities(text, some, tags[own], scores[own])))
            first += len(some)
        return tagged

    def _tag(self, sentences: Sequence[Sequence[Word]]) -> tuple[list[str], list[float]]:
        """Predict the tag of each word, and its probability. *Length of both:* words."""
        import numpy as np
        import torch

        from xner.data.encode import encode
        from xner.data.packing import RowDataset
        from xner.data.sampler import EvaluationSampler
        from xner.data.sources import Sentences

        if not sentences:
            return [], []
        words = [[word.text for word in sentence] for sentence in sentences]
        untagged = [["O"] * len(sentence) for sentence in words]
        encoded = encode(Sentences(words, untagged), self.tokenizer, self.max_length, self.network.tag_set)
        rows = RowDataset(encoded, padding_id=self.padding_id)
        labels = np.zeros(len(encoded.word_piece), dtype=np.int64)
        scores = np.zeros(len(encoded.word_piece))
        for share in EvaluationSampler(encoded.sentence_pieces, budget=_BUDGET):
            batch = rows[share].to(self.device)
            with torch.inference_mode():
                predicted, score = self.network.predict_scored(batch)
            places, _ = encoded.words_of(share.sentences)
            labels[places] = predicted.cpu().numpy()
            scores[places] = score.cpu().numpy()
        return [self.network.tag_set.tags[label] for label in labels], scores.tolist()


def _entities(text: str, words: Sequence[Word], tags: Sequence[str], scores: Sequence[float]) -> list[Entity]:
    found = []
    for kind, first, last in spans(tags):
        start, end = words[first].start, words[last].end
        found.append(Entity(kind, text[start:end], start, end, min(scores[first : last + 1])))
    return found
