"""Several processes on the processor's gloo, started as a user would start them."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning.pytorch as pl
import pytest
from safetensors.torch import load_file

from tests.commands import results
from tests.sources import write_source
from tests.weights import determined
from xner.cli.main import main
from xner.cli.processes import check_lost
from xner.errors import RunError

REPOSITORY = Path(__file__).parents[2]
LAUNCHERS = {
    "lightning": ["train.py"],
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node={}", "train.py"],
}
EVALUATED = 101
"""Sentences of a test split: no number of processes divides it."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with English and Turkish; ten steps of 32, in the last of which one sentence is left."""
    sizes = {"train": 9 * 32 + 1, "validation": 41, "test": EVALUATED}
    return write_source(tmp_path_factory.mktemp("data") / "source", sizes)


@pytest.fixture(scope="module")
def backbone(still_backbone: Path) -> Path:
    """The tiny backbone without dropout."""
    return still_backbone


@pytest.fixture(scope="module")
def model(source: Path, backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder whose predictions differ from word to word."""
    root = tmp_path_factory.mktemp("fit")
    options = ("--data.languages=[en,tr]", "--trainer.max_epochs=6", "--model.learning_rate=1e-2")
    main(words("fit", source, backbone, root, *options))
    return root / "model"


def words(command: str, source: Path, backbone: Path, root: Path, *options: str) -> list[str]:
    """A command's words for one process."""
    return [
        *(command, f"--data.source={source}", f"--model.backbone={backbone}", f"--trainer.default_root_dir={root}"),
        *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.max_epochs=1", *options),
    ]


def start(launcher: str, number: int, command: list[str]) -> subprocess.Popen[str]:
    """Start a command in several processes."""
    program = [sys.executable, *(word.format(number) for word in LAUNCHERS[launcher]), *command]
    several = ["--trainer.strategy=ddp", f"--trainer.devices={number}"]
    pipe = subprocess.PIPE
    return subprocess.Popen([*program, *several], cwd=REPOSITORY, stdout=pipe, stderr=pipe, text=True)


def run(launcher: str, number: int, command: list[str]) -> str:
    """Run a command in several processes to its good end; what it printed."""
    process = start(launcher, number, command)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, out + err
    return out


def running(root: Path) -> dict[int, int]:
    """The processes that work on a folder and have not ended, by their rank."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            command, variables, state = ((folder / name).read_bytes() for name in ("cmdline", "environ", "stat"))
        except (FileNotFoundError, NotADirectoryError, PermissionError, ProcessLookupError):
            continue
        ended = state.rpartition(b") ")[2].startswith(b"Z")
        if str(root).encode() in command and b"torch.distributed.run" not in command and not ended:
            rank = [value for value in variables.split(b"\0") if value.startswith(b"LOCAL_RANK=")]
            found[int(rank[0].partition(b"=")[2]) if rank else 0] = int(folder.name)
    return found


def wait_for(condition: Callable[[], object], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def _nobody_left(tmp_path: Path) -> Iterator[None]:
    """Every process of a test ends soon after the one that it waited for."""
    yield
    try:
        wait_for(lambda: not running(tmp_path), 30)
    finally:
        for process in running(tmp_path).values():
            os.kill(process, signal.SIGKILL)


def furthest(first: Path, other: Path) -> float:
    """Compute the greatest difference of the determined weights that two folders have in common."""
    encoders = []
    for folder in (first, other):
        weights = determined(load_file(folder / "model.safetensors"))
        encoders.append({name.removeprefix("roberta."): weight for name, weight in weights.items()})
    names = encoders[0].keys() & encoders[1].keys()
    assert len(names) > 10
    return max(float((encoders[0][name] - encoders[1][name]).abs().max()) for name in names)


def losses(root: Path) -> list[float]:
    """The logged loss of every step."""
    with (root / "logs" / "version_0" / "metrics.csv").open(encoding="utf-8") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def predicted(launcher: str, number: int, source: Path, model: Path, root: Path, budget: int) -> list[bytes]:
    """The files that ``predict`` writes, without scores, whose rounding depends on the batches."""
    command = words("predict", source, model, root, f"--data.evaluation_pieces={budget}")
    command += ["--data.test_languages=[en,tr]", "--format=conll"]
    if number == 1:
        main(command)
    else:
        # Each file is written once, by one process.
        assert run(launcher, number, command).count("predictions: ") == 2
    return [(root / f"{language}-test.conll").read_bytes() for language in ("en", "tr")]


def test_predict(source: Path, model: Path, tmp_path: Path) -> None:
    """Three processes write the file that one does, to the byte, with every sentence of a split of 101."""
    alone = predicted("lightning", 1, source, model, tmp_path / "1", 1024)
    assert predicted("lightning", 3, source, model, tmp_path / "3", 100) == alone
    assert [text.count(b"\n\n") for text in alone] == [EVALUATED] * 2
    tags = {line.rpartition(b"\t")[2] for line in alone[1].splitlines() if line}
    assert len(tags) > 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3, 4])
@pytest.mark.parametrize("launcher", [*LAUNCHERS])
def test_counts(source: Path, model: Path, tmp_path: Path, launcher: str, number: int) -> None:
    """With every budget, ``predict`` writes one process's bytes and ``test`` prints its very report."""
    for budget in (1, 30, 100, 1024, 100_000):
        alone = predicted(launcher, 1, source, model, tmp_path / "1", budget)
        assert predicted(launcher, number, source, model, tmp_path / str(number), budget) == alone


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3, 4])
def test_report(source: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int) -> None:
    """``test`` prints one process's report, once: every count of it, and its scores to the last digit shown."""
    command = words("test", source, model, tmp_path / "run", "--data.test_languages=[en,tr]")
    capsys.readouterr()
    main(command)
    report = capsys.readouterr().out
    assert report.count("test") >= 2
    assert run("lightning", number, [*command, "--data.evaluation_pieces=77"]) == report


@pytest.mark.parametrize(
    ("launcher", "number", "batch", "accumulate"),
    [
        ("torchrun", 2, 16, 1),
        pytest.param("lightning", 2, 8, 2, marks=pytest.mark.slow),
        pytest.param("lightning", 4, 4, 2, marks=pytest.mark.slow),
        pytest.param("torchrun", 4, 8, 1, marks=pytest.mark.slow),
    ],
)
def test_ten_steps(
    source: Path, backbone: Path, tmp_path: Path, launcher: str, number: int, batch: int, accumulate: int
) -> None:
    """Ten steps of 32 sentences end with the weights that one process ends with; in the last, some have none."""
    every = ("--trainer.log_every_n_steps=1", "--trainer.limit_val_batches=0")
    main(words("fit", source, backbone, tmp_path / "alone", "--data.batch_size=32", *every))
    options = (f"--data.batch_size={batch}", f"--trainer.accumulate_grad_batches={accumulate}", *every)
    run(launcher, number, words("fit", source, backbone, tmp_path / "several", *options))
    assert furthest(tmp_path / "several" / "model", tmp_path / "alone" / "model") <= 1e-6
    assert furthest(backbone, tmp_path / "alone" / "model") > 1e-4
    assert len(losses(tmp_path / "alone")) == 10
    if accumulate == 1:
        assert losses(tmp_path / "several") == pytest.approx(losses(tmp_path / "alone"), abs=1e-5)


def transfer(source: Path, backbone: Path, root: Path, *options: str) -> list[str]:
    """A transfer of two stages, of five epochs each."""
    stages = ("--sizes=[200]", "--trainer.max_epochs=5", "--model.learning_rate=5e-3", "--trainer.logger=false")
    return words("transfer", source, backbone, root, *stages, *options)


def checkpoint(root: Path, stage: str) -> Callable[[], bool]:
    """Whether a stage has one."""
    return (root / "stages" / stage / "checkpoints" / "last.ckpt").is_file


def end(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Wait up to a minute for a process that prints no traceback; return its exit code and xner's lines."""
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err.partition("torch/distributed/elastic")[0], err
    return process.returncode, [line for line in (out + err).splitlines() if "xner: error: " in line]


@pytest.mark.slow
def test_lost_process(source: Path, backbone: Path, tmp_path: Path) -> None:
    """A stage whose second process is killed ends with one line; the same command skips what is complete, and ends."""
    command = transfer(source, backbone, tmp_path / "run")
    process = start("lightning", 2, command)
    wait_for(checkpoint(tmp_path / "run", "progressive-tr-200-seed42"))
    victim = running(tmp_path)[1]
    os.kill(victim, signal.SIGKILL)
    told = f"another process of this command (pid {victim}) was killed by SIGKILL; the same command continues from here"
    assert end(process) == (1, [f"xner: error: {told}"])
    assert run("torchrun", 2, command).count(": complete, F1 ") == 1
    assert len(results(tmp_path / "run")) == 4


def test_errors_of_other_kinds() -> None:
    """An error other than a lost process stays as it is; the error of a lost connection keeps its text."""
    trainer = pl.Trainer(logger=False)
    check_lost(RuntimeError("shapes differ"), trainer, "repeat")
    with pytest.raises(RunError, match=r"the connection to another process was lost \(.*closed by peer\); repeat"):
        check_lost(RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection closed by peer"), trainer, "repeat")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["source-en-seed42", "progressive-tr-200-seed42"])
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize(("launcher", "number"), [("lightning", 2), ("lightning", 3), ("torchrun", 2)])
def test_killed_transfer(
    source: Path, backbone: Path, tmp_path: Path, launcher: str, number: int, victim: int, stage: str
) -> None:
    """Whichever process is killed in whichever stage, a transfer goes on to an undisturbed one's results."""
    run(launcher, number, transfer(source, backbone, tmp_path / "whole"))
    command = transfer(source, backbone, tmp_path / "cut")
    process = start(launcher, number, command)
    wait_for(checkpoint(tmp_path / "cut", stage))
    killed = running(tmp_path)[victim]
    os.kill(killed, signal.SIGKILL)
    code, lines = end(process)
    if launcher == "lightning":
        # Where the first process is killed, nobody is left to say so: the others end with it.
        told = (
            f"xner: error: another process of this command (pid {killed}) was killed by SIGKILL; the same command "
            "continues from here"
        )
        assert lines == ([told] if victim else [])
    assert code == (-signal.SIGKILL if (launcher, victim) == ("lightning", 0) else 1)
    wait_for(lambda: not running(tmp_path), 30)
    run(launcher, number, command)
    assert results(tmp_path / "cut") == results(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("launcher", [*LAUNCHERS])
def test_killed_fit(source: Path, backbone: Path, tmp_path: Path, launcher: str, victim: int) -> None:
    """A fit that loses a process ends, and can be given again."""
    command = words("fit", source, backbone, tmp_path / "run", "--trainer.max_epochs=100")
    process = start(launcher, 2, command)
    wait_for(lambda: [*tmp_path.rglob("*.ckpt")])
    os.kill(running(tmp_path)[victim], signal.SIGKILL)
    code, lines = end(process)
    assert code == (-signal.SIGKILL if (launcher, victim) == ("lightning", 0) else 1)
    if launcher == "lightning":
        assert [line.endswith("was killed by SIGKILL; repeat the command") for line in lines] == [True] * victim
    assert not (tmp_path / "run" / "model").exists()
    wait_for(lambda: not running(tmp_path), 30)
    run(launcher, 2, [*command, "--trainer.max_epochs=1"])
    assert (tmp_path / "run" / "model").is_dir()


BUSY = """
import os, subprocess, sys, time
from xner.cli.processes import end_with_first

end_with_first()
if "LOCAL_RANK" not in os.environ:
    subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env={**os.environ, "LOCAL_RANK": "1"})
else:
    print(os.getppid(), flush=True)
time.sleep(600)
"""
"""A process and its child, neither of which communicates."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_lost_unnoticed() -> None:
    """Where no connection fails, a process ends with the one that started it."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", BUSY], cwd=REPOSITORY, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout
    os.kill(int(process.stdout.readline()), signal.SIGKILL)
    # The child holds the pipe as long as it lives.
    assert end(process) == (-signal.SIGKILL, [])


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [*LAUNCHERS])
def test_transfer(source: Path, backbone: Path, tmp_path: Path, launcher: str) -> None:
    """Two processes give the same results twice, and near those of one; a third start trains nothing in either."""
    for name in ("first", "again"):
        run(launcher, 2, transfer(source, backbone, tmp_path / name, "--data.batch_size=16"))
    assert results(tmp_path / "first") == results(tmp_path / "again")
    for path in (tmp_path / "first").rglob("counts.npz"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "first")).read_bytes()
    main(transfer(source, backbone, tmp_path / "alone", "--data.batch_size=32"))
    for rows in zip(results(tmp_path / "first"), results(tmp_path / "alone"), strict=True):
        assert float(rows[0]["f1"]) == pytest.approx(float(rows[1]["f1"]), abs=0.02)
        assert rows[0]["entities"] == rows[1]["entities"]
    assert max(float(row["f1"]) for row in results(tmp_path / "alone")) > 0.3
    out = run(launcher, 2, transfer(source, backbone, tmp_path / "first", "--data.batch_size=16"))
    assert out.count(": complete, F1 ") == 2
    assert "starts from" not in out
    # What one process takes for the same is as many sentences a step.
    main(transfer(source, backbone, tmp_path / "first", "--data.batch_size=32"))
    with pytest.raises(SystemExit, match="2"):
        main(transfer(source, backbone, tmp_path / "first", "--data.batch_size=16"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("asked", [[0], [1], [0, 1]])
def test_asked_to_stop(source: Path, backbone: Path, tmp_path: Path, asked: list[int], number: int) -> None:
    """A signal to any process stops all after the same step, from which the same command goes on to the same result."""
    run("lightning", 2, transfer(source, backbone, tmp_path / "whole"))
    command = transfer(source, backbone, tmp_path / "cut")
    process = start("lightning", 2, command)
    wait_for(checkpoint(tmp_path / "cut", "source-en-seed42"))
    found = running(tmp_path)
    for rank in asked:
        os.kill(found[rank], number)
    assert end(process) == (128 + number, ["xner: error: stopped: the same command continues from here"])
    assert not [*tmp_path.glob("cut/stages/*/result.json")]
    wait_for(lambda: not running(tmp_path), 30)
    run("lightning", 2, command)
    assert results(tmp_path / "cut") == results(tmp_path / "whole")


def test_plan(source: Path, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plan counts steps of all processes together, and starts none."""
    command = transfer(source, backbone, tmp_path / "run", "--data.batch_size=16", "--plan")
    main([*command, "--trainer.strategy=ddp", "--trainer.devices=2"])
    plan = capsys.readouterr().out
    main([*command, "--data.batch_size=32"])
    assert capsys.readouterr().out == plan
    assert "LOCAL_RANK" not in os.environ


SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "xner",
    "SLURM_NNODES": "1",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "localhost",
    "MASTER_ADDR": "127.0.0.1",
}
"""The environment variables that srun sets for its tasks, and an address of this machine that needs no host name."""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_slurm(source: Path, backbone: Path, tmp_path: Path, number: int) -> None:
    """Two tasks of a SLURM job that both get its signal save and end; the same job goes on from there."""
    command = [*transfer(source, backbone, tmp_path / "run"), "--trainer.strategy=ddp", "--trainer.devices=2"]

    def srun() -> list[subprocess.Popen[str]]:
        tasks = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
        return [
            subprocess.Popen(
                [sys.executable, "train.py", *command],
                env={**os.environ, **SLURM, **tasks, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
                **{"cwd": REPOSITORY, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True},
            )
            for task in range(2)
        ]

    tasks = srun()
    wait_for(checkpoint(tmp_path / "run", "source-en-seed42"))
    for task in tasks:
        task.send_signal(number)
    stopped = "xner: error: stopped: the same command continues from here"
    assert [end(task) for task in tasks] == [(128 + number, [stopped]), (0, [])]
    assert not [*tmp_path.rglob("hpc_ckpt*")]
    assert [end(task) for task in srun()] == [(0, [])] * 2
    assert len(results(tmp_path / "run")) == 4
