import numpy as np

from xner.data.hashes import sentence_hashes, word_hashes


def test_equal_where_words_are() -> None:
    """Sentences share a hash where all words are the same, in case and order too, and so do words."""
    sentences = [
        ["İzmir", "ve", "Ankara"],
        ["izmir", "ve", "Ankara"],
        ["Ankara", "ve", "İzmir"],
        ["İzmir", "ve", "Ankara"],
    ]
    hashes = sentence_hashes(sentences)
    assert hashes.dtype == np.int64
    assert hashes[0] == hashes[3]
    assert len({*hashes.tolist()}) == 3
    words = word_hashes(sentences)
    assert words.shape == (12,)
    assert len({*words.tolist()}) == 4
    assert words[1] == words[4]


def test_borders_count() -> None:
    """Two words are not one with a space, and a sentence of one word has that word's hash."""
    assert len({*sentence_hashes([["a b"], ["a", "b"], ["ab"]]).tolist()}) == 3
    assert sentence_hashes([["a"]]) == word_hashes([["a"]])


def test_same_everywhere() -> None:
    """Hashes are those of BLAKE2b, whatever the process and machine: they are kept in model folders."""
    assert word_hashes([["Ankara"]]).tolist() == [255209965438879208]


def test_nothing() -> None:
    """No sentence gives no hash."""
    assert word_hashes([]).shape == sentence_hashes([]).shape == (0,)
