import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest

from tests.sources import write_hub
from xner.cli.main import main
from xner.data.datamodule import PanxDataModule
from xner.data.sources import SPLITS, ReadOptions, Sentences, Split, hub, splits_of, tag_set_of
from xner.data.sources.hub import CONVERTED, describe_dataset, named_dataset, presets
from xner.errors import RunError, UserError
from xner.tags import TagSet

STRINGS = datasets.List(datasets.Value("string"))
STRING = datasets.Value("string")


def class_label(types: Sequence[str]) -> Any:  # noqa: ANN401 - datasets ships no types
    return datasets.List(datasets.ClassLabel(names=list(TagSet(tuple(types)).tags)))


def sentences_of(types: Sequence[str], seed: int = 0) -> Sentences:
    """Make a sentence of each type, and one without an entity."""
    words = [["Kara", f"{kind.lower()}{seed}", "İzmir", "."] for kind in types]
    tags = [["O", f"B-{kind}", f"I-{kind}", "O"] for kind in types]
    return Sentences([*words, [f"end{seed}"]], [*tags, ["O"]])


def write_parquet(path: Path, columns: Mapping[str, tuple[Any, Sequence[Any]]]) -> None:
    """Write a Parquet file as ``datasets`` does, with the features of its columns by name."""
    features = datasets.Features({name: feature for name, (feature, _) in columns.items()})
    rows = {name: list(values) for name, (_, values) in columns.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)


def labels(sentences: Sentences, types: Sequence[str]) -> list[list[int]]:
    known = TagSet(tuple(types)).labels
    return [[known[tag] for tag in tags] for tags in sentences.tags]


def ids(sentences: Sentences) -> tuple[Any, list[str]]:
    return STRING, [str(number) for number in range(len(sentences))]


def constant(feature: Any, value: Any, sentences: Sentences) -> tuple[Any, list[Any]]:  # noqa: ANN401 - datasets ships no types
    return feature, [value] * len(sentences)


def write_uner(folder: Path, config: str, split: str, sentences: Sentences, types: Sequence[str]) -> None:
    columns = {
        "idx": ids(sentences),
        "text": (STRING, [" ".join(words) for words in sentences.words]),
        "tokens": (STRINGS, sentences.words),
        "ner_tags": (class_label(types), labels(sentences, types)),
        "annotator": (STRINGS, sentences.words),
    }
    write_parquet(folder / config / split / "0000.parquet", columns)


def write_wikiann(folder: Path, config: str, split: str, sentences: Sentences, types: Sequence[str]) -> None:
    columns = {
        "tokens": (STRINGS, sentences.words),
        "ner_tags": (class_label(types), labels(sentences, types)),
        "langs": (STRINGS, [[config] * len(words) for words in sentences.words]),
        "spans": constant(STRINGS, ["PER: Kara"], sentences),
    }
    write_parquet(folder / config / f"{split}-00000-of-00001.parquet", columns)
    splits = "".join(f"  - split: {each}\n    path: {config}/{each}-*\n" for each in SPLITS)
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: '{config}'\n  data_files:\n{splits}---\n")


def write_masakhaner(folder: Path, config: str, split: str, sentences: Sentences, types: Sequence[str]) -> None:
    columns = {
        "id": ids(sentences),
        "tokens": (STRINGS, sentences.words),
        "ner_tags": (class_label(types), labels(sentences, types)),
    }
    write_parquet(folder / config / f"masakhaner2-{split}.parquet", columns)


def write_wikineural(folder: Path, language: str, split: str, sentences: Sentences, types: Sequence[str]) -> None:
    columns = {
        "tokens": (STRINGS, sentences.words),
        "ner_tags": (datasets.List(datasets.Value("int64")), labels(sentences, types)),
        "lang": constant(STRING, language, sentences),
    }
    name = "val" if split == "validation" else split
    write_parquet(folder / "data" / f"{name}_{language}-00000-of-00001.parquet", columns)


def write_multinerd(folder: Path, language: str, split: str, sentences: Sentences, types: Sequence[str]) -> None:
    name = "val" if split == "validation" else split
    rows = zip(sentences.words, labels(sentences, types), strict=True)
    lines = [json.dumps({"tokens": words, "ner_tags": tags, "lang": language}) + "\n" for words, tags in rows]
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / f"{name}_{language}.jsonl").write_text("".join(lines), encoding="utf-8")


def write_conll(folder: Path, config: str, split: str, sentences: Sentences, types: Sequence[str]) -> None:
    columns = {
        "id": ids(sentences),
        "tokens": (STRINGS, sentences.words),
        "pos_tags": (class_label(["NN"]), [[0] * len(words) for words in sentences.words]),
        "chunk_tags": (class_label(["NP"]), [[0] * len(words) for words in sentences.words]),
        "ner_tags": (class_label(types), labels(sentences, types)),
    }
    write_parquet(folder / config / split / "0000.parquet", columns)


def write_turkish(folder: Path, config: str, split: str, sentences: Sentences, types: Sequence[str]) -> None:
    columns = {"tokens": (STRINGS, sentences.words), "tags": (STRINGS, sentences.tags)}
    write_parquet(folder / config / split / "0000.parquet", columns)


def write_plain(folder: Path, split: str, sentences: Sentences) -> None:
    """Write a split of a data set with one configuration, ``default``, and tags that are strings."""
    columns = {"tokens": (STRINGS, sentences.words), "tags": (STRINGS, sentences.tags)}
    write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", columns)


def write_multiconer(folder: Path, config: str, split: str, sentences: Sentences, types: Sequence[str]) -> None:
    unused = [*types, "OtherCW", "OtherCorp", "TechCORP"]
    columns = {
        "id": ids(sentences),
        "sample_id": ids(sentences),
        "tokens": (STRINGS, sentences.words),
        "ner_tags": (STRINGS, sentences.tags),
        "ner_tags_index": (class_label(unused), labels(sentences, unused)),
    }
    write_parquet(folder / config / split / "0000.parquet", columns)


Write = Callable[[Path, str, str, Sentences, Sequence[str]], None]

LAYOUTS: dict[str, tuple[str, str, Write]] = {
    "uner": ("sv", "sv_talbanken", write_uner),
    "wikiann": ("no", "no", write_wikiann),
    "masakhaner2": ("yo", "yor", write_masakhaner),
    "wikineural": ("ru", "ru", write_wikineural),
    "multinerd": ("zh", "zh", write_multinerd),
    "conll2003": ("en", "conll2003", write_conll),
    "turkish-wikiner": ("tr", "default", write_turkish),
    "multiconer": ("fa", "Farsi (FA)", write_multiconer),
}
"""A language of each preset, its configuration, and the function that writes a split in the repository's layout."""


def use_copy(patch: pytest.MonkeyPatch, name: str, folder: Path) -> None:
    """Let a preset load a folder in place of the data set on the hub."""
    dataset = presets()[name]
    if dataset.revision == CONVERTED:
        keep_converted(patch, dataset.id, folder)
    else:
        copies = {**presets(), name: replace(dataset, id=str(folder))}
        patch.setattr(hub, "presets", lambda: copies)


def keep_converted(patch: pytest.MonkeyPatch, name: str, folder: Path) -> None:
    """Let a folder be what an earlier download of the converted branch left in the cache of ``huggingface_hub``."""
    commit = "0123456789" * 4
    cached = folder.parent / "cache" / f"datasets--{name.replace('/', '--')}"
    (cached / "snapshots").mkdir(parents=True)
    (cached / "snapshots" / commit).symlink_to(folder, target_is_directory=True)
    (cached / "refs" / CONVERTED).parent.mkdir(parents=True)
    (cached / "refs" / CONVERTED).write_text(commit)
    patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder.parent / "cache"))


@pytest.fixture(autouse=True)
def nothing_loaded() -> None:
    """Load the data sets of each test anew, because they have the same names."""
    hub._load.cache_clear()


@pytest.fixture(params=LAYOUTS)
def copied(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A preset of which a small copy is loaded."""
    name: str = request.param
    _, config, write = LAYOUTS[name]
    types = presets()[name].types
    for seed, split in enumerate(SPLITS):
        write(tmp_path / "copy", config, split, sentences_of(types, seed), types)
    use_copy(monkeypatch, name, tmp_path / "copy")
    return name


class TestPresets:
    def test_every_split(self, copied: str) -> None:
        """A copy in the layout of each repository gives the sentences that were written, and the preset's types."""
        language, types = LAYOUTS[copied][0], presets()[copied].types
        found = splits_of(copied, language, ReadOptions())
        assert [each.name for each in found] == [*SPLITS]
        for seed, split in enumerate(found):
            assert split.sentences == sentences_of(types, seed)
            assert [*split.read()] == [*sentences_of(types, seed)]
            assert {*split.types} == {*types}
        assert {*tag_set_of(found).types} == {*types}

    def test_untagged(self, copied: str) -> None:
        """For predictions, the tags are left out, whatever type they have."""
        language, types = LAYOUTS[copied][0], presets()[copied].types
        found = Split(copied, language, "test", ReadOptions(tagged=False)).sentences
        assert found.words == sentences_of(types, 2).words
        assert {tag for tags in found.tags for tag in tags} == {"O"}

    def test_map_types(self, copied: str) -> None:
        """A type of a preset can be renamed and others dropped."""
        language, types = LAYOUTS[copied][0], presets()[copied].types
        mapping = {each: "O" for each in types[1:]} | {types[0]: "NEW"}
        split = Split(copied, language, "train", ReadOptions(map_types=mapping))
        assert split.types == ["NEW"]
        assert split.sentences.tags[0] == ["O", "B-NEW", "I-NEW", "O"]
        assert {tag for tags in split.sentences.tags[1:] for tag in tags} == {"O"}

    # Of a local copy whose README lists configurations, datasets does not notice new files; on the hub, the commit
    # changes.
    @pytest.mark.parametrize("copied", [each for each in LAYOUTS if each != "wikiann"], indirect=True)
    def test_identity_follows_the_content(self, copied: str, tmp_path: Path) -> None:
        """The identity of a split is the same for the same files, and changes with their content."""
        language, config, write = LAYOUTS[copied]
        types = presets()[copied].types
        before = Split(copied, language, "train")
        assert Split(copied, language, "train").identity == before.identity
        assert Split(copied, language, "test").identity != before.identity
        assert "sentences" not in vars(before)
        write(tmp_path / "copy", config, "train", sentences_of(types, 7), types)
        hub._load.cache_clear()  # as in another process
        assert Split(copied, language, "train").identity != before.identity
        assert Split(copied, language, "train").sentences == sentences_of(types, 7)

    def test_panx(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The identity of PAN-X changes with how it is read, without its sentences being read."""
        splits = {split: sentences_of(["PER"], seed) for seed, split in enumerate(SPLITS)}
        use_copy(monkeypatch, "panx", write_hub(tmp_path / "copy", "tr", splits))
        split = Split("panx", "tr", "test")
        other = Split("panx", "tr", "test", ReadOptions(map_types={"LOC": "O"}))
        assert split.identity != other.identity
        assert "sentences" not in vars(split)
        assert split.sentences == splits["test"]
        assert split.where == f"{tmp_path / 'copy'} PAN-X.tr test"

    @pytest.mark.parametrize(("name", "others"), [("wikineural", "de"), ("multinerd", "en")])
    def test_several_languages_in_a_configuration(
        self, name: str, others: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a configuration with several languages, the sentences of one are read."""
        language, _, write = LAYOUTS[name]
        types = presets()[name].types
        for seed, each in enumerate((others, language)):
            for split in SPLITS:
                write(tmp_path / "copy", each, split, sentences_of(types, seed), types)
        use_copy(monkeypatch, name, tmp_path / "copy")
        for seed, each in enumerate((others, language)):
            assert Split(name, each, "validation").sentences == sentences_of(types, seed)

    def test_absent_language_in_a_configuration(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error of a language that the column of languages does not have lists those that it has."""
        for split in SPLITS:
            write_multinerd(tmp_path / "copy", "zh", split, sentences_of(["PER"]), ["PER"])
        use_copy(monkeypatch, "multinerd", tmp_path / "copy")
        with pytest.raises(UserError, match=r"language 'de' is not in column 'lang' of .*; choose from zh"):
            _ = Split("multinerd", "de", "test").sentences

    def test_split_that_a_treebank_lacks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A treebank of test sentences alone is tested on; the error of another split lists what there is."""
        write_uner(tmp_path / "copy", "de_pud", "test", sentences_of(["PER"]), ["PER", "ORG", "LOC"])
        use_copy(monkeypatch, "uner", tmp_path / "copy")
        assert [each.name for each in splits_of("uner", "de", ReadOptions())] == ["test"]
        for absent in ("train", "validation"):
            with pytest.raises(UserError, match=rf"split '{absent}' is not in .* de_pud; .*hoose from test$"):
                _ = Split("uner", "de", absent).sentences

    def test_another_treebank(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """data.language_configs chooses another configuration than the preset's, or adds a language."""
        for config, seed in (("en_ewt", 1), ("en_pud", 2)):
            write_uner(tmp_path / "copy", config, "test", sentences_of(["PER"], seed), ["PER", "ORG", "LOC"])
        use_copy(monkeypatch, "uner", tmp_path / "copy")
        assert Split("uner", "en", "test").sentences == sentences_of(["PER"], 1)
        for language in ("en", "pud"):
            options = ReadOptions(language_configs={language: "en_pud"})
            assert Split("uner", language, "test", options).sentences == sentences_of(["PER"], 2)

    @pytest.mark.parametrize("name", [each for each in presets() if each != "panx"])
    def test_unreachable(self, name: str) -> None:
        """Without a network, the one-line error names the data set and explains how to use a folder."""
        dataset = presets()[name]
        with pytest.raises(RunError) as caught:
            _ = Split(name, dataset.languages[0], "test").sentences
        text = str(caught.value)
        assert len(text.splitlines()) == 1
        assert text.startswith(dataset.id)
        assert "cannot be loaded from the Hugging Face Hub (" in text
        assert "--data.source FOLDER" in text

    @pytest.mark.parametrize("name", presets())
    def test_unknown_language(self, name: str) -> None:
        """The error of a language that a preset does not list names the preset, without a network."""
        with pytest.raises(UserError) as caught:
            Split(name, "xx-YY", "test")
        assert str(caught.value).startswith(f"language 'xx-YY' is not in {presets()[name].title}; ")
        with pytest.raises(UserError, match=r"^language 'xx-YY' is not in"):
            splits_of(name, "xx-YY", ReadOptions(validation_fraction=0.1))

    @pytest.mark.parametrize(("source", "config"), [("hub:a/b", "tr"), ("hub:a/b/default", "default")])
    def test_script_is_read_from_the_converted_branch(
        self, source: str, config: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A data set whose data is a script is read from the branch into which the hub converts it."""
        for split in SPLITS:
            write_turkish(tmp_path / "copy", config, split, sentences_of(["PERSON"]), [])
        keep_converted(monkeypatch, "a/b", tmp_path / "copy")
        load = datasets.load_dataset

        def load_dataset(name: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - as datasets does
            if name == "a/b":
                raise RuntimeError("Dataset scripts are no longer supported, but found b.py")
            return load(name, *args, **options)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        found = Split(source, "tr", "train", ReadOptions(columns={"ner_tags": "tags"}))
        assert found.sentences == sentences_of(["PERSON"])
        assert found.where == f"a/b {config} train"

    def test_other_errors_of_datasets_are_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An error of ``datasets`` that is not about scripts is not taken for one."""

        def load_dataset(*args: object, **options: object) -> None:
            raise RuntimeError("out of memory")

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        with pytest.raises(RuntimeError, match="out of memory"):
            _ = Split("wikiann", "tr", "train").sentences


class TestCards:
    @pytest.mark.parametrize("name", presets())
    def test_entry(self, name: str) -> None:
        """Every preset has an id, languages, types that make a tag set, a licence, a citation and a description."""
        dataset = presets()[name]
        card = dataset.card
        assert card is not None
        assert dataset.id.count("/") == 1
        assert dataset.languages
        assert len({*dataset.languages}) == len(dataset.languages)
        assert all(isinstance(language, str) and language for language in dataset.languages)
        assert TagSet(dataset.types).types == dataset.types
        assert {*dataset.splits} <= {*SPLITS}
        assert 2000 < card.year < 2030
        for text in (card.description, card.licence, card.authors, card.publication, card.venue, dataset.title):
            assert text == text.strip() != ""
            assert "\n" not in text
        assert not isinstance(dataset.config, dict) or tuple(dataset.config) == dataset.languages

    @pytest.mark.parametrize("name", presets())
    def test_description(self, name: str) -> None:
        """The card of a preset names its id, languages, types, licence and citation."""
        described = describe_dataset(name)
        assert described is not None
        assert [*described] == ["name", "description", "languages", "types", "licence", "citation"]
        assert presets()[name].id in described["name"]
        assert described["types"].split() == [*presets()[name].types]
        assert described["languages"].split()[1:] == [*presets()[name].languages]
        assert str(presets()[name].card.year) in described["citation"]

    @pytest.mark.parametrize("source", ["sample", "hub:google/xtreme", "/nowhere"])
    def test_other_sources_have_no_card(self, source: str) -> None:
        """Only presets have a card."""
        assert describe_dataset(source) is None

    def test_numbers_of_languages(self) -> None:
        """The lists of languages are complete, and the code of Norwegian is not read as false."""
        numbers = {"panx": 40, "wikiann": 176, "masakhaner2": 20, "multiconer": 12, "wikineural": 9, "multinerd": 10}
        assert {name: len(presets()[name].languages) for name in numbers} == numbers
        assert "no" in presets()["wikiann"].languages


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an owner of data sets; ``datasets`` prefers a folder in the working directory to the hub."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "owner"


def read(source: str, language: str = "en", split: str = "train", **options: Any) -> Sentences:  # noqa: ANN401 - of all types
    return Split(source, language, split, ReadOptions(**options)).sentences


def problem(kind: type[UserError], source: str, **options: Any) -> str:  # noqa: ANN401 - of all types
    """Read a source that cannot be read, and return the one-line error message."""
    with pytest.raises(kind) as caught:
        read(source, **options)
    assert type(caught.value) is kind
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


class TestAnyDataset:
    def test_language_is_the_configuration(self, owner: Path) -> None:
        """The configuration is the language, unless the source or data.language_configs gives another."""
        sentences = sentences_of(["LOC", "TIME"])
        for split in SPLITS:
            write_wikiann(owner / "name", "en_ewt", split, sentences, ["TIME", "LOC"])
        assert read("hub:owner/name/en_ewt") == sentences
        assert read("hub:owner/name", language_configs={"en": "en_ewt"}) == sentences
        assert read("hub:owner/name", "en_ewt") == sentences
        found = Split("hub:owner/name/en_ewt", "en", "test")
        assert found.types == ["TIME", "LOC"]
        assert found.where == "owner/name en_ewt test"

    def test_unknown_configuration(self, owner: Path) -> None:
        """The error of an unknown configuration suggests one, and says how to give it."""
        for split in SPLITS:
            write_wikiann(owner / "name", "en_ewt", split, sentences_of(["LOC"]), ["LOC"])
        assert problem(UserError, "hub:owner/name/en_ewd") == (
            "configuration 'en_ewd' is not in owner/name; did you mean 'en_ewt'? Choose from en_ewt, with "
            "data.source=hub:owner/name/<config> or data.language_configs"
        )

    def test_id_without_owner(self, owner: Path) -> None:
        """An id may have no owner; a third part is the configuration."""
        assert named_dataset("hub:conll2003").id == "conll2003"
        assert named_dataset("hub:a/b").id == "a/b"
        assert named_dataset("hub:a/b/c/d").config == "c/d"
        for split in SPLITS:
            write_plain(owner.parent / "legacy", split, sentences_of(["GPE"]))
        assert read("hub:legacy", language_configs={"en": "default"}, columns={"ner_tags": "tags"}) == sentences_of(
            ["GPE"]
        )

    @pytest.mark.parametrize("source", ["hub:", "hub:/", "hub:a/", "hub:a//c", "hub:a/b/"])
    def test_invalid_id(self, source: str) -> None:
        """The error of an invalid id shows the form of a valid one."""
        assert problem(UserError, source).startswith(
            f"data.source={source!r} is not the id of a data set; use hub:<owner>"
        )

    def test_unreachable(self) -> None:
        """Without a network, the error names the data set and the configuration."""
        text = problem(RunError, "hub:nobody/nothing")
        assert text.startswith("nobody/nothing en cannot be loaded from the Hugging Face Hub (")

    def test_missing_column(self, owner: Path) -> None:
        """The error of a missing column lists the columns that there are."""
        for split in SPLITS:
            write_plain(owner / "name", split, sentences_of(["GPE"]))
        text = problem(RunError, "hub:owner/name/default")
        assert text.startswith("owner/name default train has no column 'ner_tags', only tokens, tags; ")
        text = problem(RunError, "hub:owner/name/default", columns={"ner_tags": "tags", "language": "lang"})
        assert text.startswith("owner/name default train has no column 'lang', only tokens, tags; ")

    @pytest.mark.parametrize(
        ("columns", "expected"),
        [
            ({"tokens": "text"}, "column 'text' is Value('string'); use a column of lists of strings, one per word"),
            ({"tokens": "numbers"}, "column 'numbers' is List(Value('int64')); use a column of lists of strings"),
            ({"ner_tags": "text"}, "column 'text' is Value('string'); use a column of lists of strings or integers"),
            (
                {"ner_tags": "floats"},
                "column 'floats' is List(Value('float64')); use a column of lists of strings or int",
            ),
        ],
    )
    def test_wrong_feature(self, owner: Path, columns: dict[str, str], expected: str) -> None:
        """The error of a column of another type names its feature."""
        columns_of_file = {
            "tokens": (STRINGS, [["a"]]),
            "ner_tags": (STRINGS, [["O"]]),
            "text": (STRING, ["a"]),
            "numbers": (datasets.List(datasets.Value("int64")), [[1]]),
            "floats": (datasets.List(datasets.Value("float64")), [[1.0]]),
        }
        write_parquet(owner / "name" / "train.parquet", columns_of_file)
        assert problem(RunError, "hub:owner/name/default", columns=columns).startswith(
            f"owner/name default train: {expected}"
        )

    def test_integers_without_names(self, owner: Path) -> None:
        """Integers without names need data.types, whose order gives their meaning."""
        types = ["ORG", "DATE"]
        for split in SPLITS:
            write_wikineural(owner / "name", "en", split, sentences_of(types), types)
            (owner / "name" / "data" / f"{'val' if split == 'validation' else split}_en-00000-of-00001.parquet").rename(
                owner / "name" / "data" / f"{split}-00000-of-00001.parquet"
            )
        text = problem(UserError, "hub:owner/name/default")
        assert text.startswith(
            "owner/name default train: column 'ner_tags' has integers without names; give the entity"
        )
        assert read("hub:owner/name/default", types=("ORG", "DATE")) == sentences_of(types)
        assert read("hub:owner/name/default", tagged=False).words == sentences_of(types).words

    def test_names_of_splits(self, owner: Path) -> None:
        """A split may have another name than xner's; the error of an absent one lists what there is."""
        for own in ("train", "dev"):
            write_plain(owner / "name", own, sentences_of(["GPE"]))
        columns = {"ner_tags": "tags"}
        assert read("hub:owner/name/default", split="validation", columns=columns) == sentences_of(["GPE"])
        text = problem(UserError, "hub:owner/name/default", split="test", columns=columns)
        assert text == "split 'test' is not in owner/name default; choose from train, validation"

    def test_validation_fraction(self, owner: Path) -> None:
        """Without a validation split, a part of the training sentences is taken."""
        types = [f"T{number}" for number in range(9)]
        write_plain(owner / "name", "train", sentences_of(types))
        options = {"columns": {"ner_tags": "tags"}}
        assert "with data.validation_fraction=0.1" in problem(
            UserError, "hub:owner/name/default", split="validation", **options
        )
        parts = [read("hub:owner/name/default", split=each, validation_fraction=0.2, **options) for each in SPLITS[:2]]
        assert [len(part) for part in parts] == [8, 2]
        assert sorted(words for part in parts for words in part.words) == sorted(sentences_of(types).words)
        assert Split("hub:owner/name/default", "en", "train", ReadOptions(validation_fraction=0.2, **options)).carved

    def test_data_module(self, owner: Path, sample_backbone: str) -> None:
        """The data module reads a data set on the hub by its options."""
        for split in SPLITS:
            write_plain(owner / "name", split, sentences_of(["GPE", "DATE"]))
        data = PanxDataModule(
            source="hub:owner/name",
            languages=["tr"],
            language_configs={"tr": "default"},
            columns={"ner_tags": "tags"},
            backbone=sample_backbone,
        )
        data.setup("fit")
        assert data.tag_set.types == ("DATE", "GPE")
        assert len(data.encoded(data.training_split("tr"))) == 3


class TestUnknownSource:
    @pytest.mark.parametrize(
        ("source", "meant"), [("wikian", "wikiann"), ("universal-ner", None), ("sampel", "sample")]
    )
    def test_name(self, source: str, meant: str | None) -> None:
        """The error of an unknown name suggests a preset, and lists all, hub:<id> and a folder."""
        text = problem(UserError, source)
        start = f"data.source={source!r} does not exist; "
        assert text.startswith(
            start + (f"did you mean {meant!r}? Use 'panx', 'sample'" if meant else "use 'panx', 'sample'")
        )
        assert all(repr(name) in text for name in presets())
        assert "hub:<id>, or a folder that contains <language>/train.tsv" in text

    @pytest.mark.parametrize("source", ["sample", "."])
    def test_configurations_of_a_folder(self, source: str) -> None:
        """A folder has no configurations."""
        text = problem(UserError, source, language_configs={"en": "en_ewt"})
        assert text.startswith(
            f"data.language_configs={{'en': 'en_ewt'}} is not for data.source={source!r}; leave it out"
        )


class TestExplore:
    @pytest.mark.parametrize("copied", ["wikineural", "turkish-wikiner"], indirect=True)
    def test_card_comes_first(self, capsys: pytest.CaptureFixture[str], copied: str) -> None:
        """The card of a preset is printed before its sentences."""
        main(["explore", "--source", copied, "--languages", LAYOUTS[copied][0], "--tokenizer", "sample"])
        shown = " ".join(capsys.readouterr().out.split())
        described = describe_dataset(copied)
        assert shown.startswith("Data set name " + " ".join(described["name"].split()))
        assert " ".join(described["citation"].split()) in shown.partition("Sentences and words")[0]

    def test_card_without_a_network(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The card is printed even if the data cannot be loaded."""
        with pytest.raises(SystemExit) as raised:
            main(["explore", "--source", "uner", "--languages", "en"])
        assert raised.value.code == 1
        printed = capsys.readouterr()
        assert "CC BY-SA 4.0" in printed.out
        assert "universalner/universal_ner en_ewt cannot be loaded" in printed.err

    def test_options_of_reading(self, capsys: pytest.CaptureFixture[str], owner: Path) -> None:
        """A data set is explored with other columns, configurations and types than the usual ones."""
        for split in SPLITS:
            write_plain(owner / "name", split, sentences_of(["GPE", "DATE"]))
        main(
            [
                *("explore", "--source", "hub:owner/name", "--languages", "no", "--tokenizer", "sample"),
                *("--columns", "{ner_tags: tags}", "--language_configs", "{no: default}"),
                *("--map_types", "{GPE: LOC, DATE: O}", "--types", "LOC"),
            ]
        )
        shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
        assert "1 B-LOC" in shown
        assert "no train 3 9" in shown

    @pytest.mark.parametrize("text", ["tokens", "[a]", "{a: [b]}", "{a"])
    def test_mistakes(self, capsys: pytest.CaptureFixture[str], text: str) -> None:
        """The error of an option that is not a mapping shows one."""
        with pytest.raises(SystemExit) as raised:
            main(["explore", "--columns", text])
        assert raised.value.code == 2
        assert f"argument --columns: {text!r} is not a mapping; use one such as" in capsys.readouterr().err
