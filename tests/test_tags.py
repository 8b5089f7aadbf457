from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from xner.tags import IGNORE, OUTSIDE, PANX, Span, invalid_tags, spans

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
