from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from xner.tags import IGNORE, LABELS, OUTSIDE, TAGS, TYPES, Span, invalid_tags, spans

tag_sequences = st.lists(st.sampled_from(TAGS), max_size=12)


def test_tag_set() -> None:
    """Labels are those of the hub's class label, and each type has its B and its I where ``TYPES`` says."""
    assert TAGS == ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
    assert {TAGS[label]: label for label in range(7)} == LABELS
    for number, kind in enumerate(TYPES):
        assert TAGS[2 * number + 1 : 2 * number + 3] == (f"B-{kind}", f"I-{kind}")
    assert TAGS[OUTSIDE] == "O"
    assert IGNORE not in LABELS.values()


@given(tag_sequences)
def test_spans_are_seqevals(tags: list[str]) -> None:
    """Any tag sequence, legal or not, has the spans that seqeval's default mode finds in it."""
    assert [tuple(span) for span in spans(tags)] == get_entities(tags)


@given(tag_sequences)
def test_illegal_tags_are_what_iob2_forbids(tags: list[str]) -> None:
    """As many tags are illegal as ``I-`` tags must become ``B-`` tags for the same spans in IOB2."""
    legal = ["O"] * len(tags)
    for span in spans(tags):
        legal[span.first : span.last + 1] = [f"B-{span.type}"] + [f"I-{span.type}"] * (span.last - span.first)
    assert invalid_tags(tags) == sum(tag != other for tag, other in zip(tags, legal, strict=True))
    assert invalid_tags(legal) == 0


def test_adjacent_entities_stay_apart() -> None:
    """A ``B-`` begins an entity right behind another of its type, and an ``I-`` of another type does as well."""
    assert spans(["B-PER", "B-PER", "I-ORG"]) == [Span("PER", 0, 0), Span("PER", 1, 1), Span("ORG", 2, 2)]
    assert spans([]) == []
