"""Read PAN-X from the Hugging Face Hub.

PAN-X is WikiANN (Pan et al. 2017) with the balanced splits of Rahimi et al. 2019, as XTREME uses it (Hu et al. 2020).
"""

from xner.data.sources.records import read_table
from xner.data.sources.sentences import Sentences
from xner.errors import RunError

HUB = "google/xtreme"
"""The data set on the hub; each language is a configuration ``PAN-X.<language>``."""

LANGUAGES = (
    "af ar bg bn de el en es et eu fa fi fr he hi hu id it ja jv ka kk ko ml mr ms my nl pt ru sw ta te th tl tr ur vi "
    "yo zh"
).split()
"""The 40 languages of PAN-X."""


def read_hub(language: str, split: str) -> Sentences:
    """Download a split of PAN-X, or read it from the cache of ``datasets``."""
    import datasets
    import datasets.exceptions

    name = f"PAN-X.{language}"
    try:
        dataset = datasets.load_dataset(HUB, name, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(
            f"{HUB} {name} cannot be loaded from the Hugging Face Hub ({reason}); without network access, use a local "
            "copy with --data.source FOLDER (FOLDER/<language>/train.tsv, validation.tsv, test.tsv)"
        ) from error
    return read_table(dataset, f"{HUB} {name} {split}", language)
