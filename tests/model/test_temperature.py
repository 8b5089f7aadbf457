"""The temperature of probabilities: its fit, and its way into checkpoints and model folders."""

import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn.functional import cross_entropy

from tests.model.tiny import quiet_trainer
from xner import PanxDataModule, TokenClassifier
from xner.model.evaluation import FitTemperature
from xner.model.metrics import TEMPERATURES, Temperature
from xner.model.network import Network
from xner.tags import IGNORE


def words(count: int, scale: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels that were drawn from their softmax at temperature ``scale``, some words without a label."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, 7, generator=generator)
    labels = torch.multinomial((logits / scale).softmax(-1), 1, generator=generator)[:, 0]
    labels[::10] = IGNORE
    return logits, labels


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.7, 5.0])
def test_temperature_is_that_of_lowest_loss(scale: float) -> None:
    """The temperature is within 1 % of the best of a grid of 1,000, on all logits."""
    logits, labels = words(4000, scale)
    metric = Temperature()
    metric.update(logits, labels)
    grid = torch.logspace(-2, 3, 1001, base=2, dtype=torch.float64).tolist()
    best = min(grid, key=lambda each: cross_entropy(logits / each, labels, ignore_index=IGNORE).item())
    assert metric.compute() == pytest.approx(best, rel=0.01)


def test_batches_do_not_matter() -> None:
    """Any batches in any order give the same sums to the last digit, and a word without pieces does not count."""
    logits, labels = words(500, 2.0)
    one, other = Temperature(), Temperature()
    one.update(logits, labels)
    for part in (slice(300, 500), slice(0, 7), slice(7, 300), slice(0, 0)):
        other.update(logits[part], labels[part])
    certain = torch.full((1, 7), -torch.inf)
    certain[0, 0] = 0
    other.update(certain, torch.tensor([IGNORE]))
    assert torch.equal(one.loss, other.loss)
    assert one.compute() == other.compute()


def test_borders() -> None:
    """Without words it is 1; where every word is right or wrong for certain, it stays within its range."""
    assert Temperature().compute() == 1.0
    for gold, expected in ((0, TEMPERATURES[0]), (1, TEMPERATURES[-1])):
        metric = Temperature()
        metric.update(torch.tensor([[9.0, 0.0]]), torch.tensor([gold]))
        assert metric.compute() == pytest.approx(float(expected), abs=1e-3)


def test_fit_leaves_it_in_the_folder(tmp_path: Path) -> None:
    """A fit ends with the temperature of its last validation; folder and checkpoint keep it, a new fit does not."""
    data = PanxDataModule(source="sample", backbone="sample", num_samples=200)
    model = TokenClassifier(backbone="sample", learning_rate=3e-3)
    keep = ModelCheckpoint(tmp_path, filename="it")
    trainer = quiet_trainer(max_epochs=3, callbacks=[keep], enable_checkpointing=True)
    trainer.fit(model, datamodule=data)
    fitted = model.network.temperature
    model.eval()
    metric = Temperature()
    with torch.inference_mode():
        for batch in data.val_dataloader():
            metric.update(model.network.word_logits(batch), batch.word_label.masked_fill(batch.word_piece < 0, IGNORE))
    assert fitted == pytest.approx(metric.compute(), abs=0.002) != 1.0
    checkpoint = torch.load(tmp_path / "it.ckpt", weights_only=True)
    assert FitTemperature.of_checkpoint(checkpoint) == fitted
    assert FitTemperature.of_checkpoint({"callbacks": {}}) == 1.0
    model.network.save(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["calibration_temperature"] == fitted
    assert Network(str(tmp_path / "model")).temperature == fitted
    assert Network("sample").temperature == 1.0
    further = TokenClassifier(backbone=str(tmp_path / "model"))
    quiet_trainer(max_epochs=1, limit_val_batches=0).fit(further, datamodule=data)
    assert further.network.temperature == 1.0
