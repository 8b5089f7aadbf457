"""The fastest library is found by measuring once, and kept in the cache."""

import json
import logging
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from xner.model.fast import libraries
from xner.model.fast.libraries import (
    FORWARD,
    INPUT_GRADIENT,
    ONEDNN,
    OWN,
    PACK,
    WEIGHT_GRADIENT,
    Libraries,
    fastest,
    measure_products,
)

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(),
    reason="this PyTorch has no oneDNN",
)
UNKNOWN = json.dumps({"a": {"b": {**asdict(Libraries()), "forward": "BLAS"}}}).encode()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache folder."""
    monkeypatch.setenv("XNER_CACHE", str(tmp_path))
    return tmp_path / "products.json"


def test_measured() -> None:
    """Every kind of product has a library that can do it."""
    found = measure_products(96, 64)
    assert found.forward in FORWARD
    assert found.input_gradient in INPUT_GRADIENT
    assert found.weight_gradient in WEIGHT_GRADIENT
    assert found.evaluation in PACK


def test_random_numbers() -> None:
    """Measuring draws no random numbers, which training would miss."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    measure_products(96, 64)
    assert torch.equal(torch.get_rng_state(), before)


def test_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process takes what the first one measured, so that it rounds as that one did."""
    chosen = Libraries("oneDNN", OWN, "oneDNN", ONEDNN)
    monkeypatch.setattr(libraries, "measure_products", lambda inputs, outputs: chosen)
    assert fastest(96, 64) == chosen
    libraries._fastest.cache_clear()
    monkeypatch.setattr(libraries, "measure_products", lambda inputs, outputs: Libraries())
    assert fastest(96, 64) == chosen
    assert fastest(64, 96) == Libraries()
    [shapes] = json.loads(cache.read_bytes()).values()
    assert [*shapes] == ["64 x 96", "96 x 64"]


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"a": {"b": {"c": "d"}}}', b"\xff", b'{"a": 1}', UNKNOWN])
def test_damaged(cache: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file is measured again and replaced."""
    cache.write_bytes(content)
    chosen = Libraries("oneDNN")
    monkeypatch.setattr(libraries, "measure_products", lambda inputs, outputs: chosen)
    libraries._fastest.cache_clear()
    assert fastest(96, 64) == chosen
    assert [[*each] for each in json.loads(cache.read_bytes()).values()] == [["64 x 96"]]


def test_unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A cache that cannot be written is said in one line, and the run goes on."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XNER_CACHE", str(tmp_path / "file"))
    libraries._fastest.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert isinstance(fastest(96, 64), Libraries)
    assert "products.json cannot be written" in caplog.text


def test_no_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library has to be faster by more than 10 %; else PyTorch's own is used."""
    for seconds, expected in ((0.93, OWN), (0.85, "other")):
        clock = iter([0.0, 1.0, 0.0, seconds] * 4)
        monkeypatch.setattr("time.perf_counter", lambda clock=clock: next(clock))
        assert libraries._winner({OWN: lambda: torch.empty(0), "other": lambda: torch.empty(0)}) == expected
