"""Whatever bytes a file has, reading it gives sentences or one short error, in every format."""

import gzip
import json
import shutil
import struct
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.data.test_bad_files import LONGEST
from tests.sources import FORMATS, random_sentences
from xner.data.sources import READERS, ReadOptions, Sentences, Split
from xner.errors import UserError
from xner.files import is_unicode
from xner.tags import spans

FUZZ = settings(max_examples=150, derandomize=True)

WHOLE = {".tsv": "tsv", ".txt": "txt", ".jsonl": "jsonl of strings", ".parquet": "parquet of strings"}
"""A format with the suffix in ``tests.sources``."""

CSV = "tokens,ner_tags,id\n\"Ali geldi\",\"B-PER O\",1\n\"['a', 'b']\",\"['O', 'O']\",2\n"

SUFFIXES = [suffix for suffix in READERS if suffix]


def outcome(folder: Path, *, tagged: bool = True) -> Sentences | None:
    """Read a training split; ``None`` stands for an error, which must be short and of one line."""
    try:
        found = Split(str(folder), "tr", "train", ReadOptions(tagged=tagged)).sentences
    except UserError as error:
        text = str(error)
        assert len(text.splitlines()) == 1
        assert len(text.replace(str(folder), "")) < LONGEST
        return None
    for words, tags in zip(found.words, found.tags, strict=True):
        assert len(words) == len(tags) > 0
        assert all(words)
        assert is_unicode("".join(words))
        assert all(span.type for span in spans(tags))
    return found


def whole(folder: Path, suffix: str) -> bytes:
    """Return a file of a format that can be read."""
    if suffix == ".csv":
        return CSV.encode()
    folder.mkdir(exist_ok=True)
    name = WHOLE.get(suffix, "tsv")
    FORMATS[name](folder, "whole", random_sentences("tr", 4))
    [path] = folder.glob("whole.*")
    return path.read_bytes()


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """Replace, remove or repeat some parts of a file."""
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(start + 20, len(content))))
        new = data.draw(st.binary(max_size=4) | st.just(content[start:end] * 2) | st.sampled_from(PIECES))
        content = content[:start] + new + content[end:]
    return content


PIECES = [
    each.encode() for each in ("\0", "\r", "\r\n", "\n\n", "\ufeff", '"', "[", "{", "\t", "\u2028", "\x85", "tr:")
]


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(content=st.binary(max_size=200), tagged=st.booleans())
@example(content="\ufeff\ufeff\u2028\x85".encode(), tagged=True)
@FUZZ
def test_any_bytes(tmp_path: Path, suffix: str, content: bytes, tagged: bool) -> None:
    """Bytes of no format."""
    (tmp_path / "tr").mkdir(exist_ok=True)
    (tmp_path / "tr" / f"train{suffix}").write_bytes(content)
    outcome(tmp_path, tagged=tagged)


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@given(data=st.data())
@FUZZ
def test_damaged(tmp_path: Path, suffix: str, zipped: bool, data: st.DataObject) -> None:
    """A file with some other bytes, before or after it was compressed."""
    (tmp_path / "tr").mkdir(exist_ok=True)
    content = whole(tmp_path / "whole", suffix)
    first = data.draw(st.booleans())
    content = damaged(content, data) if first else content
    content = gzip.compress(content, mtime=0) if zipped else content
    (tmp_path / "tr" / f"train{suffix}{'.gz' if zipped else ''}").write_bytes(
        content if first else damaged(content, data)
    )
    outcome(tmp_path)


@given(data=st.data())
@FUZZ
def test_damaged_folder(tmp_path: Path, data: st.DataObject) -> None:
    """A folder of save_to_disk, one of whose files has some other bytes."""
    kept, folder = tmp_path / "kept", tmp_path / "tr" / "train"
    if not kept.exists():
        kept.mkdir()
        FORMATS["save_to_disk of strings"](kept, "train", random_sentences("tr", 4))
    # A file that is mapped into memory is never written again.
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(kept / "train", folder)
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    path.write_bytes(damaged(path.read_bytes(), data))
    outcome(tmp_path)


def test_wrong_offsets(tmp_path: Path) -> None:
    """Offsets that lead out of an Arrow file, at which pyarrow would end the process, are an error."""
    sentences = random_sentences("tr", 4)
    (tmp_path / "tr").mkdir()
    FORMATS["save_to_disk of strings"](tmp_path / "tr", "train", sentences)
    [path] = (tmp_path / "tr" / "train").glob("*.arrow")
    offsets = [0, *accumulate(map(len, sentences.words))]
    wrong = [*offsets[:-1], 10**8]
    content = path.read_bytes()
    assert struct.pack("<5i", *offsets) in content
    path.write_bytes(content.replace(struct.pack("<5i", *offsets), struct.pack("<5i", *wrong)))
    assert outcome(tmp_path) is None


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["O", "B-PER", "I-"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ENTITY = st.fixed_dictionaries(
    {"start": st.integers(-1, 9) | VALUES, "end": st.integers(0, 9) | VALUES, "label": VALUES}
)
TEXT = st.text(st.characters(), max_size=12)


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {}, optional={"tokens": st.lists(TEXT, max_size=3) | VALUES, "ner_tags": st.lists(VALUES) | VALUES}
        )
        | st.fixed_dictionaries({}, optional={"text": TEXT | VALUES, "entities": st.lists(ENTITY, max_size=3) | VALUES})
        | VALUES,
        max_size=3,
    ),
    tagged=st.booleans(),
)
@FUZZ
def test_any_json(tmp_path: Path, rows: list[Any], tagged: bool) -> None:
    """Rows of JSON with any values."""
    (tmp_path / "tr").mkdir(exist_ok=True)
    path = tmp_path / "tr" / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    outcome(tmp_path, tagged=tagged)
