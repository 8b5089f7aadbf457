"""The command ``xner`` and ``train.py``: dispatches to the commands that need a Trainer and to the tools."""

import gc
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache

from xner.cli import COMMANDS, TOOLS
from xner.cli.interrupts import exit_at_interrupt


def main(args: Sequence[str] | None = None) -> None:
    """Run a command; every error that a user can act on ends it with one line and an exit code.

    Args:
        args: The command and its options; ``None`` takes those of the process.
    """
    # Imported here, so that even these short imports are interrupted with one line.
    with exit_at_interrupt():
        from xner.cli.exits import exit_with_line
        from xner.errors import UserError, did_you_mean

    args = sys.argv[1:] if args is None else args
    try:
        _check_unicode(args)
        _set_up_libraries()
        if args and args[0] in TOOLS:
            with exit_at_interrupt():
                from xner.cli.tools import run_tool

            run_tool(args[0], args[1:])
            sys.stdout.flush()
        elif args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise UserError(f"{args[0]!r} is not a command; {did_you_mean(args[0], [*COMMANDS, *TOOLS])}")
        else:
            # Tokenizers warn when a process that used their threads forks; nothing here does.
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
            with exit_at_interrupt():
                run = load_commands()
            run(args)
    except (Exception, KeyboardInterrupt) as error:
        exit_with_line(error)


def _set_up_libraries() -> None:
    """Set what libraries read when they are imported: no progress bars of loading, short active waiting.

    PyTorch's threads are to wait for one another actively for microseconds rather than milliseconds. Where another
    process needs one of the cores, a thread that waits actively uses up its share of the processor, and is left out
    when its work comes. A step of two threads took ten times as long beside one busy process, and takes twice as long
    with this; alone, nothing changes.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def _check_unicode(args: Sequence[str]) -> None:
    """Check that the values of options can be written into files; texts to tag may be anything.

    Raises:
        UserError: If one cannot.
    """
    from xner.errors import UserError, quoted
    from xner.files import is_unicode

    for before, word in zip(["", *args], args, strict=False):
        option, _, value = word.partition("=") if word.startswith("--") else (before, "", word)
        if option.startswith("--") and "=" not in option and not is_unicode(word):
            raise UserError(f"{option[2:]}={quoted(value)} is not UTF-8 without NUL; use other characters")


@cache
def load_commands() -> Callable[[Sequence[str]], None]:
    """Import the commands that need a Trainer, without garbage collection.

    The imports of torch and Lightning leave several 100,000 objects. To traverse these again and again takes a fifth of
    the time of the imports, and a quarter of a second before each stage, so later collections leave them out.

    Returns:
        The function that runs such a command.
    """
    gc.disable()
    try:
        from xner.cli.commands import run_command
    finally:
        gc.freeze()
        gc.enable()
    return run_command
