import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from tests.sources import as_tsv, random_sentences, write_source
from xner.backbone import check_types
from xner.backbone.tokenizer import load_tokenizer
from xner.batch import Batch
from xner.data.datamodule import PanxDataModule
from xner.data.sources import Sentences
from xner.data.subset import subset
from xner.errors import RunError, UserError
from xner.tags import TagSet

PADDING = 1


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with English and Turkish."""
    return str(write_source(tmp_path_factory.mktemp("data") / "source", {"train": 40, "validation": 20, "test": 25}))


@pytest.fixture
def data(source: str, sample_backbone: str) -> Any:  # noqa: ANN401 - makes a data module with other options
    def make(**options: Any) -> PanxDataModule:  # noqa: ANN401 - PanxDataModule's own
        return PanxDataModule(**{"source": source, "backbone": sample_backbone, **options})

    return make


TYPES = {tag[2:] for language in ("en", "tr") for tags in random_sentences(language, 40).tags for tag in tags} - {""}
LABELS = TagSet.of_types(TYPES).labels
"""The labels of the tags that occur in the source."""


def sentence_numbers(loader: DataLoader[Batch]) -> list[int]:
    return [number for batch in loader for number in batch.sentences.tolist()]


def gold(loader: DataLoader[Batch]) -> dict[int, list[int]]:
    """Each sentence's gold labels by its number."""
    found: dict[int, list[int]] = {}
    for batch in loader:
        for label, place in zip(batch.word_label.tolist(), batch.word_sentence.tolist(), strict=True):
            found.setdefault(int(batch.sentences[place]), []).append(label)
    return found


def expected_gold(*parts: Sentences) -> dict[int, list[int]]:
    tags = [tags for part in parts for tags in part.tags]
    return {number: [LABELS[tag] for tag in sentence] for number, sentence in enumerate(tags)}


class TestOptions:
    @pytest.mark.parametrize("option", ["batch_size", "max_length", "row_length", "evaluation_pieces"])
    @pytest.mark.parametrize("number", [0, -3])
    def test_positive_numbers(self, data: Any, option: str, number: int) -> None:  # noqa: ANN401 - see the fixture
        """Sizes must be positive."""
        with pytest.raises(UserError, match=rf"^data\.{option}={number} is not positive; use 1 or more$"):
            data(**{option: number})

    @pytest.mark.parametrize("option", ["languages", "test_languages"])
    def test_no_language(self, data: Any, option: str) -> None:  # noqa: ANN401 - see the fixture
        """A list of languages must not be empty."""
        with pytest.raises(UserError, match=rf"^data\.{option}=\[\] is empty; use a list of language codes"):
            data(**{option: []})

    @pytest.mark.parametrize("option", ["languages", "test_languages"])
    def test_language_twice(self, data: Any, option: str) -> None:  # noqa: ANN401 - see the fixture
        """Training and test languages must not be repeated."""
        with pytest.raises(
            UserError, match=rf"^data\.{option}=\['tr', 'en', 'tr'\] names a language twice; name each once$"
        ):
            data(**{option: ["tr", "en", "tr"]})

    def test_num_samples_of_no_language(self, data: Any) -> None:  # noqa: ANN401 - see the fixture
        """A number of sentences for a language that is not trained on is an error."""
        with pytest.raises(
            UserError, match=r"^data\.num_samples names 'tur', which is not in data\.languages; use en, tr$"
        ):
            data(languages=["en", "tr"], num_samples={"tur": 5})

    @pytest.mark.parametrize(
        ("num_samples", "expected"),
        [
            (41, "data.num_samples=41 exceeds the 40 sentences of tr/train"),
            ({"tr": 41}, "data.num_samples=41 exceeds the 40 sentences of tr/train"),
            (0, "data.num_samples=0 is not a number of sentences"),
            (-1, "data.num_samples=-1 is not a number of sentences"),
        ],
    )
    def test_num_samples(self, data: Any, num_samples: Any, expected: str) -> None:  # noqa: ANN401 - see the fixture
        """An impossible number of training sentences is an error when a fit is set up."""
        with pytest.raises(UserError) as caught:
            data(languages=["tr"], num_samples=num_samples).setup("fit")
        assert str(caught.value).startswith(expected)

    def test_max_length(self, data: Any, sample_backbone: str) -> None:  # noqa: ANN401 - see the fixture
        """A window longer than the backbone accepts is an error that names both."""
        with pytest.raises(UserError) as caught:
            data(max_length=513).setup("fit")
        assert str(caught.value) == (
            f"data.max_length=513 exceeds the 512 subwords that {sample_backbone} accepts; use 512 or less"
        )
        data(max_length=512).setup("fit")

    @pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
    def test_unknown_language(self, data: Any, stage: str) -> None:  # noqa: ANN401 - see the fixture
        """A language that the source does not have is an error in every stage."""
        with pytest.raises(UserError, match=r"language 'tur' is not in data\.source"):
            data(languages=["tur"]).setup(stage)

    def test_missing_split(self, source: str, data: Any, tmp_path: Path) -> None:  # noqa: ANN401 - see the fixture
        """A fit needs train and validation, a test only test; the error names the missing split."""
        shutil.copytree(source, tmp_path / "part")
        (tmp_path / "part" / "en" / "validation.tsv").unlink()
        with pytest.raises(UserError, match="split 'validation' is not in"):
            data(source=str(tmp_path / "part")).setup("fit")
        data(source=str(tmp_path / "part")).setup("test")


class TestBackbone:
    def test_missing(self, data: Any, tmp_path: Path) -> None:  # noqa: ANN401 - see the fixture
        """A path that is not a folder is an error."""
        with pytest.raises(UserError, match="is not a folder; use a folder in Hugging Face layout or a hub name"):
            data(backbone=str(tmp_path / "nowhere")).setup("fit")

    def test_without_tokenizer(self, data: Any, tiny_backbone: str, tmp_path: Path) -> None:  # noqa: ANN401 - as above
        """A backbone without a tokenizer is an error that names the missing files."""
        for name in ("config.json", "model.safetensors"):
            shutil.copy(Path(tiny_backbone) / name, tmp_path)
        with pytest.raises(UserError, match=r"has no tokenizer; add tokenizer\.json and tokenizer_config\.json"):
            data(backbone=str(tmp_path)).setup("fit")

    def test_with_other_labels(self, data: Any, tiny_backbone: str, tmp_path: Path) -> None:  # noqa: ANN401 - as above
        """A token classifier whose labels are not tags of entity types is an error that shows them, before training."""
        shutil.copytree(tiny_backbone, tmp_path / "other")
        path = tmp_path / "other" / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config |= {"architectures": ["XLMRobertaForTokenClassification"], "id2label": {"0": "O", "1": "B-MISC"}}
        path.write_text(json.dumps({**config, "label2id": {"O": 0, "B-MISC": 1}}), encoding="utf-8")
        with pytest.raises(UserError, match=r"with the labels O, B-MISC, which are not O, B- and I- tags"):
            check_types(str(tmp_path / "other"), data().tag_set)
        check_types(str(tmp_path / "other"), data().tag_set, new_head=True)

    def test_hub_out_of_reach(self, data: Any) -> None:  # noqa: ANN401 - see the fixture
        """A hub name that cannot be loaded is an error that explains how to use a folder."""
        with pytest.raises(RunError, match=r"'nobody/nothing' cannot be loaded .*or a folder with config\.json"):
            data(backbone="nobody/nothing").setup("fit")


class TestTraining:
    @pytest.mark.parametrize("num_samples", [None, 10, 40])
    def test_subset(self, data: Any, num_samples: int | None) -> None:  # noqa: ANN401 - see the fixture
        """An epoch has each sentence of the subset once, in batches of ``batch_size``."""
        module = data(languages=["tr"], num_samples=num_samples, batch_size=8)
        loader = module.train_dataloader()
        assert sorted(sentence_numbers(loader)) == sorted(subset(40, num_samples))
        assert [len(batch.sentences) for batch in loader] == [8] * ((num_samples or 40) // 8) + [2] * (
            num_samples == 10
        )
        assert module.training_sentences("tr").tolist() == subset(40, num_samples).tolist()

    def test_seeds(self, data: Any) -> None:  # noqa: ANN401 - see the fixture
        """The subset depends on both seeds."""
        module = data(languages=["tr"], num_samples=10, shuffle_seed=5, subset_seed=6)
        assert module.training_sentences("tr").tolist() == subset(40, 10, shuffle_seed=5, subset_seed=6).tolist()

    def test_several_languages(self, data: Any) -> None:  # noqa: ANN401 - see the fixture
        """Languages are concatenated, each with its own number of sentences and its own gold labels."""
        module = data(languages=["en", "tr"], num_samples={"en": None, "tr": 10})
        loader = module.train_dataloader()
        assert sorted(sentence_numbers(loader)) == [*range(40), *sorted(40 + subset(40, 10))]
        expected = expected_gold(random_sentences("en", 40), random_sentences("tr", 40))
        assert all(labels == expected[number] for number, labels in gold(loader).items())

    def test_step_words(self, data: Any) -> None:  # noqa: ANN401 - see the fixture
        """On one process, ``step_words`` is the number of labelled pieces of the batch."""
        for batch in data(languages=["en", "tr"], batch_size=8).train_dataloader():
            assert batch.step_words == (batch.labels >= 0).sum() == len(batch.word_label)

    def test_ranks(self, data: Any) -> None:  # noqa: ANN401 - see the fixture
        """Each sentence is on exactly one rank of a trainer, in training and in evaluation."""
        numbers: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
        for rank in range(3):
            module = data(languages=["tr"], batch_size=4)
            module.trainer = SimpleNamespace(
                global_rank=rank,
                world_size=3,
                accumulate_grad_batches=2,
                overfit_batches=0.0,
                training=False,
                state=SimpleNamespace(fn="fit"),
                # All ranks use the number of the first one.
                strategy=SimpleNamespace(broadcast=lambda number: numbers.setdefault("seed", [number])[0]),
            )
            numbers["train"] += sentence_numbers(module.train_dataloader())
            numbers["validation"] += sentence_numbers(module.val_dataloader())
            numbers["test"] += sentence_numbers(module.test_dataloader()[0])
        del numbers["seed"]
        assert {split: sorted(found) for split, found in numbers.items()} == {
            "train": [*range(40)],
            "validation": [*range(20)],
            "test": [*range(25)],
        }

    @pytest.mark.parametrize("packing", [True, False])
    def test_packing(self, data: Any, packing: bool) -> None:  # noqa: ANN401 - see the fixture
        """With packing, windows share rows; without, each has its own."""
        shared = [int(batch.windows.max()) > len(batch.windows) for batch in data(packing=packing).train_dataloader()]
        assert all(shared) is packing
        assert any(shared) is packing


class TestEvaluation:
    def test_validation_is_of_all_languages(self, data: Any) -> None:  # noqa: ANN401 - see the fixture
        """Validation has all sentences of all training languages, whatever the test languages are."""
        module = data(languages=["tr", "en"], test_languages=["en"], num_samples=5)
        expected = expected_gold(random_sentences("tr", 20, seed=1), random_sentences("en", 20, seed=1))
        assert gold(module.val_dataloader()) == expected

    @pytest.mark.parametrize("languages", [["en", "tr"], ["tr", "en"], ["tr"]])
    def test_test_languages(self, data: Any, languages: Sequence[str]) -> None:  # noqa: ANN401 - see the fixture
        """Each test language has a dataloader, in the given order, in testing and in prediction."""
        module = data(languages=["en"], test_languages=languages)
        expected = [expected_gold(random_sentences(language, 25, seed=2)) for language in languages]
        assert [gold(loader) for loader in module.test_dataloader()] == expected
        untagged = [{number: [0] * len(each) for number, each in some.items()} for some in expected]
        assert [gold(loader) for loader in module.predict_dataloader()] == untagged

    def test_test_languages_default(self, data: Any) -> None:  # noqa: ANN401 - see the fixture
        """The test languages default to the training languages."""
        assert data(languages=["tr", "en"]).test_languages == ["tr", "en"]

    def test_budget(self, data: Any) -> None:  # noqa: ANN401 - see the fixture
        """An evaluation batch has at most ``evaluation_pieces`` pieces."""
        for batch in data(evaluation_pieces=60).val_dataloader():
            assert batch.pieces.numel() <= 60


class TestUsedPieces:
    @pytest.mark.parametrize("num_samples", [None, 5, {"en": 3, "tr": 7}])
    @pytest.mark.parametrize("packing", [True, False])
    def test_are_those_looked_up(self, data: Any, num_samples: Any, packing: bool) -> None:  # noqa: ANN401 - as above
        """The result has the pieces of all training and validation batches, ascending and without repetition."""
        module = data(languages=["en", "tr"], num_samples=num_samples, packing=packing, batch_size=8)
        looked_up = {PADDING}
        for loader in (module.train_dataloader(), module.val_dataloader()):
            for batch in loader:
                looked_up |= {*batch.pieces.flatten().tolist()}
        assert module.used_pieces().dtype == np.int64
        assert module.used_pieces().tolist() == sorted(looked_up)

    def test_leave_out_what_is_not_trained_on(self, data: Any, sample_backbone: str) -> None:  # noqa: ANN401 - as above
        """The pieces of other languages and of the test split are not among them."""
        used = {*data(languages=["en"]).used_pieces().tolist()}
        turkish = {*load_tokenizer(sample_backbone)("Galatasaray nehri kulübü")["input_ids"]}
        assert turkish - used


def test_log(tmp_path: Path, sample_backbone: str, caplog: pytest.LogCaptureFixture) -> None:
    """Words that need special treatment are logged in one line per split, with counts."""
    (tmp_path / "tr").mkdir()
    odd = Sentences([["Ankara", "\u200b", "x" * 60], ["a"]], [["B-PER", "I-LOC", "O"], ["O"]])
    (tmp_path / "tr" / "test.tsv").write_bytes(as_tsv(odd).encode())
    module = PanxDataModule(source=str(tmp_path), languages=["tr"], backbone=sample_backbone, max_length=12)
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.INFO)
    with caplog.at_level(logging.INFO):
        module.setup("test")
    [line] = [record.getMessage() for record in caplog.records if record.getMessage().startswith("tr/test: ")]
    assert line == (
        "tr/test: 2 sentences, 4 words; 1 sentences longer than a window (split); 1 words without a subword "
        "(predicted O); 1 words longer than a window (truncated); 1 tags invalid under IOB2 (kept unchanged)"
    )


def test_stages_encode_what_they_need(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401 - as above
    """A fit encodes train and validation, a validation only validation, tests and predictions only test."""
    needed = {
        "fit": {"en/train", "tr/train", "en/validation", "tr/validation"},
        "validate": {"en/validation", "tr/validation"},
        "test": {"tr/test"},
        "predict": {"tr/test"},
    }
    for stage, splits in needed.items():
        module = data(languages=["en", "tr"], test_languages=["tr"])
        module.setup(stage)
        assert set(module._encoded) == {(module.source, split, stage != "predict") for split in splits}
