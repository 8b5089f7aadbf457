"""Mask pieces of sentences for masked-language modelling (Devlin et al. 2019), which reads no tags."""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from xner.data.encode import Encoded
from xner.data.packing import RowDataset
from xner.data.sampler import BatchIndices, TrainSampler
from xner.tags import IGNORE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Masking:
    """Options of a data module whose batches are for masked-language modelling.

    Attributes:
        probability: Probability that a piece is masked, special tokens excepted.
        left_out: Hashes of sentences that are not trained on. *Shape:* (sentences,)
    """

    probability: float
    left_out: Int64


def mask_pieces(
    encoded: Encoded, used: Int64, tokenizer: "PreTrainedTokenizerFast", *, probability: float, seed: tuple[int, ...]
) -> Encoded:
    """Mask pieces of a split by transformers' collator, which depends on neither batches nor processes.

    Of the masked pieces, the collator replaces 80 % by the mask token and 10 % by a random piece.

    Args:
        encoded: The split.
        used: The ids of the pieces that occur, ascending. Random pieces are drawn from these, because the embedding
            rows of others are not trained. *Shape:* (used,)
        tokenizer: The tokenizer of the backbone.
        probability: Probability that a piece is masked, special tokens excepted.
        seed: Seeds of the random numbers.

    Returns:
        The split with its masked pieces in place of its words: each is labelled by its place in ``used``.
    """
    from transformers import DataCollatorForLanguageModeling

    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=probability)
    collator.generator = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**63)))
    pieces = encoded.pieces.astype(np.int64)
    special = torch.from_numpy(np.isin(pieces, tokenizer.all_special_ids))
    found = collator.torch_mask_tokens(torch.from_numpy(pieces.copy()), special_tokens_mask=special)
    masked, wanted = (each.numpy() for each in found)
    drawn = (masked != pieces) & (masked != tokenizer.mask_token_id)
    masked[drawn] = used[masked[drawn] % len(used)]
    places = np.flatnonzero(wanted != IGNORE)
    labels = np.full(len(pieces), IGNORE)
    labels[places] = np.searchsorted(used, pieces[places])
    return replace(
        encoded,
        pieces=masked.astype(np.int32),
        labels=labels,
        sentence_word=np.searchsorted(places, encoded.window_start[encoded.sentence_window]),
        word_piece=places,
        word_label=labels[places],
    )


@dataclass(eq=False)
class MaskedSampler(TrainSampler):
    """Sample training batches whose pieces are masked, in each epoch others (Liu et al. 2019).

    Args:
        rows: The data set of the batches; at the beginning of an epoch, it gets that epoch's masked pieces.
        used: As in ``mask_pieces``.
        tokenizer: The tokenizer of the backbone.
        probability: Probability that a piece is masked.
    """

    _: KW_ONLY
    rows: RowDataset
    used: Int64
    tokenizer: "PreTrainedTokenizerFast"
    probability: float

    def __post_init__(self) -> None:
        self.plain = self.rows.encoded

    def _batches(self, limit: int) -> Iterator[BatchIndices]:
        # A resumed epoch begins here as well, and so has the masks that it had.
        self.rows.encoded = mask_pieces(
            self.plain, self.used, self.tokenizer, probability=self.probability, seed=(self.seed, self.epoch)
        )
        self.labelled = self.rows.encoded.sentence_labelled
        return super()._batches(limit)
