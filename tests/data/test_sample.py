"""The embedded sample and its backbone."""

import json
from collections.abc import Iterator

import pytest
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedTokenizerBase

from tests.make_sample import backbone, sentences, turkish
from xner.data.sources import SAMPLE
from xner.tags import PANX, invalid_tags, spans

BACKBONE = SAMPLE / "backbone"
LANGUAGES = ("en", "tr")


@pytest.fixture(scope="module")
def splits() -> dict[str, dict[str, list[sentences.Sentence]]]:
    return {language: read(language) for language in LANGUAGES}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(BACKBONE)


def read(language: str) -> dict[str, list[sentences.Sentence]]:
    found = {}
    for split in sentences.SIZES:
        text = (SAMPLE / language / f"{split}.tsv").read_text(encoding="utf-8")
        pairs = [[line.split("\t") for line in block.splitlines()] for block in text.strip("\n").split("\n\n")]
        found[split] = [sentences.Sentence(*map(tuple, zip(*block, strict=True))) for block in pairs]
    return found


def entities(made: list[sentences.Sentence]) -> Iterator[tuple[str, str]]:
    """Yield the type and the name of each entity, a Turkish name without its case suffix."""
    for sentence in made:
        for span in spans(sentence.tags):
            yield span.type, " ".join(sentence.words[span.first : span.last + 1]).split("'")[0]


@pytest.mark.parametrize("language", LANGUAGES)
def test_files_equal_the_generated_ones(language: str) -> None:
    """The committed files equal, byte by byte, what ``python -m tests.make_sample.sentences`` writes."""
    for split, made in sentences.splits(language).items():
        assert (SAMPLE / language / f"{split}.tsv").read_bytes() == sentences.as_tsv(made).encode()


@pytest.mark.parametrize("language", LANGUAGES)
def test_sizes(splits: dict[str, dict[str, list[sentences.Sentence]]], language: str) -> None:
    """Each split has the number of sentences of the generator, enough for subsets of 400."""
    assert {split: len(made) for split, made in splits[language].items()} == sentences.SIZES
    assert sentences.SIZES["train"] >= 400


@pytest.mark.parametrize("language", LANGUAGES)
def test_tags_are_valid(splits: dict[str, dict[str, list[sentences.Sentence]]], language: str) -> None:
    """Every tag sequence is valid IOB2, and every split has enough entities of every type to be scored."""
    for made in splits[language].values():
        assert not any(invalid_tags(sentence.tags) for sentence in made)
        types = [type_ for type_, _ in entities(made)]
        assert all(types.count(type_) >= 30 for type_ in PANX.types)


@pytest.mark.parametrize("language", LANGUAGES)
def test_splits_share_no_sentence(splits: dict[str, dict[str, list[sentences.Sentence]]], language: str) -> None:
    """No two sentences of a language have the same words, within a split or across."""
    words = [sentence.words for made in splits[language].values() for sentence in made]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize("language", LANGUAGES)
def test_test_split_has_unseen_names(splits: dict[str, dict[str, list[sentences.Sentence]]], language: str) -> None:
    """Between a tenth and half of the test entities have a word that is not in the training sentences."""
    known = {word.split("'")[0] for sentence in splits[language]["train"] for word in sentence.words}
    names = [name for _, name in entities(splits[language]["test"])]
    unseen = sum(not known.issuperset(name.split()) for name in names) / len(names)
    assert 0.1 < unseen < 0.5


@pytest.mark.parametrize("language", LANGUAGES)
def test_context_matters(splits: dict[str, dict[str, list[sentences.Sentence]]], language: str) -> None:
    """Some names of the training sentences have several types, depending on their context."""
    types: dict[str, set[str]] = {}
    for type_, name in entities(splits[language]["train"]):
        types.setdefault(name, set()).add(type_)
    assert sum(len(found) > 1 for found in types.values()) >= 10


def test_languages_share_some_names(splits: dict[str, dict[str, list[sentences.Sentence]]]) -> None:
    """Some names are in the training sentences of both languages, and more in only one of them."""
    english, turkish_names = ({name for _, name in entities(splits[language]["train"])} for language in LANGUAGES)
    assert len(english & turkish_names) >= 30
    assert len(english - turkish_names) >= 200
    assert len(turkish_names - english) >= 200
    assert not {"Londra", "İstanbul"} & english
    assert not {"London", "Istanbul"} & turkish_names


@pytest.mark.parametrize(
    ("name", "case", "expected"),
    [
        ("Ankara", "loc", "da"),
        ("Paris", "loc", "te"),
        ("Üsküdar", "gen", "ın"),
        ("Köln", "acc", "ü"),
        ("Bordeaux", "dat", "ya"),
        ("Üniversitesi", "loc", "nde"),
        ("Garı", "abl", "ndan"),
        ("Üniversitesi", "gen", "nin"),
        ("Yılmaz", "ins", "la"),
        ("UNESCO", "gen", "nun"),
        ("Ajax", "loc", "ta"),
        ("1990", "loc", "da"),
        ("2000", "loc", "de"),
        ("2013", "loc", "te"),
        ("mimar", "cop", "dır"),
    ],
)
def test_turkish_suffixes(name: str, case: str, expected: str) -> None:
    """Turkish suffixes follow vowel harmony, voicing and buffer letters."""
    assert turkish.suffix(name, case) == expected


def test_pretraining_text_has_no_sentence_of_the_sample(splits: dict[str, dict[str, list[sentences.Sentence]]]) -> None:
    """The pretraining text of the backbone contains no sentence of the sample, in either language."""
    text = {text for language in LANGUAGES for text in backbone.texts(language)}
    assert text.isdisjoint(" ".join(one.words) for made in splits.values() for split in made.values() for one in split)


def test_backbone_is_small() -> None:
    """The backbone has the files of a Hugging Face folder and weighs less than 1.5 MB."""
    files = {path.name: path.stat().st_size for path in BACKBONE.iterdir()}
    assert set(files) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert sum(files.values()) < 1_500_000


def test_backbone_loads() -> None:
    """The backbone loads as a token classifier: all weights are found, only the head is new."""
    model, report = AutoModelForTokenClassification.from_pretrained(BACKBONE, num_labels=7, output_loading_info=True)
    assert model.config.model_type == "xlm-roberta"
    assert model.config.pad_token_id == 1
    assert model.config.type_vocab_size == 1
    assert model.config.max_position_embeddings == 514
    assert model.config.hidden_dropout_prob == 0.1
    assert set(report["missing_keys"]) == {"classifier.weight", "classifier.bias"}


def test_tokenizer_has_the_layout_of_xlmr(tokenizer: PreTrainedTokenizerBase) -> None:
    """Special tokens have the ids of XLM-R, and the tokenizer has as many pieces as the model."""
    config = json.loads((BACKBONE / "config.json").read_text(encoding="utf-8"))
    assert len(tokenizer) == config["vocab_size"]
    assert tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>", "<mask>"]) == [
        *range(4),
        len(tokenizer) - 1,
    ]
    assert (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (
        0,
        1,
        2,
        3,
    )
    assert tokenizer.model_max_length == 512
    pieces = tokenizer(["Ankara'da", "\u200b", "ﬁ", "\ufeff"], is_split_into_words=True)
    assert set(pieces.word_ids()) == {None, 0, 2}
    assert pieces.tokens()[0] == "<s>"
    assert pieces.tokens()[-1] == "</s>"
    assert set(pieces) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_has_pieces(
    splits: dict[str, dict[str, list[sentences.Sentence]]], tokenizer: PreTrainedTokenizerBase, language: str
) -> None:
    """Every word of the sample has at least one piece, none of them unknown, and few words have many."""
    made = [list(sentence.words) for split in splits[language].values() for sentence in split]
    encoded = tokenizer(made, is_split_into_words=True)
    for number, words in enumerate(made):
        assert set(encoded.word_ids(number)) - {None} == set(range(len(words)))
        assert tokenizer.unk_token_id not in encoded["input_ids"][number]
    assert sum(len(pieces) - 2 for pieces in encoded["input_ids"]) < 2 * sum(map(len, made))
