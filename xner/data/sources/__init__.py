"""Where sentences come from: the hub's PAN-X, a folder, or the embedded sample.

PAN-X is WikiANN (Pan et al. 2017) with the balanced splits of Rahimi et al. 2019, as XTREME uses it (Hu et al. 2020).
Only this module knows the formats of the sources.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from xner.errors import RunError, UserError
from xner.tags import LABELS, TAGS, invalid_tags

HUB = "google/xtreme"
"""The hub's data set; a language is its configuration ``PAN-X.<language>``."""

LANGUAGES = (
    "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw ta te th tl tr ur vi "
    "yo zh"
).split()
"""PAN-X's 40 languages."""

SPLITS = ("train", "validation", "test")

SAMPLE = Path(__file__).parents[1] / "sample"

_SURROGATE = re.compile("[\ud800-\udfff]")
"""What JSON may hold as half of an escaped pair."""


@dataclass(frozen=True)
class Sentences:
    """The sentences of one split, checked: as many tags as words, all known, no sentence empty.

    Attributes:
        words: Each sentence's words.
        tags: Each sentence's tags.
    """

    words: list[list[str]]
    tags: list[list[str]]

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def digest(self) -> str:
        """A SHA-256 of words and tags that is the same whatever the format they were read from."""
        digest = hashlib.sha256()
        for words, tags in zip(self.words, self.tags, strict=True):
            digest.update("".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True)).encode())
            digest.update(b"\n")
        return digest.hexdigest()

    @cached_property
    def invalid_tags(self) -> int:
        """How many tags IOB2 forbids (an ``I-`` that continues no span of its type); they are kept as they are."""
        return sum(map(invalid_tags, self.tags))


@dataclass(frozen=True)
class Split:
    """One split of one language at one source; found when made, read when asked for.

    Args:
        source: ``panx`` (the hub), ``sample`` (embedded), or a folder ``<folder>/<language>/<split>.<format>``.
        language: A language code, as ``tr``.
        name: ``train``, ``validation`` or ``test``.

    Raises:
        UserError: If there is no such source, language or split.
    """

    source: str
    language: str
    name: str

    def __post_init__(self) -> None:
        if self.source == "panx":
            _check_choice("language", self.language, LANGUAGES, "PAN-X")
            _check_choice("split", self.name, SPLITS, "PAN-X")
        else:
            self._path  # noqa: B018 - looks for the file now, so that a wrong path is said before any work

    def __str__(self) -> str:
        return f"{self.language}/{self.name}"

    @cached_property
    def _path(self) -> Path:
        folder = SAMPLE if self.source == "sample" else Path(self.source)
        if not folder.is_dir():
            raise UserError(
                f"data.source={self.source!r} is not a folder; use 'panx', 'sample', or a folder that holds "
                "<language>/train.tsv, validation.tsv and test.tsv (or .conll, .txt, .jsonl, .parquet, save_to_disk)"
            )
        languages = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and _splits(entry))
        _check_choice("language", self.language, languages, f"data.source={self.source!r}")
        splits = _splits(folder / self.language)
        _check_choice("split", self.name, list(splits), str(folder / self.language))
        if len(splits[self.name]) > 1:
            names = ", ".join(path.name for path in splits[self.name])
            raise UserError(f"{folder / self.language} holds split {self.name!r} more than once ({names}): keep one")
        return splits[self.name][0]

    @cached_property
    def identity(self) -> str:
        """A key that changes when the content does, found without parsing where that is possible."""
        if self.source == "panx":
            return self.sentences.digest
        digest = hashlib.sha256(f"{self.language}\n{self._path.name}\n".encode())
        files = sorted(self._path.rglob("*")) if self._path.is_dir() else [self._path]
        for file in files:
            if file.is_file():
                digest.update(_read_bytes(file))
        return digest.hexdigest()

    @cached_property
    def sentences(self) -> Sentences:
        """The split's sentences, in the order of the source.

        Raises:
            RunError: If the hub cannot be reached, or what is there is no list of sentences with PAN-X's tags.
        """
        if self.source == "panx":
            where, sentences = f"{HUB} PAN-X.{self.language} {self.name}", _read_hub(self.language, self.name)
        else:
            reader = _READERS[self._path.suffix]
            where, sentences = str(self._path), reader(self._path, self.language)
        if not len(sentences):
            raise RunError(f"{where} holds no sentence")
        return sentences


def suggestion(value: str, choices: Sequence[str]) -> str:
    """What to try instead of a value that is not among the choices.

    >>> suggestion("tur", ["en", "tr"])
    "did you mean 'tr'? There are en, tr"
    """
    near = [repr(choice) for choice in difflib.get_close_matches(value, choices, n=3, cutoff=0.4)]
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    there = f"There are {', '.join(choices)}" if choices else "There are none"
    return guess + there


def _check_choice(option: str, value: str, choices: Sequence[str], where: str) -> None:
    if value not in choices:
        raise UserError(f"{option} {value!r} is not in {where}: {suggestion(value, choices)}")


def _splits(folder: Path) -> dict[str, list[Path]]:
    """Each split that a language's folder holds, in however many formats."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        whole = (path / "state.json").is_file() if path.is_dir() else path.suffix in _READERS and bool(path.suffix)
        if path.stem in SPLITS and whole:
            found.setdefault(path.stem, []).append(path)
    return found


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error


def _read_text(path: Path) -> str:
    try:
        return _read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is not UTF-8 (byte {error.start}): convert it") from error


def _read_tsv(path: Path, language: str) -> Sentences:
    words: list[list[str]] = [[]]
    tags: list[list[str]] = [[]]
    # str.splitlines would cut at U+2028 and the like, which a word may hold.
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line or line == "\r":
            if words[-1]:
                words.append([])
                tags.append([])
            continue
        word, tab, tag = line.partition("\t")
        tag = tag.removesuffix("\r")
        if tag not in LABELS or not word:
            fields = line.count("\t") + 1
            if not tab or fields != 2:
                problem = f"{fields} field{'s' if fields > 1 else ''} where word, tab, tag are due"
            else:
                problem = f"unknown tag {tag!r}: use {', '.join(TAGS)}" if word else "an empty word"
            raise RunError(f"{path}, line {number}: {problem}")
        words[-1].append(_without_prefix(word, language))
        tags[-1].append(tag)
    if not words[-1]:
        words.pop()
        tags.pop()
    return Sentences(words, tags)


def _without_prefix(word: str, language: str) -> str:
    """Take off the language code that the original archives write before each word, as in ``tr:Ankara``."""
    return word.removeprefix(f"{language}:") or word


def _checked(rows: Iterable[tuple[str, Any, Any]], language: str, names: Sequence[str] = TAGS) -> Sentences:
    """Check sentences that come as rows (where, words, tags); integer tags are looked up in ``names``."""
    sentences = Sentences([], [])
    for where, words, tags in rows:
        if not isinstance(words, list) or not isinstance(tags, list):
            raise RunError(f"{where}: tokens and ner_tags must be lists")
        if len(words) != len(tags):
            raise RunError(f"{where}: {len(words)} tokens but {len(tags)} ner_tags: give one tag a word")
        if not words:
            raise RunError(f"{where}: an empty sentence")
        if not all(isinstance(word, str) and word for word in words):
            raise RunError(f"{where}: each of tokens must be a string that is not empty")
        if halves := [word for word in words if not word.isascii() and _SURROGATE.search(word)]:
            raise RunError(f"{where}: {halves[0]!a} holds half a character, which UTF-8 cannot write")
        named = [
            names[tag] if isinstance(tag, int) and not isinstance(tag, bool) and 0 <= tag < len(names) else tag
            for tag in tags
        ]
        unknown = [tag for tag in named if not isinstance(tag, str) or tag not in LABELS]
        if unknown:
            raise RunError(f"{where}: unknown tag {unknown[0]!r}: use {', '.join(TAGS)} or 0 to {len(names) - 1}")
        sentences.words.append([_without_prefix(word, language) for word in words])
        sentences.tags.append(named)
    return sentences


def _read_jsonl(path: Path, language: str) -> Sentences:
    def rows() -> Iterable[tuple[str, Any, Any]]:
        for number, line in enumerate(_read_text(path).split("\n"), start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                row = json.loads(line)
                yield where, row["tokens"], row["ner_tags"]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise RunError(
                    f'{where}: not of the form {{"tokens": [...], "ner_tags": [...]}} ({error!r})'
                ) from error

    return _checked(rows(), language)


def _from_table(dataset: Any, where: str, language: str) -> Sentences:  # noqa: ANN401 - datasets ships no types
    """Read a ``datasets.Dataset`` with the columns ``tokens`` and ``ner_tags``."""
    if missing := {"tokens", "ner_tags"} - set(dataset.column_names):
        raise RunError(f"{where} has no column {sorted(missing)[0]!r}: it has {', '.join(dataset.column_names)}")
    feature = getattr(dataset.features["ner_tags"], "feature", None)
    names: Sequence[str] = getattr(feature, "names", None) or TAGS
    # A column is lazy; [:] reads it once.
    columns = zip(dataset["tokens"][:], dataset["ner_tags"][:], strict=True)
    return _checked(((f"{where}, row {row}", *pair) for row, pair in enumerate(columns)), language, names)


def _read_parquet(path: Path, language: str) -> Sentences:
    import datasets
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise RunError(f"{path} is no parquet file: {error}") from error
    return _from_table(datasets.Dataset(table), str(path), language)


def _read_saved(path: Path, language: str) -> Sentences:
    import datasets

    try:
        dataset = datasets.load_from_disk(str(path))
    except IndexError:  # datasets 5.2 saves a set without rows, but cannot load it
        return Sentences([], [])
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path} is no folder of datasets' save_to_disk: {error}") from error
    return _from_table(dataset, str(path), language)


def _read_hub(language: str, split: str) -> Sentences:
    import datasets
    import datasets.exceptions

    name = f"PAN-X.{language}"
    try:
        dataset = datasets.load_dataset(HUB, name, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(
            f"{HUB} {name} cannot be had from the hub ({reason}): where there is no network, give a folder of "
            "PAN-X with --data.source FOLDER (FOLDER/<language>/train.tsv, validation.tsv, test.tsv)"
        ) from error
    return _from_table(dataset, f"{HUB} {name} {split}", language)


_READERS: dict[str, Callable[[Path, str], Sentences]] = {
    ".tsv": _read_tsv,
    ".conll": _read_tsv,
    ".txt": _read_tsv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    "": _read_saved,
}
