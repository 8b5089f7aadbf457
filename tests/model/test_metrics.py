import json
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities
from torch import Tensor

from xner.model.evaluation import WordCollection
from xner.model.metrics import SpanF1, span_counts
from xner.tags import PANX, spans

Sentence = list[tuple[int, int]]
"""The predicted and the gold label of each word."""

label = st.integers(0, len(PANX.tags) - 1)
# Half of the predictions are right, so that long spans are too.
word = st.tuples(label, label) | label.map(lambda gold: (gold, gold))
sentence = st.lists(word, max_size=9)


def tensors(sentences: Sequence[Sentence], numbers: Sequence[int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted labels, gold labels and sentence numbers of the words of sentences. *Shape of each:* (words,)."""
    numbers = range(len(sentences)) if numbers is None else numbers
    words = [(*word, number) for number, words in zip(numbers, sentences, strict=True) for word in words]
    predicted, gold, sentence = torch.tensor(words, dtype=torch.long).reshape(-1, 3).unbind(1)
    return predicted, gold, sentence


def tags(sentences: Sequence[Sentence], column: int) -> list[list[str]]:
    return [[PANX.tags[word[column]] for word in words] for words in sentences]


def states(metric: SpanF1) -> dict[str, list[int]]:
    return {name: state.tolist() for name, state in metric.metric_state.items()}


def f1_of(*batches: Sequence[Sentence]) -> SpanF1:
    metric = SpanF1(PANX)
    for batch in batches:
        metric.update(*tensors(batch))
    return metric


def seqeval_scores(sentences: Sequence[Sentence]) -> dict[str, float]:
    """Seqeval's scores of at least one word; 0 where seqeval names no type or has no mean."""
    predicted, gold = tags(sentences, 0), tags(sentences, 1)
    scorers = {"f1": f1_score, "precision": precision_score, "recall": recall_score}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = {name: float(scorer(gold, predicted)) for name, scorer in scorers.items()}
        scores["accuracy"] = accuracy_score(gold, predicted)
        scores["f1_strict"] = float(f1_score(gold, predicted, mode="strict", scheme=IOB2))
        occurring = sorted({kind for kind, _, _ in get_entities(gold) + get_entities(predicted)})
        scores["f1_macro"] = float(f1_score(gold, predicted, average="macro")) if occurring else 0.0
        for name, scorer in scorers.items():
            of_types = dict(zip(occurring, scorer(gold, predicted, average=None), strict=True))
            scores |= {f"{name}_{kind}": float(of_types.get(kind, 0.0)) for kind in PANX.types}
    return scores


@given(st.lists(sentence, min_size=1, max_size=12).filter(any))
def test_scores_are_seqevals(sentences: list[Sentence]) -> None:
    """Every score of any tags, legal or not, equals seqeval's to the last digit."""
    scores = f1_of(sentences).compute()
    assert {name: score.item() for name, score in scores.items()} == seqeval_scores(sentences)
    assert all(score.dtype == torch.float64 and score.shape == () for score in scores.values())


def test_scores_are_seqevals_on_many_words() -> None:
    """The last digit is also seqeval's where the counts are in the hundreds, as in real evaluations."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        gold = torch.randint(0, 7, (3000,), generator=generator)
        predicted = torch.where(torch.rand(3000, generator=generator) < 0.8, gold, gold.roll(1))
        words = list(zip(predicted.tolist(), gold.tolist(), strict=True))
        sentences = [words[first : first + 10] for first in range(0, 3000, 10)]
        scores = f1_of(sentences).compute()
        assert {name: score.item() for name, score in scores.items()} == seqeval_scores(sentences)


@given(st.lists(label, max_size=12))
def test_strict_spans_are_those_that_start_with_b(labels: list[int]) -> None:
    """Seqeval's strict spans are its default spans whose first word has a B-."""
    tags = [PANX.tags[label] for label in labels]
    strict = [(entity.tag, entity.start, entity.end - 1) for entity in Entities([tags], IOB2).entities[0]]
    assert strict == [span for span in get_entities(tags) if tags[span[1]].startswith("B-")]


@given(st.lists(sentence, max_size=6), st.booleans())
def test_counts_of_each_sentence(sentences: list[Sentence], strict: bool) -> None:
    """Each sentence's counts, those without words included, are what a plain search finds."""

    def plain(words: Sentence) -> Iterator[list[int]]:
        predicted, gold = (
            {span for span in spans(tags) if not strict or tags[span.first].startswith("B-")}
            for tags in (tags([words], 0)[0], tags([words], 1)[0])
        )
        for found in (predicted & gold, predicted, gold):
            yield [sum(span.type == kind for span in found) for kind in PANX.types]

    counts = span_counts(*tensors(sentences), len(sentences), 3, strict=strict)
    assert [list(of_sentence) for of_sentence in zip(*(count.tolist() for count in counts), strict=True)] == [
        list(plain(words)) for words in sentences
    ]
    assert all(count.dtype == torch.long and count.shape == (len(sentences), len(PANX.types)) for count in counts)


@given(st.data(), st.lists(sentence, max_size=8))
def test_batches_and_order_change_nothing(data: st.DataObject, sentences: list[Sentence]) -> None:
    """The integer states are the same in any order of the sentences and any split into batches."""
    order = data.draw(st.permutations(sentences))
    cut = data.draw(st.integers(0, len(sentences)))
    whole = f1_of(sentences)
    assert states(f1_of(order[:cut], order[cut:])) == states(whole)
    assert whole.words[1] == len(list(chain(*sentences)))


@given(st.lists(sentence, max_size=6))
def test_states_are_sums_of_counts(sentences: list[Sentence]) -> None:
    """The states of SpanF1 are the sums of the counts of sentences, in both modes."""
    metric = f1_of(sentences)
    counts = (span_counts(*tensors(sentences), len(sentences), 3, strict=strict) for strict in (False, True))
    assert metric.spans.tolist() == [count.sum(0).tolist() for mode in counts for count in mode]


@pytest.mark.parametrize("sentences", [[], [[]], [[], []]])
def test_no_words(sentences: list[Sentence]) -> None:
    """Without words all counts and scores are 0 and no word is predicted."""
    counts = span_counts(*tensors(sentences), len(sentences), 3)
    assert [count.tolist() for count in counts] == [[[0, 0, 0]] * len(sentences)] * 3
    assert all(score == 0 for score in f1_of(sentences).compute().values())
    words = WordCollection()
    words.update(*tensors(sentences))
    assert words.compute().shape == (3, 0)


def test_only_outside() -> None:
    """Words in no span make accuracy alone: the macro F1 is 0 where seqeval's is nan."""
    scores = f1_of([[(0, 0), (0, 0)], [(0, 0)]]).compute()
    assert {name for name, score in scores.items() if score != 0} == {"accuracy"}


def test_update_reads_no_value() -> None:
    """An update works on tensors without values, so it never makes a GPU wait."""
    labels = torch.zeros(5, dtype=torch.long, device="meta")
    metric, words = SpanF1(PANX).to("meta"), WordCollection().to("meta")
    metric.update(labels, labels, labels)
    words.update(labels, labels, labels)
    assert metric.spans.device.type == "meta"
    assert span_counts(labels, labels, labels, 2, 3, strict=True).gold.shape == (2, 3)


def test_shapes_that_differ() -> None:
    """Labels of different numbers of words are an error that names the shapes."""
    two, three = torch.zeros(2, dtype=torch.long), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"shapes \(2,\), \(3,\) and \(3,\)"):
        SpanF1(PANX).update(two, three, three)


def test_reset_after_inference() -> None:
    """A metric that was reset and used under inference mode can be used and reset outside of it."""
    batch = [[(1, 1), (2, 2)], [(5, 0)]]
    metric, words = f1_of(batch), WordCollection()
    with torch.inference_mode():
        for used in (metric, words):
            used.reset()
        metric.update(*tensors(batch))
        words.update(*tensors(batch))
    metric.update(*tensors(batch))
    words.update(*tensors(batch))
    assert states(metric) == states(f1_of(batch, batch))
    words.reset()
    words.update(torch.tensor([6]), torch.tensor([5]), torch.tensor([9]))
    assert words.compute().tolist() == [[6], [5], [9]]


def test_scores_come_back_to_the_bit() -> None:
    """Scores beside the labels come back in order and as they were, from one to the least float above 0."""
    words = WordCollection(4)
    words.update(torch.tensor([1]), torch.tensor([2]), torch.tensor([8]), torch.tensor([1.0]))
    scores = torch.tensor([1e-45, 1 / 3])
    words.update(torch.tensor([3, 4]), torch.tensor([5, 6]), torch.tensor([2, 2]), scores)
    predicted, gold, number, bits = words.compute()
    assert [predicted.tolist(), gold.tolist(), number.tolist()] == [[3, 4, 1], [5, 6, 2], [2, 2, 8]]
    assert torch.equal(bits.int().view(torch.float32), torch.cat([scores, torch.ones(1)]))


@given(st.data(), st.lists(sentence, min_size=1, max_size=8), st.integers(1, 3))
def test_words_come_back_in_order(data: st.DataObject, sentences: list[Sentence], batch_size: int) -> None:
    """However the sentences were shuffled and batched, the words come back as they lie in the data set."""
    numbers = data.draw(st.permutations(range(len(sentences))))
    words = WordCollection()
    for first in range(0, len(numbers), batch_size):
        batch = numbers[first : first + batch_size]
        words.update(*tensors([sentences[number] for number in batch], batch))
    predicted, gold, number = tensors(sentences)
    assert words.compute().tolist() == [predicted.tolist(), gold.tolist(), number.tolist()]


RANK = """
import json, sys, torch, warnings
from xner.model.evaluation import WordCollection
from xner.model.metrics import SpanF1
from xner.tags import PANX

rank, ranks, rendezvous, cases = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.load(sys.stdin)
warnings.simplefilter("error")
warnings.filterwarnings("ignore", ".*called before the ``update`` method.*")
torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=ranks)
results = []
for shares in cases:
    metric, words = SpanF1(PANX), WordCollection()
    for batch in shares[rank]:
        predicted, gold, sentence = (torch.tensor(values, dtype=torch.long) for values in batch)
        metric.update(predicted, gold, sentence)
        words.update(predicted, gold, sentence)
    scores = {name: score.item() for name, score in metric.compute().items()}
    with metric.sync_context():
        states = {name: state.tolist() for name, state in metric.metric_state.items()}
    results.append([scores, states, words.compute().tolist()])
torch.distributed.destroy_process_group()
print(json.dumps(results))
"""
"""The script of each process; rank, number of ranks and rendezvous file come as arguments, the batches by stdin."""


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_ranks_change_nothing(tmp_path: Path) -> None:
    """Two processes with uneven shares, or with none, all get the counts, scores and words of a single one."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for first in range(0, 25, 5):
        gold = torch.randint(0, 7, (40,), generator=generator)
        predicted = torch.where(torch.rand(40, generator=generator) < 0.7, gold, 0)
        sentence = torch.randint(first, first + 5, (40,), generator=generator).sort().values
        batches.append((predicted[first:], gold[first:], sentence[first:]))
    nothing: list[tuple[Tensor, ...]] = []
    no_words = tuple(batches[0][0][:0] for _ in range(3))
    one_word = tuple(values[:1] for values in batches[4])
    cases: list[list[Any]] = [
        [batches[::2], batches[1::2]],
        [batches[3:], batches[:3]],
        [nothing, batches],
        [batches, [no_words]],
        [nothing, nothing],
        [[one_word], nothing],
    ]
    stdin = json.dumps([[[[v.tolist() for v in batch] for batch in share] for share in shares] for shares in cases])

    command = [sys.executable, "-c", RANK]
    processes = [
        subprocess.Popen(
            [*command, str(rank), "2", f"file://{tmp_path}/rendezvous"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None  # so that communicate leaves it alone
    try:
        outputs = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors

    expected = []
    for shares in cases:
        metric, words = SpanF1(PANX), WordCollection()
        for predicted, gold, sentence in chain(*shares):
            metric.update(predicted, gold, sentence)
            words.update(predicted, gold, sentence)
        scores = {name: score.item() for name, score in metric.compute().items()}
        expected.append([scores, states(metric), words.compute().tolist()])
    for output, _ in outputs:
        assert json.loads(output.splitlines()[-1]) == expected
