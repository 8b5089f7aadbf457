"""Lightning's Trainer, which gives the command ``transfer`` its options and their help."""

from collections.abc import Sequence
from typing import Literal

import lightning.pytorch as pl

from xner.data.datamodule import PanxDataModule
from xner.model.classifier import TokenClassifier
from xner.transfer.experiment import Keep, Select
from xner.transfer.plan import SIZES


class Trainer(pl.Trainer):
    """Lightning's Trainer with the signature of ``transfer``."""

    def transfer(
        self,
        model: TokenClassifier,
        datamodule: PanxDataModule,
        source: str = "en",
        target: str = "tr",
        sizes: Sequence[int] = SIZES,
        regimes: Sequence[str] = ("progressive",),
        seeds: Sequence[int] = (42,),
        keep: Keep = "source",
        select: Select = "last",
        plan: bool = False,
        executor: Literal["serial", "ray"] = "serial",
        gpus_per_stage: float | None = None,
    ) -> None:
        """Train on one language, evaluate zero-shot on another, adapt to it with more and more of its sentences.

        Args:
            model: Given by --model.
            datamodule: Given by --data.
            source: Language that is learnt first.
            target: Language that it is carried over to.
            sizes: Numbers of target sentences, increasing.
            regimes: Where few-shot stages start from: progressive (the stage before), independent (the source stage),
                scratch (the backbone, target alone), joint (the backbone, source and target).
            seeds: Seeds of training and of the subsets; the whole experiment is run for each.
            keep: Stages whose model folders stay: none, source, last (those nothing starts from) or all.
            select: Epoch whose weights count: last, or best by F1 on validation.
            plan: Print the stages, what each starts from and trains on, and its optimizer steps; run none.
            executor: How stages are run: serial, one after another, or ray, those side by side that do not depend on
                each other, on this machine or the cluster that RAY_ADDRESS names; the results are the same.
            gpus_per_stage: GPUs that ray gives a stage, 0 to 1; null is one where there are any. Without one, a stage
                takes as many processor cores as torch has threads here (OMP_NUM_THREADS).
        """
        raise TypeError("transfer builds a trainer for every stage: call it through the command line")
