"""A first look at the data: sentences, tags, entities, and what a tokenizer makes of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from xner.cli.output import Cell, interlinear, table
from xner.data.sources import SPLITS, Sentences, Split
from xner.errors import UserError, options_called
from xner.tags import IGNORE, TAGS, TYPES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BACKBONE = "xlm-roberta-base"
"""Whose tokenizer is shown, unless another is asked for."""

WINDOW = 512
"""Pieces a window, specials included: the commands' own default, so that encoded splits are cached for both."""


FEATURES = table(
    ["feature", "type"],
    [["tokens", "list of strings: the words"], ["ner_tags", "list of integers: the label of each word's tag"]],
)


def explore(
    source: str = "panx",
    languages: Sequence[str] = ("en", "tr"),
    tokenizer: str | None = None,
    text: str = "Alan Mathison Turing was an English mathematician, computer scientist from London.",
    example: int = 0,
) -> None:
    """Look at the data: sentences and entities of each split, the tags, examples, and how a tokenizer cuts them.

    Args:
        source: Where sentences come from: panx (the hub's google/xtreme), sample (embedded), or a folder that holds
            each language's splits, as tr/train.tsv (or .conll, .txt, .jsonl, .parquet).
        languages: Language codes.
        tokenizer: Backbone whose tokenizer is used: hub name, folder with the tokenizer's files, or sample (embedded);
            if not given, xlm-roberta-base, and of source sample its own.
        text: A text to cut into pieces.
        example: Number of the training sentence that is shown of each language, from 0.
    """
    if not languages:
        raise UserError("languages must name a language, as en tr")
    with options_called({"data.source": "source", "model.backbone": "tokenizer"}):
        _explore(source, languages, tokenizer, text, example)


def _explore(source: str, languages: Sequence[str], tokenizer: str | None, text: str, example: int) -> None:
    splits = [Split(source, language, name) for language in dict.fromkeys(languages) for name in SPLITS]
    examples = [(split, _sentence(split, example)) for split in splits if split.name == "train"]
    width = get_terminal_size().columns

    _show("Sentences and words", sentences_table(splits))
    _show("Features of a sentence", FEATURES)
    _show("Tag set", table(["label", "tag"], list(enumerate(TAGS))))
    for split, sentence in examples:
        _show(f"{split}, sentence {example}: words and tags", interlinear([sentence.words[0], sentence.tags[0]], width))
    _show("Entities (B- tags) by type", entities_table(splits))

    # Last, since it may have to be downloaded, and what is above can be said without.
    backbone = tokenizer or ("sample" if source == "sample" else BACKBONE)
    cut = _tokenizer(backbone)
    _show(f"Pieces a sentence, specials included, by {backbone}", pieces_table(splits, backbone))
    ids = cut(text)["input_ids"]
    _show(f"Pieces of {text!r}", _named({"piece": cut.convert_ids_to_tokens(ids), "id": ids}, width))
    for split, sentence in examples:
        _show(f"{split}, sentence {example}: encoded", _encoded(sentence, cut, width))


def sentences_table(splits: Sequence[Split]) -> str:
    """Count the sentences and words of splits."""
    rows: list[list[Cell]] = [
        [split.language, split.name, len(split.sentences), sum(map(len, split.sentences.words))] for split in splits
    ]
    return table(["language", "split", "sentences", "words"], rows)


def entities_table(splits: Sequence[Split]) -> str:
    """Count the entities of splits by their ``B-`` tags."""
    rows: list[list[Cell]] = []
    for split in splits:
        counts = Counter(tag for tags in split.sentences.tags for tag in tags)
        found = [counts[f"B-{kind}"] for kind in TYPES]
        rows.append([split.language, split.name, *found, sum(found)])
    return table(["language", "split", *TYPES, "all"], rows)


def pieces_table(splits: Sequence[Split], backbone: str) -> str:
    """Say how many pieces sentences have: on average, at most in 99 % of them, at most."""
    import numpy as np

    from xner.data.encode import encode_split

    specials = _tokenizer(backbone).num_special_tokens_to_add()
    rows: list[list[Cell]] = []
    for split in splits:
        encoded = encode_split(split, backbone, WINDOW)
        # Each further window of a sentence has specials of its own.
        pieces = encoded.sentence_pieces - specials * (np.diff(encoded.sentence_window) - 1)
        most = int(np.percentile(pieces, 99, method="higher"))
        rows.append([split.language, split.name, float(pieces.mean()), most, int(pieces.max())])
    return table(["language", "split", "mean", "99 %", "longest"], rows)


def _sentence(split: Split, number: int) -> Sentences:
    """One sentence of a split."""
    sentences = split.sentences
    if not 0 <= number < len(sentences):
        raise UserError(f"example={number} is no sentence of {split}: give 0 to {len(sentences) - 1}")
    return Sentences(sentences.words[number : number + 1], sentences.tags[number : number + 1])


def _encoded(sentence: Sentences, tokenizer: "PreTrainedTokenizerFast", width: int) -> str:
    from xner.data.encode import encode

    encoded = encode(sentence, tokenizer, WINDOW)
    labels = encoded.labels.tolist()
    rows = {
        "piece": tokenizer.convert_ids_to_tokens(encoded.pieces.tolist()),
        "id": encoded.pieces.tolist(),
        "label id": labels,
        "label": ["IGN" if label == IGNORE else TAGS[label] for label in labels],
    }
    return _named(rows, width)


def _named(rows: Mapping[str, Sequence[object]], width: int) -> str:
    return interlinear([[str(cell) for cell in row] for row in rows.values()], width, list(rows))


def _tokenizer(backbone: str) -> "PreTrainedTokenizerFast":
    from xner.backbone import load_tokenizer

    return load_tokenizer(backbone)


def _show(title: str, content: str) -> None:
    print(f"{title}\n\n{content}\n")
