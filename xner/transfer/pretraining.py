"""Pretraining on raw sentences: masked-language modelling in target languages before the source stage.

Language-adaptive pretraining (Gururangan et al. 2020; Pfeiffer et al. 2020), on the sentences of the training splits,
whose tags are not read.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xner.data.datamodule import PanxDataModule
from xner.data.masking import Masking
from xner.errors import RunError, UserError
from xner.model.optimizer import check_own_rate
from xner.transfer.result import LeftOut


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """Options of the stages that adapt the backbone by masked-language modelling, with data.batch_size sentences.

    Args:
        learning_rate: Peak learning rate; null is model.learning_rate.
        max_epochs: Number of epochs, each with other masks.
        mask_probability: Probability, 0 to 1, that a subword is to be predicted.
        leave_out_test: Leave out sentences that occur verbatim in a test split that is evaluated.
    """

    learning_rate: float | None = 5e-5
    max_epochs: int = 3
    mask_probability: float = 0.15
    leave_out_test: bool = True

    def check(self) -> None:
        """Check the options, before anything is loaded or written.

        Raises:
            UserError: If one is out of its range.
        """
        check_own_rate("pretraining.learning_rate", self.learning_rate, "5e-5")
        if self.max_epochs < 1:
            raise UserError(f"pretraining.max_epochs={self.max_epochs} is not positive; use 1 or more")
        if not 0 < self.mask_probability < 1:
            raise UserError(f"pretraining.mask_probability={self.mask_probability} is not between 0 and 1; use 0.15")


def mask_text(data: PanxDataModule, options: Pretraining) -> LeftOut:
    """Make a data module mask its training sentences, and choose which of them to train on.

    Args:
        data: The data module; it is changed, and reads no tags from then on.
        options: The options of pretraining.

    Returns:
        How many sentences are left out.

    Raises:
        RunError: If no sentence is left.
    """
    data.labels = "none"
    tests = [data.test_split_of(each, tagged=False) for each in data.test_languages] if options.leave_out_test else []
    left_out: npt.NDArray[np.int64] = np.concatenate(
        [np.empty(0, dtype=np.int64), *(data.encoded(each).sentence_hash for each in tests)]
    )
    data.masking = Masking(options.mask_probability, left_out)
    splits = [data.training_split(language) for language in data.languages]
    given = sum(len(data.encoded(split)) for split in splits)
    chosen = sum(len(data.training_sentences(language)) for language in data.languages)
    if not chosen:
        raise RunError(
            f"pretraining.leave_out_test={str(options.leave_out_test).lower()} leaves none of the {given} sentences of "
            f"{' and '.join(map(str, splits))}; use other sentences, or pretraining.leave_out_test=false"
        )
    return {"in_test": given - chosen, "unsure": 0}
