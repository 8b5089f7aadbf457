"""Whatever names and scores a run's results have, its report is a page in which every name is text."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.commands import change_result
from tests.report.conftest import WORDS, write_run
from tests.report.test_page import report
from xner.files import is_name, is_unicode

NAMES = st.text(st.sampled_from("<>&\"'$\\{}%_^#/ \x1b\u202e\n\u00adğ😀") | st.characters(), min_size=1, max_size=12)
"""Texts that HTML, SVG, mathematical text of matplotlib, or a terminal could take for something else."""

SCORES = st.sampled_from([float("nan"), float("inf"), -1.0, 0.0, 1.0, 1e300])


@given(folder=NAMES, language=NAMES, kind=NAMES, text=NAMES, score=SCORES, nothing=st.booleans())
@example(folder="a", language="$\\frac$", kind="$", text="</style><script>", score=float("nan"), nothing=True)
@example(folder="<u>", language="<b onclick=x>", kind="]]>", text="{{ 7 * 7 }}", score=0.5, nothing=False)
@settings(max_examples=3, derandomize=True)
def test_any_names_and_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, language: str, kind: str, text: str, score: float,
    nothing: bool,
) -> None:  # fmt: skip
    """A language, a type, a folder and texts of the lineage of any characters; scores that are none."""
    folder, language = f"{folder}<u>", f"<u>{language}"
    assume(is_name(folder) and is_name(language) and is_unicode(folder + language) and language not in WORDS)
    monkeypatch.setitem(WORDS, language, f"<u>a</u> b{text.replace(' ', '')}")
    shutil.rmtree(tmp_path)
    run = write_run(tmp_path / folder, targets=(language,), sizes=(250,), sentences=8)

    def change(result: dict[str, Any]) -> None:
        result |= {"start_from": f"<u>{text}", "seconds": score, "versions": {text: f"<u>{text}"}}
        result["types"][0] = f"<u>{kind}"
        for each in result["evaluations"]:
            each |= dict.fromkeys(("precision", "recall", "accuracy", "f1_strict", "f1_macro", "ece"), score)
            each |= dict.fromkeys(("f1_unseen", "f1_seen_entities", "f1_unseen_entities"), None if nothing else score)
            each["f1_by_type"] = {name: score for name in result["types"]}
        for episode in result["lineage"]["episodes"]:
            episode |= {"source": f"<u>{text}", "types": result["types"], "map_types": {text: kind}}

    for path in run.glob("stages/*/result.json"):
        change_result(path, change)
    content, page = report(tmp_path, run)
    assert "u" not in page.names
    assert "<u>" not in content
    assert "&lt;u&gt;" in content
