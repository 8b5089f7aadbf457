import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from xner.errors import UserError
from xner.tags import IGNORE, OUTSIDE, PANX, Span, TagSet, find_spans, invalid_tags, spans

tag_sequences = st.lists(st.sampled_from(PANX.tags), max_size=12)


def test_tag_set() -> None:
    """The labels are those of the hub, and each type has the B and I labels that ``PANX.types`` documents."""
    assert PANX.tags == ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
    assert {PANX.tags[label]: label for label in range(7)} == PANX.labels
    for number, kind in enumerate(PANX.types):
        assert PANX.tags[2 * number + 1 : 2 * number + 3] == (f"B-{kind}", f"I-{kind}")
    assert PANX.tags[OUTSIDE] == "O"
    assert IGNORE not in PANX.labels.values()


@given(tag_sequences)
def test_spans_are_seqevals(tags: list[str]) -> None:
    """Any tag sequence, valid or not, has the spans of seqeval's default mode."""
    assert [tuple(span) for span in spans(tags)] == get_entities(tags)


@given(tag_sequences)
def test_invalid_tags(tags: list[str]) -> None:
    """The invalid tags are those that differ in the valid IOB2 sequence with the same spans."""
    valid = ["O"] * len(tags)
    for span in spans(tags):
        valid[span.first : span.last + 1] = [f"B-{span.type}"] + [f"I-{span.type}"] * (span.last - span.first)
    assert invalid_tags(tags) == sum(tag != other for tag, other in zip(tags, valid, strict=True))
    assert invalid_tags(valid) == 0


def test_adjacent_entities_stay_apart() -> None:
    """A ``B-`` tag starts an entity directly after one of its type, and so does an ``I-`` tag of another type."""
    assert spans(["B-PER", "B-PER", "I-ORG"]) == [Span("PER", 0, 0), Span("PER", 1, 1), Span("ORG", 2, 2)]
    assert spans([]) == []


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ((), "has 0 entity types; use 1 to 63"),
        ("PER", "data.types='PER' is a string"),
        (tuple(f"T{number}" for number in range(64)), "has 64 entity types"),
        (("PER", "PER"), "names a type twice"),
        (("PER", "O"), "'O' is not an entity type"),
        (("a b",), "'a b' is not an entity type"),
        (("",), "'' is not an entity type"),
        (("a\x07",), "is not an entity type"),
        ((3,), "3 is not an entity type"),
    ],
)
def test_impossible_types(types: tuple[str, ...], expected: str) -> None:
    """Types that cannot be part of a tag, and too many of them, are one line."""
    with pytest.raises(UserError, match=re.escape(expected)):
        TagSet(types)


def test_most_types() -> None:
    """The labels of 63 types fit into 8 bits."""
    tag_set = TagSet(tuple(f"T{number}" for number in range(63)))
    assert max(tag_set.labels.values()) == np.iinfo(np.int8).max - 1
    assert TagSet.of_tags(reversed(tag_set.tags)) == TagSet(tag_set.types[::-1])


@pytest.mark.parametrize(
    "tags", [["O"], [], ["B-PER", "I-PER"], ["O", "B-PER"], ["O", "B-PER", "I-PER", "noun"], ["O", "B-A B", "I-A B"]]
)
def test_no_tag_set(tags: list[str]) -> None:
    """Tags that are not O, B- and I- of each type are not a tag set."""
    assert TagSet.of_tags(tags) is None


@given(st.lists(tag_sequences))
def test_label_spans(sentences: list[list[str]]) -> None:
    """The spans of labels are those of the tags, sentence by sentence."""
    found = find_spans([PANX.labels[tag] for tags in sentences for tag in tags], [*map(len, sentences)])
    expected, start = [], 0
    for tags in sentences:
        expected += [(PANX.types.index(each.type), start + each.first, start + each.last) for each in spans(tags)]
        start += len(tags)
    assert [*zip(*(each.tolist() for each in found), strict=True)] == expected
