"""The audit of a corpus: every finding in small corpora with known counts, and in real PAN-X."""

import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources import FORMATS, as_jsonl, as_rows, random_sentences
from xner.data.audit import FINDINGS, OF_TOKENIZER, Audit, FindingExample, audit_splits
from xner.data.characters import escape_invisible, fold_case, has_invisible
from xner.data.redirects import KEYWORDS, is_redirect
from xner.data.sources import ReadOptions, Sentence, Sentences, Split, splits_of
from xner.data.sources.hub import presets
from xner.errors import UserError
from xner.tags import spans

Corpus = dict[str, dict[str, str]]
"""The sentences of each split of each language, one per line; a word is ``word`` or ``word/TAG``."""


def sentences_of(text: str) -> Sentences:
    """Read lines of words, of which some have a tag after a slash."""
    pairs = [[word.partition("/")[::2] for word in line.split(" ")] for line in text.split("\n")]
    return Sentences(
        [[word for word, _ in sentence] for sentence in pairs],
        [[tag or "O" for _, tag in sentence] for sentence in pairs],
    )


def write(folder: Path, corpus: Corpus) -> Path:
    """Write a corpus as JSONL, which keeps every character of a word."""
    for language, splits in corpus.items():
        (folder / language).mkdir(parents=True)
        for name, text in splits.items():
            content = as_jsonl(as_rows(sentences_of(text)))
            (folder / language / f"{name}.jsonl").write_text(content, encoding="utf-8")
    return folder


def audited(folder: Path, corpus: Corpus, tokenizer: str | None = None, max_length: int = 512) -> Audit:
    """Audit a corpus."""
    source = write(folder, corpus)
    splits = [split for language in corpus for split in splits_of(str(source), language, ReadOptions())]
    return audit_splits(splits, tokenizer=tokenizer, max_length=max_length, examples=3)


def counts(audit: Audit, finding: str) -> dict[str, tuple[int, int]]:
    """Return count and total of a finding by place, such as ``tr/test`` or ``tr/test in en``."""
    found = {}
    for tally in audit.findings[finding]:
        place = tally.language + (f"/{tally.split}" if tally.split else "")
        found[place + (f" in {tally.train_language}" if tally.train_language else "")] = (tally.count, tally.total)
    return found


def examples(audit: Audit, finding: str, place: int = 0) -> list[tuple[int | None, str]]:
    """Return number and text of the examples of a finding in one place."""
    return [(each.sentence, each.text) for each in audit.findings[finding][place].examples]


def test_repeated_sentences(tmp_path: Path) -> None:
    """A sentence that repeats an earlier one counts as often as it does; with another tag it is also conflicting."""
    audit = audited(
        tmp_path, {"en": {"train": "Ford/B-ORG left\nof it\nFord/B-PER left\nof it\nof it\nford left", "test": "of it"}}
    )
    assert counts(audit, "duplicates") == {"en/train": (3, 6), "en/test": (0, 1)}
    assert examples(audit, "duplicates") == [(2, "Ford left"), (3, "of it"), (4, "of it")]
    assert counts(audit, "conflicting") == {"en/train": (2, 6), "en/test": (0, 1)}
    assert examples(audit, "conflicting") == [(0, "Ford/B-ORG left"), (2, "Ford/B-PER left")]


def test_borders_of_words_count(tmp_path: Path) -> None:
    """The same characters in other words are another sentence."""
    audit = audited(tmp_path, {"en": {"train": "a b/B-PER\nab/B-PER\na\tb/B-PER\na', 'b/B-PER"}})
    assert counts(audit, "duplicates") == {"en/train": (0, 4)}


def test_overlap(tmp_path: Path) -> None:
    """Evaluation sentences are looked up in every training split; other languages are named where they overlap."""
    train = "Ford/B-ORG left\nof it\nRoma/B-LOC"
    audit = audited(
        tmp_path,
        {
            "en": {"train": train, "validation": "of it\nof it\nnew", "test": "Ford/B-PER left\nFord/B-ORG left"},
            "tr": {"train": "bir\nRoma/B-ORG", "validation": "new", "test": "Roma/B-LOC\nbir"},
        },
    )
    assert counts(audit, "overlap") == {
        "en/validation in en": (2, 3),
        "en/test in en": (2, 2),
        "tr/validation in tr": (0, 1),
        "tr/test in en": (1, 2),
        "tr/test in tr": (2, 2),
    }
    assert counts(audit, "conflicting_overlap") == {
        "en/validation in en": (0, 3),
        "en/test in en": (1, 2),
        "tr/validation in tr": (0, 1),
        "tr/test in en": (0, 2),
        "tr/test in tr": (1, 2),
    }
    assert examples(audit, "conflicting_overlap", 1) == [(0, "Ford/B-PER left")]


def test_near_overlap(tmp_path: Path) -> None:
    """Case, digits and words of punctuation make no difference, but other words, their order and their number do."""
    train = "Ford/B-ORG ( 1999 ) left .\nİzmir\n. . ."
    test = "ford 2024 left\nFORD left 1999\nFord 99 left\nFord left\nIZMIR !\n. . .\n! !\nleft"
    audit = audited(tmp_path, {"en": {"train": train, "test": test}, "tr": {"train": "bir", "test": "ford 0000 Left"}})
    assert counts(audit, "near_overlap") == {"en/test in en": (3, 8), "tr/test in en": (1, 1), "tr/test in tr": (0, 1)}
    assert examples(audit, "near_overlap") == [(0, "ford 2024 left"), (4, "IZMIR !"), (5, ". . .")]
    assert counts(audit, "overlap") == {"en/test in en": (1, 8), "tr/test in tr": (0, 1)}


def test_without_training_split(tmp_path: Path) -> None:
    """A language without a training split is compared with those of others alone."""
    audit = audited(tmp_path, {"en": {"train": "Roma/B-LOC"}, "tr": {"test": "Roma/B-LOC"}})
    assert counts(audit, "overlap") == {"tr/test in en": (1, 1)}
    assert counts(audit, "seen_entities") == {}


def test_entities(tmp_path: Path) -> None:
    """Entities are seen by their exact words, or in any case; and ambiguous over all splits of a language."""
    audit = audited(
        tmp_path,
        {
            "tr": {
                "train": "İzmir/B-LOC ve New/B-LOC York/I-LOC\nFord/B-ORG\nFord/B-ORG",
                "validation": "Ford/B-PER\nNew/B-LOC York/B-LOC",
                "test": "New/B-LOC York/I-LOC\nİZMİR/B-LOC izmir/B-LOC Paris/B-LOC\nYork/B-LOC",
            },
            "en": {"train": "Ford/B-ORG", "test": "York/B-PER"},
        },
    )
    assert counts(audit, "seen_entities") == {
        "tr/validation in tr": (1, 3),
        "tr/test in tr": (1, 5),
        "en/test in en": (0, 1),
    }
    assert counts(audit, "seen_any_case") == {
        "tr/validation in tr": (1, 3),
        "tr/test in tr": (3, 5),
        "en/test in en": (0, 1),
    }
    assert examples(audit, "seen_any_case", 1) == [(1, "İZMİR"), (1, "izmir"), (0, "New York")]
    assert counts(audit, "ambiguous") == {"tr": (3, 12), "en": (0, 2)}
    assert examples(audit, "ambiguous") == [(None, "Ford: ORG 2, PER 1")]
    assert counts(audit, "ambiguous_strings") == {"tr": (1, 8), "en": (0, 2)}


def test_most_frequent_ambiguous_strings_come_first(tmp_path: Path) -> None:
    """The examples of ambiguous entities are the strings with most entities."""
    audit = audited(tmp_path, {"en": {"train": "A/B-PER A/B-LOC B/B-PER B/B-PER B/B-LOC\nC/B-LOC C/B-LOC C/B-LOC"}})
    assert examples(audit, "ambiguous") == [(None, "B: PER 2, LOC 1"), (None, "A: PER 1, LOC 1")]


def test_tags(tmp_path: Path) -> None:
    """Invalid tags are counted one by one, and shown in their sentences."""
    audit = audited(tmp_path, {"en": {"train": "A/B-PER b\nA/I-PER b B/I-LOC\nC/B-LOC D/I-ORG"}})
    assert counts(audit, "invalid_tags") == {"en/train": (3, 7)}
    assert examples(audit, "invalid_tags") == [(1, "A/I-PER b B/I-LOC"), (2, "C/B-LOC D/I-ORG")]
    assert counts(audit, "converted_tags") == {"en/train": (0, 7)}


def test_converted_tags(tmp_path: Path) -> None:
    """Tags of another scheme count where they differ in IOB2, and the scheme is named."""
    audit = audited(tmp_path, {"en": {"train": "A/S-PER b\nA/B-PER b/E-PER", "test": "A/B-PER b/I-PER"}})
    assert counts(audit, "converted_tags") == {"en/train": (2, 4), "en/test": (0, 2)}
    assert [(size.split, size.scheme) for size in audit.splits] == [("train", "BIOES"), ("test", "IOB2")]
    assert audit.count("invalid_tags") == 0


def test_sizes(tmp_path: Path) -> None:
    """The size of every split is that of its file."""
    audit = audited(tmp_path, {"en": {"train": "A/B-PER b\nC/B-LOC D/I-LOC E/B-LOC", "test": "A/B-PER"}})
    assert [(size.sentences, size.words, size.entities) for size in audit.splits] == [(2, 5, 3), (1, 1, 1)]


INVISIBLE = {
    "control": "\x85",
    "soft hyphen": "\u00ad",
    "zero-width space": "\u200b",
    "zero-width non-joiner": "\u200c",
    "right-to-left override": "\u202e",
    "isolate": "\u2066",
    "byte-order mark": "\ufeff",
    "private use": "\ue000",
    "private use beyond the BMP": "\U000f0000",
    "tag": "\U000e0041",
    "line separator": "\u2028",
    "no-break space": "\u00a0",
    "variation selector": "\ufe0f",
    "Hangul filler": "\u3164",
    "grapheme joiner": "\u034f",
}


@pytest.mark.parametrize("character", INVISIBLE.values(), ids=INVISIBLE)
def test_invisible(character: str, tmp_path: Path) -> None:
    """Each invisible character is found in the middle of a word, and escaped."""
    audit = audited(tmp_path, {"tr": {"train": f"bir iki\nve An{character}kara/B-LOC {character} ."}})
    assert counts(audit, "invisible") == {"tr/train": (2, 6)}
    assert examples(audit, "invisible") == [(1, f"An{character}kara"), (1, character)]
    shown = escape_invisible(f"An{character}kara")
    assert shown.isascii()
    assert shown.encode().decode("unicode_escape") == f"An{character}kara"


@pytest.mark.parametrize("text", ["İstanbul'da", "ş" + "\u0327", "नई दिल्ली", "北京", "🙂", "New York", "“…”"])
def test_visible(text: str) -> None:
    """Letters, marks, punctuation and symbols of any script are visible."""
    assert not has_invisible(text)
    assert escape_invisible(text) == text


@given(st.text())
def test_escaped_text_has_only_visible_characters(text: str) -> None:
    """Escaping leaves nothing invisible, and changes nothing else."""
    shown = escape_invisible(text)
    assert not has_invisible(shown)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Co", "Zl", "Zp"}
    visible = "".join(character for character in text if not has_invisible(character))
    assert escape_invisible(visible) == visible


def test_tokenizer(tmp_path: Path, sample_backbone: str) -> None:
    """Words without subwords, split sentences and cut words are those of the tokenizer."""
    corpus = {"tr": {"train": "bir \u200b iki/B-LOC\nbir iki üç dört beş altı yedi", "test": "Ankara/B-LOC"}}
    audit = audited(tmp_path, corpus, sample_backbone, max_length=7)
    assert counts(audit, "no_pieces") == {"tr/train": (1, 10), "tr/test": (0, 1)}
    assert examples(audit, "no_pieces") == [(0, "\u200b")]
    assert counts(audit, "long") == {"tr/train": (1, 2), "tr/test": (0, 1)}
    assert examples(audit, "long") == [(1, "bir iki üç dört beş altı yedi")]
    assert counts(audit, "cut_words") == {"tr/train": (0, 10), "tr/test": (0, 1)}
    splits = splits_of(str(tmp_path), "tr", ReadOptions())
    assert audit_splits(splits, tokenizer=sample_backbone, max_length=3).count("cut_words") > 0


def test_without_entities(tmp_path: Path, sample_backbone: str) -> None:
    """A corpus without an entity is audited, with and without a tokenizer."""
    audit = audited(tmp_path, {"tr": {"train": "bir iki\nbir iki", "test": "bir \u200b"}}, sample_backbone)
    assert counts(audit, "duplicates") == {"tr/train": (1, 2), "tr/test": (0, 1)}
    assert counts(audit, "no_pieces") == {"tr/train": (0, 4), "tr/test": (1, 2)}
    assert audit_splits(splits_of(str(tmp_path), "tr", ReadOptions())).count("duplicates") == 1


def test_without_tokenizer(tmp_path: Path) -> None:
    """Without a tokenizer, the findings that need one are absent, and all others are in their order."""
    audit = audited(tmp_path, {"en": {"train": "A/B-PER"}})
    assert [*audit.findings] == [name for name in FINDINGS if name not in OF_TOKENIZER]


def test_options_of_reading(tmp_path: Path) -> None:
    """Types are mapped before entities are compared, and a name that no split has is refused."""
    source = str(write(tmp_path, {"en": {"train": "A/B-GPE A/B-LOC b/B-DATE", "test": "b/B-DATE"}}))
    options = ReadOptions(map_types={"GPE": "LOC", "DATE": "O"})
    audit = audit_splits(splits_of(source, "en", options))
    assert counts(audit, "ambiguous") == {"en": (0, 2)}
    assert [size.entities for size in audit.splits] == [2, 0]
    with pytest.raises(UserError, match="GPO"):
        audit_splits(splits_of(source, "en", ReadOptions(map_types={"GPO": "LOC"})))


def naive(splits: list[Split]) -> dict[str, dict[str, int]]:
    """Count findings by comparing plain texts."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    read = {str(split): [(" ".join(words), " ".join(tags)) for words, tags in split.read()] for split in splits}
    names = {
        str(split): [
            (" ".join(words[span.first : span.last + 1]), span.type)
            for words, tags in split.read()
            for span in spans(tags)
        ]
        for split in splits
    }
    for split in splits:
        place, own = str(split), read[str(split)]
        found["duplicates"][place] = len(own) - len({words for words, _ in own})
        tags = defaultdict(set)
        for words, tag in own:
            tags[words].add(tag)
        found["conflicting"][place] = sum(len(tags[words]) > 1 for words, _ in own)
        if split.name == "train":
            continue
        for language in ("en", "tr"):
            train = read[f"{language}/train"]
            overlap = sum(words in dict(train) for words, _ in own)
            if overlap or language == split.language:
                found["overlap"][f"{place} in {language}"] = overlap
                others = sum(words in dict(train) and (words, tag) not in train for words, tag in own)
                found["conflicting_overlap"][f"{place} in {language}"] = others
        known = {name for name, _ in names[f"{split.language}/train"]}
        here = f"{place} in {split.language}"
        found["seen_entities"][here] = sum(name in known for name, _ in names[place])
        any_case = {fold_case(name) for name in known}
        found["seen_any_case"][here] = sum(fold_case(name) in any_case for name, _ in names[place])
    for language in ("en", "tr"):
        all_names = [pair for place in names if place.startswith(language) for pair in names[place]]
        several = {name for name, number in Counter(name for name, _ in {*all_names}).items() if number > 1}
        found["ambiguous"][language] = sum(name in several for name, _ in all_names)
        found["ambiguous_strings"][language] = len(several)
    return found


def test_counts_equal_those_of_plain_comparison(tmp_path: Path) -> None:
    """On random sentences with many repetitions and noise in tags, every count equals that of a plain comparison."""
    for language in ("en", "tr"):
        (tmp_path / language).mkdir()
        for seed, name in enumerate(("train", "validation", "test")):
            made = random_sentences(language, 300, seed=seed)
            words = [sentence[:2] for sentence in made.words]
            tags = [
                [f"B-{('PER', 'ORG')[number % 2]}" if number % 3 == 0 and tag != "O" else tag for tag in sentence[:2]]
                for number, sentence in enumerate(made.tags)
            ]
            FORMATS["tsv"](tmp_path / language, name, Sentences(words, tags))
    splits = [split for language in ("en", "tr") for split in splits_of(str(tmp_path), language, ReadOptions())]
    audit = audit_splits(splits)
    expected = naive(splits)
    assert {name: {place: count for place, (count, _) in counts(audit, name).items()} for name in expected} == expected
    assert all(sum(places.values()) > 10 for places in expected.values() if places is not expected["seen_any_case"])


class TestRedirects:
    """Redirects are recognised by the keyword of their language, before an entity."""

    @pytest.mark.parametrize(
        ("language", "text"),
        [
            ("tr", "YÖNLENDİRME Ayvalı/B-LOC ,/I-LOC Vezirköprü/I-LOC"),
            ("tr", "yönlendir Ayvalı/B-LOC"),
            ("tr", "Yönlendirme : Ayvalı/B-LOC"),
            ("tr", "#REDIRECT Ayvalı/B-LOC"),
            ("de", "# WEITERLEITUNG Wust/B-LOC ,"),
            ("en", "Redirect Venice/B-LOC"),
            ("xx", "REDIRECT Venice/B-LOC"),
            ("es", "REDIRECCIÓN Venecia/B-LOC"),
            ("fa", "تغییر مسیر تهران/B-LOC"),
            ("fa", "تغییر_مسیر تهران/B-LOC"),
            ("zh", "重 定 向 北/B-LOC 京/I-LOC"),
            ("ja", "＃転送 東京/B-LOC"),
        ],
    )
    def test_redirect(self, language: str, text: str) -> None:
        """Keywords count in any case, with a hash sign or colon, and as single characters."""
        [sentence] = sentences_of(text)
        assert is_redirect(sentence, language)

    @pytest.mark.parametrize(
        ("language", "text"),
        [
            ("tr", "WEITERLEITUNG Ayvalı/B-LOC"),
            ("tr", "Yönlendirme kaldırıldı ."),
            ("tr", "Yönlendirme eski Ayvalı/B-LOC"),
            ("tr", "YÖNLENDİRME"),
            ("tr", "YÖNLENDİRME :"),
            ("tr", "Bu YÖNLENDİRME Ayvalı/B-LOC"),
            ("en", "Redirect/B-ORG Venice/B-LOC"),
            ("en", "Redirected Venice/B-LOC"),
            ("en", "# Venice/B-LOC"),
        ],
    )
    def test_other_sentences(self, language: str, text: str) -> None:
        """The word of another language, or within a sentence or an entity, is no keyword."""
        [sentence] = sentences_of(text)
        assert not is_redirect(sentence, language)

    def test_every_keyword(self) -> None:
        """Each keyword of each language is recognised as it stands, and every language is one of PAN-X."""
        for language, keywords in KEYWORDS.items():
            assert language in presets()["panx"].languages
            for keyword in keywords.split():
                assert is_redirect(Sentence([keyword, "X"], ["O", "B-LOC"]), language)

    def test_counts(self, tmp_path: Path) -> None:
        """Redirects are counted per split."""
        audit = audited(tmp_path, {"tr": {"train": "YÖNLENDİRME Van/B-LOC\nbir", "test": "bir"}})
        assert counts(audit, "redirects") == {"tr/train": (1, 2), "tr/test": (0, 1)}
        assert audit.findings["redirects"][0].examples == (FindingExample(0, "YÖNLENDİRME Van"),)


def test_sample_is_clean() -> None:
    """The embedded sample has no sentence twice, within a split or in two, and nothing unreadable."""
    splits = [split for language in ("en", "tr") for split in splits_of("sample", language, ReadOptions())]
    audit = audit_splits(splits, tokenizer="sample")
    clean = [name for name in FINDINGS if audit.count(name) == 0]
    assert clean == [
        *("duplicates", "conflicting", "long", "overlap", "conflicting_overlap", "invisible", "no_pieces"),
        *("cut_words", "invalid_tags", "converted_tags"),
    ]


def test_panx(shared: Path) -> None:
    """In real PAN-X, 1,306 Turkish test sentences occur in training, and 4,235 training sentences are redirects."""
    splits = splits_of(str(shared / "panx"), "tr", ReadOptions())
    audit = audit_splits(splits)
    assert counts(audit, "overlap") == {"tr/validation in tr": (1265, 10000), "tr/test in tr": (1306, 10000)}
    assert counts(audit, "redirects") == {
        "tr/train": (4235, 20000),
        "tr/validation": (2107, 10000),
        "tr/test": (2056, 10000),
    }
    assert audit.findings["overlap"][1].examples[0] == FindingExample(
        0, "Pro League ekiplerinden Club Brugge'de oynuyor ."
    )
    assert counts(audit, "seen_entities") == {"tr/validation in tr": (6990, 13517), "tr/test in tr": (7087, 13587)}
    train = {tuple(words) for words, _ in splits[0].read()}
    assert sum(tuple(words) in train for words, _ in splits[2].read()) == 1306
