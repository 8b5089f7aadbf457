"""Make the sentences of the embedded sample: ``python -m tests.make_sample.sentences``.

English and Turkish sentences in the style of PAN-X (Pan et al. 2017): sentences, redirects, titles and list items, cut
into words, with tags in IOB2. They are drawn from the word lists and templates beside this file, so they are made up
and state nothing about the world. Every run writes the same bytes.

Every eighth name of a list is kept out of the training sentences, so that validation and test hold unseen names too.
"""

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.make_sample import templates, turkish

FOLDER = Path(__file__).parent
SIZES = {"train": 600, "validation": 150, "test": 150}
"""Sentences a language."""

SEED = 2024
SLOT = re.compile(r"\{(\w+)(?::(\w+))?\}")


class Sentence(NamedTuple):
    """Words and a tag for each."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


class Language(NamedTuple):
    """What the sentences of one language are drawn from; patterns in the order of ``SHARES``."""

    kinds: templates.Kinds
    patterns: tuple[tuple[str, ...], ...]
    country_of: dict[str, str]


SHARES = (0.64, 0.13, 0.12, 0.11)
"""How much of the sample are sentences, redirects, titles and list items."""

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
    """List the names of a language that no training sentence draws.

    >>> "Ankara" in unseen_names("en"), "Ankara" in unseen_names("tr")
    (True, True)
    """
    kinds = LANGUAGES[language].kinds
    return frozenset(name for kind in templates.NAME_LISTS for name in kinds[kind][::8] if "{" not in name)


class Grammar:
    """Draws sentences of one language.

    Args:
        language: ``en`` or ``tr``.
        draw: The source of chance.
        without: Names that are not drawn.
    """

    def __init__(self, language: str, draw: random.Random, without: frozenset[str] = frozenset()) -> None:
        self.language = LANGUAGES[language]
        self.draw = draw
        self.kinds = {
            kind: tuple(entry for entry in entries if entry not in without)
            for kind, entries in self.language.kinds.items()
        }

    def sentence(self) -> Sentence:
        """Draw a sentence."""
        (patterns,) = self.draw.choices(self.language.patterns, SHARES)
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
        """Draw an entry of a kind that the sentence does not hold yet, and of the kinds it asks for."""
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
        """Write a word with a capital letter, the Turkish way for ``i``, which no English template begins with."""
        return ("İ" if word[0] == "i" else word[0].upper()) + word[1:]


def stream(language: str, seed: int, without: frozenset[str] = frozenset()) -> Iterator[Sentence]:
    """Draw sentences of a language without end, no two alike.

    Args:
        language: ``en`` or ``tr``.
        seed: The same seed gives the same sentences.
        without: Names that are not drawn.
    """
    grammar = Grammar(language, random.Random(f"{language}-{seed}"), without)
    seen: set[tuple[str, ...]] = set()
    while True:
        sentence = grammar.sentence()
        if sentence.words not in seen:
            seen.add(sentence.words)
            yield sentence


def splits(language: str) -> dict[str, list[Sentence]]:
    """Make the three splits of a language; no two of their sentences have the same words."""
    made: dict[str, list[Sentence]] = {}
    seen: set[tuple[str, ...]] = set()
    for number, (split, size) in enumerate(SIZES.items()):
        without = unseen_names(language) if split == "train" else frozenset()
        fresh = (sentence for sentence in stream(language, SEED + number, without) if sentence.words not in seen)
        made[split] = [next(fresh) for _ in range(size)]
        seen.update(sentence.words for sentence in made[split])
    return made


def as_tsv(sentences: Sequence[Sentence]) -> str:
    r"""Write sentences as a word, a tab and a tag a line, with a blank line between sentences.

    >>> as_tsv([Sentence(("Paris",), ("B-LOC",)), Sentence(("See", "Rome"), ("O", "B-LOC"))])
    'Paris\tB-LOC\n\nSee\tO\nRome\tB-LOC\n'
    """
    return "\n".join(
        "".join(f"{word}\t{tag}\n" for word, tag in zip(sentence.words, sentence.tags, strict=True))
        for sentence in sentences
    )


def main() -> None:
    """Write ``<language>/<split>.tsv`` beside this file."""
    for language in LANGUAGES:
        for split, sentences in splits(language).items():
            path = FOLDER / language / f"{split}.tsv"
            path.parent.mkdir(exist_ok=True)
            path.write_text(as_tsv(sentences), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
