from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sources import as_tsv, random_sentences, write_source
from xner.data.datamodule import PanxDataModule
from xner.data.sources import Sentences, Split
from xner.data.subset import k_shot, subset
from xner.errors import RunError, UserError
from xner.tags import spans


@pytest.fixture
def data(tmp_path: Path, sample_backbone: str) -> Callable[..., PanxDataModule]:
    write_source(tmp_path / "data", {"train": 40, "validation": 10, "test": 10})
    return lambda **options: PanxDataModule(
        source=str(tmp_path / "data"), backbone=sample_backbone, **{"languages": ["tr"], **options}
    )


counts = st.integers(1, 4).flatmap(
    lambda types: st.lists(st.lists(st.integers(0, 2), min_size=types, max_size=types), min_size=1, max_size=40)
)


@settings(max_examples=200)
@given(counts, st.integers(0, 3))
def test_k_shot(rows: list[list[int]], seed: int) -> None:
    """Each type has k entities, samples are nested over k, and no sentence could have been left out when it came."""
    table = np.array(rows)
    most = int(table.sum(axis=0).min())
    names = [f"T{number}" for number in range(table.shape[1])]
    before: list[int] = []
    for shots in range(1, most + 1):
        chosen = k_shot(table, shots, names, subset_seed=seed).tolist()
        assert chosen[: len(before)] == before
        assert len({*chosen}) == len(chosen)
        assert (table[chosen].sum(axis=0) >= shots).all()
        for place in range(len(before), len(chosen)):
            # The sentence has a type that the earlier ones lack, and is the first of the order that has it.
            lacking = table[chosen[:place]].sum(axis=0) < shots
            assert (lacking & (table[chosen[place]] > 0)).any()
        before = chosen


def test_k_shot_takes_the_rarest_first() -> None:
    """The rarest type is served first, by the order of the second shuffle, and its sentences count for the others."""
    table = np.array([[1, 0], [1, 0], [1, 1], [1, 0], [0, 1], [1, 0]])
    order = subset(6, 6, subset_seed=7).tolist()
    rare = [number for number in order if table[number, 1]]
    expected = rare[:1] if table[rare[0], 0] else [rare[0], next(number for number in order if table[number, 0])]
    assert k_shot(table, 1, ["PER", "LOC"], subset_seed=7).tolist() == expected


@pytest.mark.parametrize(
    ("shots", "expected"),
    [(3, "data.shots=3 exceeds the 2 entities of LOC in tr/train; use 1 to 2"), (0, "data.shots=0 is not a number of")],
)
def test_too_many_shots(shots: int, expected: str) -> None:
    """More entities than the rarest type has are one line that names it."""
    with pytest.raises(UserError, match=f"^{expected}"):
        k_shot(np.array([[2, 1], [3, 1]]), shots, ["PER", "LOC"], where="tr/train")


def test_shots_of_a_module(data: Any) -> None:  # noqa: ANN401 - see the fixture
    """``data.shots`` trains on sentences that have k entities of each type."""
    module = data(shots=3)
    sentences = module.training_split("tr").sentences
    found = [each.type for number in module.training_sentences("tr") for each in spans(sentences.tags[number])]
    assert all(found.count(kind) >= 3 for kind in module.tag_set.types)
    assert {*data(shots=1).training_sentences("tr")} < {*module.training_sentences("tr")}
    assert {*data(shots=3, subset_seed=1).training_sentences("tr")} != {*module.training_sentences("tr")}
    assert len(data(languages=["en", "tr"], shots={"tr": 1}).training_sentences("en")) == 40


@pytest.mark.parametrize(
    "options", [{"num_samples": 5, "shots": 2}, {"shots": {"tr": 2}, "sample_from": "x"}, {"shots": {"de": 2}}]
)
def test_options_exclude_each_other(data: Any, options: dict[str, Any]) -> None:  # noqa: ANN401 - see the fixture
    """Two ways to choose the sentences of a language, or one for a language not in use, are one line."""
    with pytest.raises(UserError, match=r"both choose sentences of tr; use one|is not in data\.languages"):
        data(**options)


class TestSampleFile:
    def test_numbers(self, data: Any, tmp_path: Path) -> None:  # noqa: ANN401 - see the fixture
        """The sentences of a published sample are trained on, whatever the seeds."""
        (tmp_path / "sample.txt").write_text("7\n\n0\r\n39\n", encoding="utf-8")
        module = data(sample_from=str(tmp_path / "sample.txt"), subset_seed=3)
        assert module.training_sentences("tr").tolist() == [7, 0, 39]
        assert sorted(each for batch in module.train_dataloader() for each in batch.sentences.tolist()) == [0, 7, 39]

    def test_folder(self, data: Any, tmp_path: Path) -> None:  # noqa: ANN401 - see the fixture
        """A folder with the sentences themselves stands for their numbers in the source; twins are taken in turn."""
        own = random_sentences("tr", 40)
        first, twin = random_sentences("tr", 40), [9, 3, 21]
        chosen = Sentences([first.words[each] for each in twin], [first.tags[each] for each in twin])
        (tmp_path / "sample" / "tr").mkdir(parents=True)
        (tmp_path / "sample" / "tr" / "train.tsv").write_text(as_tsv(chosen), encoding="utf-8")
        found = data(sample_from={"tr": str(tmp_path / "sample")}).training_sentences("tr").tolist()
        train = Split(data().source, "tr", "train").sentences
        assert [train.words[each] for each in found] == [own.words[each] for each in twin]

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("3\n40\n", "line 2: '40' is not a sentence of tr/train; use 0 to 39"),
            ("-1\n", "line 1: '-1' is not a sentence"),
            ("1\n2\n1\n", "line 3: sentence 1 is on line 1 as well"),
            ("one\n", "line 1: 'one' is not a sentence"),
            ("²\n", "line 1: '²' is not a sentence"),
            ("9" * 6000 + "\n", "line 1: '9999"),
            ("\n", "contains no sentence numbers"),
        ],
    )
    def test_bad_file(self, data: Any, tmp_path: Path, content: str, expected: str) -> None:  # noqa: ANN401 - as above
        """A line that is not the number of a sentence is one line with its number."""
        (tmp_path / "sample.txt").write_text(content, encoding="utf-8")
        with pytest.raises(RunError) as caught:
            data(sample_from=str(tmp_path / "sample.txt")).training_sentences("tr")
        assert expected in str(caught.value)
        assert len(str(caught.value)) < 300

    def test_missing(self, data: Any, tmp_path: Path) -> None:  # noqa: ANN401 - see the fixture
        """A path that does not exist, and sentences that are not in the source, are one line."""
        with pytest.raises(UserError, match=r"data\.sample_from='.*nowhere' does not exist"):
            data(sample_from=str(tmp_path / "nowhere")).training_sentences("tr")
        (tmp_path / "other" / "tr").mkdir(parents=True)
        (tmp_path / "other" / "tr" / "train.tsv").write_text("Xyz\tB-PER\n", encoding="utf-8")
        with pytest.raises(UserError, match=r"sentence 0 \(from 0\) of .*train\.tsv is not in .*train\.tsv"):
            data(sample_from=str(tmp_path / "other")).training_sentences("tr")
