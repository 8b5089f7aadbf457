import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import pipeline

from tests.model.tiny import quiet_trainer
from xner import PanxDataModule, TokenClassifier, run_test
from xner.data.encode import Encoded
from xner.data.sources import Split
from xner.errors import UserError
from xner.tagger import Tagged, Tagger
from xner.tags import PANX, spans
from xner.words import split_words

TURING = "Alan Mathison Turing was an English mathematician, computer scientist from London."
ENVER = "Vardar Kapısı'ndan çıkarken nişanlarımı söktüm, biraz müteessirdim. Böyle yakındı Enver Paşa"

TEXTS = st.text() | st.lists(
    st.sampled_from(
        [
            "東京",
            "か\u3099",
            "กรุงเทพ",
            "🇹🇷",
            "e\u0301",
            "\u202eالقاهرة\u202c",
            "\ud83d",
            "👍🏽",
            "Ankara'da",
            "Dr.",
            "U.S.",
            "n't",
            "'s",
            "(",
            "...",
            "a,b",
            "👨‍👩‍👧",
            "❤️",
            "\u200b",
            "\x00",
            "\ufeff",
            "हिन्दी",
        ]
    )
    | st.text(max_size=5)
).flatmap(lambda parts: st.sampled_from([" ", "", "\n\t"]).map(lambda gap: gap.join(parts)))


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
        assert all(left.end <= right.start for left, right in pairwise(tagged.entities))
        for entity in tagged.entities:
            assert entity.text == tagged.text[entity.start : entity.end]
            assert entity.text == entity.text.strip() != ""
            assert 1 / len(PANX.tags) <= entity.score <= 1


def test_tags_are_the_networks(tagger: Tagger, tagging_model: str) -> None:
    """Tags and scores are what transformers' own network says of each word's first piece."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    network, tokenizer = (
        AutoModelForTokenClassification.from_pretrained(tagging_model),
        AutoTokenizer.from_pretrained(tagging_model),
    )
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


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        ("Ali gitti", "sentences is a string; use a list with the words of each sentence"),
        (["Ali", "gitti"], "sentences[0] is of type str; use a sequence of words"),
        ([["Ali", None]], "sentences[0][1] is of type NoneType; use a string"),
    ],
    ids=repr,
)
def test_words_that_are_none(tagger: Tagger, sentences: object, message: str) -> None:
    """A text in place of words would be tagged letter by letter, so it is refused."""
    with pytest.raises(TypeError) as caught:
        tagger.tag_words(sentences)
    assert str(caught.value) == message


def test_words_with_a_lone_surrogate(tagger: Tagger) -> None:
    """A word that UTF-8 cannot encode is tagged as it is in a text."""
    assert tagger.tag_words([["Ali", "\ud800"]])[0].text == "Ali ?"


def test_device_that_is_not_there(tagging_model: str) -> None:
    """An unknown device is one line, as everything that a user can mistake."""
    with pytest.raises(UserError, match=r"device='nope' cannot be used \(.+\); use cpu, cuda or None"):
        Tagger.from_pretrained(tagging_model, device="nope")


def test_threads(tagger: Tagger) -> None:
    """Several threads that share a tagger get what each would get alone."""
    texts = [" ".join(words) for words in Split("sample", "tr", "test").sentences.words[:24]]
    alone = [tagger(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for found, expected in zip(pool.map(tagger, texts), alone, strict=True):
                assert found.tags == expected.tags
                assert [each[:4] for each in found.entities] == [each[:4] for each in expected.entities]


def test_word_without_pieces_is_outside(tagger: Tagger) -> None:
    """A word that the tokenizer makes nothing of has the tag O."""
    assert tagger(["Ali \u200b Ankara"])[0].tags[1] == "O"


def test_tiny_windows(tagging_model: str) -> None:
    """A border of windows that no word is near has no bridge, and every word has a tag."""
    words = "bir üzerine Devletleri tarafından tarafından : Parti YÖNLENDİRME satranç".split()
    [tagged] = Tagger.from_pretrained(tagging_model, max_length=6).tag_words([words])
    assert len(tagged.tags) == len(words)


@pytest.mark.parametrize("max_length", [16, 40, pytest.param(512, marks=pytest.mark.slow)])
def test_long_text(tagging_model: str, max_length: int) -> None:
    """Of a text of many windows, each word is tagged by a window in which a quarter of it is on either side."""
    tagger = Tagger.from_pretrained(tagging_model, max_length=max_length)
    text = " ".join([ENVER, "\u200b", TURING] * (2000 // max_length + 2))
    tagged = tagger(text)
    assert all(entity.text == text[entity.start : entity.end] for entity in tagged.entities)
    words = [word.text for word in tagged.words]
    sizes = [len(tagger.tokenizer.tokenize(word)) for word in words]
    inner = max_length // 2 - 2
    for word in range(0, len(words), max(1, len(words) // 25)):
        if not sizes[word]:
            assert tagged.tags[word] == "O"
            continue
        # Any window with that context has nearly the same opinion; the tagger's own is one of them.
        found = set()
        for first in range(word + 1):
            left = sum(sizes[first:word])
            if left > max_length - 2:
                continue
            end = word + 1
            while end < len(words) and sum(sizes[first : end + 1]) <= max_length - 2:
                end += 1
            right = sum(sizes[word + 1 : end])
            if (first == 0 or left >= inner // 2 - max(sizes)) and (
                end == len(words) or right >= inner // 2 - max(sizes)
            ):
                found.add(tagger.tag_words([words[first:end]])[0].tags[word - first])
        assert tagged.tags[word] in found


def test_windows_overlap(tagging_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word at the border of two windows is tagged as in the middle of a text, which a window's end would not be."""
    tagger = Tagger.from_pretrained(tagging_model, max_length=42)
    words = [f"Ankara{number}" for number in range(400)]
    seen: list[list[list[str]]] = []
    encode = tagger._encode

    def watched(sentences: Sequence[Sequence[str]]) -> Encoded:
        seen.append([[*sentence] for sentence in sentences])
        return encode(sentences)

    monkeypatch.setattr(tagger, "_encode", watched)
    tagger.tag_words([words])
    [[whole], bridges] = seen
    assert whole == words
    assert len(bridges) >= 20
    # Bridges are in the order of the text, do not overlap, and each has whole words of one window.
    flat = [word for bridge in bridges for word in bridge]
    assert sorted({*flat}, key=words.index) == flat
    encoded = encode(bridges)
    assert (encoded.sentence_pieces <= 42).all()
    assert len(encoded.window_start) == len(bridges) + 1


def test_words_of_a_corpus(tagger: Tagger) -> None:
    """Words are tagged as they are, whatever they are; their text has a space between them."""
    sentences = [["Alan", "Turing's", "", "a b"], [], ["Ankara", "\u200b"]]
    tagged = tagger.tag_words(sentences)
    assert [each.text for each in tagged] == ["Alan Turing's  a b", "", "Ankara \u200b"]
    for each, words in zip(tagged, sentences, strict=True):
        assert [word.text for word in each.words] == words
        assert all(each.text[word.start : word.end] == word.text for word in each.words)
        assert len(each.tags) == len(words)


def test_scores_are_calibrated(tagging_model: str, tagger: Tagger) -> None:
    """A temperature changes scores as it should and no tag."""
    hot = Tagger.from_pretrained(tagging_model)
    hot.network.temperature = 2.0
    one, other = tagger([TURING, ENVER]), hot([TURING, ENVER])
    assert [each.tags for each in one] == [each.tags for each in other]
    scores = [[entity.score for each in some for entity in each.entities] for some in (one, other)]
    assert all(cold > warm for cold, warm in zip(*scores, strict=True))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("東京タワーは1958年。", "東 京 タ ワ ー は 1958 年 。"),
        ("か\u3099くせい", "か\u3099 く せ い"),
        ("กรุงเทพฯ ABC", "ก รุ ง เ ท พ ฯ ABC"),
        ("Ankara👨‍👩‍👧Paris 👍🏽!", "Ankara 👨‍👩‍👧 Paris 👍🏽 !"),
        ("🇹🇷🇩🇪", "🇹🇷 🇩🇪"),
        ("Ange\u0301lique e\u0301", "Ange\u0301lique e\u0301"),
        ("ראובן, في القاهرة.", "ראובן , في القاهرة ."),
    ],
)
def test_words_without_spaces(text: str, words: str) -> None:
    """Chinese, Japanese and Thai are split into characters with their marks; emoji and accented letters stay whole."""
    assert [word.text for word in split_words(text)] == words.split(" ")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder that was trained on the sample."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    data = PanxDataModule(source="sample", backbone="sample", languages=["en", "tr"], batch_size=16)
    model = TokenClassifier(backbone="sample", learning_rate=3e-3)
    quiet_trainer(max_epochs=2).fit(model, datamodule=data)
    model.network.save(folder)
    return str(folder)


@pytest.mark.parametrize("language", ["en", "tr"])
def test_pipeline_of_transformers_agrees(trained: str, language: str) -> None:
    """The pipeline opens a folder without a warning, and finds the same entities where both have the same words."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe = pipeline("token-classification", model=trained, aggregation_strategy="first", device="cpu")
    tagger = Tagger.from_pretrained(trained)
    sentences = Split("sample", language, "test").sentences.words
    texts = []
    for words in sentences:
        text = " ".join(words)
        # To the pipeline, a subword that the tokenizer does not know, or the bare mark of a word, is a word of its own.
        apart = {tagger.tokenizer.unk_token, "▁"} & {*tagger.tokenizer.tokenize(text)}
        if not apart and [word.text for word in split_words(text)] == words:
            texts.append(text)
    assert len(texts) > 100
    # It does not know the words of a tokenizer of this kind, and says so at each call.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tokenizer does not support real words")
        found = pipe(texts, batch_size=32)
    own = [[(each.type, each.start, each.end) for each in tagged.entities] for tagged in tagger(texts)]
    theirs = [[(each["entity_group"], each["start"], each["end"]) for each in text] for text in found]
    assert sum(map(len, own)) > 100
    assert theirs == own


def test_words_of_a_test_have_its_spans(trained: str) -> None:
    """On the words of a test split, the Tagger finds the spans that test does."""
    data = PanxDataModule(source="sample", backbone=trained, languages=["tr"])
    model = TokenClassifier(backbone=trained)
    [tested] = run_test(quiet_trainer(), model, data)
    tags = model.network.tag_set.tags
    sentences = Split("sample", "tr", "test").sentences.words
    tagged = Tagger.from_pretrained(trained).tag_words(sentences)
    assert [tag for each in tagged for tag in each.tags] == [tags[label] for label in tested.words.predicted.tolist()]
