"""PanxDataModule: which data takes which steps at which hook."""

import logging
import math
import os
import secrets
import sys
from collections.abc import Sequence
from typing import Literal

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader

from xner.backbone import load_config, longest_window, packable
from xner.batch import Batch
from xner.data.encode import Encoded, encode_split, join
from xner.data.packing import RowDataset, concatenate_ranges
from xner.data.sampler import EvaluationSampler, TrainSampler
from xner.data.sources import Split
from xner.data.subset import subset
from xner.errors import UserError

Int64 = npt.NDArray[np.int64]

logger = logging.getLogger(__name__)


class PanxDataModule(pl.LightningDataModule):
    """PAN-X: tokenization, label alignment and subsets.

    Args:
        source: Where sentences come from: 'panx' (the hub's google/xtreme), 'sample' (embedded in the package), or a
            folder that holds <language>/{train,validation,test}.{tsv,conll,txt,jsonl,parquet}.
        languages: Languages trained and validated on, concatenated.
        test_languages: Languages tested on, one dataloader each, in this order; null stands for the languages.
        num_samples: Training sentences a language: the first of them after both shuffles; null takes all, without the
            second shuffle. {en: null, tr: 250} gives each language its own.
        train_split: Split trained on, 'train'; validation or test is for evaluation, and needs train_on_evaluation.
        train_on_evaluation: Train on an evaluation split all the same. Whatever is done with the weights afterwards,
            their scores are marked as contaminated.
        shuffle_seed: Seed of the first shuffle, of every split.
        subset_seed: Seed of the second shuffle, of train, when a subset is drawn.
        batch_size: Training sentences a device and step.
        max_length: Pieces a window, specials included; a longer sentence is split at the borders of words.
        packing: Lay several sentences into one row (exact: none sees another). False pads each to the longest.
        few_shapes: Round the number of rows and their length up, so that torch.compile sees few shapes.
        row_length: Pieces a row, about; a longer window makes its batch's rows longer.
        evaluation_pieces: Pieces a batch in evaluation, padding included; the longest sentences come first.
        backbone: Whose tokenizer is used: hub name, or folder in Hugging Face layout.
    """

    def __init__(
        self,
        *,
        source: str = "panx",
        languages: Sequence[str] = ("en",),
        test_languages: Sequence[str] | None = None,
        num_samples: int | dict[str, int | None] | None = None,
        train_split: Literal["train", "validation", "test"] = "train",
        train_on_evaluation: bool = False,
        shuffle_seed: int = 0,
        subset_seed: int = 42,
        batch_size: int = 32,
        max_length: int = 512,
        packing: bool = True,
        few_shapes: bool = False,
        row_length: int = 64,
        evaluation_pieces: int = 1024,
        backbone: str = "xlm-roberta-base",
    ) -> None:
        super().__init__()
        for option, number in {
            "batch_size": batch_size,
            "max_length": max_length,
            "row_length": row_length,
            "evaluation_pieces": evaluation_pieces,
        }.items():
            if number < 1:
                raise UserError(f"data.{option}={number} must be 1 or more")
        if not languages or (test_languages is not None and not test_languages):
            raise UserError("data.languages and data.test_languages must name a language each, as [en]")
        for option, named in {"languages": languages, "test_languages": test_languages or ()}.items():
            if len({*named}) < len(named):
                raise UserError(f"data.{option}={list(named)} names a language twice")
        for language in num_samples if isinstance(num_samples, dict) else ():
            if language not in languages:
                raise UserError(f"data.num_samples names {language!r}: data.languages are {', '.join(languages)}")
        if train_split != "train" and not train_on_evaluation:
            raise UserError(
                f"data.train_split={train_split!r} is kept for evaluation: train on 'train', or say with "
                "data.train_on_evaluation=true that every score of these weights shall be marked as contaminated"
            )
        self.source = source
        self.languages = list(languages)
        self.test_languages = list(languages if test_languages is None else test_languages)
        self.num_samples = num_samples
        self.train_split = train_split
        self.shuffle_seed = shuffle_seed
        self.subset_seed = subset_seed
        self.batch_size = batch_size
        self.max_length = max_length
        self.packing = packing
        self.few_shapes = few_shapes
        self.row_length = row_length
        self.evaluation_pieces = evaluation_pieces
        self.backbone = backbone
        self._encoded: dict[str, Encoded] = {}
        self._drawn_seed: int | None = None

    def prepare_data(self) -> None:
        """Download and encode once a machine, before its other processes take both from the caches."""
        if self.trainer is not None and self.trainer.state.fn is not None:
            for split in self._splits(self.trainer.state.fn):
                self.encoded(split)

    def read(self, splits: Sequence[Split]) -> None:
        """Hold the options against the backbone, and encode some splits.

        Raises:
            UserError: If a split cannot be had or a window is too long: said before anything is written.
        """
        limit = longest_window(load_config(self.backbone))
        if limit is not None and self.max_length > limit:
            raise UserError(f"data.max_length={self.max_length} exceeds the {limit} pieces of {self.backbone}")
        for split in splits:
            self.encoded(split)

    def check(self, stage: str) -> None:
        """Encode what a stage needs, and hold the options against it; see ``read``."""
        self.read(self._splits(stage))
        if stage == "fit":
            for language in self.languages:
                self.training_sentences(language)

    def setup(self, stage: str) -> None:
        """Check the options against the data and the backbone; encode what the stage needs."""
        self.check(stage)
        config = load_config(self.backbone)
        if self.packing and not packable(config):
            self._note(f"{self.backbone} ({config.model_type}) cannot keep sentences of a row apart: it gets padding")
            self.packing = False
        for split in self._splits(stage):
            placement = self.encoded(split).stats
            oddities = {
                "longer than a window and split": placement.split_sentences,
                "words without a piece, predicted O": placement.words_without_pieces,
                "words longer than a window, cut": placement.cut_words,
                "tags that IOB2 forbids, kept": placement.invalid_tags,
            }
            found = "; ".join(f"{count} {oddity}" for oddity, count in oddities.items() if count)
            if found:
                self._note(f"{split}: {placement.sentences} sentences, {placement.words} words; {found}")

    def _note(self, line: str) -> None:
        if self.trainer is None or self.trainer.is_global_zero:
            logger.info(line)

    def encoded(self, split: Split) -> Encoded:
        """A split's pieces and labels, in the order of its source."""
        if str(split) not in self._encoded:
            self._encoded[str(split)] = encode_split(split, self.backbone, self.max_length)
        return self._encoded[str(split)]

    def split(self, language: str, name: str) -> Split:
        """One of the source's splits."""
        return Split(self.source, language, name)

    def training_split(self, language: str) -> Split:
        """The split of a language that is trained on."""
        return self.split(language, self.train_split)

    def samples_of(self, language: str) -> int | None:
        """How many of a language's training sentences are asked for; ``None`` stands for all."""
        return self.num_samples.get(language) if isinstance(self.num_samples, dict) else self.num_samples

    def training_sentences(self, language: str) -> Int64:
        """Numbers of the sentences of one language that are trained on, in the subset's order."""
        split = self.training_split(language)
        return subset(
            len(self.encoded(split)),
            self.samples_of(language),
            shuffle_seed=self.shuffle_seed,
            subset_seed=self.subset_seed,
            where=str(split),
        )

    def used_pieces(self) -> Int64:
        """The pieces that training and validation look up, ascending. *Shape:* (used,)."""
        used = [np.array([load_config(self.backbone).pad_token_id], dtype=np.int32)]
        for language in self.languages:
            train = self.encoded(self.training_split(language))
            piece_bounds = train.window_start[train.sentence_window]
            places, _ = concatenate_ranges(piece_bounds, self.training_sentences(language))
            used += [train.pieces[places], self.encoded(self.split(language, "validation")).pieces]
        return np.unique(np.concatenate(used)).astype(np.int64)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of ``batch_size`` sentences, reshuffled each epoch."""
        parts = [self.encoded(self.training_split(language)) for language in self.languages]
        offsets = np.cumsum([0, *map(len, parts)])
        chosen = [
            self.training_sentences(language) + offset
            for language, offset in zip(self.languages, offsets, strict=False)
        ]
        encoded = join(parts)
        trainer = self.trainer
        order = TrainSampler(
            np.concatenate(chosen),
            encoded.sentence_labelled,
            batch_size=self.batch_size,
            seed=self.order_seed,
            **self._processes(),
            accumulate=trainer.accumulate_grad_batches if trainer else 1,
            reshuffle=not (trainer and trainer.overfit_batches),  # type: ignore[attr-defined] # set by Lightning
            taken=self._taken,
            limit=self._limit,
        )
        return self._loader(encoded, order)

    @property
    def order_seed(self) -> int:
        """The seed of the order of training: that of ``seed_everything``, without one a number drawn once."""
        if seed := os.environ.get("PL_GLOBAL_SEED"):
            return int(seed)
        if self._drawn_seed is None:
            drawn = secrets.randbits(32)
            self._drawn_seed = int(self.trainer.strategy.broadcast(drawn)) if self.trainer else drawn
        return self._drawn_seed

    def state_dict(self) -> dict[str, int | None]:
        """Keep the number that was drawn for the order, so that a fit without a seed can be resumed."""
        return {"drawn_seed": self._drawn_seed}

    def load_state_dict(self, state_dict: dict[str, int | None]) -> None:
        """Restore what ``state_dict`` kept."""
        self._drawn_seed = state_dict["drawn_seed"]

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation splits of all ``languages``, concatenated."""
        return self._evaluation_loader([self.split(language, "validation") for language in self.languages])

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """The test split of each of ``test_languages``."""
        return [self._evaluation_loader([self.split(language, "test")]) for language in self.test_languages]

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        """As ``test_dataloader``."""
        return self.test_dataloader()

    def _processes(self) -> dict[str, int]:
        """Which process this is, of how many: what an order of batches is to know."""
        if self.trainer is None:
            return {"rank": 0, "world_size": 1}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def _taken(self) -> int:
        """How many of the epoch's batches the trainer has taken: some where it goes on from within an epoch."""
        if self.trainer is None or not self.trainer.training:
            return 0
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready

    def _limit(self) -> int:
        """How many of an epoch's batches the trainer takes at most."""
        if self.trainer is None or not self.trainer.training or math.isinf(self.trainer.num_training_batches):
            return sys.maxsize
        return int(self.trainer.num_training_batches)

    def _splits(self, stage: str) -> list[Split]:
        """The splits that Lightning's stage needs, ``fit``, ``validate``, ``test`` or ``predict``."""
        if stage in ("test", "predict"):
            return [self.split(language, "test") for language in self.test_languages]
        names = (self.train_split, "validation") if stage == "fit" else ("validation",)
        return [self.split(language, name) for name in dict.fromkeys(names) for language in self.languages]

    def _evaluation_loader(self, splits: Sequence[Split]) -> DataLoader[Batch]:
        encoded = join([self.encoded(split) for split in splits])
        order = EvaluationSampler(
            encoded.sentence_pieces,
            budget=self.evaluation_pieces,
            row_length=self._row_length,
            **self._processes(),
        )
        return self._loader(encoded, order)

    @property
    def _row_length(self) -> int | None:
        return self.row_length if self.packing else None

    def _loader(self, encoded: Encoded, order: TrainSampler | EvaluationSampler) -> DataLoader[Batch]:
        padding_id = load_config(self.backbone).pad_token_id
        rows = RowDataset(encoded, padding_id=padding_id, row_length=self._row_length, few_shapes=self.few_shapes)
        # Laying out a batch takes a fraction of a millisecond, less than handing it over from a worker process.
        return ResumableLoader(
            rows,
            batch_size=None,
            sampler=order,
            pin_memory=torch.cuda.is_available(),
            # Without one of its own, a loader draws from the global random numbers, and dropout's would depend on it.
            generator=torch.Generator(),
        )


class ResumableLoader(DataLoader[Batch]):
    """Tells Lightning that it can go on within an epoch; ``TrainSampler`` sees to it and needs no state of its own."""

    def state_dict(self) -> dict[str, int]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """As ``state_dict``."""
