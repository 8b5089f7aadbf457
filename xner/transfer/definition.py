"""The definition of a stage: everything that its weights and scores depend on, and so whether it has to run again."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xner.errors import UserError
from xner.transfer.experiment import WORDS, Experiment
from xner.transfer.plan import SOURCE

WITHOUT_EFFECT = {
    # Options whose values differ between stages; a definition records them under its own attributes.
    *("data.languages", "data.num_samples", "data.shots", "data.subset_seed", "data.test_languages", "data.backbone"),
    # Paths and names; a definition has digests of their content.
    *("data.source", "model.backbone", "trainer.default_root_dir"),
    # Where a stage is computed; a definition has the number of processes times the batch size.
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "data.batch_size"),
    *("executor", "gpus_per_stage"),
    # What is displayed and kept of a run.
    *("trainer.logger", "trainer.log_every_n_steps", "trainer.enable_progress_bar", "trainer.enable_model_summary"),
    *("trainer.enable_autolog_hparams", "trainer.enable_checkpointing", "trainer.profiler", "keep", "plan"),
    "license",
    # Which stages exist; a definition has the stage's own part of each. A stage seeds itself.
    *("source", "target", "source_samples", "sizes", "shots", "regimes", "seeds", "seed_everything", "few_shot"),
    # Only the stages that they are for have them in their definition, so that others need not run again.
    *("self_training", "adapt_backbone", "pretraining"),
}
"""Options that cannot change a stage's result. Every other option counts, including options added later."""


@dataclass(frozen=True, kw_only=True)
class Definition:
    """Everything that the weights and the scores of a stage depend on.

    Attributes:
        stage: The stage's id.
        train: The languages it trains on, each with its number of sentences; ``None`` stands for all.
        shots: Number of target-language entities per type; ``None`` where the number of sentences is given.
        subset_seed: Seed of the subsets.
        parent: The id of the stage it starts from, or those of the stages that it averages, joined by ``+``; ``None``
            for the backbone.
        start_from: The fingerprints of their definitions, or the digest of the backbone.
        batch_sentences: Training sentences per batch, over all processes.
        sentences: The digest of each split that its training depends on.
        tested: The digest of each split that it is tested on, which can be more later.
        types: The entity types, in the order of their labels.
        few_shot: The settings of stages that train on target sentences alone; ``None`` for other stages.
        options: All options of the command but ``WITHOUT_EFFECT``.
    """

    stage: str
    train: list[list[str | int | None]]
    shots: int | None
    subset_seed: int
    parent: str | None
    start_from: str
    batch_sentences: int
    sentences: dict[str, str]
    tested: dict[str, str]
    types: list[str]
    few_shot: dict[str, Any] | None
    options: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of what the weights depend on."""
        parts = {name: value for name, value in asdict(self).items() if name != "tested"}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def check_same(self, before: Mapping[str, Any], folder: Path) -> None:
        """Refuse to take a stage's result, or its checkpoints, for those of another definition.

        Args:
            before: The definition that the stage was run with, as ``result.json`` has it.
            folder: The stage's folder.

        Raises:
            UserError: If they differ; the text names the first option that does.
        """
        now, then = dict(_named(asdict(self))), dict(_named(before))
        of_training = {_sentences_of(split) for split in (*self.sentences, *before.get("sentences", ()))}
        # What is tested on one side only does not change the weights.
        further = {_sentences_of(split) for split in {*self.tested} ^ {*before.get("tested", ())}} - of_training
        for name in sorted({*now, *then} - further):
            if name not in now or name not in then:
                difference = f"by another version of xner, where {name} had another meaning"
                if name in of_training:
                    # The languages that are tested change a training that leaves out their test sentences.
                    left_out = (
                        f", which {each}=true leaves out" for each in self.options if each.endswith("leave_out_test")
                    )
                    difference = f"{'with' if name in then else 'without'} {name}{next(left_out, '')}"
                raise UserError(
                    f"{folder} was run {difference}; use another --trainer.default_root_dir, or delete the folder"
                )
            if now[name] != then[name]:
                run = f"with {name}={then[name]!r}, not {now[name]!r}"
                if name == "parent":
                    before_it, asked = (each[name] or "the backbone" for each in (then, now))
                    options = "--sizes, --seeds, --regimes and --adapt_backbone"
                    run = f"from {before_it}, not from {asked} as {options} ask for"
                raise UserError(f"{folder} was run {run}; use another --trainer.default_root_dir, or delete the folder")


_OWN_PARTS = ("stage", "training sentences", "shots", "data.subset_seed", "parent", "start_from")
"""Parts of a definition in which the stages of one experiment differ."""

_OF_SOME_STAGES = ("few_shot", "types")
"""Parts that are empty where they have no effect on a stage."""


def check_comparable(definitions: Iterable[Definition], others: Mapping[Path, Mapping[str, Any]]) -> None:
    """Refuse to report complete stages, as of other seeds or sizes, beside stages of another configuration.

    Args:
        definitions: Those of the stages to run.
        others: The definitions of the complete stages, as ``result.json`` has them, by their folders.

    Raises:
        UserError: If they differ in something that all stages of an experiment have in common.
    """
    planned = [_in_common(asdict(definition)) for definition in definitions]
    for folder, other in others.items():
        then = _in_common(other)
        for now in planned:
            for name in now:
                if name in then and now[name] != then[name]:
                    raise UserError(
                        f"{folder}, which would be in the same report, was run with {name}={then[name]!r}, not "
                        f"{now[name]!r}; use another --trainer.default_root_dir, or delete the folder"
                    )


def _in_common(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Name the parts of a stage's definition that are those of all stages of its experiment that have them."""
    own = {"backbone": "" if definition["parent"] else definition["start_from"], "source": _source(definition)}
    parts = own | {name: value for name, value in _named(definition) if name not in _OWN_PARTS}
    return {name: value for name, value in parts.items() if value or name not in (*own, *_OF_SOME_STAGES)}


def _source(definition: Mapping[str, Any]) -> list[Any]:
    """Return what a source stage trains on, and how the backbone was adapted before; empty for other stages."""
    end = f"-seed{definition['subset_seed']}"
    if not (definition["stage"].startswith(f"{SOURCE}-") and definition["stage"].endswith(end)):
        return []
    return [*definition["train"], (definition["parent"] or "").removesuffix(end)]


def define(experiment: Experiment) -> dict[str, Definition]:
    """Define each stage of an experiment, by the stage's id."""
    definitions: dict[str, Definition] = {}
    for stage in experiment.stages:
        text = stage.labels == "none"
        trained = experiment.train_split + ("" if stage.labels == "gold" else WORDS)
        validated = "validation" + WORDS * text
        splits = [f"{language}/{name}" for language, _ in stage.train for name in (trained, validated)]
        splits += [f"{experiment.oracle}/validation"] if experiment.oracle and not text else []
        tests = [f"{language}/{experiment.test_split}" for language in experiment.evaluated]
        start = "+".join(definitions[each].fingerprint for each in stage.parents) or experiment.backbone_digest
        options = {name: value for name, value in experiment.options.items() if name not in WITHOUT_EFFECT}
        if stage.labels != "gold":
            group = "pretraining" if text else "self_training"
            own = experiment.pretraining if text else experiment.self_training
            options |= {f"{group}.{name}": value for name, value in asdict(own).items()}
            splits += [split + WORDS * text for split in tests] if own.leave_out_test else []
        definitions[stage.id] = Definition(
            stage=stage.id,
            train=[[language, samples] for language, samples in stage.train],
            shots=stage.shots,
            subset_seed=stage.seed,
            parent="+".join(stage.parents) or None,
            start_from=start,
            batch_sentences=experiment.batch_sentences,
            sentences={split: experiment.digests[split] for split in splits},
            tested={} if text else {split: experiment.digests[split] for split in tests},
            types=[] if text else list(experiment.types),
            few_shot=asdict(experiment.few_shot) if stage.adapts else None,
            options=json.loads(json.dumps(options)),
        )
    return definitions


def _named(definition: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Name each part of a definition as an error calls it."""
    names = {
        "train": "training sentences",
        "batch_sentences": "data.batch_size x processes",
        "subset_seed": "data.subset_seed",
    }
    for name, value in definition.items():
        if name == "options":
            yield from value.items()
        elif name in ("sentences", "tested"):
            yield from ((_sentences_of(split), digest) for split, digest in value.items())
        else:
            yield names.get(name, name), value


def _sentences_of(split: str) -> str:
    return f"sentences of {split}"
