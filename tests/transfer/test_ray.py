import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import results
from tests.transfer.test_restart import NEVER, assert_same_run, run, transfer, two_targets
from xner.cli.main import main
from xner.errors import RunError, UserError
from xner.transfer.plan import Stage, plan
from xner.transfer.run import with_ray

STAGES = plan(source="en", target="tr", sizes=[10, 20], regimes=["progressive", "scratch"], seeds=[1])

Work = Callable[[Stage], Any]


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Ray, on this machine; it leaves nothing running."""
    found = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield found
    assert not found.is_initialized()


def noting(folder: Path, at: str = "", accident: Work | None = None) -> Work:
    """Work that notes its stage's beginning and end; an accident may happen in one of them.

    It holds nothing of this module, so that workers need not find that.
    """

    def work(stage: Stage) -> dict[str, str]:
        (folder / f"{stage.id}.begun").touch()
        if accident and stage.id.startswith(at):
            accident(stage)
        (folder / f"{stage.id}.done").touch()
        return {"stage": stage.id}

    return work


def names(folder: Path, ending: str) -> set[str]:
    return {path.stem for path in folder.glob(f"*.{ending}")}


@pytest.mark.usefixtures("ray")
def test_each_after_its_parent(tmp_path: Path) -> None:
    """All stages are run, each once those whose weights it needs are complete."""

    def check(stage: Stage) -> None:
        assert all((tmp_path / f"{parent}.done").is_file() for parent in stage.parents)

    stages = plan(source="en", target="tr", sizes=[10, 20], regimes=["progressive", "scratch"], seeds=[1, 2], soup=True)
    results = [*with_ray(stages, noting(tmp_path, accident=check), threads=1, gpus=None)]
    assert {result["stage"] for result in results} == {stage.id for stage in stages}
    assert names(tmp_path, "done") == {stage.id for stage in stages}


@pytest.mark.usefixtures("ray")
def test_lost_worker(tmp_path: Path) -> None:
    """A stage whose worker is killed is run again."""

    def die_once(stage: Stage) -> None:
        flag = tmp_path / "flag"
        if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    results = [*with_ray(STAGES, noting(tmp_path, "source", die_once), threads=1, gpus=0)]
    assert (tmp_path / "flag").exists()
    assert len(results) == len(STAGES)


@pytest.mark.usefixtures("ray")
def test_failing_stage(tmp_path: Path) -> None:
    """Where a stage fails, its siblings end, nothing starts from it, and the line names it and what is wrong."""

    def fail(stage: Stage) -> None:
        raise RunError("the disk is full")

    results: list[Any] = []
    with pytest.raises(RunError, match=r"source-en-seed1 failed \(the disk is full\); the same command continues"):
        results += with_ray(STAGES, noting(tmp_path, "source", fail), threads=1, gpus=0)
    assert names(tmp_path, "done") == {"scratch-tr-10-seed1", "scratch-tr-20-seed1"}
    assert not [name for name in names(tmp_path, "begun") if name.startswith("progressive")]


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize(
    ("threads", "gpus", "told"), [(10_000, 0, "OMP_NUM_THREADS=10000"), (1, 1000, "gpus_per_stage=1000")]
)
def test_more_than_there_is(tmp_path: Path, threads: int, gpus: float, told: str) -> None:
    """A stage that takes more than Ray has is told so, rather than waited for."""
    with pytest.raises(UserError, match=f"^{told} exceeds the .* of Ray"):
        [*with_ray(STAGES, noting(tmp_path), threads=threads, gpus=gpus)]


@pytest.mark.usefixtures("ray")
def test_no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An address without a cluster is refused."""
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    with pytest.raises(UserError, match=r"^RAY_ADDRESS='nowhere' is no Ray cluster that answers"):
        [*with_ray(STAGES, noting(tmp_path), threads=1, gpus=0)]


@pytest.mark.usefixtures("ray")
def test_what_stages_print(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What a stage prints is shown with its name, where others print the same as well."""

    def speak(stage: Stage) -> None:
        import time

        print("epoch 1")
        time.sleep(4)  # Ray looks for new lines every second or so.

    [*with_ray(STAGES[:1] + STAGES[3:4], noting(tmp_path, accident=speak), threads=1, gpus=0)]
    out = capfd.readouterr().out
    for stage in (STAGES[0], STAGES[3]):
        assert f"({stage.id} pid=" in out
    assert out.count(") epoch 1\n") == 2


@pytest.mark.usefixtures("ray")
def test_same_results(tiny_backbone: str, tmp_path: Path) -> None:
    """Side by side, killed once and gone on, stages end with the results of one after another."""
    options = two_targets(tmp_path / "source")
    main(transfer(tmp_path / "serial", tiny_backbone, *options))
    command = [*transfer(tmp_path / "ray", tiny_backbone, *options), "--executor=ray"]
    code, _, _ = run(("results.csv", 3, signal.SIGKILL), command)
    assert code == -signal.SIGKILL
    code, out, line = run(NEVER, command)
    assert code == 0, line
    assert out.count(": complete, F1 ") >= 3
    assert_same_run(tmp_path / "ray", tmp_path / "serial")


@pytest.mark.usefixtures("ray")
def test_further_languages(tiny_backbone: str, tmp_path: Path) -> None:
    """Complete stages are tested on languages that a later command adds."""
    options = [*two_targets(tmp_path / "source"), "--target=tr", "--sizes=[10]", "--keep=all", "--executor=ray"]
    command = transfer(tmp_path / "run", tiny_backbone, *options)
    for further, languages in ([], {"en", "tr"}), (["--data.test_languages=[de]"], {"en", "tr", "de"}):
        code, _, line = run(NEVER, [*command, *further])
        assert code == 0, line
        rows = results(tmp_path / "run")
        stages = {row["stage"] for row in rows}
        assert len(stages) == 6
        assert {(row["stage"], row["eval_language"]) for row in rows} == {
            (stage, language) for stage in stages for language in languages
        }


def test_without_ray(
    tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where Ray is not installed, the line says what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit, match="2"):
        main([*transfer(tmp_path / "run", tiny_backbone), "--sizes=[10]", "--executor=ray"])
    assert "executor=ray needs Ray; install it with pip install '.[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--gpus_per_stage=2"], "gpus_per_stage=2.0 is not between 0 and 1"),
        (["--executor=serial", "--gpus_per_stage=1"], "gpus_per_stage=1.0 has no effect with executor=serial"),
        (["--trainer.devices=2"], "executor=ray runs each stage in one process, not in 2"),
    ],
)
def test_bad_options(
    tiny_backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    """More processes or GPUs a stage than one are told so before anything is written."""
    with pytest.raises(SystemExit, match="2"):
        main([*transfer(tmp_path / "run", tiny_backbone), "--sizes=[10]", "--executor=ray", *options])
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
