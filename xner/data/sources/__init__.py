"""Sources of sentences: data sets on the hub, a folder, or the sample in the package.

PAN-X is WikiANN (Pan et al. 2017) with the balanced splits of Rahimi et al. 2019, as XTREME uses it (Hu et al. 2020).

A file format is added in ``folder``, a data set on the hub in ``presets.yaml``, and another kind of source in
``locate``.
"""

import difflib
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from xner.data.sources.folder import READERS, SAMPLE, File, Folder
from xner.data.sources.hub import PREFIX, Hub, named_dataset, presets
from xner.data.sources.location import SPLITS, Location
from xner.data.sources.scheme import Conversion, Survey, TagCheck, survey
from xner.data.sources.sentences import (
    MOST_WORDS,
    ReadOptions,
    Row,
    Rows,
    Sentence,
    Sentences,
    content_of,
    escaped_words,
)
from xner.errors import RunError, UserError, quoted
from xner.files import cache_folder, is_name, write_atomically
from xner.tags import MOST_TYPES, TagSet

__all__ = [
    "READERS",
    "SAMPLE",
    "SPLITS",
    "ReadOptions",
    "Sentence",
    "Sentences",
    "Split",
    "content_of",
    "escaped_words",
    "locate",
    "splits_of",
    "tag_set_of",
]

logger = logging.getLogger(__name__)


def locate(source: str, language: str, options: ReadOptions) -> Location:
    """Find where a source has its sentences of a language.

    Raises:
        UserError: If there is no such source, or the language cannot be the name of a file.
    """
    # Files of caches, stages and predictions are named after it, those of several languages with + between them.
    if not is_name(language) or "+" in language:
        raise UserError(f"language {language!r} contains '+', or is not the name of a file; use a code such as 'tr'")
    if dataset := named_dataset(source):
        return Hub(dataset, language, options)
    if source != "sample" and Path(source).is_file():
        return File(source, options)
    if source != "sample" and (not source or not Path(source).is_dir()):
        names = ["panx", "sample", *(each for each in presets() if each != "panx")]
        near = difflib.get_close_matches(source, names, n=1)
        meant = f"did you mean {near[0]!r}? Use" if near else "use"
        wrong = "is not a folder" if os.path.lexists(source) else "does not exist"
        raise UserError(
            f"data.source={source!r} {wrong}; {meant} {', '.join(map(repr, names))}, {PREFIX}<id>, or a folder "
            "that contains <language>/train.tsv, validation.tsv and test.tsv (or .conll, .iob2, .txt, .csv, .jsonl, "
            ".parquet, save_to_disk)"
        )
    if options.language_configs:
        raise UserError(
            f"data.language_configs={dict(options.language_configs)} is not for data.source={source!r}; leave it out, "
            "or use it with a data set on the hub"
        )
    return Folder(source, language, options)


@dataclass(frozen=True)
class Split:
    """One split of one language of a source. Its file is located on construction and read on first use.

    Args:
        source: A preset such as ``panx``, ``hub:<id>``, ``sample`` (embedded), a folder with
            ``<language>/<split>.<suffix>`` or, where tags are not read, a file with all sentences of the split.
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
        # A wrong path is reported before any work.
        self._location.check(self._stored)

    def __str__(self) -> str:
        return f"{self.language}/{self.name}"

    @cached_property
    def _location(self) -> Location:
        return locate(self.source, self.language, self.options)

    @property
    def where(self) -> str:
        """The data set or file, for messages."""
        return self._location.where(self._stored)

    @property
    def is_file(self) -> bool:
        """Whether the source is a single file."""
        return isinstance(self._location, File)

    @property
    def carved(self) -> bool:
        """Whether the split is a part of the training sentences, because the language has no validation split."""
        if self.options.validation_fraction is None or self.name == "test":
            return False
        splits = self._location.splits()
        return "train" in splits and "validation" not in splits

    @property
    def _stored(self) -> str:
        """The name of the split that the source has its sentences in."""
        return "train" if self.carved else self.name

    @cached_property
    def _chosen(self) -> list[bool] | None:
        """Which sentences of the file belong to the split; ``None`` for all. *Length:* sentences."""
        if not self.carved:
            return None
        count = self.survey.sentences
        size = round(count * (self.options.validation_fraction or 0))
        if not 0 < size < count:
            raise UserError(
                f"data.validation_fraction={self.options.validation_fraction} of the {count} sentences of {self.where} "
                f"is {size}; use a fraction that leaves sentences in both parts"
            )
        import numpy as np  # here, because tools start without it

        validation = {*np.random.default_rng(self.options.shuffle_seed).permutation(count)[:size].tolist()}
        return [(number in validation) == (self.name == "validation") for number in range(count)]

    @cached_property
    def identity(self) -> str:
        """Compute a key that changes with the content and how it is read, without reading the sentences."""
        options = self.options if self.carved else replace(self.options, shuffle_seed=0)
        digest = hashlib.sha256(f"{self.language}\n{self.name}\n{options}\n".encode())
        for chunk in self._location.content(self._stored):
            digest.update(chunk)
        return digest.hexdigest()

    @cached_property
    def survey(self) -> Survey:
        """Find the scheme and the entity types of the file, by reading it or from the cache.

        Raises:
            RunError: If the hub or a file cannot be read, or contains something other than sentences with tags.
        """
        if self._location.known:
            return self._location.known
        path = cache_folder() / f"{self.language}-{self.name}-{self.identity[:24]}.json"
        try:
            content, checksum = path.read_text(encoding="utf-8").splitlines()
            if checksum == _checksum(content):
                stored = json.loads(content)
                return Survey(**{**stored, "types": tuple(stored["types"])})
        except (OSError, ValueError):  # not there, or damaged: the file is read
            pass
        types, sentences = self._checked()
        found = survey((tags for _, tags in sentences), types)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = json.dumps(asdict(found))
            write_atomically(path, f"{content}\n{_checksum(content)}\n")
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
        for number, row in enumerate(self._location.rows(self._stored).rows):
            if chosen is None or chosen[number]:
                yield row._replace(words=self._without_prefix(row.words))

    def _without_prefix(self, words: Sequence[object]) -> list[str]:
        """Remove the language, which the original archives write before each word, from strings."""
        prefix = f"{self.language}:"
        return [word.removeprefix(prefix) or word for word in words]  # type: ignore[attr-defined, misc]

    def _checked(self) -> tuple[Sequence[str] | None, Iterator[Sentence]]:
        """Open the file; return the types that it declares, and its sentences with their own tags, which are valid."""
        rows = self._location.rows(self._stored)
        return rows.types, self._check(rows)

    def _check(self, rows: Rows) -> Iterator[Sentence]:
        options, where = self.options, self.where
        types = self.types if self._location.known and options.types is None else options.types
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


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _problem(words: Sequence[object], tags: Sequence[object], options: ReadOptions) -> tuple[int, str] | None:
    """Return the index of the first word that is invalid and what is wrong with it; ``None`` where all are valid."""
    if len(words) != len(tags):
        names = options.column("tokens"), options.column("ner_tags")
        return 0, f"{len(words)} {names[0]} but {len(tags)} {names[1]}; give one tag per word"
    if not words:
        return 0, "the sentence is empty"
    if len(words) > MOST_WORDS:
        return 0, f"the sentence has {len(words):,} words, more than {MOST_WORDS:,}; split it into sentences"
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


def splits_of(source: str, language: str, options: ReadOptions) -> list[Split]:
    """Return all splits that a source has of a language.

    Raises:
        UserError: If it has none.
    """
    names = locate(source, language, options).splits() or SPLITS
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
    if not types and found:
        raise UserError(f"data.map_types drops all entity types of the data ({', '.join(found)}); keep one")
    if len(types) > MOST_TYPES:
        raise UserError(
            f"data.source={splits[0].source!r} has {len(types)} entity types, such as {', '.join(sorted(types)[:5])}; "
            f"merge or drop some with data.map_types, for {MOST_TYPES} are possible"
        )
    if not types:
        raise UserError(f"{splits[0].where} has no entities, and so no entity types; give them with data.types")
    return TagSet.of_types(types)
