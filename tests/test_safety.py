"""Attacks by files that a user was sent: none runs code, leaves the run's folder, or gives orders to a terminal."""

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import cast

import numpy as np
import pytest
import torch

from tests.commands import Run, assert_one_line, options
from tests.test_backbones import Pickled
from xner.backbone import load_config
from xner.backbone.weights import load_network
from xner.cli.formats import json_line
from xner.cli.output import escaped_lines
from xner.data.sources import Split
from xner.errors import RunError, UserError
from xner.serve.marking import html_line
from xner.tagger import Entity, Tagged
from xner.transfer.result import Evaluation, read_counts
from xner.transfer.resume import AtomicCheckpointIO
from xner.words import Word


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A file that appears if pickled code runs."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists()


@pytest.fixture
def model(scored_backbone: Path, tmp_path: Path) -> Path:
    """A model folder of the test's own."""
    return Path(shutil.copytree(scored_backbone, tmp_path / "model"))


def change(folder: Path, **entries: object) -> None:
    """Change entries of a model folder's configuration."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **entries}), encoding="utf-8")


def test_pickled_shards(model: Path, marker: Path) -> None:
    """Pickled weights in several files do not run either."""
    (model / "model.safetensors").unlink()
    torch.save({"weight": Pickled(marker)}, model / "shard.bin")
    index = {"metadata": {}, "weight_map": {"classifier.bias": "shard.bin"}}
    (model / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(RunError, match="hold more than tensors"):
        load_network(str(model))


def test_pickles_beside_weights(model: Path, marker: Path) -> None:
    """Pickles beside safetensors weights are not read."""
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt"):
        torch.save({"weight": Pickled(marker)}, model / name)
    load_network(str(model))


def test_pickled_counts(tmp_path: Path, marker: Path) -> None:
    """Arrays of Python objects in the counts of a stage are not read."""
    np.savez(tmp_path / "counts.npz", **{"tr/test/correct": np.array([Pickled(marker)], dtype=object)})
    assert any(name.endswith(".npy") for name in zipfile.ZipFile(tmp_path / "counts.npz").namelist())
    with pytest.raises(RunError, match="is damaged"):
        read_counts(tmp_path, cast("Evaluation", {"language": "tr", "split": "test"}))


@pytest.mark.parametrize("entry", ["attn_implementation", "_attn_implementation"])
def test_kernels(model: Path, entry: str) -> None:
    """A configuration cannot choose an implementation of attention that is downloaded and run."""
    change(model, **{entry: "somebody/kernel"})
    for load in (load_config, load_network, partial(load_network, new_head=True)):
        with pytest.raises(RunError, match="needs code of the hub"):
            load(str(model))


def test_pickled_checkpoints(run: Run, source: Path, tiny_backbone: str, tmp_path: Path, marker: Path) -> None:
    """A checkpoint with code does not run it: neither a file, nor where the user allows it, nor one of a server."""
    folder = tmp_path / "served"
    folder.mkdir()
    torch.save({"state_dict": Pickled(marker)}, folder / "it.ckpt")
    fit = ["fit", *options(source, tiny_backbone, tmp_path / "run")]
    assert_one_line(run(*fit, f"--ckpt_path={folder / 'it.ckpt'}"), 1, "holds more than tensors; delete it")
    assert_one_line(run(*fit, f"--ckpt_path={folder / 'it.ckpt'}", "--weights_only=false"), 2, "weights_only=false")
    with served(folder) as address:
        assert_one_line(
            run(*fit, f"--ckpt_path={address}/it.ckpt"),
            1,
            "it.ckpt is damaged, or holds more than tensors; use another one",
        )


def test_checkpoints_of_a_server(tmp_path: Path) -> None:
    """A checkpoint is what a server has now, not another of that name from before; one that it has not is refused."""
    load = AtomicCheckpointIO().load_checkpoint
    parts = {"state_dict": {}, "global_step": 0, "pytorch-lightning_version": "2.6", "hyper_parameters": {}}
    with served(tmp_path) as address:
        for epoch in (1, 2):
            torch.save({**parts, "epoch": epoch}, tmp_path / "last.ckpt")
            assert load(f"{address}/last.ckpt")["epoch"] == epoch
        with pytest.raises(UserError, match=r"ckpt_path='http.*/other.ckpt' does not exist"):
            load(f"{address}/other.ckpt")
        (tmp_path / "cut.ckpt").write_bytes((tmp_path / "last.ckpt").read_bytes()[:100])
        with pytest.raises(RunError, match=r"http.*/cut.ckpt is damaged"):
            load(f"{address}/cut.ckpt")
    with pytest.raises(RunError, match=r"ckpt_path='http.*/last.ckpt' cannot be read \(.*; copy the checkpoint here"):
        load(f"{address}/last.ckpt")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder at the address that is yielded."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Serve a folder without a log."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


CODE = "!!python/object/apply:builtins.open [{}, w]"


@pytest.mark.parametrize("option", ["config", "data", "data.map_types", "data.languages"])
@pytest.mark.parametrize("form", ["model: {}", "{}"])
def test_yaml(run: Run, tmp_path: Path, marker: Path, option: str, form: str) -> None:
    """YAML with tags of Python constructs nothing, in files and in options."""
    text = form.format(CODE.format(marker))
    (tmp_path / "it.yaml").write_text(text, encoding="utf-8")
    for value in (tmp_path / "it.yaml", text):
        assert_one_line(run("fit", f"--{option}={value}", "--data.source=sample"), 2)


@pytest.mark.parametrize("class_path", ["subprocess.Popen", "os.system", "builtins.open"])
def test_class_path(run: Run, marker: Path, class_path: str) -> None:
    """Only classes of the kind that an option asks for are instantiated."""
    value = json.dumps([{"class_path": class_path, "init_args": {"args": ["touch", str(marker)]}}])
    for option in ("trainer.callbacks", "trainer.logger", "trainer.plugins"):
        assert_one_line(run("fit", f"--{option}={value}", "--data.source=sample"), 2)
    assert_one_line(run("fit", f"--model={class_path}"), 2, "is not a subclass of TokenClassifier")


@pytest.mark.parametrize("language", ["../../out", "/out", "..", "", "a\0b", "a/b", "en+tr"])
def test_names(run: Run, scored_backbone: Path, tmp_path: Path, language: str) -> None:
    """A language cannot lead out of the run's folder or of the cache, nor be taken for two, whatever the source."""
    file = tmp_path / "texts.jsonl"
    file.write_text('{"tokens": ["Ankara"]}\n', encoding="utf-8")
    for source in (str(file), "panx", "hub:a/b", "sample"):
        with pytest.raises(UserError, match="is not the name of a file"):
            Split(source, language, "test")
    outcome = run(
        "predict", *options(file, scored_backbone, tmp_path / "a" / "run"), f"--data.languages={json.dumps([language])}"
    )
    assert_one_line(outcome, 2, "is not the name of a file")
    assert not [*tmp_path.rglob("*-test.jsonl")]


def test_orders_in_paths(run: Run, scored_backbone: Path, tmp_path: Path) -> None:
    """The folder that a configuration names is printed without its orders to the terminal."""
    file = tmp_path / "texts.jsonl"
    file.write_text('{"tokens": ["Ankara"]}\n', encoding="utf-8")
    root = tmp_path / "a\x1b[31mb\x9bc\u202ed"
    outcome = run("predict", *options(file, scored_backbone, root), "--data.languages=[tr]")
    assert outcome.code == 0
    assert r"a\x1b[31mb\x9bc\u202ed" in outcome.out
    assert not {"\x1b", "\x9b", "\u202e"} & {*outcome.out, *outcome.err}


def test_orders_in_texts() -> None:
    """JSON of tagged texts has no character that gives orders, and the same content; other formats on a terminal."""
    text = "A\x1b[31m\x7f\x9b\u202eB\u2066"
    tagged = Tagged(text, [Word(text, 0, len(text))], ["B-PER"], [Entity("PER", text, 0, len(text), 0.5)])
    line = json_line(tagged)
    assert line.removesuffix("\n").isprintable()
    assert json.loads(line)["text"] == text
    assert escaped_lines("a\tb\x9b\n\x1b\n") == "a\tb\\x9b\n\\x1b\n"


def test_markup() -> None:
    """Markup in a text and in the name of a type is shown as text."""
    text, kind = "<script>alert(1)</script>\x1b&", "<img src=x onerror='a'>\""
    page = html_line(Tagged(text, [], [], [Entity(kind, text, 0, len(text), 0.5)]))
    assert page.count("<") == page.replace("&lt;", "").count("<") == 6
    assert not {"<script", "<img", "\x1b"} & {part for part in ("<script", "<img", "\x1b") if part in page}
    assert io.StringIO(page).readline() == page
