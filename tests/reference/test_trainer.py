import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    XLMRobertaConfig,
    XLMRobertaForTokenClassification,
    XLMRobertaTokenizer,
)

from tests.reference.trainer import Outcome, Sentences, encode, main, read_tsv, train_and_evaluate
from xner.tags import IGNORE, PANX

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
PIECES = ["▁", "▁Ank", "ara", "'", "da", "▁Ali", "▁geldi", "▁London", "▁Bank", "s", "▁in"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny token classifier of random weights, large enough that its predictions differ."""
    folder = tmp_path_factory.mktemp("backbone")
    vocabulary = [(piece, 0.0) for piece in SPECIALS] + [(piece, -1.0 - len(piece) / 100) for piece in PIECES]
    XLMRobertaTokenizer(vocab=vocabulary).save_pretrained(folder)
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
        initializer_range=0.5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        id2label=dict(enumerate(PANX.tags)),
        label2id=PANX.labels,
    )
    XLMRobertaForTokenClassification(config).save_pretrained(folder)
    return folder


def random_sentences(number: int, *, seed: int) -> Sentences:
    generator = random.Random(seed)
    words = [
        generator.choices(["Ankara'da", "Ali", "geldi", "London", "Banks", "in"], k=generator.randint(1, 9))
        for _ in range(number)
    ]
    return Sentences(words=words, tags=[generator.choices(PANX.tags, k=len(sentence)) for sentence in words])


def word_logits(backbone: Path, words: Sequence[str]) -> torch.Tensor:
    """One sentence's logits, made with neither padding nor code of the Trainer. *Shape:* (words, tags)."""
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    pieces = [[tokenizer.convert_tokens_to_ids(piece) for piece in tokenizer.tokenize(word)] for word in words]
    firsts = [1 + sum(len(earlier) for earlier in pieces[:word]) for word in range(len(pieces))]
    row = [tokenizer.bos_token_id, *(piece for word in pieces for piece in word), tokenizer.eos_token_id]
    model = AutoModelForTokenClassification.from_pretrained(backbone, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([row])).logits[0, firsts]


def mean_loss(backbone: Path, sentences: Sentences, batch: Sequence[int]) -> float:
    """The mean over all words of a batch of the negative log-likelihood of their tags."""
    losses = [
        -word.log_softmax(dim=0)[PANX.labels[tag]].item()
        for sentence in batch
        for word, tag in zip(word_logits(backbone, sentences.words[sentence]), sentences.tags[sentence], strict=True)
    ]
    return sum(losses) / len(losses)


ORDER = [[3, 1, 4], [1, 5], [9, 2, 6], [5, 3, 5, 8]]


@pytest.fixture(scope="module")
def standstill(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run of two epochs that learns nothing, so that every step and evaluation sees the weights of the folder."""
    return train_and_evaluate(
        backbone=backbone,
        train=random_sentences(10, seed=1),
        validation=random_sentences(40, seed=2),
        output_dir=tmp_path_factory.mktemp("standstill"),
        epochs=2,
        learning_rate=0.0,
        order=ORDER,
        dropout=False,
        device="cpu",
    )


def test_encode_first_piece(backbone: Path) -> None:
    """A word's label stands on its first piece, and later pieces and specials are not scored."""
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    encoded = encode(
        words=[["Ali", "Ankara'da"], ["Banks"]],
        tags=[["B-PER", "B-LOC"], ["O"]],
        tokenizer=tokenizer,
        max_length=512,
    )
    pieces = ["<s>", "▁Ali", "▁Ank", "ara", "'", "da", "</s>"]
    assert tokenizer.convert_ids_to_tokens(encoded[0]["input_ids"]) == pieces
    assert encoded["labels"][:] == [
        [IGNORE, PANX.labels["B-PER"], PANX.labels["B-LOC"], IGNORE, IGNORE, IGNORE, IGNORE],
        [IGNORE, PANX.labels["O"], IGNORE, IGNORE],
    ]
    assert encoded["attention_mask"][:] == [[1] * 7, [1] * 4]


def test_encode_truncates(backbone: Path) -> None:
    """Pieces beyond max_length are cut off, and their labels too."""
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    encoded = encode(words=[["Ali"] * 9], tags=[["B-PER"] * 9], tokenizer=tokenizer, max_length=5)
    assert encoded["labels"][:] == [[IGNORE, *[PANX.labels["B-PER"]] * 3, IGNORE]]


def test_loss_is_mean_over_words(backbone: Path, standstill: Outcome) -> None:
    """The first step's loss is the mean cross-entropy over the batch's words, computed sentence by sentence."""
    assert standstill.losses[0] == pytest.approx(mean_loss(backbone, random_sentences(10, seed=1), ORDER[0]), abs=1e-5)


def test_order_is_obeyed(backbone: Path, standstill: Outcome) -> None:
    """Each step of each epoch trains on the sentences it was given, however many, and on no others."""
    expected = [mean_loss(backbone, random_sentences(10, seed=1), batch) for batch in ORDER]
    assert standstill.losses == pytest.approx(expected, abs=1e-5)
    assert len({round(loss, 3) for loss in expected}) == len(ORDER)
    assert standstill.timing.train_sentences == sum(len(batch) for batch in ORDER)


def test_order_must_fill_epochs(backbone: Path, tmp_path: Path) -> None:
    """An order that cannot be cut into equal epochs is refused before anything is trained."""
    with pytest.raises(ValueError, match="order has 4 batches, which do not make 3 epochs"):
        train_and_evaluate(
            backbone=backbone,
            train=random_sentences(10, seed=1),
            validation=None,
            output_dir=tmp_path,
            epochs=3,
            order=ORDER,
            device="cpu",
        )


def test_scores_are_seqeval(backbone: Path, standstill: Outcome) -> None:
    """Each epoch's scores are seqeval's of the likeliest tag of each word."""
    validation = random_sentences(40, seed=2)
    gold = [list(tags) for tags in validation.tags]
    predicted = [[PANX.tags[word.argmax()] for word in word_logits(backbone, words)] for words in validation.words]
    expected = {
        "precision": precision_score(gold, predicted),
        "recall": recall_score(gold, predicted),
        "f1": f1_score(gold, predicted),
        "accuracy": accuracy_score(gold, predicted),
    }
    assert 0 < expected["f1"] < 1
    assert len(standstill.scores) == 2
    for scores in standstill.scores:
        assert {name: score for name, score in scores.items() if name != "loss"} == expected


def test_learning_rate(backbone: Path, tmp_path: Path) -> None:
    """The learning rate rises over the warm-up's share of the steps and falls linearly to zero; the loss falls."""
    outcome = train_and_evaluate(
        backbone=backbone,
        train=random_sentences(4, seed=3),
        validation=None,
        output_dir=tmp_path,
        epochs=20,
        learning_rate=1e-2,
        warmup_ratio=0.2,
        batch_size=4,
        dropout=False,
        device="cpu",
    )
    expected = [step / 4 for step in range(4)] + [(20 - step) / 16 for step in range(4, 20)]
    assert outcome.learning_rates == pytest.approx([1e-2 * share for share in expected])
    assert outcome.losses[-1] < outcome.losses[0] / 2
    assert outcome.scores == []


def test_dropout_and_seed(backbone: Path, standstill: Outcome, tmp_path: Path) -> None:
    """Dropout is on unless it is turned off, and a seed repeats it."""
    first, again, other = (
        train_and_evaluate(
            backbone=backbone,
            train=random_sentences(10, seed=1),
            validation=None,
            output_dir=tmp_path,
            epochs=1,
            learning_rate=0.0,
            order=ORDER,
            device="cpu",
            seed=seed,
        ).losses
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert all(
        abs(with_dropout - without) > 1e-3 for with_dropout, without in zip(first, standstill.losses, strict=False)
    )


def test_read_tsv(tmp_path: Path) -> None:
    """Sentences end at blank lines alone, and words keep any other character."""
    file = tmp_path / "train.tsv"
    file.write_text("Ali\tB-PER\n\u2028\tO\n\nin\tO\n\nLondon\tB-LOC\n\n", encoding="utf-8")
    assert read_tsv(file) == Sentences(
        words=[["Ali", "\u2028"], ["in"], ["London"]], tags=[["B-PER", "O"], ["O"], ["B-LOC"]]
    )
    assert read_tsv(file, sentences=2).words == [["Ali", "\u2028"], ["in"]]


def test_command(backbone: Path, tmp_path: Path) -> None:
    """The command trains the steps it is told and leaves speed, memory, scores and losses as JSON."""
    sentences = random_sentences(12, seed=4)
    file = tmp_path / "train.tsv"
    file.write_text(
        "\n".join(
            "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True))
            for words, tags in zip(*sentences, strict=True)
        ),
        encoding="utf-8",
    )
    output = tmp_path / "report.json"
    files = ["--backbone", str(backbone), "--train", str(file), "--validation", str(file), "--output", str(output)]
    sizes = ["--validation_sentences", "5", "--max_steps", "3", "--batch_size", "4"]
    main([*files, *sizes, "--device", "cpu", "--precision", "bf16", "--group_by_length"])
    report = json.loads(output.read_text(encoding="utf-8"))
    assert len(report["losses"]) == report["steps"] == 3
    assert set(report["scores"][0]) == {"precision", "recall", "f1", "accuracy", "loss"}
    assert report["timing"]["steady_sentences"] == 8
    assert report["train_sentences_per_second"] > 0
    assert report["evaluation_sentences_per_second"] > 0
    assert report["peak_memory_bytes"] > 1e6
