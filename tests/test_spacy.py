"""The spaCy component sets the entities that the Tagger finds."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.model.tiny import pretrained_backbone
from xner.errors import UserError
from xner.tagger import Tagger

spacy = pytest.importorskip("spacy")


ROOT = Path(__file__).parents[1]
TEXTS = [
    "Alan Mathison Turing was born in London, e\u0301!",
    "",
    "Vardar Kapısı'ndan çıkarken Enver Paşa 👨‍👩‍👧 Ankara/İzmir",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(pretrained_backbone(tmp_path_factory.mktemp("models") / "model"))


def test_entities_are_those_of_the_tagger(model: str, tmp_path: Path) -> None:
    """An entity covers its characters, extended to spaCy's tokens, alone, in a stream, and after saving."""
    nlp = spacy.blank("tr")
    nlp.add_pipe("xner", config={"model": model})
    nlp.to_disk(tmp_path / "pipeline")
    again = spacy.load(tmp_path / "pipeline")
    tagger = Tagger.from_pretrained(model)
    exact = 0
    for text, doc, loaded in zip(TEXTS, nlp.pipe(TEXTS), again.pipe(TEXTS, batch_size=1), strict=True):
        found = [(span.label_, span.start_char, span.end_char) for span in doc.ents]
        assert found == [(span.label_, span.start_char, span.end_char) for span in nlp(text).ents]
        assert found == [(span.label_, span.start_char, span.end_char) for span in loaded.ents]
        own = [(each.type, each.start, each.end) for each in tagger(text).entities]
        assert bool(own) == bool(found)
        exact += len({*own} & {*found})
        for kind, start, end in found:
            assert any(kind == other and start <= first and last <= end for other, first, last in own)
    assert exact > 2


def test_entry_point(model: str, tmp_path: Path) -> None:
    """Where the package is installed, the component is found by its name, without an import."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [(name, value)] = project["entry-points"]["spacy_factories"].items()
    installed = tmp_path / "xner_test-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: xner-test\nVersion: 1.0\n", encoding="utf-8")
    (installed / "entry_points.txt").write_text(f"[spacy_factories]\n{name} = {value}\n", encoding="utf-8")
    code = (
        "import spacy, sys; nlp = spacy.blank('tr'); nlp.add_pipe('xner', config={'model': sys.argv[1]}); "
        "print(len(nlp(sys.argv[2]).ents))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, model, TEXTS[0]],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) > 0


def test_bad_model(tmp_path: Path) -> None:
    """A folder without a model is one line."""
    with pytest.raises(UserError, match=r"holds no config\.json"):
        spacy.blank("en").add_pipe("xner", config={"model": str(tmp_path)})


def test_without_spacy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without spaCy, the error says what to install."""
    monkeypatch.delitem(sys.modules, "xner.spacy")
    monkeypatch.setitem(sys.modules, "spacy.language", None)
    with pytest.raises(UserError, match=r"pip install '\.\[spacy\]'"):
        __import__("xner.spacy")
