"""Run a benchmark as a command, and write its figures."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from jsonargparse import auto_cli

from tests.benchmarks.machine import Machine
from xner.errors import UserError


def run_as_command(benchmark: Callable[..., None]) -> None:
    """Run a benchmark of the module of its name with the options of the process; a mistake ends it with one line."""
    try:
        auto_cli(benchmark, as_positional=False, prog=f"python -m tests.benchmarks.{benchmark.__name__}")
    except UserError as error:
        sys.exit(f"error: {error}")


def write_figures(output: str | None, machine: Machine, figures: dict[str, object]) -> None:
    """Write a machine and what was measured on it as JSON, if a file is asked for."""
    if output:
        content = {"machine": asdict(machine), **figures}
        Path(output).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
