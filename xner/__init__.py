"""Cross-lingual named-entity recognition: how well it transfers, and how much a few target sentences help.

The public names below are imported when they are first used, so that ``import xner`` takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xner.data.datamodule import PanxDataModule
    from xner.errors import RunError, UserError
    from xner.model.classifier import TokenClassifier
    from xner.model.evaluation import run_predict, run_test
    from xner.model.lora import LoRA
    from xner.model.metrics import SpanF1
    from xner.model.network import Network
    from xner.report import write_report
    from xner.tagger import Tagger
    from xner.tags import PANX, Span, TagSet, spans
    from xner.transfer.plan import Stage, plan

_MODULES = {
    "xner.data.datamodule": ("PanxDataModule",),
    "xner.errors": ("RunError", "UserError"),
    "xner.model.classifier": ("TokenClassifier",),
    "xner.model.evaluation": ("run_predict", "run_test"),
    "xner.model.lora": ("LoRA",),
    "xner.model.metrics": ("SpanF1",),
    "xner.model.network": ("Network",),
    "xner.report": ("write_report",),
    "xner.tagger": ("Tagger",),
    "xner.tags": ("PANX", "Span", "TagSet", "spans"),
    "xner.transfer.plan": ("Stage", "plan"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "PANX",
    "LoRA",
    "Network",
    "PanxDataModule",
    "RunError",
    "Span",
    "SpanF1",
    "Stage",
    "TagSet",
    "Tagger",
    "TokenClassifier",
    "UserError",
    "plan",
    "run_predict",
    "run_test",
    "spans",
    "write_report",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Import a public name at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'xner' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
