"""Render the model card of a model folder: its README.md, with the metadata block of the Hugging Face Hub.

A card says what was measured and recorded, and nothing else. This module prepares it; the wording is in ``card.md.j2``,
in which every value is escaped, since names of languages, types and folders come from users.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.repocard import metadata_load
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from xner.backbone import folder_of, load_config
from xner.data.sources.hub import Hub, named_dataset
from xner.data.sources.sentences import ReadOptions
from xner.errors import RunError, UserError
from xner.files import write_atomically
from xner.report.markdown import code, escape, plain
from xner.report.runs import language_name, sum_types
from xner.report.statistics import DRAWS, Interval, Resampled
from xner.tags import language_of
from xner.transfer.result import Evaluation, Result, read_counts

CARD = "README.md"
"""The file of a model folder that the hub shows."""

METRICS = {"f1": "F1", "precision": "Precision", "recall": "Recall", "accuracy": "Accuracy"}
"""The scores in the metadata block, by their name on the hub."""

SHOWN = (
    *("model.learning_rate", "model.schedule", "model.warmup_ratio", "model.weight_decay", "model.freeze"),
    *("model.lora", "model.compact_vocabulary", "data.max_length", "data.packing", "data.smoothing"),
    *("data.num_samples", "data.shots", "data.sample_from", "data.map_types", "data.validation_fraction"),
    *("trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "trainer.limit_train_batches"),
    *("trainer.overfit_batches", "trainer.precision", "trainer.gradient_clip_val", "select"),
    *("model.decoding", "model.evaluation_precision"),
)
"""The options that a card shows, where they are set."""

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}")

_PAN = (
    "Xiaoman Pan, Boliang Zhang, Jonathan May, Joel Nothman, Kevin Knight, Heng Ji (2017). Cross-lingual Name Tagging "
    "and Linking for 282 Languages. ACL. (WikiANN, the origin of the tags)"
)
_RAHIMI = (
    "Afshin Rahimi, Yuan Li, Trevor Cohn (2019). Massively Multilingual Transfer for NER. ACL. (The balanced splits)"
)
_HU = (
    "Junjie Hu, Sebastian Ruder, Aditya Siddhant, Graham Neubig, Orhan Firat, Melvin Johnson (2020). XTREME: A "
    "Massively Multilingual Multi-task Benchmark for Evaluating Cross-lingual Generalization. ICML. (PAN-X)"
)
_CONNEAU = (
    "Alexis Conneau, Kartikay Khandelwal, Naman Goyal, Vishrav Chaudhary, Guillaume Wenzek, Francisco Guzmán, Edouard "
    "Grave, Myle Ott, Luke Zettlemoyer, Veselin Stoyanov (2020). Unsupervised Cross-lingual Representation Learning at "
    "Scale. ACL. (XLM-R, the architecture)"
)
_REFERENCES = {"panx": (_PAN, _RAHIMI, _HU), "wikiann": (_PAN, _RAHIMI)}
"""The references of a data set, where those of its description in ``presets.yaml`` are not enough."""


@dataclass(frozen=True, kw_only=True)
class CardOptions:
    """The options of model cards.

    Args:
        license: License of the weights, for their model card: an identifier of the Hugging Face Hub, such as
            apache-2.0; null leaves it out.
    """

    license: str | None = None

    def check(self) -> None:
        """Check that the license has the form of an identifier; only the hub knows which ones there are.

        Raises:
            UserError: If it has not.
        """
        if self.license is not None and not _LICENSE.fullmatch(self.license):
            raise UserError(
                f"license={self.license!r} is not an identifier of the Hugging Face Hub; use one such as apache-2.0, "
                "cc-by-sa-4.0 or other"
            )


class Measured(NamedTuple):
    """The scores of a model on one split.

    Attributes:
        languages: Its language, or several whose sentences were scored together.
        split: Its name.
        sentences: Its number of sentences.
        scores: Scores from 0 to 1 by their name in ``results.csv``, ``f1_<TYPE>`` among them.
        interval: The confidence interval of F1; ``None`` where the counts of the sentences were not kept.
        evaluation: The evaluation with its comparison with the training data; ``None`` where there is none.
    """

    languages: Sequence[str]
    split: str
    sentences: int
    scores: Mapping[str, float]
    interval: Interval | None = None
    evaluation: Evaluation | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The content of a model card.

    Attributes:
        name: The name of the model.
        types: Its entity types.
        lineage: What its weights were trained on, as ``lineage.json`` has it.
        license: The identifier of its license; ``None`` leaves it out.
        measured: Its scores.
        unmeasured: Why there are no scores, as a sentence, where there are none.
        source: The ``data.source`` of the splits that were scored.
        options: The options of its last training by their name on the command line; those of ``SHOWN`` are shown.
        step_sentences: Training sentences per optimizer step; ``None`` where it is not known.
        averages: The trainings whose weights it averages, if any.
    """

    name: str
    types: Sequence[str]
    lineage: Mapping[str, Any]
    license: str | None = None
    measured: Sequence[Measured] = ()
    unmeasured: str = ""
    source: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    step_sentences: int | None = None
    averages: Sequence[str] = ()


class DataSet(NamedTuple):
    """A source of sentences as a card names it; ``id`` is its name on the hub, empty where it is not from there."""

    name: str
    id: str = ""
    description: str = ""
    references: Sequence[str] = ()


def write_card(folder: Path, facts: Facts) -> None:
    """Write the card of a model folder, atomically."""
    write_atomically(folder / CARD, render_card(facts, load_config(str(folder)).model_type))


def carry_card(model: str, target: Path, *, section: str, usage: str | None, same_predictions: bool) -> None:
    """Write the card of an exported model: that of the model folder it was made from, with a section on the export.

    Args:
        model: The model folder, or a hub name. Without a card, its configuration and lineage are what the new card is
            made of.
        target: The folder of the exported model.
        section: Markdown with a heading of the second level, which becomes the first section; values of users in it
            need escaping (``xner.report.markdown.escape``).
        usage: Markdown that replaces the text on how to use the model; ``None`` keeps it.
        same_predictions: Whether the exported model predicts what the model folder does. Otherwise, the scores of the
            card are not those of the exported model, and the metadata block is left without them.

    Raises:
        RunError: If the card of the model folder is damaged.
    """
    card: Any = read_card(model) or ModelCard(render_card(_recorded(model), load_config(model).model_type))
    if usage:
        heading = "\n## How to use\n"
        before, _, after = card.text.partition(heading)
        _, following, rest = after.partition("\n## ")
        card.text = f"{before}{heading}\n{usage.strip()}\n{following}{rest}"
    title, heading, rest = card.text.partition("\n## ")
    note = "" if same_predictions else "\nThe scores below are those of the model before the export.\n"
    card.text = f"{title}\n{section.strip()}\n{note}{heading}{rest}"
    if not same_predictions:
        card.data.eval_results = card.data.model_name = card.data.metrics = None
    write_atomically(target / CARD, str(card))


def read_card(model: str) -> ModelCard | None:
    """Read the card of a model folder; ``None`` where it has none, as a hub name.

    Raises:
        RunError: If it is damaged.
    """
    path = folder_of(model) / CARD
    try:
        return ModelCard.load(path) if path.is_file() else None
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:  # of the metadata block
        raise RunError(f"{path} is damaged ({error}); restore it, or delete it") from error


def license_of(card: Path) -> str | None:
    """Return the license that a card has; ``None`` where it has none, or no metadata block.

    Raises:
        RunError: If the card is damaged.
    """
    try:
        found = metadata_load(card) or {}
    except (ValueError, yaml.YAMLError) as error:
        raise RunError(f"{card} is damaged ({error}); restore it, or delete it") from error
    return found.get("license")


def measured_scores(folder: Path, result: Result) -> list[Measured]:
    """Return the scores of a complete stage, with the bootstrap interval of each F1 over sentences.

    Args:
        folder: The stage's folder.
        result: The stage's result.
    """
    found = []
    for each in result["evaluations"]:
        counts = read_counts(folder, each)
        scores = {name: each[name] for name in (*METRICS, "f1_strict")}  # type: ignore[literal-required]
        scores |= {f"f1_{name}": score for name, score in each["f1_by_type"].items()}
        bounds = Resampled([sum_types(counts)]).interval([0])
        found.append(Measured([each["language"]], each["split"], each["sentences"], scores, bounds, each))
    return found


def render_card(facts: Facts, model_type: str) -> str:
    """Render a card.

    Args:
        facts: Its content.
        model_type: The architecture, as ``config.json`` has it.

    Returns:
        The metadata block and the Markdown text.
    """
    episodes = facts.lineage["episodes"]
    data = {source: describe_source(source) for source in [each["source"] for each in episodes] + [facts.source]}
    references = [each for found in data.values() for each in found.references]
    references += [_CONNEAU] if model_type == "xlm-roberta" else []
    options = {name: facts.options.get(name) for name in SHOWN}
    environment = Environment(
        loader=PackageLoader("xner.report", "."),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=escape,
    )
    environment.filters |= {
        "language": language_name, "language_of": language_of, "code": code,
        "percent": lambda value: f"{100 * value:.2f}",
        "count": lambda value: "unknown" if value is None else f"{value:,}",
    }  # fmt: skip
    text = environment.get_template("card.md.j2").render(
        facts=facts,
        origin=_origin(facts.lineage["origin"]),
        data=data,
        evaluated=[each.evaluation for each in facts.measured if each.evaluation],
        codes=[*dict.fromkeys(language_of(each["language"]) for each in episodes)],
        on_evaluation=[*dict.fromkeys(f"{e['language']}/{e['split']}" for e in episodes if e["split"] != "train")],
        options={
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in options.items()
            if value not in (None, -1, {}, [], "")
        },
        references=[*dict.fromkeys(references)],
        version=version("xner"),
        DRAWS=DRAWS,
    )
    return f"---\n{metadata(facts).to_yaml()}\n---\n\n{text.strip()}\n"


def metadata(facts: Facts) -> ModelCardData:
    """Return the metadata block: what the hub filters models by, and the scores as its ``model-index``.

    Names of languages that are not codes of ISO 639 are left out, since the hub refuses them; a treebank such as
    ``en_pud`` is of its language.
    """
    episodes = facts.lineage["episodes"]
    languages = [each["language"] for each in episodes] + [code for each in facts.measured for code in each.languages]
    codes = dict.fromkeys(map(language_of, languages))
    trained_on = dict.fromkeys(describe_source(each["source"]).id for each in episodes)
    name = plain(facts.name)
    return ModelCardData(
        language=[each for each in codes if _LANGUAGE.fullmatch(each)] or None,
        license=facts.license,
        library_name="transformers",
        pipeline_tag="token-classification",
        base_model=facts.lineage["origin"] if on_hub(facts.lineage["origin"]) else None,
        datasets=[each for each in trained_on if each] or None,
        tags=["xner", "named-entity-recognition"],
        metrics=[*METRICS] if facts.measured else None,
        model_name=name if facts.measured else None,
        eval_results=[each for measured in facts.measured for each in _eval_results(measured, facts)] or None,
    )


def _eval_results(measured: Measured, facts: Facts) -> list[EvalResult]:
    """Return the scores on a split as entries of the ``model-index``."""
    data, hub = describe_source(facts.source), named_dataset(facts.source)
    reading = ReadOptions(language_configs=facts.options.get("data.language_configs") or {})
    single = measured.languages[0] if len(measured.languages) == 1 else None
    config = Hub(hub, single, reading).config if hub and single else single
    return [
        EvalResult(
            task_type="token-classification",
            task_name="Named-entity recognition",
            dataset_type=data.id or re.sub(r"[^\w.-]+", "-", plain(data.name)),
            dataset_name=plain(f"{data.name} ({' + '.join(map(language_name, measured.languages))})"),
            dataset_config=plain(config) if config else None,
            dataset_split=measured.split,
            metric_type=name,
            metric_name=title,
            metric_value=round(float(measured.scores[name]), 4),
        )
        for name, title in METRICS.items()
    ]


def describe_source(source: str) -> DataSet:
    """Describe a ``data.source``; a folder or file by its name alone, since its path concerns nobody else."""
    if source == "sample":
        return DataSet("xner's sample", description="generated sentences, for trying xner out")
    if dataset := named_dataset(source):
        card = dataset.card
        references = _REFERENCES.get(source) or ((card.citation,) if card else ())
        return DataSet(dataset.title, dataset.id, card.description if card else "", references)
    return DataSet(Path(source).name)


def on_hub(backbone: str) -> bool:
    """Return whether a backbone is certainly a model of the hub: the hub's cache on this machine holds it.

    A folder that is no longer there could have the form of a hub name.
    """
    if Path(backbone).exists():
        return False
    try:
        return isinstance(try_to_load_from_cache(backbone, "config.json"), str)
    except HFValidationError:
        return False


def _origin(backbone: str) -> Markup:
    """Return the name of a backbone as a link to the hub, or as that of a folder."""
    if on_hub(backbone):
        return Markup(f"[{escape(backbone)}](https://huggingface.co/{backbone})")
    if backbone == "sample":
        return Markup("the tiny network of xner's sample")
    return escape(Path(backbone).name)


def _recorded(model: str) -> Facts:
    """Collect the content of a card from the configuration and the lineage of a model folder, or of a hub name."""
    record = folder_of(model) / "lineage.json"
    name = folder_of(model).resolve().name if folder_of(model).exists() else model
    tags = [str(tag) for tag in (load_config(model).id2label or {}).values()]
    return Facts(
        name=name,
        types=[tag.removeprefix("B-") for tag in tags if tag.startswith("B-")],
        lineage=json.loads(record.read_text(encoding="utf-8"))
        if record.is_file()
        else {"origin": name, "episodes": [], "unrecorded": True},
        unmeasured="The model folder has no scores of these weights.",
    )
