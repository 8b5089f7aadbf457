"""Decoding: the best legal sequence, by the search of all sequences, and in the batches of a network."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.model.tiny import pretrained_backbone, quiet_trainer
from xner import PanxDataModule, TagSet, TokenClassifier, run_test
from xner.backbone.tokenizer import load_tokenizer
from xner.cli.main import main
from xner.data.encode import encode
from xner.data.packing import RowDataset
from xner.data.sampler import BatchIndices
from xner.data.sources import Sentences
from xner.errors import UserError
from xner.model.decoding import Viterbi, best_sequences, words_by_place
from xner.model.evaluation import run_predict
from xner.model.metrics import span_counts
from xner.model.network import Network
from xner.tagger import Tagger
from xner.tags import OUTSIDE, PANX, invalid_tags
from xner.words import split_words

TAG_SETS = (TagSet(("A",)), TagSet(("A", "B")))

lengths = st.lists(st.integers(1, 4), min_size=1, max_size=4)
wholes = st.integers(0, 2**32 - 1)


def sentences_of(lengths: list[int]) -> Tensor:
    """Number the sentence of each word."""
    return torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))


def random_logits(lengths: list[int], tag_set: TagSet, seed: int, *, levels: int) -> Tensor:
    """Draw logits of a few levels, so that ties occur."""
    size = (sum(lengths), len(tag_set.tags))
    return torch.randint(levels, size, generator=torch.Generator().manual_seed(seed)) / 4


def invalid(labels: Tensor, lengths: list[int], tag_set: TagSet) -> int:
    """Count the tags that IOB2 forbids."""
    return sum(invalid_tags([tag_set.tags[label] for label in each.tolist()]) for each in labels.split(lengths))


@given(lengths, st.sampled_from(TAG_SETS), wholes, st.sampled_from([2, 5, 10_000]))
def test_best_of_all_sequences(lengths: list[int], tag_set: TagSet, seed: int, levels: int) -> None:
    """No legal sequence of a sentence is more probable than the one that is found, which is legal."""
    logits = random_logits(lengths, tag_set, seed, levels=levels)
    found = Viterbi(tag_set)(logits, sentences_of(lengths))
    assert invalid(found, lengths, tag_set) == 0
    scores = logits.double().log_softmax(dim=-1)
    for own, labels in zip(scores.split(lengths), found.split(lengths), strict=True):
        sums = {
            sequence: sum(own[place, label].item() for place, label in enumerate(sequence))
            for sequence in itertools.product(range(len(tag_set.tags)), repeat=len(own))
            if invalid_tags([tag_set.tags[label] for label in sequence]) == 0
        }
        assert sums[tuple(labels.tolist())] == pytest.approx(max(sums.values()), abs=1e-4)


@given(lengths, wholes)
def test_transitions_have_scores(lengths: list[int], seed: int) -> None:
    """With scores for transitions, the sums of both are compared; a sentence begins as after O."""
    tag_set = TAG_SETS[0]
    logits = random_logits(lengths, tag_set, seed, levels=10_000)
    transitions = random_logits([3], tag_set, seed + 1, levels=10_000)
    found = best_sequences(logits, sentences_of(lengths), transitions)
    for own, labels in zip(logits.split(lengths), found.split(lengths), strict=True):
        sums = {
            sequence: sum(
                (own[place, label] + transitions[previous, label]).item()
                for place, (previous, label) in enumerate(itertools.pairwise((OUTSIDE, *sequence)))
            )
            for sequence in itertools.product(range(3), repeat=len(own))
        }
        assert sums[tuple(labels.tolist())] == pytest.approx(max(sums.values()), rel=1e-5)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), wholes, st.sampled_from([2, 10_000]))
@settings(max_examples=30)
def test_batches_change_nothing(lengths: list[int], seed: int, levels: int) -> None:
    """A sentence has the same legal labels alone, among others, and in any order."""
    logits, viterbi = random_logits(lengths, PANX, seed, levels=levels), Viterbi(PANX)
    found = viterbi(logits, sentences_of(lengths))
    assert invalid(found, lengths, PANX) == 0
    parts = logits.split(lengths)
    alone = [viterbi(own, torch.zeros(len(own), dtype=torch.long)) for own in parts]
    assert torch.equal(found, torch.cat(alone))
    assert torch.equal(viterbi(torch.cat(parts[::-1]), sentences_of(lengths[::-1])), torch.cat(alone[::-1]))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=10), wholes, st.sampled_from([1, 2, 3, 10_000]))
def test_greedy_where_legal(lengths: list[int], seed: int, levels: int) -> None:
    """Where the best label of every word, the first of equal ones, makes a legal sequence, that is the result."""
    logits = random_logits(lengths, PANX, seed, levels=levels)
    # Each I that continues nothing loses, until the best labels are legal.
    while invalid(logits.argmax(dim=-1), lengths, PANX):
        best = logits.argmax(dim=-1)
        before = best.roll(1)
        before[torch.tensor([0, *lengths]).cumsum(0)[:-1]] = OUTSIDE
        wrong = ~torch.tensor(PANX.legal_transitions)[before, best]
        logits[wrong, best[wrong]] = -1.0
    assert torch.equal(Viterbi(PANX)(logits, sentences_of(lengths)), logits.argmax(dim=-1))


def test_no_words() -> None:
    """An empty batch has no labels, and a sentence without words none of its own."""
    none = torch.zeros(0, dtype=torch.long)
    assert words_by_place(none) == []
    assert Viterbi(PANX)(torch.zeros(0, 7), none).tolist() == []
    assert Viterbi(PANX)(torch.zeros(2, 7), torch.tensor([1, 3])).tolist() == [OUTSIDE] * 2


@given(st.lists(st.integers(1, 20), min_size=1, max_size=10), wholes)
def test_both_modes_agree(lengths: list[int], seed: int) -> None:
    """Of legal sequences, seqeval's strict mode counts the spans of its default mode, so that both F1 are equal."""
    sentence = sentences_of(lengths)
    labels = [Viterbi(PANX)(random_logits(lengths, PANX, seed + part, levels=9), sentence) for part in (0, 1)]
    counts = [span_counts(labels[0], labels[1], sentence, len(lengths), 3, strict=strict) for strict in (False, True)]
    assert all(map(torch.equal, *counts))


def test_unknown_decoding(sample_backbone: str) -> None:
    """Another name is refused."""
    with pytest.raises(UserError, match=re.escape("model.decoding=beam is not a decoding; use greedy or viterbi")):
        Network(sample_backbone, decoding="beam")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sample's backbone with a random head, most of whose labels make illegal sequences."""
    return str(pretrained_backbone(tmp_path_factory.mktemp("backbone")))


def test_windows_and_rows(folder: str) -> None:
    """A sentence of several windows is decoded as one, in packed rows as in padded ones, also where words lack pieces.

    Each sentence is compared with the search on its words' logits alone.
    """
    words = [["Alan", "Turing", "\u200b", "Ankara'da", "1912"] * 12, ["London"], ["İstanbul", "\u200b"] * 9]
    data = encode(Sentences(words, [["O"] * len(each) for each in words]), load_tokenizer(folder), 12, PANX)
    assert data.stats.split_sentences == 1
    assert data.stats.words_without_pieces == 21
    network = Network(folder, decoding="viterbi").eval()
    found = []
    for row_length in (40, None):
        batch = RowDataset(data, padding_id=1, row_length=row_length)[BatchIndices(np.arange(3), 0)]
        with torch.inference_mode():
            logits = network.word_logits(batch)
            predicted, score = network.decode_scored(logits, batch.word_sentence)
        sizes = [len(each) for each in words]
        assert invalid(logits.argmax(dim=-1), sizes, PANX) > 0
        assert invalid(predicted, sizes, PANX) == 0
        alone = [Viterbi(PANX)(each, torch.zeros(len(each), dtype=torch.long)) for each in logits.split(sizes)]
        assert torch.equal(predicted, torch.cat(alone))
        assert (predicted[batch.word_piece < 0] == OUTSIDE).all()
        assert torch.equal(score, logits.softmax(dim=-1)[torch.arange(len(logits)), predicted])
        found.append(predicted)
    assert torch.equal(*found)


def test_every_evaluation(folder: str) -> None:
    """Validation, test, prediction and Tagger give the same legal tags, where greedy decoding gives others."""
    data = PanxDataModule(source="sample", backbone=folder, split="validation")
    found = {}
    for decoding in ("greedy", "viterbi"):
        model = TokenClassifier(backbone=folder, decoding=decoding)
        trainer = quiet_trainer()
        [tested] = run_test(trainer, model, data)
        [words] = run_predict(trainer, model, data)
        [validated] = trainer.validate(model, data, verbose=False)
        assert torch.equal(words.predicted, tested.words.predicted)
        for name in ("f1", "f1_strict", "accuracy"):
            assert validated[f"val/{name}"] == pytest.approx(tested.scores[name], abs=1e-6)
        found[decoding] = tested
        tagger = Tagger.from_pretrained(folder, decoding=decoding)
        sizes = tested.sentence_words.tolist()
        sentences = list(data.split_of("en", "validation").sentences)
        compared = 0
        for labels, sentence in zip(tested.words.predicted.split(sizes), sentences, strict=True):
            text = " ".join(sentence.words)
            if [word.text for word in split_words(text)] == list(sentence.words):
                assert tagger(text).tags == [PANX.tags[label] for label in labels.tolist()]
                compared += 1
        assert compared > 50
    legal, greedy = found["viterbi"], found["greedy"]
    sizes = legal.sentence_words.tolist()
    assert invalid(greedy.words.predicted, sizes, PANX) > 100
    assert invalid(legal.words.predicted, sizes, PANX) == 0
    assert legal.scores["f1"] == legal.scores["f1_strict"]
    assert greedy.scores["f1"] != greedy.scores["f1_strict"]


def test_long_text(folder: str) -> None:
    """Tagger decodes a text of many windows as a whole, also where the tags of two windows meet."""
    words = ("Alan Turing Ankara'da ( Rosalinda ) dizi " * 60).split()
    illegal = {}
    for decoding in ("greedy", "viterbi"):
        [tagged] = Tagger.from_pretrained(folder, decoding=decoding, max_length=12).tag_words([words])
        labels = torch.tensor([PANX.tags.index(tag) for tag in tagged.tags])
        illegal[decoding] = invalid(labels, [len(words)], PANX)
    assert illegal["greedy"] > 0
    assert illegal["viterbi"] == 0


def test_tag_command(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command decodes as it is asked, by default greedily."""
    text = "Alan Turing was born in London in 1912 . " * 5
    for options, decoding in (([], "greedy"), (["--decoding=viterbi"], "viterbi")):
        main(["tag", f"--model={folder}", "--format=jsonl", *options, text])
        tags = json.loads(capsys.readouterr().out)["tags"]
        assert tags == Tagger.from_pretrained(folder, decoding=decoding)(text).tags
        assert (invalid_tags(tags) == 0) is (decoding == "viterbi")


def test_checkpoint(folder: str, tmp_path: Path) -> None:
    """A checkpoint of one decoding is loaded with another, because the decoding has no weights."""
    data = PanxDataModule(source="sample", backbone=folder, num_samples=32)
    trainer = quiet_trainer(max_steps=1)
    trainer.fit(TokenClassifier(backbone=folder), datamodule=data)
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    loaded = TokenClassifier.load_from_checkpoint(tmp_path / "it.ckpt", decoding="viterbi")
    [tested] = run_test(quiet_trainer(), loaded, data)
    assert invalid(tested.words.predicted, tested.sentence_words.tolist(), PANX) == 0
