"""What happens when a file that ``transfer`` or ``fit`` has written is cut in half, has a flipped byte, or is missing.

``TRANSFER`` and ``FIT`` are tables of every such file; a file that they do not name fails the tests.
"""

import os
import re
import shutil
import signal
import zipfile
from collections.abc import Callable
from fnmatch import fnmatch
from functools import wraps
from pathlib import Path
from typing import NamedTuple

import pytest
from torch import Tensor

from tests.cli.fits import keep
from tests.commands import Run, assert_one_line, options, results
from xner.batch import Batch
from xner.cli.main import main
from xner.model.classifier import TokenClassifier

REBUILT = "is written again, without a message"
LEFT = "is not read, and stays as it is"
COPIED = "is the configuration of the folder that the run was copied from"


class Fates(NamedTuple):
    """What the command says of a file: ``REBUILT``, ``LEFT``, or the error that it ends with.

    In an error, ``{file}`` is the file, ``{folder}`` its folder, and ``{stage}`` the one above.
    """

    cut: str
    flipped: str
    missing: str


DAMAGED = "{file} is damaged (*); delete {folder} to run the stage again"
CHANGED = (
    "{folder} is damaged, or was changed after * had written it; restore it from a backup, or delete {stage} to train*"
)
CHECKPOINT = "{file} is damaged*; delete {folder} to restart the stage"
GONE = "{file} is missing; delete {folder} to restart the stage"
BEGUN = "{file} is missing or damaged; delete {folder} to restart the stage"

TRANSFER = {
    "config.yaml": Fates(REBUILT, REBUILT, REBUILT),
    "config-*.yaml": Fates(LEFT, LEFT, COPIED),
    "results.csv": Fates(REBUILT, REBUILT, REBUILT),
    "curve.*": Fates(REBUILT, REBUILT, REBUILT),
    "report.html": Fates(REBUILT, REBUILT, REBUILT),
    "sentences/*-test.json": Fates(REBUILT, REBUILT, REBUILT),
    "stages/*/result.json": Fates(DAMAGED, DAMAGED, REBUILT),
    "stages/*/counts.npz": Fates(DAMAGED, DAMAGED, "{file} is missing; delete {folder} to run the stage again"),
    "stages/*/model/README.md": Fates(LEFT, REBUILT, REBUILT),
    "stages/*/model/config.json": Fates(CHANGED, CHANGED, "*, whose weights are not in {folder}; delete {stage} to*"),
    "stages/*/model/*": Fates(CHANGED, CHANGED, CHANGED),
    "stages/*/checkpoints/definition.json": Fates(BEGUN, BEGUN, BEGUN),
    "stages/*/checkpoints/last.ckpt": Fates(CHECKPOINT, CHECKPOINT, REBUILT),
    "stages/*/checkpoints/best.ckpt": Fates(
        CHECKPOINT, CHECKPOINT, "{file} is missing; delete {folder} to restart the stage"
    ),
    "stages/*/logs/*": Fates(LEFT, LEFT, LEFT),
    ".lock": Fates(LEFT, LEFT, REBUILT),
}
"""The fates of the files of a transfer whose last stage was interrupted, when the same command goes on."""


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if path.suffix == ".npz":
        # An array is checked when it is read, as the target's are for the report.
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo("tr/test/word_predicted.npy")
        middle = content.index(member.filename.encode()) + len(member.filename) + 20 + member.compress_size // 2
    if content:
        content[middle] ^= 0x80
    path.write_bytes(content)


def missing(path: Path) -> None:
    path.unlink()


DAMAGES: dict[str, Callable[[Path], None]] = {"cut": cut, "flipped": flipped, "missing": missing}


def line_of(table: dict[str, Fates], name: str) -> str:
    """Return the first line of a table that is for a file."""
    return next(pattern for pattern in table if fnmatch(name, pattern))


def files_of(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def expected_of(fate: str, path: Path) -> str:
    """Return a pattern of the line of an error."""
    texts = {"{file}": str(path), "{folder}": str(path.parent), "{stage}": str(path.parents[1])}
    parts = re.split(r"(\{\w+\}|\*)", fate)
    return "xner: error: " + "".join(".*" if part == "*" else re.escape(texts.get(part, part)) for part in parts)


def command(root: Path, source: Path, backbone: str, *regimes: str) -> list[str]:
    return [
        *("transfer", *options(source, backbone, root), "--model.learning_rate=5e-3", "--data.batch_size=4"),
        *("--sizes=[10]", "--select=best", "--trainer.max_epochs=2", f"--regimes=[{','.join(regimes)}]"),
        "--few_shot.learning_rate=1e-9",  # so low that the first epoch stays the best
    ]


@pytest.fixture(scope="module")
def stopped(source: Path, tiny_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a complete experiment, to which a stage was added that was interrupted in its second epoch."""
    root = tmp_path_factory.mktemp("stopped") / "run"
    main(command(root, source, tiny_backbone, "progressive"))
    work = TokenClassifier.training_step

    @wraps(work)
    def interrupted(model: TokenClassifier, batch: Batch) -> Tensor:
        if model.trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return work(model, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenClassifier, "training_step", interrupted)
        with pytest.raises(SystemExit, match="130"):
            main(command(root, source, tiny_backbone, "progressive", "independent"))
    return root


@pytest.fixture(scope="module")
def undisturbed(source: Path, tiny_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that was never interrupted."""
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    main(command(root, source, tiny_backbone, "progressive", "independent"))
    return root


def test_transfer_table(stopped: Path, undisturbed: Path) -> None:
    """Every file of a transfer is in the table, and every line of the table is of a file."""
    for name in files_of(undisturbed):
        assert any(fnmatch(name, pattern) for pattern in TRANSFER), name
    assert {line_of(TRANSFER, name) for name in files_of(stopped)} == TRANSFER.keys()


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pattern", TRANSFER)
def test_transfer(
    run: Run, stopped: Path, undisturbed: Path, source: Path, tiny_backbone: str, tmp_path: Path, pattern: str,
    damage: str,
) -> None:  # fmt: skip
    """Each damage to each file has the effect of the table, and the command then ends as the undisturbed run did."""
    for number, name in enumerate(sorted(files_of(stopped))):
        if line_of(TRANSFER, name) != pattern:
            continue
        root = Path(shutil.copytree(stopped, tmp_path / str(number) / "run"))
        path, fate = root / name, getattr(TRANSFER[pattern], damage)
        DAMAGES[damage](path)
        damaged = path.read_bytes() if path.exists() else None
        again = command(root, source, tiny_backbone, "progressive", "independent")
        outcome = run(*again)
        if fate in (REBUILT, LEFT, COPIED):
            assert outcome.code == 0, (name, outcome)
        else:
            assert outcome.code in (1, 2), (name, outcome)
            assert re.fullmatch(expected_of(fate, path), outcome.err.splitlines()[-1]), (name, outcome)
            assert "Traceback" not in outcome.err
            [folder] = re.findall(r"delete (/\S+)", outcome.err) or [path.parent]
            shutil.rmtree(folder)
            assert run(*again).code == 0, name
        if fate == LEFT:
            assert (path.read_bytes() if path.exists() else None) == damaged, name
        assert results(root) == results(undisturbed), name
        if fate not in (LEFT, COPIED) and "/logs/" not in name:
            assert path.exists() == (undisturbed / name).exists(), name
            same = path.suffix in (".json", ".npz", ".safetensors", ".svg") and path.name != "result.json"
            if same and path.exists():
                assert path.read_bytes() == (undisturbed / name).read_bytes(), name
        shutil.rmtree(root)


LOADED = "model.backbone='{folder}' cannot be loaded (*"
NO_TOKENIZER = "model.backbone='{folder}' has no tokenizer.json; add that of the original backbone"
REPLACED = "{folder}/lineage.json does not describe the weights beside it*"

FIT = {
    "config.yaml": Fates(LEFT, LEFT, LEFT),
    "model/config.json": Fates(LOADED, LOADED, "model.backbone='{folder}' holds no config.json*"),
    "model/model.safetensors": Fates(LOADED, REPLACED, "model.backbone='{folder}' holds no model.safetensors*"),
    "model/tokenizer.json": Fates("{file} is damaged (*", "{file} is damaged (*", NO_TOKENIZER),
    "model/tokenizer_config.json": Fates("{file} is damaged (*", "{file} is damaged (*", LEFT),
    "model/lineage.json": Fates(
        "{file} is not a lineage*", "{file} is not a lineage*", "{folder}/seen.safetensors says*"
    ),
    "model/seen.safetensors": Fates("{file} cannot be read*", REPLACED, "{file} cannot be read*"),
    "model/README.md": Fates(LEFT, LEFT, LEFT),
    "checkpoints/*.ckpt": Fates("{file} is damaged*", "{file} is damaged*", "ckpt_path='{file}' does not exist*"),
    "logs/*": Fates(LEFT, LEFT, LEFT),
    ".lock": Fates(LEFT, LEFT, LEFT),
}
"""The fates of the files of a fit, when the model folder is tested, or the checkpoint is resumed from."""


@pytest.fixture(scope="module")
def fitted(source: Path, tiny_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fit."""
    root = tmp_path_factory.mktemp("fitted") / "run"
    main(["fit", *options(source, tiny_backbone, root), *keep(root)])
    return root


def test_fit_table(fitted: Path) -> None:
    """Every file of a fit is in the table, and every line of the table is of a file."""
    assert {line_of(FIT, name) for name in files_of(fitted)} == FIT.keys()


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pattern", FIT)
def test_fit(
    run: Run, fitted: Path, source: Path, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    pattern: str, damage: str,
) -> None:  # fmt: skip
    """Each damage to each file has the effect of the table."""
    monkeypatch.setenv("XNER_CACHE", str(tmp_path / "cache"))  # an encoding in the cache needs no tokenizer
    root = Path(shutil.copytree(fitted, tmp_path / "run"))
    for name in files_of(fitted):
        if line_of(FIT, name) != pattern:
            continue
        path, fate = root / name, getattr(FIT[pattern], damage)
        before = path.read_bytes()
        DAMAGES[damage](path)
        if path.suffix == ".ckpt":
            outcome = run("fit", *options(source, tiny_backbone, tmp_path / "again"), f"--ckpt_path={path}")
        else:
            outcome = run("test", *options(source, root / "model", tmp_path / "again"))
        if fate == LEFT:
            assert outcome.code == 0, (name, outcome)
        else:
            assert outcome.code in (1, 2), (name, outcome)
            [line] = outcome.err.splitlines()
            assert re.fullmatch(expected_of(fate, path), line), (name, outcome)
        assert not (tmp_path / "again" / "model").exists()
        path.write_bytes(before)


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_replaced_weights(
    run: Run, fitted: Path, source: Path, tiny_backbone: str, tmp_path: Path, command: str
) -> None:  # fmt: skip
    """Weights that are not those of their lineage are refused before anything is trained or scored."""
    model = Path(shutil.copytree(fitted / "model", tmp_path / "model"))
    DAMAGES["flipped"](model / "model.safetensors")
    outcome = run(command, *options(source, model, tmp_path / "run"))
    assert_one_line(outcome, 1, "does not describe the weights beside it")
    assert "F1" not in outcome.out
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_fit_again(
    run: Run, fitted: Path, source: Path, tiny_backbone: str, tmp_path: Path, damage: str
) -> None:  # fmt: skip
    """The same fit writes all of its files again, whatever was in their places."""
    root = Path(shutil.copytree(fitted, tmp_path / "run"))
    names = {name for name in files_of(fitted) if name.startswith("model/")}
    for name in {*names, "config.yaml"}:
        DAMAGES[damage](root / name)
    assert run("fit", *options(source, tiny_backbone, root), *keep(root)).code == 0
    assert names <= files_of(root)
    for name in names:
        assert (root / name).read_bytes() == (fitted / name).read_bytes(), name
    assert (root / "config.yaml").is_file()
