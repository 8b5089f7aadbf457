import random

import numpy as np
import pytest

from xner.report.entity_errors import OUTCOMES, by_length, by_seen, by_type, examples, find_errors
from xner.tags import PANX, Span, find_spans, spans


def labels(*sentences: str) -> list[int]:
    return [PANX.labels[tag] for sentence in sentences for tag in sentence.split()]


def lengths(*sentences: str) -> list[int]:
    return [len(sentence.split()) for sentence in sentences]


def outcomes(gold: str, predicted: str) -> dict[str, dict[str, int]]:
    """Return the outcomes of one sentence's entities that occur, by type."""
    table = by_type(find_errors(PANX.types, labels(gold), labels(predicted), lengths(gold)))
    return {
        kind: {outcome: int(count) for outcome, count in zip(OUTCOMES, row, strict=True) if count}
        for kind, row in zip(PANX.types, table, strict=True)
        if row.any()
    }


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ("B-PER I-PER O", "B-PER I-PER O", {"PER": {"correct": 1}}),
        ("B-PER I-PER O", "B-ORG I-ORG O", {"PER": {"wrong type": 1}}),
        ("B-PER I-PER O", "B-PER O O", {"PER": {"boundary error": 1}}),
        ("B-PER I-PER O", "B-PER I-PER I-PER", {"PER": {"boundary error": 1}}),
        ("B-PER I-PER O", "O O O", {"PER": {"missed": 1}}),
        ("O O O", "B-LOC O O", {"LOC": {"spurious": 1}}),
        # Type and boundaries both wrong count as wrong type.
        ("B-PER I-PER O", "B-ORG O O", {"PER": {"wrong type": 1}}),
        # Of two predicted spans that overlap an entity, one of its type makes it a boundary error.
        ("B-PER I-PER I-PER", "B-LOC B-PER I-PER", {"PER": {"boundary error": 1}}),
        # One predicted span over two entities is a boundary error for one and a wrong type for the other.
        ("B-PER B-LOC O", "B-PER I-PER O", {"PER": {"boundary error": 1}, "LOC": {"wrong type": 1}}),
        # A span split in two overlaps its entity twice, and neither half is spurious.
        ("B-ORG I-ORG O", "B-ORG B-ORG O", {"ORG": {"boundary error": 1}}),
        # Neighbours do not overlap: the entity is missed and the span beside it is spurious.
        ("B-PER O O", "O B-PER O", {"PER": {"missed": 1, "spurious": 1}}),
        # I- without B- starts a span, as in seqeval's default mode.
        ("B-PER I-PER O", "I-PER I-PER O", {"PER": {"correct": 1}}),
    ],
)
def test_outcomes_by_hand(gold: str, predicted: str, expected: dict[str, dict[str, int]]) -> None:
    """Every outcome is recognised in hand-made cases."""
    assert outcomes(gold, predicted) == expected


def test_spans_do_not_cross_sentences() -> None:
    """An entity that ends a sentence and an I- that starts the next are two spans."""
    gold = ("O B-PER", "I-PER O")
    found = find_spans(labels(*gold), lengths(*gold))
    assert list(zip(found.first.tolist(), found.last.tolist(), strict=True)) == [(1, 1), (2, 2)]


def random_split(seed: int) -> tuple[list[list[str]], list[list[str]]]:
    draw = random.Random(seed)
    sizes = [draw.randint(1, 9) for _ in range(60)]
    return tuple([[draw.choice(list(PANX.labels)) for _ in range(size)] for size in sizes] for _ in range(2))  # type: ignore[return-value]


@pytest.mark.parametrize("seed", range(5))
def test_arrays_equal_plain_loops(seed: int) -> None:
    """On random tags, spans and outcomes equal those of tags.spans and of loops over pairs of spans."""
    gold, predicted = random_split(seed)
    sizes = [len(tags) for tags in gold]
    flat = [[PANX.labels[tag] for tags in side for tag in tags] for side in (gold, predicted)]
    errors = find_errors(PANX.types, flat[0], flat[1], sizes)
    table = np.zeros((len(PANX.types), len(OUTCOMES)), dtype=int)
    start, expected = 0, []
    for true_tags, tags in zip(gold, predicted, strict=True):
        true, found = spans(true_tags), spans(tags)
        expected += [(PANX.types.index(span.type), start + span.first, start + span.last) for span in true]
        start += len(tags)
        for span in true:
            overlapping = [each for each in found if each.first <= span.last and span.first <= each.last]
            outcome = (
                "correct" if span in overlapping
                else "boundary error" if any(each.type == span.type for each in overlapping)
                else "wrong type" if overlapping
                else "missed"
            )  # fmt: skip
            table[PANX.types.index(span.type), OUTCOMES.index(outcome)] += 1
        for span in found:
            if not any(each.first <= span.last and span.first <= each.last for each in true):
                table[PANX.types.index(span.type), OUTCOMES.index("spurious")] += 1
    assert list(zip(*(each.tolist() for each in errors.gold), strict=True)) == expected
    assert np.array_equal(by_type(errors), table)


def test_scores_by_length() -> None:
    """Entities and predicted spans count under their own lengths, four and more words together."""
    gold = ("B-PER O", "B-LOC I-LOC O", "B-ORG I-ORG I-ORG I-ORG I-ORG")
    predicted = ("B-PER O", "B-LOC O O", "B-ORG I-ORG I-ORG I-ORG I-ORG")
    scores = by_length(find_errors(PANX.types, labels(*gold), labels(*predicted), lengths(*gold)))
    assert scores == {"1 word": (1, 2, 1), "2 words": (0, 0, 1), "3 words": (0, 0, 0), "4+ words": (1, 1, 1)}
    assert scores["1 word"].f1 == pytest.approx(2 / 3)
    assert scores["3 words"].f1 == scores["2 words"].f1 == 0


def test_scores_by_seen_words() -> None:
    """Entities are grouped by whether all, some or none of their words were seen."""
    gold = ("B-PER I-PER O B-LOC", "B-ORG I-ORG O")
    predicted = ("B-PER I-PER O O", "B-ORG I-ORG B-PER")
    errors = find_errors(PANX.types, labels(*gold), labels(*predicted), lengths(*gold))
    scores = by_seen(errors, np.array([True, True, False, False, False, True, True]))
    assert scores == {"all words seen": (1, 2, 1), "some words seen": (1, 1, 1), "no words seen": (0, 0, 1)}


def test_examples_show_their_kind_and_stay_the_same() -> None:
    """Each example has an error of its kind and the spans of its sentence, and a second choice equals the first."""
    gold, predicted = random_split(1)
    sizes = [len(tags) for tags in gold]
    flat = [[PANX.labels[tag] for tags in side for tag in tags] for side in (gold, predicted)]
    errors = find_errors(PANX.types, flat[0], flat[1], sizes)
    found = examples(errors, count=3)
    assert found == examples(errors, count=3)
    assert list(found) == list(OUTCOMES[1:])
    for outcome, some in found.items():
        assert 0 < len(some) <= 3
        assert len({each.sentence for each in some}) == len(some)
        for each in some:
            assert each.gold == spans(gold[each.sentence])
            assert each.predicted == spans(predicted[each.sentence])
            tags = " ".join(gold[each.sentence]), " ".join(predicted[each.sentence])
            assert any(outcome in counts for counts in outcomes(*tags).values())


def test_examples_prefer_short_sentences() -> None:
    """A sentence of more than thirty words is chosen only where no shorter one has an error of the kind."""
    long, short = " ".join(["B-PER", *["O"] * 40]), "B-PER O"
    nothing = [PANX.labels["O"]] * 43
    both = find_errors(PANX.types, labels(long, short), nothing, lengths(long, short))
    assert [each.sentence for each in examples(both)["missed"]] == [1]
    alone = find_errors(PANX.types, labels(long), nothing[:41], lengths(long))
    assert examples(alone)["missed"] == [(0, [Span("PER", 0, 0)], [])]


def test_a_split_without_spans() -> None:
    """Without gold and predicted spans, every count is 0 and there are no examples."""
    errors = find_errors(PANX.types, [0, 0, 0], [0, 0, 0], [2, 1])
    assert by_type(errors).sum() == 0
    assert not any(examples(errors).values())
