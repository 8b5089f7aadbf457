"""Faults of a training step: one line, the last good checkpoint stays, and the same results afterwards."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.commands import Outcome, Run, assert_one_line, options
from tests.transfer.test_restart import assert_same_run
from xner.batch import Batch
from xner.model.classifier import TokenClassifier

FAULTY_STEP = 13
"""Of 20 in the two epochs of a stage."""


def spoil(model: TokenClassifier) -> None:
    """Put a number that is none into the weights, as a defective memory may."""
    with torch.no_grad():
        model.network.model.classifier.weight[0, 0] = float("nan")


def exhaust(model: TokenClassifier) -> None:
    """Ask for more memory than the processor can have."""
    torch.empty(10**14)


def exhaust_gpu(model: TokenClassifier) -> None:
    """Fail as a GPU without memory does."""
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.10 GiB of which 4.19 MiB is "
        "free. Including non-PyTorch memory, this process has 79.09 GiB memory in use."
    )


LOWER = ("data.batch_size", "trainer.accumulate_grad_batches", "model.gradient_checkpointing=true")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (spoil, ("source-en-seed42: training diverged: the loss of step 14 is nan", "learning rate of", "sentences ")),
        (exhaust, ("out of memory", "tried to allocate 400000000000000 bytes", *LOWER)),
        (exhaust_gpu, ("xner: error: CUDA out of memory; use a lower", *LOWER)),
    ],
)
def test_step(
    run: Run, source: Path, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[TokenClassifier], None], told: tuple[str, ...],
) -> None:  # fmt: skip
    """A step of a transfer that fails names what to change; the checkpoint of the epoch before is resumed from."""
    work = TokenClassifier.training_step
    steps: list[int] = []

    @wraps(work)
    def faulty(model: TokenClassifier, batch: Batch) -> Tensor:
        steps.append(model.trainer.global_step)
        if len(steps) == FAULTY_STEP + 1:
            fault(model)
        return work(model, batch)

    def transfer(name: str) -> Outcome:
        own = ("--sizes=[10]", "--trainer.max_epochs=2", "--trainer.logger=false", "--data.batch_size=4")
        return run("transfer", *options(source, tiny_backbone, tmp_path / name), "--model.learning_rate=5e-3", *own)

    assert transfer("whole").code == 0
    monkeypatch.setattr(TokenClassifier, "training_step", faulty)
    assert_one_line(transfer("run"), 1, *told)
    [last] = (tmp_path / "run").rglob("last.ckpt")
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["global_step"] == 10
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values() if isinstance(value, Tensor))
    assert not [*(tmp_path / "run").rglob("model"), *(tmp_path / "run").rglob("result.json")]
    assert transfer("run").code == 0
    assert steps[FAULTY_STEP + 1] == 10
    assert_same_run(tmp_path / "run", tmp_path / "whole")
