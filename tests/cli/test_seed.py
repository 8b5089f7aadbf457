"""Seeds of a command."""

import json
import os
from collections.abc import Callable
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fits import (
    LEARN,
    Record,
    keep,
)

# Imported here, because importing it within a test would replace what other tests have patched.
from tests.commands import Run, assert_one_line, options


class TestSeed:
    @pytest.fixture
    def order(self, run: Run, record: Record, source: Path, tiny_backbone: str, tmp_path: Path) -> Callable[..., Any]:
        """Fits with a seed, and gives the order of training's batches and the seed in the lineage."""

        def fit(seed: str) -> tuple[list[list[int]], int | None]:
            record.batches.clear()
            flags = [*options(source, tiny_backbone, tmp_path / "run"), *LEARN]
            assert run("fit", *flags, f"--seed_everything={seed}").code == 0
            lineage = json.loads((tmp_path / "run" / "model" / "lineage.json").read_text(encoding="utf-8"))
            return record.batches["training_step"], lineage["episodes"][0]["seed"]

        return fit

    def test_number(self, order: Callable[..., Any], tmp_path: Path) -> None:
        """A seed decides the order of sentences, and is in the lineage."""
        seven = order("7")
        assert seven[1] == 7
        assert order("8")[0] != seven[0]
        assert order("7") == seven

    def test_none(self, order: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a seed, every fit has an order of its own, whatever an earlier fit or the environment left."""
        monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
        seven, zero = order("7")[0], order("0")[0]
        assert "PL_GLOBAL_SEED" not in os.environ
        monkeypatch.setenv("PL_GLOBAL_SEED", "7")
        first, second = order("false"), order("false")
        assert os.environ["PL_GLOBAL_SEED"] == "7"
        assert (first[1], second[1]) == (None, None)
        for one, other in combinations([seven, zero, first[0], second[0]], 2):
            assert one != other

    def test_none_goes_on(self, run: Run, record: Record, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """A fit without a seed that is stopped goes on in its own order: no sentence of the epoch twice."""
        flags = [*options(source, tiny_backbone, tmp_path), *LEARN, *keep(tmp_path), "--seed_everything=false"]
        every = "--trainer.callbacks.every_n_train_steps=2"
        assert run("fit", *flags, every, "--trainer.max_steps=2", "--trainer.max_epochs=-1").code == 0
        assert run("fit", *flags, every, "--ckpt_path=last").code == 0
        assert sorted(chain(*record.batches["training_step"])) == [*range(40)]

    def test_chosen(self, order: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """``true`` leaves the seed to Lightning, which takes the environment's; the lineage has the number."""
        monkeypatch.setenv("PL_GLOBAL_SEED", "11")
        chosen = order("true")
        assert chosen[1] == 11
        assert order("11") == chosen

    def test_bad(self, run: Run, source: Path, tiny_backbone: str, tmp_path: Path) -> None:
        """A seed that cannot be had is one line."""
        outcome = run("fit", *options(source, tiny_backbone, tmp_path / "run"), "--seed_everything=-1")
        assert_one_line(outcome, 2, "seed_everything=-1 is out of range; use 0 to 4294967295")
