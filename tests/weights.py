"""Compare the weights of two trainings that should be the same but for rounding."""

from collections.abc import Mapping

import torch
from torch import Tensor


def determined(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select the weights that a training determines: all but the biases of attention's keys.

    A key's bias adds one number to all scores of a query, and softmax ignores such a constant. The bias has no effect
    on the network, and its gradient is zero but for rounding, which differs between CPUs and between orders of the
    same sum. Adam divides a gradient by its own size and so turns this rounding into steps of up to the full learning
    rate. No tolerance is meaningful there: two equal trainings end with other biases of keys.

    In mDeBERTa ``key_proj.bias`` stays selected: its keys also meet queries of the distance, which differ per score.

    Args:
        weights: The weights of a network by name.

    Returns:
        The selected weights.
    """
    return {name: weight for name, weight in weights.items() if not name.endswith(".key.bias")}


def assert_close_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, atol: float) -> None:
    """Assert that two networks have the same weights but for rounding, wherever training determines them.

    Args:
        found: The weights of a network by name.
        expected: The weights of the other network.
        atol: Greatest difference of a number. Rounding grows where a gradient is small, as Adam divides by its size,
            and reaches about 1e-2 of the learning rate; another batch or another mean makes steps of its whole size.
    """
    assert found.keys() == expected.keys()
    torch.testing.assert_close(determined(found), determined(expected), rtol=0, atol=atol)
