"""Every option of every command, as the parsers list them, with values that it cannot have.

A new option is covered by itself: the parsers say which options there are and of which types, and ``LEGAL`` lists the
unlikely values that some of them take. A command runs up to where its work would begin.
"""

import gc
import shutil
from argparse import Action
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

import lightning.pytorch as pl
import pytest
import uvicorn

# Here and not in a test, where importing them would replace what other tests have patched.
import xner.cli.commands
import xner.cli.transfer
import xner.report
from tests.commands import Run, options
from xner.cli import COMMANDS, TOOLS
from xner.cli.lightning import XnerCLI, parse_command
from xner.cli.parsing import ToolParser
from xner.export.comparison import ComparedModel

HUGE = str(10**23)
NUL, HALF = "a\0b", "\udcff"
TEXTS = ("x", "-1", "0", "1.5", "nan", "inf", "1e23", HUGE, "null", "true", "[1]", "[]", "{a: 1}", "{")
FILE, FOLDER = "<file>", "<folder>"
MISSING = None
"""An option without a value."""
VALUES = (*TEXTS, "", NUL, HALF, FILE, FOLDER, MISSING)

ANY_TEXT = frozenset({*TEXTS, "", FILE, FOLDER})
NEW_FOLDER = frozenset({*TEXTS, FOLDER})
POSITIVE = frozenset({"1.5", "1e23", HUGE})  # a learning rate that is too high ends training with a line
NONE, MANY = frozenset({"0"}), frozenset({"1e23"})

LEGAL: Mapping[str, frozenset[str | None]] = {
    "seed_everything": NONE,  # a seed, as are the next two
    "data.shuffle_seed": NONE,
    "data.subset_seed": NONE,
    "trainer.logger": frozenset({"[]"}),
    "trainer.callbacks": frozenset({"[]"}),
    "trainer.plugins": frozenset({"[]"}),
    "trainer.fast_dev_run": NONE,
    "trainer.max_epochs": frozenset({"-1"}),  # no limit; max_steps is then needed, and given by its own default
    "trainer.max_steps": frozenset({"-1"}),
    "trainer.min_epochs": NONE,
    "trainer.min_steps": NONE,
    "trainer.limit_train_batches": MANY,  # all that there are
    **{f"trainer.limit_{split}_batches": NONE | MANY for split in ("val", "test", "predict")},
    "trainer.overfit_batches": NONE | MANY,
    "trainer.num_sanity_val_steps": NONE | {"-1"},  # all
    "trainer.log_every_n_steps": NONE,
    "trainer.gradient_clip_val": NONE | {"1.5", "1e23"},
    "trainer.reload_dataloaders_every_n_epochs": NONE,
    "trainer.default_root_dir": NEW_FOLDER | {""},  # the folder where the command runs
    "trainer.model_registry": ANY_TEXT,  # Lightning alone reads it
    "model.learning_rate": POSITIVE,
    "model.weight_decay": NONE | POSITIVE,
    "model.warmup_ratio": NONE,
    "model.lora.dropout": NONE,
    "data.smoothing": NONE,
    "license": frozenset({*TEXTS}) - {"-1", "null", "[1]", "[]", "{a: 1}", "{"},  # the name of any
    "sizes": frozenset({"[1]"}),
    "seeds": frozenset({"[1]"}),
    "few_shot.learning_rate": POSITIVE,
    "self_training.confidence": NONE,
    "pretraining.learning_rate": POSITIVE,
    "plan": frozenset({MISSING}),
    "audit --max_length": frozenset({HUGE}),  # every sentence is one window
    "audit --examples": NONE | {HUGE},
    "audit --fail_on": frozenset({"", "[]"}),
    "explore --text": ANY_TEXT,
    "explore --example": NONE,
    "export --output": NEW_FOLDER,
    "export --tolerance": POSITIVE | {"inf"},
    "export --corpus": frozenset({FILE}),
    "export --push_to_hub": frozenset({""}),  # not uploaded, as without it
    "new-backbone --output": NEW_FOLDER - {FOLDER},
    "new-backbone --seed": NONE,
    "report --output": NEW_FOLDER | {""},  # the run's own folder
    "serve --host": NONE,  # 0.0.0.0
    "serve --port": NONE,  # a free one
    "serve --allowed_hosts": ANY_TEXT,
    "tag --output": frozenset({*TEXTS, "", FILE}),  # a file to replace; an empty name is none
}
"""Values that an option takes although no value of its type is likely."""

NEEDS_OTHERS = {"soup", "export --private", "tag --resume"}
"""Flags that need another option."""

ALSO_CALLED = {"source": "language", "target": "language", "vocabulary_of": "language", "config": "option"}
"""What the lines of some options name in place of these."""


class Began(BaseException):
    """The command has accepted its options, and its work begins."""


def begin(*_: object, **__: object) -> NoReturn:
    raise Began


@pytest.fixture
def _until_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands end where their work would begin, and make the parser of each once."""
    begins: Mapping[Any, Sequence[str]] = {
        pl.Trainer: ("fit", "validate", "test", "predict"),
        xner.cli.commands: ("run_test", "run_predict"),
        xner.cli.transfer: ("run_experiment",),
        ComparedModel: ("of_network",),
        uvicorn.Server: ("run",),
        xner.report: ("write_report",),
    }
    for place, names in begins.items():
        for name in names:
            monkeypatch.setattr(place, name, begin)
    monkeypatch.setattr(gc, "collect", lambda *_: 0)  # half a second before each stage
    made: dict[str, dict[str, Any]] = {}
    make = XnerCLI.setup_parser

    def make_once(self: XnerCLI, *args: Any) -> None:  # noqa: ANN401 - handed on
        command = self.words[0]
        if command not in made:
            before = {*vars(self)}
            make(self, *args)
            made[command] = {name: value for name, value in vars(self).items() if name not in before}
        vars(self).update(made[command])

    monkeypatch.setattr(XnerCLI, "setup_parser", make_once)


@pytest.fixture
def given(source: Path, scored_backbone: Path, tmp_path: Path) -> Mapping[str, list[str]]:
    """The options with which each command works; what it writes is in ``tmp_path / "new"``."""
    new = tmp_path / "new"
    model = ["--model", str(scored_backbone)]
    sizes = ["--hidden_size=8", "--num_hidden_layers=1", "--num_attention_heads=1", "--intermediate_size=8"]
    return {
        **{command: options(source, scored_backbone, new / "run") for command in COMMANDS},
        "transfer": [*options(source, scored_backbone, new / "run"), "--sizes=[8,16]"],
        "tag": [*model, "Ankara"],
        "serve": [*model, "--port=0"],
        "export": [
            *model,
            "--output",
            str(new / "export"),
            f"--source={source}",
            "--languages=en",
            "--vocabulary_of=en",
        ],
        "audit": ["--source", str(source)],
        "explore": ["--source", str(source), "--tokenizer=sample"],
        "report": [str(tmp_path / "run")],
        "new-backbone": ["--tokenizer=sample", "--output", str(new / "backbone"), *sizes],
    }


def actions(run: Run, command: str, given: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> list[Action]:
    """Return the actions of a command's parser."""
    if command in COMMANDS:
        return [*parse_command([command, *given]).build.parser._actions]
    found: list[ToolParser] = []
    make = ToolParser.__init__

    def note(self: ToolParser, *args: str) -> None:
        make(self, *args)
        found.append(self)

    with monkeypatch.context() as patch:
        patch.setattr(ToolParser, "__init__", note)
        assert run(command, "--help").code == 0
    [parser] = found
    return parser._actions


def kinds_of(action: Action) -> dict[str, Any]:
    """Return the type of an action's option, and those of the fields of a dataclass that it may be, by their names."""
    names = [each[2:] for each in action.option_strings if each.startswith("--") and not each.endswith("+")]
    # Help, links between options, and --print_config have no value.
    if not names or type(action).__name__ in ("_HelpAction", "_ActionPrintConfig", "_ActionHelpClassPath"):
        return {}
    [name] = names
    kind = getattr(action, "_typehint", action.type)
    inner = [each for each in get_args(kind) if is_dataclass(each)]
    return {name: kind} | {
        f"{name}.{field.name}": get_type_hints(each)[field.name] for each in inner for field in fields(each)
    }


def legal(name: str, action: Action, kind: Any) -> frozenset[str | None]:  # noqa: ANN401 - any type
    """Return the values that an option takes."""
    if name in NEEDS_OTHERS:
        return frozenset()
    if action.nargs == 0:  # a flag
        return frozenset({MISSING})
    kinds = {*get_args(kind)} if get_origin(kind) in (Union, UnionType) else {kind}
    likely = {NoneType: "null", bool: "true"}
    return LEGAL.get(name, frozenset()) | {value for each, value in likely.items() if each in kinds}


def state(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return the size and the time of each file below a folder."""
    return {each: (each.stat().st_size, each.stat().st_mtime_ns) for each in folder.rglob("*")}


@pytest.mark.usefixtures("_until_work")
@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
@pytest.mark.parametrize("command", [*COMMANDS, *TOOLS])
def test_wrong_values(
    run: Run,
    command: str,
    every: int,
    given: Mapping[str, list[str]],
    source: Path,
    scored_backbone: Path,
    tmp_path: Path,
    write_run: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong value ends a command with one line that names the option, and changes nothing in any folder."""
    (tmp_path / "file").write_text("text\n", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    stand_in = {FILE: str(tmp_path / "file"), FOLDER: str(tmp_path / "folder")}
    if command == "report":
        write_run(tmp_path / "run", sizes=(250,), sentences=20)
    before = [state(source), state(scored_backbone)]
    known = (
        set()
        if command in ("fit", *TOOLS)
        else {name for action in actions(run, "fit", given["fit"], monkeypatch) for name in kinds_of(action)}
    )
    problems = []
    first = 0
    for action in actions(run, command, given[command], monkeypatch):
        for name, kind in kinds_of(action).items():
            full = name if command in COMMANDS else f"{command} --{name}"
            # The parser names the outer option where the value of a field is missing.
            values = () if name in known else VALUES[:-1] if name not in action.dest else VALUES
            # Of some values for each option, the next option has others.
            first = (first + 1) % every
            for value in values[first::every]:
                word = f"--{name}" if value is None else f"--{name}={stand_in.get(value, value)}"
                try:
                    outcome = run(command, *given[command], word)
                    code, lines = outcome.code, outcome.err.splitlines()
                except Began:
                    code, lines = 0, []
                except Exception as error:  # all problems are reported together
                    code, lines = -1, [repr(error)]
                left = [each for place in ("cwd", "folder", "new") for each in (tmp_path / place).glob("*")]
                for each in left:
                    shutil.rmtree(each) if each.is_dir() else each.unlink()
                if value in legal(full, action, kind):
                    right = code == 0
                else:
                    names = (name.rpartition(".")[2].removesuffix("s"), ALSO_CALLED.get(name), stand_in.get(value))
                    right = code in (1, 2) and len(lines) == 1 and lines[0].startswith("xner: error: ") and not left
                    right &= any(each in lines[0] for each in names if each)
                if not right:
                    problems.append((name, value, code, lines, left))
    assert not problems, "\n".join(map(str, problems))
    assert before == [state(source), state(scored_backbone)]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "text\n" or command == "tag"  # --output replaces it
