"""The commands that need a Trainer: fit, validate, test, predict and transfer."""

import gc
import inspect
import json
import logging
import math
import os
import sys
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from filelock import FileLock
from jsonargparse import Namespace
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    ProgressBar,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from xner.backbone import check_head
from xner.cli.main import TOOLS
from xner.cli.parser import RESOLVED, Parser
from xner.cli.predictions import report, tags_by_sentence, write_predictions
from xner.cli.processes import Processes, check_strategy
from xner.cli.progress import step_progress
from xner.cli.quiet import configure_logging
from xner.cli.results_table import describe, render
from xner.cli.trainer import ResumedBest, Trainer, monitoring
from xner.data.datamodule import PanxDataModule
from xner.errors import RunError, Stopped, UserError
from xner.files import remove_parts, write_atomically
from xner.lineage.callback import LineageCallback, check_checkpoint, history_in
from xner.model.classifier import TokenClassifier
from xner.model.divergence import Diverged
from xner.transfer.evaluation import evaluate
from xner.transfer.experiment import Keep, Select, Settings
from xner.transfer.plan import Stage, plan_table
from xner.transfer.prepare import (
    INSTEAD,
    check_asked_for,
    check_selection,
    check_trains,
    limits,
    planned,
    prepare,
)
from xner.transfer.result import Result, read_result, write_sentences
from xner.transfer.resume import AtomicCheckpointIO
from xner.transfer.run import Execute, complete_stages, lock_run_folder, run_experiment, serially
from xner.transfer.side_by_side import side_by_side
from xner.transfer.signals import exit_code, leave, on_signals
from xner.transfer.stage import Workers, run_stage, write_model
from xner.transfer.tracking import dashboards

lightning_logger = logging.getLogger("lightning.pytorch")


class XnerCLI(LightningCLI):
    """LightningCLI over the one model and the one data module, with the transfer experiment.

    Args:
        only: The stage that ``transfer`` runs instead of all; its result is ``result``.
    """

    def __init__(self, only: Stage | None = None) -> None:
        configure_logging()
        self.only = only
        self.result: Result | None = None
        self.claimed = ExitStack()
        super().__init__(
            TokenClassifier,
            PanxDataModule,
            trainer_class=Trainer,
            trainer_defaults={
                "max_epochs": 3,
                "gradient_clip_val": 1.0,
                "num_sanity_val_steps": 0,
                "enable_model_summary": False,
                # Lightning's own sampler would repeat sentences to make ranks even.
                "use_distributed_sampler": False,
            },
            seed_everything_default=42,
            parser_class=Parser,
            parser_kwargs={
                "allow_abbrev": False,
                "description": "Cross-lingual named-entity recognition on PAN-X.",
                "epilog": f"Tools that need no trainer, each with a --help of its own: {', '.join(TOOLS)}.",
            },
            # The configuration is written beside the model instead; the callback's own file would bar a second run.
            save_config_callback=None,
            auto_configure_optimizers=False,
            # Hyperparameters in checkpoints are primitives: they are loaded with weights_only.
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's commands, and transfer."""
        commands = LightningCLI.subcommands()
        # Lightning's table of what was tested says less than seqeval's report, which is printed instead.
        commands["test"].add("verbose")
        return {**commands, "transfer": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Take the tokenizer from the model's backbone."""
        parser.link_arguments("model.backbone", "data.backbone")

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:  # noqa: ANN401 - as the base class has it
        """Tell a command's parser what a configuration file may hold that is not for this command."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        assert isinstance(parser, Parser)
        own = {action.dest for action in parser._actions}  # argparse has no other way to ask
        parser.of_other_commands = {*inspect.signature(Trainer.transfer).parameters} - own
        if subcommand == "transfer":
            parser.not_asked_for = {*INSTEAD}
        return parser

    def _run_subcommand(self, subcommand: str) -> None:
        """Run a command; where it has several processes and one is lost, the others end with one line."""
        goes_on = subcommand == "transfer"
        processes = Processes("the same command goes on from here" if goes_on else "give the same command again")
        try:
            with self.claimed:
                super()._run_subcommand(subcommand)
        except Diverged as error:
            if not self.trainer.is_global_zero:
                sys.exit(error.exit_code)  # the first process says it
            kept = f"; the last checkpoint is {checkpoint}" if (checkpoint := self._last_checkpoint()) else ""
            raise RunError(f"{error}{kept}") from error
        except RuntimeError as error:
            processes.explain(error)
            raise
        except SystemExit as stop:
            # Lightning ends a stopped command so, with the code of a failed one or, at a SIGTERM, of one that ran well.
            stopped = isinstance(stop, SIGTERMException) or isinstance(stop.__context__, KeyboardInterrupt)
            if stopped and self.trainer.is_global_zero:
                raise Stopped(f"stopped: {self._advice()}", exit_code(stop)) from stop
            raise
        processes.part()

    def _advice(self) -> str:
        """How to go on with a command that was stopped."""
        kept = self._last_checkpoint()
        return f"--ckpt_path {kept} goes on from there" if kept else "give the same command again"

    def _last_checkpoint(self) -> str:
        """Find the checkpoint from which a fit can be resumed; empty where there is none."""
        if self.subcommand != "fit":
            return ""
        found = [each for each in self.trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
        # One that monitors nothing keeps the last epoch as its best.
        found.sort(key=lambda each: bool(each.monitor))
        return next((path for each in found if (path := each.last_model_path or each.best_model_path)), "")

    def _parse_ckpt_path(self) -> None:
        """Leave the options as they were given: a checkpoint brings weights and states, never options.

        Raises:
            UserError: If the path is that of no checkpoint: said before anything is written.
        """
        path = self.config[self.config.subcommand].get("ckpt_path")
        if path is not None:
            check_checkpoint(path)

    def _set_seed(self) -> None:
        """Seed as asked; ``false`` is no seed, not one that was left in the environment."""
        if self._get(self.config, "seed_everything") is False:
            os.environ.pop("PL_GLOBAL_SEED", None)
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        """Give each command a folder of its own, and refuse numbers that are not finite.

        Raises:
            UserError: If an option has no meaning, or a folder is a file.
        """
        options = self.config[self.subcommand]
        for name, value in self._named_options(self.config[str(self.subcommand)]).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{name}={value} is not finite; use a number, or leave the option out")
        if options.trainer.default_root_dir is None:
            options.trainer.default_root_dir = f"runs/{self.subcommand}"
        self.root = Path(options.trainer.default_root_dir)
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"trainer.default_root_dir={str(self.root)!r} is a file: name a folder")
        self.resolved = self.config
        if self.subcommand != "fit":
            # What a callback cannot take over from a checkpoint matters to training alone.
            warnings.filterwarnings("ignore", "The dirpath has changed from .*")

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:  # noqa: ANN401 - as the base class has it
        """Log to a CSV file where no logger is asked for; checkpoints are whole and say what was trained on."""
        options = self._get(self.config_init, "trainer")
        if options.accumulate_grad_batches < 1:
            raise UserError(f"trainer.accumulate_grad_batches={options.accumulate_grad_batches} must be 1 or more")
        if options.logger in (None, True) and not options.barebones:
            kwargs.setdefault("logger", CSVLogger(options.default_root_dir, name="logs"))
        kwargs["callbacks"] = [*self._callbacks(options), LineageCallback()]
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise UserError(f"no trainer can be had with these options: {' '.join(str(error).split())}") from error
        check_strategy(trainer.strategy, options.strategy)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        for dashboard in dashboards(trainer):
            dashboard.describe(
                folder=self.root,
                job_type=str(self.subcommand),
                config=self._options(self.resolved[str(self.subcommand)]),
            )
        return trainer

    def _callbacks(self, options: Namespace) -> list[pl.Callback]:
        """The callbacks that were asked for, and progress as the terminal allows."""
        asked = options.callbacks or []
        callbacks = [*asked] if isinstance(asked, list) else [asked]
        if any(isinstance(callback, GradientAccumulationScheduler) for callback in callbacks):
            raise UserError(
                "trainer.callbacks: GradientAccumulationScheduler would change how many steps there are, which the "
                "learning rate's schedule and the loss count on: give trainer.accumulate_grad_batches"
            )
        if any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks):
            raise UserError(
                "trainer.callbacks: StochasticWeightAveraging copies the model before its weights are loaded, and "
                "averages nothing: take EMAWeightAveraging"
            )
        for callback in callbacks:
            if isinstance(callback, BaseFinetuning):
                raise UserError(
                    f"trainer.callbacks: {type(callback).__name__} freezes layers before the network is loaded, and so "
                    "none; use model.freeze=embeddings, or model.freeze=6 for the first 6 layers as well"
                )
        compact = self._get(self.config, "model").compact_vocabulary
        if compact and any(isinstance(callback, WeightAveraging) for callback in callbacks):
            raise UserError(
                "trainer.callbacks: WeightAveraging averages all that is trained, which embedding rows that are only "
                "decayed are not: give model.compact_vocabulary=false"
            )
        shown = options.enable_progress_bar is not False and not options.barebones
        if self._selects_best():
            callbacks.append(ResumedBest())
            if not any(
                getattr(callback, "monitor", None) for callback in callbacks if isinstance(callback, ModelCheckpoint)
            ):
                # A folder that a resumed fit finds again; one callback would keep the last epoch only where it is best.
                folder = self.root / "checkpoints"
                callbacks += [
                    ModelCheckpoint(folder, "best", monitor="val/f1", mode="max", enable_version_counter=False),
                    ModelCheckpoint(folder, "last", enable_version_counter=False),
                ]
        if shown and not any(isinstance(callback, ProgressBar) for callback in callbacks):
            callbacks.append(step_progress(in_stage=self.subcommand == "transfer"))
        return callbacks

    def _selects_best(self) -> bool:
        return self.subcommand == "fit" and self._get(self.config, "select") == "best"

    def before_validate(self) -> None:
        """Refuse to score random weights, before anything is read.

        Raises:
            UserError: If neither the backbone nor a checkpoint has a trained head.
        """
        if self._get(self.config, "ckpt_path") is None:
            check_head(self.model.backbone_name)

    before_test = before_predict = before_validate

    def before_fit(self) -> None:
        """Keep the configuration, once nothing is found wrong with it, the folder and the data.

        Raises:
            UserError: If it is the folder of a transfer, whose configuration it would replace; if nothing would be
                trained, or no epoch validated that is to be selected.
            RunError: If another process has the folder.
        """
        if (self.root / "stages").is_dir():
            raise UserError(f"trainer.default_root_dir={str(self.root)!r} is a transfer's: name another folder")
        options = self._named_options(self.config[str(self.subcommand)])
        check_trains(options)
        if self._selects_best():
            check_selection(options)
        self.model.check()
        self.datamodule.check("fit")
        if self.trainer.is_global_zero and not self._get(self.config, "trainer").fast_dev_run:
            self.claimed.enter_context(lock_run_folder(self.root))
            self._write_config()

    def after_fit(self) -> None:
        """Write the model folder, and say which epoch's weights it has and what they score."""
        if self.trainer.is_global_zero and not self._get(self.config, "trainer").fast_dev_run:
            write_model(self.root / "model", self.model, history_in(self.trainer).after(self.model, self.datamodule))
            print(f"model folder: {self.root / 'model'} ({self._chosen_epoch()})")

    def _chosen_epoch(self) -> str:
        best = monitoring(self.trainer) if self._selects_best() else None
        if best and best.best_model_path and best.best_model_score is not None:
            checkpoint = torch.load(best.best_model_path, map_location="meta", weights_only=True, mmap=True)
            return f"best epoch, {checkpoint['epoch'] + 1}: {best.monitor} {float(best.best_model_score):.4f}"
        score = self.trainer.callback_metrics.get("val/f1")
        # Of the epochs that have begun, the last one may have been cut short.
        epoch = self.trainer.fit_loop.epoch_progress.current.ready
        return f"last epoch, {epoch}" + (f": val/f1 {float(score):.4f}" if score is not None else "")

    # Lightning's own options are handed on as they come, here and in predict.
    def test(self, model: TokenClassifier, datamodule: PanxDataModule, **options: Any) -> None:  # noqa: ANN401
        """Test, and print seqeval's report of each language."""
        self.trainer.test(model, datamodule=datamodule, verbose=False, **options)
        if not model.tested:
            raise UserError("trainer.limit_test_batches=0 tests nothing: leave it out")
        if self.trainer.is_global_zero:
            evaluations, _ = evaluate(model, datamodule, history_in(self.trainer).before(model))
            for evaluation, tested in zip(evaluations, model.tested, strict=True):
                gold = datamodule.split(evaluation["language"], "test").sentences
                print(f"\n{describe(evaluation)}\n{report(tags_by_sentence(tested.labels, tested.sentences), gold)}")

    def predict(self, model: TokenClassifier, datamodule: PanxDataModule, **options: Any) -> None:  # noqa: ANN401
        """Write each test language's sentences with their predicted tags."""
        self.trainer.predict(model, datamodule=datamodule, **options)
        if not model.predicted:
            raise UserError("trainer.limit_predict_batches=0 predicts nothing: leave it out")
        if self.trainer.is_global_zero and not self._get(self.config, "trainer").fast_dev_run:
            for language, (labels, numbers) in zip(datamodule.test_languages, model.predicted, strict=True):
                path = self.root / f"{language}-test.jsonl"
                write_predictions(path, tags_by_sentence(labels, numbers), datamodule.split(language, "test").sentences)
                print(f"predictions: {path}")

    def transfer(
        self,
        model: TokenClassifier,
        datamodule: PanxDataModule,
        keep: Keep,
        select: Select,
        plan: bool,
        executor: Literal["serial", "ray"],
        gpus_per_stage: float | None,
        **options: Any,  # noqa: ANN401 - those of plan
    ) -> None:
        """Run the experiment; see ``Trainer.transfer``."""
        from xner.report.build import FILES, write_report
        from xner.report.overview import write_overview

        settings = self._named_options(self.config[str(self.subcommand)])
        check_asked_for(settings, self._named_options(self._parser("transfer").get_defaults()), sys.argv, **options)
        check_trains(settings)
        model.check()
        stages, sentences = planned(datamodule, settings, **options)
        if plan:
            batch = datamodule.batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches
            epochs, steps = limits(settings)
            print(
                plan_table(
                    stages,
                    backbone=model.backbone_name,
                    sentences=sentences,
                    batch=batch,
                    epochs=epochs,
                    max_steps=steps,
                )
            )
            return
        also = self._get(self.config, "data").test_languages or []
        experiment = prepare(
            datamodule,
            settings,
            stages,
            root=self.root,
            processes=self.trainer.world_size,
            languages=[*sentences],
            also=also,
            keep=keep,
            select=select,
        )
        lightning_logger.setLevel(logging.WARNING)  # what it says of the machine would be said again for every stage
        work = partial(run_stage, experiment=experiment, build=self._build)
        if self.only:
            folder = experiment.folder(self.only.id)
            folder.mkdir(parents=True, exist_ok=True)
            # A process whose command was killed may still be at it, and end it.
            with FileLock(folder / ".lock"):
                self.result = read_result(folder) or work(self.only)
            return
        if not self.trainer.is_global_zero:
            # The first process does all that is not training; this one helps it with that.
            done = complete_stages(experiment)
            try:
                with on_signals(leave):
                    for stage in (stage for stage in stages if stage.id not in done):
                        work(stage)
            except SystemExit:
                sys.exit()  # The first process says that it was stopped; a code from here would count as a crash.
            return
        execute = self._side_by_side(gpus_per_stage) if executor == "ray" else partial(serially, work=work)
        try:
            with on_signals(leave), lock_run_folder(self.root):
                remove_parts(self.root)
                done = complete_stages(experiment)
                self._write_config()
                for language in experiment.evaluated:
                    words = datamodule.split(language, "test").sentences.words
                    write_sentences(self.root, language, "test", words)
                results = run_experiment(experiment, done, execute)
                [analysis] = write_report([self.root], **{name: self.root / file for name, file in FILES.items()})
                for dashboard in dashboards(self.trainer):
                    write_overview(dashboard, analysis, self.root / FILES["png"])
        except (KeyboardInterrupt, SIGTERMException, SystemExit) as stop:
            raise Stopped("stopped: the same command goes on from here", exit_code(stop)) from stop
        print(f"\n{render(results)}\n{self.root}: results.csv, {', '.join(FILES.values())}")

    def _side_by_side(self, gpus: float | None) -> Execute:
        if self.trainer.world_size > 1:
            raise UserError(f"executor=ray runs a stage in one process, not in {self.trainer.world_size}: devices=1")
        if gpus is not None and not 0 <= gpus <= 1:
            raise UserError(f"gpus_per_stage={gpus} must be between 0 and 1")
        threads = torch.get_num_threads()
        work = StageOfCommand(sys.argv[1:], Path.cwd(), threads)
        return partial(side_by_side, work=work, cpus=1 if gpus else threads, gpus=gpus)

    def _options(self, config: Namespace) -> dict[str, Any]:
        """All options of the command, by their group and name, in words that JSON keeps."""
        parser = self._parser(self.subcommand)
        options: dict[str, Any] = json.loads(
            parser.dump(config, skip_none=False, skip_link_targets=False, format="json")
        )
        return options

    def _named_options(self, config: Namespace) -> dict[str, Any]:
        """All options of the command, each named as on the command line, as ``data.languages``."""
        groups = ("model", "data", "trainer")
        options = self._options(config)
        named = {f"{group}.{name}": value for group in groups for name, value in options[group].items()}
        return {**named, **{name: value for name, value in options.items() if name not in groups}}

    def _build(self, settings: Settings) -> Workers:
        """Make a trainer, model and data module with some options replaced."""
        # A trainer and its model refer to each other: those of the stage before would still be in memory.
        self.config_init = None
        gc.collect()
        self.resolved = self.config.clone()
        for name, value in settings.items():
            self.resolved[self.subcommand][name] = value
        self.config_init = self.parser.instantiate_classes(self.resolved)
        return Workers(
            self.instantiate_trainer(), self._get(self.config_init, "model"), self._get(self.config_init, "data")
        )

    def _write_config(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        options = self.config[self.subcommand].clone()
        # Where a run went on from is not what it computes, and other commands would take these weights for theirs.
        for name in ("ckpt_path", "weights_only", *(INSTEAD if self.subcommand == "transfer" else ())):
            options.pop(name, None)
        text = self._parser(self.subcommand).dump(options, skip_none=False)
        write_atomically(self.root / "config.yaml", RESOLVED + text)


@dataclass(frozen=True)
class StageOfCommand:
    """Runs a stage of a ``transfer`` command in another process, which is given the command's words alone.

    Attributes:
        words: The command and its options.
        folder: Where the command was given.
        threads: How many threads torch has there: with as many, the results are the same to the bit.
    """

    words: list[str]
    folder: Path
    threads: int

    def __call__(self, stage: Stage) -> Result:
        """Run the stage."""
        sys.argv = ["xner", *self.words]
        os.chdir(self.folder)
        torch.set_num_threads(self.threads)
        result = XnerCLI(only=stage).result
        assert result
        return result
