import io
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.model.tiny import pretrained_backbone
from xner.cli.main import main
from xner.data.sources import Split
from xner.tagger import Tagged, Tagger
from xner.tags import PANX, spans
from xner.words import split_words

TURING = "Alan Mathison Turing was an English mathematician, computer scientist from London."
ENVER = "Vardar Kapısı'ndan çıkarken nişanlarımı söktüm, biraz müteessirdim. Böyle yakındı Enver Paşa"

TEXTS = st.text() | st.lists(
    st.sampled_from(
        ["Ankara'da", "Dr.", "U.S.", "n't", "'s", "(", "...", "a,b", "👨‍👩‍👧", "❤️", "\u200b", "\x00", "\ufeff", "हिन्दी"]
    )
    | st.text(max_size=5)
).flatmap(lambda parts: st.sampled_from([" ", "", "\n\t"]).map(lambda gap: gap.join(parts)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder whose head is random, so that it finds entities everywhere."""
    return str(pretrained_backbone(tmp_path_factory.mktemp("models") / "model"))


@pytest.fixture(scope="module")
def tagger(folder: str) -> Tagger:
    return Tagger(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TURING, "Alan Mathison Turing was an English mathematician , computer scientist from London ."),
        (ENVER, "Vardar Kapısı'ndan çıkarken nişanlarımı söktüm , biraz müteessirdim . Böyle yakındı Enver Paşa"),
        ('Takımı\'nı (Londra’da), "Ajax"…', 'Takımı\'nı ( Londra’da ) , " Ajax " …'),
        ("J. R. Smith of the U.S. Navy left the U.S.", "J. R. Smith of the U.S. Navy left the U.S ."),
        (
            "TFF 1. Lig'de 19. yüzyılda 1995. Sonra II. Bayezid 3.",
            "TFF 1. Lig'de 19. yüzyılda 1995 . Sonra II. Bayezid 3 .",
        ),
        ("Dr. No isn't St. Mary's, Paul's", "Dr. No is n't St. Mary 's , Paul 's"),
        ("Turing 's is n't 's", "Turing 's is n't 's"),
        ("2,000 at 3:52: Paris,London AC/DC AT&T 5%", "2,000 at 3:52 : Paris , London AC / DC AT & T 5 %"),
        ("Jean-Luc ''Billboard'' -- what?!!", "Jean-Luc '' Billboard '' -- what ? !!"),
        ("हिन्दी می‌خواهم", "हिन्दी می‌خواهم"),
        ("$ .. '", "$ .. '"),
    ],
)
def test_words_are_split_as_panx_does(text: str, words: str) -> None:
    """Punctuation stands alone, suffixes, abbreviations, ordinals and numbers stay whole, clitics are split off."""
    assert [word.text for word in split_words(text)] == words.split(" ")


@given(text=TEXTS)
def test_words_are_all_that_is_no_space(text: str) -> None:
    """Words lie in the text where they say, from left to right, and leave out white space alone."""
    words = split_words(text)
    assert all(word.text and text[word.start : word.end] == word.text for word in words)
    assert all(left.end <= right.start for left, right in pairwise(words))
    assert "".join(word.text for word in words) == "".join(text.split())


@pytest.mark.parametrize("language", ["en", "tr"])
def test_words_of_panx_stay_whole(shared: Path, language: str) -> None:
    """Of the words of PAN-X's test split, set between spaces, 98 % come out as they are."""
    sentences = Split(str(shared / "panx"), language, "test").sentences
    whole = total = 0
    for words in sentences.words:
        found = {(word.start, word.end) for word in split_words(" ".join(words))}
        start = 0
        for word in words:
            whole += (start, start + len(word)) in found
            total += 1
            start += len(word) + 1
    assert whole > 0.98 * total


@given(texts=st.lists(TEXTS, max_size=4))
@example(texts=["\u200b", "", "Ali \u200b Ankara"])
@example(texts=["\ud83d half an emoji in Ankara"])
@settings(max_examples=60)
def test_entities_lie_where_they_say(tagger: Tagger, texts: list[str]) -> None:
    """An entity's text is the text between its offsets, whatever characters the text holds; tags make the entities."""
    for text, tagged in zip(texts, tagger(texts), strict=True):
        assert tagged.text == text.encode(errors="replace").decode()
        assert len(tagged.tags) == len(tagged.words)
        found = [(kind, tagged.words[first].start, tagged.words[last].end) for kind, first, last in spans(tagged.tags)]
        assert [(entity.type, entity.start, entity.end) for entity in tagged.entities] == found
        for entity in tagged.entities:
            assert entity.text == tagged.text[entity.start : entity.end]
            assert entity.text == entity.text.strip() != ""
            assert 1 / len(PANX.tags) <= entity.score <= 1


def test_tags_are_the_networks(tagger: Tagger, folder: str) -> None:
    """Tags and scores are what transformers' own network says of each word's first piece."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    network, tokenizer = AutoModelForTokenClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for tagged in tagger([TURING, ENVER]):
        pieces = tokenizer([word.text for word in tagged.words], is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            probabilities = network(**pieces).logits[0].softmax(-1)
        word_ids = pieces.word_ids()
        best = [probabilities[word_ids.index(word)].max(-1) for word in range(len(tagged.words))]
        assert tagged.tags == [PANX.tags[one.indices] for one in best]
        for entity, span in zip(tagged.entities, spans(tagged.tags), strict=True):
            assert entity.score == pytest.approx(
                min(one.values.item() for one in best[span.first : span.last + 1]), abs=1e-5
            )


def test_texts_do_not_see_each_other(tagger: Tagger) -> None:
    """A text has the same entities among others as alone."""
    texts = [TURING, "", ENVER, "Ankara", TURING]
    together, alone = tagger(texts), [tagger([text])[0] for text in texts]
    for one, other in zip(together, alone, strict=True):
        assert one.words == other.words
        assert one.tags == other.tags
        assert [entity.score for entity in one.entities] == pytest.approx(
            [entity.score for entity in other.entities], abs=1e-5
        )


def test_nothing_to_tag(tagger: Tagger) -> None:
    """No text, an empty one and white space have no words and no entities."""
    assert tagger([]) == []
    assert [(tagged.words, tagged.tags, tagged.entities) for tagged in tagger(["", " \n\t"])] == [([], [], [])] * 2


def test_string_is_one_text(tagger: Tagger) -> None:
    """A string gives what a sequence of it alone gives the first of; of any other sequence there is a list."""
    for text in (TURING, "", "A"):
        tagged = tagger(text)
        assert isinstance(tagged, Tagged)
        assert [tagged] == tagger([text]) == tagger((text,))
    assert [tagged.text for tagged in tagger(list("ab"))] == ["a", "b"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["Ankara", None], "texts[1] is of type NoneType; use a string"),
        ([b"Ankara"], "texts[0] is of type bytes; use a string"),
        ([["Ankara"]], "texts[0] is of type list; use a string"),
        (b"Ankara", "texts is of type bytes; use a string or a sequence of strings"),
        (None, "texts is of type NoneType; use a string or a sequence of strings"),
        (3, "texts is of type int; use a string or a sequence of strings"),
    ],
    ids=repr,
)
def test_texts_that_are_none(tagger: Tagger, texts: object, message: str) -> None:
    """The error for a value that is not a text names its place and type."""
    with pytest.raises(TypeError) as caught:
        tagger(texts)
    assert str(caught.value) == message


def test_word_without_pieces_is_outside(tagger: Tagger) -> None:
    """A word that the tokenizer makes nothing of has the tag O."""
    assert tagger(["Ali \u200b Ankara"])[0].tags[1] == "O"


def test_long_text(tagger: Tagger, folder: str) -> None:
    """A text of many windows is tagged to its end, with right offsets, stretch by stretch as if each stood alone."""
    text = " ".join([ENVER] * 200)
    tagged = tagger([text])[0]
    words = [word.text for word in tagged.words]
    assert len(tagged.tags) == len(words) == 200 * len(split_words(ENVER))
    assert all(entity.text == text[entity.start : entity.end] for entity in tagged.entities)
    assert tagged.entities[-1].end > len(text) - len(ENVER)
    last = tagged.words[len(words) // tagger.longest * tagger.longest]
    assert tagged.tags[-1:] == tagger([text[last.start :]])[0].tags[-1:]
    short = Tagger(folder, max_length=16)
    assert len(short([text])[0].tags) == len(words)


def test_model_without_a_head_is_refused(
    tiny_backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backbone, whose tags would be noise, a folder of something else and no folder at all are one clear line."""
    for model, problem in (
        (tiny_backbone, "no trained head"),
        (str(tmp_path), "config.json"),
        ("nowhere", "not a folder"),
    ):
        with pytest.raises(SystemExit) as raised:
            main(["tag", "--model", model, "Ankara"])
        error = capsys.readouterr().err.strip()
        assert raised.value.code == 2
        assert f"model={model!r}" in error
        assert problem in error
        assert "\n" not in error


def test_prints_words_over_tags(
    folder: str, tagger: Tagger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command prints each text's words over its tags, wrapped at the terminal's width, texts apart by a line."""
    monkeypatch.setenv("COLUMNS", "60")
    main(["tag", "--model", folder, TURING, "Ankara"])
    blocks = [block.splitlines() for block in capsys.readouterr().out.strip("\n").split("\n\n")]
    assert max(len(line) for block in blocks for line in block) <= 60
    first, second = tagger([TURING, "Ankara"])
    assert [word for block in blocks for word in block[0].split()] == [word.text for word in first.words + second.words]
    assert [tag for block in blocks for tag in block[1].split()] == first.tags + second.tags
    assert blocks[-1][0] == "Ankara"


@pytest.mark.parametrize("piped", [False, True])
def test_prints_json_lines(
    folder: str, tagger: Tagger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, piped: bool
) -> None:
    """With --json each text, argument or line of standard input, is one object with its words, tags and entities."""
    texts = [TURING, "", ENVER]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(texts) + "\n"))
    main(["tag", "--json", "--model", folder, *([] if piped else texts)])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["text"] for each in found] == texts
    for each, tagged in zip(found, tagger(texts), strict=True):
        assert list(each) == ["text", "words", "tags", "entities"]
        assert each["words"] == [word.text for word in tagged.words]
        assert each["tags"] == tagged.tags
        assert len(each["entities"]) == len(tagged.entities)
        for entity in each["entities"]:
            assert list(entity) == ["type", "text", "start", "end", "score"]
            assert each["text"][entity["start"] : entity["end"]] == entity["text"]


def test_input_is_read_lazily(folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are printed while standard input is read, so that it may be larger than the memory."""
    ahead = [0]

    def lines() -> Iterator[str]:
        for _ in range(600):
            ahead.append(ahead[-1] + 1 - capsys.readouterr().out.count("\n"))
            yield "Ankara\n"

    monkeypatch.setattr("sys.stdin", lines())
    main(["tag", "--json", "--model", folder])
    assert max(ahead) <= 256


def test_input_that_is_no_text(
    folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard input in another encoding is one clear line, not a traceback."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("Şişli".encode("iso-8859-9")), encoding="utf-8"))
    with pytest.raises(SystemExit):
        main(["tag", "--model", folder])
    assert "UTF-8" in capsys.readouterr().err
