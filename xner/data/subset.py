"""Which of a split's sentences: seeded shuffles and their prefixes."""

import numpy as np
import numpy.typing as npt

from xner.errors import UserError


def subset(
    sentences: int, num_samples: int | None, *, shuffle_seed: int = 0, subset_seed: int = 42, where: str = "the split"
) -> npt.NDArray[np.int64]:
    """Choose the sentences that the notebook's users train on.

    The split is shuffled with the first seed; a few-shot subset is the first of a second shuffle. Both draw as
    ``datasets.Dataset.shuffle`` does, so that the rows are the same. Subsets of one seed are nested: a smaller one is
    the beginning of a larger one.

    Args:
        sentences: How many there are.
        num_samples: How many to take; ``None`` takes all, without the second shuffle.
        shuffle_seed: Seed of the first shuffle.
        subset_seed: Seed of the second.
        where: What the sentences are, for the error's text.

    Returns:
        Numbers of sentences in the order of training. *Shape:* (num_samples,)

    Raises:
        UserError: If ``num_samples`` is not between 1 and ``sentences``.
    """
    order = np.random.default_rng(shuffle_seed).permutation(sentences)
    if num_samples is None:
        return order
    if num_samples > sentences:
        raise UserError(f"data.num_samples={num_samples} exceeds the {sentences} sentences of {where}")
    if num_samples < 1:
        raise UserError(
            f"data.num_samples={num_samples} is not a number of sentences; use 1 to {sentences}, or null for all"
        )
    return order[np.random.default_rng(subset_seed).permutation(sentences)][:num_samples]
