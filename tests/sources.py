"""Write sentences in every format of a source."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xner.data.sources import Sentences
from xner.tags import PANX

HUB_TAGS = ["B-ORG", "O", "I-LOC", "B-PER", "I-PER", "I-ORG", "B-LOC"]
"""The tags in another order than in xner, so that integers have another meaning."""

WORDS = {
    "en": "the of in Paris Obama Google river club Smith visited London University and".split(),
    "tr": "ve bir Ankara Atatürk nehri Fenerbahçe'nin Ayşe geldi kulübü İstanbul'da Üniversitesi ile".split(),
}


def random_sentences(language: str, number: int, *, seed: int = 0) -> Sentences:
    """Generate sentences of one to eight words, in which capitalized words are entities."""
    draw = random.Random(f"{language} {seed}")
    words = [draw.choices(WORDS.get(language, WORDS["en"]), k=draw.randint(1, 8)) for _ in range(number)]
    kinds = ("PER", "ORG", "LOC")
    tags = [[f"B-{kinds[len(word) % 3]}" if word[0].isupper() else "O" for word in sentence] for sentence in words]
    return Sentences(words, tags)


def as_tsv(sentences: Sentences) -> str:
    """Format sentences as lines of word, tab and tag, with a blank line after each sentence."""
    return "".join(
        "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True)) + "\n"
        for words, tags in zip(sentences.words, sentences.tags, strict=True)
    )


def as_rows(sentences: Sentences, label: Callable[[str], Any] = str) -> list[dict[str, Any]]:
    """Convert each sentence into a row, with ``label`` applied to each tag."""
    return [
        {"tokens": words, "ner_tags": [label(tag) for tag in tags]}
        for words, tags in zip(sentences.words, sentences.tags, strict=True)
    ]


def as_jsonl(rows: Sequence[Any]) -> str:
    """Format each row as one line of JSON."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_dataset(sentences: Sentences, names: Sequence[str] | None = None) -> Any:  # noqa: ANN401 - datasets ships no types
    """Convert sentences into a ``datasets.Dataset``; with names, the tags are integers of that class label."""
    import datasets

    string = datasets.Value("string")
    tag = datasets.ClassLabel(names=list(names)) if names else string
    features = datasets.Features({"tokens": datasets.Sequence(string), "ner_tags": datasets.Sequence(tag)})
    rows = as_rows(sentences, list(names).index if names else str)
    columns = {name: [row[name] for row in rows] for name in features}
    return datasets.Dataset.from_dict(columns, features=features)


def _write_text(suffix: str, text: Callable[[Sentences], str]) -> Callable[[Path, str, Sentences], None]:
    def write(folder: Path, split: str, sentences: Sentences) -> None:
        (folder / f"{split}{suffix}").write_bytes(text(sentences).encode())

    return write


def _write_parquet(sentences: Sentences, path: Path, label: Callable[[str], Any]) -> None:
    import pyarrow
    import pyarrow.parquet

    tag = pyarrow.int64() if label("O") == 0 else pyarrow.string()
    schema = pyarrow.schema({"tokens": pyarrow.list_(pyarrow.string()), "ner_tags": pyarrow.list_(tag)})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(as_rows(sentences, label), schema), path)


FORMATS: dict[str, Callable[[Path, str, Sentences], None]] = {
    "tsv": _write_text(".tsv", as_tsv),
    "conll": _write_text(".conll", as_tsv),
    "txt": _write_text(".txt", as_tsv),
    "jsonl of strings": _write_text(".jsonl", lambda sentences: as_jsonl(as_rows(sentences))),
    "parquet of strings": lambda folder, split, sentences: _write_parquet(sentences, folder / f"{split}.parquet", str),
    "parquet of datasets": lambda folder, split, sentences: as_dataset(sentences, HUB_TAGS).to_parquet(
        folder / f"{split}.parquet"
    ),
    "save_to_disk of strings": lambda folder, split, sentences: as_dataset(sentences).save_to_disk(folder / split),
    "save_to_disk of a class label": lambda folder, split, sentences: as_dataset(sentences, HUB_TAGS).save_to_disk(
        folder / split
    ),
}
"""The function that writes a split into the folder of a language, by the name of the format."""


def write_source(folder: Path, sizes: dict[str, int], languages: Sequence[str] = ("en", "tr")) -> Path:
    """Create a folder source of random sentences.

    Args:
        folder: The folder of the source.
        sizes: The number of sentences of each split.
        languages: The languages of the source.
    """
    for language in languages:
        (folder / language).mkdir(parents=True)
        for seed, (split, size) in enumerate(sizes.items()):
            FORMATS["tsv"](folder / language, split, random_sentences(language, size, seed=seed))
    return folder


def write_hub(folder: Path, language: str, splits: dict[str, Sentences]) -> Path:
    """Write a language in the layout of ``google/xtreme`` on the hub: Parquet files, listed in a README."""
    import datasets

    config = folder / f"PAN-X.{language}"
    config.mkdir(parents=True)
    files = []
    for split, sentences in splits.items():
        table = as_dataset(sentences, PANX.tags)
        prefixed = [[f"{language}:{word}" for word in words] for words in sentences.words]
        features = table.features
        rows = {
            "tokens": prefixed,
            "ner_tags": table["ner_tags"][:],
            "langs": [[language] * len(words) for words in prefixed],
        }
        features["langs"] = datasets.Sequence(datasets.Value("string"))
        datasets.Dataset.from_dict(rows, features=features).to_parquet(config / f"{split}-00000-of-00001.parquet")
        files.append(f"  - split: {split}\n    path: PAN-X.{language}/{split}-*\n")
    readme = f"---\nconfigs:\n- config_name: PAN-X.{language}\n  data_files:\n{''.join(files)}---\n# XTREME\n"
    (folder / "README.md").write_text(readme, encoding="utf-8")
    return folder
