"""When processes ask one another whether to stop."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from xner.errors import RunError
from xner.transfer.resume import ResumeCheckpoint, read_begun


@pytest.mark.parametrize(
    ("device", "processes", "logged", "expected"),
    [
        ("cpu", 1, 10, 8),
        ("cpu", 2, 10, 8),
        ("cuda", 1, 10, 8),
        ("cuda", 2, 4, 2),
        ("cuda", 2, 50, 0),
        ("cuda", 2, 0, 0),
    ],
)
def test_gpus_are_asked_where_logging_waits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    processes: int,
    logged: int,
    expected: int,
) -> None:
    """Of nine steps of an epoch, the last of which is followed by its end, all but where several GPUs had to wait."""
    keeper = ResumeCheckpoint(tmp_path, best=False)
    asked = []
    monkeypatch.setattr(keeper, "_stop_if_signalled", lambda trainer, save: asked.append(save))
    for step in range(1, 10):
        trainer = SimpleNamespace(
            accumulate_grad_batches=1,
            num_training_batches=9,
            global_step=step,
            world_size=processes,
            log_every_n_steps=logged,
            strategy=SimpleNamespace(root_device=torch.device(device)),
        )
        keeper.on_train_batch_end(trainer, None, None, None, step - 1)
    assert asked == [True] * expected


@pytest.mark.parametrize("content", ['{"options": 5}', '{"sentences": {"en/train": 5}}', "[]", "7", "", "[" * 100_000])
def test_definition_of_another_kind(tmp_path: Path, content: str) -> None:
    """A definition beside checkpoints whose parts have other types is damaged, not that of other options."""
    (tmp_path / "last.ckpt").touch()
    (tmp_path / "definition.json").write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=r"definition\.json is missing or damaged"):
        read_begun(tmp_path)
