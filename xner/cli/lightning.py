"""LightningCLI for xner: parses the options of a command."""

import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from xner.cli import COMMANDS, TOOLS
from xner.cli.building import Build, Trainer
from xner.cli.configuration import (
    GROUPS,
    Parser,
    check_values,
    named,
    options_of,
    read_configuration,
    resolved_yaml,
)
from xner.cli.output import configure_logging
from xner.cli.predictions import PredictOptions
from xner.cli.processes import end_with_first
from xner.data.datamodule import PanxDataModule
from xner.errors import UserError, check_seed
from xner.lineage.checkpoint import check_checkpoint
from xner.model.classifier import TokenClassifier
from xner.report.card import CardOptions
from xner.transfer.options import TransferOptions

SET_BY_TRANSFER = {
    "data.languages": "--source and --target",
    "data.num_samples": "--sizes and --source_samples",
    "data.shots": "--shots",
    "data.sample_from": "--sizes or --shots",
    "data.subset_seed": "--seeds",
    "seed_everything": "--seeds",
    "trainer.enable_checkpointing": "--keep",
}
"""Options that ``transfer`` sets for each stage, and the options of an experiment to use instead."""


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
            UserError: If an option is not finite, or the folder is a file or a URL.
        """
        command = str(self.subcommand)
        self.options: Namespace = self.config[command]
        parser = self._parser(command)
        assert isinstance(parser, Parser)
        check_values(named(parser, self.options))
        given = self.options.trainer.default_root_dir
        # Lightning expands ~ as well, and writes logs elsewhere than here if the folder is a URL of any kind.
        root = f"runs/{command}" if given is None else os.path.expanduser(given)
        if "://" in root or "::" in root or root.startswith(("file:", "local:")):
            raise UserError(f"trainer.default_root_dir={root!r} is a URL; use a folder")
        self.options.trainer.default_root_dir, self.root = root, Path(root)
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"trainer.default_root_dir={root!r} is a file; use a folder")
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
    # --plan may be a flag; jsonargparse expects a value.
    words = [
        "--plan=true" if arg == "--plan" and after.startswith("-") else arg
        for arg, after in zip_longest(args, args[1:], fillvalue="-")
    ]
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
