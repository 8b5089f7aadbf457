"""Sources of sentences: PAN-X on the hub, a folder, or the sample in the package.

PAN-X is WikiANN (Pan et al. 2017) with the balanced splits of Rahimi et al. 2019, as XTREME uses it (Hu et al. 2020).

To add a file format, write a module with a function like ``read_conll`` and add its suffix to ``READERS``.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from xner.data.sources.conll import read_conll
from xner.data.sources.records import read_jsonl, read_parquet, read_saved, read_table
from xner.data.sources.sentences import Sentence, Sentences, read_chunks
from xner.errors import RunError, UserError, did_you_mean

__all__ = ["READERS", "SAMPLE", "SPLITS", "Sentence", "Sentences", "Split"]

READERS: dict[str, Callable[[Path, str], Iterator[Sentence]]] = {
    ".tsv": read_conll,
    ".conll": read_conll,
    ".txt": read_conll,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
    "": read_saved,
}
"""The function that reads each format, given a path and a language, by file suffix; a folder has none."""

HUB = "google/xtreme"
"""The data set on the hub; each language is a configuration ``PAN-X.<language>``."""

LANGUAGES = (
    "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw ta te th tl tr ur vi "
    "yo zh"
).split()
"""The 40 languages of PAN-X."""

SPLITS = ("train", "validation", "test")

SAMPLE = Path(__file__).parents[1] / "sample"
"""The folder of the embedded sample."""


@dataclass(frozen=True)
class Split:
    """One split of one language of a source. Its file is located on construction and read on first use.

    Args:
        source: ``panx`` (the hub), ``sample`` (embedded), or a folder with ``<language>/<split>.<suffix>``.
        language: A language code, such as ``tr``.
        name: ``train``, ``validation`` or ``test``.

    Raises:
        UserError: If the source, the language or the split does not exist.
    """

    source: str
    language: str
    name: str

    def __post_init__(self) -> None:
        if self.source == "panx":
            _check_choice("language", self.language, LANGUAGES, "PAN-X")
            _check_choice("split", self.name, SPLITS, "PAN-X")
        else:
            self._path  # noqa: B018 - locates the file now, so that a wrong path is reported before any work

    def __str__(self) -> str:
        return f"{self.language}/{self.name}"

    @cached_property
    def _path(self) -> Path:
        source = SAMPLE if self.source == "sample" else Path(self.source)
        if not source.is_dir():
            raise UserError(
                f"data.source={self.source!r} is not a folder; use 'panx', 'sample', or a folder that contains "
                "<language>/train.tsv, validation.tsv and test.tsv (or .conll, .txt, .jsonl, .parquet, save_to_disk)"
            )
        languages = sorted(entry.name for entry in source.iterdir() if entry.is_dir() and _find_splits(entry))
        _check_choice("language", self.language, languages, f"data.source={self.source!r}")
        folder = source / self.language
        splits = _find_splits(folder)
        _check_choice("split", self.name, list(splits), str(folder))
        if len(splits[self.name]) > 1:
            names = ", ".join(path.name for path in splits[self.name])
            raise UserError(f"{folder} contains split {self.name!r} more than once ({names}); keep one")
        return splits[self.name][0]

    @cached_property
    def identity(self) -> str:
        """Compute a key that changes with the content; files are hashed without being parsed."""
        if self.source == "panx":
            return self.sentences.digest
        digest = hashlib.sha256(f"{self.language}\n{self._path.name}\n".encode())
        for file in sorted(self._path.rglob("*")) if self._path.is_dir() else [self._path]:
            if file.is_file():
                for chunk in read_chunks(file):
                    digest.update(chunk)
        return digest.hexdigest()

    @cached_property
    def sentences(self) -> Sentences:
        """Read all sentences of the split into memory; see ``read``."""
        return Sentences.of(self._read())

    def read(self) -> Iterator[Sentence]:
        """Read the sentences of the split one by one, in the order of the source, unless they are in memory.

        Raises:
            RunError: If the hub or a file cannot be read, or contains something other than sentences with known tags.
        """
        return iter(self.sentences) if "sentences" in vars(self) else self._read()

    def _read(self) -> Iterator[Sentence]:
        if self.source == "panx":
            where, sentences = f"{HUB} PAN-X.{self.language} {self.name}", read_hub(self.language, self.name)
        else:
            where, sentences = str(self._path), READERS[self._path.suffix](self._path, self.language)
        empty = True
        for sentence in sentences:
            empty = False
            yield sentence
        if empty:
            raise RunError(f"{where} contains no sentences")


def read_hub(language: str, split: str) -> Iterator[Sentence]:
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
    return read_table(dataset, f"{HUB} {name} {split}", language)


def _check_choice(option: str, value: str, choices: Sequence[str], where: str) -> None:
    if value not in choices:
        raise UserError(f"{option} {value!r} is not in {where}; {did_you_mean(value, choices)}")


def _find_splits(folder: Path) -> dict[str, list[Path]]:
    """Find the files of each split in the folder of a language; more than one if they are of several formats."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        readable = (path / "state.json").is_file() if path.is_dir() else path.suffix and path.suffix in READERS
        if path.stem in SPLITS and readable:
            found.setdefault(path.stem, []).append(path)
    return found
