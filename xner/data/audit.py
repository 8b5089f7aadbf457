"""Audit a corpus: repeated sentences, splits that overlap, inconsistent tags, and words that no model can read.

Every split is read sentence by sentence: once for the counts, which keep a few numbers per sentence and entity, and
once more, as far as necessary, for the examples.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xner.data.characters import fold_case, has_invisible, normalise_words
from xner.data.encode import offsets
from xner.data.encoded_cache import encode_split
from xner.data.hashes import as_hashes, hash_bytes
from xner.data.redirects import is_redirect
from xner.data.sources import Sentence, Split, tag_set_of
from xner.tags import PANX, TagSet, invalid_tags, spans

Int64 = npt.NDArray[np.int64]


class Kind(NamedTuple):
    """The unit of a finding's totals, and a description of its counts."""

    unit: str
    description: str


FINDINGS = {
    "duplicates": Kind("sentences", "sentences that repeat an earlier one of their split word for word"),
    "conflicting": Kind("sentences", "sentences that also occur in their split with other tags"),
    "redirects": Kind("sentences", "Wikipedia redirects: a keyword such as REDIRECT or YÖNLENDİRME, and a name"),
    "long": Kind("sentences", "sentences split into several windows of max_length subwords"),
    "overlap": Kind("sentences", "validation and test sentences that occur word for word in a training split"),
    "conflicting_overlap": Kind("sentences", "those of them that occur there with other tags only"),
    "near_overlap": Kind("sentences", "validation and test sentences in training, ignoring case, digits, punctuation"),
    "invisible": Kind("words", "words with invisible, control or private-use characters, or unusual spaces"),
    "no_pieces": Kind("words", "words without subwords, which are always predicted O"),
    "cut_words": Kind("words", "words longer than a window, of which only the first subwords are read"),
    "invalid_tags": Kind("words", "tags invalid under IOB2: an I- that continues no entity of its type"),
    "converted_tags": Kind("words", "tags of another scheme, converted to IOB2"),
    "seen_entities": Kind("entities", "validation and test entities that are one in training of their language"),
    "seen_any_case": Kind("entities", "the same, whatever the case of their letters"),
    "ambiguous": Kind("entities", "entities whose words are of several types in the splits of their language"),
    "ambiguous_strings": Kind("strings", "the different words of these, of those of all entities"),
}
"""All findings by name, in the order in which they are reported."""

OF_TOKENIZER = ("long", "no_pieces", "cut_words")
"""The findings that need a tokenizer."""

_TAGGED = ("conflicting", "conflicting_overlap", "invalid_tags")
"""The findings whose examples show tags."""


@dataclass(frozen=True)
class FindingExample:
    """An example of a finding.

    Attributes:
        sentence: The number of the sentence within its split, from 0; ``None`` where the example has many.
        text: Its words, or those that were found in it.
    """

    sentence: int | None
    text: str


@dataclass(frozen=True)
class Tally:
    """The count of a finding in one split, or in all splits of a language.

    Attributes:
        language: The language.
        split: The name of the split; ``None`` stands for all of the language.
        train_language: The language of the training split that it is compared with, if it is compared with one.
        count: Number of sentences, words, entities or strings that were found.
        total: Number of those that were examined.
        examples: The first ones; of entities seen in any case, first those that differ in case; of ambiguous entities,
            the most frequent.
    """

    language: str
    split: str | None
    train_language: str | None
    count: int
    total: int
    examples: tuple[FindingExample, ...] = ()


@dataclass(frozen=True)
class SplitSize:
    """The size of a split, and the scheme that its tags had before they were converted to IOB2."""

    language: str
    split: str
    scheme: str
    sentences: int
    words: int
    entities: int


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        splits: The splits that were read.
        findings: The tallies of each finding, in the order of ``FINDINGS``; without those that need a tokenizer if none
            was given.
    """

    splits: list[SplitSize]
    findings: dict[str, list[Tally]]

    def count(self, finding: str) -> int:
        """Sum the counts of a finding."""
        return sum(tally.count for tally in self.findings[finding])


def audit_splits(
    splits: Sequence[Split], *, tokenizer: str | None = None, max_length: int = 512, examples: int = 3
) -> Audit:
    """Read splits of a source, and count what is wrong with them or worth knowing before training.

    Args:
        splits: The splits, read with the same options; those of a language follow each other.
        tokenizer: Hub name or folder of a tokenizer, for the findings in ``OF_TOKENIZER``.
        max_length: Maximum number of pieces per window, special tokens included.
        examples: Number of examples of each tally.

    Raises:
        UserError: If the tokenizer cannot be loaded, or an option of reading does not fit the data.
        RunError: If a split cannot be read.
    """
    strings: dict[str, int] = {}
    types: dict[str, int] = {}
    contents = [_read(split, strings, types) for split in splits]
    # Without entities, every label is that of O, whatever the tag set.
    tag_set = tag_set_of(splits) if any(split.types for split in splits) else PANX
    folded = _fold(strings)
    trains = [each for each in contents if each.split.name == "train"]
    findings: dict[str, list[Tally]] = {
        name: [] for name in FINDINGS if tokenizer is not None or name not in OF_TOKENIZER
    }
    for each in contents:
        found = [*_within(each)]
        if tokenizer is not None:
            found += _encoding(each, tokenizer, max_length, tag_set)
        if each.split.name != "train":
            found += _against(each, trains, folded)
        for name, tally in _tallies(each, found, examples):
            findings[name].append(tally)
    for language in dict.fromkeys(split.language for split in splits):
        entities = np.concatenate([each.entities for each in contents if each.split.language == language])
        for name, tally in _ambiguous(language, entities, [*strings], [*types], examples):
            findings[name].append(tally)
    sizes = [SplitSize(each.split.language, each.split.name, each.split.survey.scheme, *each.size) for each in contents]
    return Audit(sizes, findings)


_ENTITY = np.dtype([(name, np.int64) for name in ("sentence", "first", "last", "string", "type")])
"""An entity: the number of its sentence, its first and last word, and the numbers of its words and of its type."""


@dataclass(frozen=True)
class _Contents:
    """The content of a split that is kept of its first reading.

    Attributes:
        split: The split.
        words_hash: A 64-bit hash of the words of each sentence. *Shape:* (sentences,)
        tagged_hash: A 64-bit hash of the words and tags of each sentence. *Shape:* (sentences,)
        normal_hash: A 64-bit hash of the words as ``normalise_words`` returns them. *Shape:* (sentences,)
        word_start: The first word of each sentence. *Shape:* (sentences + 1,)
        invisible: The words with invisible characters.
        redirects: The sentences that are redirects.
        invalid: The sentences with invalid tags.
        invalid_tags: Number of invalid tags.
        entities: The entities, as ``_ENTITY``.
    """

    split: Split
    words_hash: Int64
    tagged_hash: Int64
    normal_hash: Int64
    word_start: Int64
    invisible: Int64
    redirects: Int64
    invalid: Int64
    invalid_tags: int
    entities: npt.NDArray[np.void]

    @property
    def size(self) -> tuple[int, int, int]:
        """The numbers of sentences, words and entities."""
        return len(self.words_hash), int(self.word_start[-1]), len(self.entities)


def _read(split: Split, strings: dict[str, int], types: dict[str, int]) -> _Contents:
    """Read a split, and number its entities' words and types in ``strings`` and ``types``."""
    plain, tagged, normal = bytearray(), bytearray(), bytearray()
    lengths: list[int] = []
    invisible: list[int] = []
    redirects: list[int] = []
    invalid: list[int] = []
    entities: list[tuple[int, ...]] = []
    invalid_count = start = 0
    for number, sentence in enumerate(split.read()):
        words, tags = sentence
        plain += _hash(words)
        tagged += _hash(sentence)
        normal += _hash(normalise_words(words))
        lengths.append(len(words))
        if has_invisible("".join(words)):
            invisible += [start + index for index, word in enumerate(words) if has_invisible(word)]
        start += len(words)
        if count := invalid_tags(tags):
            invalid.append(number)
            invalid_count += count
        if is_redirect(sentence, split.language):
            redirects.append(number)
        for kind, first, last in spans(tags):
            string = strings.setdefault(" ".join(words[first : last + 1]), len(strings))
            entities.append((number, first, last, string, types.setdefault(kind, len(types))))
    return _Contents(
        split=split,
        words_hash=as_hashes([bytes(plain)]),
        tagged_hash=as_hashes([bytes(tagged)]),
        normal_hash=as_hashes([bytes(normal)]),
        word_start=offsets(lengths),
        invisible=np.array(invisible, np.int64),
        redirects=np.array(redirects, np.int64),
        invalid=np.array(invalid, np.int64),
        invalid_tags=invalid_count,
        entities=np.array(entities, _ENTITY),
    )


def _hash(content: object) -> bytes:
    """Compute a 64-bit hash of words, or of words and tags; their ``repr`` keeps the borders of words."""
    return hash_bytes(repr(content).encode())


@dataclass(frozen=True)
class _Found:
    """A finding in one split.

    Attributes:
        name: One of ``FINDINGS``.
        sentences: The sentences that were found, or those of the words or entities that were. *Shape:* (found,)
        words: The first and the last of their words to show; ``None`` shows all. *Shape:* (2, found)
        count: What is counted if it is not ``sentences``.
        train_language: As in ``Tally``.
    """

    name: str
    sentences: Int64
    words: Int64 | None = None
    count: int | None = None
    train_language: str | None = None


def _within(contents: _Contents) -> Iterator[_Found]:
    """Audit a split by itself."""
    _, first = np.unique(contents.words_hash, return_index=True)
    repeated = np.ones(len(contents.words_hash), dtype=np.bool_)
    repeated[first] = False
    yield _Found("duplicates", np.flatnonzero(repeated))
    _, different = np.unique(contents.tagged_hash, return_index=True)
    words, taggings = np.unique(contents.words_hash[different], return_counts=True)
    yield _Found("conflicting", np.flatnonzero(np.isin(contents.words_hash, words[taggings > 1])))
    yield _Found("redirects", contents.redirects)
    yield _found_words("invisible", contents, contents.invisible)
    yield _Found("invalid_tags", contents.invalid, count=contents.invalid_tags)
    yield _Found("converted_tags", np.empty(0, np.int64), count=contents.split.survey.converted)


def _encoding(contents: _Contents, tokenizer: str, max_length: int, tag_set: TagSet) -> Iterator[_Found]:
    """Audit what a tokenizer makes of a split."""
    encoded = encode_split(contents.split, tokenizer, max_length, tag_set)
    yield _Found("long", np.flatnonzero(np.diff(encoded.sentence_window) > 1))
    yield _found_words("no_pieces", contents, np.flatnonzero(encoded.word_piece < 0))
    yield _Found("cut_words", np.empty(0, np.int64), count=encoded.stats.cut_words)


def _against(contents: _Contents, trains: Iterable[_Contents], folded: Int64) -> Iterator[_Found]:
    """Compare an evaluation split with training splits; with those of other languages only where they overlap."""
    for train in trains:
        language = train.split.language
        own = language == contents.split.language
        overlap = np.isin(contents.words_hash, train.words_hash)
        if own or overlap.any():
            conflicting = overlap & ~np.isin(contents.tagged_hash, train.tagged_hash)
            for name, found in (("overlap", overlap), ("conflicting_overlap", conflicting)):
                yield _Found(name, np.flatnonzero(found), train_language=language)
        near = np.isin(contents.normal_hash, train.normal_hash)
        if own or near.any():
            yield _Found("near_overlap", np.flatnonzero(near), train_language=language)
        if own:
            string, known = contents.entities["string"], train.entities["string"]
            exact, any_case = np.isin(string, known), np.isin(folded[string], folded[known])
            both = np.concatenate([np.flatnonzero(any_case & ~exact), np.flatnonzero(exact)])
            for name, seen in (("seen_entities", np.flatnonzero(exact)), ("seen_any_case", both)):
                entities = contents.entities[seen]
                borders = np.stack([entities["first"], entities["last"]])
                yield _Found(name, entities["sentence"], borders, train_language=language)


def _found_words(name: str, contents: _Contents, words: Int64) -> _Found:
    """Report words of a split by their indices in it."""
    sentences = np.searchsorted(contents.word_start, words, side="right") - 1
    return _Found(name, sentences, np.stack([words - contents.word_start[sentences]] * 2))


def _tallies(contents: _Contents, found: Sequence[_Found], examples: int) -> Iterator[tuple[str, Tally]]:
    """Count findings in a split, and read it again for their first examples."""
    texts = _sentences(contents.split, {int(number) for each in found for number in each.sentences[:examples]})
    totals = dict(zip(("sentences", "words", "entities"), contents.size, strict=True))
    for each in found:
        shown = []
        for index, number in enumerate(each.sentences[:examples].tolist()):
            words, tags = texts[number]
            if each.name in _TAGGED:
                words = [word if tag == "O" else f"{word}/{tag}" for word, tag in zip(words, tags, strict=True)]
            first, last = (0, len(words)) if each.words is None else each.words[:, index].tolist()
            shown.append(FindingExample(number, " ".join(words[first : last + 1])))
        yield (
            each.name,
            Tally(
                language=contents.split.language,
                split=contents.split.name,
                train_language=each.train_language,
                count=len(each.sentences) if each.count is None else each.count,
                total=totals[FINDINGS[each.name].unit],
                examples=tuple(shown),
            ),
        )


def _sentences(split: Split, numbers: set[int]) -> dict[int, Sentence]:
    """Read some sentences of a split."""
    found: dict[int, Sentence] = {}
    if numbers:
        for number, sentence in enumerate(split.read()):
            if number in numbers:
                found[number] = sentence
                if len(found) == len(numbers):
                    break
    return found


def _fold(strings: Iterable[str]) -> Int64:
    """Number strings so that those which differ in case alone have one number."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(fold_case(string), len(numbers)) for string in strings], np.int64)


def _ambiguous(
    language: str, entities: npt.NDArray[np.void], strings: Sequence[str], types: Sequence[str], examples: int
) -> Iterator[tuple[str, Tally]]:
    """Find the strings that are entities of several types in a language."""
    pairs, counts = np.unique(entities[["string", "type"]], return_counts=True)
    several, kinds = np.unique(pairs["string"], return_counts=True)
    ambiguous = several[kinds > 1]
    found = np.isin(pairs["string"], ambiguous)
    by_string: dict[int, Counter[str]] = {}
    for (string, kind), count in zip(pairs[found].tolist(), counts[found].tolist(), strict=True):
        by_string.setdefault(string, Counter())[types[kind]] = count
    frequent = sorted(by_string.items(), key=lambda item: -item[1].total())[:examples]
    shown = tuple(
        FindingExample(
            None, f"{strings[string]}: {', '.join(f'{kind} {count}' for kind, count in kinds.most_common())}"
        )
        for string, kinds in frequent
    )
    yield "ambiguous", Tally(language, None, None, int(counts[found].sum()), len(entities), shown)
    yield "ambiguous_strings", Tally(language, None, None, len(ambiguous), len(several))
