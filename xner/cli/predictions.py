"""Write what predict has found, as JSON Lines, as CoNLL columns or for brat (Stenetorp et al. 2012)."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from xner.cli.formats import brat_lines, conll_lines
from xner.data.sources import Split
from xner.errors import RunError, UserError, quoted
from xner.files import file_atomically
from xner.model.evaluation import Words
from xner.tagger import Tagged
from xner.tags import TagSet, spans
from xner.words import join_words

Format = Literal["jsonl", "conll", "brat"]


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """The options of predict alone.

    Args:
        format: Format of the predictions: 'jsonl' (a sentence per line, with id, tokens, the file's own tags, predicted
            tags, their probabilities, and entities), 'conll' (word, tab and predicted tag; a blank line after each
            sentence) or 'brat' (a .txt with a sentence per line, and an .ann with character offsets).
    """

    format: Format = "jsonl"


class Prediction(NamedTuple):
    """A sentence with its predicted tags.

    Attributes:
        id: The sentence's identifier in its file, or its number in the split.
        words: The words.
        own: The file's own tags, unchanged; ``None`` where it has none.
        tags: The predicted tag of each word.
        scores: The probability of each predicted tag.
    """

    id: object
    words: Sequence[str]
    own: Sequence[object] | None
    tags: list[str]
    scores: list[float]


def read_predictions(split: Split, words: Words, tag_set: TagSet) -> Iterator[Prediction]:
    """Read a split again, and join each sentence that has a prediction with it, in the order of the file.

    Args:
        split: The split.
        words: The predicted words of some or all of its sentences.
        tag_set: The tag set of the labels.
    """
    sentences, counts = torch.unique_consecutive(words.sentence, return_counts=True)
    predicted = zip(sentences.tolist(), counts.tolist(), strict=True)
    number, count = next(predicted, (-1, 0))
    first = 0
    for place, row in enumerate(split.rows()):
        if place != number:
            continue
        own = slice(first, first + count)
        tags = [tag_set.tags[label] for label in words.predicted[own].tolist()]
        identifier = place if row.id is None else row.id
        yield Prediction(identifier, row.words, row.tags, tags, words.score[own].tolist())  # type: ignore[arg-type] # strings
        first += count
        number, count = next(predicted, (-1, 0))


def as_jsonl(sentences: Iterable[Prediction]) -> Iterator[tuple[str]]:
    """Format each sentence as a line of JSON; an entity's score is the lowest of its words', as in ``Tagger``."""
    for each in sentences:
        scores = [round(score, 4) for score in each.scores]
        content = {
            "id": each.id,
            "tokens": each.words,
            **({} if each.own is None else {"ner_tags": each.own}),
            "predicted_tags": each.tags,
            "scores": scores,
            "entities": [
                {
                    "type": kind,
                    "first": first,
                    "last": last,
                    "text": " ".join(each.words[first : last + 1]),
                    "score": min(scores[first : last + 1]),
                }
                for kind, first, last in spans(each.tags)
            ],
        }
        # An identifier of a Parquet file may be a date or bytes.
        yield (json.dumps(content, ensure_ascii=False, default=str) + "\n",)


def as_conll(sentences: Iterable[Prediction]) -> Iterator[tuple[str]]:
    """Format each sentence as lines of word, tab and predicted tag, and a blank line."""
    for each in sentences:
        yield (conll_lines(each.words, each.tags),)


def as_brat(sentences: Iterable[Prediction]) -> Iterator[tuple[str, str]]:
    r"""Format each sentence as a line of text, and its entities as lines with offsets in the whole text.

    >>> sentence = Prediction(0, ["Ayşe", "geldi"], None, ["B-PER", "O"], [0.9, 1.0])
    >>> [*as_brat([sentence, sentence])]
    [('Ayşe geldi\n', 'T1\tPER 0 4\tAyşe\n'), ('Ayşe geldi\n', 'T2\tPER 11 15\tAyşe\n')]
    """
    start = number = 0
    for each in sentences:
        text, words = join_words(each.words)
        entities = Tagged.of(text, words, each.tags, each.scores).entities
        yield text + "\n", brat_lines(entities, start, number)
        start += len(text) + 1
        number += len(entities)


PREDICTION_FORMATS: dict[Format, tuple[Sequence[str], Callable[[Iterable[Prediction]], Iterator[tuple[str, ...]]]]] = {
    "jsonl": ([".jsonl"], as_jsonl),
    "conll": ([".conll"], as_conll),
    "brat": ([".txt", ".ann"], as_brat),
}
"""The suffixes of the files of a format, and the function that formats a sentence for each of them."""


def output_files(folder: Path, splits: Sequence[Split], form: Format) -> list[list[Path]]:
    """Name the files that the predictions of each split are written to.

    Args:
        folder: The folder that they are written in.
        splits: The splits.
        form: The format, which may have several files per split.

    Raises:
        UserError: If one of them is the file that is to be read.
    """
    files = [
        [folder / f"{split.language}-{split.name}{suffix}" for suffix in PREDICTION_FORMATS[form][0]]
        for split in splits
    ]
    for split, paths in zip(splits, files, strict=True):
        for path in paths:
            if split.is_file and path.exists() and path.samefile(split.source):
                raise UserError(
                    f"data.source={split.source!r} would be replaced by its predictions; use another "
                    "trainer.default_root_dir"
                )
    return files


def write_predictions(
    files: Sequence[Sequence[Path]],
    splits: Sequence[Split],
    predicted: Sequence[Words],
    tag_set: TagSet,
    form: Format,
) -> None:
    """Write the predictions of some splits, one sentence at a time; all files appear once all are complete.

    Args:
        files: The files of each split, see ``output_files``.
        splits: The splits.
        predicted: The predicted words of each split.
        tag_set: The tag set of their labels.
        form: The format.

    Raises:
        RunError: If a word cannot be written in the format.
    """
    with ExitStack() as stack:
        for paths, split, words in zip(files, splits, predicted, strict=True):
            paths[0].parent.mkdir(parents=True, exist_ok=True)
            opened = [stack.enter_context(file_atomically(path)) for path in paths]
            sentences = read_predictions(split, words, tag_set)
            for texts in PREDICTION_FORMATS[form][1](
                sentences if form == "jsonl" else _check_words(sentences, split, form)
            ):
                for file, text in zip(opened, texts, strict=True):
                    # Words have no lone surrogates; those of other columns are written as JSON escapes them.
                    file.write(text.encode(errors="backslashreplace"))


def _check_words(sentences: Iterable[Prediction], split: Split, form: Format) -> Iterator[Prediction]:
    """Check that no word contains what separates words, fields or sentences."""
    for each in sentences:
        if wrong := [word for word in each.words if {"\t", "\n", "\r"} & {*word}]:
            raise RunError(
                f"{split.where}, sentence {quoted(each.id)}: the word {quoted(wrong[0])} contains a tab or line break, "
                f"which --format {form} cannot represent; use --format jsonl"
            )
        yield each
