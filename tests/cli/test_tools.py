from collections.abc import Sequence
from typing import Any

import pytest

from xner.cli.tools import run_command
from xner.errors import UserError


def taken(*args: str) -> dict[str, Any]:
    """What a function with a parameter of each kind is called with."""
    found: dict[str, Any] = {}

    def tool(
        *texts: str, model: str, languages: Sequence[str] = ("en",), seed: int | None = None, json: bool = False
    ) -> None:
        """Do something.

        Args:
            texts: Texts, 100 % of them.
            model: A folder,
                in two lines.
            languages: Some.
            seed: A number.
            json: Or not.
        """
        found.update(texts=texts, model=model, languages=languages, seed=seed, json=json)

    run_command(tool, args, "tool")
    return found


def test_defaults() -> None:
    """What is not given is as the signature says."""
    assert taken("--model", "m") == {"texts": (), "model": "m", "languages": ("en",), "seed": None, "json": False}


@pytest.mark.parametrize("languages", [["en", "no"], ["[en,no]"], ["[en,", "no]"], ["[", "en", ",", "no", "]"]])
def test_lists(languages: list[str]) -> None:
    """A list is given value by value, or in brackets as in a configuration; 'no' is a language, not false."""
    assert taken("--model", "m", "--languages", *languages)["languages"] == ["en", "no"]


@pytest.mark.parametrize(
    "args",
    [
        ["a", "[b]", "--json", "--model", "m", "--seed", "3"],
        ["--model", "m", "--json", "--seed", "3", "a", "[b]"],
        ["a", "--model", "m", "[b]", "--seed", "3", "--json"],
    ],
)
def test_texts_stand_anywhere(args: list[str]) -> None:
    """Texts may stand before, between and behind options, and are taken as they are."""
    assert taken(*args) == {"texts": ("a", "[b]"), "model": "m", "languages": ("en",), "seed": 3, "json": True}


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ([], "--model"),
        (["--model", "m", "--seed", "x"], "seed"),
        (["--model", "m", "--languages"], "--languages"),
        (["--model", "m", "--lang", "en"], "--lang"),
    ],
)
def test_mistakes_are_one_line(args: list[str], problem: str) -> None:
    """A mistake is a UserError of one line that names the option."""
    with pytest.raises(UserError, match=problem) as raised:
        taken(*args)
    assert "\n" not in str(raised.value)


def test_help_is_the_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    """The help has the docstring's summary, each parameter's text in one piece, and defaults."""
    with pytest.raises(SystemExit) as raised:
        taken("--help")
    assert raised.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in ("Do something.", "A folder, in two lines.", "Texts, 100 % of them.", "Some. (default: en)", "TEXT"):
        assert text in shown
    assert "None" not in shown
