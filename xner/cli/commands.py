"""The commands that need a Trainer: fit, validate, test and predict."""

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from xner.backbone import check_head, check_types
from xner.cli.callbacks import Validations, check_monitored, monitoring
from xner.cli.configuration import named
from xner.cli.interrupts import exit_at_interrupt
from xner.cli.lightning import XnerCLI, config_yaml, parse_command
from xner.cli.limits import check_interval, check_training
from xner.cli.output import bracketed, say
from xner.cli.predictions import output_files, write_predictions
from xner.cli.processes import check_lost, leave_group
from xner.cli.transfer import transfer
from xner.data.sources import Sentences
from xner.errors import RunError, Stopped, UserError
from xner.files import write_atomically
from xner.lineage import Lineage
from xner.lineage.callback import LineageCallback
from xner.lineage.checkpoint import tags_of_checkpoint
from xner.model.evaluation import Words, run_predict, run_test
from xner.model.monitoring import Diverged
from xner.report.card import METRICS, CardOptions, Facts, Measured, write_card
from xner.tags import TagSet
from xner.transfer.result import Evaluation, notes_of
from xner.transfer.resume import exit_code
from xner.transfer.run import lock_run_folder
from xner.transfer.scoring import evaluate
from xner.transfer.training import write_model

logger = logging.getLogger(__name__)

_LESS_MEMORY = (
    "use a lower data.batch_size with as much more of trainer.accumulate_grad_batches, "
    "model.gradient_checkpointing=true, trainer.precision=bf16-mixed or, where it was evaluated, a lower "
    "data.evaluation_pieces"
)
"""Advice for a command that runs out of memory. Smaller, accumulated batches change results by dropout alone."""


def run_command(args: Sequence[str]) -> None:
    """Parse a command that needs a Trainer, and run it.

    Raises:
        UserError: If an option is wrong.
        RunError: If a process was lost, or training diverged.
        Stopped: If a signal stopped the command.
    """
    seeds = {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    try:
        with exit_at_interrupt():
            cli = parse_command(args)
        _run(cli)
    finally:
        # Lightning leaves its seed in the environment, where the next command of this process would find it.
        for name, seed in seeds.items():
            os.environ.pop(name, None)
            if seed is not None:
                os.environ[name] = seed


def _run(cli: XnerCLI) -> None:
    first = cli.trainer.is_global_zero
    try:
        RUN[str(cli.subcommand)](cli)
    except Diverged as error:
        if not first:
            sys.exit(error.exit_code)  # the first process reports it
        last = _last_checkpoint(cli)
        raise RunError(f"{error}{f'; the last checkpoint is {last}' if last else ''}") from error
    except torch.OutOfMemoryError as error:
        # Each process has memory of its own, and so a line of its own.
        raise RunError(f"{str(error).partition('. ')[0]}; {_LESS_MEMORY}") from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):  # torch has no exception of its own for it
            raise RunError(f"out of memory ({error}); {_LESS_MEMORY}") from error
        continues = cli.subcommand == "transfer"
        check_lost(error, cli.trainer, "the same command continues from here" if continues else "repeat the command")
        raise
    except SystemExit as stop:
        # Lightning ends a stopped command with the exit code of a failed one or, at a SIGTERM, of a successful one.
        stopped = isinstance(stop, SIGTERMException) or isinstance(stop.__context__, KeyboardInterrupt)
        if stopped and first:
            last = _last_checkpoint(cli)
            advice = f"--ckpt_path {last} resumes from there" if last else "repeat the command"
            raise Stopped(f"stopped: {advice}", exit_code(stop)) from stop
        raise
    leave_group()


def fit(cli: XnerCLI) -> None:
    """Train, and write the configuration, the model folder with its card, and a line about the epoch of its weights.

    Raises:
        UserError: If the folder is that of a transfer, if nothing would be trained, or if no epoch is validated that is
            to be selected.
        RunError: If another process uses the folder.
    """
    trainer, model, data, options = cli.trainer, cli.model, cli.datamodule, cli.options
    if (cli.root / "stages").is_dir():
        raise UserError(f"trainer.default_root_dir={str(cli.root)!r} is the folder of a transfer; use another folder")
    CardOptions(license=options.license).check()
    check_training(options)
    model.check(data.tag_set)
    check_monitored(trainer.callbacks, model, data.tag_set)  # type: ignore[attr-defined] # set by Lightning
    data.check("fit")
    check_interval(trainer, sum(len(data.training_sentences(each)) for each in data.languages), data)
    validations = Validations()
    trainer.callbacks.append(validations)  # type: ignore[attr-defined] # set by Lightning
    writes = trainer.is_global_zero and not options.trainer.fast_dev_run
    with ExitStack() as stack:
        if writes:
            stack.enter_context(lock_run_folder(cli.root))
            path, text = cli.root / "config.yaml", config_yaml(cli)
            same = path.is_file() and path.read_bytes() == text.encode()
            if not (cli.root / "model").is_dir():
                write_atomically(path, text)
            elif options.ckpt_path is None and not same:
                logger.warning("%s is of another training, and is replaced when this one ends", cli.root / "model")
        trainer.fit(
            model,
            datamodule=data,
            ckpt_path=options.ckpt_path,
            weights_only=options.weights_only,
            select=options.select,
        )
        if writes:
            history = LineageCallback.of(trainer).after(model, data)
            write_atomically(path, text)  # only now, where an earlier training's is beside the earlier model
            write_model(cli.root / "model", model, history)
            write_card(cli.root / "model", _facts(cli, history.lineage, validations))
            say(f"model folder: {cli.root / 'model'} ({_chosen_epoch(cli, validations)})")


def validate(cli: XnerCLI) -> None:
    """Score the validation splits.

    Raises:
        UserError: If nothing would be scored.
    """
    _check_scored(cli)
    data = cli.datamodule
    if cli.options.trainer.limit_val_batches == 0:
        raise UserError("trainer.limit_val_batches=0 validates nothing; leave the option out")
    if data.test_languages != data.languages:
        say(f"validate scores data.languages={data.languages}; data.test_languages is for test and predict")
    cli.trainer.validate(cli.model, datamodule=cli.datamodule, **_checkpoint(cli), verbose=cli.options.verbose)


def test(cli: XnerCLI) -> None:
    """Score the test split of each test language, and print seqeval's report."""
    _check_scored(cli)
    trainer, model, data = cli.trainer, cli.model, cli.datamodule
    tested = run_test(trainer, model, data, **_checkpoint(cli))
    if not tested:
        raise UserError("trainer.limit_test_batches=0 tests nothing; leave the option out")
    if trainer.is_global_zero:
        evaluations, _ = evaluate(tested, data, LineageCallback.of(trainer).before(model))
        for evaluation, each in zip(evaluations, tested, strict=True):
            gold = data.test_split_of(evaluation["language"]).sentences
            say(f"\n{describe(evaluation)}\n{seqeval_report(tags_by_sentence(each.words, data.tag_set), gold)}")


def predict(cli: XnerCLI) -> None:
    """Write the sentences of each test language with their predicted tags.

    Raises:
        UserError: If nothing would be predicted, or a file would be replaced by its own predictions.
        RunError: If a word cannot be written in the format.
    """
    _check_scored(cli)
    trainer, model, data, form = cli.trainer, cli.model, cli.datamodule, cli.options.format
    splits = data.predicted_splits()
    files = output_files(cli.root, splits, form)
    if cli.options.ckpt_path is not None and (of_head := tags_of_checkpoint(cli.options.ckpt_path)):
        data.tag_set = of_head  # the sentences may have no tags
    # Lightning's default would keep all batches, which CollectWords has already collected.
    options = {**_checkpoint(cli), "return_predictions": bool(cli.options.return_predictions)}
    predicted = run_predict(trainer, model, data, **options)
    if not predicted:
        raise UserError("trainer.limit_predict_batches=0 predicts nothing; leave the option out")
    if trainer.is_global_zero and not cli.options.trainer.fast_dev_run:
        write_predictions(files, splits, predicted, model.network.tag_set, form)
        for paths, split, words in zip(files, splits, predicted, strict=True):
            say(f"predictions: {', '.join(map(str, paths))}")
            count, every = len({*words.sentence.tolist()}), len(data.encoded(split))
            if count < every:
                say(f"part of {split}: its {count:,} longest sentences of {every:,}")


def _check_scored(cli: XnerCLI) -> None:
    """Refuse to score random weights, before any data is read, or a head of other entity types.

    Raises:
        UserError: If neither the backbone nor a checkpoint has a trained head for the types of the data.
    """
    backbone = cli.model.backbone_name
    if cli.options.ckpt_path is None:
        check_head(backbone)
        if cli.options.model.new_head:
            raise UserError("model.new_head=true replaces the trained head by a new one; use it with fit or transfer")
        if cli.subcommand != "predict":
            check_types(backbone, cli.datamodule.tag_set)


def _checkpoint(cli: XnerCLI) -> dict[str, Any]:
    return {"ckpt_path": cli.options.ckpt_path, "weights_only": cli.options.weights_only}


def _last_checkpoint(cli: XnerCLI) -> str:
    """Return the checkpoint from which a fit can be resumed; empty where there is none."""
    if cli.subcommand != "fit":
        return ""
    found = [each for each in cli.trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    # A callback that monitors nothing saves the last epoch as its best.
    found.sort(key=lambda each: bool(each.monitor))
    return next((path for each in found if (path := each.last_model_path or each.best_model_path)), "")


def _chosen_epoch(cli: XnerCLI, validations: Validations) -> str:
    """Describe the epoch, or epochs, whose weights a fit ended with, and their F1 where they were validated."""
    best = monitoring(cli.trainer) if cli.options.select == "best" else None
    if best and best.best_model_path and best.best_model_score is not None:
        checkpoint = torch.load(best.best_model_path, map_location="meta", weights_only=True, mmap=True)
        return f"best epoch, {checkpoint['epoch'] + 1}: {best.monitor} {float(best.best_model_score):.4f}"
    score = validations.scores.get(cli.trainer.global_step, {}).get("f1")
    # The last of the epochs that began may have been cut short.
    epoch = cli.trainer.fit_loop.epoch_progress.current.ready
    if cli.options.select == "average":
        return f"average of {epoch} epoch{'s' if epoch > 1 else ''}"
    return f"last epoch, {epoch}" + (f": val/f1 {score:.4f}" if score is not None else "")


def _facts(cli: XnerCLI, lineage: Lineage, validations: Validations) -> Facts:
    """Collect the content of the model card of a fit; its scores are of a validation of exactly its weights."""
    trainer, data, options = cli.trainer, cli.datamodule, cli.options
    best = monitoring(trainer) if options.select == "best" else None
    step: int | None = None if options.select == "average" else trainer.global_step
    if best and best.best_model_path:
        step = torch.load(best.best_model_path, map_location="meta", weights_only=True, mmap=True)["global_step"]
    scores = validations.scores.get(step, {}) if step is not None else {}
    # A model of another class may log other scores.
    scores = scores if {*METRICS, "f1_strict", *(f"f1_{each}" for each in data.tag_set.types)} <= scores.keys() else {}
    sentences = sum(len(data.encoded(data.split_of(each, "validation"))) for each in data.languages) if scores else 0
    return Facts(
        name=cli.root.resolve().name,
        types=data.tag_set.types,
        lineage=lineage,
        license=options.license,
        measured=[Measured(data.languages, "validation", sentences, scores)] if scores else [],
        unmeasured="These weights were not scored: no validation of all sentences was made with exactly them.",
        source=data.source,
        options=named(cli.build.parser, options),
        step_sentences=data.batch_size * trainer.world_size * trainer.accumulate_grad_batches,
    )


def describe(evaluation: Evaluation) -> str:
    """Describe an evaluation in a few lines: its scores, and what the weights were trained on before."""
    split, seen, unseen = evaluation["split"], evaluation["seen_sentences"], evaluation["f1_unseen"]
    lines = [
        f"{evaluation['language']}/{split}{bracketed(notes_of(evaluation))}: F1 {evaluation['f1']:.4f}, "
        f"strict {evaluation['f1_strict']:.4f}"
    ]
    if seen is None:
        lines.append(f"how many of the {split} sentences the weights were trained on is not recorded")
    else:
        overlap = f"{seen:,} of {evaluation['sentences']:,} {split} sentences occur verbatim in the training data"
        lines.append(overlap + (f"; F1 on the others {unseen:.4f}" if unseen is not None else ""))
    if evaluation["unscored_words"]:
        lines.append(f"part of the split, its longest sentences: {evaluation['unscored_words']:,} words have no score")
    if evaluation["oracle"]:
        lines.append("oracle: the epoch of the weights was chosen by the validation split of the target")
    if evaluation["contaminated"]:
        lines.append("contaminated: the weights were trained on an evaluation split, or on all of these sentences")
    return "\n".join(lines)


def tags_by_sentence(words: Words, tag_set: TagSet) -> dict[int, list[str]]:
    """Group predicted labels by the number of their sentence, as tags in the order of the words."""
    tags: dict[int, list[str]] = {}
    for label, sentence in zip(words.predicted.tolist(), words.sentence.tolist(), strict=True):
        tags.setdefault(sentence, []).append(tag_set.tags[label])
    return tags


def seqeval_report(predicted: Mapping[int, list[str]], gold: Sentences) -> str:
    """Format precision, recall and F1 per type as seqeval does, over the sentences that have a prediction.

    Where there is no entity, neither gold nor predicted, seqeval has an F1 of 0 but no report, and a line says so.
    """
    from seqeval.metrics import classification_report

    tags = [gold.tags[sentence] for sentence in predicted]
    if {"O"}.issuperset(chain.from_iterable([*tags, *predicted.values()])):
        return "No entities, neither in the data nor predicted: F1 is 0 by seqeval's convention.\n"
    return str(classification_report(tags, [*predicted.values()], digits=4, zero_division=0))


RUN: dict[str, Callable[[XnerCLI], None]] = {
    "fit": fit,
    "validate": validate,
    "test": test,
    "predict": predict,
    "transfer": transfer,
}
