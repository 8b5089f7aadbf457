"""Network: a pretrained encoder under a token-classification head, without Lightning."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from xner.backbone import folder_of, load_config, no_head, packable, position_start
from xner.backbone.tokenizer import save_tokenizer
from xner.backbone.weights import Loaded, first_not_finite, load_head, load_network, save_network
from xner.batch import Batch
from xner.errors import UserError
from xner.model.decoding import Decoding, Viterbi
from xner.model.fast import hold_freed_memory, release_freed_memory
from xner.model.fast.layers import LastLayer, patch_attention, row_mask
from xner.model.fast.products import Products, warn_of_slow_bfloat16
from xner.model.freezing import Freeze, freeze_layers
from xner.model.lora import LoRA, adapt, merge
from xner.model.vocabulary import CompactEmbedding, compact, restore
from xner.tags import OUTSIDE, TagSet

Precision = Literal["float32", "bfloat16"]
"""Type of the numbers that are multiplied in evaluation."""

_PLACES = 32
"""The number of pieces that the last layer is restricted to is a multiple of this."""

COMPUTING = ("compile", "gradient_checkpointing", "freeze", "accelerate", "evaluation_precision")
"""The options of a network that do not depend on its head."""


class Network(nn.Module):
    """A pretrained encoder under a head that scores every label on every piece.

    The life of a network: it is loaded when it is made; ``begin_training`` prepares its weights for training, and
    ``end_training`` turns them into those of an ordinary network again. Both may be repeated.

    Args:
        backbone: Hub name, folder in Hugging Face layout, or ``sample``.
        tag_set: The tag set, whose order the labels get; ``None`` stands for that of the backbone's head, or PAN-X's.
        new_head: Whether to replace a head that the backbone has.
        compile: Whether to compile the network with ``torch.compile``.
        gradient_checkpointing: Whether to recompute activations in the backward pass.
        lora: Low-rank adapters to train in place of the encoder's weights.
        freeze: Lower layers that are not trained.
        accelerate: Whether to use the exact accelerations of ``xner.model.fast``.
        evaluation_precision: Precision of ``word_logits``, by autocast; ``None`` leaves it to the caller.
        safetensors: Whether to refuse weights in any other file format, such as pickled ones.
        decoding: How ``decode`` predicts labels.

    Attributes:
        model: The network of transformers.
        tag_set: The tag set of the head.
        head_is_new: Whether the head has random weights.
        decoder: Turns the logits of words and their sentences into labels; ``None`` for the highest logit of each.

    Raises:
        UserError: If the backbone does not exist or does not suit an option.
        RunError: If it cannot be loaded.
    """

    def __init__(
        self,
        backbone: str,
        tag_set: TagSet | None = None,
        *,
        new_head: bool = False,
        compile: bool = False,
        gradient_checkpointing: bool = False,
        lora: LoRA | None = None,
        freeze: Freeze | None = None,
        accelerate: bool = True,
        evaluation_precision: Precision | None = None,
        safetensors: bool = False,
        decoding: Decoding = "greedy",
    ) -> None:
        super().__init__()
        if decoding not in get_args(Decoding):
            raise UserError(f"model.decoding={decoding} is not a decoding; use greedy or viterbi")
        config = load_config(backbone)
        self.backbone = backbone
        self.lora = lora
        self.accelerate = accelerate
        self.compiled = compile
        self.recomputes = gradient_checkpointing
        self.replaces_head = new_head
        self.evaluation_precision = evaluation_precision
        self.position_start = position_start(config)
        self.packable = packable(config)
        self.model, self.tag_set, self.head_is_new = self.load(
            backbone, tag_set, new_head=new_head, safetensors=safetensors
        )
        self.decoder: nn.Module | None = Viterbi(self.tag_set) if decoding == "viterbi" else None
        self.register_load_state_dict_pre_hook(_load_whole)  # type: ignore[no-untyped-call]
        self._products: Products | None = None
        self._last_layer: LastLayer | None = None
        if freeze is not None:
            freeze_layers(self.model, freeze)
        if gradient_checkpointing:
            self._checkpoint_gradients()
        if self.packable and accelerate:
            patch_attention(self.model)
            # A compiled network needs the same shapes every time.
            self._last_layer = None if compile else LastLayer(self.model)
        if lora:
            adapt(self.model, lora)
        if compile:
            # Compiling a whole LightningModule fails (lightning 21836).
            self.model.compile()

    def load(self, backbone: str, tag_set: TagSet | None, *, new_head: bool, safetensors: bool) -> Loaded:
        """Load the weights; a subclass may load them under another head."""
        return load_network(backbone, tag_set, new_head=new_head, safetensors=safetensors)

    @property
    def temperature(self) -> float:
        """The divisor of logits that makes probabilities calibrated, see ``Temperature``; 1 if it was not fitted.

        It is part of ``config.json`` of a model folder.
        """
        return float(getattr(self.model.config, "calibration_temperature", 1.0))

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.model.config.calibration_temperature = value

    def forward(self, batch: Batch, places: Tensor | None = None) -> Tensor:
        """Score every label on pieces.

        Args:
            batch: The batch.
            places: Pieces by their place in the concatenated rows; ``None`` stands for all. *Shape:* (places,)

        Returns:
            Logits. *Shape:* (places, labels), or (rows, width, labels) for all pieces.

        Raises:
            ValueError: If sentences share rows that the network could not keep apart.
        """
        if places is None:
            return self._logits(batch)
        if self._last_layer is None or not batch.pieces.is_cpu:
            return self._logits(batch).flatten(0, 1)[places]
        # Repeated places make the shapes of the last layer few, see ``xner.data.packing``.
        with self._last_layer.only(pad(places, (0, -len(places) % _PLACES))):
            return self._logits(batch)[0, : len(places)]

    def _logits(self, batch: Batch) -> Tensor:
        with self._fast_products(batch):
            if self.packable:
                output = self.model(
                    input_ids=batch.pieces,
                    attention_mask=row_mask(batch.windows, additive=self.accelerate),
                    position_ids=batch.positions + self.position_start,
                )
            else:
                if bool((batch.windows != batch.windows[:, :1]).logical_and(batch.windows > 0).any()):
                    raise ValueError(f"{self.backbone} cannot keep sentences of a row apart; use data.packing=false")
                output = self.model(input_ids=batch.pieces, attention_mask=(batch.windows > 0).long())
        logits: Tensor = output.logits
        return logits

    def _fast_products(self, batch: Batch) -> AbstractContextManager[None]:
        if batch.pieces.is_cpu and torch.is_autocast_enabled("cpu"):
            warn_of_slow_bfloat16()
        # The recomputation of gradient checkpointing is outside of the block, but must do the same.
        recomputes = self.training and self.recomputes
        if not self.accelerate or self.compiled or recomputes or not batch.pieces.is_cpu:
            return nullcontext()
        self._products = self._products or Products(self.model)
        return self._products.used()

    def word_logits(self, batch: Batch) -> Tensor:
        """Score every label on every word, by its first piece; a word without pieces is certainly ``O``.

        Returns:
            Logits. *Shape:* (words, labels)
        """
        device = batch.pieces.device.type
        precise = self.evaluation_precision
        with torch.autocast(device, torch.bfloat16, precise == "bfloat16") if precise else nullcontext():
            logits: Tensor = self(batch, batch.word_piece.clamp(min=0))
        certain = logits.new_full(logits.shape[1:], -math.inf)
        certain[OUTSIDE] = 0
        return torch.where(batch.word_piece[:, None] < 0, certain, logits)

    def decode(self, logits: Tensor, sentence: Tensor) -> Tensor:
        """Predict the label of every word, sentence by sentence.

        All words of a sentence are decoded together, whatever windows and rows their pieces are in, because a batch has
        whole sentences.

        Args:
            logits: Those of ``word_logits``. *Shape:* (words, labels)
            sentence: The sentence of each word, not decreasing. *Shape:* (words,)

        Returns:
            Labels. *Shape:* (words,)
        """
        labels: Tensor = self.decoder(logits, sentence) if self.decoder else logits.argmax(dim=-1)
        return labels

    def decode_scored(self, logits: Tensor, sentence: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Predict the label of every word as ``decode`` does, and its probability on this word alone.

        Returns:
            Labels and their probabilities. *Shape of both:* (words,)
        """
        labels = self.decode(logits, sentence)
        return labels, (logits.float() / temperature).softmax(dim=-1).gather(1, labels[:, None])[:, 0]

    def train(self, mode: bool = True) -> "Network":
        """Set the mode, and discard the packed matrices, which belong to one evaluation."""
        self._products = None
        super().train(mode)
        return self

    def begin_training(self, pieces: Tensor | None, convert: Callable[[nn.Module], nn.Module] | None = None) -> None:
        """Prepare the weights for training: adapters, precision, and only the embedding rows that occur.

        Args:
            pieces: The ids of the pieces that occur, ascending; ``None`` trains all rows. *Shape:* (used,)
            convert: Converts the network to the precision of training. Rows that do not occur decay as they would in
                that precision, so it comes first.
        """
        self._products = None
        if self.lora:
            adapt(self.model, self.lora)
        if convert:
            convert(self.model)
        rows = self.model.get_input_embeddings()
        if pieces is not None and isinstance(rows, nn.Embedding) and rows.weight.requires_grad:
            compact(self.model, pieces, folder_of(self.backbone))
        if self.accelerate:
            hold_freed_memory()

    def end_training(self) -> None:
        """Restore the whole embedding matrix and merge the adapters, so that the network is an ordinary one again."""
        self._products = None
        release_freed_memory()
        restore(self.model)
        merge(self.model)
        self.head_is_new = False

    def load_trained(self, weights: Mapping[str, Any]) -> None:
        """Load the ``state_dict`` of a network in training, with adapters if it has any, after ``end_training``."""
        self._products = None
        if self.lora:
            adapt(self.model, self.lora)
        self.load_state_dict(weights)
        merge(self.model)
        self.head_is_new = False

    def with_own_head(self) -> "Network":
        """Load the trained head of a model folder where it is not transformers' own, as a subclass may have made it.

        Returns:
            The network itself.

        Raises:
            UserError: If the head of the folder has another shape than that of the network.
        """
        if self.head_is_new and not self.replaces_head and load_head(self.model, self.backbone, self.tag_set):
            self.head_is_new = False
        return self

    def check_head(self) -> None:
        """Check that the head is trained.

        Raises:
            UserError: If it has random weights, or the head of the model folder has another shape.
        """
        if self.with_own_head().head_is_new:
            raise no_head(self.backbone)

    def check_labels(self, tag_set: TagSet) -> None:
        """Check that the labels of some data are those of the head.

        Args:
            tag_set: The tag set of the data.

        Raises:
            UserError: If it has other types, or the same in another order.
        """
        if tag_set != self.tag_set:
            raise UserError(
                f"the data has the entity types {tag_set}, but the model was made for {self.tag_set}, in this order; "
                f"give the data module types=[{', '.join(self.tag_set.types)}], or make a model for this data"
            )

    def first_not_finite(self) -> str | None:
        """Return the name of a weight that is not finite, ``None`` where all are."""
        return first_not_finite(self.model.state_dict())

    def save(self, folder: Path | str) -> None:
        """Write the network and its tokenizer in Hugging Face layout, without a record of what it was trained on."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_network(self.model, folder)
        save_tokenizer(self.backbone, folder)

    def _checkpoint_gradients(self) -> None:
        if not self.model.supports_gradient_checkpointing:
            kind = self.model.config.model_type
            raise UserError(
                f"model.gradient_checkpointing=true is not supported by {self.backbone} ({kind}); use false"
            )
        # Renamed within transformers 5.
        enable = getattr(self.model, "activation_checkpointing_enable", self.model.gradient_checkpointing_enable)
        enable({"use_reentrant": False})


def _load_whole(network: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Let a network with a whole embedding load the state of one with a compact one."""
    assert isinstance(network, Network)
    if not isinstance(network.model.get_input_embeddings(), CompactEmbedding):
        for name in [each for each in state if each.startswith(prefix) and each.endswith("._extra_state")]:
            del state[name]
