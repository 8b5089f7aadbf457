"""TokenClassifier: a pretrained encoder with a linear layer over its pieces, its loss, its scores and its optimizer."""

import math
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any, Literal, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from xner.backbone import (
    first_not_finite,
    folder_of,
    load_config,
    load_network,
    no_head,
    packable,
    position_start,
)
from xner.batch import Batch
from xner.errors import RunError, UserError
from xner.model.checkpoint import check_options, fit_to, keep
from xner.model.divergence import Diverged, FiniteCheck
from xner.model.fast.attention import patch_attention, row_mask
from xner.model.fast.heap import hold_freed_memory, release_freed_memory
from xner.model.fast.last_layer import LastLayer
from xner.model.fast.matrices import PackedMatrices
from xner.model.freeze import check_layers, freeze
from xner.model.lora import LoRA, adapt, merge
from xner.model.metrics import SpanF1, WordPredictions
from xner.model.optimizer import clip_in_step, clips_in_step, decay_groups
from xner.model.throughput import Speed
from xner.model.vocabulary import compact, restore
from xner.tags import IGNORE, OUTSIDE


class Tested(NamedTuple):
    """What a test found out about one data set.

    Attributes:
        scores: As ``SpanF1`` computes them.
        labels: The predicted label of every evaluated word, in the order of the data set's sentences. *Shape:* (words,)
        sentences: The number of each word's sentence in the data set. *Shape:* (words,)
    """

    scores: dict[str, float]
    labels: Tensor
    sentences: Tensor


class TokenClassifier(pl.LightningModule):
    """XLM-R (Conneau et al. 2020), or another encoder, that labels the first piece of each word.

    Args:
        backbone: Hub name, folder in Hugging Face layout, or 'sample' (embedded in the package). A folder that already
            holds a token classifier with the same tags keeps its head; otherwise the head is new.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: AdamW's weight decay, a step and unit of learning rate; biases and LayerNorm have none.
        warmup_ratio: Share of all optimizer steps over which the learning rate rises from zero to its peak.
        schedule: What becomes of the learning rate afterwards: 'linear' or 'cosine' to zero, or 'constant'.
        compact_vocabulary: Train only the embedding rows of pieces that the data uses (exact: the others would get
            nothing but weight decay, and they do).
        compile: Compile the network with torch.compile; worth its start on a GPU, together with data.few_shapes.
        gradient_checkpointing: Keep a layer's input alone for the backward pass and compute the rest of it again
            (exact; Chen et al. 2016): less memory, for about a third more time.
        lora: Train low-rank adapters in place of the encoder's own weights, as {rank: 8}, and merge them when training
            ends; null trains the weights. See --model.lora.help.
        freeze: Which lower layers are not trained: 'embeddings' freezes the encoder's embeddings, N freezes them and
            the first N encoder layers; null trains all. Freezing changes no dropout.
    """

    def __init__(
        self,
        *,
        backbone: str = "xlm-roberta-base",
        learning_rate: float = 2e-5,
        weight_decay: float = 0.01,
        warmup_ratio: float = 0.0,
        schedule: Literal["linear", "cosine", "constant"] = "linear",
        compact_vocabulary: bool = True,
        compile: bool = False,
        gradient_checkpointing: bool = False,
        lora: LoRA | None = None,
        freeze: Literal["embeddings"] | int | None = None,
    ) -> None:
        super().__init__()
        if not 0 < learning_rate < math.inf:
            raise UserError(f"model.learning_rate={learning_rate} must be above 0 and finite")
        if not 0 <= weight_decay < math.inf:
            raise UserError(f"model.weight_decay={weight_decay} must be 0 or more and finite")
        if not 0 <= warmup_ratio <= 1:
            raise UserError(f"model.warmup_ratio={warmup_ratio} must be between 0 and 1")
        if not (freeze in (None, "embeddings") or (type(freeze) is int and freeze >= 1)):
            raise UserError(f"model.freeze={freeze} is not a number of encoder layers; use 1 or more, or embeddings")
        if lora and freeze is not None:
            raise UserError(f"model.freeze={freeze} is not possible with model.lora, which freezes all layers; use one")
        if lora:
            lora.check()
        self.save_hyperparameters(ignore="lora")
        # A checkpoint is loaded with weights_only, which refuses a class of ours.
        self.save_hyperparameters({"lora": asdict(lora) if lora else None})
        self.backbone_name = backbone
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.schedule = schedule
        self.compact_vocabulary = compact_vocabulary
        self.compile_network = compile
        self.last_layer: LastLayer | None = None
        self.matrices: PackedMatrices | None = None
        self.speed = Speed()
        self.finite = FiniteCheck()
        self.head_is_new = False
        self.gradient_checkpointing = gradient_checkpointing
        self.lora = lora
        self.frozen = freeze  # LightningModule has a method of the option's name
        self.validation_score = SpanF1()
        self.test_scores: list[SpanF1] = []
        self.word_predictions: list[WordPredictions] = []
        self.predicted: list[Tensor] = []
        self.tested: list[Tested] = []

    def check(self) -> None:
        """Hold the options against the backbone's configuration.

        Raises:
            UserError: If the encoder has fewer layers than are to be frozen: said before anything is written.
        """
        if self.frozen is not None:
            check_layers(self.frozen, load_config(self.backbone_name))

    def configure_model(self) -> None:
        """Load the network; Lightning calls this before it restores a checkpoint and makes the optimizer."""
        self.load()
        if self.trainer.state.fn != "fit":
            return
        if self.lora:
            adapt(self.network, self.lora)  # once more, where an earlier fit has merged its own
        if isinstance(precision := self.trainer.precision_plugin, HalfPrecision | DoublePrecision):
            # Lightning would do so afterwards, when a checkpoint has lost digits; and absent rows decay as the type has
            # it that is trained in.
            precision.convert_module(self.network)
        used = getattr(getattr(self.trainer, "datamodule", None), "used_pieces", None)
        rows = self.network.get_input_embeddings()
        if self.compact_vocabulary and used and isinstance(rows, nn.Embedding) and rows.weight.requires_grad:
            compact(self.network, torch.from_numpy(used()), folder_of(self.backbone_name))

    def load(self) -> None:
        """Load the network unless it is there; without a Trainer this is all that ``forward`` needs."""
        if not hasattr(self, "network"):
            config = load_config(self.backbone_name)
            self.position_start = position_start(config)
            self.packable = packable(config)
            self.network, self.head_is_new = load_network(self.backbone_name)
            if self.frozen is not None:
                freeze(self.network, self.frozen)
            if self.gradient_checkpointing:
                self._checkpoint_gradients()
            if self.packable:
                patch_attention(self.network)
                # What is compiled wants the same shapes every time.
                self.last_layer = None if self.compile_network else LastLayer(self.network)
            if self.lora:
                adapt(self.network, self.lora)
            if self.compile_network:
                # The network alone: a whole LightningModule cannot be compiled (lightning 21836).
                self.network.compile()

    def on_fit_start(self) -> None:
        """Have steps reuse one another's memory."""
        hold_freed_memory()
        self.finite = FiniteCheck()

    def on_fit_end(self) -> None:
        """Give the network its whole vocabulary and no adapters, once what training alone needed is out of memory."""
        for optimizer in self.trainer.optimizers:
            optimizer.state.clear()
        self.zero_grad(set_to_none=True)
        release_freed_memory()
        restore(self.network)
        merge(self.network)
        self.head_is_new = False

    def take_weights(self, weights: dict[str, Tensor]) -> None:
        """Take a checkpoint's ``state_dict`` after a fit, which has merged the adapters that it may hold."""
        if self.lora:
            adapt(self.network, self.lora)
        self.load_state_dict(weights)
        merge(self.network)

    def forward(self, batch: Batch) -> Tensor:
        """Score every label on every piece.

        Returns:
            Logits. *Shape:* (rows, width, labels)

        Raises:
            ValueError: If windows share rows but the network could not keep them apart.
        """
        if self.packable:
            output = self.network(
                input_ids=batch.pieces,
                attention_mask=row_mask(batch.windows),
                position_ids=batch.positions + self.position_start,
            )
        else:
            if bool((batch.windows != batch.windows[:, :1]).logical_and(batch.windows > 0).any()):
                raise ValueError(f"{self.backbone_name} cannot keep windows of one row apart: use data.packing=false")
            output = self.network(input_ids=batch.pieces, attention_mask=(batch.windows > 0).long())
        logits: Tensor = output.logits
        return logits

    def predict_words(self, batch: Batch) -> Tensor:
        """Give every word the likeliest label of its first piece, ``O`` where it has none. *Shape:* (words,)."""
        return self.word_logits(batch).argmax(dim=-1)

    def word_logits(self, batch: Batch) -> Tensor:
        """Score every label on every word as on its first piece; where it has none, ``O`` is certain.

        Returns:
            Logits. *Shape:* (words, labels)
        """
        logits = self._logits_at(batch.word_piece.clamp(min=0), batch)
        certain = logits.new_full(logits.shape[1:], -math.inf)
        certain[OUTSIDE] = 0
        return torch.where(batch.word_piece[:, None] < 0, certain, logits)

    def _logits_at(self, places: Tensor, batch: Batch) -> Tensor:
        """Score every label on the pieces at some places of the rows laid end to end.

        Args:
            places: *Shape:* (places,)
            batch: The batch.

        Returns:
            Logits. *Shape:* (places, labels)
        """
        if self.last_layer is None or not batch.pieces.is_cpu:
            every: Tensor = self(batch)
            return every.flatten(0, 1)[places]
        with self.last_layer.only(places):
            chosen: Tensor = self(batch)
        return chosen[0]

    def training_step(self, batch: Batch) -> Tensor:
        """The mean cross-entropy over all labelled words of the optimizer step, across ranks and accumulated batches.

        Ranks average gradients and Lightning divides by the number of accumulated batches, so this batch's share of
        the mean is multiplied by both.
        """
        labels = batch.labels.flatten()
        if batch.labels.is_cpu:
            labelled = (labels != IGNORE).nonzero()[:, 0]
            logits, labels = self._logits_at(labelled, batch), labels[labelled]
        else:
            # How many there are, a GPU would have to be waited for.
            logits = self(batch).flatten(0, 1)
        total = cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")
        loss = total / batch.step_words.clamp(min=1) * (self.trainer.world_size * self.trainer.accumulate_grad_batches)
        logged = loss.detach()
        if self.trainer.world_size > 1:
            # Lightning's sync_dist has all processes wait for one another first; this does not hold a GPU up.
            logged = logged / self.trainer.world_size
            torch.distributed.all_reduce(logged)
        self.log("train/loss", logged, prog_bar=True, batch_size=len(batch.sentences))
        self._expect_finite("loss", logged, batch.sentences)
        return loss

    def _expect_finite(self, name: str, value: Tensor, sentences: Tensor | None = None) -> None:
        """Have a number of this step checked: at once on a CPU, on a GPU where it is waited for anyway."""
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.finite.add(name, value, self.trainer.global_step, rate, sentences)
        if value.is_cpu:
            self.finite.read()

    def on_train_epoch_start(self) -> None:
        """Measure the epoch's own speed."""
        self.speed.restart()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:  # noqa: ANN401 - as the base has it
        """Log how fast it goes, as often as the loss."""
        self.speed.add(batch)
        trainer = self.trainer
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined] # set by Lightning
        # Only where Lightning logs: reading counts makes a GPU wait.
        if every and trainer.global_step % every == 0 and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.finite.read()
            found = self.speed.read(trainer.world_size)
            self.log("train/sentences_per_second", found.pop("sentences_per_second"), prog_bar=True)
            self.log_dict({f"train/{name}": value for name, value in found.items()})

    def on_train_epoch_end(self) -> None:
        """Check the epoch's last steps."""
        self.finite.read()

    def on_validation_start(self) -> None:
        """Have batches share what each would prepare anew."""
        self.finite.read()
        if self.trainer.state.fn != "fit":  # in a fit, the head is being trained
            self.check_head()
        self._begin_evaluation()

    def on_validation_end(self) -> None:
        """Leave the time that validation takes out of training's."""
        self.speed.restart()

    def validation_step(self, batch: Batch) -> None:
        """Count the spans of a batch."""
        self.validation_score.update(self._evaluate(batch), batch.word_label, batch.word_sentence)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of all batches and ranks."""
        self.matrices = None
        scores = self.validation_score.compute()
        self.validation_score.reset()
        shown = ("f1", "precision", "recall", "accuracy", "f1_PER", "f1_ORG", "f1_LOC", "f1_strict", "f1_macro")
        self.log_dict({f"val/{name}": scores[name].float() for name in shown if name != "f1"})
        self.log("val/f1", scores["f1"].float(), prog_bar=True)

    def on_test_start(self) -> None:
        """Make a score for each data set, and a place for its predictions."""
        self.check_head()
        self._begin_evaluation()
        loaders = self.trainer.test_dataloaders or ()
        self.test_scores = [SpanF1().to(self.device) for _ in loaders]
        self.word_predictions = [WordPredictions().to(self.device) for _ in loaders]

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Count the spans of a batch and keep its words' labels."""
        labels, _ = self._keep_words(batch, dataloader_idx)
        self.test_scores[dataloader_idx].update(labels, batch.word_label, batch.word_sentence)

    def on_test_epoch_end(self) -> None:
        """Log the scores of each data set under the name that the data gives it."""
        self._gather_words()
        self.tested = [
            Tested({name: value.item() for name, value in score.compute().items()}, *predicted)
            for score, predicted in zip(self.test_scores, self.predicted, strict=True)
        ]
        names = getattr(getattr(self.trainer, "datamodule", None), "test_languages", range(len(self.tested)))
        for name, tested in zip(names, self.tested, strict=True):
            self.log_dict({f"test/{key}/{name}": value for key, value in tested.scores.items()})

    def on_predict_start(self) -> None:
        """Make a place for each data set's predictions."""
        self.check_head()
        self._begin_evaluation()
        self.word_predictions = [WordPredictions().to(self.device) for _ in self.trainer.predict_dataloaders or ()]

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> tuple[Tensor, Tensor]:
        """Give each word's predicted label and the number of its sentence in the data set. *Shapes:* (words,)."""
        return self._keep_words(batch, dataloader_idx)

    def on_predict_batch_end(self, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:  # noqa: ANN401 - as the base has it
        """End where the system asks for it, which Lightning looks at in its other loops alone."""
        if self.trainer.received_sigterm:
            raise SIGTERMException

    def on_predict_epoch_end(self) -> None:
        """Put the words of all batches and ranks in order, a tensor a data set as ``WordPredictions`` gives it."""
        self._gather_words()

    def check_head(self) -> None:
        """Refuse to score a head of random weights.

        Raises:
            UserError: If the backbone brought no head, and neither a checkpoint nor a fit has trained one.
        """
        if self.head_is_new:
            raise no_head(self.backbone_name)

    def _begin_evaluation(self) -> None:
        # What is compiled has no layers of its own.
        self.matrices = None if self.compile_network else PackedMatrices(self.network)

    def _evaluate(self, batch: Batch) -> Tensor:
        with self.matrices.used() if self.matrices else nullcontext():
            return self.predict_words(batch)

    def _keep_words(self, batch: Batch, loader: int) -> tuple[Tensor, Tensor]:
        labels, sentences = self._evaluate(batch), batch.sentences[batch.word_sentence]
        self.word_predictions[loader].update(labels, sentences)
        return labels, sentences

    def _gather_words(self) -> None:
        self.matrices = None
        self.predicted = [predictions.compute().cpu() for predictions in self.word_predictions]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, without decay on biases and LayerNorm, and a learning rate that changes every step."""
        from transformers import get_scheduler

        # A gradient scaler would leave unscaling to a fused optimizer, after the clipping below.
        fused = getattr(self.trainer.precision_plugin, "scaler", None) is None
        optimizer = torch.optim.AdamW(decay_groups(self.network, self.weight_decay), lr=self.learning_rate, fused=fused)
        steps = self.trainer.estimated_stepping_batches
        if math.isinf(steps):
            raise UserError(
                "trainer.max_epochs=-1 has no end, which the learning rate's schedule needs: give a number, or "
                "trainer.max_steps"
            )
        name = "constant_with_warmup" if self.schedule == "constant" else self.schedule
        scheduler = get_scheduler(name, optimizer, math.ceil(steps * self.warmup_ratio), int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as asked, without Lightning's own call, which refuses a fused optimizer (lightning 21435)."""
        if not gradient_clip_val:
            return
        if gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(self.parameters(), gradient_clip_val)
            return
        in_step = clips_in_step(optimizer)
        norm = (
            clip_in_step(optimizer, gradient_clip_val)
            if in_step
            else nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)
        )
        # A gradient scaler skips steps whose gradients are not finite by itself.
        if getattr(self.trainer.precision_plugin, "scaler", None) is None:
            self._expect_finite("gradient norm", norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the network alone, with its whole vocabulary; scores belong to one evaluation.

        Raises:
            Diverged: If a weight or a number of the last steps is not finite: an older checkpoint is the better one.
        """
        self.finite.read()
        keep(checkpoint, self)
        if name := first_not_finite(checkpoint["state_dict"]):
            raise Diverged(
                f"training diverged: {name} is not finite after step {self.trainer.global_step}; use a lower "
                "model.learning_rate"
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint's vocabulary that of the network, whichever of the two is compact.

        Raises:
            UserError: If an option says one thing, and what the checkpoint restores another.
            RunError: If its weights are not finite.
        """
        if name := first_not_finite(checkpoint["state_dict"]):
            raise RunError(f"ckpt_path holds weights that are not finite ({name}); use an older checkpoint")
        check_options(checkpoint, self)
        fit_to(checkpoint, self)
        self.head_is_new = False

    def _checkpoint_gradients(self) -> None:
        if not self.network.supports_gradient_checkpointing:
            raise UserError(f"{self.backbone_name} ({self.network.config.model_type}) has no gradient checkpointing")
        # Renamed within transformers 5.
        enable = getattr(self.network, "activation_checkpointing_enable", self.network.gradient_checkpointing_enable)
        enable({"use_reentrant": False})
