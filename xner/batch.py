"""What the data hands to the model: the one type in which the two meet.

Ground floor: ``data`` makes batches, ``model`` uses them, and neither imports the other.
"""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Some whole sentences, laid out in rows of pieces, and their words.

    A sentence longer than the window has several windows; all of them are in the sentence's batch.

    Attributes:
        pieces: Piece ids. *Shape:* (rows, width). Padding holds the backbone's padding id.
        positions: A piece's place in its window, from 0; 0 on padding. *Shape:* (rows, width)
        windows: A number for a piece's window, from 1 and unlike its row's other windows'; 0 on padding.
            *Shape:* (rows, width)
        labels: The word's label on its first piece, ``IGNORE`` elsewhere. *Shape:* (rows, width)
        word_piece: Where each word's first piece lies, as ``row * width + column``; -1 for a word without pieces.
            Words in order, sentence after sentence. *Shape:* (words,)
        word_label: Each word's gold label. *Shape:* (words,)
        word_sentence: Which of the batch's sentences each word is in, from 0; never falls. *Shape:* (words,)
        sentences: Each sentence's number in its data set. *Shape:* (sentences,)
        step_words: Labelled pieces of the whole optimizer step, over all ranks and accumulated batches. *Shape:* ()
    """

    pieces: Tensor
    positions: Tensor
    windows: Tensor
    labels: Tensor
    word_piece: Tensor
    word_label: Tensor
    word_sentence: Tensor
    sentences: Tensor
    step_words: Tensor
