import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, Entities

from xner.data.sources.scheme import Conversion, TagCheck, pairs_of, recognise, survey
from xner.tags import spans

SCHEMES = {"IOB1": IOB1, "IOB2": IOB2, "BIOES": IOBES, "BILOU": BILOU}
ENDS = {"BIOES": ("E", "S"), "BILOU": ("L", "U")}

entities = st.lists(st.tuples(st.sampled_from(["PER", "LOC", ""]), st.integers(1, 3)), max_size=6)
"""Entities and gaps (of the empty type) one after another, each with its number of words."""


def write(parts: list[tuple[str, int]], scheme: str) -> list[str]:
    """Tag a sentence of entities and gaps by the definition of a scheme."""
    tags: list[str] = []
    previous = ""
    for kind, words in parts:
        if not kind:
            tags += ["O"] * words
        elif scheme == "IOB1":
            tags += [f"{'B' if previous == kind else 'I'}-{kind}", *[f"I-{kind}"] * (words - 1)]
        elif scheme == "IOB2":
            tags += [f"B-{kind}", *[f"I-{kind}"] * (words - 1)]
        else:
            last, single = ENDS[scheme]
            inner = [f"B-{kind}", *[f"I-{kind}"] * (words - 2), f"{last}-{kind}"]
            tags += [f"{single}-{kind}"] if words == 1 else inner
        previous = kind
    return tags


@pytest.mark.parametrize("scheme", SCHEMES)
@given(parts=entities)
def test_conversion(scheme: str, parts: list[tuple[str, int]]) -> None:
    """Tags of every scheme become those of IOB2, with the entities that seqeval finds in the scheme."""
    tags = write(parts, scheme)
    converted = Conversion(scheme, {}).sentence(tags)
    assert converted == write(parts, "IOB2")
    found = [(each.tag, each.start, each.end) for some in Entities([tags], SCHEMES[scheme]).entities for each in some]
    assert found == [(each.type, each.first, each.last + 1) for each in spans(converted)]


@given(st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]), max_size=10))
def test_iob2_is_kept(tags: list[str]) -> None:
    """Tags in IOB2 are unchanged, invalid ones included."""
    assert Conversion("IOB2", {}).sentence(tags) == tags


@given(
    st.lists(
        st.sampled_from(["O", "B-PER", "I-PER", "B-GPE", "I-GPE", "B-LOC", "I-LOC", "B-DATE", "I-DATE"]), max_size=12
    )
)
def test_mapped_types(tags: list[str]) -> None:
    """Renamed entities keep their boundaries, dropped ones vanish, and no two grow together."""
    mapping = {"GPE": "LOC", "DATE": "O"}
    converted = Conversion("IOB2", mapping).sentence(tags)
    expected = [
        (mapping.get(each.type, each.type), each.first, each.last) for each in spans(tags) if each.type != "DATE"
    ]
    assert [tuple(each) for each in spans(converted)] == expected
    assert get_entities(converted) == expected


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (["B-PER", "I-PER", "O", "B-PER"], "IOB2"),
        (["I-PER", "B-PER", "O", "I-LOC"], "IOB1"),
        (["I-PER", "I-PER"], "IOB1"),
        (["I-PER", "O", "B-PER"], "IOB2"),
        (["O", "O"], "IOB2"),
        (["S-PER", "O", "B-LOC", "E-LOC"], "BIOES"),
        (["U-PER", "O", "B-LOC", "L-LOC"], "BILOU"),
    ],
)
def test_recognition(tags: list[str], scheme: str) -> None:
    """A scheme is recognised by what no other one has; a few invalid tags do not make IOB1 of IOB2."""
    assert recognise(pairs_of(tags)) == scheme


def test_survey() -> None:
    """A survey has the types, sorted or as declared, and the number of tags that differ in IOB2."""
    found = survey([["I-PER", "I-PER", "B-PER"], ["O", "I-LOC"]])
    assert (found.scheme, found.types, found.converted, found.sentences) == ("IOB1", ("LOC", "PER"), 2, 2)
    assert survey([["O"]], ("PER", "ORG")).types == ("PER", "ORG")


@pytest.mark.parametrize(
    ("tags", "index", "expected"),
    [
        (["O", "PER"], 1, "unknown tag 'PER'"),
        (["O", "B-"], 1, "unknown tag 'B-'"),
        (["O", "X-PER"], 1, "unknown tag 'X-PER'"),
        (["B-A B"], 0, "unknown tag 'B-A B'"),
        (["O", None], 1, "unknown tag None"),
        (["O", ["O"]], 1, "unknown tag ['O']"),
        (["E-PER", "U-PER"], 1, "tag 'U-PER' of BILOU, after 'E-PER' of BIOES"),
        (["B-PER", "B-DATE"], 1, "the entity type 'DATE' of tag 'B-DATE' is not in data.types; use PER"),
        (["B-GPE"], 0, "the entity type 'GPE' of tag 'B-GPE', renamed 'LOC', is not in data.types"),
    ],
)
def test_problems(tags: list[object], index: int, expected: str) -> None:
    """The first invalid tag of a sentence is found, with the reason."""
    found = TagCheck(["PER"], {"GPE": "LOC", "MISC": "O"}).first_problem(tags)
    assert found
    assert found[0] == index
    assert found[1].startswith(expected)


def test_no_problem() -> None:
    """Known types, and types that are renamed to a known one or dropped, are valid."""
    check = TagCheck(["PER"], {"PERSON": "PER", "MISC": "O"})
    assert check.first_problem(["O", "B-PER", "E-PERSON", "S-MISC"]) is None
    assert TagCheck(None, {}).first_problem(["B-anything", "I-else-where"]) is None
