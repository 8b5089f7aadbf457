import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.sources import random_sentences
from xner.backbone.tokenizer import load_tokenizer
from xner.batch import Batch
from xner.data.encode import Encoded, encode
from xner.data.packing import RowDataset, fit_rows
from xner.data.sampler import ROW_STEP, BatchIndices, round_up
from xner.data.sources import SAMPLE, Sentences
from xner.tags import IGNORE, PANX

PADDING = 1

lengths_and_width = st.integers(1, 70).flatmap(
    lambda width: st.tuples(st.lists(st.integers(1, width), max_size=40), st.just(width))
)


def random_encoded() -> Encoded:
    """Sentences of one to four windows, with words that have no piece."""
    sentences = random_sentences("tr", 40)
    for number in (3, 17, 18):
        sentences.words[number].insert(1, "\u200b")
        sentences.tags[number].insert(1, "B-PER")
    sentences.words.append(["\u200b"])
    sentences.tags.append(["O"])
    return encode(sentences, load_tokenizer(str(SAMPLE / "backbone")), max_length=9, tag_set=PANX)


ENCODED = random_encoded()

batches = st.lists(st.integers(0, len(ENCODED) - 1), min_size=1, max_size=32, unique=True).map(
    lambda sentences: BatchIndices(np.array(sentences, dtype=np.int64), 7)
)
datasets = st.builds(
    RowDataset,
    st.just(ENCODED),
    padding_id=st.just(PADDING),
    row_length=st.sampled_from([None, 1, 16, 64]),
    few_shapes=st.booleans(),
)


@given(lengths_and_width)
def test_fit_rows(lengths_and_width: tuple[list[int], int]) -> None:
    """Windows lie inside their rows and do not overlap, no row is empty, and few rows are needed."""
    lengths, width = lengths_and_width
    starts, rows = fit_rows(lengths, width)
    taken = np.zeros((rows, width), dtype=int)
    for length, start in zip(lengths, starts, strict=True):
        row, column = divmod(start, width)
        assert column + length <= width
        taken[row, column : column + length] += 1
    assert taken.max(initial=0) <= 1
    assert (taken[:, :1] == 1).all()
    filled = taken.sum(axis=1)
    # First-fit: two rows that would go into one do not exist.
    assert all(filled[one] + filled[other] > width for one in range(rows) for other in range(one))


def check(batch: Batch, indices: BatchIndices) -> None:
    """Compare a batch with the sentences that it consists of."""
    rows, width = batch.pieces.shape
    for field in ("positions", "windows", "labels"):
        assert getattr(batch, field).shape == (rows, width)
    assert batch.probabilities is None
    for field in batch._fields[:-1]:
        assert getattr(batch, field).dtype == torch.int64, field
    padding = batch.windows == 0
    assert (batch.pieces[padding] == PADDING).all()
    assert (batch.positions[padding] == 0).all()
    assert (batch.labels[padding] == IGNORE).all()

    expected = [
        (ENCODED.pieces[start:end].tolist(), ENCODED.labels[start:end].tolist())
        for sentence in indices.sentences
        for window in range(*ENCODED.sentence_window[sentence : sentence + 2])
        for start, end in [ENCODED.window_start[window : window + 2]]
    ]
    found = []
    for number in range(1, int(batch.windows.max()) + 1):
        places = (batch.windows.flatten() == number).nonzero().flatten()
        assert (places // width).unique().numel() == 1, "a window lies in one row"
        assert (places.diff() == 1).all(), "without a gap"
        assert batch.positions.flatten()[places].tolist() == [*range(len(places))]
        found.append((batch.pieces.flatten()[places].tolist(), batch.labels.flatten()[places].tolist()))
    assert found == expected

    words = [range(*ENCODED.sentence_word[sentence : sentence + 2]) for sentence in indices.sentences]
    gold = [ENCODED.word_label[list(numbers)].tolist() for numbers in words]
    assert batch.word_label.tolist() == sum(gold, [])  # noqa: RUF017 - short
    assert batch.word_sentence.tolist() == [place for place, numbers in enumerate(words) for _ in numbers]
    assert batch.sentences.tolist() == indices.sentences.tolist()
    assert int(batch.step_words) == indices.step_words
    without = [bool(ENCODED.word_piece[word] < 0) for numbers in words for word in numbers]
    assert (batch.word_piece < 0).tolist() == without
    placed = batch.word_piece[batch.word_piece >= 0]
    assert batch.labels.flatten()[placed].tolist() == batch.word_label[batch.word_piece >= 0].tolist()
    assert sorted(placed.tolist()) == (batch.labels.flatten() != IGNORE).nonzero().flatten().tolist()
    pieces = [ENCODED.pieces[ENCODED.word_piece[word]] for numbers in words for word in numbers]
    assert batch.pieces.flatten()[placed].tolist() == [
        piece for piece, no_piece in zip(pieces, without, strict=True) if not no_piece
    ]


@given(datasets, batches)
def test_every_piece_is_in_one_place(rows: RowDataset, indices: BatchIndices) -> None:
    """Packed or not, a batch contains each window once, with its number, its positions and the labels of its words."""
    check(rows[indices], indices)


@given(batches, st.sampled_from([None, 16, 64]))
def test_packed_and_unpacked_agree(indices: BatchIndices, row_length: int | None) -> None:
    """Packing moves pieces, and nothing else about a word changes."""
    packed, padded = (
        RowDataset(ENCODED, padding_id=PADDING, row_length=row_length if packing else None)[indices]
        for packing in (True, False)
    )
    for field in ("word_label", "word_sentence", "sentences", "step_words"):
        assert torch.equal(getattr(packed, field), getattr(padded, field))
    for field in ("pieces", "positions", "labels"):
        of_word = [getattr(batch, field).flatten()[batch.word_piece.clamp(min=0)] for batch in (packed, padded)]
        assert torch.equal(*(values.masked_fill(packed.word_piece < 0, 0) for values in of_word))


@given(batches)
def test_padded_rows(indices: BatchIndices) -> None:
    """Without packing, each window has a row of its own, padded to the longest."""
    batch = RowDataset(ENCODED, padding_id=PADDING, row_length=None)[indices]
    assert (batch.windows[:, 0] == torch.arange(1, len(batch.windows) + 1)).all()
    assert (batch.windows > 0).any(dim=0).all()


@given(batches, st.sampled_from([1, 16, 64]))
def test_width(indices: BatchIndices, row_length: int) -> None:
    """A row holds the longest window, which has whole steps, and a batch is not larger than at the given width."""
    batch = RowDataset(ENCODED, padding_id=PADDING, row_length=row_length)[indices]
    windows = [number for sentence in indices.sentences for number in range(*ENCODED.sentence_window[sentence:][:2])]
    lengths = np.diff(ENCODED.window_start)[windows].tolist()
    width = round_up(max(row_length, *lengths), ROW_STEP)
    assert max(lengths) <= batch.pieces.shape[1]
    assert batch.pieces.shape[1] % ROW_STEP == 0
    assert batch.pieces.numel() <= fit_rows(lengths, width)[1] * width


@pytest.mark.parametrize("row_length", [None, 64])
def test_empty_batch(row_length: int | None) -> None:
    """A batch without sentences is one row of padding, so that its rank can take part in the step."""
    indices = BatchIndices(np.array([], dtype=np.int64), 12)
    batch = RowDataset(ENCODED, padding_id=PADDING, row_length=row_length)[indices]
    assert batch.pieces.shape[0] == 1
    assert batch.pieces.shape[1] >= 1
    assert not batch.windows.any()
    assert all(len(values) == 0 for values in (batch.word_piece, batch.word_label, batch.word_sentence))
    check(batch, indices)


def test_words_without_any_piece() -> None:
    """A sentence whose words have no pieces keeps its words, with -1 for their first piece."""
    indices = BatchIndices(np.array([len(ENCODED) - 1]), 0)
    batch = RowDataset(ENCODED, padding_id=PADDING)[indices]
    assert batch.word_piece.tolist() == [-1]
    assert (batch.labels == IGNORE).all()


def test_one_sentence_of_one_word() -> None:
    """The smallest data set has one row."""
    encoded = encode(Sentences([["London"]], [["B-LOC"]]), load_tokenizer(str(SAMPLE / "backbone")), 512, PANX)
    rows = RowDataset(encoded, padding_id=PADDING)
    assert len(rows) == 1
    assert rows[BatchIndices(np.array([0]), 1)].word_piece.tolist() == [1]


def test_few_shapes() -> None:
    """Rounded up, the batches of an epoch have few shapes, packed or not."""
    rng = np.random.default_rng(0)
    for row_length, most in ((64, 6), (None, 12)):
        rows = RowDataset(ENCODED, padding_id=PADDING, row_length=row_length, few_shapes=True)
        shapes = {rows[BatchIndices(rng.permutation(len(ENCODED))[:8], 1)].pieces.shape for _ in range(200)}
        assert len(shapes) <= most
