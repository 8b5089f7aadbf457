"""TokenClassifier: the training and evaluation steps of a network, its loss, its logs and its optimizer."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric

from xner.backbone import check_types, load_config
from xner.backbone.weights import first_not_finite
from xner.batch import Batch, BatchSource
from xner.errors import RunError
from xner.model.decoding import Decoding
from xner.model.evaluation import CollectWords, FitTemperature, Words
from xner.model.freezing import Freeze, check_layers, check_trained
from xner.model.lora import LoRA
from xner.model.metrics import SpanF1, validation_scores
from xner.model.monitoring import MonitoredModule
from xner.model.network import COMPUTING, Network, Precision
from xner.model.optimizer import (
    Schedule,
    check_options,
    check_restored,
    check_same_network,
    clip_gradients,
    decay_groups,
    make_adamw,
    schedule_learning_rate,
)
from xner.model.vocabulary import move_optimizer_states
from xner.tags import IGNORE, TagSet


class TokenClassifier(MonitoredModule):
    """XLM-R (Conneau et al. 2020), or another encoder, that labels the first piece of each word.

    To replace the head or the loss, override ``make_network`` or ``loss`` in a subclass.

    Args:
        backbone: Hub name, folder in Hugging Face layout, or 'sample' (embedded in the package). A token classifier
            with the entity types of the data, in any order, keeps its head; an encoder gets a new one.
        new_head: Replace the head of a token classifier, whatever its entity types, and train a new one.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Weight decay of AdamW, per step and multiplied by the learning rate; none on biases and LayerNorm.
        warmup_ratio: Fraction of all optimizer steps over which the learning rate rises from zero to its peak.
        schedule: Learning-rate schedule after warm-up: 'linear' or 'cosine' to zero, or 'constant'.
        compact_vocabulary: Train only the embedding rows of subwords that occur (exact: others decay, at the end).
        compile: Compile the network with torch.compile; worthwhile on a GPU, together with data.few_shapes.
        gradient_checkpointing: Keep only each layer's input for the backward pass and recompute the rest (exact; Chen
            et al. 2016): less memory, for about a third more time.
        lora: Train low-rank adapters in place of the encoder's own weights, such as {rank: 8}, and merge them when
            training ends; null trains the weights. See --model.lora.help.
        freeze: Lower layers that are not trained: 'embeddings' freezes the encoder's embeddings, N freezes them and
            the first N encoder layers; null trains all. Dropout stays active in frozen layers.
        accelerate: Use faster implementations of layers and products, equal up to rounding; false uses PyTorch's own.
        evaluation_precision: Precision of evaluation, 'float32' or 'bfloat16'; null is that of trainer.precision.
        decoding: Predict each word's best tag, 'greedy', or each sentence's best legal IOB2 sequence, 'viterbi'.
    """

    network: Network

    def __init__(
        self,
        *,
        backbone: str = "xlm-roberta-base",
        new_head: bool = False,
        learning_rate: float = 2e-5,
        weight_decay: float = 0.01,
        warmup_ratio: float = 0.0,
        schedule: Schedule = "linear",
        compact_vocabulary: bool = True,
        compile: bool = False,
        gradient_checkpointing: bool = False,
        lora: LoRA | None = None,
        freeze: Freeze | None = None,
        accelerate: bool = True,
        evaluation_precision: Precision | None = None,
        decoding: Decoding = "greedy",
    ) -> None:
        super().__init__()
        # A checkpoint holds primitives, because it is loaded with weights_only.
        self.lora = LoRA(**lora) if isinstance(lora, Mapping) else lora
        check_options(learning_rate, weight_decay, warmup_ratio)
        check_trained(self.lora, freeze)
        self.save_hyperparameters(ignore="lora")
        self.save_hyperparameters({"lora": asdict(self.lora) if self.lora else None})
        self.backbone_name = backbone
        self.validation_loss = MeanMetric()

    def check(self, tag_set: TagSet) -> None:
        """Check the options and the tag set of the data against the backbone, before anything is written."""
        check_types(self.backbone_name, tag_set, new_head=self.hparams["new_head"])
        check_layers(self.hparams["freeze"], load_config(self.backbone_name), self.lora)

    def make_network(self, tag_set: TagSet | None) -> Network:
        """Load the network with a head for a tag set; ``None`` stands for that of the backbone's own head."""
        own = {name: self.hparams[name] for name in (*COMPUTING, "new_head", "decoding")}
        return Network(self.backbone_name, tag_set, lora=self.lora, **own)

    def configure_model(self, tag_set: TagSet | None = None) -> None:
        """Load the network if it is not loaded; Lightning calls this before it restores a checkpoint."""
        data: Any = self.trainer.datamodule if self._trainer else None  # type: ignore[attr-defined] # set by Lightning
        if not hasattr(self, "network"):
            self.network = self.make_network(data.tag_set if isinstance(data, BatchSource) else tag_set).with_own_head()
            self.validation_score = SpanF1(self.network.tag_set)
            self.hparams["types"] = [*self.network.tag_set.types]
        elif isinstance(data, BatchSource) and self.trainer.state.fn != "predict":
            self.network.check_labels(data.tag_set)
        if self._trainer is None or self.trainer.state.fn != "fit":
            return
        occur = self.hparams["compact_vocabulary"] and isinstance(data, BatchSource)
        precision = self.trainer.precision_plugin
        self.network.begin_training(
            torch.from_numpy(data.used_pieces()) if occur else None,
            precision.convert_module if isinstance(precision, HalfPrecision | DoublePrecision) else None,
        )

    def configure_callbacks(self) -> list[Callback]:
        """Add the callbacks that collect the words of tests and predictions, and fit the temperature in validation."""
        return [CollectWords(), FitTemperature()]

    def on_fit_end(self) -> None:
        """Restore the whole network, after freeing the memory that only training needs."""
        for optimizer in self.trainer.optimizers:
            optimizer.state.clear()
        self.zero_grad(set_to_none=True)
        self.network.end_training()

    def take_weights(self, weights: Mapping[str, Any], temperature: float = 1.0) -> None:
        """Load the ``state_dict`` of one of the fit's checkpoints after the fit, and its temperature."""
        self.network.load_trained({name.removeprefix("network."): value for name, value in weights.items()})
        self.network.temperature = temperature

    def forward(self, batch: Batch) -> Any:  # noqa: ANN401 - a Tensor
        """Score every label on every piece. *Shape:* (rows, width, labels)."""
        return self.network(batch)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of pieces, summed.

        Args:
            logits: *Shape:* (pieces, labels)
            labels: Labels, ``IGNORE`` where a piece is not scored, or probabilities. *Shape:* (pieces[, labels])
        """
        return cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="sum")

    def batch_loss(self, batch: Batch) -> Tensor:
        """Compute the loss of a training batch, summed over its labelled words."""
        if batch.labels.is_cpu:
            labelled = (batch.labels.flatten() != IGNORE).nonzero()[:, 0]
            return self.loss(self.network(batch, labelled), batch.targets[labelled])
        # Counting the labelled pieces would wait for the GPU.
        return self.loss(self.network(batch).flatten(0, 1), batch.targets)

    def word_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Compute the loss of a batch from its words' logits in validation, summed; words without pieces have none."""
        return self.loss(logits, batch.word_targets)

    def training_step(self, batch: Batch) -> Tensor:
        """Compute the mean loss over all labelled words of the optimizer step, across processes and accumulation."""
        # Processes average gradients, and Lightning divides by the number of accumulated batches.
        loss = self.batch_loss(batch) / batch.step_words.clamp(min=1) * self.trainer.world_size
        self.log_loss(loss.detach(), batch)
        return loss * self.trainer.accumulate_grad_batches

    def on_validation_start(self) -> None:
        """Check that there is a trained head."""
        super().on_validation_start()
        if self.trainer.state.fn != "fit":
            self.network.check_head()

    def on_test_start(self) -> None:
        """Check that there is a trained head."""
        self.network.check_head()

    on_predict_start = on_test_start

    def validation_step(self, batch: Batch) -> Tensor:
        """Count the spans of a batch, sum the loss of its words, and return their logits."""
        logits = self.network.word_logits(batch)
        predicted = self.network.decode(logits, batch.word_sentence)
        self.validation_score.update(predicted, batch.word_label, batch.word_sentence)
        words = (batch.word_piece >= 0).sum()
        self.validation_loss.update(self.word_loss(logits, batch) / words.clamp(min=1), weight=words)
        return logits

    def on_validation_epoch_end(self) -> None:
        """Log the loss and the scores of all batches and processes."""
        self.log("val/loss", self.validation_loss.compute())
        self.validation_loss.reset()
        scores = self.validation_score.compute()
        self.validation_score.reset()
        for name in validation_scores(self.network.tag_set):
            self.log(f"val/{name}", scores[name].float(), prog_bar=name == "f1")

    def test_step(self, batch: Batch, *_: int) -> Any:  # noqa: ANN401 - Words, which Lightning's type does not allow
        """Predict the words of a batch, and how probable each predicted label is."""
        predicted, score = self.network.decode_scored(self.network.word_logits(batch), batch.word_sentence)
        return Words(predicted, batch.word_label, batch.sentences[batch.word_sentence], score)

    predict_step = test_step

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make AdamW, without decay on biases and LayerNorm, and a learning rate that changes every step."""
        options = self.hparams
        # A gradient scaler would leave unscaling to a fused optimizer, after the clipping below.
        fused = getattr(self.trainer.precision_plugin, "scaler", None) is None
        optimizer = make_adamw(self.network, options["learning_rate"], options["weight_decay"], fused=fused)
        steps = self.trainer.estimated_stepping_batches
        rate = schedule_learning_rate(optimizer, options["schedule"], warmup_ratio=options["warmup_ratio"], steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients without Lightning's own call, which refuses a fused optimizer (lightning 21435)."""
        if not gradient_clip_val:
            return
        options = {"by_value": gradient_clip_algorithm == "value", "in_step": self.hparams["accelerate"]}
        norm = clip_gradients([*self.parameters()], optimizer, gradient_clip_val, **options)
        # A gradient scaler itself skips steps whose gradients are not finite.
        if norm is not None and getattr(self.trainer.precision_plugin, "scaler", None) is None:
            self.expect_finite("gradient norm", norm)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a checkpoint fits, and move the optimizer's states to the embedding rows that are trained now."""
        weights = checkpoint["state_dict"]
        if name := first_not_finite(weights):
            raise RunError(f"ckpt_path has weights that are not finite ({name}); use an older checkpoint")
        saved = checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, self.hparams)
        if self._trainer is None:  # in load_from_checkpoint
            self.configure_model(TagSet(tuple(saved["types"])))
            self.network.head_is_new = False
            return
        fits = self.trainer.state.fn == "fit"
        check_restored(self.hparams, saved, fits=fits)
        check_same_network(self.state_dict(), weights, self.backbone_name, saved["backbone"])
        if fits:
            groups = decay_groups(self.network, self.hparams["weight_decay"])
            move_optimizer_states(checkpoint, self, self.network.model.get_input_embeddings(), groups)
        self.network.head_is_new = False
