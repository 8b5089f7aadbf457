import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from xner.errors import UserError
from xner.report.analysis import Scored, analyse, compare
from xner.report.runs import evaluation_on, language_name, load_run, target_language, trained_on
from xner.report.statistics import holm

Write = Callable[..., Path]

PANX = (
    "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv "
    "ka kk ko ml mr ms my nl pt ru sw ta te th tl tr ur vi yo zh"
)
"""The languages of PAN-X in XTREME (Hu et al. 2020)."""


def test_points_are_means_over_seeds(tmp_path: Path, write_run: Write) -> None:
    """Every regime and size is one point, the source stages come first, and F1 is that of results.json over seeds."""
    run = load_run(write_run(tmp_path / "run", regimes=("scratch", "progressive"), seeds=(1, 2)))
    analysis = analyse(run)
    sizes = (250, 1000, 4000)
    regimes = [("source", 0), *(("progressive", size) for size in sizes), *(("scratch", size) for size in sizes)]
    assert [(point.regime, point.size) for point in analysis.points] == regimes
    for point in analysis.points:
        f1 = [each["f1"] for stage in point.stages if (each := evaluation_on(stage, "tr"))]
        assert [stage["seed"] for stage in point.stages] == [1, 2]
        assert point.target.seeds == pytest.approx((fmean(f1), stdev(f1), min(f1), max(f1), 2))
        assert point.target.interval.low < point.target.seeds.mean < point.target.interval.high
        assert point.target.seed_interval is not None
        assert point.target.seed_interval.low < point.target.seeds.mean < point.target.seed_interval.high


def test_forgetting_pairs_the_seeds(tmp_path: Path, write_run: Write) -> None:
    """Forgetting is the mean change of each seed's F1 on the source language, and its deviation that of the changes."""
    analysis = analyse(load_run(write_run(tmp_path / "run", seeds=(1, 2, 3))))
    start = analysis.points[0]
    for point in analysis.points[1:]:
        changes = [
            after["f1"] - before["f1"]
            for a, b in zip(point.stages, start.stages, strict=True)
            if (after := evaluation_on(a, "en")) and (before := evaluation_on(b, "en"))
        ]
        assert point.forgotten is not None
        assert (point.forgotten.mean, point.forgotten.sd) == pytest.approx((fmean(changes), stdev(changes)))


def test_p_values_are_corrected_over_their_column(tmp_path: Path, write_run: Write) -> None:
    """All differences from the source stage are one family of tests, as are those from the next smaller size."""
    analysis = analyse(load_run(write_run(tmp_path / "run", regimes=("progressive", "joint"), sentences=40)))
    for column, tests in (("source", 6), ("before", 4), ("regime", 3)):
        differences = [each for point in analysis.points if (each := getattr(point.target, column))]
        assert len(differences) == tests
        assert [each.p_holm for each in differences] == holm([each.p for each in differences])
        assert any(each.p_holm > each.p for each in differences)


def test_regimes_are_compared_at_the_same_size(tmp_path: Path, write_run: Write) -> None:
    """Regimes are compared with the run's first at each size, and a soup with the seeds that it averages."""
    run = load_run(write_run(tmp_path / "run", regimes=("independent", "progressive"), seeds=(1, 2)))
    [member] = [each for each in run.results if each["stage"] == "independent-tr-250-seed2"]
    averaged = [f"independent-tr-250-seed{seed}" for seed in (1, 2, 3)]
    soup: Any = {**member, "regime": "soup-independent", "seed": None, "start_from": "+".join(averaged[:2])}

    def scores(soup: Any) -> dict[tuple[str, int], Scored]:  # noqa: ANN401 - a Result
        points = analyse(run._replace(results=[*run.results, soup])).points
        return {(point.regime, point.size): point.target for point in points}

    points = scores(soup)
    for (regime, size), scored in points.items():
        if regime in ("source", "progressive"):
            assert scored.regime is None
            continue
        other = points["progressive" if regime == "independent" else "independent", size]
        assert scored.regime is not None
        assert scored.regime.value == pytest.approx(scored.seeds.mean - other.seeds.mean)
    assert len(points) == 8
    # One of the stages that are averaged is not there.
    assert scores({**soup, "start_from": "+".join(averaged)})["soup-independent", 250].regime is None


def test_runs_are_compared_where_both_have_a_point(tmp_path: Path, write_run: Write) -> None:
    """Differences are each run's F1 minus the first's at common points, one family."""
    first = analyse(load_run(write_run(tmp_path / "a", sizes=(250, 1000))))
    others = [
        analyse(load_run(write_run(tmp_path / name, sizes=sizes, quality=0.02)))
        for name, sizes in (("b", (1000, 4000)), ("d", (250,)))
    ]
    found = compare(first, others)
    places = [(run.name, point.regime, point.size) for run, point, *_ in found]
    assert places == [("b", "source", 0), ("b", "progressive", 1000), ("d", "source", 0), ("d", "progressive", 250)]
    change = found[1].change
    assert [each.seeds for each in found] == [1, 1, 1, 1]
    assert change.value == pytest.approx(others[0].points[1].target.seeds.mean - first.points[2].target.seeds.mean)
    changes = [each.change for each in found]
    assert [each.p_holm for each in changes] == holm([each.p for each in changes])
    assert any(each.p_holm > each.p for each in changes)


def test_runs_are_compared_at_common_seeds(tmp_path: Path, write_run: Write) -> None:
    """Runs with the same stages do not differ because one has further seeds; without a common one, means differ."""
    some, more = (analyse(load_run(write_run(tmp_path / f"{seeds}", seeds=seeds))) for seeds in ((2,), (1, 2, 3)))
    assert {each.change.value for each in compare(more, [some])} == {0.0}
    assert [each.seeds for each in compare(some, [more])] == [1] * len(some.points)
    other = analyse(load_run(write_run(tmp_path / "other", seeds=(4, 5))))
    for each, mine in zip(compare(some, [other]), some.points, strict=True):
        assert each.seeds == 0
        assert each.change.value == pytest.approx(each.point.target.seeds.mean - mine.target.seeds.mean)


def test_stages_on_different_sentences_are_a_clear_error(tmp_path: Path, write_run: Write) -> None:
    """Stages that were evaluated on different sentences are not compared."""
    run, other = write_run(tmp_path / "run"), write_run(tmp_path / "other", sentences=90)
    stage = "progressive-tr-250-seed42"
    shutil.copytree(other / "stages" / stage, run / "stages" / stage, dirs_exist_ok=True)
    problem = (
        r"different sentences or tags of tr \(120 of the test split and 90 of the test split\).*; report them apart"
    )
    with pytest.raises(UserError, match=f"{run}.*source-en-seed42 and {run}.*{stage} were evaluated on {problem}"):
        analyse(load_run(run))


def test_a_folder_without_complete_stages_is_a_clear_error(tmp_path: Path) -> None:
    """A folder that holds no complete stage is named, with what was looked for."""
    (tmp_path / "stages" / "source-en-seed42").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds no complete stage .*stages/<id>/result\.json"):
        load_run(tmp_path)


def test_languages_of_panx_have_names() -> None:
    """Every language of PAN-X is spelled out, and a code that nobody knows stays as it is."""
    names = [language_name(code) for code in PANX.split()]
    assert len(set(names)) == 40
    assert all(name[0].isupper() and len(name) > 3 for name in names)
    assert [language_name(code) for code in ("en", "tr", "zh", "sw", "yo")] == [
        "English", "Turkish", "Chinese", "Swahili", "Yoruba",
    ]  # fmt: skip
    assert language_name("mylang") == "mylang"


def test_training_data_in_words(tmp_path: Path, write_run: Write) -> None:
    """A joint stage's sentences are told apart by language, which is a code or a name."""
    joint = load_run(write_run(tmp_path / "run", regimes=("joint",), sizes=(250,))).results[-1]
    assert trained_on(joint) == "en 800 + tr 250"
    assert trained_on(joint, language_name) == "English 800 + Turkish 250"


@pytest.mark.parametrize(
    ("trained", "tested", "target"),
    [
        ({"source": ["en"]}, ["en", "tr"], "tr"),
        ({"source": ["en", "de"]}, ["en", "de", "tr"], "tr"),
        ({"adapted": ["tr"], "source": ["en", "de"]}, ["en", "de", "tr"], "tr"),
        ({"source": ["en"]}, ["en"], "en"),
        ({"source": ["en", "de"], "progressive": ["fi"]}, ["en", "de", "tr"], "fi"),
    ],
)
def test_target_language(trained: dict[str, list[str]], tested: list[str], target: str) -> None:
    """Before any few-shot stage, the target is the first language tested that no source stage trains on."""
    evaluations = [{"language": language} for language in tested]
    results: Any = [
        {"regime": regime, "train_languages": languages, "evaluations": evaluations}
        for regime, languages in trained.items()
    ]
    assert target_language(results) == target
