"""Masked-language modelling (Devlin et al. 2019): a network that predicts masked pieces, and its training.

The head is that of transformers, tied to the embeddings. It scores the pieces that occur in the sentences, not the
whole vocabulary. A softmax over all of it would push away the embedding rows of all other pieces, those of other
languages among them, and AdamW makes large steps of small gradients. Here the rows of pieces that do not occur only
decay, so that the compact vocabulary is exact as well. Perplexities are those of a choice among the pieces that occur.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from transformers import PreTrainedModel

from xner.backbone.weights import Loaded, load_masked
from xner.batch import Batch
from xner.model.classifier import TokenClassifier
from xner.model.network import COMPUTING, Network
from xner.model.vocabulary import CompactEmbedding
from xner.tags import PANX, TagSet


class TiedDecoder(nn.Module):
    """The last layer of a masked-language head, which scores some pieces by their present embedding rows.

    Args:
        model: The network, whose embedding may be compact, of the same pieces.
        bias: The bias of every piece. *Shape:* (vocabulary,)
        pieces: The ids of the pieces to score, ascending. *Shape:* (used,)
    """

    pieces: Tensor

    def __init__(self, model: PreTrainedModel, bias: nn.Parameter, pieces: Tensor) -> None:
        super().__init__()
        # Not as a submodule, because this module is one of the network's.
        self._tied = (model,)
        self.bias = bias
        self.register_buffer("pieces", pieces, persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Score the pieces. *Shapes:* (..., hidden) and (..., used)."""
        rows: Any = self._tied[0].get_input_embeddings()
        compact = isinstance(rows, CompactEmbedding)
        weight = rows.weight[: len(self.pieces)] if compact else rows.weight[self.pieces]
        return linear(hidden, weight, self.bias[self.pieces])


class MaskedNetwork(Network):
    """A pretrained encoder under a masked-language head; the labels are the places of pieces among those that occur.

    Args:
        backbone: Hub name, folder in Hugging Face layout, or ``sample``.
        pieces: The ids of the pieces that occur, ascending. *Shape:* (used,)
        options: Other options of ``Network``.
    """

    def __init__(self, backbone: str, pieces: Tensor, **options: Any) -> None:  # noqa: ANN401 - Network's
        super().__init__(backbone, **options)
        model: Any = self.model
        model.set_output_embeddings(TiedDecoder(model, model.get_output_embeddings().bias, pieces))

    def load(self, backbone: str, tag_set: TagSet | None, *, new_head: bool, safetensors: bool) -> Loaded:
        """Load the weights under the backbone's own masked-language head, or under a new one."""
        return Loaded(load_masked(backbone), tag_set or PANX, False)

    def save(self, folder: Path | str) -> None:
        """Write the network and its tokenizer in Hugging Face layout, and leave it with transformers' own head."""
        model: Any = self.model
        rows = model.get_input_embeddings().weight
        decoder = nn.Linear(rows.shape[1], rows.shape[0], device="meta")
        decoder.weight, decoder.bias = rows, model.get_output_embeddings().bias
        model.set_output_embeddings(decoder)
        super().save(folder)


class MaskedLanguageModel(TokenClassifier):
    """A classifier of masked pieces, whose labels are the pieces that occur.

    Attributes:
        pieces: The ids of the pieces that occur, ascending; set before the network is made. *Shape:* (used,)
    """

    pieces: Tensor

    @classmethod
    def like(cls, other: TokenClassifier, pieces: Tensor) -> "MaskedLanguageModel":
        """Make a model with a classifier's backbone, optimizer and options of computing.

        Args:
            other: The classifier, whose network is not used.
            pieces: The ids of the pieces to choose from, ascending. *Shape:* (used,)
        """
        names = ("backbone", "learning_rate", "weight_decay", "warmup_ratio", "schedule", "compact_vocabulary")
        model = cls(**{name: other.hparams[name] for name in (*names, *COMPUTING)})
        # Not an argument, because a checkpoint holds these, as primitives.
        model.pieces = pieces
        return model

    def make_network(self, tag_set: TagSet | None) -> MaskedNetwork:
        """Load the network under a masked-language head."""
        own = {name: self.hparams[name] for name in COMPUTING}
        return MaskedNetwork(self.backbone_name, self.pieces, tag_set=tag_set, **own)


@torch.inference_mode()
def perplexity(network: Network, batches: Iterable[Batch], device: torch.device) -> float:
    """Compute the perplexity of masked pieces: the exponential of their mean cross-entropy.

    Args:
        network: The network.
        batches: Batches whose words are masked pieces.
        device: Where the network is run.

    Returns:
        The perplexity; nan where nothing is masked.
    """
    training = network.training
    network.to(device).eval()
    total, count = 0.0, 0
    for batch in batches:
        moved = batch.to(device)
        total += float(cross_entropy(network.word_logits(moved).double(), moved.word_label, reduction="sum"))
        count += len(batch.word_label)
    network.train(training)
    return math.exp(total / count) if count else math.nan
