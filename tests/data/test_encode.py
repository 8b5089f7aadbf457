import json
import logging
import shutil
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.sources import FORMATS, random_sentences
from xner.backbone.tokenizer import load_tokenizer
from xner.data import encode as encode_module
from xner.data import encoded_cache
from xner.data.encode import Encoded, EncodingStats, encode, join
from xner.data.encoded_cache import encode_split
from xner.data.hashes import span_hashes
from xner.data.sources import SAMPLE, SPLITS, Sentences, Split
from xner.errors import UserError
from xner.files import cache_folder
from xner.tags import IGNORE, PANX, find_spans, invalid_tags

TOKENIZER = load_tokenizer(str(SAMPLE / "backbone"))
SPECIALS = 2

# Words of one piece and of many, words that the tokenizer normalises, does not know, or makes nothing of.
word = st.one_of(
    st.sampled_from(
        ["the", "Ankara'da", "London", "Üniversitesi", "1990", "ﬁ", "x" * 9, "日本", "a b", "\u2028", "\xa0"]
    ),
    st.sampled_from(["\u200b", "\ufeff", "\u200b\ufeff"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\t\n"), min_size=1, max_size=12),
)
sentence = st.lists(st.tuples(word, st.sampled_from(PANX.tags)), min_size=1, max_size=12)
some_sentences = st.lists(sentence, min_size=1, max_size=5).map(
    lambda sentences: Sentences(
        [[word for word, _ in words] for words in sentences], [[tag for _, tag in words] for words in sentences]
    )
)


def windows_of(encoded: Encoded, sentence: int) -> list[range]:
    """Return the range of ``pieces`` of each window of a sentence."""
    first, last = encoded.sentence_window[sentence : sentence + 2]
    return [range(start, end) for start, end in pairwise(encoded.window_start[first : last + 1].tolist())]


def word_pieces(encoded: Encoded, sentence: int) -> list[int]:
    """Return the index of the first piece of each word of a sentence."""
    found: list[int] = encoded.word_piece[slice(*encoded.sentence_word[sentence : sentence + 2])].tolist()
    return found


def assert_equal(one: Encoded, other: Encoded) -> None:
    for field in fields(Encoded):
        mine, yours = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == yours.dtype, field.name
            assert np.array_equal(mine, yours), field.name
        else:
            assert mine == yours, field.name


def tokenized(sentences: Sequence[str]) -> list[list[int]]:
    """Tokenize words by the tokenizer alone, and return the pieces of each."""
    encoding = TOKENIZER(list(sentences), is_split_into_words=True)
    words = zip(encoding.word_ids(), encoding["input_ids"], strict=True)
    found: list[list[int]] = [[] for _ in sentences]
    for number, piece in words:
        if number is not None:
            found[number].append(piece)
    return found


@given(some_sentences)
def test_short_sentences_are_cut_as_the_tokenizer_does(sentences: Sentences) -> None:
    """A sentence within one window has the tokenizer's pieces, and the first piece of each word has its label."""
    encoded = encode(sentences, TOKENIZER, max_length=512, tag_set=PANX)
    assert len(encoded) == len(sentences)
    for number, (words, tags) in enumerate(zip(sentences.words, sentences.tags, strict=True)):
        expected = TOKENIZER(words, is_split_into_words=True)
        [window] = windows_of(encoded, number)
        assert encoded.pieces[window].tolist() == expected["input_ids"]
        labels = [IGNORE] * len(window)
        for place, (before, here) in enumerate(pairwise(expected.word_ids()), start=1):
            if here is not None and here != before:
                labels[place] = PANX.labels[tags[here]]
        assert encoded.labels[window].tolist() == labels
    assert encoded.stats.windows == len(sentences)
    assert encoded.stats.split_sentences == encoded.stats.cut_words == 0


@given(some_sentences, st.integers(SPECIALS + 1, 30))
def test_every_word_is_scored_once(sentences: Sentences, max_length: int) -> None:
    """Whatever the window length, each word with pieces has one labelled piece, the first; other words have none."""
    encoded = encode(sentences, TOKENIZER, max_length, PANX)
    assert encoded.word_label.tolist() == [PANX.labels[tag] for tags in sentences.tags for tag in tags]
    assert np.diff(encoded.sentence_word).tolist() == [len(words) for words in sentences.words]
    pieces = [found for words in sentences.words for found in tokenized(words)]
    placed = encoded.word_piece[encoded.word_piece >= 0]
    assert [place < 0 for place in encoded.word_piece] == [not found for found in pieces]
    assert (np.diff(placed) > 0).all()
    assert np.flatnonzero(encoded.labels != IGNORE).tolist() == placed.tolist()
    assert np.array_equal(encoded.labels[placed], encoded.word_label[encoded.word_piece >= 0])
    assert encoded.pieces[placed].tolist() == [found[0] for found in pieces if found]
    labelled = np.split(encoded.word_piece >= 0, encoded.sentence_word[1:-1])
    assert encoded.sentence_labelled.tolist() == [words.sum() for words in labelled]


@given(some_sentences, st.integers(SPECIALS + 1, 30))
def test_windows_end_at_words(sentences: Sentences, max_length: int) -> None:
    """Windows are not too long, start and end with special tokens, and contain whole words, truncated if too long."""
    encoded = encode(sentences, TOKENIZER, max_length, PANX)
    room = max_length - SPECIALS
    for number, words in enumerate(sentences.words):
        windows = windows_of(encoded, number)
        parts = [encoded.pieces[window].tolist() for window in windows]
        assert all(SPECIALS <= len(part) <= max_length for part in parts)
        assert all(part[0] == TOKENIZER.bos_token_id and part[-1] == TOKENIZER.eos_token_id for part in parts)
        pieces = tokenized(words)
        assert [*chain(*(part[1:-1] for part in parts))] == [*chain(*(found[:room] for found in pieces))]
        for place, found in zip(word_pieces(encoded, number), pieces, strict=True):
            if found:
                [window] = [window for window in windows if place in window]
                assert place + min(len(found), room) < window.stop
        assert len(windows) == 1 or sum(map(len, pieces)) > room
        assert encoded.sentence_pieces[number] == sum(map(len, parts))
    stats = encoded.stats
    every = [found for words in sentences.words for found in tokenized(words)]
    assert stats.sentences == len(sentences)
    assert stats.words == len(every)
    assert stats.pieces == len(encoded.pieces) == encoded.window_start[-1]
    assert stats.windows == len(encoded.window_start) - 1
    assert stats.split_sentences == (np.diff(encoded.sentence_window) > 1).sum()
    assert stats.words_without_pieces == sum(not found for found in every)
    assert stats.cut_words == sum(len(found) > room for found in every)
    assert stats.invalid_tags == sum(map(invalid_tags, sentences.tags))


@given(some_sentences, st.integers(SPECIALS + 1, 30))
def test_windows_are_as_few_as_can_be(sentences: Sentences, max_length: int) -> None:
    """The first word of a window does not fit into the window before."""
    encoded = encode(sentences, TOKENIZER, max_length, PANX)
    for number, words in enumerate(sentences.words):
        pieces = [len(found) for found in tokenized(words) if found]
        placed = [place for place in word_pieces(encoded, number) if place >= 0]
        length_of = dict(zip(placed, pieces, strict=True))
        for before, here in pairwise(windows_of(encoded, number)):
            first = next((place for place in here if place in length_of), None)
            assert first is not None, "a window without words"
            assert len(before) + length_of[first] > max_length


def test_words_without_pieces() -> None:
    """Zero-width characters have no pieces: such words only have their gold label."""
    sentences = Sentences([["\u200b", "Ankara", "\ufeff"], ["\u200b"]], [["B-PER", "B-LOC", "O"], ["I-ORG"]])
    encoded = encode(sentences, TOKENIZER, max_length=512, tag_set=PANX)
    assert encoded.stats.words_without_pieces == 3
    assert (encoded.word_piece >= 0).tolist() == [False, True, False, False]
    assert encoded.word_label.tolist() == [PANX.labels[tag] for tag in ("B-PER", "B-LOC", "O", "I-ORG")]
    assert encoded.sentence_labelled.tolist() == [1, 0]
    assert encoded.pieces[encoded.window_start[1] :].tolist() == [TOKENIZER.bos_token_id, TOKENIZER.eos_token_id]


def test_word_longer_than_a_window() -> None:
    """A word longer than a window fills a window of its own."""
    words = ["the", "ğ" * 40, "\u200b", "the"]
    [short, long, none, _] = tokenized(words)
    assert (len(short), len(none)) == (1, 0)
    assert len(long) > 6
    encoded = encode(
        Sentences([words], [["O", "B-PER", "O", "B-LOC"]]), TOKENIZER, max_length=6 + SPECIALS, tag_set=PANX
    )
    assert [len(window) - SPECIALS for window in windows_of(encoded, 0)] == [1, 6, 1]
    assert encoded.stats.cut_words == 1
    assert encoded.stats.split_sentences == 1
    assert (encoded.word_piece >= 0).tolist() == [True, True, False, True]


@given(some_sentences, st.integers(SPECIALS + 1, 30), st.data())
def test_words_and_pieces_of_sentences(sentences: Sentences, max_length: int, data: st.DataObject) -> None:
    """The words and pieces of chosen sentences come in the order of choice, with their numbers; none give none."""
    encoded = encode(sentences, TOKENIZER, max_length, PANX)
    chosen = data.draw(st.lists(st.integers(0, len(encoded) - 1)))
    words, sentence_words = encoded.words_of(np.array(chosen, dtype=np.int64))
    assert words.tolist() == [*chain(*(range(*encoded.sentence_word[number:][:2]) for number in chosen))]
    assert sentence_words.tolist() == [len(sentences.words[number]) for number in chosen]
    pieces, window_pieces = encoded.pieces_of(np.array(chosen, dtype=np.int64))
    windows = [window for number in chosen for window in windows_of(encoded, number)]
    assert pieces.tolist() == [*chain(*windows)]
    assert window_pieces.tolist() == [*map(len, windows)]


def test_hashes() -> None:
    """Words and sentences have equal hashes exactly if they are equal, also where a word holds a tab or a newline."""
    words = [["İzmir", "ve"], ["izmir", "ve"], ["ve", "İzmir"], ["İzmir", "ve"], ["İzmir ve"], ["İzmirve"]]
    words += [["İzmir\tve"], [r"İzmir\tve"], ["İzmir\nve"], ["ve"]]
    encoded = encode(Sentences(words, [["O"] * len(each) for each in words]), TOKENIZER, 512, PANX)
    for hashes, texts in ((encoded.word_hash, [*chain(*words)]), (encoded.sentence_hash, [*map(tuple, words)])):
        assert hashes.dtype == np.int64
        assert len({*zip(hashes.tolist(), texts, strict=True)}) == len({*hashes.tolist()}) == len({*texts})
    assert encoded.sentence_hash[-1] == encoded.word_hash[-1]


def test_hashes_of_spans() -> None:
    """Spans have equal hashes exactly if they have the same words, whatever their type and their split."""
    words = [["New", "York", "New", "York", "New York"], ["NewYork", "York", "New", "New"]]
    tags = [["B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-LOC"], ["B-LOC", "B-LOC", "B-PER", "B-PER"]]
    encoded = encode(Sentences(words, tags), TOKENIZER, 512, PANX)
    spans = find_spans(encoded.word_label, np.diff(encoded.sentence_word))
    hashes = span_hashes(encoded.word_hash, spans).tolist()
    flat = [*chain(*words)]
    texts = [tuple(flat[a : b + 1]) for a, b in zip(spans.first.tolist(), spans.last.tolist(), strict=True)]
    assert len(hashes) == 7
    assert len({*zip(hashes, texts, strict=True)}) == len({*hashes}) == len({*texts}) == 5


def test_hashes_are_stable() -> None:
    """Hashes are those of BLAKE2b on every machine, since model folders contain them."""
    assert encode(Sentences([["Ankara"]], [["O"]]), TOKENIZER, 512, PANX).word_hash.tolist() == [255209965438879208]


@pytest.mark.parametrize("max_length", [2, 1, 0, -4])
def test_no_room(max_length: int) -> None:
    """A window without room for a piece is an error that names the minimum length."""
    with pytest.raises(UserError, match=rf"^data.max_length={max_length} leaves no room for a piece; use 3 or more$"):
        encode(random_sentences("tr", 2), TOKENIZER, max_length, PANX)


def test_truncation_and_padding_are_ignored() -> None:
    """Truncation or padding enabled in the tokenizer changes nothing."""
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(SAMPLE / "backbone")
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=20)
    sentences = random_sentences("tr", 10)
    assert_equal(encode(sentences, tokenizer, 512, PANX), encode(sentences, TOKENIZER, 512, PANX))


@given(st.lists(some_sentences, min_size=1, max_size=4), st.integers(SPECIALS + 1, 20))
def test_join(parts: list[Sentences], max_length: int) -> None:
    """Joined splits equal the encoding of all their sentences, except for the digest."""
    joined = join([encode(part, TOKENIZER, max_length, PANX) for part in parts])
    whole = Sentences([each for part in parts for each in part.words], [each for part in parts for each in part.tags])
    assert_equal(replace(joined, digest=whole.digest), encode(whole, TOKENIZER, max_length, PANX))


def test_memory(sample_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading and encoding need less than 200 bytes per further word; what the tokenizer needs has a limit."""
    monkeypatch.setattr(encode_module, "_BLOCK", 200)
    sample = Split("sample", "en", "train").sentences
    lines = [
        "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True))
        for words, tags in zip(sample.words, sample.tags, strict=True)
    ]
    peaks = []
    for times in (1, 4):
        folder = tmp_path / str(times) / "en"
        folder.mkdir(parents=True)
        (folder / "train.tsv").write_text("\n".join(lines * times), encoding="utf-8")
        tracemalloc.start()
        encoded = encode_split(Split(str(folder.parent), "en", "train"), sample_backbone, 64, PANX, tmp_path / "cache")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    words = encoded.stats.words * 3 // 4
    assert (peaks[1] - peaks[0]) / words < 200


def test_join_keeps_digests_apart() -> None:
    """The digest of joined splits depends on the splits and their order."""
    one, two = (encode(random_sentences(language, 3), TOKENIZER, 512, PANX) for language in ("en", "tr"))
    assert len({join(parts).digest for parts in ([one, two], [two, one], [one, one], [one], [two])}) == 5


def test_real_data(shared: Path) -> None:
    """In real English data, the two sentences longer than 512 pieces are split, and every word is scored."""
    tokenizer = load_tokenizer(str(shared / "xlmr-tokenizer"))
    encoded = encode(Split(str(shared / "panx"), "en", "train").sentences, tokenizer, 512, PANX)
    stats = encoded.stats
    assert (stats.sentences, stats.words) == (20_000, 160_394)
    assert round(stats.pieces / stats.sentences, 1) == 14.1
    assert (stats.split_sentences, stats.cut_words) == (2, 0)
    assert encoded.sentence_labelled.sum() == stats.words - stats.words_without_pieces


def flipped(content: bytes, places: range) -> bytes:
    """Change every bit of some bytes."""
    return content[: places.start] + bytes(255 - content[place] for place in places) + content[places.stop :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "nonsense": lambda content: b"nonsense",
    "header alone": lambda content: b"\2\0\0\0\0\0\0\0{}",
    "truncated": lambda content: content[:-100],
    "half": lambda content: content[: len(content) // 2],
    "longer": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "last page of zeros": lambda content: content[:-512] + bytes(512),
    "digest": lambda content: content.replace(b'"digest":"', b'"digest":"0', 1),
    "stats": lambda content: content.replace(b'\\"windows\\": ', b'\\"windows\\":1', 1),
    "checksum": lambda content: content.replace(b'"checksum"', b'"checksam"', 1),
    "names": lambda content: content.replace(b'"word_piece"', b'"word_hush"', 1),
    "two arrays for one another": lambda content: (
        content.replace(b'"word_piece"', b'"word_here"', 1)
        .replace(b'"word_hash"', b'"word_piece"', 1)
        .replace(b'"word_here"', b'"word_hash"', 1)
    ),
    "type": lambda content: content.replace(b'"I64"', b'"F64"', 1),
}
"""Ways to damage a cached split, with and without a change of its length."""


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sentences=some_sentences, size=st.integers(1, 4))
def test_blocks_change_nothing(sentences: Sentences, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoding in blocks of a few sentences, taken from an iterator, gives the same arrays, counts and digest."""
    monkeypatch.setattr(encode_module, "_BLOCK", len(sentences))
    whole = encode(sentences, TOKENIZER, 12, PANX)
    assert whole.digest == sentences.digest
    monkeypatch.setattr(encode_module, "_BLOCK", size)
    assert_equal(encode(iter(sentences), TOKENIZER, 12, PANX), whole)


class TestCache:
    @pytest.fixture
    def split(self, tmp_path: Path) -> Split:
        (tmp_path / "source" / "tr").mkdir(parents=True)
        FORMATS["tsv"](tmp_path / "source" / "tr", "train", random_sentences("tr", 30))
        return Split(str(tmp_path / "source"), "tr", "train")

    @pytest.fixture
    def no_tokenizer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(backbone: str) -> None:
            raise AssertionError(f"the tokenizer of {backbone} was loaded")

        monkeypatch.setattr(encoded_cache, "load_tokenizer", refuse)

    def test_second_time(
        self, split: Split, sample_backbone: str, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        """The second time, an equal object comes from the cache, without loading the tokenizer or parsing the file."""
        first = encode_split(split, sample_backbone, 32, PANX, tmp_path / "cache")
        assert_equal(first, encode(split.sentences, TOKENIZER, 32, PANX))
        request.getfixturevalue("no_tokenizer")
        again = Split(split.source, split.language, split.name)
        assert_equal(encode_split(again, sample_backbone, 32, PANX, tmp_path / "cache"), first)
        assert "sentences" not in vars(again)

    def test_what_makes_another(self, split: Split, tiny_backbone: str, sample_backbone: str, tmp_path: Path) -> None:
        """Each window length and content has a file; backbones with the same tokenizer share it."""
        cache = tmp_path / "cache"
        encode_split(split, sample_backbone, 32, PANX, cache)
        encode_split(split, tiny_backbone, 32, PANX, cache)
        assert len([*cache.iterdir()]) == 1
        encode_split(split, sample_backbone, 33, PANX, cache)
        assert len([*cache.iterdir()]) == 2
        FORMATS["tsv"](Path(split.source) / "tr", "train", random_sentences("tr", 30, seed=1))
        changed = encode_split(Split(split.source, "tr", "train"), sample_backbone, 32, PANX, cache)
        assert len([*cache.iterdir()]) == 3
        assert changed.digest == random_sentences("tr", 30, seed=1).digest

    def test_settings_of_the_tokenizer(self, split: Split, sample_backbone: str, tmp_path: Path) -> None:
        """Settings beside tokenizer.json change how text is split, and so make another file."""
        other = tmp_path / "other"
        shutil.copytree(sample_backbone, other)
        own = json.loads((other / "tokenizer_config.json").read_bytes())
        (other / "tokenizer_config.json").write_text(json.dumps({**own, "do_lower_case": True}))
        for backbone in (sample_backbone, str(other)):
            encode_split(split, backbone, 32, PANX, tmp_path / "cache")
        assert len([*(tmp_path / "cache").iterdir()]) == 2

    @pytest.mark.parametrize("damage", [*DAMAGES], ids=repr)
    def test_damaged(
        self, split: Split, sample_backbone: str, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A damaged file is reported in one warning and written again; the encoded split is the same."""
        fresh = encode_split(split, sample_backbone, 32, PANX, tmp_path / "cache")
        [path] = (tmp_path / "cache").iterdir()
        written = path.read_bytes()
        damaged = DAMAGES[damage](written)
        assert damaged != written
        path.write_bytes(damaged)
        with caplog.at_level(logging.WARNING):
            assert_equal(encode_split(split, sample_backbone, 32, PANX, tmp_path / "cache"), fresh)
        [record] = caplog.records
        assert record.getMessage().startswith(f"{path} is damaged (")
        assert record.getMessage().endswith("); tr/train is encoded again")
        assert "\n" not in record.getMessage()
        assert [*path.parent.iterdir()] == [path]
        caplog.clear()
        assert_equal(encode_split(split, sample_backbone, 32, PANX, tmp_path / "cache"), fresh)
        assert not caplog.records

    @pytest.mark.parametrize("name", [field.name for field in fields(Encoded) if field.name not in ("digest", "stats")])
    def test_every_array_is_checked(
        self, split: Split, sample_backbone: str, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Changed bytes of any array are detected: the first, the last, forty in the middle."""
        fresh = encode_split(split, sample_backbone, 32, PANX, tmp_path / "cache")
        [path] = (tmp_path / "cache").iterdir()
        written = path.read_bytes()
        length = int.from_bytes(written[:8], "little")
        first, end = (8 + length + place for place in json.loads(written[8 : 8 + length])[name]["data_offsets"])
        middle = (first + end) // 2 - 20
        for places in (range(first, first + 1), range(end - 1, end), range(middle, middle + 40)):
            path.write_bytes(flipped(written, places))
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                # The second time from the repaired file.
                for _ in range(2):
                    assert_equal(encode_split(split, sample_backbone, 32, PANX, tmp_path / "cache"), fresh)
            assert [record.getMessage() for record in caplog.records] == [
                f"{path} is damaged (its checksum does not match); tr/train is encoded again"
            ]

    @settings(max_examples=200)
    @given(place=st.integers(0, 1 << 30), bits=st.integers(1, 255))
    def test_any_byte(
        self, sample_backbone: str, tmp_path_factory: pytest.TempPathFactory, place: int, bits: int
    ) -> None:
        """Whichever byte is changed, in the header or an array, the encoded split is the same."""
        folder = tmp_path_factory.getbasetemp() / "any-byte"
        split = Split("sample", "tr", "validation")
        fresh = encode_split(split, sample_backbone, 512, PANX, folder)
        [path] = folder.iterdir()
        content = bytearray(path.read_bytes())
        # The header is a small part of the file, but what most can go wrong with.
        header = 8 + int.from_bytes(content[:8], "little")
        content[place % (header if place % 2 else len(content))] ^= bits
        path.unlink()  # ``fresh`` lies in it
        path.write_bytes(content)
        assert_equal(encode_split(split, sample_backbone, 512, PANX, folder), fresh)

    def test_stays_in_the_mapped_file(self, split: Split, sample_backbone: str, tmp_path: Path) -> None:
        """Arrays from the cache stay in the memory-mapped file, in spite of the checksum."""
        encode_split(split, sample_backbone, 32, PANX, tmp_path / "cache")
        encoded = encode_split(split, sample_backbone, 32, PANX, tmp_path / "cache")
        [path] = (tmp_path / "cache").iterdir()
        maps = [line.split() for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()]
        ranges = [[int(place, 16) for place in line[0].split("-")] for line in maps if line[-1] == str(path)]
        for name in ("pieces", "word_label", "sentence_hash"):
            place = getattr(encoded, name).__array_interface__["data"][0]
            assert any(first <= place < end for first, end in ranges), name

    def test_unwritable(
        self, split: Split, sample_backbone: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A cache that cannot be written is a warning, and the split is encoded nevertheless."""
        (tmp_path / "file").write_text("no folder", encoding="utf-8")
        with caplog.at_level(logging.WARNING):
            encoded = encode_split(split, sample_backbone, 32, PANX, tmp_path / "file" / "cache")
        assert_equal(encoded, encode(split.sentences, TOKENIZER, 32, PANX))
        [record] = caplog.records
        assert "tr/train cannot be cached in" in record.getMessage()
        assert "Not a directory" in record.getMessage()

    def test_where_it_is(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The cache is in ``XNER_CACHE``, or else in the user's cache folder."""
        monkeypatch.setenv("XNER_CACHE", str(tmp_path))
        assert cache_folder() == tmp_path
        monkeypatch.delenv("XNER_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_folder() == tmp_path / "xdg" / "xner"

    def test_all_of_the_sample(self, sample_backbone: str, tmp_path: Path) -> None:
        """Every split of the sample is encoded, cached and read back equal, and every word of it has a piece."""
        for language in ("en", "tr"):
            for name in SPLITS:
                split = Split("sample", language, name)
                first = encode_split(split, sample_backbone, 512, PANX, tmp_path)
                assert_equal(encode_split(split, sample_backbone, 512, PANX, tmp_path), first)
                expected = EncodingStats(**{**dict.fromkeys(asdict(first.stats), 0), **{
                    "sentences": len(split.sentences), "windows": len(split.sentences),
                    "words": sum(map(len, split.sentences.words)), "pieces": len(first.pieces),
                }})  # fmt: skip
                assert first.stats == expected
        assert len([*tmp_path.iterdir()]) == 6
