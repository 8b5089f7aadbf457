"""Backbones that load in no time, and fits of a few steps on which each test has its own demands."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from transformers import AutoConfig, AutoModelForTokenClassification, PreTrainedConfig

from xner.batch import Batch
from xner.data.datamodule import PanxDataModule
from xner.data.sources import SAMPLE, Sentences
from xner.model.classifier import TokenClassifier
from xner.tags import PANX, TagSet

SAMPLE_BACKBONE = SAMPLE / "backbone"


def make_backbone(folder: Path, config: PreTrainedConfig, *, tokenizer: Path = SAMPLE_BACKBONE, seed: int = 0) -> Path:
    """Write a token classifier of random weights, with its head, under a tokenizer that another folder has."""
    config.id2label = dict(enumerate(PANX.tags))
    config.label2id = dict(PANX.labels)
    torch.manual_seed(seed)
    AutoModelForTokenClassification.from_config(config).save_pretrained(folder)
    for path in tokenizer.glob("tokenizer*"):
        shutil.copyfile(path, folder / path.name)
    return folder


def pretrained_backbone(
    folder: Path, *, source: Path = SAMPLE_BACKBONE, seed: int = 0, dropout: float = 0.0, tag_set: TagSet = PANX
) -> Path:
    """Write a backbone that another folder has, with a head of random weights, and with dropout as asked."""
    config = AutoConfig.from_pretrained(
        source, id2label=dict(enumerate(tag_set.tags)), label2id=dict(tag_set.labels), dtype="float32"
    )
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    torch.manual_seed(seed)
    AutoModelForTokenClassification.from_pretrained(source, config=config).save_pretrained(folder)
    for path in source.glob("*token*"):
        shutil.copyfile(path, folder / path.name)
    return folder


def write_split(path: Path, sentences: Sentences) -> None:
    """Write sentences as a folder source has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = (
        "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True))
        for words, tags in zip(sentences.words, sentences.tags, strict=True)
    )
    path.write_text("\n".join(blocks), encoding="utf-8")


@dataclass
class Record(Callback):
    """The record of each step of a fit.

    Attributes:
        sentences: The numbers of each batch's sentences.
        losses: Each optimizer step's ``train/loss``.
        rates: Each optimizer step's learning rate.
        norms: The gradient's norm at each optimizer step, before clipping and after.
        scores: What validation logged, epoch by epoch.
    """

    sentences: list[list[int]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    norms: list[tuple[float, float]] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    _norm: float = 0.0
    _gradients: list[Tensor] = field(default_factory=list)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Note what Lightning hands over before it clips."""
        self.rates.append(optimizer.param_groups[0]["lr"])
        # Clipping changes them in place, and the step frees those that nobody keeps.
        self._gradients = [each.grad for each in pl_module.parameters() if each.grad is not None]
        self._norm = _norm(self._gradients)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401 - as the base class has it
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Note the loss, and what the optimizer saw."""
        self.sentences.append(batch.sentences.tolist())
        if len(self.norms) < len(self.rates):
            self.losses.append(trainer.callback_metrics["train/loss"].item())
            self.norms.append((self._norm, _norm(self._gradients)))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the scores of an epoch that was trained."""
        metrics = trainer.callback_metrics.items()
        self.scores.append({name: value.item() for name, value in metrics if name.startswith("val/")})

    def __hash__(self) -> int:
        return id(self)


def _norm(gradients: list[Tensor]) -> float:
    return float(torch.nn.utils.get_total_norm(gradients))


@dataclass(frozen=True)
class Fitted:
    """A fit that has ended."""

    model: TokenClassifier
    data: PanxDataModule
    trainer: pl.Trainer
    record: Record

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The network's parameters by name."""
        return {name: weight.detach() for name, weight in self.model.network.model.named_parameters()}


def quiet_trainer(**options: Any) -> pl.Trainer:  # noqa: ANN401 - the Trainer's own
    """Lightning's Trainer as the command line sets it up, on one CPU and without files."""
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "gradient_clip_val": 1.0,
            "use_distributed_sampler": False,
            **options,
        }
    )


def fit(
    backbone: Path,
    *,
    data: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    callbacks: Sequence[Callback] = (),
    ckpt_path: Path | None = None,
    seed: int = 42,
) -> Fitted:
    """Train as ``xner fit`` does, on the embedded sample where the data's options name no other source."""
    record = Record()
    # Lightning keeps the seed in the environment, where the next test would find it.
    with patch.dict(os.environ):
        pl.seed_everything(seed, verbose=False)
        fitted = Fitted(
            TokenClassifier(backbone=str(backbone), **(model or {})),
            PanxDataModule(**{"source": "sample", "backbone": str(backbone), **(data or {})}),
            quiet_trainer(**{"max_epochs": 1, "callbacks": [record, *callbacks], **(trainer or {})}),
            record,
        )
        fitted.trainer.fit(fitted.model, datamodule=fitted.data, ckpt_path=ckpt_path)
    return fitted


def loaded(backbone: Path) -> TokenClassifier:
    """A classifier that is ready to evaluate, without a fit."""
    model = TokenClassifier(backbone=str(backbone))
    model.configure_model()
    return model.eval()
