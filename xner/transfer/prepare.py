"""From the command's options to an experiment: what is wrong with them is said before anything is written or run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from xner.data.datamodule import PanxDataModule
from xner.errors import UserError
from xner.transfer.experiment import Experiment, Keep, Select, Settings
from xner.transfer.plan import Stage, plan


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
    if data.num_samples is not None:
        raise UserError("data.num_samples has no meaning in transfer, whose sizes say how many: leave it out")
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
    every, epochs = settings["trainer.check_val_every_n_epoch"] or 1, settings["trainer.max_epochs"] or 1
    if select == "best" and every > epochs:
        raise UserError(
            f"select=best needs F1 on validation, which trainer.check_val_every_n_epoch={every} puts behind "
            f"trainer.max_epochs={epochs}"
        )
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


def _work(stage: Stage, data: PanxDataModule, evaluated: Sequence[str], *, epochs: int) -> float:
    """About how long a stage takes, in sentences trained on once; evaluation is about four times as fast."""
    trained = sum(
        len(data.encoded(data.training_split(each))) if samples is None else samples for each, samples in stage.train
    )
    validated = sum(len(data.encoded(data.split(each, "validation"))) for each, _ in stage.train)
    tested = sum(len(data.encoded(data.split(each, "test"))) for each in evaluated)
    return epochs * (trained + validated / 4) + tested / 4
