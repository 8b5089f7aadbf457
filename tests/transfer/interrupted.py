"""The command, in a process that sends itself a signal: ``interrupted.py EVENT NUMBER SIGNAL COMMAND...``.

Events are training steps (``step``), files and folders that are renamed to their place (by their name, as ``model``) or
flushed before that (``part of last.ckpt``), and ``any`` of them. The number says which one of its kind.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from xner.cli.main import main
from xner.model.classifier import TokenClassifier

happened: Counter[str] = Counter()


def noted(work: Callable[..., Any], name_of: Callable[..., str]) -> Callable[..., Any]:
    """Count the calls of a function by a name that its arguments give, and send the signal when it is due."""
    event, number, sign = sys.argv[1:4]

    @wraps(work)
    def call(*args: object) -> object:
        result = work(*args)
        for name in (name_of(*args), "any"):
            happened[name] += 1
            if (name, happened[name]) == (event, int(number)):
                os.kill(os.getpid(), int(sign))
        return result

    return call


def part(descriptor: int) -> str:
    """Name the file that an open file, such as ``.last.ckpt.123.part``, is to become."""
    return f"part of {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name[1:].rsplit('.', 2)[0]}"


if __name__ == "__main__":
    command = sys.argv[4:]
    TokenClassifier.training_step = noted(TokenClassifier.training_step, lambda *_: "step")
    Path.replace = noted(Path.replace, lambda _, target: Path(target).name)
    os.fsync = noted(os.fsync, part)
    main(command)
    print("events:", happened["any"])
