"""The stages of a transfer experiment and what each starts from: regimes x sizes x seeds, as a DAG.

Pure: no torch, no files. Only this module knows what a regime is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xner.errors import UserError

SIZES = (250, 500, 1000, 2000, 5000, 10000, 20000)
"""The mission's numbers of target sentences."""

REGIMES = {
    "progressive": "from the stage before it, on the target",
    "independent": "from the source stage, on the target",
    "scratch": "from the backbone, on the target",
    "joint": "from the backbone, on the source and the target",
}
"""The regimes, and where a stage of each starts and what it trains on."""


@dataclass(frozen=True)
class Stage:
    """One training run with its evaluations.

    Attributes:
        id: Its name, as ``progressive-tr-250-seed42``.
        regime: ``source`` or one of ``REGIMES``.
        seed: Seed of its training and of its subset.
        parent: The id of the stage it starts from; ``None`` for the backbone.
        train: The languages it trains on, each with the number of its sentences; ``None`` stands for all.
        target_samples: How many sentences of the target it trains on.
    """

    id: str
    regime: str
    seed: int
    parent: str | None
    train: tuple[tuple[str, int | None], ...]
    target_samples: int


def plan(
    *,
    source: str,
    target: str,
    sizes: Sequence[int] = SIZES,
    regimes: Sequence[str] = ("progressive",),
    seeds: Sequence[int] = (42,),
) -> list[Stage]:
    """List the stages, each behind the one it starts from.

    Args:
        source: The language that is learnt first.
        target: The language that it is carried over to.
        sizes: Numbers of target sentences, increasing.
        regimes: Some of ``REGIMES``.
        seeds: Seeds; the source stage of a seed is shared by its regimes.

    Raises:
        UserError: If an argument is empty, repeats itself, or is not of its kind.

    >>> for stage in plan(source="en", target="tr", sizes=[250, 500]):
    ...     print(stage.id, "<-", stage.parent)
    source-en-seed42 <- None
    progressive-tr-250-seed42 <- source-en-seed42
    progressive-tr-500-seed42 <- progressive-tr-250-seed42
    """
    _check(source=source, target=target, sizes=sizes, regimes=regimes, seeds=seeds)
    stages: list[Stage] = []
    for seed in seeds:
        first = Stage(f"source-{source}-seed{seed}", "source", seed, None, ((source, None),), 0)
        stages.append(first)
        for regime in regimes:
            before = first.id
            for size in sizes:
                name = f"{regime}-{target}-{size}-seed{seed}"
                parent = {"progressive": before, "independent": first.id}.get(regime)
                train: tuple[tuple[str, int | None], ...] = ((target, size),)
                if regime == "joint":
                    train = ((source, None), *train)
                stages.append(Stage(name, regime, seed, parent, train, size))
                before = name
    return stages


def plan_table(
    stages: Sequence[Stage],
    *,
    backbone: str,
    sentences: Mapping[str, int],
    batch: int,
    epochs: float,
    max_steps: float = math.inf,
) -> str:
    """Lay out the stages: what each starts from, trains on, and how many optimizer steps it takes.

    Args:
        stages: As ``plan`` lists them.
        backbone: What stages without a parent start from.
        sentences: How many training sentences each language has.
        batch: Sentences an optimizer step, over all processes.
        epochs: Maximum number of epochs per stage.
        max_steps: Maximum number of optimizer steps per stage.
    """
    rows = [("stage", "starts from", "trains on", "optimizer steps")]
    for stage in stages:
        counts = [(language, sentences[language] if samples is None else samples) for language, samples in stage.train]
        steps = int(min(epochs * -(-sum(count for _, count in counts) // batch), max_steps))
        trained = " + ".join(f"{language} {count:,}" for language, count in counts)
        rows.append((stage.id, stage.parent or backbone, trained, f"{steps:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=False)), row[3].rjust(widths[3])])
        for row in rows
    )


def _check(*, source: str, target: str, sizes: Sequence[int], regimes: Sequence[str], seeds: Sequence[int]) -> None:
    if source == target:
        raise UserError(f"source and target are both {source!r}: name two languages")
    for option, values in {"sizes": sizes, "regimes": regimes, "seeds": seeds}.items():
        if not values:
            raise UserError(f"{option} is empty: name at least one, as {option}=[{_EXAMPLES[option]}]")
        if len({*values}) < len(values):
            raise UserError(f"{option}={list(values)} names one twice")
    if list(sizes) != sorted(sizes) or sizes[0] < 1:
        raise UserError(f"sizes={list(sizes)} must be increasing numbers of sentences, 1 or more")
    for regime in regimes:
        if regime not in REGIMES:
            raise UserError(f"regimes={list(regimes)}: {regime!r} is none of {', '.join(REGIMES)}")
    if min(seeds) < 0:
        raise UserError(f"seeds={list(seeds)} must be 0 or more")


_EXAMPLES = {"sizes": "250,500", "regimes": "progressive", "seeds": "42"}
