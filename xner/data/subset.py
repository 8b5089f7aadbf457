"""Choose which sentences of a training split to train on: a subset, k entities per type, or a published sample."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from xner.data.encode import Encoded
from xner.data.sources import Split
from xner.data.sources.lines import read_lines
from xner.errors import RunError, UserError, options_called

Int64 = npt.NDArray[np.int64]
Value = TypeVar("Value", int, str)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The options that choose training sentences, at most one of the first three per language; without any, all are.

    Attributes:
        num_samples: Number of sentences, of every language or by language; see ``subset``.
        shots: Number of entities per type, likewise; see ``k_shot``.
        sample_from: Path of a published sample, likewise; see ``read_sample``.
        shuffle_seed: Seed of the first shuffle.
        subset_seed: Seed of the second shuffle.
    """

    num_samples: int | Mapping[str, int | None] | None = None
    shots: int | Mapping[str, int | None] | None = None
    sample_from: str | Mapping[str, str | None] | None = None
    shuffle_seed: int = 0
    subset_seed: int = 42

    def check(self, languages: Sequence[str]) -> None:
        """Check the options that need no data.

        Args:
            languages: The languages that are trained on.

        Raises:
            UserError: If a seed is negative, or a language is not trained on or has two of the options.
        """
        for option in ("shuffle_seed", "subset_seed"):
            if (number := getattr(self, option)) < 0:
                raise UserError(f"data.{option}={number} is negative; use 0 or more")
        names = ("num_samples", "shots", "sample_from")
        for option in names:
            value = getattr(self, option)
            for language in value if isinstance(value, Mapping) else ():
                if language not in languages:
                    known = ", ".join(languages)
                    raise UserError(f"data.{option} names {language!r}, which is not in data.languages; use {known}")
        for language in languages:
            given = [name for name in names if _of(getattr(self, name), language) is not None]
            if len(given) > 1:
                raise UserError(f"data.{given[0]} and data.{given[1]} both choose sentences of {language}; use one")

    def draws_subset(self, language: str) -> bool:
        """Return whether the sentences of a language depend on ``subset_seed``."""
        return _of(self.num_samples, language) is not None or _of(self.shots, language) is not None

    def choose(self, split: Split, types: Sequence[str], encode: Callable[[Split], Encoded]) -> Int64:
        """Choose the training sentences of a split.

        Args:
            split: The split, whose language decides.
            types: The entity types.
            encode: Encodes a split.

        Returns:
            Their indices, in the order of the shuffles or of the published sample. *Shape:* (chosen,)

        Raises:
            UserError: If the split has fewer sentences or entities, or not those of the sample.
            RunError: If the sample cannot be read.
        """
        if (path := _of(self.sample_from, split.language)) is not None:
            return read_sample(path, split, encode)
        encoded, seeds = encode(split), {"shuffle_seed": self.shuffle_seed, "subset_seed": self.subset_seed}
        if (shots := _of(self.shots, split.language)) is not None:
            return k_shot(encoded.entities(len(types)), shots, types, **seeds, where=str(split))
        return subset(len(encoded), _of(self.num_samples, split.language), **seeds, where=str(split))


def _of(option: Value | Mapping[str, Value | None] | None, language: str) -> Value | None:
    """Return the value of an option for a language."""
    return option.get(language) if isinstance(option, Mapping) else option


def subset(
    sentences: int, num_samples: int | None, *, shuffle_seed: int = 0, subset_seed: int = 42, where: str = "the split"
) -> Int64:
    """Choose the training sentences of a split.

    The split is shuffled with the first seed; a few-shot subset is the beginning of a second shuffle. Both give the
    order of ``datasets.Dataset.shuffle``. Subsets are nested: a smaller one is the beginning of a larger one.

    Args:
        sentences: Number of sentences in the split.
        num_samples: Number of sentences to choose; ``None`` chooses all, without the second shuffle.
        shuffle_seed: Seed of the first shuffle.
        subset_seed: Seed of the second shuffle.
        where: The split's name in error messages.

    Returns:
        Indices of the chosen sentences. *Shape:* (num_samples,)

    Raises:
        UserError: If ``num_samples`` is not between 1 and ``sentences``.
    """
    order = np.random.default_rng(shuffle_seed).permutation(sentences)
    if num_samples is None:
        return order
    if not 1 <= num_samples <= sentences:
        problem = f"exceeds the {sentences} sentences of {where}" if num_samples > 0 else "is not a number of sentences"
        raise UserError(f"data.num_samples={num_samples} {problem}; use 1 to {sentences}, or null for all")
    return order[np.random.default_rng(subset_seed).permutation(sentences)][:num_samples]


def k_shot(
    counts: Int64,
    shots: int,
    types: Sequence[str],
    *,
    shuffle_seed: int = 0,
    subset_seed: int = 42,
    where: str = "the split",
) -> Int64:
    """Choose training sentences until each entity type has ``shots`` entities, by greedy sampling.

    As in Yang and Katiyar (2020, algorithm 1), types are served from the rarest to the most frequent, and the entities
    of all types in a chosen sentence count. One more entity per type is served at a time, so that samples are nested:
    that of fewer shots is the beginning of that of more.

    Args:
        counts: Number of entities of each type in each sentence. *Shape:* (sentences, types)
        shots: Number of entities per type.
        types: The entity types.
        shuffle_seed: Seed of the first shuffle.
        subset_seed: Seed of the second shuffle, whose order is that in which sentences are taken.
        where: The split's name in error messages.

    Returns:
        Indices of the chosen sentences. *Shape:* (chosen,)

    Raises:
        UserError: If ``shots`` is not positive, or a type has fewer entities.
    """
    totals = counts.sum(axis=0)
    rarest = int(totals.argmin())
    if not totals[rarest]:
        raise UserError(
            f"data.shots={shots} is not possible, because {where} has no entity of {types[rarest]}; use "
            "num_samples, or drop the type with data.map_types"
        )
    if not 1 <= shots <= totals[rarest]:
        fewest = f"exceeds the {totals[rarest]} entities of {types[rarest]} in {where}"
        problem = fewest if shots > 0 else "is not a number of entities"
        raise UserError(f"data.shots={shots} {problem}; use 1 to {totals[rarest]}, or drop types with data.map_types")
    order = subset(len(counts), len(counts), shuffle_seed=shuffle_seed, subset_seed=subset_seed)
    waiting = [iter(order[counts[order, each] > 0].tolist()) for each in range(len(types))]
    chosen: dict[int, None] = {}
    found = np.zeros(len(types), dtype=np.int64)
    for wanted in range(1, shots + 1):
        for each in np.argsort(totals, kind="stable"):
            while found[each] < wanted:
                sentence = next(waiting[each])
                if sentence not in chosen:
                    chosen[sentence] = None
                    found += counts[sentence]
    return np.fromiter(chosen, np.int64)


def read_sample(path: str, split: Split, encode: Callable[[Split], Encoded]) -> Int64:
    """Read which sentences of a split belong to a sample.

    Args:
        path: A file with the number of a sentence per line, from 0 and in the order of the source, or a folder whose
            ``<language>/train`` split has the sentences themselves.
        split: The split.
        encode: Encodes a split.

    Returns:
        Indices of the sentences, in the order of the sample. *Shape:* (chosen,)

    Raises:
        UserError: If the path does not exist, or a sentence is not in the split.
        RunError: If a line is not the number of a sentence.
    """
    if Path(path).is_dir():
        with options_called({"data.source": "data.sample_from"}):
            # The tags that are trained on are those of the source.
            sample = Split(path, split.language, "train", replace(split.options, tagged=False))
        return _by_words(sample, split, encode)
    if not Path(path).is_file():
        problem = "is not a file" if Path(path).exists() else "does not exist"
        raise UserError(f"data.sample_from={path!r} {problem}; use a file of sentence numbers, or a folder")
    count = len(encode(split))
    chosen: dict[int, int] = {}
    for line, text in enumerate(read_lines(Path(path)), start=1):
        if not text.strip():
            continue
        if not (text.strip().isascii() and text.strip().isdigit() and len(text) < 20 and int(text) < count):
            raise RunError(f"{path}, line {line}: {text[:40]!r} is not a sentence of {split}; use 0 to {count - 1}")
        if int(text) in chosen:
            raise RunError(f"{path}, line {line}: sentence {int(text)} is on line {chosen[int(text)]} as well")
        chosen[int(text)] = line
    if not chosen:
        raise RunError(f"{path} contains no sentence numbers; write one per line, from 0")
    return np.fromiter(chosen, np.int64)


def _by_words(sample: Split, split: Split, encode: Callable[[Split], Encoded]) -> Int64:
    """Find the sentences of a sample by their words; equal sentences are taken in the order of the split."""
    places: dict[int, list[int]] = {}
    for place, digest in reversed([*enumerate(encode(split).sentence_hash.tolist())]):
        places.setdefault(digest, []).append(place)
    chosen = []
    for number, digest in enumerate(encode(sample).sentence_hash.tolist()):
        if not places.get(digest):
            raise UserError(
                f"data.sample_from: sentence {number} (from 0) of {sample.where} is not in {split.where}; use a sample "
                "of this split"
            )
        chosen.append(places[digest].pop())
    return np.array(chosen)
