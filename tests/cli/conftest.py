"""Fixtures of the command line's tests."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fits import LEARN, Record, keep
from tests.commands import options
from tests.report.conftest import _write_run as _write_run
from xner.cli.main import main
from xner.model.classifier import TokenClassifier
from xner.tags import IGNORE


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    """Records what the model is given."""
    found = Record()

    def watch(name: str, note: Callable[..., None]) -> None:
        method = getattr(TokenClassifier, name)

        @functools.wraps(method)
        def watching(self: TokenClassifier, *args: Any, **keywords: Any) -> Any:  # noqa: ANN401 - handed on
            result = method(self, *args, **keywords)
            note(self, result, *args)
            return result

        monkeypatch.setattr(TokenClassifier, name, watching)

    def batch(step: str, model: TokenClassifier, result: Any, batch: Any, *rest: Any) -> None:  # noqa: ANN401 - as it comes
        found.batches.setdefault(step, []).append(batch.sentences.tolist())
        if step == "training_step":
            found.step_words.append((int(batch.step_words), int((batch.labels != IGNORE).sum())))
            found.losses.append(result.item())

    def validated(model: TokenClassifier, result: None) -> None:
        trainer = model.trainer
        found.validations.append((Path(trainer.default_root_dir), trainer.current_epoch, trainer.global_step))

    def stepped(*args: object) -> None:
        found.steps += 1

    for step in ("training_step", "validation_step", "test_step", "predict_step"):
        watch(step, functools.partial(batch, step))
    watch("on_validation_epoch_end", validated)
    watch("configure_gradient_clipping", stepped)
    return found


@pytest.fixture(scope="module")
def fitted(source: Path, still_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fit of one epoch on Turkish, with its checkpoint at a known place."""
    root = tmp_path_factory.mktemp("fitted")
    main(["fit", *options(source, still_backbone, root), *LEARN, "--data.languages=[tr]", *keep(root)])
    return root
