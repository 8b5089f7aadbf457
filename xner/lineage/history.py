"""What a model's weights have ever seen: their lineage, and hashes of every sentence and word they were trained on.

Kept in the model folder as ``lineage.json`` and ``seen.safetensors``, about a tenth of a megabyte a 10,000 sentences.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from xner.backbone import folder_of, has_head, load_config
from xner.data.datamodule import PanxDataModule
from xner.errors import RunError
from xner.files import write_atomically
from xner.lineage.record import FILE, Episode, Lineage, extend, read_lineage

logger = logging.getLogger(__name__)

SEEN_FILE = "seen.safetensors"

Int64 = npt.NDArray[np.int64]


class History(NamedTuple):
    """The past of some weights.

    Attributes:
        lineage: The episodes of their training.
        sentences: Hashes of the sentences of all episodes, ascending, each once. *Shape:* (sentences,)
        words: Hashes of the words in them, ascending, each once. *Shape:* (words,)
    """

    lineage: Lineage
    sentences: Int64
    words: Int64


NOTHING_SEEN = History({"origin": "", "episodes": []}, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
"""Of weights that were never trained."""


def read_history(backbone: str) -> History:
    """Read a model folder's history; an encoder without one counts as pretrained and not trained.

    What a token classifier without one was trained on is unknown, which its lineage then says.

    Raises:
        RunError: If the folder has a lineage, but not what belongs to it, or that without a lineage.
    """
    lineage, path = read_lineage(backbone), folder_of(backbone) / SEEN_FILE
    if not lineage["episodes"]:
        if path.is_file():
            raise RunError(
                f"{path} says that the weights were trained, and {FILE} beside it does not say on what: take both from "
                "the model folder's own backup"
            )
        if has_head(load_config(backbone)):
            logger.info(
                f"model.backbone={backbone!r} is a token classifier without {FILE}: what it was trained on is unknown, "
                "and none of its scores is called zero-shot"
            )
            lineage["unrecorded"] = True
        return NOTHING_SEEN._replace(lineage=lineage)
    try:
        arrays = load_file(path)
        return History(lineage, arrays["sentences"], arrays["words"])
    except (OSError, SafetensorError, KeyError) as error:
        raise RunError(
            f"{path} cannot be read ({error!r}), and lineage.json beside it says that the weights were trained: take "
            "both from the model folder's own backup"
        ) from error


def write_history(folder: Path, history: History) -> None:
    """Put a history into a model folder."""
    write_atomically(folder / FILE, json.dumps(history.lineage, ensure_ascii=False, indent=1) + "\n")
    write_atomically(folder / SEEN_FILE, save({"sentences": history.sentences, "words": history.words}))


def trained_further(history: History, data: PanxDataModule, seed: int | None) -> History:
    """The history of weights that were trained once more, on what a data module trains on.

    Args:
        history: The history before.
        data: The data module that they were fitted on; each of its languages is an episode.
        seed: The seed of the training; ``None`` where it had none.
    """
    episodes: list[Episode] = []
    sentences, words = [history.sentences], [history.words]
    for language in data.languages:
        split = data.training_split(language)
        encoded, chosen = data.encoded(split), data.training_sentences(language)
        places, _ = encoded.words_of(chosen)
        sentences.append(encoded.sentence_hash[chosen])
        words.append(encoded.word_hash[places])
        content = encoded.digest.encode() + np.sort(chosen).tobytes()
        episodes.append(
            {
                "source": data.source,
                "language": language,
                "split": split.name,
                "sentences": len(chosen),
                "shuffle_seed": data.shuffle_seed,
                "subset_seed": None if data.samples_of(language) is None else data.subset_seed,
                "seed": seed,
                "digest": hashlib.sha256(content).hexdigest(),
            }
        )
    return History(
        extend(history.lineage, episodes), np.unique(np.concatenate(sentences)), np.unique(np.concatenate(words))
    )
