"""Choose training sentences by seeded shuffles."""

import numpy as np
import numpy.typing as npt

from xner.errors import UserError


def subset(
    sentences: int, num_samples: int | None, *, shuffle_seed: int = 0, subset_seed: int = 42, where: str = "the split"
) -> npt.NDArray[np.int64]:
    """Choose the training sentences of a split.

    The split is shuffled with the first seed; a few-shot subset is the beginning of a second shuffle. Both give the
    order of ``datasets.Dataset.shuffle``. Subsets are nested: a smaller one is the beginning of a larger one.

    Args:
        sentences: Number of sentences in the split.
        num_samples: Number of sentences to choose; ``None`` chooses all, without the second shuffle.
        shuffle_seed: Seed of the first shuffle.
        subset_seed: Seed of the second shuffle.
        where: The split's name in error messages.

    Returns:
        Indices of the chosen sentences. *Shape:* (num_samples,)

    Raises:
        UserError: If ``num_samples`` is not between 1 and ``sentences``.
    """
    order = np.random.default_rng(shuffle_seed).permutation(sentences)
    if num_samples is None:
        return order
    if not 1 <= num_samples <= sentences:
        problem = f"exceeds the {sentences} sentences of {where}" if num_samples > 0 else "is not a number of sentences"
        raise UserError(f"data.num_samples={num_samples} {problem}; use 1 to {sentences}, or null for all")
    return order[np.random.default_rng(subset_seed).permutation(sentences)][:num_samples]
