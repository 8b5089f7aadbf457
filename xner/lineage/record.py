"""What a model's weights have ever been trained on, kept beside them as ``lineage.json``.

A zero-shot score is only worth what the history of its weights says.
"""

import json
from collections.abc import Sequence
from typing import NotRequired, TypedDict

from xner.backbone import folder_of
from xner.errors import RunError

FILE = "lineage.json"


class Episode(TypedDict):
    """One split of one language that weights were trained on.

    ``shuffle_seed`` and ``subset_seed`` chose the sentences, ``seed`` ordered them; ``digest`` is a SHA-256 of the
    split's own digest and the chosen sentences' numbers.
    """

    source: str
    language: str
    split: str
    sentences: int
    shuffle_seed: int
    subset_seed: int | None
    seed: int | None
    digest: str


class Lineage(TypedDict):
    """The history of some weights: where they came from, and the episodes since, the first one first.

    ``unrecorded`` is there, and true, where the origin was a token classifier already that brought no lineage: nobody
    knows what it was trained on, so that no score of it is zero-shot.
    """

    origin: str
    episodes: list[Episode]
    unrecorded: NotRequired[bool]


def read_lineage(backbone: str) -> Lineage:
    """Read a model folder's lineage; a backbone without one counts as pretrained and not trained.

    Raises:
        RunError: If the file is no lineage.
    """
    path = folder_of(backbone) / FILE
    if not path.is_file():
        return {"origin": backbone, "episodes": []}
    try:
        found: Lineage = json.loads(path.read_text(encoding="utf-8"))
        lineage: Lineage = {"origin": found["origin"], "episodes": found["episodes"]}
        return {**lineage, "unrecorded": True} if found.get("unrecorded") else lineage
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is no lineage ({error!r}): take it from the model folder's own backup") from error


def extend(lineage: Lineage, episodes: Sequence[Episode]) -> Lineage:
    """The lineage of weights that were trained once more."""
    return {**lineage, "episodes": [*lineage["episodes"], *episodes]}


def zero_shot(lineage: Lineage, language: str) -> bool:
    """Whether weights of this lineage were, for certain, never trained on a sentence of the language.

    >>> zero_shot({"origin": "xlm-roberta-base", "episodes": []}, "tr")
    True
    """
    if lineage.get("unrecorded"):
        return False
    return all(episode["language"] != language for episode in lineage["episodes"])


def evaluation_splits(lineage: Lineage) -> list[str]:
    """The splits meant for evaluation that weights of this lineage were trained on all the same, as ``tr/test``.

    >>> evaluation_splits({"origin": "xlm-roberta-base", "episodes": []})
    []
    """
    splits = [(episode["language"], episode["split"]) for episode in lineage["episodes"]]
    return [f"{language}/{split}" for language, split in dict.fromkeys(splits) if split != "train"]
