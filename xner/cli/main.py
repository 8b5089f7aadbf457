"""The command ``xner`` and ``train.py``: dispatches to the commands that need a Trainer and to the tools."""

import os
import sys
from collections.abc import Sequence

from xner.cli import COMMANDS, TOOLS
from xner.cli.errors import exit_with_line
from xner.errors import UserError, did_you_mean


def main(args: Sequence[str] | None = None) -> None:
    """Run a command; every error that a user can act on ends it with one line and an exit code.

    Args:
        args: The command and its options; ``None`` takes those of the process.
    """
    args = sys.argv[1:] if args is None else args
    try:
        if args and args[0] in TOOLS:
            from xner.cli.tools import run_tool

            run_tool(args[0], args[1:])
            sys.stdout.flush()
        elif args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise UserError(f"{args[0]!r} is not a command; {did_you_mean(args[0], [*COMMANDS, *TOOLS])}")
        else:
            # Tokenizers warn when a process that used their threads forks; nothing here does.
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
            from xner.cli.commands import run_command

            run_command(args)
    except (Exception, KeyboardInterrupt) as error:
        exit_with_line(error)
