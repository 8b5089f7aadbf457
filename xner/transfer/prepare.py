"""From the command's options to an experiment: what is wrong with them is said before anything is written or run."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xner.data.datamodule import PanxDataModule
from xner.errors import UserError
from xner.transfer.experiment import Experiment, Keep, Select, Settings
from xner.transfer.plan import Stage, plan

INSTEAD = {
    "data.languages": "--source and --target",
    "data.num_samples": "--sizes",
    "data.subset_seed": "--seeds",
    "seed_everything": "--seeds",
    "trainer.enable_checkpointing": "--keep",
}
"""Options that ``transfer`` sets for each stage, and what says the same of an experiment."""


def check_asked_for(
    settings: Settings,
    defaults: Mapping[str, Any],
    words: Sequence[str],
    *,
    source: str,
    seeds: Sequence[int],
    **_: object,
) -> None:
    """Refuse options that ``transfer`` sets itself, where they ask for something else than what it does.

    An option is asked for where a word of the command line names it, or a configuration gives it another value than its
    default. (What a run's own config.yaml says of these options, the parser leaves out: it holds every option.)

    Args:
        settings: The command's options.
        defaults: The default of each.
        words: The command line.
        source: The experiment's source language.
        seeds: Its seeds.

    Raises:
        UserError: If one is asked for.
    """
    named = {word.partition("=")[0].removeprefix("--").removesuffix("+") for word in words}
    does = {
        "data.languages": [source],
        "data.num_samples": None,
        "data.subset_seed": seeds[0],
        "seed_everything": seeds[0],
        "trainer.enable_checkpointing": None,
    }
    for option, instead in INSTEAD.items():
        value = settings[option]
        asked = option in named or value != json.loads(json.dumps(defaults[option]))
        agrees = value == does[option] and (instead != "--seeds" or len(seeds) == 1)
        if asked and not agrees:
            raise UserError(f"{option}={value} has no effect in transfer, which sets it for each stage; use {instead}")


def check_trains(settings: Settings) -> None:
    """Refuse to call weights trained that took no step.

    Raises:
        UserError: If an option leaves no step.
    """
    for option in ("trainer.max_epochs", "trainer.max_steps", "trainer.limit_train_batches"):
        if settings[option] == 0:
            raise UserError(f"{option}=0 trains nothing; use 1 or more, or leave the option out")


def limits(settings: Settings) -> tuple[float, float]:
    """Read how many epochs and optimizer steps a training may take, as Lightning does; infinity is no limit."""
    epochs, steps = settings["trainer.max_epochs"], settings["trainer.max_steps"]
    if epochs is None:
        epochs = 1000 if steps in (None, -1) else -1
    return math.inf if epochs == -1 else epochs, math.inf if steps in (None, -1) else steps


def check_selection(settings: Settings) -> None:
    """Check that an epoch is validated that can be selected as the best.

    Raises:
        UserError: If none is.
    """
    every, epochs = settings["trainer.check_val_every_n_epoch"] or 1, limits(settings)[0]
    if every > epochs:
        raise UserError(
            f"select=best needs F1 on validation, which trainer.check_val_every_n_epoch={every} puts behind "
            f"trainer.max_epochs={epochs}"
        )
    if settings["trainer.limit_val_batches"] == 0:
        raise UserError("select=best needs F1 on validation, which trainer.limit_val_batches=0 leaves out")


def planned(
    data: PanxDataModule,
    settings: Settings,
    *,
    source: str,
    target: str,
    sizes: Sequence[int],
    regimes: Sequence[str],
    seeds: Sequence[int],
) -> tuple[list[Stage], Mapping[str, int]]:
    """List the stages of an experiment, and hold them against the training data.

    Args:
        data: The data module, as the user wants it.
        settings: The options of model, data and trainer.
        source: See ``plan``, as for those that follow.
        target: See ``plan``.
        sizes: See ``plan``.
        regimes: See ``plan``.
        seeds: See ``plan``.

    Returns:
        The stages, and how many training sentences each of the two languages has.

    Raises:
        UserError: If an option is wrong, or makes no sense in an experiment.
    """
    for option in ("limit_test_batches", "fast_dev_run"):
        value = settings[f"trainer.{option}"]
        # To Lightning, 1.0 is all batches and 1 is one batch.
        if not (value is None or value is False or (isinstance(value, float) and value == 1)):
            raise UserError(f"trainer.{option} would leave words unscored: transfer evaluates all of them")
    stages = plan(source=source, target=target, sizes=sizes, regimes=regimes, seeds=seeds)
    sentences = {language: len(data.training_split(language).sentences) for language in (source, target)}
    if sizes[-1] > sentences[target]:
        where = data.training_split(target)
        raise UserError(f"sizes: {sizes[-1]} exceeds the {sentences[target]} sentences of {where}")
    return stages, sentences


def prepare(
    data: PanxDataModule,
    settings: Settings,
    stages: Sequence[Stage],
    *,
    root: Path,
    processes: int,
    languages: Sequence[str],
    also: Sequence[str],
    keep: Keep,
    select: Select,
) -> Experiment:
    """Read and encode all that the stages will need.

    Args:
        data: The data module, as the user wants it.
        settings: The options of model, data and trainer.
        stages: As ``planned`` lists them.
        root: The run's folder.
        processes: See ``Experiment``.
        languages: The source and the target.
        also: More languages to test each stage on.
        keep: See ``Experiment``.
        select: See ``Experiment``.

    Raises:
        UserError: If a split cannot be had, or a file of it is wrong; if no epoch is validated to select by.
    """
    epochs, _ = limits(settings)
    if select == "best":
        check_selection(settings)
    evaluated = list(dict.fromkeys([*languages, *also]))
    splits = [split for each in languages for split in (data.training_split(each), data.split(each, "validation"))]
    splits += [data.split(language, "test") for language in evaluated]
    data.read(splits)
    return Experiment(
        root=root,
        stages=stages,
        evaluated=evaluated,
        settings=settings,
        processes=processes,
        digests={str(split): data.encoded(split).digest for split in splits},
        work={stage.id: _work(stage, data, evaluated, epochs=epochs) for stage in stages},
        keep=keep,
        select=select,
    )


def _work(stage: Stage, data: PanxDataModule, evaluated: Sequence[str], *, epochs: float) -> float:
    """About how long a stage takes, in sentences trained on once; evaluation is about four times as fast."""
    trained = sum(
        len(data.encoded(data.training_split(each))) if samples is None else samples for each, samples in stage.train
    )
    validated = sum(len(data.encoded(data.split(each, "validation"))) for each, _ in stage.train)
    tested = sum(len(data.encoded(data.split(each, "test"))) for each in evaluated)
    # Where there is no last epoch, steps end a stage: its share of the whole is a guess.
    return (1 if math.isinf(epochs) else epochs) * (trained + validated / 4) + tested / 4
