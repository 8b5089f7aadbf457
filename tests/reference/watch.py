"""A sampler with a fixed order of batches, and Trainers and callbacks that measure each step.

Neither changes what a step does.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class FixedBatches(Sampler[list[int]]):
    """A batch sampler that hands out given batches, the next epoch's at each iteration.

    Args:
        order: The sentence numbers of each step of the whole run.
        epochs: How many epochs of equally many steps ``order`` is cut into.
    """

    def __init__(self, *, order: Sequence[Sequence[int]], epochs: int) -> None:
        if not order or len(order) % epochs:
            raise ValueError(f"order has {len(order)} batches, which do not make {epochs} epochs of equal length")
        self.steps_per_epoch = len(order) // epochs
        self.remaining = iter([list(batch) for batch in order])

    def __len__(self) -> int:
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.steps_per_epoch):
            yield next(self.remaining)


class WatchedTrainer(Trainer):
    """A Trainer that keeps what it does at each step, and that takes given batches in place of its own.

    Args:
        batches: The batches to train on; ``None`` leaves the Trainer its own sampler.
        **arguments: The Trainer's own arguments.
    """

    def __init__(self, *, batches: FixedBatches | None, **arguments: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(**arguments)
        self.batches = batches
        self.step_losses: list[Tensor] = []
        self.step_sentences: list[int] = []
        self.step_learning_rates: list[float] = []
        self.evaluation_seconds: list[float] = []

    def get_train_dataloader(self) -> DataLoader[Any]:
        if self.batches is None:
            return super().get_train_dataloader()
        return DataLoader(self.train_dataset, batch_sampler=self.batches, collate_fn=self.data_collator)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **options: Any) -> Tensor:  # noqa: ANN401 - passed on
        self.step_sentences.append(len(inputs["input_ids"]))
        self.step_learning_rates.append(float(self.optimizer.param_groups[0]["lr"]))
        loss: Tensor = super().training_step(model, inputs, *arguments, **options)
        # Left on its device: reading the number here would make the GPU wait.
        self.step_losses.append(loss)
        return loss

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:  # noqa: ANN401 - passed on
        started = time.perf_counter()
        scores: dict[str, float] = super().evaluate(*arguments, **options)
        self.evaluation_seconds.append(time.perf_counter() - started)
        return scores


class StepClock(TrainerCallback):
    """Reads the clock at the end of the first and of the last step."""

    def __init__(self) -> None:
        self.readings: list[float] = []

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,  # noqa: ANN401 - the Trainer's
    ) -> None:
        if state.global_step in (1, state.max_steps):
            if args.device.type == "cuda":
                torch.cuda.synchronize(args.device)
            self.readings.append(time.perf_counter())
