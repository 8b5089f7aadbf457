from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import xner.cli.tagging
import xner.cli.tools
from tests.commands import Run, assert_one_line
from xner.cli.tools import run_tool
from xner.data.sources import ReadOptions


@pytest.fixture
def explored(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options that ``explore`` is called with."""
    found: dict[str, Any] = {}
    names = ("source", "languages", "tokenizer", "text", "example", "options")
    monkeypatch.setattr(xner.cli.tools, "show_data", lambda *options: found.update(zip(names, options, strict=True)))
    return found


@pytest.fixture
def tagged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The model folder and the texts that ``tag`` tags."""
    found: list[str] = []

    def load(model: str, *options: str) -> Callable[[Sequence[str]], list[object]]:
        found.append(model)

        def tag_texts(texts: Sequence[str]) -> list[object]:
            found.extend(texts)
            return []

        return tag_texts

    monkeypatch.setattr(xner.cli.tagging, "_load", cache(load))
    return found


def test_defaults(explored: dict[str, Any]) -> None:
    """Options that are not given have the defaults that the help states."""
    run_tool("explore", [])
    assert explored.pop("text").startswith("Alan Mathison Turing")
    assert explored.pop("options") == ReadOptions()
    assert explored == {"source": "panx", "languages": ["en", "tr"], "tokenizer": None, "example": 0}


@pytest.mark.parametrize("languages", [["en", "no"], ["[en,no]"], ["[en,", "no]"], ["[", "en", ",", "no", "]"]])
def test_lists(explored: dict[str, Any], languages: list[str]) -> None:
    """A list is given value by value, or in brackets as in a configuration; 'no' is a language, not false."""
    run_tool("explore", ["--languages", *languages])
    assert explored["languages"] == ["en", "no"]


@pytest.mark.parametrize(
    "args",
    [
        ["a", "[b]", "--format=html", "--model", "m"],
        ["--model", "m", "--format=html", "a", "[b]"],
        ["a", "--model=m", "[b]"],
    ],
)
def test_texts_may_stand_anywhere(tagged: list[str], args: list[str]) -> None:
    """Texts may stand before, between and after options, and are taken literally."""
    run_tool("tag", args)
    assert tagged == ["m", "a", "[b]"]


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["tag"], "--model"),
        (["explore", "--example", "x"], "--example"),
        (["explore", "--languages"], "--languages"),
        (["explore", "--lang", "en"], "--lang"),
        (["report"], "RUN"),
        (["new-backbone", "--tokenizer", "sample"], "--output"),
    ],
)
def test_mistakes_are_one_line(run: Run, args: list[str], problem: str) -> None:
    """A wrong option is one line that names it, with exit code 2."""
    assert_one_line(run(*args), 2, problem)


def test_report_refuses(run: Run, tmp_path: Path, write_run: Callable[..., Path]) -> None:
    """A run that is given twice, by any path, and a file in place of a folder are one line; nothing is written."""
    folder = write_run(tmp_path / "run", sizes=(250,), sentences=20)
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    before = sorted(folder.rglob("*"))
    for args, problem in (
        ([folder, f"{folder}/../run"], f"'{folder}/../run' is given twice; give each run once"),
        ([folder, "--output", tmp_path / "file"], f"output='{tmp_path / 'file'}' is a file; use a folder"),
    ):
        assert_one_line(run("report", *args), 2, problem)
    assert sorted(folder.rglob("*")) == before
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept"


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("explore", ["--source SOURCE", "(default: panx)", "(default: ['en', 'tr'])", "a text to split into subwords"]),
        ("tag", ["[TEXT ...]", "--format", "a JSON object per text"]),
        ("report", ["RUN [RUN ...]", "curve.svg"]),
        ("new-backbone", ["--hidden_size HIDDEN_SIZE", "(default: 768)"]),
    ],
)
def test_help(run: Run, tool: str, words: list[str]) -> None:
    """The help of each tool explains its options and their defaults."""
    outcome = run(tool, "--help")
    assert outcome.code == 0
    shown = " ".join(outcome.out.split())
    for word in (f"xner {tool}", *words):
        assert word in shown
