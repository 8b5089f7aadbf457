"""LightningCLI for xner: parses the options of a command and instantiates what they describe."""

import gc
import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from jsonargparse import Namespace
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger

from xner.cli import COMMANDS, TOOLS
from xner.cli.callbacks import check_callbacks, monitoring, own_callbacks
from xner.cli.configuration import (
    GROUPS,
    Parser,
    as_json,
    check_values,
    named,
    options_of,
    read_configuration,
    resolved_yaml,
)
from xner.cli.output import configure_logging
from xner.cli.predictions import PredictOptions
from xner.cli.processes import check_strategy, end_with_first
from xner.dashboard import dashboards
from xner.data.datamodule import PanxDataModule
from xner.errors import UserError, check_seed
from xner.lineage.callback import LineageCallback
from xner.lineage.checkpoint import check_checkpoint
from xner.model.averaging import EpochAverage
from xner.model.classifier import TokenClassifier
from xner.report.card import CardOptions
from xner.transfer.options import Select, TransferOptions
from xner.transfer.resume import AtomicCheckpointIO, read_best
from xner.transfer.stage import Parts, StageOptions, no_best

SET_BY_TRANSFER = {
    "data.languages": "--source and --target",
    "data.num_samples": "--sizes",
    "data.shots": "--shots",
    "data.sample_from": "--sizes or --shots",
    "data.subset_seed": "--seeds",
    "seed_everything": "--seeds",
    "trainer.enable_checkpointing": "--keep",
}
"""Options that ``transfer`` sets for each stage, and the options of an experiment to use instead."""


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


class XnerCLI(LightningCLI):
    """Parse a command and instantiate its trainer, model and data module; running it is up to ``commands``.

    Args:
        args: The command and its options.
        model_class: The class of the model; its arguments are the options ``--model.*``.

    Attributes:
        words: The command and its options, as they were given.
        options: All options of the command.
        root: The folder of the run.
        build: Instantiates the parts of a stage.
    """

    trainer: Trainer

    def __init__(self, args: Sequence[str], model_class: type[TokenClassifier] = TokenClassifier) -> None:
        configure_logging()
        end_with_first()
        self.words = list(args)
        super().__init__(
            model_class,
            PanxDataModule,
            args=self.words,
            trainer_class=Trainer,
            trainer_defaults={
                "max_epochs": 3,
                "gradient_clip_val": 1.0,
                "num_sanity_val_steps": 0,
                "enable_model_summary": False,
                # Lightning's own sampler would repeat sentences to give every process as many.
                "use_distributed_sampler": False,
            },
            seed_everything_default=42,
            parser_class=Parser,
            parser_kwargs={
                "allow_abbrev": False,
                "description": "Cross-lingual named-entity recognition on PAN-X.",
                "epilog": f"Tools that need no trainer, each with its own --help: {', '.join(TOOLS)}.",
            },
            # Lightning's own callback would refuse a second run in the same folder.
            save_config_callback=None,
            auto_configure_optimizers=False,
            # Hyperparameters in checkpoints are primitives, because checkpoints are loaded with weights_only.
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """List the commands, each with the arguments of its Trainer method that are not options."""
        commands = LightningCLI.subcommands()
        # Lightning's table of test scores is replaced by seqeval's report.
        commands["test"].add("verbose")
        return {**commands, "transfer": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Take the tokenizer from the model's backbone."""
        parser.link_arguments("model.backbone", "data.backbone")

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:  # noqa: ANN401 - as in the base class
        """Add the options of fit, transfer and predict, and name the options of a configuration of other commands."""
        if self.words and self.words[0] in COMMANDS and self.words[0] != subcommand:
            # The options of one command are parsed; those of the others would take longer to add than to parse.
            return self.init_parser(**kwargs)
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        assert isinstance(parser, Parser)
        if subcommand == "transfer":
            parser.add_class_arguments(TransferOptions, as_group=False)
            parser.not_given = {*SET_BY_TRANSFER}
        if subcommand in ("fit", "transfer"):
            parser.add_class_arguments(CardOptions, as_group=False)
        if subcommand == "predict":
            parser.add_class_arguments(PredictOptions, as_group=False)
        if self.model_class not in (None, TokenClassifier):
            parser.class_path = f"{self.model_class.__module__}.{self.model_class.__qualname__}"
        own = (
            name
            for each in (CardOptions, TransferOptions, PredictOptions)
            for name in inspect.signature(each).parameters
        )
        parser.of_other_commands = {*own} - {*options_of(parser)}
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # noqa: ANN401 - as in the base class
        """Parse the words of the command, without Lightning's warning that ``sys.argv`` has words as well."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Check that ``ckpt_path`` is a checkpoint; it brings weights and states, never options (lightning 21455).

        Raises:
            UserError: If it is not, or may hold more than tensors and primitives.
        """
        options = self.config[self.config.subcommand]
        if options.get("weights_only") is False:
            raise UserError("weights_only=false lets a checkpoint run code, which xner never does; omit it")
        if options.get("ckpt_path") is not None:
            check_checkpoint(options.ckpt_path)
            options.weights_only = True  # Lightning's default for a URL is false

    def _set_seed(self) -> None:
        """Set the seed; ``false`` sets none, even if an earlier command left one in the environment.

        Raises:
            UserError: If it is beyond the range of numpy.
        """
        seed = self._get(self.config, "seed_everything")
        if seed is False:
            os.environ.pop("PL_GLOBAL_SEED", None)
        elif seed is not True:
            check_seed("seed_everything", seed)
        super()._set_seed()

    def instantiate_classes(self) -> None:
        """Instantiate the trainer, the model and the data module in the command's own folder.

        Raises:
            UserError: If an option is not finite, or the folder is a file.
        """
        command = str(self.subcommand)
        self.options: Namespace = self.config[command]
        parser = self._parser(command)
        assert isinstance(parser, Parser)
        check_values(named(parser, self.options))
        if self.options.trainer.default_root_dir is None:
            self.options.trainer.default_root_dir = f"runs/{command}"
        self.root = Path(self.options.trainer.default_root_dir)
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"trainer.default_root_dir={str(self.root)!r} is a file; use a folder")
        if command != "fit":
            # Only training uses what a callback cannot restore from a checkpoint in another folder.
            warnings.filterwarnings("ignore", "The dirpath has changed from .*")
        self.build = Build(parser, self.options, command, self.root)
        parts = self.build()
        assert isinstance(parts.trainer, Trainer)
        self.trainer = parts.trainer
        self.model, self.datamodule = parts.model, parts.data

    def _run_subcommand(self, subcommand: str) -> None:
        """Leave running the command to the caller."""


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
            # A stage saves its own checkpoint to resume from; Lightning's would be a second one.
            options.trainer.enable_checkpointing = bool(options.trainer.callbacks)
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


def config_yaml(cli: XnerCLI) -> str:
    """Return the text of the run's config.yaml, from which the run can be repeated."""
    options = cli.options.clone()
    # What a run resumed from is not what it computes, and other commands would take these weights for theirs.
    for name in ("ckpt_path", "weights_only", *(SET_BY_TRANSFER if cli.subcommand == "transfer" else ())):
        options.pop(name, None)
    return resolved_yaml(cli.build.parser, options)


def parse_command(args: Sequence[str]) -> XnerCLI:
    """Parse a command whose model may be a subclass of ``TokenClassifier``.

    The class is given as ``--model module.Class``, or as ``class_path`` of ``model`` in a configuration.

    Raises:
        UserError: If an option is wrong, or the class cannot be imported.
    """
    # --plan is a flag; jsonargparse expects a value.
    words = ["--plan=true" if arg == "--plan" else arg for arg in args]
    rest: list[str] = []
    class_path = None
    while words:
        name, equals, value = words[0].partition("=")
        taken = 1 if equals else min(2, len(words))
        value = value if equals else words[1] if taken == 2 else ""
        if name == "--model" and value and not Path(value).exists():
            class_path = value
            del words[:taken]
            continue
        if name in ("--config", "-c"):
            class_path = _class_path(read_configuration(value)) or class_path
        elif name.removeprefix("--") in GROUPS and Path(value).is_file():
            read_configuration(value, name.removeprefix("--"))  # checks it
        rest.append(words.pop(0))
    return XnerCLI(rest, _model_class(class_path) if class_path else TokenClassifier)


def _class_path(configuration: object) -> str | None:
    """Return the class of the model that a configuration names, if any."""
    model = configuration.get("model") if isinstance(configuration, dict) else None
    return model.get("class_path") if isinstance(model, dict) else None


def _model_class(class_path: str) -> type[TokenClassifier]:
    module, _, name = class_path.rpartition(".")
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.append(folder)  # as for python train.py
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"model={class_path} cannot be imported ({error}); use module.Class, a subclass of TokenClassifier, or a "
            "configuration file"
        ) from error
    if not (isinstance(found, type) and issubclass(found, TokenClassifier)):
        raise UserError(f"model={class_path} is not a subclass of TokenClassifier; use one")
    return found
