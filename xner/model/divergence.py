"""A training whose loss, gradient or weights are no longer finite ends, with a line that says where."""

from typing import NamedTuple

import torch
from torch import Tensor

from xner.errors import RunError


class Diverged(RunError):
    """A training has left the finite numbers; its text names the step, the learning rate and the sentences."""


class _Value(NamedTuple):
    """A number that must be finite, and what it is of."""

    name: str
    value: Tensor
    step: int
    learning_rate: float


class FiniteCheck:
    """Check that the losses and gradient norms of a training are finite.

    They are kept where they are computed and read together, so that a GPU is not waited for at every step.
    """

    def __init__(self) -> None:
        self.values: list[_Value] = []
        self.sentences: dict[int, list[Tensor]] = {}

    def add(self, name: str, value: Tensor, step: int, learning_rate: float, sentences: Tensor | None = None) -> None:
        """Remember a number until the next ``read``.

        Args:
            name: What it is, for the error's text.
            value: The number, the same in every process. *Shape:* ()
            step: Optimizer steps before this one.
            learning_rate: The step's learning rate.
            sentences: The numbers of a batch's sentences, if they are to be named. *Shape:* (sentences,)
        """
        self.values.append(_Value(name, value.detach(), step, learning_rate))
        if sentences is not None:
            self.sentences.setdefault(step, []).append(sentences)

    def read(self) -> None:
        """Check what was remembered, and forget it.

        Raises:
            Diverged: If a number is not finite.
        """
        values, batches, self.values = self.values, self.sentences, []
        if not values:
            return
        # The step that the last number is of may have another one to come.
        self.sentences = {step: numbers for step, numbers in batches.items() if step == values[-1].step}
        if torch.stack([each.value for each in values]).isfinite().all():
            return
        found = next(each for each in values if not each.value.isfinite())
        numbers: list[int] = torch.cat(batches[found.step]).tolist() if found.step in batches else []
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # The number is the same in every process, so all of them are here.
            gathered: list[list[int]] = [[] for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(gathered, numbers)
            numbers = [number for each in gathered for number in each]
        numbered = ", ".join(map(str, sorted(numbers)))
        raise Diverged(
            f"training diverged: the {found.name} of step {found.step + 1} is {float(found.value)}, at a learning rate "
            f"of {found.learning_rate:.4g} and in training sentences {numbered} (from 0, in "
            "the order of the source, one language after another); use a lower model.learning_rate, or look at these "
            "sentences"
        )
