import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xner.model.calibration import BINS, calibrate, calibration_error

Word = tuple[float, bool]
"""The probability of a word's predicted label, and whether it is right."""

words = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), max_size=40)


def arrays(found: list[Word]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([p for p, _ in found], dtype=np.float32), np.array([right for _, right in found], dtype=np.bool_)


def plain_bins(found: list[Word]) -> list[list[Word]]:
    """Put each word into the bin whose borders, lower exclusive and upper inclusive, are around its probability."""
    bins: list[list[Word]] = [[] for _ in range(BINS)]
    for p, right in found:
        place = next(place for place in range(BINS) if p <= (place + 1) / BINS)
        bins[place].append((p, right))
    return bins


@given(words)
@example([(0.0, True), (1.0, False), (1.0, True)])
@example([(float(np.float32(0.2)), True), (float(np.float32(0.4)), False), (0.5, True)])
def test_calibration_equals_a_plain_loop(found: list[Word]) -> None:
    """The sums of each bin and the error are those of a loop over the words."""
    bins = plain_bins(found)
    calibration = calibrate(*arrays(found))
    assert calibration.words.tolist() == [*map(len, bins)]
    assert calibration.right.tolist() == [sum(right for _, right in each) for each in bins]
    assert calibration.probability == pytest.approx([math.fsum(p for p, _ in each) for each in bins])
    gaps = [
        len(each) / len(found) * abs(sum(right for _, right in each) / len(each) - sum(p for p, _ in each) / len(each))
        for each in bins
        if each
    ]
    assert calibration_error(calibration) == pytest.approx(math.fsum(gaps), abs=1e-9)


def test_calibrated_and_overconfident_words() -> None:
    """Words that are right as often as they are probable have no error, and certain words that are wrong have 1."""
    calibrated = [(0.75, place % 4 > 0) for place in range(400)]
    assert calibration_error(calibrate(*arrays(calibrated))) == pytest.approx(0)
    assert calibration_error(calibrate(*arrays([(1.0, False)] * 5))) == 1
    assert calibration_error(calibrate(*arrays([]))) == 0
