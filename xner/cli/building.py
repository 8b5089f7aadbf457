"""Instantiate the trainer, the model and the data module of a command or of a stage from its options."""

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from jsonargparse import Namespace
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import CSVLogger

from xner.cli.callbacks import check_callbacks, monitoring, own_callbacks
from xner.cli.configuration import Parser, as_json
from xner.cli.processes import check_strategy
from xner.dashboard import dashboards
from xner.data.datamodule import PanxDataModule
from xner.errors import UserError
from xner.lineage.callback import LineageCallback
from xner.model.averaging import EpochAverage
from xner.model.classifier import TokenClassifier
from xner.transfer.options import Select, StageOptions
from xner.transfer.resume import AtomicCheckpointIO, read_best
from xner.transfer.training import Parts, no_best


class Trainer(pl.Trainer):
    """Lightning's Trainer, whose fit can end with other weights than the last, and which has a method for transfer."""

    def fit(  # type: ignore[override] # the model is xner's
        self,
        model: TokenClassifier,
        train_dataloaders: Any = None,  # noqa: ANN401 - as in the base class
        val_dataloaders: Any = None,  # noqa: ANN401 - as in the base class
        datamodule: PanxDataModule | None = None,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
        select: Select = "last",
    ) -> None:
        """Train a model, and leave it with the weights of the last epoch, of the best one, or their average.

        Args:
            model: Given by --model.
            train_dataloaders: Given by --data.
            val_dataloaders: Given by --data.
            datamodule: Given by --data.
            ckpt_path: Checkpoint to resume from: a file, or last for the last.ckpt in the dirpath of a ModelCheckpoint;
                without one, training starts from the beginning.
            weights_only: Checkpoints may hold only tensors and primitives; false is refused.
            select: Which weights the model folder gets: last, best by the score that a ModelCheckpoint in
                trainer.callbacks monitors (without one, by F1 on validation), or the average of those at the end of
                every epoch.

        Raises:
            RunError: If no best checkpoint was saved, or no epoch was averaged.
        """
        average = EpochAverage() if select == "average" else None
        if average:
            self.callbacks.insert(0, average)  # type: ignore[attr-defined] # set by Lightning
        super().fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, weights_only)
        if select == "best" and not self.fast_dev_run:  # type: ignore[attr-defined] # set by Lightning
            best = monitoring(self)
            if best is None or not best.best_model_path:
                raise no_best()
            model.take_weights(*read_best(Path(best.best_model_path)))
        if average:
            self.callbacks.remove(average)  # type: ignore[attr-defined] # set by Lightning
            model.take_weights(average.weights())

    def transfer(self, model: TokenClassifier, datamodule: PanxDataModule) -> None:
        """Fine-tune on a source language, evaluate zero-shot on a target language, and adapt with its sentences."""
        raise TypeError("transfer builds a trainer for every stage; use the command line")


@dataclass(frozen=True)
class Build:
    """Instantiates a trainer, a model and a data module from a command's options.

    Attributes:
        parser: The parser of the command.
        options: All options of the command.
        command: The command.
        root: The folder of the run.
    """

    parser: Parser
    options: Namespace
    command: str
    root: Path

    def __call__(self, stage: StageOptions | None = None) -> Parts:
        """Instantiate, with the options of a stage in place of the command's own where one is given.

        Raises:
            UserError: If an option cannot be used.
        """
        # The trainer and the model of the previous stage refer to each other and would stay in memory.
        gc.collect()
        options = self.options.clone()
        if stage:
            if stage.parent:
                options.model.backbone = options.data.backbone = str(stage.parent)
                options.model.new_head = False  # only a stage that starts from the backbone replaces its head
            options.data.languages = list(stage.num_samples)
            options.data.num_samples = stage.num_samples
            options.data.shots = stage.shots
            if stage.learning_rate is not None:
                options.model.learning_rate = stage.learning_rate
            if stage.max_epochs is not None:
                options.trainer.max_epochs = stage.max_epochs
            options.data.subset_seed = stage.subset_seed
            options.data.test_languages = stage.test_languages
            options.trainer.default_root_dir = str(stage.root)
        objects = self.parser.instantiate_classes(options)
        trainer = self._trainer(objects.trainer)
        for dashboard in dashboards(trainer):
            dashboard.describe(folder=self.root, job_type=self.command, config=as_json(self.parser, options))
        return Parts(trainer, objects.model, objects.data)

    def _trainer(self, options: Namespace) -> Trainer:
        """Instantiate the trainer, with a CSV file as its logger where no logger is given."""
        if options.accumulate_grad_batches < 1:
            raise UserError(f"trainer.accumulate_grad_batches={options.accumulate_grad_batches} is not 1 or more")
        given = options.callbacks or []
        callbacks = given if isinstance(given, list) else [given]
        check_callbacks(
            callbacks,
            compact_vocabulary=self.options.model.compact_vocabulary,
            averages=self.options.get("select") == "average",
        )
        own = own_callbacks(
            callbacks,
            progress=options.enable_progress_bar is not False and not options.barebones,
            in_stage=self.command == "transfer",
            best=self.root / "checkpoints" if self.options.get("select") == "best" and self.command == "fit" else None,
        )
        replaced: dict[str, Any] = {"callbacks": [*callbacks, *own, LineageCallback()]}
        if options.logger in (None, True) and not options.barebones:
            replaced["logger"] = CSVLogger(options.default_root_dir, name="logs")
        if self.command == "transfer":
            # A stage saves its own checkpoint to resume from; Lightning's would be a second one.
            replaced["enable_checkpointing"] = any(isinstance(each, Checkpoint) for each in callbacks)
        try:
            trainer = Trainer(**{**options.as_dict(), **replaced})
        except (MisconfigurationException, ValueError, TypeError) as error:
            defaults = self.parser.get_defaults().trainer
            given = ", ".join(f"trainer.{name}" for name, value in options.items() if value != defaults.get(name))
            reason = " ".join(str(error).split()).removesuffix(".")
            raise UserError(f"these options give no trainer: {reason}; given are {given}") from error
        check_strategy(trainer, options.strategy)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return trainer
