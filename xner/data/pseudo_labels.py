"""Labels that a model has predicted for training sentences, in place of their tags."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from xner.data.encode import Encoded

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PseudoLabels:
    """Predicted labels of some sentences of a split, which is read without its tags.

    Attributes:
        sentences: Indices of the sentences. *Shape:* (chosen,)
        labels: The label of each word of the split; 0 in other sentences. *Shape:* (words,)
        probabilities: The probability of each label of each word, which training compares with in place of the most
            probable label; ``None`` for hard labels. *Shape:* (words, labels)
    """

    sentences: Int64
    labels: npt.NDArray[np.int8]
    probabilities: Float32 | None = None

    def put_on(self, encoded: Encoded) -> Encoded:
        """Return the encoded split with these labels on its words."""
        pieces = encoded.labels.copy()
        has_piece = encoded.word_piece >= 0
        pieces[encoded.word_piece[has_piece]] = self.labels[has_piece]
        return replace(encoded, labels=pieces, word_label=self.labels)
