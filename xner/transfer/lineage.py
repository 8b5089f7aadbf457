"""What a model's weights have ever been trained on, kept beside them as ``lineage.json``.

A zero-shot score is only worth what the history of its weights says.
"""

import json
from collections.abc import Sequence
from typing import TypedDict

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
    """The history of some weights: where they came from, and the episodes since, the first one first."""

    origin: str
    episodes: list[Episode]


def read_lineage(backbone: str) -> Lineage:
    """Read a model folder's lineage; a backbone without one counts as pretrained and not trained.

    Raises:
        RunError: If the file is no lineage.
    """
    path = folder_of(backbone) / FILE
    if not path.is_file():
        return {"origin": backbone, "episodes": []}
    try:
        lineage: Lineage = json.loads(path.read_text(encoding="utf-8"))
        return {"origin": lineage["origin"], "episodes": lineage["episodes"]}
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is no lineage ({error!r}): take it from the model folder's own backup") from error


def extend(lineage: Lineage, episodes: Sequence[Episode]) -> Lineage:
    """The lineage of weights that were trained once more."""
    return {"origin": lineage["origin"], "episodes": [*lineage["episodes"], *episodes]}


def zero_shot(lineage: Lineage, language: str) -> bool:
    """Whether weights of this lineage were never trained on a sentence of the language.

    >>> zero_shot({"origin": "xlm-roberta-base", "episodes": []}, "tr")
    True
    """
    return all(episode["language"] != language for episode in lineage["episodes"])


def evaluation_splits(lineage: Lineage) -> list[str]:
    """The splits meant for evaluation that weights of this lineage were trained on all the same, as ``tr/test``.

    >>> evaluation_splits({"origin": "xlm-roberta-base", "episodes": []})
    []
    """
    splits = [(episode["language"], episode["split"]) for episode in lineage["episodes"]]
    return [f"{language}/{split}" for language, split in dict.fromkeys(splits) if split != "train"]
