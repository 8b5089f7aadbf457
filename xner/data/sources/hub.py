"""Data sets on the Hugging Face Hub: ``hub:<id>``, and presets, which are described in ``presets.yaml``.

To add a preset, add an entry to ``presets.yaml``; its keys are the attributes of ``HubDataset`` and ``Card``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from xner.data.sources.location import SPLIT_NAMES, SPLITS, check_choice, check_split
from xner.data.sources.records import read_table
from xner.data.sources.scheme import Scheme, Survey
from xner.data.sources.sentences import Column, ReadOptions, Rows
from xner.errors import RunError, UserError, did_you_mean

PREFIX = "hub:"
"""The beginning of a source on the hub that is not a preset."""

CONVERTED = "refs/convert/parquet"
"""The branch into which the hub converts data sets whose data is a script; each configuration is a folder in it."""


_ID = re.compile(r"\w[\w.-]*")
"""The owner or the name of a data set."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A description of a data set for its users.

    Attributes:
        description: What it is, in one line.
        licence: The licence of the data, or ``unknown``.
        authors: The authors to cite.
        year: The year of their publication.
        publication: Its title.
        venue: Where it was published.
    """

    description: str
    licence: str
    authors: str
    year: int
    publication: str
    venue: str

    @property
    def citation(self) -> str:
        """The reference to cite."""
        return f"{self.authors} ({self.year}). {self.publication}. {self.venue}."


@dataclass(frozen=True, kw_only=True)
class HubDataset:
    """A data set on the hub, and how it differs from xner's names.

    Attributes:
        id: Its name on the hub, ``<owner>/<name>``, or ``<name>`` alone for the oldest.
        title: Its name in error messages.
        config: The configuration of a language: a pattern such as ``PAN-X.{language}``, one for each language, or
            ``None`` for the only one.
        revision: The branch, tag or commit; ``None`` is ``main``, or the converted one if the data is a script.
        languages: The languages; empty where they are not known.
        splits: The data set's name, which may contain ``{language}``, by that of each split; empty to ask the data set.
        columns: The data set's column by xner's name for it; ``language`` is there if a configuration has several.
        types: The entity types; integers in ``ner_tags`` that have no names are the labels of their ``TagSet``.
        scheme: The scheme of the tags, given if they are known to be valid, so that they are not read beforehand.
        card: Its description for users; ``None`` for one that is not a preset.
    """

    id: str
    title: str
    config: str | Mapping[str, str] | None = "{language}"
    revision: str | None = None
    languages: tuple[str, ...] = ()
    splits: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Column] = field(default_factory=dict)
    types: tuple[str, ...] = ()
    scheme: Scheme | None = None
    card: Card | None = None


@cache
def presets() -> Mapping[str, HubDataset]:
    """Load the data sets that have a name of their own as a source."""
    entries = yaml.safe_load(Path(__file__).with_name("presets.yaml").read_text(encoding="utf-8"))
    return {name: _preset(entry) for name, entry in entries.items()}


def _preset(entry: dict[str, Any]) -> HubDataset:
    values = dict(entry)
    card = Card(**{each.name: values.pop(each.name) for each in fields(Card)})
    # A list is written as one text, since YAML reads the language code no as false.
    languages = values.pop("languages", "").split() or list(values["config"])
    types = values.pop("types").split()
    return HubDataset(**values, languages=tuple(languages), types=tuple(types), card=card)


def named_dataset(source: str) -> HubDataset | None:
    """Return the data set on the hub that a source names, or ``None`` if it names none.

    >>> named_dataset("hub:owner/name/config").config
    'config'

    Raises:
        UserError: If the source is ``hub:`` without a valid id.
    """
    if not source.startswith(PREFIX):
        return presets().get(source)
    parts = source.removeprefix(PREFIX).split("/", 2)
    if not all(parts) or not all(_ID.fullmatch(part) for part in parts[:2]):
        raise UserError(f"data.source={source!r} is not the id of a data set; use hub:<owner>/<name>[/<config>]")
    name = "/".join(parts[:2])
    return HubDataset(id=name, title=name, config=parts[2] if len(parts) > 2 else "{language}")


@dataclass(frozen=True)
class Hub:
    """The splits of one language of a data set on the hub.

    Args:
        dataset: The data set.
        language: A language code, such as ``tr``.
        options: How it is read.
    """

    dataset: HubDataset
    language: str
    options: ReadOptions

    @property
    def known(self) -> Survey | None:
        """The survey of the splits, where the data set is known to be valid; ``None`` otherwise."""
        return Survey(self.dataset.scheme, self.dataset.types, 0, 0) if self.dataset.scheme else None

    @property
    def config(self) -> str | None:
        """The configuration that has the language; ``None`` for the only one."""
        config = self.dataset.config
        if not isinstance(config, str | None):
            config = config.get(self.language)
        config = self.options.language_configs.get(self.language, config)
        return config and config.replace("{language}", self.language)

    @property
    def _columns(self) -> Mapping[str, Column]:
        return {**self.dataset.columns, **self.options.columns}

    def splits(self) -> Sequence[str]:
        """Return the names of the splits, in the order of ``SPLITS``; the data set is loaded if it does not list them.

        Raises:
            UserError: If the language is not in the data set.
        """
        self._check_language()
        return tuple(self.dataset.splits) or tuple(self._found)

    def check(self, name: str) -> None:
        """Check the language and the split, as far as the preset lists them.

        Raises:
            UserError: If one is not in the data set.
        """
        self._check_language()
        check_choice("split", name, tuple(self.dataset.splits) or SPLITS, self.dataset.title)

    def _check_language(self) -> None:
        if self.dataset.languages and self.language not in self.options.language_configs:
            check_choice("language", self.language, self.dataset.languages, self.dataset.title)

    def where(self, name: str) -> str:
        """Return the names of the data set, the configuration and the split, for messages."""
        return f"{self._place} {self._key(name)}"

    @property
    def _place(self) -> str:
        return " ".join(filter(None, (self.dataset.id, self.config)))

    def _key(self, name: str) -> str:
        """Return the data set's own name of a split, as far as it is known without loading."""
        return self.dataset.splits.get(name, name).replace("{language}", self.language)

    def content(self, name: str) -> Iterator[bytes]:
        """Return how the split is read, and the fingerprint that ``datasets`` computes of the commit or the files."""
        data = self.dataset
        yield repr((data.id, self.config, data.revision, self._columns, data.types)).encode()
        yield self._split(name)._fingerprint.encode()

    def rows(self, name: str) -> Rows:
        """Open the split: download it, or read it from the cache of ``datasets``."""
        dataset, where = self._split(name), self.where(name)
        options = replace(self.options, columns=self._columns)
        dataset = _of_language(dataset, self.language, where, options)
        _check_feature(dataset, where, options.column("tokens"), ("string",))
        column = options.column("ner_tags")
        if not options.tagged:
            return read_table(dataset.remove_columns({column} & {*dataset.column_names}), where, options)
        _check_feature(dataset, where, column, ("string", "int"))
        types = self._integer_types(dataset, where, column)
        rows = read_table(dataset, where, replace(options, types=types or options.types))
        return rows._replace(types=types) if types else rows

    def _integer_types(self, dataset: Any, where: str, column: Column) -> tuple[str, ...] | None:  # noqa: ANN401 - datasets ships no types
        """Return the types that integers without names stand for; ``None`` if the tags have names or are strings.

        Raises:
            UserError: If the types are not known.
        """
        tags = getattr(dataset.features.get(column), "feature", None)
        if tags is None or tags.dtype == "string" or getattr(tags, "names", None):
            return None
        types = self.dataset.types or self.options.types
        if types is None:
            raise UserError(
                f"{where}: column {column!r} has integers without names; give the entity types with data.types, in the "
                "order of the integers (1 and 2 are B- and I- of the first)"
            )
        return types

    def _split(self, name: str) -> Any:  # noqa: ANN401 - datasets ships no types
        key, found = self._key(name), self._loaded
        if self.dataset.splits:
            if key not in found:
                raise RunError(f"split {key!r} is not in {self._place}; {did_you_mean(key, list(found))}")
            return found[key]
        check_split(name, list(self._found) or list(found), self._place)
        return found[self._found[name]]

    @cached_property
    def _found(self) -> dict[str, str]:
        """The data set's own name of each split."""
        own = {SPLIT_NAMES[key]: key for key in self._loaded if key in SPLIT_NAMES}
        return {name: own[name] for name in SPLITS if name in own}

    @cached_property
    def _loaded(self) -> Mapping[str, Any]:
        from datasets.exceptions import DatasetsError

        try:
            return _load(self.dataset.id, self.config, self.dataset.revision)
        except (OSError, ValueError, DatasetsError) as error:
            self._check_config()
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RunError(
                f"{self._place} cannot be loaded from the Hugging Face Hub ({reason}); without network access, use a "
                "local copy with --data.source FOLDER (FOLDER/<language>/train.tsv, validation.tsv, test.tsv)"
            ) from error

    def _check_config(self) -> None:
        """Check that the configuration exists, if it is not that of a preset and the hub can be asked.

        Raises:
            UserError: If it does not.
        """
        from datasets import get_dataset_config_names
        from datasets.exceptions import DatasetsError

        config = self.config
        if config is None or (self.dataset.card and self.language not in self.options.language_configs):
            return
        try:
            configs = get_dataset_config_names(self.dataset.id)
        except (OSError, ValueError, RuntimeError, DatasetsError):
            return  # the caller gives the reason why the data set cannot be loaded
        if config not in configs:
            raise UserError(
                f"configuration {config!r} is not in {self.dataset.id}; {did_you_mean(config, configs)}, with "
                f"data.source=hub:{self.dataset.id}/<config> or data.language_configs"
            )


@cache
def _load(name: str, config: str | None, revision: str | None) -> Mapping[str, Any]:
    """Load all splits of a configuration; ``datasets`` prepares all of them, also if one is asked for."""
    import datasets
    from huggingface_hub import snapshot_download

    if revision != CONVERTED:
        try:
            return datasets.load_dataset(name, config, revision=revision)  # type: ignore[no-any-return]
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
    # load_dataset has a data_dir, but without a network it does not find in its cache what it loaded with one.
    folder = config or "default"
    copy = snapshot_download(name, repo_type="dataset", revision=CONVERTED, allow_patterns=f"{folder}/*")
    return datasets.load_dataset(str(Path(copy) / folder))  # type: ignore[no-any-return]


def _check_feature(dataset: Any, where: str, column: Column, kinds: tuple[str, ...]) -> None:  # noqa: ANN401 - datasets ships no types
    feature = dataset.features.get(column)  # a missing column is reported by read_table
    kind = str(getattr(getattr(feature, "feature", None), "dtype", ""))
    if feature is not None and not kind.removeprefix("u").startswith(kinds):
        found = " ".join(str(feature).split())
        expected = " or ".join(f"{each}s" for each in kinds).replace("ints", "integers")
        raise RunError(f"{where}: column {column!r} is {found}; use a column of lists of {expected}, one per word")


def _of_language(dataset: Any, language: str, where: str, options: ReadOptions) -> Any:  # noqa: ANN401 - datasets ships no types
    """Choose the sentences of a language in a data set that has a column of languages."""
    column = options.columns.get("language")
    if column is None:
        return dataset
    if column not in dataset.column_names:
        names = ", ".join(dataset.column_names)
        raise RunError(f"{where} has no column {column!r}, only {names}; name it with --data.columns {{language: ...}}")
    check_choice("language", language, sorted(map(str, dataset.unique(column))), f"column {column!r} of {where}")
    return dataset.filter(lambda values: [value == language for value in values], input_columns=[column], batched=True)


def describe_dataset(source: str) -> Mapping[str, str] | None:
    """Describe a preset for its users, by heading; ``None`` for another source."""
    dataset = presets().get(source)
    if dataset is None or dataset.card is None:
        return None
    return {
        "name": f"{dataset.title} (https://huggingface.co/datasets/{dataset.id})",
        "description": dataset.card.description,
        "languages": f"{len(dataset.languages)}: {' '.join(dataset.languages)}",
        "types": " ".join(dataset.types),
        "licence": dataset.card.licence,
        "citation": dataset.card.citation,
    }
