"""Place the labels of a figure so that none hides a value or another label; lengths are points (1/72 inch)."""

from collections.abc import Sequence
from statistics import fmean

POINT_GAP, LABEL_HEIGHT = 9.0, 11.0
"""Points (1/72 inch): distance from a value to the middle of its label, and between the middles of two labels."""


def clear_labels(heights: Sequence[float]) -> list[float]:
    """Place the labels of values at one size so that they hide neither values nor each other.

    Labels of the upper half go above their values and those of the lower half below, moved outwards as far as needed.

    Args:
        heights: Heights of the values. *Length:* values.

    Returns:
        Heights of the middles of the labels, in the same unit, 1/72 inch. *Length:* values.
    """
    order = sorted(range(len(heights)), key=heights.__getitem__)
    below = len(order) // 2
    placed: dict[int, float] = {}
    for way, indices in ((-1, order[:below][::-1]), (1, order[below:])):
        for index in indices:
            height = heights[index] + way * POINT_GAP
            while any(abs(height - other) < LABEL_HEIGHT for other in placed.values()) or any(
                abs(height - other) < POINT_GAP - 1 for other in heights
            ):
                height += way
            placed[index] = height
    return [placed[index] for index in range(len(heights))]


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move heights apart until neighbours keep a gap, by as little as possible in least squares (isotonic regression).

    >>> spread([10.0, 0.0, 11.0], 5.0)
    [8.0, 0.0, 13.0]
    """
    order = sorted(range(len(heights)), key=heights.__getitem__)
    blocks: list[list[float]] = []
    for rank, index in enumerate(order):
        blocks.append([heights[index] - rank * gap])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    moved = [fmean(block) for block in blocks for _ in block]
    return [moved[order.index(index)] + order.index(index) * gap for index in range(len(heights))]


def keep_apart(places: Sequence[float], width: float) -> list[int]:
    """Choose, from the right, the indices of increasing places that are at least a width apart."""
    kept: list[int] = []
    for index in reversed(range(len(places))):
        if not kept or places[kept[-1]] - places[index] >= width:
            kept.append(index)
    return kept[::-1]
