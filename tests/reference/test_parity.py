from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from tests.model.tiny import Fitted, fit, pretrained_backbone, quiet_trainer, write_split
from tests.reference.trainer import Outcome, Sentences, train_and_evaluate
from xner.backbone.tokenizer import load_tokenizer
from xner.backbone.weights import new_backbone
from xner.batch import Batch
from xner.data.encode import encode
from xner.data.sources import Split
from xner.model.evaluation import run_test
from xner.model.vocabulary import CompactEmbedding
from xner.tags import PANX, TagSet

SCORES = ("f1", "precision", "recall", "accuracy")


class WhatIsTrained(Callback):
    """Notes whether the embedding is compact and whether sentences share rows."""

    compact = packed = False

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:  # noqa: ANN401
        self.compact = isinstance(pl_module.network.model.get_input_embeddings(), CompactEmbedding)
        self.packed = len(batch.pieces) < len(batch.sentences)


def joined(fitted: Fitted, name: str) -> Sentences:
    """One split of a fit's languages, end to end, numbered as in its batches."""
    splits = [fitted.data.split_of(language, name).sentences for language in fitted.data.languages]
    return Sentences(
        words=[words for split in splits for words in split.words],
        tags=[tags for split in splits for tags in split.tags],
    )


def reference(fitted: Fitted, output_dir: Path) -> Outcome:
    """Run the reference from the same weights on the sentences of each of a fit's steps."""
    model, data = fitted.model, fitted.data
    return train_and_evaluate(
        backbone=data.backbone,
        train=joined(fitted, "train"),
        validation=joined(fitted, "validation"),
        output_dir=output_dir,
        epochs=fitted.trainer.max_epochs,
        learning_rate=model.hparams["learning_rate"],
        weight_decay=model.hparams["weight_decay"],
        warmup_ratio=model.hparams["warmup_ratio"],
        max_length=data.max_length,
        order=fitted.record.sentences,
        dropout=False,
        device="cpu",
        tag_set=data.tag_set,
    )


def assert_parity(fitted: Fitted, outcome: Outcome) -> None:
    """Losses to 1e-4, learning rates and scores to the last digit that Lightning logs."""
    for placement in (fitted.data.encoded(fitted.data.split_of(*split)).stats for split in splits_of(fitted)):
        # The reference would leave these out.
        assert placement.words_without_pieces == placement.split_sentences == placement.cut_words == 0
    assert len(fitted.record.losses) == len(outcome.losses)
    assert fitted.record.losses == pytest.approx(outcome.losses, abs=1e-4)
    assert fitted.record.rates == outcome.learning_rates
    logged = [[scores[f"val/{name}"] for name in SCORES] for scores in fitted.record.scores]
    assert logged == [[float(np.float32(scores[name])) for name in SCORES] for scores in outcome.scores]


def splits_of(fitted: Fitted) -> list[tuple[str, str]]:
    return [(language, name) for language in fitted.data.languages for name in ("train", "validation")]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Both sides on one thread: so small a network only loses by waiting for others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("warmup_ratio", [0.0, 0.1])
def test_parity_on_the_sample(tmp_path: Path, warmup_ratio: float) -> None:
    """On both languages of the sample, packed and with a compact vocabulary, every step and score is the Trainer's."""
    backbone = pretrained_backbone(tmp_path / "backbone")
    watch = WhatIsTrained()
    fitted = fit(
        backbone,
        data={"languages": ["en", "tr"]},
        model={"learning_rate": 2e-3, "warmup_ratio": warmup_ratio},
        trainer={"max_epochs": 2},
        callbacks=[watch],
    )
    assert watch.compact
    assert watch.packed
    outcome = reference(fitted, tmp_path / "trainer")
    assert len(outcome.losses) == 2 * 38
    assert outcome.losses[-1] < outcome.losses[0] / 2
    assert outcome.scores[-1]["f1"] > 0.3
    assert_parity(fitted, outcome)


def test_parity_on_another_tag_set(tmp_path: Path) -> None:
    """On a corpus of four types in CoNLL-2003's format, every step and score is the Trainer's."""
    for name, size in {"train": 400, "validation": 200, "test": 1}.items():
        whole = Split("sample", "en", name).sentences
        path = tmp_path / "conll" / "en" / f"{name}.conll"
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = []
        for number, (words, tags) in enumerate(zip(whole.words[:size], whole.tags[:size], strict=True)):
            # In every third sentence, an organisation is called something else.
            kinds = [tag.replace("ORG", "MISC") if number % 3 == 0 else tag for tag in tags]
            blocks.append("".join(f"{word} NN I-NP {tag}\n" for word, tag in zip(words, kinds, strict=True)))
        path.write_text("-DOCSTART- -X- -X- O\n\n" + "\n".join(blocks), encoding="utf-8")
    tag_set = TagSet(("PER", "ORG", "LOC", "MISC"))
    backbone = pretrained_backbone(tmp_path / "backbone", tag_set=tag_set)
    fitted = fit(
        backbone,
        data={"source": str(tmp_path / "conll"), "languages": ["en"]},
        model={"learning_rate": 2e-3},
        trainer={"max_epochs": 2},
    )
    assert fitted.data.tag_set == tag_set
    outcome = reference(fitted, tmp_path / "trainer")
    assert outcome.scores[-1]["f1"] > 0.1
    assert_parity(fitted, outcome)


def test_scores_to_the_last_digit(tmp_path: Path) -> None:
    """A test of the fitted model finds on the validation sentences what the Trainer finds, in full precision."""
    backbone = pretrained_backbone(tmp_path / "backbone")
    for name, split in {"train": "train", "validation": "validation", "test": "validation"}.items():
        write_split(tmp_path / "panx" / "tr" / f"{name}.tsv", Split("sample", "tr", split).sentences)
    fitted = fit(
        backbone,
        data={"source": str(tmp_path / "panx"), "languages": ["tr"], "num_samples": 400},
        model={"learning_rate": 2e-3},
    )
    outcome = reference(fitted, tmp_path / "trainer")
    [tested] = run_test(quiet_trainer(), fitted.model, fitted.data)
    assert {name: tested.scores[name] for name in SCORES} == {name: outcome.scores[-1][name] for name in SCORES}
    assert 0 < outcome.scores[-1]["f1"] < 1


@pytest.mark.slow
def test_parity_on_real_sentences(tmp_path: Path, shared: Path, record_property: Callable[[str, object], None]) -> None:
    """On 2,000 real sentences and a network with XLM-R's vocabulary, every step and score is the Trainer's."""
    for name in ("train", "validation"):
        write_split(tmp_path / "panx" / "en" / f"{name}.tsv", placeable(shared, name, 2000))
    new_backbone(
        str(shared / "xlmr-tokenizer"),
        str(tmp_path / "mini"),
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
    )
    watch = WhatIsTrained()
    fitted = fit(
        pretrained_backbone(tmp_path / "backbone", source=tmp_path / "mini"),
        data={"source": str(tmp_path / "panx"), "languages": ["en"]},
        model={"learning_rate": 5e-4},
        trainer={"max_epochs": 2},
        callbacks=[watch],
    )
    assert watch.compact
    assert watch.packed
    outcome = reference(fitted, tmp_path / "trainer")
    differences = np.abs(np.subtract(fitted.record.losses, outcome.losses))
    record_property("greatest loss difference", float(differences.max()))
    record_property("f1", [scores["f1"] for scores in outcome.scores])
    print(f"{len(differences)} steps, losses {outcome.losses[0]:.4f} to {outcome.losses[-1]:.4f}")
    print(f"greatest difference {differences.max():.2e}, of the first step {differences[0]:.2e}")
    print([fitted.record.scores, outcome.scores])
    assert_parity(fitted, outcome)


def placeable(shared: Path, name: str, number: int) -> Sentences:
    """The first real sentences all of whose words have pieces in one window; others the reference would cut."""
    sentences = Split(str(shared / "panx"), "en", name).sentences
    encoded = encode(sentences, load_tokenizer(str(shared / "xlmr-tokenizer")), 512, PANX)
    whole = np.minimum.reduceat(encoded.word_piece, encoded.sentence_word[:-1]) >= 0
    whole &= np.diff(encoded.sentence_window) == 1
    chosen = np.flatnonzero(whole)[:number]
    return Sentences([sentences.words[place] for place in chosen], [sentences.tags[place] for place in chosen])
