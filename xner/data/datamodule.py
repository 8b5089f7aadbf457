"""The Lightning data module, which connects sources, encoding, subsets, samplers and packing."""

import logging
import math
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader

from xner.backbone import head_tags, load_config, longest_window, packable
from xner.backbone.tokenizer import check_pieces, load_tokenizer
from xner.batch import Batch
from xner.data.encode import Encoded, join
from xner.data.encoded_cache import encode_split
from xner.data.masking import MaskedSampler, Masking, mask_pieces
from xner.data.packing import RowDataset, row_loader
from xner.data.pseudo_labels import PseudoLabels
from xner.data.sampler import BatchIndices, EvaluationSampler, TrainSampler
from xner.data.sources import ReadOptions, Split, splits_of, tag_set_of
from xner.data.sources.sentences import Column
from xner.data.subset import Selection
from xner.errors import UserError
from xner.tags import PANX, TagSet

Int64 = npt.NDArray[np.int64]
_FEW = 20
"""Number of sentences above which one word each is worth a line."""

SplitName = Literal["train", "validation", "test"]

Labels = Literal["gold", "predicted", "none"]
"""The labels of a training: the tags of sentences, those that a model has predicted, or none, for text alone."""

logger = logging.getLogger(__name__)


class PanxDataModule(pl.LightningDataModule):
    """Sentences with named-entity tags: tokenization, label alignment, subsets and batches.

    Args:
        source: Data set: 'panx' (google/xtreme on the Hugging Face Hub), another preset (uner, wikiann, masakhaner2,
            wikineural, multinerd, conll2003, turkish-wikiner, multiconer), hub:<id> or hub:<id>/<config> for any other
            on the Hugging Face Hub, 'sample' (included in the package), or a folder with
            <language>/{train,validation,test}.{tsv,conll,txt,csv,jsonl,parquet}. For predict also a single file of one
            language, and in either case sentences need no tags.
        languages: Languages to train and validate on, concatenated.
        test_languages: Languages to test on, one dataloader per language in this order; null uses data.languages.
        num_samples: Number of training sentences per language: the first of them after both shuffles; null uses all,
            without the second shuffle. {en: null, tr: 250} sets it for each language.
        shots: Number of entities of each type to train on per language, in place of a number of sentences; {tr: 4} sets
            it for one language.
        sample_from: Published sample to train on: a file with the numbers of sentences, from 0 and one per line, or a
            folder whose <language>/train split has the sentences; {tr: FILE} sets it for one language.
        types: Entity types, such as [PER, ORG, LOC]; null takes all that occur in the languages in use.
        map_types: Rename or drop entity types of the source before anything else: {PERSON: PER, GPE: LOC, DATE: O}.
        columns: Columns of the source's files, where they have other names or, without names, other places (numbers
            from 0): {tokens: words, ner_tags: labels}; predict also copies the column id.
        language_configs: Configuration of a data set on the Hugging Face Hub by language, where it is not the language
            code or the preset's: {en: en_ewt}.
        validation_fraction: Part of the training sentences that becomes the validation split of a language without
            one, chosen by data.shuffle_seed.
        split: Split to test on or to predict.
        smoothing: Exponent of the number of sentences of a language in its part of an epoch, where there are several
            languages: 1 trains on every sentence once per epoch, 0.5 repeats those of smaller languages, 0 gives all
            languages equal parts.
        train_split: Split to train on. Training on validation or test requires data.train_on_evaluation.
        train_on_evaluation: Allow training on an evaluation split. All scores of the resulting weights are marked as
            contaminated.
        shuffle_seed: Seed of the first shuffle, of every split.
        subset_seed: Seed of the second shuffle, of the training split, when a subset is drawn.
        batch_size: Per-device training batch size, in sentences.
        max_length: Maximum number of subwords per window, special tokens included; longer sentences are split at word
            boundaries.
        packing: Pack several sentences into one sequence (exact: attention never crosses sentences). False pads each
            sentence to the longest of its batch.
        few_shapes: Round up the number and the length of sequences, so that torch.compile sees few shapes.
        row_length: Approximate number of subwords per packed sequence; longer if a window is.
        evaluation_pieces: Maximum number of subwords per evaluation batch, padding included; a longer sentence is a
            batch of its own.
        backbone: Model whose tokenizer is used: hub name, or folder in Hugging Face layout.

    Attributes:
        validated: The languages whose validation splits are scored; ``None`` stands for ``languages``.
        labels: ``gold`` to train on the tags of the training split, ``predicted`` to read it without its tags and train
            on ``pseudo_labels``, ``none`` to read no tags and train on ``masking``.
        pseudo_labels: Labels that a model has predicted for the training sentences of the only language, and which of
            these sentences are trained on; ``None`` before they are predicted.
        masking: How pieces are masked, where masked-language modelling is trained; else ``None``.
    """

    def __init__(
        self,
        *,
        source: str = "panx",
        languages: Sequence[str] = ("en",),
        test_languages: Sequence[str] | None = None,
        num_samples: int | dict[str, int | None] | None = None,
        shots: int | dict[str, int | None] | None = None,
        sample_from: str | dict[str, str | None] | None = None,
        types: Sequence[str] | None = None,
        map_types: Mapping[str, str] | None = None,
        columns: Mapping[str, Column] | None = None,
        language_configs: Mapping[str, str] | None = None,
        validation_fraction: float | None = None,
        split: SplitName = "test",
        smoothing: float = 1.0,
        train_split: SplitName = "train",
        train_on_evaluation: bool = False,
        shuffle_seed: int = 0,
        subset_seed: int = 42,
        batch_size: int = 32,
        max_length: int = 512,
        packing: bool = True,
        few_shapes: bool = False,
        row_length: int = 64,
        evaluation_pieces: int = 2048,
        backbone: str = "xlm-roberta-base",
    ) -> None:
        super().__init__()
        self.source = source
        self.languages = list(languages)
        self.test_languages = list(languages if test_languages is None else test_languages)
        self.selection = Selection(
            num_samples=num_samples,
            shots=shots,
            sample_from=sample_from,
            shuffle_seed=shuffle_seed,
            subset_seed=subset_seed,
        )
        self.test_split = split
        self.smoothing = smoothing
        self.train_split: SplitName = train_split
        self.train_on_evaluation = train_on_evaluation
        self.shuffle_seed = shuffle_seed
        self.batch_size = batch_size
        self.max_length = max_length
        self.packing = packing
        self.few_shapes = few_shapes
        self.row_length = row_length
        self.evaluation_pieces = evaluation_pieces
        self.backbone = backbone
        self.labels: Labels = "gold"
        self.pseudo_labels: PseudoLabels | None = None
        self.masking: Masking | None = None
        self._encoded: dict[tuple[str, str, bool], Encoded] = {}
        self.validated: list[str] | None = None
        self._drawn_seed: int | None = None
        self.reading = ReadOptions(
            columns=dict(columns or {}),
            types=None if types is None else tuple(types),
            map_types=dict(map_types or {}),
            validation_fraction=validation_fraction,
            shuffle_seed=shuffle_seed,
            language_configs=dict(language_configs or {}),
        )
        self._check_options()

    def _check_options(self) -> None:
        """Check the options that need neither the data nor the backbone.

        Raises:
            UserError: If an option has an impossible value.
        """
        for option in ("batch_size", "max_length", "row_length", "evaluation_pieces"):
            if (number := getattr(self, option)) < 1:
                raise UserError(f"data.{option}={number} is not positive; use 1 or more")
        self.reading.check()
        if not 0 <= self.smoothing <= 1:
            raise UserError(f"data.smoothing={self.smoothing} is not between 0 and 1; use 1 to leave sizes as they are")
        for option in ("languages", "test_languages"):
            languages = getattr(self, option)
            if not languages:
                raise UserError(f"data.{option}=[] is empty; use a list of language codes, such as [en]")
            if len({*languages}) < len(languages):
                raise UserError(f"data.{option}={languages} names a language twice; name each once")
        self.selection.check(self.languages)
        if self.train_split != "train" and not self.train_on_evaluation:
            raise UserError(
                f"data.train_split={self.train_split!r} is an evaluation split; use 'train', or allow it with "
                "data.train_on_evaluation=true, which marks all scores of the resulting weights as contaminated"
            )

    def prepare_data(self) -> None:
        """Download and encode the splits on one process per machine; the others read them from the caches."""
        if self.trainer is not None and self.trainer.state.fn is not None:
            for split in self._splits(self.trainer.state.fn):
                self.encoded(split)

    def read(self, splits: Sequence[Split]) -> None:
        """Check ``max_length`` against the backbone, then read and encode splits.

        Raises:
            UserError: If ``max_length`` is too large or a split cannot be read.
        """
        limit = longest_window(load_config(self.backbone))
        if limit is not None and self.max_length > limit:
            raise UserError(
                f"data.max_length={self.max_length} exceeds the {limit} subwords that {self.backbone} accepts; "
                f"use {limit} or less"
            )
        for split in splits:
            self.encoded(split)

    def check(self, stage: str) -> None:
        """Encode the splits of a Lightning stage and check the options against them; see ``read``."""
        self.read(self._splits(stage))
        if stage == "fit":
            for language in self.languages:
                self.training_sentences(language)

    def setup(self, stage: str) -> None:
        """Encode the splits of a Lightning stage, and log which of their words need special treatment."""
        self.check(stage)
        config = load_config(self.backbone)
        if self.packing and not packable(config):
            self._log(f"{self.backbone} ({config.model_type}) does not support packing: its batches are padded")
            self.packing = False
        for split in self._splits(stage):
            stats = self.encoded(split).stats
            if stats.words == stats.sentences > _FEW:
                self._log(
                    f"{split}: every sentence has one word; if rows are words, name the column of their sentence with "
                    "data.columns={sentence: ...}"
                )
            if self.reading.validation_fraction and split.name == "validation" and not split.carved:
                self._log(f"data.validation_fraction has no effect on {split.language}, which has {split}")
            if split.carved:
                self._log(f"{split}: {stats.sentences} sentences of {split.where}, by data.validation_fraction")
            if split.options.tagged and split.survey.converted:
                self._log(f"{split}: {split.survey.converted} tags converted from {split.survey.scheme} to IOB2")
            special = {
                "sentences longer than a window (split)": stats.split_sentences,
                "words without a subword (predicted O)": stats.words_without_pieces,
                "words longer than a window (truncated)": stats.cut_words,
                "tags invalid under IOB2 (kept unchanged)": stats.invalid_tags,
            }
            if found := [f"{count} {kind}" for kind, count in special.items() if count]:
                self._log(f"{split}: {stats.sentences} sentences, {stats.words} words; {'; '.join(found)}")

    def _log(self, line: str) -> None:
        if self.trainer is None or self.trainer.is_global_zero:
            logger.info(line)

    def encoded(self, split: Split) -> Encoded:
        """Return the pieces and labels of a split, in the order of its source."""
        key = split.source, str(split), split.options.tagged
        if key not in self._encoded:
            # Without tags, every label is that of O, whatever the tag set.
            tag_set = self.tag_set if split.options.tagged else PANX
            self._encoded[key] = encode_split(split, self.backbone, self.max_length, tag_set)
            check_pieces(self.backbone, self._encoded[key].pieces)
        return self._encoded[key]

    def split_of(self, language: str, name: str, *, tagged: bool = True) -> Split:
        """Return a split of the source, read with or without its tags."""
        return Split(self.source, language, name, replace(self.reading, tagged=tagged))

    @cached_property
    def tag_set(self) -> TagSet:
        """The tag set of all splits of all languages in use, see ``tag_set_of``; for predictions, that of the head."""
        predicts = self.trainer is not None and self.trainer.state.fn == "predict"
        if predicts and (of_head := head_tags(self.backbone)):
            return of_head
        languages = dict.fromkeys([*self.languages, *self.test_languages])
        splits = [split for each in languages for split in splits_of(self.source, each, self.reading)]
        if self.reading.types is None and not any(split.types for split in splits):
            # A corpus without entities can be tested, but not trained on.
            return head_tags(self.backbone) or tag_set_of(splits)
        return tag_set_of(splits)

    def test_split_of(self, language: str, *, tagged: bool = True) -> Split:
        """Return the split of a language that is tested on, or predicted without its tags."""
        return self.split_of(language, self.test_split, tagged=tagged)

    def predicted_splits(self) -> list[Split]:
        """Return the splits to predict, one per language of ``test_languages``.

        Raises:
            UserError: If one does not exist, or there are several languages for a single file.
        """
        splits = [self.test_split_of(language, tagged=False) for language in self.test_languages]
        if len(splits) > 1 and splits[0].is_file:
            raise UserError(
                f"data.test_languages={self.test_languages} is not one language, but data.source={self.source!r} is "
                f'one file; use "[{self.test_languages[0]}]"'
            )
        return splits

    def training_split(self, language: str) -> Split:
        """Return the split of a language that is trained on, without its tags where labels are predicted."""
        return self.split_of(language, self.train_split, tagged=self.labels == "gold")

    def training_sentences(self, language: str) -> Int64:
        """Choose the training sentences of a language by their indices. *Shape:* (chosen,).

        ``selection`` chooses them, but predicted labels name their own, and masking leaves some out.
        """
        if self.pseudo_labels:
            return self.pseudo_labels.sentences
        if self.masking:
            hashes = self.encoded(self.training_split(language)).sentence_hash
            return np.flatnonzero(~np.isin(hashes, self.masking.left_out))
        return self.choose(language, self.selection)

    def choose(self, language: str, selection: Selection) -> Int64:
        """Choose training sentences of a language by some options. *Shape:* (chosen,)."""
        return selection.choose(self.training_split(language), self.tag_set.types, self.encoded)

    def used_pieces(self) -> Int64:
        """Find the ids of all pieces in training and validation, padding and masks, ascending. *Shape:* (ids,)."""
        used = [np.array([load_config(self.backbone).pad_token_id], dtype=np.int32)]
        if self.masking:
            used.append(np.array([load_tokenizer(self.backbone).mask_token_id], dtype=np.int32))
        for language in self.languages:
            train = self.encoded(self.training_split(language))
            indices, _ = train.pieces_of(self.training_sentences(language))
            used.append(train.pieces[indices])
        used += [self.encoded(split).pieces for split in self.validation_splits()]
        return np.unique(np.concatenate(used)).astype(np.int64)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Load batches of ``batch_size`` training sentences, reshuffled each epoch."""
        parts = [self.encoded(self.training_split(language)) for language in self.languages]
        starts = np.cumsum([0, *map(len, parts)])[:-1]
        chosen = [self.training_sentences(each) + start for each, start in zip(self.languages, starts, strict=True)]
        encoded, probabilities = join(parts), None
        if self.pseudo_labels:
            encoded, probabilities = self.pseudo_labels.put_on(encoded), self.pseudo_labels.probabilities
        trainer, rows = self.trainer, self._rows(encoded, probabilities)
        options: dict[str, Any] = {
            "batch_size": self.batch_size,
            "seed": self.order_seed,
            **self._ranks(),
            "accumulate": trainer.accumulate_grad_batches if trainer else 1,
            "languages": [*map(len, chosen)],
            "smoothing": self.smoothing,
            "reshuffle": not (trainer and trainer.overfit_batches),  # type: ignore[attr-defined] # set by Lightning
            "progress": self._progress,
        }
        every, labelled = np.concatenate(chosen), encoded.sentence_labelled
        if self.masking:
            masks = self._masks(self.masking)
            return row_loader(rows, MaskedSampler(every, labelled, **options, rows=rows, **masks))
        return row_loader(rows, TrainSampler(every, labelled, **options))

    def _masks(self, masking: Masking) -> dict[str, Any]:
        return {
            "used": self.used_pieces(),
            "tokenizer": load_tokenizer(self.backbone),
            "probability": masking.probability,
        }

    def batches_of(self, split: Split, sentences: Int64) -> Iterator[Batch]:
        """Yield batches of some sentences of a split, without a trainer and all of them in this process.

        Args:
            split: The split; the pieces that are masked are always the same ones.
            sentences: Indices of the sentences. *Shape:* (chosen,)
        """
        encoded = self.encoded(split)
        if self.masking:
            encoded = mask_pieces(encoded, **self._masks(self.masking), seed=(self.shuffle_seed,))
        rows = self._rows(encoded)
        pieces = encoded.sentence_pieces[sentences]
        for batch in EvaluationSampler(pieces, budget=self.evaluation_pieces, row_length=rows.row_length):
            yield rows[BatchIndices(sentences[batch.sentences], 0)]

    def val_dataloader(self) -> DataLoader[Batch]:
        """Load the validation splits of all ``validated`` languages, concatenated."""
        return self._evaluation_loader(self.validation_splits())

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Load the splits to test on, one dataloader per language of ``test_languages``."""
        return [self._evaluation_loader([split]) for split in self._splits("test")]

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        """Load the same splits as ``test_dataloader``, without their tags."""
        return [self._evaluation_loader([split]) for split in self._splits("predict")]

    @property
    def order_seed(self) -> int:
        """Return the seed of the training order: that of ``seed_everything``, or else a number drawn once."""
        if seed := os.environ.get("PL_GLOBAL_SEED"):
            return int(seed)
        if self._drawn_seed is None:
            drawn = secrets.randbits(32)
            self._drawn_seed = int(self.trainer.strategy.broadcast(drawn)) if self.trainer else drawn
        return self._drawn_seed

    def state_dict(self) -> dict[str, int | None]:
        """Save the number drawn for the training order, so that a run without a seed can be resumed."""
        return {"drawn_seed": self._drawn_seed}

    def load_state_dict(self, state_dict: dict[str, int | None]) -> None:
        """Restore the number drawn for the training order."""
        self._drawn_seed = state_dict["drawn_seed"]

    def _ranks(self) -> dict[str, int]:
        if self.trainer is None:
            return {"rank": 0, "world_size": 1}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def _progress(self) -> tuple[int, int]:
        """Return how many batches of the epoch the trainer has taken, and how many it takes at most."""
        if self.trainer is None or not self.trainer.training:
            return 0, sys.maxsize
        limit = self.trainer.num_training_batches
        taken = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return taken, sys.maxsize if math.isinf(limit) else int(limit)

    def _splits(self, stage: str) -> list[Split]:
        """List the splits of a Lightning stage: ``fit``, ``validate``, ``test`` or ``predict``."""
        if stage == "predict":
            return self.predicted_splits()
        if stage == "test":
            return [self.test_split_of(language) for language in self.test_languages]
        trained = [self.training_split(language) for language in self.languages] if stage == "fit" else []
        splits = [*trained, *self.validation_splits()]
        return [*{(each.name, each.language, each.options.tagged): each for each in splits}.values()]

    def validation_splits(self) -> list[Split]:
        """Return the splits to validate on, without their tags where no tags are read."""
        languages = self.languages if self.validated is None else self.validated
        return [self.split_of(language, "validation", tagged=self.labels != "none") for language in languages]

    def _evaluation_loader(self, splits: Sequence[Split]) -> DataLoader[Batch]:
        encoded = join([self.encoded(split) for split in splits])
        sampler = EvaluationSampler(
            encoded.sentence_pieces,
            budget=self.evaluation_pieces,
            row_length=self.row_length if self.packing else None,
            **self._ranks(),
        )
        return row_loader(self._rows(encoded), sampler)

    def _rows(self, encoded: Encoded, probabilities: npt.NDArray[np.float32] | None = None) -> RowDataset:
        config = load_config(self.backbone)
        return RowDataset(
            encoded,
            padding_id=config.pad_token_id,
            row_length=self.row_length if self.packing and packable(config) else None,
            few_shapes=self.few_shapes,
            probabilities=probabilities,
        )
