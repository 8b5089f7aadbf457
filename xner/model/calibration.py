"""Calibration: whether the probabilities of predicted labels are those of being right (Guo et al. 2017)."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BINS = 15
"""Number of bins of equal width, as in Guo et al. 2017."""


class Calibration(NamedTuple):
    """Sums over the words of each bin; bin ``b`` has the probabilities above ``b / BINS`` up to ``(b + 1) / BINS``.

    Attributes:
        words: Number of words. *Shape:* (bins,)
        probability: Sum of the probabilities of their predicted labels. *Shape:* (bins,)
        right: Number of words whose predicted label is the gold label. *Shape:* (bins,)
    """

    words: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]
    right: npt.NDArray[np.int64]


def calibrate(probability: npt.NDArray[np.floating], right: npt.NDArray[np.bool_]) -> Calibration:
    """Divide words into bins by the probabilities of their predicted labels, and sum each bin.

    Args:
        probability: The probability of the predicted label of each word. *Shape:* (words,)
        right: Whether that label is the gold label. *Shape:* (words,)

    >>> calibrate(np.array([0.9, 0.99, 0.3]), np.array([True, False, True])).words.tolist()
    [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    """
    places = np.searchsorted(np.arange(1, BINS) / BINS, probability, side="left")
    return Calibration(
        np.bincount(places, minlength=BINS),
        np.bincount(places, probability, minlength=BINS).astype(np.float64),  # without words, it is of integers
        np.bincount(places[right], minlength=BINS),
    )


def calibration_error(calibration: Calibration) -> float:
    """Compute the expected calibration error (Guo et al. 2017, equation 3).

    It is the mean over words of the difference, in each bin, between the mean probability and the fraction of words
    that are right; 0 where there is no word.

    >>> calibration_error(calibrate(np.array([0.75, 0.75]), np.array([True, False])))
    0.25
    """
    gaps = np.abs(calibration.probability - calibration.right)
    return float(gaps.sum() / max(int(calibration.words.sum()), 1))
