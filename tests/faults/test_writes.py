"""Faults while a transfer writes, in real processes: one line, no incomplete file, and the same results afterwards."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.fits import LEARN, keep
from tests.commands import options
from tests.transfer.test_restart import REPOSITORY, assert_same_run, transfer
from xner.cli.main import main
from xner.files import cache_folder

WRITTEN = [
    ("config.yaml", 1),
    ("en-test.json", 1),
    ("definition.json", 1),
    ("last.ckpt", 2),
    ("best.ckpt", 1),
    ("model", 1),
    ("counts.npz", 2),
    ("result.json", 1),
    ("results.csv", 2),
    ("README.md", 1),
    ("curve.svg", 1),
    ("report.html", 1),
]
"""Names of what a transfer writes, in this order, and which of its writes is the one with a fault."""

OPTIONS = ("--sizes=[10]", "--select=best")


def faulty(fault: str, name: str, number: int, command: Sequence[str]) -> list[str]:
    """Return a command with a fault."""
    return [sys.executable, "-m", "tests.faults.faulty", fault, name, str(number), *command]


def isolated(program: Sequence[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run a program in namespaces of its own, or skip the test where the system has none."""
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, *options, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"unshare {' '.join(options)} is not possible here")
    return subprocess.run(
        [unshare, *options, *program], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.fixture(scope="module")
def whole(tiny_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run."""
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    main(transfer(root, tiny_backbone, *OPTIONS))
    return root


def assert_whole_files(root: Path, expected: Path) -> None:
    """Every file under its final name is as in an undisturbed run, whose models of later stages are deleted."""
    for path in (each for each in root.rglob("*") if each.suffix in (".npz", ".safetensors", ".svg")):
        deleted = path.parent.name == "model" and path.parents[1].name.startswith("progressive")
        if not deleted and not any(each.endswith(".part") for each in path.parts):
            assert path.read_bytes() == (expected / path.relative_to(root)).read_bytes()


def assert_goes_on(root: Path, backbone: str, whole: Path) -> None:
    """The same command ends with the files of an undisturbed run."""
    main(transfer(root, backbone, *OPTIONS))
    assert_same_run(root, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "number"), WRITTEN)
def test_killed(whole: Path, tiny_backbone: str, tmp_path: Path, name: str, number: int) -> None:
    """A process that is killed when half of a file is written leaves it under another name."""
    root = tmp_path / "run"
    command = faulty("kill", name, number, transfer(root, tiny_backbone, *OPTIONS))
    assert subprocess.run(command, cwd=REPOSITORY, check=False).returncode == -signal.SIGKILL
    assert [*root.rglob(f".{name}.*.part")]
    assert_whole_files(root, whole)
    assert_goes_on(root, tiny_backbone, whole)
    assert not [*root.rglob("*.part")]


ON_A_SMALL_DISK = """
disk=$1 copy=$2
shift 2
mount -t tmpfs -o size=32m tmpfs "$disk" || exit 99
"$@"
code=$?
find "$disk" -name ballast -delete
cp -a "$disk" "$copy"
exit $code
"""
"""A script that runs a command with a disk of 32 MB, and copies it when there is space again."""


def on_a_small_disk(disk: Path, copy: Path, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command with a small disk of its own, which is copied at its end."""
    disk.mkdir()
    ended = isolated(["sh", "-c", ON_A_SMALL_DISK, "sh", str(disk), str(copy), *command], "-rm")
    assert ended.returncode != 99, ended.stderr
    return ended


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "name", "number"),
    [*(("fill", *each) for each in WRITTEN), ("nearly-fill", "last.ckpt", 2), ("nearly-fill", "model", 1)],
)
def test_full_disk(whole: Path, tiny_backbone: str, tmp_path: Path, fault: str, name: str, number: int) -> None:
    """A full disk is one line that names what cannot be written, and what is written before stays."""
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    command = faulty(fault, name, number, transfer(disk / "run", tiny_backbone, *OPTIONS))
    ended = on_a_small_disk(disk, copy, command)
    assert ended.returncode == 1, ended.stderr
    [line] = [each for each in ended.stderr.splitlines() if each.startswith("xner: error: ")]
    assert "Traceback" not in ended.stderr
    assert line.endswith(f"/{name}: No space left on device; free space, and repeat the command")
    assert line.startswith(f"xner: error: {disk / 'run'}/")
    assert not [*copy.rglob("*.part")]
    assert_whole_files(copy / "run", whole)
    assert_goes_on(copy / "run", tiny_backbone, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "number"), [("config.yaml", 1), ("last.ckpt", 2), ("model", 1), ("result.json", 1)])
def test_read_only(whole: Path, tiny_backbone: str, tmp_path: Path, name: str, number: int) -> None:
    """So is a folder of the run that turns read-only."""
    root = tmp_path / "run"
    # Root may write anywhere, so the process is another user in its own eyes.
    command = faulty("read-only", name, number, transfer(root, tiny_backbone, *OPTIONS))
    ended = isolated(command, "--user", "--map-user=1000")
    assert ended.returncode == 1, ended.stderr
    [line] = [each for each in ended.stderr.splitlines() if each.startswith("xner: error: ")]
    assert "Traceback" not in ended.stderr
    assert line.startswith(f"xner: error: {root}/")
    assert line.endswith(": Permission denied")
    assert f"/.{name}." in line
    for folder in [root, *(each for each in root.rglob("*") if each.is_dir())]:
        folder.chmod(0o755)
    assert_whole_files(root, whole)
    assert_goes_on(root, tiny_backbone, whole)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "fill"])
def test_cache(
    whole: Path, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:  # fmt: skip
    """A split that is not cached, or half of it, is encoded again; a full disk of the cache ends no run."""
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    measured = cache_folder() / "products.json"
    monkeypatch.setenv("XNER_CACHE", str(disk / "cache"))
    root = tmp_path / "run"
    command = faulty(fault, "en-train-*.safetensors", 1, transfer(root, tiny_backbone, *OPTIONS))
    (tmp_path / "products").mkdir()
    if measured.exists():  # the libraries of the undisturbed run, so that numbers round as its own
        shutil.copy(measured, tmp_path / "products")
    ended = on_a_small_disk(
        disk, copy, ["sh", "-c", f'cp -a {tmp_path}/products {disk}/cache && exec "$@"', "sh", *command]
    )
    if fault == "fill":
        assert ended.returncode == 0, ended.stderr
        assert "en/train cannot be cached in" in ended.stderr
        assert "No space left on device" in ended.stderr
    else:
        assert ended.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        assert [*copy.glob("cache/.en-train-*.part")]
        assert not [*copy.glob("cache/en-train-*.safetensors")]
        monkeypatch.setenv("XNER_CACHE", str(copy / "cache"))
        main(transfer(root, tiny_backbone, *OPTIONS))
        assert [*copy.glob("cache/en-train-*.safetensors")]
    assert_same_run(root, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "number"), [("last.ckpt", 2), ("model", 1)])
def test_killed_fit(source: Path, still_backbone: Path, tmp_path: Path, name: str, number: int) -> None:
    """A fit that is killed while it writes goes on from its last whole checkpoint to the same model folder.

    A checkpoint of a fit does not hold the random states of dropout, so there is none.
    """

    def fit(root: Path) -> list[str]:
        learning = [*LEARN, "--trainer.max_epochs=3", "--trainer.logger=false"]
        return ["fit", *options(source, still_backbone, root), *learning, *keep(root)]

    root, undisturbed = tmp_path / "cut" / "run", tmp_path / "whole" / "run"
    main(fit(undisturbed))
    ended = subprocess.run(faulty("kill", name, number, fit(root)), cwd=REPOSITORY, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [*root.rglob(f".{name}.*.part")]
    assert not (root / "model").exists()
    main([*fit(root), "--ckpt_path=last"])
    # The card has only the scores of this process, which may not have validated the last epoch.
    for path in (each for each in (undisturbed / "model").iterdir() if each.name != "README.md"):
        assert (root / "model" / path.name).read_bytes() == path.read_bytes(), path.name
