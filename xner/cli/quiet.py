"""What a command says: xner's own lines, and of the libraries what a user can act on."""

import logging
import warnings


def configure_logging() -> None:
    """Leave out what Lightning, transformers and jsonargparse say of themselves; xner's own lines are shown."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for pattern in (
        "The number of training batches .* is smaller than the logging interval",
        ".*isinstance\\(treespec, LeafSpec\\).*",
        ".*does not have many workers.*",
        # Scores are counted over all processes already.
        "It is recommended to use .*sync_dist=True",
    ):
        warnings.filterwarnings("ignore", pattern)
    rank_zero = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    # An encoder has no cache that gradient checkpointing could be at odds with.
    logging.getLogger("transformers.utils.generic").addFilter(lambda record: "use_cache" not in record.getMessage())
    rank_zero.addFilter(_worth_saying)
    # The seed is an option, and in the configuration that a run keeps.
    logging.getLogger("lightning.fabric.utilities.seed").addFilter(_worth_saying)
    own = logging.getLogger("xner")
    own.setLevel(logging.INFO)
    if not own.handlers:
        own.addHandler(logging.StreamHandler())


def _worth_saying(record: logging.LogRecord) -> bool:
    omitted = ("Tip:", "TPU available: False", "GPU available: ", "Seed set to ", "to estimate number of")
    return not any(each in record.getMessage() for each in omitted)
