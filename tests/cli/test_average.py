"""``fit --select average`` ends with the average of the weights at the end of every epoch."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.cli.fits import CALLBACKS, LEARN, assert_equal_weights, assert_other_weights, weights
from tests.commands import Outcome, Run, assert_one_line, options

DECAY = "--model.weight_decay=0.5"
"""Enough that embedding rows that do not occur change in every epoch."""


def every_epoch(root: Path, *further: str) -> list[str]:
    """Keep a checkpoint of every epoch, as ``epoch=0.ckpt``."""
    return [
        f"--trainer.callbacks+={CALLBACKS}.ModelCheckpoint",
        f"--trainer.callbacks.dirpath={root / 'checkpoints'}",
        "--trainer.callbacks.filename={epoch}",
        "--trainer.callbacks.save_top_k=-1",
        *further,
    ]


def assert_average(root: Path, epochs: int) -> None:
    """Assert that a model folder has the average of the checkpoints' weights, and not those of the last one."""
    paths = sorted((root / "checkpoints").glob("*.ckpt"))
    assert len(paths) == epochs
    saved = [torch.load(path, map_location="cpu", weights_only=True)["state_dict"] for path in paths]
    found = weights(root)
    for name, value in found.items():
        each: list[Tensor] = [state[f"network.model.{name}"] for state in saved]
        torch.testing.assert_close(
            value.double(), torch.stack(each).double().mean(dim=0), rtol=6e-8, atol=0, msg=lambda m, n=name: f"{n}: {m}"
        )
    [embedding] = [name for name in found if name.endswith("word_embeddings.weight")]
    last = saved[-1][f"network.model.{embedding}"]
    pieces = saved[-1][f"network.model.{embedding.removesuffix('weight')}_extra_state"]["pieces"]
    absent = torch.ones(len(last), dtype=torch.bool).index_fill(0, pieces, value=False)
    assert absent.sum() > 100
    # A row that does not occur decays in every epoch; the average has decayed less than the last.
    assert (found[embedding][absent].abs() >= last[absent].abs()).all()
    assert found[embedding][absent].norm() > last[absent].norm() * 1.001


@pytest.fixture(scope="module")
def whole(source: Path, still_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed fit of three epochs."""
    from xner.cli.main import main

    root = tmp_path_factory.mktemp("whole")
    main(["fit", *options(source, still_backbone, root), *LEARN, DECAY, *THREE, *every_epoch(root)])
    return root


THREE = ["--data.languages=[tr]", "--trainer.max_epochs=3", "--select=average"]


def test_average_of_checkpoints(whole: Path) -> None:
    """The average is that of the checkpoints' whole matrices, rounded once."""
    assert_average(whole, 3)


@pytest.mark.parametrize("compact", ["true", "false"])
def test_one_epoch_is_the_last(run: Run, source: Path, still_backbone: Path, tmp_path: Path, compact: str) -> None:
    """The average of one epoch has the weights of that epoch to the bit."""
    for select in ("last", "average"):
        outcome = run(
            *("fit", *options(source, still_backbone, tmp_path / select), *LEARN, DECAY, "--data.languages=[tr]"),
            *(f"--select={select}", f"--model.compact_vocabulary={compact}"),
        )
        assert outcome.code == 0, outcome
    assert "(average of 1 epoch)" in outcome.out
    assert_equal_weights(tmp_path / "last", tmp_path / "average")


def test_compact_vocabulary_changes_nothing(
    run: Run, whole: Path, source: Path, still_backbone: Path, tmp_path: Path
) -> None:
    """Training all rows ends with the same average, but for the last digit of those that do not occur."""
    outcome = run(
        *("fit", *options(source, still_backbone, tmp_path / "run"), *LEARN, DECAY, *THREE),
        "--model.compact_vocabulary=false",
    )
    assert outcome.code == 0, outcome
    expected = weights(tmp_path / "run")
    for name, value in weights(whole).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("at_validation", [False, True])
@pytest.mark.parametrize("epoch", [0, 2])
def test_resume(
    run: Run, whole: Path, source: Path, still_backbone: Path, tmp_path: Path, epoch: int, at_validation: bool
) -> None:
    """A resumed fit ends with the same average, even from a checkpoint saved before its epoch had ended."""

    def fit(name: str, *further: str) -> Outcome:
        where = [*options(source, still_backbone, tmp_path / name), *LEARN, DECAY, *THREE]
        return run("fit", *where, *further)

    saved = whole
    if at_validation:
        saved = tmp_path / "whole"
        outcome = fit("whole", *every_epoch(saved, "--trainer.callbacks.save_on_train_epoch_end=false"))
        assert outcome.code == 0, outcome
        assert_equal_weights(whole, saved)
    outcome = fit("resumed", f"--ckpt_path={saved / 'checkpoints' / f'epoch={epoch}.ckpt'}")
    assert outcome.code == 0, outcome
    assert "(average of 3 epochs)" in outcome.out
    assert_equal_weights(whole, tmp_path / "resumed")


def test_resume_within_an_epoch(run: Run, whole: Path, source: Path, still_backbone: Path, tmp_path: Path) -> None:
    """A checkpoint within an epoch has the average of those before it."""
    root = tmp_path / "cut"
    command = [*LEARN, DECAY, *THREE]
    steps = every_epoch(root, "--trainer.callbacks.every_n_train_steps=7", "--trainer.callbacks.filename={step}")
    assert run("fit", *options(source, still_backbone, root), *command, *steps).code == 0
    outcome = run(
        *("fit", *options(source, still_backbone, tmp_path / "resumed"), *command),
        f"--ckpt_path={root / 'checkpoints' / 'step=7.ckpt'}",
    )
    assert outcome.code == 0, outcome
    assert_equal_weights(whole, tmp_path / "resumed")


def test_epoch_cut_short_counts(run: Run, source: Path, still_backbone: Path, tmp_path: Path) -> None:
    """An epoch that ``max_steps`` cuts short is one of those that are averaged."""
    root = tmp_path / "run"
    outcome = run(
        *("fit", *options(source, still_backbone, root), *LEARN, DECAY, *THREE, *every_epoch(root)),
        *("--trainer.max_steps=7", "--trainer.callbacks.save_on_train_epoch_end=true"),
    )
    assert outcome.code == 0, outcome
    assert "(average of 2 epochs)" in outcome.out
    assert_average(root, 2)


def test_resume_without_an_average(run: Run, fitted: Path, source: Path, still_backbone: Path, tmp_path: Path) -> None:
    """A training that kept no average cannot be continued with one; one that did can go on without it."""
    where = [*LEARN, "--data.languages=[tr]", "--trainer.max_epochs=2"]
    checkpoint = f"--ckpt_path={fitted / 'checkpoints' / 'last.ckpt'}"
    outcome = run("fit", *options(source, still_backbone, tmp_path / "run"), *where, "--select=average", checkpoint)
    assert_one_line(outcome, 2, "select=average cannot continue ckpt_path", "without the average")
    assert not (tmp_path / "run" / "model").exists()


def test_average_is_not_the_last(whole: Path, run: Run, source: Path, still_backbone: Path, tmp_path: Path) -> None:
    """The checkpoints of an averaged training can be continued without it, to the last weights."""
    outcome = run(
        *("fit", *options(source, still_backbone, tmp_path / "run"), *LEARN, DECAY, *THREE, "--select=last"),
        f"--ckpt_path={whole / 'checkpoints' / 'epoch=1.ckpt'}",
    )
    assert outcome.code == 0, outcome
    assert_other_weights(whole, tmp_path / "run")


@pytest.mark.parametrize("command", ["fit", "transfer"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--model.lora.rank=2"], "select=average is not possible with model.lora"),
        (["--trainer.max_epochs=0"], "trainer.max_epochs=0 trains nothing"),
        (
            [f"--trainer.callbacks+={CALLBACKS}.EMAWeightAveraging", "--model.compact_vocabulary=false"],
            "EMAWeightAveraging averages weights by itself, which select=average would replace",
        ),
    ],
)
def test_mistakes(
    run: Run, source: Path, tiny_backbone: str, tmp_path: Path, command: str, given: list[str], expected: str
) -> None:
    """What cannot be averaged is one line before anything is written."""
    outcome = run(command, *options(source, tiny_backbone, tmp_path / "run"), "--select=average", *given)
    assert_one_line(outcome, 2, expected)
    assert not (tmp_path / "run").exists()
