"""The tool ``tag``: find entities in texts, files or standard input, and write them in one of several formats."""

import argparse
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from io import TextIOWrapper
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from shutil import get_terminal_size
from signal import SIG_IGN, SIGINT, signal
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

from xner.backbone import check_head
from xner.cli.formats import TagFormat, format_of
from xner.cli.interrupts import end_with_parent
from xner.cli.parsing import ToolParser, add_model, add_tagger_options
from xner.cli.writers import FileOutput, StandardOutput, record_of
from xner.errors import RunError, UserError, options_called, quoted

if TYPE_CHECKING:
    from xner.model.decoding import Decoding
    from xner.model.network import Precision
    from xner.tagger import Tagged, Tagger

    Load = Callable[[], Tagger]

logger = logging.getLogger(__name__)

_TEXTS = 256
"""Maximum number of texts that are tagged at once."""

_CHARACTERS = 500_000
"""Characters after which no further text is tagged at once."""

_MOST_PROCESSES = 1024
"""Number of processes above which the option is a mistake."""

_FILE_WIDTH = 100
"""Characters of a line of words and tags in a file."""

_SUFFIXES = (".txt", ".text", ".tsv", ".csv", ".conll", ".json", ".jsonl", ".md", ".html")
"""Suffixes by which a word is probably meant as the path of a file."""

LONGEST = 1_000_000
"""Characters of a line above which it is tagged in parts, so that the memory it needs is bounded."""


def tag(args: Sequence[str]) -> None:
    """Find entities in raw texts, and write them."""
    parser = ToolParser("tag", "Find entities, such as persons, organisations and locations, in raw text.")
    parser.add_argument(
        "texts",
        nargs="*",
        metavar="TEXT",
        help="a text, or the path of a file, each line of which is a text (an argument that is the path of a file is "
        "never itself tagged; after --, it may begin with a dash); without any, each line of standard input. A line of "
        f"more than {LONGEST:,} characters is cut at white space into several texts",
    )
    add_model(parser)
    parser.add_argument(
        "--format",
        choices=["table", "jsonl", "conll", "brat", "html"],
        default="table",
        help="table: words over their tags. jsonl: a JSON object per text, with its words, their tags, and its "
        "entities with character offsets and scores. conll: word, tab and tag, and a blank line after each text. brat: "
        "OUTPUT with a text per line, and an .ann beside it. html: one page with marked entities and their scores",
    )
    parser.add_argument(
        "--fields",
        choices=["xner", "transformers"],
        default="xner",
        help="names of an entity's fields in jsonl: type, text, start, end, score (xner), or those of the pipeline of "
        "transformers: entity_group, score, word, start, end",
    )
    parser.add_argument("--output", help="file to write; None is standard output")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue an interrupted run with the same texts and options, by the record OUTPUT.resume beside OUTPUT",
    )
    parser.add_argument("--processes", type=int, default=1, help="number of processes, which share the processor cores")
    add_tagger_options(parser)
    # parse_intermixed_args takes a text after "--" that begins with a dash for an option.
    end = args.index("--") if "--" in args else len(args)
    options = parser.parse_intermixed_args(args[:end])
    options.texts += args[end + 1 :]
    # The terminal may have another width when a file is continued.
    width = _FILE_WIDTH if options.output else get_terminal_size().columns
    form = format_of(options.format, options.fields, width)
    _check(options, form)
    load = partial(_load, options.model, options.precision, options.decoding)
    # Before anything is written.
    if options.processes == 1:
        load()
    else:
        with options_called({"model.backbone": "model"}):
            check_head(options.model)
    with FileOutput(form, options) if options.output else StandardOutput(form) as output:
        texts = output.remaining(_read(options.texts))
        batches = _tag_in_order(load, _batches(texts), options.processes)
        # What cannot be read or tagged should end the command before it replaces a file.
        first = [*islice(batches, 1)]
        output.begin()
        # A bar between lines of output would make both unreadable.
        hidden = not sys.stderr.isatty() or (not options.output and sys.stdout.isatty())
        with tqdm(unit=" documents", initial=output.position.texts, disable=hidden) as bar:
            for batch in chain(first, batches):
                output.write(batch)
                bar.update(len(batch))


def _check(options: argparse.Namespace, form: TagFormat) -> None:
    if not 1 <= options.processes <= _MOST_PROCESSES:
        raise UserError(f"processes={quoted(options.processes)} is out of range; use 1 to {_MOST_PROCESSES}")
    if options.fields != "xner" and options.format != "jsonl":
        raise UserError(f"fields={options.fields} is not possible with format={options.format}; use format=jsonl")
    if not options.output and (options.resume or options.format == "brat"):
        asks = "resume=true" if options.resume else "format=brat"
        raise UserError(f"{asks} needs a file to write; use --output FILE")
    if options.output and os.path.isdir(options.output):
        raise UserError(f"output={options.output!r} is a folder; use a file in it")
    if options.output and options.format == "brat" and not options.output.endswith(".txt"):
        raise UserError(f"output={options.output!r} is the name of the texts in format=brat; use one that ends in .txt")
    written = [*form.files(Path(options.output)), record_of(Path(options.output))] if options.output else []
    for path in written:
        if path.exists() and not path.is_file():
            raise UserError(
                f"output={options.output!r} would replace {str(path)!r}, which is not a file; use another one"
            )
    for text in options.texts:
        if os.path.isdir(text):
            raise UserError(f"{text!r} is a folder; use files, or run the command elsewhere to tag it as a text")
        if os.path.lexists(text) and not os.path.isfile(text):
            raise UserError(f"{text!r} is not a regular file; use one, or give its content to standard input")
        for path in written:
            if os.path.isfile(text) and path.exists() and path.samefile(text):
                raise UserError(
                    f"output={options.output!r} would replace {str(path)!r}, which is a file to read; use another one"
                )


def _read(arguments: Sequence[str]) -> Iterator[str]:
    """Read the texts of the command line, of the files that it names, or of standard input."""
    if not arguments:
        # As a file is read: without a byte-order mark, and with the line ends of any system.
        if isinstance(sys.stdin, TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8-sig", errors="strict", newline=None)
        yield from read_texts(sys.stdin, "standard input")
    for argument in arguments:
        if os.path.isfile(argument):
            # Without a byte-order mark.
            with open(argument, encoding="utf-8-sig") as file:
                yield from read_texts(file, argument)
        else:
            if Path(argument).suffix in _SUFFIXES and not argument.split()[1:]:
                logger.warning("%r is not a file, so it is tagged as text", argument)
            yield argument


def read_texts(file: TextIO, name: str) -> Iterator[str]:
    """Read the lines of a file, and cut those of more than ``LONGEST`` characters at white space.

    Args:
        file: The file.
        name: Its name in an error.

    Raises:
        RunError: If it is not UTF-8.
    """
    rest, line = "", 1
    try:
        while part := file.readline(LONGEST - len(rest)):
            text = rest + part
            if text.endswith("\n"):
                yield text[:-1]
                rest, line = "", line + 1
            elif len(text) < LONGEST:  # the last line
                rest = text
            else:
                cut = max(map(text.rfind, " \t\u3000")) + 1 or len(text)
                yield text[:cut]
                rest = text[cut:]
    except UnicodeDecodeError as error:
        raise RunError(f"{name} is not UTF-8 ({error.reason}, in line {line} or later); convert it") from error
    if rest:
        yield rest


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    """Group texts into batches of bounded size."""
    batch, size = [], 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if len(batch) == _TEXTS or size >= _CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@cache
def _load(model: str, precision: "Precision", decoding: "Decoding") -> "Tagger":
    from xner.tagger import Tagger

    return Tagger.from_pretrained(model, precision=precision, decoding=decoding)


def _tag_in_order(load: "Load", batches: Iterable[list[str]], processes: int) -> "Iterator[list[Tagged]]":
    """Tag batches of texts, each in one of some processes; results are in the order of the batches.

    Raises:
        RunError: If one of the processes is lost.
    """
    if processes == 1:
        yield from map(load(), batches)
        return
    threads = max(1, len(os.sched_getaffinity(0)) // processes) if hasattr(os, "sched_getaffinity") else 1
    # A forked process could not use a GPU, and would wait for threads that it does not have.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _begin_process, (threads,))
    waiting: deque[Future[list[Tagged]]] = deque()
    try:
        for batch in batches:
            waiting.append(pool.submit(_tag_batch, load, batch))
            # Two batches per process keep all of them busy, and the memory bounded.
            if len(waiting) == 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise RunError(
            f"one of the {processes} processes was killed, as where memory runs out; use fewer --processes, and "
            "--resume to go on where OUTPUT.resume is beside the output"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_process(threads: int) -> None:
    import torch

    end_with_parent()
    signal(SIGINT, SIG_IGN)  # the first process ends the others
    torch.set_num_threads(threads)


def _tag_batch(load: "Load", batch: list[str]) -> "list[Tagged]":
    return load()(batch)
