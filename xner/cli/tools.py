"""The tools: commands that need no Trainer."""

import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from xner.cli.auditing import audit
from xner.cli.exporting import export
from xner.cli.output import Cell, interlinear, say, table
from xner.cli.parsing import OPTIONS, ToolParser, add_source, languages_of, reading_of
from xner.cli.serving import serve
from xner.cli.tagging import tag
from xner.data.sources import ReadOptions, Sentences, Split, splits_of, tag_set_of
from xner.data.sources.hub import describe_dataset
from xner.errors import UserError, options_called
from xner.tags import IGNORE, TagSet

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


def run_tool(name: str, args: Sequence[str]) -> None:
    """Run a tool.

    Args:
        name: One of ``xner.cli.TOOLS``.
        args: Its options.

    Raises:
        UserError: If an option is wrong.
    """
    _TOOLS[name](args)


def explore(args: Sequence[str]) -> None:
    """Show the sentences, entities and tags of a data set, and how a tokenizer splits them."""
    parser = ToolParser(
        "explore", "Show the sentences, entities and tags of a data set, and how a tokenizer splits them."
    )
    add_source(parser)
    parser.add_argument(
        "--tokenizer",
        help="hub name, folder with the tokenizer's files, or sample (embedded); None is xlm-roberta-base, or for "
        "source sample its own",
    )
    parser.add_argument(
        "--text",
        default="Alan Mathison Turing was an English mathematician, computer scientist from London.",
        help="a text to split into subwords",
    )
    parser.add_argument("--example", type=int, default=0, help="number of the training sentence to show, from 0")
    options = parser.parse_args(args)
    languages = languages_of(options)
    with options_called({**OPTIONS, "model.backbone": "tokenizer"}):
        reading = reading_of(options)
        show_data(options.source, languages, options.tokenizer, options.text, options.example, reading)


def report(args: Sequence[str]) -> None:
    """Write the report of one run, or of several in comparison."""
    parser = ToolParser("report", "Write report.html, curve.png and curve.svg of one or several transfer runs.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder; the others are compared with the first")
    parser.add_argument("--output", help="folder to write to; None is the first run's")
    options = parser.parse_intermixed_args(args)
    from xner.report import FILES, write_report
    from xner.report.runs import load_run

    folder = Path(options.output or options.runs[0])
    if options.output and folder.exists() and not folder.is_dir():
        raise UserError(f"output={options.output!r} is a file; use a folder")
    runs = [load_run(Path(run)).path for run in options.runs]
    for number, run in enumerate(runs):
        if any(run.samefile(other) for other in runs[:number]):
            raise UserError(f"{str(run)!r} is given twice; give each run once")
    folder.mkdir(parents=True, exist_ok=True)
    write_report(runs, **{name: folder / file for name, file in FILES.items()})
    say(f"{folder}: {', '.join(FILES.values())}")


def make_backbone(args: Sequence[str]) -> None:
    """Make a randomly initialised XLM-R."""
    parser = ToolParser(
        "new-backbone",
        "Make a randomly initialised XLM-R with a given tokenizer, for baselines and benchmarks.",
    )
    parser.add_argument("--tokenizer", required=True, help="hub name, or folder with the tokenizer's files")
    parser.add_argument("--output", required=True, help="folder to make, in Hugging Face layout")
    parser.add_argument("--hidden_size", type=int, default=768, help="size of a subword's vector")
    parser.add_argument("--num_hidden_layers", type=int, default=12, help="number of layers")
    parser.add_argument("--num_attention_heads", type=int, default=12, help="number of attention heads")
    parser.add_argument("--intermediate_size", type=int, default=3072, help="size of the feed-forward layers")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights")
    options = parser.parse_args(args)
    from xner.backbone.weights import new_backbone

    network = new_backbone(**vars(options))
    size, vocabulary = network.num_parameters(), network.config.vocab_size
    say(f"{options.output}: {size:,} parameters, {vocabulary:,} subwords")


_TOOLS: dict[str, Callable[[Sequence[str]], None]] = {
    "explore": explore,
    "audit": audit,
    "tag": tag,
    "serve": serve,
    "export": export,
    "report": report,
    "new-backbone": make_backbone,
}


def show_data(
    source: str, languages: Sequence[str], tokenizer: str | None, text: str, example: int, options: ReadOptions
) -> None:
    """Print a preset's card, sentences and entities of each split, the tags, example sentences, and their tokenization.

    Args:
        source: As in ``Split``.
        languages: Language codes.
        tokenizer: Hub name or folder of the tokenizer; ``None`` stands for xlm-roberta-base, or the sample's own.
        text: A text to tokenize.
        example: Index of the training sentence to show for each language, from 0.
        options: How the source is read.
    """
    width = get_terminal_size().columns
    if card := describe_dataset(source):
        indent = " " * (max(map(len, card)) + 2)
        # The id of a data set is not broken at its hyphens.
        wrap = textwrap.TextWrapper(width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        lines = [wrap.fill(f"{name:{len(indent)}}{value}") for name, value in card.items()]
        _show("Data set", "\n".join(lines))
    splits = [split for language in languages for split in splits_of(source, language, options)]
    tag_set = tag_set_of(splits)
    examples = [(split, _sentence(split, example)) for split in splits if split.name == "train"]

    _show("Sentences and words", sentences_table(splits))
    _show("Features of a sentence", FEATURES)
    _show("Tag set", table(["label", "tag"], list(enumerate(tag_set.tags))))
    for split, sentence in examples:
        _show(f"{split}, sentence {example}: words and tags", interlinear([sentence.words[0], sentence.tags[0]], width))
    _show("Entities (B- tags) by type", entities_table(splits, tag_set))

    # The tokenizer comes last, since it may have to be downloaded.
    from xner.backbone.tokenizer import load_tokenizer

    backbone = tokenizer or ("sample" if source == "sample" else BACKBONE)
    loaded = load_tokenizer(backbone)
    lengths = pieces_table(splits, tag_set, backbone, loaded.num_special_tokens_to_add())
    _show(f"Subwords per sentence, special tokens included, by {backbone}", lengths)
    ids = loaded(text)["input_ids"]
    _show(f"Subwords of {text!r}", _named({"subword": loaded.convert_ids_to_tokens(ids), "id": ids}, width))
    for split, sentence in examples:
        _show(f"{split}, sentence {example}: encoded", _encoded(sentence, tag_set, loaded, width))


def sentences_table(splits: Sequence[Split]) -> str:
    """Count the sentences and words of each split."""
    rows: list[list[Cell]] = [
        [split.language, split.name, len(split.sentences), sum(map(len, split.sentences.words))] for split in splits
    ]
    return table(["language", "split", "sentences", "words"], rows)


def entities_table(splits: Sequence[Split], tag_set: TagSet) -> str:
    """Count the entities of each split by their ``B-`` tags."""
    rows: list[list[Cell]] = []
    for split in splits:
        counts = Counter(tag for tags in split.sentences.tags for tag in tags)
        found = [counts[f"B-{kind}"] for kind in tag_set.types]
        rows.append([split.language, split.name, *found, sum(found)])
    return table(["language", "split", *tag_set.types, "all"], rows)


def pieces_table(splits: Sequence[Split], tag_set: TagSet, backbone: str, special_tokens: int) -> str:
    """Compute the mean, the 99th percentile and the maximum of the number of subwords per sentence.

    Args:
        splits: The splits, a row each.
        tag_set: Their tag set.
        backbone: Hub name or folder of the tokenizer.
        special_tokens: Number of special tokens per window, which count once per sentence.
    """
    import numpy as np

    from xner.data.encoded_cache import encode_split

    rows: list[list[Cell]] = []
    for split in splits:
        encoded = encode_split(split, backbone, WINDOW, tag_set)
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


def _encoded(sentence: Sentences, tag_set: TagSet, tokenizer: "PreTrainedTokenizerFast", width: int) -> str:
    from xner.data.encode import encode

    encoded = encode(sentence, tokenizer, WINDOW, tag_set)
    labels = encoded.labels.tolist()
    rows = {
        "subword": tokenizer.convert_ids_to_tokens(encoded.pieces.tolist()),
        "id": encoded.pieces.tolist(),
        "label id": labels,
        "label": ["IGN" if label == IGNORE else tag_set.tags[label] for label in labels],
    }
    return _named(rows, width)


def _named(rows: Mapping[str, Sequence[object]], width: int) -> str:
    return interlinear([[str(cell) for cell in row] for row in rows.values()], width, list(rows))


def _show(title: str, content: str) -> None:
    say(f"{title}\n\n{content}\n")
