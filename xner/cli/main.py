"""The command ``xner``, and ``train.py``: commands that need a Trainer, and tools that do not."""

import errno
import importlib
import os
import sys
from collections.abc import Sequence

from xner.errors import UserError, did_you_mean

COMMANDS = ("fit", "validate", "test", "predict", "transfer")
"""The commands that need a Trainer."""

TOOLS = {
    "explore": "xner.cli.explore:explore",
    "tag": "xner.tagger:tag",
    "report": "xner.report.build:report",
    "new-backbone": "xner.backbone:new_backbone",
}
"""The tools, and where each is; nothing is imported but the one that is asked for."""


def main(args: Sequence[str] | None = None) -> None:
    """Run a command; a user's mistake ends it with one line and exit code 2, a failed run with 1.

    Args:
        args: The command and its options; ``None`` takes those of the process.
    """
    args = sys.argv[1:] if args is None else args
    try:
        if args and args[0] in TOOLS:
            _run_tool(args[0], args[1:])
        elif args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise UserError(f"there is no command {args[0]!r}: {did_you_mean(args[0], [*COMMANDS, *TOOLS])}")
        else:
            _run_lightning(args)
    except UserError as error:
        _leave(str(error), error.exit_code)
    except BrokenPipeError:
        # Who read the output, as head does, has seen enough; what is left of it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and error.errno is None:
            _leave(str(error), 2)  # Lightning's own, of a checkpoint
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            place = "" if error.filename is None else f"{error.filename}: "
            _leave(f"{place}{error.strerror}: make room, and give the same command again", 1)
        if error.filename is None or error.strerror is None:
            raise
        _leave(f"{error.filename}: {error.strerror}", 1)
    except KeyboardInterrupt:
        _leave("interrupted", 130)


def _run_tool(name: str, args: Sequence[str]) -> None:
    from xner.cli.tools import run_command

    module, _, function = TOOLS[name].partition(":")
    run_command(getattr(importlib.import_module(module), function), args, prog=f"xner {name}")
    sys.stdout.flush()


def _run_lightning(args: Sequence[str]) -> None:
    # Tokenizers warn when a process that used their threads forks; nothing here does.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from xner.cli.errors import complaint
    from xner.cli.lightning import XnerCLI

    # Where there are several processes, Lightning starts the others by what stands here. --plan is a flag; jsonargparse
    # would have a value with it.
    argv = sys.argv
    sys.argv = [argv[0], *("--plan=true" if arg == "--plan" else arg for arg in args)]
    seeds = {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    try:
        XnerCLI()
    except Exception as error:
        if said := complaint(error):
            raise UserError(said) from error
        raise
    finally:
        sys.argv = argv
        # Lightning leaves its seed there, where the next command of this process would find it.
        for name, seed in seeds.items():
            os.environ.pop(name, None)
            if seed is not None:
                os.environ[name] = seed


def _leave(message: str, code: int) -> None:
    print("xner: error:", " ".join(message.splitlines()), file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
