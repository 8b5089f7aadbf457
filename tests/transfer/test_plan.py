import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xner.errors import UserError
from xner.transfer.plan import REGIMES, SIZES, plan

sizes = st.lists(st.integers(1, 30_000), min_size=1, max_size=7, unique=True).map(sorted)
regimes = st.lists(st.sampled_from([*REGIMES]), min_size=1, unique=True)
seeds = st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True)


def test_the_missions_experiment() -> None:
    """By default a chain: the source stage, then seven sizes of the target, each from the stage before it."""
    stages = plan(source="en", target="tr")
    names = [f"progressive-tr-{size}-seed42" for size in SIZES]
    assert SIZES == (250, 500, 1000, 2000, 5000, 10000, 20000)
    assert [stage.id for stage in stages] == ["source-en-seed42", *names]
    assert [stage.parent for stage in stages] == [None, "source-en-seed42", *names[:-1]]
    assert [stage.train for stage in stages] == [(("en", None),), *((("tr", size),) for size in SIZES)]
    assert [stage.size for stage in stages] == [0, *SIZES]
    assert {stage.seed for stage in stages} == {42}


@pytest.mark.parametrize(
    ("regime", "parents", "train"),
    [
        ("progressive", ["source-en-seed7", "progressive-tr-10-seed7"], []),
        ("independent", ["source-en-seed7"] * 2, []),
        ("scratch", [None] * 2, []),
        ("joint", [None] * 2, [("en", None)]),
        ("self_training", ["source-en-seed7"] * 2, []),
    ],
)
def test_regimes(regime: str, parents: list[str | None], train: list[tuple[str, int | None]]) -> None:
    """Each regime says where its stages start and what they train on; names and seeds are its own."""
    _, *stages = plan(source="en", target="tr", sizes=[10, 20], regimes=[regime], seeds=[7])
    assert [stage.id for stage in stages] == [f"{regime}-tr-10-seed7", f"{regime}-tr-20-seed7"]
    assert [stage.parent for stage in stages] == parents
    assert [stage.train for stage in stages] == [(*train, ("tr", 10)), (*train, ("tr", 20))]
    assert {(stage.regime, stage.seed) for stage in stages} == {(regime, 7)}


@given(sizes, regimes, seeds)
def test_regimes_sizes_and_seeds_multiply(sizes: list[int], regimes: list[str], seeds: list[int]) -> None:
    """There is a stage per regime, size and seed, and a source stage per seed; each stands behind its parent."""
    stages = plan(source="en", target="tr", sizes=sizes, regimes=regimes, seeds=seeds)
    assert len(stages) == len(seeds) * (1 + len(regimes) * len(sizes))
    assert len({stage.id for stage in stages}) == len(stages)
    done: set[str] = set()
    for stage in stages:
        assert stage.parent is None or stage.parent in done
        assert stage.parent is None or stage.parent.endswith(f"-seed{stage.seed}")
        done.add(stage.id)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"sizes": []}, "sizes=[] is empty; use at least one value, such as sizes=[250,500]"),
        ({"regimes": []}, "regimes=[] is empty; use at least one value, such as regimes=[progressive]"),
        ({"seeds": []}, "seeds=[] is empty; use at least one value, such as seeds=[42]"),
        (
            {"sizes": [500, 250]},
            "sizes=[500, 250] is not increasing from 1 or more; use increasing numbers of sentences",
        ),
        ({"sizes": [0, 250]}, "sizes=[0, 250] is not increasing from 1 or more; use increasing numbers of sentences"),
        ({"sizes": [-1]}, "sizes=[-1] is not increasing from 1 or more; use increasing numbers of sentences"),
        ({"sizes": [250, 250]}, "sizes=[250, 250] has duplicates; use each value once"),
        ({"seeds": [1, 1]}, "seeds=[1, 1] has duplicates; use each value once"),
        ({"seeds": [-1]}, "seeds=-1 is out of range; use 0 to 4294967295"),
        ({"regimes": ["joint", "joint"]}, "regimes=['joint', 'joint'] has duplicates; use each value once"),
        (
            {"regimes": ["progresive"]},
            "regimes=['progresive']: 'progresive' is not a regime; use some of progressive, independent, scratch, "
            "joint, self_training",
        ),
        ({"target": "en"}, "source=en is the target en as well; use other languages"),
    ],
)
def test_mistakes(options: dict[str, object], expected: str) -> None:
    """A list that is empty, repeats itself or falls, and a regime or pair that is none, are one line each."""
    with pytest.raises(UserError) as caught:
        plan(**{"source": "en", "target": "tr", **options})
    assert str(caught.value) == expected


def test_pure() -> None:
    """Planning needs neither torch nor Lightning nor transformers."""
    program = "import sys, xner.transfer.plan; print({'torch', 'lightning', 'transformers', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_soups() -> None:
    """Behind all stages, each target, regime and size gets the average of its stages over the seeds."""
    options = {"source": ["en", "de"], "target": ["tr", "fi"], "sizes": [10, 20], "seeds": [3, 4]}
    trained, stages = plan(**options), plan(**options, soup=True)
    assert stages[: len(trained)] == trained
    soups = stages[len(trained) :]
    names = ["source-en+de", *(f"progressive-{target}-{size}" for target in ("tr", "fi") for size in (10, 20))]
    assert [soup.id for soup in soups] == [f"{name}-soup" for name in names]
    for soup, name in zip(soups, names, strict=True):
        assert soup.parent is None
        assert soup.parents == soup.averages == (f"{name}-seed3", f"{name}-seed4")
        assert soup.regime == f"soup-{name.partition('-')[0]}"
    assert [stage.parents for stage in trained] == [(stage.parent,) if stage.parent else () for stage in trained]


def test_soup_of_one_seed() -> None:
    with pytest.raises(UserError, match=r"soup=true averages the stages of several seeds, but seeds=\[3\]; use two"):
        plan(source="en", target="tr", seeds=[3], soup=True)
