"""The command transfer: from its options to an experiment, its observers and its report."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch
from filelock import FileLock
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from xner.backbone import has_head, load_config
from xner.backbone.weights import check_masked
from xner.cli.callbacks import check_monitored
from xner.cli.configuration import named, resolved_yaml
from xner.cli.lightning import SET_BY_TRANSFER, XnerCLI, config_yaml, parse_command
from xner.cli.limits import check_interval, check_training, epoch_batches, limits
from xner.cli.observers import Cards, Progress, Reporter
from xner.cli.output import Cell, say, table
from xner.dashboard import StageRuns, dashboards
from xner.data.datamodule import PanxDataModule
from xner.errors import UserError, options_called
from xner.report import FILES
from xner.report.card import CardOptions
from xner.report.runs import evaluated_on, trained_on
from xner.transfer.experiment import Experiment, count_sentences, prepare
from xner.transfer.options import FewShot, TransferOptions
from xner.transfer.plan import SOUP, Stage, as_languages, plan
from xner.transfer.pretraining import Pretraining
from xner.transfer.result import Result
from xner.transfer.run import Execute, assist_experiment, existing_stages, in_series, run_experiment, with_ray
from xner.transfer.self_training import SelfTraining
from xner.transfer.stage import run_stage

_MOST_TYPES = 6
"""Number of entity types up to which the table of results has a column for each."""


def transfer(cli: XnerCLI) -> None:
    """Run a transfer experiment, or print its plan.

    Raises:
        UserError: If an option is wrong, before anything is written.
    """
    trainer, data, backbone = cli.trainer, cli.datamodule, cli.model.backbone_name
    if (cli.root / "model").is_dir() and not (cli.root / "stages").is_dir():
        raise UserError(f"trainer.default_root_dir={str(cli.root)!r} is the folder of a fit; use another folder")
    given = {field.name: cli.options[field.name] for field in fields(TransferOptions)}
    nested = {"few_shot": FewShot, "self_training": SelfTraining, "pretraining": Pretraining}
    options = TransferOptions(**given | {name: kind(**vars(given[name])) for name, kind in nested.items()})
    sources, targets = as_languages(options.source), as_languages(options.target)
    stages_of = partial(
        plan,
        source=sources,
        target=targets,
        sizes=options.sizes,
        regimes=options.regimes,
        seeds=options.seeds,
        shots=options.shots,
        soup=options.soup,
        adapt_backbone=options.adapt_backbone,
        source_samples=options.source_samples,
    )
    limit, steps = limits(cli.options)
    options.check(limit, steps=steps)
    CardOptions(license=cli.options.license).check()
    stages_of()  # refuses wrong options before the data is read
    _check_set_by_transfer(cli, options)
    check_training(cli.options)
    # All stages share one tag set, that of all languages of the experiment.
    data.test_languages = list(dict.fromkeys([*sources, *targets, *(cli.options.data.test_languages or ())]))
    cli.model.check(data.tag_set)
    check_monitored(trainer.callbacks, cli.model, data.tag_set)  # type: ignore[attr-defined] # set by Lightning
    _check_whole_splits(cli)
    if "self_training" in options.regimes:
        _check_label_free(trainer.callbacks)  # type: ignore[attr-defined] # set by Lightning
    if options.adapt_backbone:
        _check_adaptable(cli, options)
    stages = stages_of(available=_largest_sizes(data, options))
    with options_called({"data.num_samples": "source_samples"}):  # larger sizes are refused or left out by now
        sentences = {stage.id: count_sentences(stage, data) for stage in stages}
    for stage, counts in sentences.items():
        check_interval(trainer, sum(counts.values()), data, f"stage {stage}: ")
    accumulated = int(trainer.accumulate_grad_batches)
    lengths = {
        name: -(-epoch_batches(trainer, sum(each.values()), data) // accumulated) for name, each in sentences.items()
    }
    epochs = options.few_shot.epochs_of(stages, lengths, epochs=limit)
    epochs |= {stage.id: options.pretraining.max_epochs for stage in stages if stage.labels == "none"}
    experiment = prepare(
        data,
        stages,
        options,
        named(cli.build.parser, cli.options),
        root=cli.root,
        backbone=backbone,
        processes=trainer.world_size,
        sentences=sentences,
        epochs=epochs,
    )
    if options.plan:
        complete, _ = existing_stages(experiment)
        say(plan_table(experiment, complete, sentences=sentences, lengths=lengths, max_steps=steps))
        return
    # What Lightning says of the machine would be repeated for every stage.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    if not trainer.is_global_zero:
        train = partial(run_stage, experiment=experiment, build=cli.build, observers=[StageRuns()])
        assist_experiment(experiment, train)
        return
    with Progress() as progress:
        train = partial(run_stage, experiment=experiment, build=cli.build, observers=[StageRuns(), progress])
        execute: Execute = partial(in_series, train=train)
        if options.executor == "ray":
            execute = _with_ray(cli, experiment, options.gpus_per_stage)
        observers = [progress, Cards(experiment), Reporter(dashboards(trainer))]
        results = run_experiment(experiment, data, execute, config=config_yaml(cli), observers=observers)
    say(f"\n{results_table(results)}\n\n{cli.root}: results.csv, {', '.join(FILES.values())}")


def results_table(results: Sequence[Result]) -> str:
    """Format a row per stage and evaluation; scores are fractions.

    Args:
        results: The results of complete stages, in the order of the table.
    """
    # With more types than a terminal has room for, results.csv has them.
    types = list(dict.fromkeys(each for result in results for each in result["types"]))
    types = types if len(types) <= _MOST_TYPES else []
    head = ["stage", "trained on", "evaluated on", "F1", "precision", "recall", *types, "strict F1"]
    rows: list[list[Cell]] = [
        [
            result["stage"], trained_on(result), evaluated_on(each), each["f1"], each["precision"], each["recall"],
            *(each["f1_by_type"][name] for name in types), each["f1_strict"],
        ]
        for result in results
        for each in result["evaluations"]
    ]  # fmt: skip
    return table(head, rows, decimals=4)


def plan_table(
    experiment: Experiment,
    complete: Mapping[str, Result],
    *,
    sentences: Mapping[str, Mapping[str, int]],
    lengths: Mapping[str, int],
    max_steps: float = math.inf,
) -> str:
    """Format what each stage starts from, what it trains on, and its number of optimizer steps, unless it is complete.

    Args:
        experiment: The experiment.
        complete: The results of its complete stages, by stage id.
        sentences: The number of training sentences per language of each stage, by its id.
        lengths: Optimizer steps per epoch of each stage, by its id.
        max_steps: Maximum number of optimizer steps per stage.
    """
    rows: list[tuple[Cell, ...]] = []
    for stage in experiment.stages:
        steps: Cell = 0 if stage.averages else int(min(experiment.epochs[stage.id] * lengths[stage.id], max_steps))
        if stage.id in complete:
            untested = experiment.untested(complete[stage.id])
            steps = f"complete, to be tested on {' and '.join(untested)}" if untested else "complete"
        trained = " + ".join(f"{language} {count:,}" for language, count in sentences[stage.id].items())
        labels = replace(stage, regime=stage.regime.removeprefix(SOUP)).labels
        trained += {"gold": "", "predicted": ", predicted labels", "none": ", masked subwords"}[labels]
        start = f"average of {len(stage.averages)} seeds" if stage.averages else stage.parent or experiment.backbone
        rows.append((stage.id, start, trained, steps))
    return table(["stage", "starts from", "trains on", "optimizer steps"], rows)


def _check_whole_splits(cli: XnerCLI) -> None:
    """Refuse options with which words would be left unscored, or sentences that results count would not be trained on.

    Raises:
        UserError: If one is given.
    """
    unscored = "would leave words unscored; leave the option out of transfer"
    untrained = "would leave out sentences that results.csv counts; use --sizes and --source_samples"
    for name, problem in (
        ("limit_test_batches", unscored),
        ("fast_dev_run", unscored),
        ("limit_train_batches", untrained),
        ("overfit_batches", untrained),
    ):
        value = cli.options.trainer[name]
        if name in ("fast_dev_run", "overfit_batches"):
            whole = not value
        else:  # to Lightning, 1.0 is all batches and 1 is one batch
            whole = value is None or (isinstance(value, float) and value == 1)
        if not whole:
            raise UserError(f"trainer.{name}={value} {problem}")


def _check_label_free(callbacks: Sequence[Callback]) -> None:
    """Check that no callback changes a training by scores on validation, which are by the tags of the target.

    Raises:
        UserError: If one does.
    """
    for callback in callbacks:
        score = getattr(callback, "monitor", None) or ""
        if score.startswith("val/") and not isinstance(callback, ModelCheckpoint):  # which only saves
            raise UserError(
                f"trainer.callbacks: {type(callback).__name__} monitors {score!r}, which needs target tags, but "
                "self_training uses none; leave the callback or the regime out"
            )


def _check_adaptable(cli: XnerCLI, options: TransferOptions) -> None:
    """Check that the backbone can be adapted to raw sentences.

    Raises:
        UserError: If it cannot, or would lose a trained head.
    """
    backbone, asked = cli.model.backbone_name, f"adapt_backbone={options.adapt_backbone}"
    if cli.model.lora:
        raise UserError(f"{asked} is not possible with model.lora, which would freeze the new head; use one of them")
    if has_head(load_config(backbone)) and not cli.model.hparams["new_head"]:
        raise UserError(
            f"{asked} is not possible with model.backbone={backbone!r}, whose head for tags it would leave behind; use "
            "an encoder, or replace the head with model.new_head=true"
        )
    check_masked(backbone)


def _largest_sizes(data: PanxDataModule, options: TransferOptions) -> dict[str, int]:
    """Find the largest size that each target has data for, and say whose curves end early.

    Raises:
        UserError: If no target has as many sentences, or entities per type, as the largest size.
    """
    splits = {target: data.training_split(target) for target in as_languages(options.target)}
    if options.shots is None:
        option, sizes, unit = "sizes", options.sizes, "sentences"
        found = {target: len(data.encoded(split)) for target, split in splits.items()}
    else:
        option, sizes, unit = "shots", options.shots, "entities of the rarest type"
        types = len(data.tag_set.types)
        found = {target: int(data.encoded(split).entities(types).sum(axis=0).min()) for target, split in splits.items()}
    most = max(found, key=found.__getitem__)
    if sizes[-1] > found[most]:
        raise UserError(
            f"{option}={list(sizes)} exceeds the {found[most]} {unit} of {splits[most]}; use smaller ones, or more data"
        )
    for target, size in found.items():
        if size < sizes[-1]:
            say(f"{splits[target]} has {size:,} {unit}: the curve of {target} ends before {option} of more")
    return found


def _check_set_by_transfer(cli: XnerCLI, options: TransferOptions) -> None:
    """Refuse options that ``transfer`` sets for each stage, where they ask for something else than it does.

    An option is given where the command line names it, or a configuration has another value than its default. (The
    parser leaves these options out of a run's own config.yaml, which holds every option.)

    Raises:
        UserError: If one is given.
    """
    parser = cli.build.parser
    given = {word.partition("=")[0].removeprefix("--").removesuffix("+") for word in cli.words}
    if options.shots is not None and "sizes" in given:
        raise UserError(f"sizes={list(options.sizes)} and shots={list(options.shots)} exclude each other; use one")
    values, defaults = named(parser, cli.options), named(parser, parser.get_defaults())
    does = {
        "data.languages": as_languages(options.source),
        "data.num_samples": None,
        "data.shots": None,
        "data.sample_from": None,
        "data.subset_seed": options.seeds[0],
        "seed_everything": options.seeds[0],
        "trainer.enable_checkpointing": None,
    }
    for name, instead in SET_BY_TRANSFER.items():
        agrees = values[name] == does[name] and (instead != "--seeds" or len(options.seeds) == 1)
        if (name in given or values[name] != json.loads(json.dumps(defaults[name]))) and not agrees:
            raise UserError(
                f"{name}={values[name]} has no effect in transfer, which sets it for each stage; use {instead}"
            )


def _with_ray(cli: XnerCLI, experiment: Experiment, gpus: float | None) -> Execute:
    if cli.trainer.world_size > 1:
        raise UserError(
            f"executor=ray runs each stage in one process, not in {cli.trainer.world_size}; use trainer.devices=1"
        )
    remote = RemoteStage.of(cli, experiment)
    return partial(with_ray, train=remote, threads=remote.threads, gpus=gpus)


@dataclass(frozen=True)
class RemoteStage:
    """Runs a stage of an experiment in another process.

    Attributes:
        config: The resolved configuration of the command, with absolute paths.
        experiment: The experiment.
        threads: The number of torch's threads, which results depend on in their last digits.
    """

    config: str
    experiment: Experiment
    threads: int

    @classmethod
    def of(cls, cli: XnerCLI, experiment: Experiment) -> "RemoteStage":
        """Make one from a command; paths become absolute, because workers have working directories of their own."""
        options = cli.options.clone()
        for group, name in (("model", "backbone"), ("data", "source"), ("trainer", "default_root_dir")):
            if name == "default_root_dir" or Path(options[group][name]).is_dir():
                options[group][name] = str(Path(options[group][name]).absolute())
        text = resolved_yaml(cli.build.parser, options)
        return cls(text, replace(experiment, root=experiment.root.absolute()), torch.get_num_threads())

    def __call__(self, stage: Stage) -> Result:
        """Run the stage."""
        torch.set_num_threads(self.threads)
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        cli = parse_command(["transfer", f"--config={self.config}"])
        folder = self.experiment.folder(stage.id)
        folder.mkdir(parents=True, exist_ok=True)
        # A worker whose command was killed may still be at this stage, and complete it.
        with FileLock(folder / ".lock"):
            return run_stage(stage, self.experiment, cli.build, [StageRuns()])
