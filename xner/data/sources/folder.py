"""A folder with the splits of each language, and the sample in the package.

To add a file format, write a module with a function like ``read_conll`` and add its suffix to ``READERS``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from xner.data.sources.conll import read_conll, read_txt
from xner.data.sources.delimited import read_csv
from xner.data.sources.lines import read_chunks
from xner.data.sources.location import SPLIT_NAMES, SPLITS, check_choice, check_split
from xner.data.sources.records import read_jsonl, read_parquet, read_saved
from xner.data.sources.scheme import Survey
from xner.data.sources.sentences import ReadOptions, Rows
from xner.errors import UserError
from xner.tags import PANX

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

SAMPLE = Path(__file__).parents[1] / "sample"
"""The folder of the embedded sample."""


@dataclass(frozen=True)
class Folder:
    """The files of one language in a folder.

    Args:
        source: ``sample``, or a folder with ``<language>/<split>.<suffix>``.
        language: A language code, such as ``tr``.
        options: How the files are read.
    """

    source: str
    language: str
    options: ReadOptions

    @property
    def known(self) -> Survey | None:
        """The survey of the sample; ``None`` for other folders."""
        return Survey("IOB2", PANX.types, 0, 0) if self.source == "sample" else None

    @property
    def _folder(self) -> Path:
        return SAMPLE if self.source == "sample" else Path(self.source)

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        return _find_splits(self._folder / self.language)

    def splits(self) -> Sequence[str]:
        """Return the names of the splits, in the order of ``SPLITS``."""
        return tuple(name for name in SPLITS if name in self._files)

    def check(self, name: str) -> None:
        """Find the file of a split, so that a wrong path is reported before any work.

        Raises:
            UserError: If the language or the split does not exist, or the split is there in two formats.
        """
        entries = self._folder.iterdir()
        languages = sorted(entry.name for entry in entries if entry.is_dir() and _find_splits(entry))
        check_choice("language", self.language, languages, f"data.source={self.source!r}")
        folder = self._folder / self.language
        check_split(name, list(self._files), str(folder))
        if len(self._files[name]) > 1:
            names = ", ".join(path.name for path in self._files[name])
            raise UserError(f"{folder} contains split {name!r} more than once ({names}); keep one")

    def path(self, name: str) -> Path:
        """Return the file of a split, or the folder that ``save_to_disk`` wrote."""
        return self._files[name][0]

    def where(self, name: str) -> str:
        """Return the file of a split, for messages."""
        return str(self.path(name))

    def content(self, name: str) -> Iterator[bytes]:
        """Read the name and the bytes of the files of a split."""
        path = self.path(name)
        yield f"{path.name}\n".encode()
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                yield from read_chunks(file)

    def rows(self, name: str) -> Rows:
        """Open the file of a split."""
        path = self.path(name)
        return READERS[suffix_of(path)](path, self.options)


@dataclass(frozen=True)
class File:
    """A single file of one language, which is every split of it; only where tags are not read.

    Args:
        source: The file.
        options: How it is read.
    """

    source: str
    options: ReadOptions

    @property
    def known(self) -> None:
        """Nothing is known of the tags."""

    def splits(self) -> Sequence[str]:
        """Return no names, for the file is not one of several."""
        return ()

    def check(self, name: str) -> None:
        """Check that the file can be read, and that tags are not needed.

        Raises:
            UserError: If its format is unknown, or tags are read.
        """
        suffix = suffix_of(Path(self.source))
        if not suffix or suffix not in READERS:
            known = ", ".join(filter(None, READERS))
            raise UserError(f"data.source={self.source!r} is not a file of a known format; use {known}, or a folder")
        if self.options.tagged:
            raise UserError(
                f"data.source={self.source!r} is not a folder, and only predict can use a file; use a folder that "
                f"contains <language>/{name}{suffix}"
            )

    def where(self, name: str) -> str:
        """Return the file, for messages."""
        return self.source

    def content(self, name: str) -> Iterator[bytes]:
        """Read the name and the bytes of the file."""
        yield f"{Path(self.source).name}\n".encode()
        yield from read_chunks(Path(self.source))

    def rows(self, name: str) -> Rows:
        """Open the file."""
        return READERS[suffix_of(Path(self.source))](Path(self.source), self.options)


def suffix_of(path: Path) -> str:
    """Return the suffix that names a file's format, without that of compression; a folder has none."""
    return "" if path.is_dir() else Path(path.name.removesuffix(".gz")).suffix


def _find_splits(folder: Path) -> dict[str, list[Path]]:
    """Find the files of each split in the folder of a language; more than one if they are of several formats."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        suffix = suffix_of(path)
        readable = (path / "state.json").is_file() if path.is_dir() else suffix and suffix in READERS
        name = SPLIT_NAMES.get(path.name.removesuffix(".gz").removesuffix(suffix))
        if name and readable:
            found.setdefault(name, []).append(path)
    return found
