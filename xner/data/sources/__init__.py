"""Sources of sentences: data sets on the hub, a folder, or the sample in the package.

PAN-X is WikiANN (Pan et al. 2017) with the balanced splits of Rahimi et al. 2019, as XTREME uses it (Hu et al. 2020).

To add a file format, write a module with a function like ``read_conll`` and add its suffix to ``READERS``.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from xner.data.sources.conll import read_conll, read_txt
from xner.data.sources.delimited import read_csv
from xner.data.sources.lines import read_chunks
from xner.data.sources.records import read_jsonl, read_parquet, read_saved, read_table
from xner.data.sources.scheme import Conversion, Survey, TagCheck, survey
from xner.data.sources.sentences import ReadOptions, Row, Rows, Sentence, Sentences, content_of
from xner.errors import RunError, UserError, did_you_mean, quoted
from xner.files import cache_folder, write_atomically
from xner.tags import PANX, TagSet

__all__ = [
    "READERS",
    "SAMPLE",
    "SPLITS",
    "ReadOptions",
    "Sentence",
    "Sentences",
    "Split",
    "content_of",
    "splits_of",
    "tag_set_of",
]

logger = logging.getLogger(__name__)

READERS: dict[str, Callable[[Path, ReadOptions], Rows]] = {
    ".tsv": read_conll,
    ".conll": read_conll,
    ".iob2": read_conll,
    ".iob": read_conll,
    ".bio": read_conll,
    ".txt": read_txt,
    ".csv": read_csv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
    "": read_saved,
}
"""The function that reads each format, given a path, by file suffix; a folder has none."""

HUB = "google/xtreme"
"""The data set on the hub; each language is a configuration ``PAN-X.<language>``."""

LANGUAGES = (
    "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw ta te th tl tr ur vi "
    "yo zh"
).split()
"""The 40 languages of PAN-X."""

SPLITS = ("train", "validation", "test")

_NAMES = {each: each for each in SPLITS} | dict.fromkeys(("dev", "valid", "val", "eval"), "validation")
"""The split by the name of its file."""

SAMPLE = Path(__file__).parents[1] / "sample"
"""The folder of the embedded sample."""


@dataclass(frozen=True)
class Split:
    """One split of one language of a source. Its file is located on construction and read on first use.

    Args:
        source: ``panx`` (the hub), ``sample`` (embedded), a folder with ``<language>/<split>.<suffix>`` or, where tags
            are not read, a file with all sentences of the split.
        language: A language code, such as ``tr``.
        name: ``train``, ``validation`` or ``test``.
        options: How the source is read.

    Raises:
        UserError: If the source, the language or the split does not exist.
    """

    source: str
    language: str
    name: str
    options: ReadOptions = field(default_factory=ReadOptions)

    def __post_init__(self) -> None:
        if self.source == "panx":
            _check_choice("language", self.language, LANGUAGES, "PAN-X")
            _check_choice("split", self.name, SPLITS, "PAN-X")
        else:
            self._path  # noqa: B018 - locates the file now, so that a wrong path is reported before any work

    def __str__(self) -> str:
        return f"{self.language}/{self.name}"

    @property
    def where(self) -> str:
        """The data set or file, for messages."""
        return f"{HUB} PAN-X.{self.language} {self.name}" if self.source == "panx" else str(self._path)

    @property
    def is_panx(self) -> bool:
        """Whether tags and types are known to be those of PAN-X."""
        return self.source in ("panx", "sample")

    @property
    def is_file(self) -> bool:
        """Whether the source is a single file."""
        return self.source not in ("panx", "sample") and Path(self.source).is_file()

    def _check_file(self) -> None:
        suffix = suffix_of(Path(self.source))
        if not suffix or suffix not in READERS:
            known = ", ".join(filter(None, READERS))
            raise UserError(f"data.source={self.source!r} is not a file of a known format; use {known}, or a folder")
        if self.options.tagged:
            raise UserError(
                f"data.source={self.source!r} is not a folder, and only predict can use a file; use a folder that "
                f"contains <language>/{self.name}{suffix}"
            )

    @cached_property
    def _path(self) -> Path:
        source = SAMPLE if self.source == "sample" else Path(self.source)
        if self.is_file:
            self._check_file()
            return source
        if not source.is_dir():
            raise UserError(
                f"data.source={self.source!r} is not a folder; use 'panx', 'sample', or a folder that contains "
                "<language>/train.tsv, validation.tsv, test.tsv (or .conll, .txt, .csv, .jsonl, .parquet, save_to_disk)"
            )
        languages = sorted(entry.name for entry in source.iterdir() if entry.is_dir() and _find_splits(entry))
        _check_choice("language", self.language, languages, f"data.source={self.source!r}")
        folder = source / self.language
        splits = _find_splits(folder)
        name = "train" if self._is_carved(splits) else self.name
        if name == "validation" and name not in splits:
            raise UserError(
                f"split 'validation' is not in {folder}; add validation.tsv (or dev, valid, val, eval), or take it "
                "from the training split with data.validation_fraction=0.1"
            )
        _check_choice("split", name, list(splits), str(folder))
        if len(splits[name]) > 1:
            names = ", ".join(path.name for path in splits[name])
            raise UserError(f"{folder} contains split {name!r} more than once ({names}); keep one")
        return splits[name][0]

    @property
    def carved(self) -> bool:
        """Whether the split is a part of the training sentences, because the language has no validation split."""
        return self.source != "panx" and not self.is_file and self._is_carved(_find_splits(self._path.parent))

    def _is_carved(self, splits: dict[str, list[Path]]) -> bool:
        asked = self.options.validation_fraction is not None and self.name in ("train", "validation")
        return asked and "validation" not in splits and "train" in splits

    @cached_property
    def _chosen(self) -> list[bool] | None:
        """Which sentences of the file belong to the split; ``None`` for all. *Length:* sentences."""
        if not self.carved:
            return None
        count = self.survey.sentences
        size = round(count * (self.options.validation_fraction or 0))
        if not 0 < size < count:
            raise UserError(
                f"data.validation_fraction={self.options.validation_fraction} of the {count} sentences of {self._path} "
                f"is {size}; use a fraction that leaves sentences in both parts"
            )
        import numpy as np  # here, because tools start without it

        validation = {*np.random.default_rng(self.options.shuffle_seed).permutation(count)[:size].tolist()}
        return [(number in validation) == (self.name == "validation") for number in range(count)]

    @cached_property
    def identity(self) -> str:
        """Compute a key that changes with the content and how it is read; files are hashed without being parsed."""
        if self.source == "panx":
            return self.sentences.digest
        # A split that is carved from another has that one's file.
        digest = hashlib.sha256(f"{self.language}\n{self.name}\n{self._path.name}\n{self.options}\n".encode())
        for file in sorted(self._path.rglob("*")) if self._path.is_dir() else [self._path]:
            if file.is_file():
                for chunk in read_chunks(file):
                    digest.update(chunk)
        return digest.hexdigest()

    @cached_property
    def survey(self) -> Survey:
        """Find the scheme and the entity types of the file, by reading it or from the cache.

        Raises:
            RunError: If the hub or a file cannot be read, or contains something other than sentences with tags.
        """
        if self.is_panx:
            return Survey("IOB2", PANX.types, 0, 0)
        path = cache_folder() / f"{self.language}-{self.name}-{self.identity[:24]}.json"
        try:
            content = json.loads(path.read_bytes())
            return Survey(content["scheme"], tuple(content["types"]), content["converted"], content["sentences"])
        except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged: the file is read
            pass
        types, sentences = self._checked()
        found = survey((tags for _, tags in sentences), types)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(asdict(found)))
        except OSError as error:
            logger.warning("%s cannot be cached in %s (%s)", self, path.parent, error.strerror)
        return found

    @property
    def types(self) -> list[str]:
        """The entity types of the split after ``map_types``, in the order in which it declares them, or sorted."""
        mapped = (self.options.map_types.get(each, each) for each in self.survey.types)
        return [each for each in dict.fromkeys(mapped) if each != "O"]

    @cached_property
    def sentences(self) -> Sentences:
        """Read all sentences of the split into memory; see ``read``."""
        return Sentences.of(self._read())

    def read(self) -> Iterator[Sentence]:
        """Read the sentences of the split one by one, in the order of the source, unless they are in memory.

        Raises:
            RunError: If the hub or a file cannot be read, or contains something other than sentences with tags.
        """
        return iter(self.sentences) if "sentences" in vars(self) else self._read()

    def _read(self) -> Iterator[Sentence]:
        _, sentences = self._checked()
        chosen = self._chosen
        # Without tags, every tag is O, which is the same in all schemes.
        convert = Conversion(self.survey.scheme if self.options.tagged else "IOB2", self.options.map_types)
        for number, (words, tags) in enumerate(sentences):
            if chosen is None or chosen[number]:
                yield Sentence(words, convert.sentence(tags))

    def rows(self) -> Iterator[Row]:
        """Read the split one by one as ``read`` does, but with the file's own tags, and an id where it has one.

        Only where tags are not read does a row have an id, and may it have tags of any kind.
        """
        chosen = self._chosen
        for number, row in enumerate(self._open().rows):
            if chosen is None or chosen[number]:
                yield row._replace(words=self._without_prefix(row.words))

    def _open(self) -> Rows:
        if self.source == "panx":
            return read_hub(self.language, self.name, self.options)
        return READERS[suffix_of(self._path)](self._path, self.options)

    def _without_prefix(self, words: Sequence[object]) -> list[str]:
        """Remove the language, which the original archives write before each word, from strings."""
        prefix = f"{self.language}:"
        return [word.removeprefix(prefix) or word for word in words]  # type: ignore[attr-defined, misc]

    def _checked(self) -> tuple[Sequence[str] | None, Iterator[Sentence]]:
        """Open the file; return the types that it declares, and its sentences with their own tags, which are valid."""
        rows = self._open()
        return rows.types, self._check(rows)

    def _check(self, rows: Rows) -> Iterator[Sentence]:
        options, where = self.options, self.where
        types = self.types if self.is_panx and options.types is None else options.types
        check = TagCheck(types, options.map_types)
        row = None
        for row in rows.rows:
            words, tags = row.words, row.tags
            if not options.tagged:
                tags = ["O"] * len(words)
            elif tags is None:
                raise RunError(f"{where}, {rows.unit} {row.place}: the sentence has no tags")
            if problem := _problem(words, tags, options) or check.first_problem(tags):
                index, text = problem
                raise RunError(f"{where}, {rows.unit} {row.place_of(index)}: {text}")
            yield Sentence(self._without_prefix(words), list(tags))  # type: ignore[arg-type] # strings
        if row is None:
            raise RunError(f"{where} contains no sentences")


def _problem(words: Sequence[object], tags: Sequence[object], options: ReadOptions) -> tuple[int, str] | None:
    """Return the index of the first word that is invalid and what is wrong with it; ``None`` where all are valid."""
    if len(words) != len(tags):
        names = options.column("tokens"), options.column("ner_tags")
        return 0, f"{len(words)} {names[0]} but {len(tags)} {names[1]}; give one tag per word"
    if not words:
        return 0, "the sentence is empty"
    for index, word in enumerate(words):
        if not isinstance(word, str) or not word:
            return index, "the word is empty" if word == "" else f"the word {quoted(word)} is not a string"
        if "\0" in word:
            return index, f"the word {quoted(word)} contains NUL; remove it"
        if not word.isascii():
            try:
                word.encode()
            except UnicodeEncodeError:
                return index, f"{quoted(word)} contains a lone surrogate, which UTF-8 cannot encode"
    return None


def read_hub(language: str, split: str, options: ReadOptions) -> Rows:
    """Download a split of PAN-X, or read it from the cache of ``datasets``."""
    import datasets
    import datasets.exceptions

    name = f"PAN-X.{language}"
    try:
        dataset = datasets.load_dataset(HUB, name, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(
            f"{HUB} {name} cannot be loaded from the Hugging Face Hub ({reason}); without network access, use a local "
            "copy with --data.source FOLDER (FOLDER/<language>/train.tsv, validation.tsv, test.tsv)"
        ) from error
    return read_table(dataset, f"{HUB} {name} {split}", options)


def splits_of(source: str, language: str, options: ReadOptions) -> list[Split]:
    """Return all splits that a source has of a language.

    Raises:
        UserError: If it has none.
    """
    names: Sequence[str] = SPLITS
    if source != "panx":
        folder = (SAMPLE if source == "sample" else Path(source)) / language
        names = tuple(name for name in SPLITS if name in _find_splits(folder)) or SPLITS
    return [Split(source, language, name, options) for name in names]


def tag_set_of(splits: Sequence[Split]) -> TagSet:
    """Return the tag set that some splits of a source share: ``data.types``, or all entity types that they have.

    Args:
        splits: The splits, read with the same options.

    Raises:
        UserError: If they have no types, or ``data.map_types`` names a type that none has.
    """
    options = splits[0].options
    if options.types is not None and not options.map_types:
        return TagSet(options.types)
    found = dict.fromkeys(each for split in splits for each in split.survey.types)
    if unknown := [each for each in options.map_types if each not in found]:
        known = f"only {', '.join(found)}" if found else "no types"
        raise UserError(f"data.map_types names {unknown[0]!r}, but the data has {known}; use its own names")
    if options.types is not None:
        return TagSet(options.types)
    types = {each for split in splits for each in split.types}
    if not types:
        raise UserError(f"{splits[0].where} has no entities, and so no entity types; give them with data.types")
    return TagSet.of_types(types)


def suffix_of(path: Path) -> str:
    """Return the suffix that names a file's format, without that of compression; a folder has none."""
    return "" if path.is_dir() else Path(path.name.removesuffix(".gz")).suffix


def _check_choice(option: str, value: str, choices: Sequence[str], where: str) -> None:
    if value not in choices:
        raise UserError(f"{option} {value!r} is not in {where}; {did_you_mean(value, choices)}")


def _find_splits(folder: Path) -> dict[str, list[Path]]:
    """Find the files of each split in the folder of a language; more than one if they are of several formats."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        suffix = suffix_of(path)
        readable = (path / "state.json").is_file() if path.is_dir() else suffix and suffix in READERS
        name = _NAMES.get(path.name.removesuffix(".gz").removesuffix(suffix))
        if name and readable:
            found.setdefault(name, []).append(path)
    return found
