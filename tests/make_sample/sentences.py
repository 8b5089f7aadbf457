"""Generate the sentences of the embedded sample: ``python -m tests.make_sample.sentences``.

English and Turkish sentences in the style of PAN-X (Pan et al. 2017): sentences, redirects, titles and list items, as
words with tags in IOB2. They are generated from the word lists and templates of this package, so they are invented and
state nothing about the world. Every run writes the same bytes.

Every eighth name of a list is left out of the training sentences, so that validation and test contain unseen names.
"""

import random
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.make_sample import templates, turkish
from xner.data.sources import SAMPLE

SIZES = {"train": 600, "validation": 150, "test": 150}
"""Sentences per split and language."""

SEED = 2024
SLOT = re.compile(r"\{(\w+)(?::(\w+))?\}")


class Sentence(NamedTuple):
    """Words and the tag of each."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


class Language(NamedTuple):
    """The grammar of one language; the patterns are in the order of ``WEIGHTS``."""

    kinds: templates.Kinds
    patterns: tuple[tuple[str, ...], ...]
    country_of: dict[str, str]


WEIGHTS = (0.64, 0.13, 0.12, 0.11)
"""The fractions of sentences, redirects, titles and list items in the sample."""

LANGUAGES = {
    "en": Language(
        templates.ENGLISH_KINDS,
        (
            templates.ENGLISH_SENTENCES,
            templates.ENGLISH_REDIRECTS,
            templates.ENGLISH_TITLES,
            templates.ENGLISH_ITEMS,
        ),
        templates.ENGLISH_COUNTRY_OF,
    ),
    "tr": Language(
        templates.TURKISH_KINDS,
        (
            templates.TURKISH_SENTENCES,
            templates.TURKISH_REDIRECTS,
            templates.TURKISH_TITLES,
            templates.TURKISH_ITEMS,
        ),
        templates.TURKISH_COUNTRY_OF,
    ),
}


def unseen_names(language: str) -> frozenset[str]:
    """List the names of a language that do not occur in its training sentences.

    >>> "Ankara" in unseen_names("en"), "Ankara" in unseen_names("tr")
    (True, True)
    """
    kinds = LANGUAGES[language].kinds
    return frozenset(name for kind in templates.NAME_LISTS for name in kinds[kind][::8] if "{" not in name)


class Grammar:
    """Generate random sentences of one language.

    Args:
        language: ``en`` or ``tr``.
        draw: Random number generator.
        without: Names to leave out.
    """

    def __init__(self, language: str, draw: random.Random, without: frozenset[str] = frozenset()) -> None:
        self.language = LANGUAGES[language]
        self.draw = draw
        self.kinds = {
            kind: tuple(entry for entry in entries if entry not in without)
            for kind, entries in self.language.kinds.items()
        }

    def sentence(self) -> Sentence:
        """Generate a sentence."""
        (patterns,) = self.draw.choices(self.language.patterns, WEIGHTS)
        words: list[str] = []
        tags: list[str] = []
        self.city = ""
        self.drawn: set[str] = set()
        for part in self.draw.choice(patterns).split():
            slot = SLOT.fullmatch(part)
            if slot is None:
                words.append(part)
                tags.append("O")
                continue
            kind, case = slot.groups()
            type_ = templates.ENTITY_TYPES.get(kind)
            found = self.expand(kind).split()
            if case is not None:
                apostrophe = "'" if type_ or kind == "year" else ""
                found[-1] += apostrophe + turkish.suffix(found[-1], case)
            words += found
            tags += ["O"] * len(found) if type_ is None else [f"B-{type_}"] + [f"I-{type_}"] * (len(found) - 1)
        words[0] = self.capital(words[0])
        return Sentence(tuple(words), tuple(tags))

    def expand(self, kind: str) -> str:
        """Choose an entry of a kind that the sentence does not contain yet, and expand the slots in it."""
        if kind == "its_country":
            return self.language.country_of[self.city]
        entry = self.draw.choice([entry for entry in self.kinds[kind] if entry not in self.drawn])
        if "{" not in entry:
            self.drawn.add(entry)
        if kind == "city":
            self.city = entry
        return SLOT.sub(lambda slot: self.expand(slot[1]), entry)

    @staticmethod
    def capital(word: str) -> str:
        """Capitalize a word by the Turkish rule for ``i``, with which no English template begins."""
        return ("İ" if word[0] == "i" else word[0].upper()) + word[1:]


def stream(language: str, seed: int, without: frozenset[str] = frozenset()) -> Iterator[Sentence]:
    """Generate an endless stream of different sentences of a language.

    Args:
        language: ``en`` or ``tr``.
        seed: Random seed.
        without: Names to leave out.
    """
    grammar = Grammar(language, random.Random(f"{language}-{seed}"), without)
    seen: set[tuple[str, ...]] = set()
    while True:
        sentence = grammar.sentence()
        if sentence.words not in seen:
            seen.add(sentence.words)
            yield sentence


def splits(language: str) -> dict[str, list[Sentence]]:
    """Generate the three splits of a language; no two of their sentences have the same words."""
    made: dict[str, list[Sentence]] = {}
    seen: set[tuple[str, ...]] = set()
    for number, (split, size) in enumerate(SIZES.items()):
        without = unseen_names(language) if split == "train" else frozenset()
        fresh = (sentence for sentence in stream(language, SEED + number, without) if sentence.words not in seen)
        made[split] = [next(fresh) for _ in range(size)]
        seen.update(sentence.words for sentence in made[split])
    return made


def as_tsv(sentences: Sequence[Sentence]) -> str:
    r"""Format sentences as lines of word, tab and tag, with a blank line between sentences.

    >>> as_tsv([Sentence(("Paris",), ("B-LOC",)), Sentence(("See", "Rome"), ("O", "B-LOC"))])
    'Paris\tB-LOC\n\nSee\tO\nRome\tB-LOC\n'
    """
    return "\n".join(
        "".join(f"{word}\t{tag}\n" for word, tag in zip(sentence.words, sentence.tags, strict=True))
        for sentence in sentences
    )


def main() -> None:
    """Write ``<language>/<split>.tsv`` of the sample into the package."""
    for language in LANGUAGES:
        for split, sentences in splits(language).items():
            path = SAMPLE / language / f"{split}.tsv"
            path.parent.mkdir(exist_ok=True)
            path.write_text(as_tsv(sentences), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
