"""The tool ``export``: its options, what it checks, and its table."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import inf
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from xner.cli.output import Cell, say, table
from xner.cli.parsing import OPTIONS, ToolParser, add_model, add_source, as_list, languages_of, reading_of
from xner.data.sources import ReadOptions, Sentences, Split, splits_of, tag_set_of
from xner.data.sources.lines import read_lines
from xner.errors import RunError, UserError, options_called, quoted
from xner.files import folder_atomically

if TYPE_CHECKING:
    from xner.export.comparison import ComparedModel

Note = Callable[[str], None]
"""Prints a finding, and keeps it."""

EXPORT_FORMATS = ("safetensors", "onnx", "onnx-int8")
"""The formats that ``export`` writes."""

ONNX_FILES = {"onnx": "model.onnx", "onnx-int8": "model_quantized.onnx"}
"""The file of each format in the folder ``onnx``, as the hub's models have them."""

_USAGE = """\
```python
import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")  # the folder of this card
session = onnxruntime.InferenceSession("onnx/{file}")
inputs = tokenizer("Alan Mathison Turing was born in London.", return_tensors="np")
[logits] = session.run(None, {{each.name: inputs[each.name] for each in session.get_inputs()}})
```

The label of a word is the one of its first subword; `id2label` in `config.json` names it."""

_SAME = 1e-5
"""Largest difference of logits between a model and the same with a trimmed vocabulary."""

_WINDOW = 512
"""Maximum number of pieces per window, as ``Tagger`` has it."""


@dataclass(frozen=True)
class _Text:
    """The sentences of splits and of text files, which are read again each time.

    Attributes:
        splits: The splits.
        corpora: Text files with a sentence per line.
    """

    splits: Sequence[Split]
    corpora: Sequence[Path]

    def sentences(self, most: int | None = None) -> Iterator[list[str]]:
        """Yield the words of all sentences, or of the first ones of each split and file."""
        for split in self.splits:
            for sentence in islice(split.read(), most):
                yield sentence.words
        for path in self.corpora:
            yield from islice((words for line in read_lines(path) if (words := line.split())), most)

    def __iter__(self) -> Iterator[str]:
        """Yield all texts that the sentences are encoded as."""
        from xner.export.vocabulary_trimming import texts_of

        for words in self.sentences():
            yield from texts_of(words)


def export(args: Sequence[str]) -> None:
    """Write a trained model as ONNX, int8 or safetensors, with the whole vocabulary or that of some text."""
    options = _parse(args)
    _check(options)
    from xner.export.hub_upload import push_to_hub

    with options_called({**OPTIONS, "model.backbone": "model"}):
        with folder_atomically(Path(options.output)) as part:
            found: list[str] = []

            def note(line: str) -> None:
                """Print a finding, and keep it for the model card."""
                say(line)
                found.append(line)

            _write(options, part, note)
            _write_card(options, part, found)
        say(f"{options.output} is complete")
        if options.push_to_hub:
            say(push_to_hub(Path(options.output), options.push_to_hub, private=options.private))


def _parse(args: Sequence[str]) -> argparse.Namespace:
    parser = ToolParser(
        "export",
        "Write a trained model as ONNX, as ONNX with int8 weights, or as safetensors, with its whole vocabulary or the "
        "subwords of some text, and check it against the model.",
    )
    add_model(parser)
    parser.add_argument("--output", required=True, help="folder to make")
    parser.add_argument("--format", choices=EXPORT_FORMATS, default="onnx", help="what to write")
    parser.add_argument("--opset", type=int, default=20, help="version of ONNX's operator set, 18 to 23")
    parser.add_argument(
        "--tolerance", type=float, default=1e-3, help="largest difference of logits between ONNX and PyTorch"
    )
    parser.add_argument(
        "--check_sentences",
        type=int,
        default=500,
        help="number of sentences of each language or file whose logits are compared",
    )
    parser.add_argument(
        "--vocabulary_of", nargs="+", help="keep only the subwords of these languages of the source (all splits)"
    )
    parser.add_argument(
        "--corpus", nargs="+", help="keep only the subwords of these text files (UTF-8, a sentence per line)"
    )
    add_source(parser, None, "languages whose test splits are scored, for a table of F1 and speed")
    parser.add_argument("--push_to_hub", metavar="REPO", help="repository of the hub to upload the folder to")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    return parser.parse_args(args)


def _check(options: argparse.Namespace) -> None:
    """Check what can be checked before the model is loaded."""
    from xner.backbone import check_head, folder_of
    from xner.export.hub_upload import check_login
    from xner.export.onnx_model import OPSETS, check_installed
    from xner.export.vocabulary_trimming import check_trimmable
    from xner.lineage import read_history
    from xner.report.card import read_card

    output, folder = Path(options.output), folder_of(options.model)
    if not output.name:
        raise UserError(f"output={options.output!r} is not the name of a folder; use a new one")
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"output={options.output!r} exists and is not an empty folder; use a new one")
    if options.opset not in OPSETS:
        raise UserError(f"opset={options.opset} is not possible; use {OPSETS[0]} to {OPSETS[-1]}")
    if not options.tolerance > 0:
        raise UserError(f"tolerance={options.tolerance} is not positive; use a number such as 0.001")
    if not 1 <= options.check_sentences <= sys.maxsize:
        raise UserError(f"check_sentences={quoted(options.check_sentences)} is out of range; use 1 or more")
    if options.vocabulary_of and not as_list(options.vocabulary_of):
        raise UserError("vocabulary_of=[] is empty; use language codes, such as en tr")
    for path in options.corpus or ():
        if not Path(path).is_file():
            raise UserError(f"corpus={path!r} is not a file; use a text file with a sentence per line")
    if options.private and not options.push_to_hub:
        raise UserError("private=true is only for push_to_hub; name a repository")
    if options.format != "safetensors":
        check_installed()
    if options.push_to_hub:
        check_login(options.push_to_hub)
    with options_called({"model.backbone": "model"}):
        check_head(options.model)
        if folder.is_dir() and not any(folder.glob("model*.safetensors")):
            raise UserError(
                f"model={options.model!r} has no model.safetensors; weights in a pickle, which can run code, are not "
                "exported; save them with save_pretrained"
            )
        read_card(options.model)  # refuses a damaged one
        read_history(options.model)  # refuses one of other weights, before it is copied
        if options.vocabulary_of or options.corpus:  # before the text is read
            check_trimmable(options.model)


def _write(options: argparse.Namespace, part: Path, note: Note) -> None:
    """Write the export into a folder, and note how it compares with the model."""
    from xner.backbone import check_types, load_config, longest_window
    from xner.export.comparison import ComparedModel

    window = min(_WINDOW, longest_window(load_config(options.model)) or _WINDOW)
    reading = reading_of(options)
    text = _vocabulary_text(options, reading)
    languages = languages_of(options) if options.languages else []
    scored = [Split(options.source, each, "test", reading) for each in languages]
    if scored:
        # A test split may lack some types.
        splits = [split for each in languages for split in splits_of(options.source, each, reading)]
        check_types(options.model, tag_set_of(splits))
    if text:
        compared = replace(text, splits=[each for each in text.splits if each.name == "test"] or text.splits)
    else:
        compared = _Text(scored or [Split("sample", each, "test") for each in ("en", "tr")], [])
    words = [*compared.sentences(options.check_sentences)]
    if not words:
        raise RunError(f"corpus={options.corpus} has no words; use files with text")
    sentences = Sentences(words, [["O"] * len(each) for each in words])

    models = [ComparedModel.of_network("PyTorch", options.model)]
    if text:
        folder = part if options.format == "safetensors" else part / "trimmed"
        folder.mkdir(exist_ok=True)
        models.append(_trim(models[0], text, folder, sentences, window, note))
    if options.format == "safetensors":
        if not text:
            _write_safetensors(options.model, part)
    else:
        models += _write_onnx(models[-1], options, part, sentences, window, note)
    if scored:
        note(_scores(models, scored, window))
    if options.format == "onnx-int8":
        for path in (part / "onnx").glob(f"{ONNX_FILES['onnx']}*"):
            path.unlink()
    if options.format != "safetensors" and text:
        rmtree(part / "trimmed")


def _write_card(options: argparse.Namespace, part: Path, found: Sequence[str]) -> None:
    """Write the model card of the export, with what was found."""
    from xner.report.card import carry_card

    trimmed = bool(options.vocabulary_of or options.corpus)
    form = f"ONNX (operator set {options.opset})" if options.format != "safetensors" else "safetensors"
    kind = [form, "int8 weights" * (options.format == "onnx-int8"), "the vocabulary of some text" * trimmed]
    findings = "\n".join(found)
    carry_card(
        options.model,
        part,
        section=f"## Export\n\nExported as {', with '.join(filter(None, kind))}.\n\n```text\n{findings}\n```",
        usage=_USAGE.format(file=ONNX_FILES[options.format]) if options.format != "safetensors" else None,
        same_predictions=options.format != "onnx-int8" and not trimmed,
    )


def _vocabulary_text(options: argparse.Namespace, reading: ReadOptions) -> _Text | None:
    """Return the text whose vocabulary is kept; ``None`` for the whole vocabulary."""
    if not (options.vocabulary_of or options.corpus):
        return None
    languages = [*dict.fromkeys(as_list(options.vocabulary_of))] if options.vocabulary_of else []
    untagged = replace(reading, tagged=False)
    return _Text(
        [split for language in languages for split in splits_of(options.source, language, untagged)],
        [Path(path) for path in options.corpus or ()],
    )


def _trim(
    whole: "ComparedModel", text: _Text, folder: Path, sentences: Sentences, window: int, note: Note
) -> "ComparedModel":
    """Write the model with the vocabulary of a text, and check that its logits are the same."""
    from xner.export.comparison import ComparedModel
    from xner.export.vocabulary_trimming import trim_vocabulary

    sizes = trim_vocabulary(whole.folder, text, folder)
    note(f"subwords: {sizes.pieces[0]:,} before, {sizes.pieces[1]:,} now")
    note(f"parameters: {sizes.parameters[0]:,} before, {sizes.parameters[1]:,} now")
    trimmed = ComparedModel.of_network("trimmed", str(folder))
    _compare(whole, trimmed, sentences, window, _SAME, "report it as a defect", note)
    return trimmed


def _write_safetensors(model: str, folder: Path) -> None:
    from xner.backbone.tokenizer import save_tokenizer
    from xner.backbone.weights import load_network, save_network
    from xner.lineage import copy_history

    save_network(load_network(model).network, folder)
    save_tokenizer(model, folder)
    copy_history(model, folder)


def _write_onnx(
    reference: "ComparedModel", options: argparse.Namespace, folder: Path, sentences: Sentences, window: int, note: Note
) -> list["ComparedModel"]:
    """Write the ONNX model and, if asked for, its quantised form; check both, and return them."""
    from xner.backbone.tokenizer import save_tokenizer
    from xner.backbone.weights import load_network
    from xner.export.onnx_model import OnnxNetwork, bytes_of, quantise, write_onnx
    from xner.lineage import copy_history

    (folder / "onnx").mkdir()
    network = load_network(reference.folder).network
    paths = {name: folder / "onnx" / file for name, file in ONNX_FILES.items()}
    write_onnx(network, paths["onnx"], options.opset)
    network.config.save_pretrained(folder)
    save_tokenizer(reference.folder, folder)
    copy_history(reference.folder, folder)
    found: list[ComparedModel] = []
    for name in EXPORT_FORMATS[1 : EXPORT_FORMATS.index(options.format) + 1]:
        if name == "onnx-int8":
            quantise(paths["onnx"], paths[name])
        run = OnnxNetwork(paths[name])
        size = bytes_of(paths[name])
        found.append(reference._replace(name=name, size=size, logits=run.logits, predict=run.predict_labels))
        # The weights of int8 are others, which F1 has to judge.
        limit = options.tolerance if name == "onnx" else inf
        _compare(reference, found[-1], sentences, window, limit, "use another opset or a larger tolerance", note)
    return found


def _compare(
    one: "ComparedModel",
    other: "ComparedModel",
    sentences: Sentences,
    window: int,
    limit: float,
    advice: str,
    note: Note,
) -> None:
    """Note the largest difference of two models' logits.

    Raises:
        RunError: If it is larger than the limit.
    """
    from xner.export.comparison import largest_difference

    difference = largest_difference(one, other, sentences, window)
    found = f"largest difference of logits, {other.name} and {one.name}, {len(sentences):,} sentences: {difference:.2g}"
    if not difference <= limit:
        raise RunError(f"{found}, more than {limit:g}; {advice}")
    note(found)


def _scores(models: Sequence["ComparedModel"], splits: Sequence[Split], window: int) -> str:
    """Format the size, F1 and speed of each model, and how many words it tags otherwise than the first."""
    from xner.export.comparison import measure_split

    measured = [[measure_split(model, split.sentences, window) for split in splits] for model in models]
    sentences = sum(len(split.sentences) for split in splits)
    rows: list[list[Cell]] = []
    for model, results in zip(models, measured, strict=True):
        others = sum(int((own.labels != first.labels).sum()) for own, first in zip(results, measured[0], strict=True))
        speed = round(sentences / sum(result.seconds for result in results))
        scores = [f"{100 * result.f1:.2f}" for result in results]
        rows.append([model.name, model.size / 1e6, *scores, others, speed])
    names = [f"F1 {split.language}" for split in splits]
    return table(["format", "MB", *names, "words with another tag", "sentences/s"], rows)
