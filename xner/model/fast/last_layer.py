"""The last layer, computed for the scored pieces only.

After its attention, a layer of the BERT family transforms each piece independently, which is two thirds of its
arithmetic. Nothing attends to the last layer, so pieces that are not scored can be left out there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LastLayer:
    """The last layer of a network, which can be restricted to some pieces.

    Args:
        network: A token classifier of the BERT or RoBERTa family; a hook is added to its layer.
    """

    def __init__(self, network: "PreTrainedModel") -> None:
        self.places: Tensor | None = None
        encoder: Any = network.base_model.encoder
        layer = encoder.layer[-1]
        layer.attention.output.register_forward_pre_hook(self._choose)
        # Gradient checkpointing would recompute this layer right away, and for all pieces.
        layer.gradient_checkpointing = False

    @contextmanager
    def only(self, places: Tensor) -> Iterator[None]:
        """Restrict the network's output within a block to one row of these pieces.

        Args:
            places: The pieces, by their place in the rows laid end to end. *Shape:* (places,)
        """
        self.places = places
        try:
            yield
        finally:
            self.places = None

    def _choose(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Select from the attention output and from its residual. *Shapes:* (rows, width, hidden)."""
        if self.places is None:
            return None
        return tuple(each.flatten(0, 1).index_select(0, self.places)[None] for each in inputs)
