"""The command ``explore``: a first look at a data set and its tokenization."""

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
"""The default tokenizer."""

WINDOW = 512
"""The default of ``data.max_length``, so that training finds the encoded splits in the cache."""

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
    """Show a data set: sentences and entities of each split, tags, example sentences, and their tokenization.

    Args:
        source: Data set: panx (google/xtreme on the Hugging Face Hub), sample (included in the package), or a folder
            with the splits of each language, such as tr/train.tsv (or .conll, .txt, .jsonl, .parquet).
        languages: Language codes.
        tokenizer: Tokenizer to use: hub name, folder with its files, or sample (included in the package); by default
            xlm-roberta-base, or sample if that is the source.
        text: Text to tokenize.
        example: Index of the training sentence to show for each language, from 0.
    """
    if not languages:
        raise UserError("languages=[] is empty; use language codes, such as en tr")
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

    # The tokenizer comes last, since it may have to be downloaded.
    from xner.backbone import load_tokenizer

    backbone = tokenizer or ("sample" if source == "sample" else BACKBONE)
    loaded = load_tokenizer(backbone)
    lengths = pieces_table(splits, backbone, loaded.num_special_tokens_to_add())
    _show(f"Subwords per sentence, special tokens included, by {backbone}", lengths)
    ids = loaded(text)["input_ids"]
    _show(f"Subwords of {text!r}", _named({"subword": loaded.convert_ids_to_tokens(ids), "id": ids}, width))
    for split, sentence in examples:
        _show(f"{split}, sentence {example}: encoded", _encoded(sentence, loaded, width))


def sentences_table(splits: Sequence[Split]) -> str:
    """Count the sentences and words of each split."""
    rows: list[list[Cell]] = [
        [split.language, split.name, len(split.sentences), sum(map(len, split.sentences.words))] for split in splits
    ]
    return table(["language", "split", "sentences", "words"], rows)


def entities_table(splits: Sequence[Split]) -> str:
    """Count the entities of each split by their ``B-`` tags."""
    rows: list[list[Cell]] = []
    for split in splits:
        counts = Counter(tag for tags in split.sentences.tags for tag in tags)
        found = [counts[f"B-{kind}"] for kind in TYPES]
        rows.append([split.language, split.name, *found, sum(found)])
    return table(["language", "split", *TYPES, "all"], rows)


def pieces_table(splits: Sequence[Split], backbone: str, special_tokens: int) -> str:
    """Compute the mean, the 99th percentile and the maximum of the number of subwords per sentence."""
    import numpy as np

    from xner.data.encode import encode_split

    rows: list[list[Cell]] = []
    for split in splits:
        encoded = encode_split(split, backbone, WINDOW)
        # Each further window of a sentence has special tokens of its own, which do not count.
        pieces = encoded.sentence_pieces - special_tokens * (np.diff(encoded.sentence_window) - 1)
        most = int(np.percentile(pieces, 99, method="higher"))
        rows.append([split.language, split.name, float(pieces.mean()), most, int(pieces.max())])
    return table(["language", "split", "mean", "99 %", "longest"], rows)


def _sentence(split: Split, index: int) -> Sentences:
    sentences = split.sentences
    if not 0 <= index < len(sentences):
        raise UserError(f"example={index} is not a sentence of {split}; use 0 to {len(sentences) - 1}")
    return Sentences(sentences.words[index : index + 1], sentences.tags[index : index + 1])


def _encoded(sentence: Sentences, tokenizer: "PreTrainedTokenizerFast", width: int) -> str:
    from xner.data.encode import encode

    encoded = encode(sentence, tokenizer, WINDOW)
    labels = encoded.labels.tolist()
    rows = {
        "subword": tokenizer.convert_ids_to_tokens(encoded.pieces.tolist()),
        "id": encoded.pieces.tolist(),
        "label id": labels,
        "label": ["IGN" if label == IGNORE else TAGS[label] for label in labels],
    }
    return _named(rows, width)


def _named(rows: Mapping[str, Sequence[object]], width: int) -> str:
    return interlinear([[str(cell) for cell in row] for row in rows.values()], width, list(rows))


def _show(title: str, content: str) -> None:
    print(f"{title}\n\n{content}\n")
