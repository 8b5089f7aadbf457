"""The stages of a transfer experiment and what each starts from: regimes x sizes x seeds, as a DAG.

Pure: no torch, no files. Only this module knows what a regime is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from xner.errors import UserError, check_seed

SIZES = (250, 500, 1000, 2000, 5000, 10000, 20000)
"""The default numbers of target-language training sentences."""

REGIMES = {
    "progressive": "from the previous stage, on target sentences",
    "independent": "from the source stage, on target sentences",
    "scratch": "from the backbone, on target sentences",
    "joint": "from the backbone, on source and target sentences",
    "self_training": "from the source stage, on target sentences with predicted labels",
}
"""The regimes: where each stage of a regime starts, and what it trains on."""

SOURCE = "source"
"""The regime of the stages that train on the source languages, which the stages of ``REGIMES`` come after."""

ADAPTED = "adapted"
"""The regime of the stages that adapt the backbone to raw sentences before all others."""

SOUP = "soup-"
"""The beginning of the regime of a soup, before that of the stages that it averages."""


Keep = Literal["none", "source", "last", "all"]
"""Which stages' model folders are kept, see ``TransferOptions``."""

Train = tuple[tuple[str, int | None], ...]
"""The languages that a stage trains on, each with its number of sentences; ``None`` stands for all."""


@dataclass(frozen=True)
class Stage:
    """One training run with its evaluations, or the average of several with its own.

    Attributes:
        id: Its name, such as ``progressive-tr-250-seed42``.
        regime: ``ADAPTED``, ``SOURCE`` or one of ``REGIMES``; of a soup, ``SOUP`` and that of the stages that it
            averages.
        seed: Seed of its training and of its subset; of a soup, that of the first stage that it averages.
        parent: The id of the stage it starts from; ``None`` for the backbone, and for a soup.
        train: The languages it trains on, each with its number of sentences; ``None`` stands for all.
        size: Its place on the learning curve: the number of target-language sentences that it trains on, or of
            target-language entities per type where ``shots`` is set; 0 in a source stage and one of ``ADAPTED``.
        shots: Number of target-language entities per type; ``None`` where the number of sentences is given.
        averages: The ids of the stages whose weights a soup averages (Wortsman et al. 2022); empty for a training.
    """

    id: str
    regime: str
    seed: int
    parent: str | None
    train: Train
    size: int
    shots: int | None = None
    averages: tuple[str, ...] = ()

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids of the stages whose weights it needs."""
        return (self.parent,) if self.parent else self.averages

    @property
    def target(self) -> str | None:
        """The target language; ``None`` where it has no place on a learning curve."""
        return self.train[-1][0] if self.size else None

    @property
    def adapts(self) -> bool:
        """Whether it trains on target-language sentences alone."""
        return self.size > 0 and len(self.train) == 1

    @property
    def starts_head(self) -> bool:
        """Whether it trains a new head, on the backbone as it is or as an earlier stage has adapted it."""
        return self.labels != "none" and (self.parent or ADAPTED).startswith(ADAPTED)

    @property
    def labels(self) -> Literal["gold", "predicted", "none"]:
        """Whether the stage trains on its sentences' tags, on labels that another stage predicts, or on text alone."""
        if self.regime == ADAPTED:
            return "none"
        return "predicted" if self.regime == "self_training" else "gold"

    def shots_of(self, language: str) -> int | None:
        """Return the number of entities per type of a language that the stage trains on; ``None`` for no such limit."""
        return self.shots if language == self.target else None


def plan(
    *,
    source: str | Sequence[str],
    target: str | Sequence[str],
    sizes: Sequence[int] = SIZES,
    regimes: Sequence[str] = ("progressive",),
    seeds: Sequence[int] = (42,),
    shots: Sequence[int] | None = None,
    available: Mapping[str, int] | None = None,
    soup: bool = False,
    adapt_backbone: Literal["target", "both"] | None = None,
    source_samples: int | None = None,
) -> list[Stage]:
    """List the stages of an experiment, each after the one it starts from.

    Args:
        source: Source language, or several that are trained on together.
        target: Target language, or several that share the source stages; each has few-shot stages of its own.
        sizes: Numbers of target-language training sentences, increasing.
        regimes: Some of ``REGIMES``.
        seeds: Seeds; the regimes and targets of a seed share its source stage.
        shots: Numbers of target-language entities per type, increasing, in place of ``sizes``.
        available: The largest size that each target's data allows, where larger ones are to be left out.
        soup: Whether to add the soups: averages over the seeds of the stages that differ in their seed only.
        adapt_backbone: Whose sentences the backbone is adapted to before the other stages of a seed: those of all
            targets, or of sources and targets.
        source_samples: Number of training sentences of each source language; ``None`` stands for all.

    Raises:
        UserError: If an argument is empty, has duplicates, or is not of its kind.

    >>> for stage in plan(source="en", target=["tr", "de"], sizes=[250]):
    ...     print(stage.id, "<-", stage.parent)
    source-en-seed42 <- None
    progressive-tr-250-seed42 <- source-en-seed42
    progressive-de-250-seed42 <- source-en-seed42
    """
    sources, targets = as_languages(source), as_languages(target)
    option, values = ("sizes", sizes) if shots is None else ("shots", shots)
    _check_languages(sources, targets)
    _check(sizes=(option, values), regimes=regimes, seeds=seeds)
    if source_samples is not None and source_samples < 1:
        raise UserError(f"source_samples={source_samples} is not a number of sentences; use 1 or more, or null for all")
    if soup and len(seeds) < 2:
        raise UserError(f"soup=true averages the stages of several seeds, but seeds={list(seeds)}; use two or more")
    if shots is not None and "self_training" in regimes:
        raise UserError(f"shots={list(shots)} is not possible with self_training, which reads no tags; use sizes")
    stages: list[Stage] = []
    adapted_to = {None: [], "target": targets, "both": [*sources, *targets]}[adapt_backbone]
    for seed in seeds:
        start = None
        if adapted_to:
            text: Train = tuple((language, None) for language in adapted_to)
            stages.append(Stage(f"{ADAPTED}-{'+'.join(adapted_to)}-seed{seed}", ADAPTED, seed, None, text, 0))
            start = stages[-1].id
        own: Train = tuple((language, source_samples) for language in sources)
        first = Stage(f"{SOURCE}-{'+'.join(sources)}-seed{seed}", SOURCE, seed, start, own, 0)
        stages.append(first)
        for language in targets:
            possible = [size for size in values if available is None or size <= available[language]]
            for regime in regimes:
                stages += _few_shot_stages(first, language, regime, possible, by_shots=shots is not None)
    return [*stages, *_soups(stages)] if soup else stages


def _soups(stages: Sequence[Stage]) -> Iterator[Stage]:
    """Yield a soup for all stages that differ in their seed only, such as ``progressive-tr-250-soup``."""
    groups: dict[str, list[Stage]] = {}
    for stage in stages:
        if stage.regime == ADAPTED:
            continue  # without a head, it has no score
        groups.setdefault(stage.id.removesuffix(f"-seed{stage.seed}"), []).append(stage)
    for name, each in groups.items():
        members = tuple(stage.id for stage in each)
        yield replace(each[0], id=f"{name}-soup", regime=SOUP + each[0].regime, parent=None, averages=members)


def _few_shot_stages(
    first: Stage, target: str, regime: str, sizes: Sequence[int], *, by_shots: bool
) -> Iterator[Stage]:  # fmt: skip
    """Yield the stages of one regime, target and seed, by increasing size, after their source stage."""
    previous = first.id
    for size in sizes:
        name = f"{regime}-{target}-{size}{'shot' if by_shots else ''}-seed{first.seed}"
        parents = {"progressive": previous, "independent": first.id, "self_training": first.id}
        parent = parents.get(regime, first.parent)  # of the source stage, that is the backbone
        own: Train = ((target, None if by_shots else size),)
        train = (*first.train, *own) if regime == "joint" else own
        yield Stage(name, regime, first.seed, parent, train, size, size if by_shots else None)
        previous = name


def as_languages(languages: str | Sequence[str]) -> list[str]:
    """Return a list of language codes.

    >>> as_languages("tr"), as_languages(("tr", "de"))
    (['tr'], ['tr', 'de'])
    """
    return [languages] if isinstance(languages, str) else list(languages)


def _check_languages(sources: Sequence[str], targets: Sequence[str]) -> None:
    for option, languages, example in (("source", sources, "en"), ("target", targets, "tr")):
        if not languages:
            raise UserError(f"{option}=[] is empty; use a language code, such as {option}={example}")
        if len({*languages}) < len(languages):
            raise UserError(f"{option}={list(languages)} names a language twice; name each once")
    for language in targets:
        if language in sources:
            raise UserError(f"source={'+'.join(sources)} is the target {language} as well; use other languages")


def _check(*, sizes: tuple[str, Sequence[int]], regimes: Sequence[str], seeds: Sequence[int]) -> None:
    name, numbers = sizes
    for option, values, example in (
        (name, numbers, "250,500" if name == "sizes" else "1,4,16"),
        ("regimes", regimes, "progressive"),
        ("seeds", seeds, "42"),
    ):
        if not values:
            raise UserError(f"{option}=[] is empty; use at least one value, such as {option}=[{example}]")
        if len({*values}) < len(values):
            raise UserError(f"{option}={list(values)} has duplicates; use each value once")
    if list(numbers) != sorted(numbers) or numbers[0] < 1:
        what = "sentences" if name == "sizes" else "entities"
        raise UserError(f"{name}={list(numbers)} is not increasing from 1 or more; use increasing numbers of {what}")
    for regime in regimes:
        if regime not in REGIMES:
            raise UserError(f"regimes={list(regimes)}: {regime!r} is not a regime; use some of {', '.join(REGIMES)}")
    for seed in seeds:
        check_seed("seeds", seed)
