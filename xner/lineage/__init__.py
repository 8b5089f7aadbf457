"""The record of the data that a model was trained on: episodes, and hashes of every sentence, word and entity.

A model folder keeps both beside its weights, as ``lineage.json`` and ``seen.safetensors`` (about 0.1 MB per 10,000
sentences). A zero-shot score is only as trustworthy as this record, so ``lineage.json`` also has a digest of the
weights it was written for: weights that another tool trained and saved into the same folder are refused.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from xner.backbone import folder_of, has_head, load_config
from xner.data.datamodule import Labels, PanxDataModule
from xner.data.hashes import span_hashes
from xner.errors import RunError
from xner.files import hash_files, write_atomically
from xner.tags import find_spans, language_of
from xner.typed import check_type

logger = logging.getLogger(__name__)

FILE = "lineage.json"
SEEN_FILE = "seen.safetensors"

Int64 = npt.NDArray[np.int64]


class Episode(TypedDict):
    """A training on one split of one language.

    ``shuffle_seed`` and ``subset_seed`` chose the sentences, ``seed`` ordered them; ``digest`` is the SHA-256 of the
    split's own digest and the numbers of the chosen sentences. ``types`` are the entity types, and ``map_types`` is how
    they were made from those of the source. ``labels`` are ``gold``, the tags of the split, or ``predicted`` by another
    model, or ``none``, where these were not read. ``training`` names a training on something else than labels.
    """

    source: str
    language: str
    split: str
    sentences: int
    shuffle_seed: int
    subset_seed: int | None
    seed: int | None
    types: list[str]
    map_types: dict[str, str]
    digest: str
    labels: Labels
    training: NotRequired[str]


class Lineage(TypedDict):
    """The backbone that weights come from and the episodes of their training, oldest first.

    ``unrecorded`` is present, and true, where the origin is a token classifier without a lineage: what it was trained
    on is unknown, so none of its scores is zero-shot. ``oracle`` is present, and true, where the epoch of a training
    was chosen by the validation split of an experiment's target, so none of its scores is zero-shot either.
    """

    origin: str
    episodes: list[Episode]
    unrecorded: NotRequired[bool]
    oracle: NotRequired[bool]


class History(NamedTuple):
    """Everything that weights were trained on.

    Attributes:
        lineage: The episodes of their training.
        sentences: Unique hashes of the sentences of all episodes, ascending. *Shape:* (sentences,)
        words: Unique hashes of the words in them, ascending. *Shape:* (words,)
        entities: Unique hashes of the words of each entity in them, of any type, ascending. *Shape:* (entities,)
        normal: Unique hashes of their words as ``normalise_words`` returns them, ascending. *Shape:* (normal,)
    """

    lineage: Lineage
    sentences: Int64
    words: Int64
    entities: Int64
    normal: Int64

    @property
    def hashes(self) -> dict[str, Int64]:
        """All hashes by the names under which they are stored."""
        return {name: array for name, array in self._asdict().items() if name != "lineage"}


NOTHING_SEEN = History({"origin": "", "episodes": []}, *[np.empty(0, dtype=np.int64)] * 4)
"""The history of weights that were never trained."""


def read_lineage(backbone: str) -> Lineage:
    """Read a model folder's lineage; a backbone without the file counts as pretrained only.

    Raises:
        RunError: If the file is not a lineage.
    """
    path = folder_of(backbone) / FILE
    if not path.is_file():
        return {"origin": backbone, "episodes": []}
    try:
        found: Lineage = json.loads(path.read_text(encoding="utf-8"))
        lineage: Lineage = {"origin": found["origin"], "episodes": found["episodes"]}
        check_type(lineage, Lineage, "it")
        if found.get("unrecorded"):
            lineage["unrecorded"] = True
        if found.get("oracle"):
            lineage["oracle"] = True
        return lineage
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{path} is not a lineage ({error!r}); restore it from a backup of the model folder") from error


def read_history(backbone: str) -> History:
    """Read everything that a model folder's weights were trained on; an encoder without a record counts as pretrained.

    Raises:
        RunError: If one of the two files is missing or damaged, or the weights are not those it was written for.
    """
    lineage, path = read_lineage(backbone), folder_of(backbone) / SEEN_FILE
    if lineage["episodes"]:
        try:
            arrays = load_file(path)
            history = History(lineage, **{name: arrays[name] for name in NOTHING_SEEN.hashes})
        except (OSError, SafetensorError, KeyError) as error:
            raise RunError(
                f"{path} cannot be read ({error!r}), although {FILE} beside it says that the weights were trained; "
                "restore both from a backup of the model folder"
            ) from error
        _check_weights(folder_of(backbone))
        return history
    if path.is_file():
        raise RunError(
            f"{path} says that the weights were trained, but {FILE} beside it does not say on what; restore both from "
            "a backup of the model folder"
        )
    if has_head(load_config(backbone)):
        logger.info(
            f"model.backbone={backbone!r} is a token classifier without {FILE}: what it was trained on is unknown, so "
            "none of its scores is called zero-shot"
        )
        lineage["unrecorded"] = True
    return NOTHING_SEEN._replace(lineage=lineage)


def write_history(folder: Path, history: History) -> None:
    """Write a history into a model folder, after its weights."""
    write_atomically(folder / SEEN_FILE, save(history.hashes))
    content = {**history.lineage, "safetensors": _safetensors_digest(folder)}
    write_atomically(folder / FILE, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def copy_history(backbone: str, folder: Path) -> None:
    """Write a model folder's history, if it has one, into another folder, after weights that were made from its own."""
    if (folder_of(backbone) / FILE).is_file():
        write_history(folder, read_history(backbone))


def _check_weights(folder: Path) -> None:
    """Check that a model folder's weights and hashes are those that its lineage was written for.

    Raises:
        RunError: If they are not.
    """
    path = folder / FILE
    if json.loads(path.read_text(encoding="utf-8")).get("safetensors") != _safetensors_digest(folder):
        raise RunError(
            f"{path} does not describe the weights beside it: they were damaged or replaced after it was written; "
            f"restore the folder from a backup, or delete {FILE} and {SEEN_FILE} to use weights of unknown training"
        )


def _safetensors_digest(folder: Path) -> str:
    """Compute the SHA-256 of a folder's weights and hashes."""
    return hash_files(folder.glob("*.safetensors")).hexdigest()


def trained_further(history: History, data: PanxDataModule, seed: int | None) -> History:
    """Extend a history by a training on what a data module trains on, one episode per language.

    Args:
        history: The history before the training.
        data: The data module.
        seed: The seed of the training; ``None`` where it had none.
    """
    episodes: list[Episode] = []
    hashes = {name: [array] for name, array in history.hashes.items()}
    for language in data.languages:
        split = data.training_split(language)
        encoded, chosen = data.encoded(split), data.training_sentences(language)
        words, sentence_words = encoded.words_of(chosen)
        labels = data.pseudo_labels.labels if data.pseudo_labels else encoded.word_label
        entities = find_spans(labels[words], sentence_words)
        hashes["sentences"].append(encoded.sentence_hash[chosen])
        hashes["normal"].append(encoded.normal_hash[chosen])
        hashes["words"].append(encoded.word_hash[words])
        hashes["entities"].append(span_hashes(encoded.word_hash[words], entities))
        content = encoded.digest.encode() + np.sort(chosen).tobytes()
        episode: Episode = {
            "source": data.source,
            "language": language,
            "split": split.name,
            "sentences": len(chosen),
            "shuffle_seed": data.shuffle_seed,
            "subset_seed": data.selection.subset_seed if data.selection.draws_subset(language) else None,
            "seed": seed,
            "types": [*data.tag_set.types],
            "map_types": {**data.reading.map_types},
            "digest": hashlib.sha256(content).hexdigest(),
            "labels": data.labels,
        }
        if data.labels == "none":
            episode |= {"types": [], "map_types": {}, "training": "masked language modelling"}
        episodes.append(episode)
    lineage: Lineage = {**history.lineage, "episodes": [*history.lineage["episodes"], *episodes]}
    return History(lineage, **{name: np.unique(np.concatenate(arrays)) for name, arrays in hashes.items()})


def merged_history(histories: Sequence[History]) -> History:
    """Merge the histories of weights that were averaged: everything that any of them was trained on.

    Args:
        histories: At least one, of weights that began at the same backbone.
    """
    lineages = [each.lineage for each in histories]
    episodes: list[Episode] = []
    for lineage in lineages:
        episodes += [each for each in lineage["episodes"] if not any(same_training([each], [it]) for it in episodes)]
    merged: Lineage = {"origin": lineages[0]["origin"], "episodes": episodes}
    if any(lineage.get("unrecorded") for lineage in lineages):
        merged["unrecorded"] = True
    if any(lineage.get("oracle") for lineage in lineages):
        merged["oracle"] = True
    hashes = (np.unique(np.concatenate(each)) for each in list(zip(*histories, strict=True))[1:])
    return History(merged, *hashes)


def same_training(some: Sequence[Episode], others: Sequence[Episode]) -> bool:
    """Return whether episodes are equal; the path of their data may differ, because they have its digest."""
    return [{**each, "source": ""} for each in some] == [{**each, "source": ""} for each in others]


def zero_shot(lineage: Lineage, language: str) -> bool:
    """Return whether weights of a lineage were certainly never trained, or chosen, on a sentence of a language.

    A treebank or a variety of a language is that language, see ``language_of``.

    >>> zero_shot({"origin": "xlm-roberta-base", "episodes": []}, "tr")
    True
    """
    return _without(lineage, language, lineage["episodes"])


def label_free(lineage: Lineage, language: str) -> bool:
    """Return whether weights of a lineage were certainly never trained on a tag that a person gave in a language.

    Sentences without tags, or with labels that a model has predicted, do not count; see ``language_of`` for treebanks.

    >>> label_free({"origin": "xlm-roberta-base", "episodes": []}, "tr")
    True
    """
    return _without(lineage, language, [episode for episode in lineage["episodes"] if episode["labels"] == "gold"])


def _without(lineage: Lineage, language: str, episodes: Sequence[Episode]) -> bool:
    """Return whether a lineage is recorded, chosen without a target's tags, and some episodes are not of a language."""
    codes = {language_of(episode["language"]) for episode in episodes}
    known = not lineage.get("unrecorded") and not lineage.get("oracle")
    return known and language_of(language) not in codes


def evaluation_splits(lineage: Lineage) -> list[str]:
    """List the evaluation splits that weights of a lineage were trained on nevertheless, such as ``tr/test``.

    >>> evaluation_splits({"origin": "xlm-roberta-base", "episodes": []})
    []
    """
    splits = [(episode["language"], episode["split"]) for episode in lineage["episodes"]]
    return [f"{language}/{split}" for language, split in dict.fromkeys(splits) if split != "train"]
