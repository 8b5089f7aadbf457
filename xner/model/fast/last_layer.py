"""The last layer, for the pieces that are scored alone.

Behind its attention, a layer of the BERT family does to each piece what it does to it alone: two thirds of its
arithmetic. No layer comes after the last one, so that pieces which no word is labelled on need not go that way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LastLayer:
    """The last layer of a network that is told which pieces are to be scored.

    Args:
        network: A token classifier of the BERT or RoBERTa family; its layer gets a hook.
    """

    def __init__(self, network: "PreTrainedModel") -> None:
        self.places: Tensor | None = None
        encoder: Any = network.base_model.encoder
        layer = encoder.layer[-1]
        layer.attention.output.register_forward_pre_hook(self._choose)
        # Gradient checkpointing would compute this one anew at once, and for all places.
        layer.gradient_checkpointing = False

    @contextmanager
    def only(self, places: Tensor) -> Iterator[None]:
        """Within the block, the network's output has one row, of these places of the batch's rows laid end to end.

        Args:
            places: *Shape:* (places,)
        """
        self.places = places
        try:
            yield
        finally:
            self.places = None

    def _choose(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Choose of what attention found, and of what it is added to. *Shapes:* (rows, width, hidden)."""
        if self.places is None:
            return None
        return tuple(each.flatten(0, 1).index_select(0, self.places)[None] for each in inputs)
