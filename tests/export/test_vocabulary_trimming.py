import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedTokenizerFast

from tests.backbones import make
from tests.model.tiny import pretrained_backbone
from xner.backbone.tokenizer import load_tokenizer
from xner.data.sources import Split
from xner.errors import UserError
from xner.export.vocabulary_trimming import (
    check_trimmable,
    kept_pieces,
    texts_of,
    trim_tokenizer,
    trim_vocabulary,
)
from xner.lineage import read_lineage
from xner.tagger import Tagger

PIECES = st.text("abc", min_size=1, max_size=3)
TEXTS = st.lists(st.text("abcd ", max_size=12), max_size=4)


def segments_alike(fast: Tokenizer, texts: list[str]) -> None:
    """Assert that a tokenizer trimmed to some texts splits them as before, and that no id is out of its range."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=fast, unk_token="<unk>")
    kept = kept_pieces(tokenizer, texts)
    trimmed = Tokenizer.from_str(json.dumps(trim_tokenizer(json.loads(fast.to_str()), kept)))
    assert trimmed.get_vocab_size() == len(kept)
    for text in texts:
        before, after = (each.encode(text) for each in (fast, trimmed))
        assert before.tokens == after.tokens
        assert before.ids == [kept[piece] for piece in after.ids]


@given(scores=st.dictionaries(PIECES, st.integers(-40, 0)), texts=TEXTS)
def test_unigram_is_exact(scores: dict[str, int], texts: list[str]) -> None:
    """Any Unigram vocabulary, with equal scores and single characters that are no pieces, is trimmed exactly."""
    fast = Tokenizer(models.Unigram([("<unk>", 0.0), *((piece, float(score)) for piece, score in scores.items())], 0))
    fast.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    segments_alike(fast, texts)


def test_lowest_score_stays() -> None:
    """Without a piece of the lowest score, an unknown piece would gain, and a text would be split otherwise."""
    vocabulary = [("<unk>", 0.0), ("ab", -9.0), ("cd", -9.0), ("ef", -9.0), ("bcdef", -1.0), ("xyz", -50.0)]
    fast = Tokenizer(models.Unigram(vocabulary, 0))
    assert fast.encode("abcdef").tokens == ["ab", "cd", "ef"]
    content = trim_tokenizer(json.loads(fast.to_str()), [0, 1, 2, 3, 4])
    assert Tokenizer.from_str(json.dumps(content)).encode("abcdef").tokens == ["a", "bcdef"]
    segments_alike(fast, ["abcdef", "bcdef"])


@given(pieces=st.sets(PIECES | PIECES.map("##{}".format)), texts=TEXTS)
def test_wordpiece_is_exact(pieces: set[str], texts: list[str]) -> None:
    """Any WordPiece vocabulary is trimmed exactly, and a word that was unknown is not split in another way."""
    vocabulary = {piece: number for number, piece in enumerate(["<unk>", *sorted(pieces)])}
    fast = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    fast.normalizer = normalizers.BertNormalizer()
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    segments_alike(fast, texts)


@given(number=st.integers(0, 199), texts=st.lists(st.text(max_size=8), max_size=3))
def test_sample_is_exact(number: int, texts: list[str]) -> None:
    """The tokenizer of the sample, with the normalizer and the special tokens of XLM-R, is trimmed exactly."""
    sentence = Split("sample", "tr", "train").sentences.words[number]
    segments_alike(load_tokenizer("sample").backend_tokenizer, [*texts_of(sentence), *texts])


@pytest.fixture(scope="module", params=["xlm-r", "mbert", "mdeberta", "mdeberta of the hub"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token classifier of each family, with a record of what it was trained on."""
    folder = tmp_path_factory.mktemp("models")
    if request.param == "xlm-r":
        pretrained_backbone(folder / "model")
    else:
        backbone = make(request.param, folder / "backbone")
        network = AutoModelForTokenClassification.from_pretrained(backbone, num_labels=7, dtype=torch.float32)
        tags = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
        network.config.id2label = dict(enumerate(tags))
        network.config.label2id = {tag: label for label, tag in enumerate(tags)}
        network.save_pretrained(folder / "model")
        for path in backbone.iterdir():
            if path.name.startswith(("token", "spm", "vocab", "special")):
                (folder / "model" / path.name).write_bytes(path.read_bytes())
    (folder / "model" / "lineage.json").write_text('{"origin": "it", "episodes": []}')
    return folder / "model"


def test_model_is_exact(model: Path, tmp_path: Path) -> None:
    """The logits of a trimmed model are the same to the last bit, and it has fewer rows, loads and tags."""
    words = Split("sample", "en", "test").sentences.words[:40]
    texts = [text for sentence in words for text in texts_of(sentence)]
    sizes = trim_vocabulary(str(model), texts, tmp_path)
    assert sizes.pieces[1] < sizes.pieces[0]
    whole, trimmed = (AutoModelForTokenClassification.from_pretrained(each).eval() for each in (model, tmp_path))
    hidden = trimmed.config.hidden_size
    assert sizes.parameters[0] - sizes.parameters[1] == hidden * (sizes.pieces[0] - sizes.pieces[1])
    assert trimmed.config.vocab_size == sizes.pieces[1] == trimmed.get_input_embeddings().num_embeddings
    tokenizers = load_tokenizer(str(model)), AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizers[1].is_fast
    assert tokenizers[0].special_tokens_map == tokenizers[1].special_tokens_map
    assert trimmed.config.pad_token_id == tokenizers[1].pad_token_id == whole.config.pad_token_id
    for sentence in words:
        inputs = [
            each(sentence, is_split_into_words=True, return_tensors="pt", return_token_type_ids=False)
            for each in tokenizers
        ]
        assert inputs[0].word_ids() == inputs[1].word_ids()
        with torch.inference_mode():
            one, other = (net(**given).logits for net, given in zip((whole, trimmed), inputs, strict=True))
        assert torch.equal(one, other)
    assert read_lineage(str(tmp_path))["origin"] == read_lineage(str(model))["origin"] == "it"
    assert Tagger.from_pretrained(str(tmp_path))("Zoë 漢字 ★ Ankara").words


def test_unknown_pieces(tmp_path: Path) -> None:
    """A character that the text does not have is the tokenizer's own unknown piece; its new words are spelled."""
    pretrained_backbone(tmp_path / "model")
    (tmp_path / "small").mkdir()
    trim_vocabulary(str(tmp_path / "model"), ["Ankara"], tmp_path / "small")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "small")
    assert tokenizer.unk_token_id == 3
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<s>", "<pad>", "</s>", "<unk>"]
    assert 3 in tokenizer("Ż")["input_ids"]
    assert 3 not in tokenizer("nara")["input_ids"]
    assert tokenizer("x")["input_ids"][0] == 0
    assert tokenizer.mask_token_id == len(tokenizer) - 1
    rows = load_file(tmp_path / "small" / "model.safetensors")["roberta.embeddings.word_embeddings.weight"]
    assert len(rows) == len(tokenizer)


def test_bpe_is_refused(tmp_path: Path) -> None:
    """A tokenizer of merges is refused in one line."""
    fast = Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel()
    fast.train_from_iterator(["Ankara is large"], BpeTrainer(special_tokens=["<unk>", "<pad>"]))
    PreTrainedTokenizerFast(tokenizer_object=fast, unk_token="<unk>", pad_token="<pad>").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has a BPE tokenizer"):
        check_trimmable(str(tmp_path))
