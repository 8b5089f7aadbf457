import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.commands import change_result
from xner.errors import RunError, UserError
from xner.report import FILES, write_report
from xner.report.figure_style import COLOURS
from xner.report.matrix import score_matrix
from xner.report.runs import load_run
from xner.transfer.result import read_counts, read_result, write_result

Write = Callable[..., Path]

DIGEST = "0a1b2c3d" * 8
"""The digest of every training set of the runs in these tests."""


class Page(HTMLParser):
    """Collects what a browser would load or run, and checks that elements are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "srcset", "action"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "link", "br"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def report(folder: Path, *runs: Path) -> tuple[str, Page]:
    paths = {"html": folder / "report.html", "png": folder / "curve.png", "svg": folder / "curve.svg"}
    write_report(runs, **paths)
    assert all(path.stat().st_size for path in paths.values())
    text = paths["html"].read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    return text, page


def test_page_asks_for_nothing(tmp_path: Path, write_run: Write) -> None:
    """The page has no script, no handler and no address outside itself, and its policy forbids all requests."""
    text, page = report(tmp_path, write_run(tmp_path / "run"))
    assert "script" not in page.names
    assert not page.names & {"img", "iframe", "object", "embed", "form"}
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert not re.search(r"url\(\s*['\"]?(?!#)", text)
    assert "@import" not in text
    assert "default-src 'none'" in unescape(text)


def test_every_text_is_escaped(tmp_path: Path, write_run: Write) -> None:
    """Markup in words, folder names, the lineage and the configuration is shown as text."""
    run = write_run(tmp_path / "<b>run & co", regimes=("progressive",))
    (run / "config.yaml").write_text("note: </pre><script>alert(2)</script>\n", encoding="utf-8")
    lineage = {"origin": "<script>alert(3)</script>", "episodes": [{"<u>key": "<script>alert(4)</script>"}]}
    path = run / "stages" / "source-en-seed42" / "result.json"
    change_result(path, lambda result: result.update(lineage=lineage))
    words = run / "sentences" / "tr-test.json"
    sentences = json.loads(words.read_text(encoding="utf-8"))
    words.write_text(json.dumps([["<script>alert(1)</script>"] * len(each) for each in sentences]), encoding="utf-8")
    _, page = report(tmp_path, run)
    assert not page.names & {"script", "b", "u"}
    shown = "".join(page.text)
    for number in (1, 2, 3, 4):
        assert f"<script>alert({number})</script>" in shown
    assert "<b>run & co" in shown


def test_page_shows_each_part(tmp_path: Path, write_run: Write) -> None:
    """Headline with intervals, results, gains, curves, forgetting, errors, sentences, lineage, configuration."""
    run = write_run(tmp_path / "run", regimes=("progressive", "scratch"), seeds=(1, 2))
    (run / "config.yaml").write_text("seed_everything: 1\n", encoding="utf-8")
    text, page = report(tmp_path, run)
    assert {"results", "curves", "forgetting", "errors", "calibration", "lineage", "configuration"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    shown = "".join(page.text)
    for part in ("95 % CI", "zero-shot", "compared with zero-shot", "p (Holm)", "Holm–Bonferroni", "SD over seeds",
                 "95 % CI over seeds and sentences", "near-duplicates", "unseen entities", "ECE",
                 "area under the curve", "boundary error", "4+ words", "seed_everything: 1", "progressive-tr-250-seed2",
                 "English 800", "trained from the previous stage"):  # fmt: skip
        assert part in shown
    results = load_run(run).results
    assert all(f"{100 * evaluation['f1']:.2f}" in shown for each in results for evaluation in each["evaluations"])
    assert re.search(r'<mark class="predicted" style="--type: var\(--(blue|orange|green)\)">', text)
    assert "✗" in shown


def test_runs_of_other_sources(tmp_path: Path, write_run: Write) -> None:
    """The title names the sources of all runs, and averages are over languages that none of them trained on."""
    runs = [write_run(tmp_path / name, sizes=(250,), targets=("tr", "de")) for name in ("one", "two")]
    shutil.copytree(runs[1], tmp_path / "three")
    runs.append(tmp_path / "three")
    for run, languages in zip(runs[1:], (["de"], ["en", "de"]), strict=True):
        path = run / "stages" / "source-en-seed42" / "result.json"
        change_result(path, lambda result, languages=languages: result.update(train_languages=languages))
    text, page = report(tmp_path, *runs)
    assert "Cross-lingual transfer: English, German or English + German → German and Turkish</title>" in text
    assert any("trained on English, German or English + German, evaluated" in part for part in page.text)
    assert "(zero-shot)" not in text[: text.index("</header>")]  # German is a source of some
    assert [name for name in ("one", "two", "three") if f'<td class="text">{name}</td><th scope="row">' in text] == [
        "one", "two", "three",
    ]  # fmt: skip
    matrix = score_matrix([load_run(run) for run in runs])
    assert matrix
    assert matrix.languages == ["en", "de", "tr"]
    assert [row.average for row in matrix.rows] == [row.cells[2] and row.cells[2].f1 for row in matrix.rows]


@pytest.mark.parametrize("targets", [("tr",), ("tr", "de")])
@pytest.mark.parametrize("language", ["en", "tr"])
@pytest.mark.parametrize("change", ["split", "types", "words"])
def test_runs_on_other_sentences(
    tmp_path: Path, write_run: Write, targets: tuple[str, ...], language: str, change: str
) -> None:
    """Runs that were evaluated on other sentences of a language, or with other tags, are not shown together."""
    runs = [write_run(tmp_path / name, sizes=(250,), targets=targets) for name in ("one", "two")]
    for stage in (runs[1] / "stages").iterdir():
        result = read_result(stage)
        assert result
        counts = {(each["language"], each["split"]): read_counts(stage, each) for each in result["evaluations"]}
        if change == "split":
            counts[language, "validation"] = counts.pop((language, "test"))
            for each in result["evaluations"]:
                each["split"] = "validation" if each["language"] == language else "test"
        elif change == "types":
            own = counts[language, "test"]
            swapped = {name: getattr(own, name)[:, [1, 0, 2]] for name in ("correct", "predicted", "gold")}
            counts[language, "test"] = own._replace(**swapped)
        else:
            result["definition"]["tested"] = {f"{language}/test": "0a1b"}
        write_result(stage, result, counts)
    split = "validation" if change == "split" else "test"
    problem = rf"of {language} \(120 of the test split and 120 of the {split} split\)"
    with pytest.raises(UserError, match=problem):
        report(tmp_path, *runs)
    assert not {*FILES.values()} & {path.name for path in tmp_path.iterdir()}
    report(tmp_path, runs[1])


def test_order_of_types(tmp_path: Path, write_run: Write) -> None:
    """Runs whose types have another order were evaluated on the same sentences."""
    runs = [write_run(tmp_path / name, sizes=(250,)) for name in ("one", "two")]
    for stage in (runs[1] / "stages").iterdir():
        result = read_result(stage)
        assert result
        result["types"] = [*reversed(result["types"])]
        counts = {(each["language"], each["split"]): read_counts(stage, each) for each in result["evaluations"]}
        for split, own in counts.items():
            turned = {name: getattr(own, name)[:, ::-1] for name in ("correct", "predicted", "gold")}
            counts[split] = own._replace(**turned)
        write_result(stage, result, counts)
    report(tmp_path, *runs)


def test_contaminated_scores_are_marked(tmp_path: Path, write_run: Write) -> None:
    """Each table that shows the score of contaminated weights says so beside it."""
    runs = [write_run(tmp_path / name, sizes=(250,), targets=("tr", "de")) for name in ("one", "two")]
    clean, _ = report(tmp_path, *runs)
    assert "contaminated" not in clean

    def contaminate(result: dict[str, Any]) -> None:
        for each in result["evaluations"]:
            each["contaminated"] = each["language"] == "tr"

    for stage in ("source-en-seed42", "progressive-tr-250-seed42"):
        change_result(runs[0] / "stages" / stage / "result.json", contaminate)
    text, page = report(tmp_path, *runs)
    assert text.count("<br>contaminated</small>") == 2  # languages
    assert text.count('<td class="text">progressive, contaminated in one (Turkish)</td>') == 1  # of the other run
    shown = "".join(page.text)
    assert "Turkish F1, zero-shot, contaminated" in shown
    assert "Turkish F1 with 250 Turkish sentences (progressive, contaminated)" in shown
    assert "German F1 with 250 German sentences (progressive)" in shown
    assert "one · progressive, contaminated" in text
    text, page = report(tmp_path, *runs[::-1])
    assert text.count('<td class="text">progressive, contaminated</td>') == 1
    text, _ = report(tmp_path, write_run(tmp_path / "alone", sizes=(250,)))
    assert "contaminated" not in text
    change_result(tmp_path / "alone" / "stages" / "progressive-tr-250-seed42" / "result.json", contaminate)
    text, page = report(tmp_path, tmp_path / "alone")
    assert "progressive, contaminated" in page.text  # the legend of the curve


def test_scratch_has_no_source(tmp_path: Path, write_run: Write) -> None:
    """A row of stages that were trained on target sentences alone does not name a source language."""
    matrix = score_matrix([load_run(write_run(tmp_path / "run", regimes=("scratch", "joint"), targets=("tr", "de")))])
    assert matrix
    assert {row.regime: row.sources for row in matrix.rows} == {"source": ["en"], "joint": ["en"], "scratch": []}
    text, _ = report(tmp_path, tmp_path / "run")
    assert '<th scope="row">scratch</th>' in text
    assert '<th scope="row">English, joint</th>' in text


def test_languages_are_spelled_out(tmp_path: Path, write_run: Write) -> None:
    """Titles, headings and captions name languages; codes are left to the ids of stages and to the configuration."""
    text, page = report(tmp_path, write_run(tmp_path / "run"))
    assert "<title>Cross-lingual transfer: English → Turkish (run)</title>" in text
    assert "without Turkish training data (zero-shot)" in text[: text.index("</header>")]
    assert "Turkish F1 by number of Turkish training sentences" in page.text
    parts = re.findall(r"<(h\d|th|figcaption|p|dt)\b[^>]*>(.*?)</\1>", text, re.S)
    prose = re.sub(r"<code>.*?</code>|<[^>]*>", "", " ".join(content for _, content in parts))
    assert "Turkish" in prose
    assert not re.search(r"(?<![-\w])(en|tr)(?![-\w])", prose)


def test_digests_are_short(tmp_path: Path, write_run: Write) -> None:
    """A digest of the lineage is shown by its first twelve characters, and whole where the pointer rests on it."""
    text, page = report(tmp_path, write_run(tmp_path / "run"))
    assert DIGEST[:12] in page.text
    assert not any(DIGEST in each for each in page.text)
    assert f'<abbr title="{DIGEST}">' in text


def test_the_curve_takes_its_colours_from_the_page(tmp_path: Path, write_run: Write) -> None:
    """The style sheet defines every colour of the curve, for light with its own value and once more for dark."""
    text, _ = report(tmp_path, write_run(tmp_path / "run", regimes=("progressive", "joint"), seeds=(1, 2)))
    style, drawing = text[: text.index("</style>")], text[text.index("<svg") : text.rindex("</svg>")]
    for name, colour in COLOURS.items():
        assert f"--{name}: {colour};" in style
        assert style.count(f"--{name}: ") == 2
        assert colour not in drawing
    assert "var(--pink)" in drawing


def test_a_contaminated_run_is_warned_of(tmp_path: Path, write_run: Write) -> None:
    """If the start is not zero-shot, the page says so before any number and calls no score zero-shot."""
    _, page = report(tmp_path, write_run(tmp_path / "run", zero_shot=False))
    shown = "".join(page.text)
    assert shown.index("Not zero-shot.") < shown.index("95 % CI")
    assert "before adaptation (not zero-shot)" in shown
    assert "compared with the source stage" in shown
    assert "compared with zero-shot" not in shown


def test_a_source_stage_alone_makes_a_page(tmp_path: Path, write_run: Write) -> None:
    """Without few-shot stages, the page has the scores of the source stage."""
    _, page = report(tmp_path, write_run(tmp_path / "run", sizes=()))
    assert "Turkish F1, zero-shot" in page.text


def test_kept_sentences_are_not_needed(tmp_path: Path, write_run: Write) -> None:
    """Without the sentences of the run, the page says why it has no examples."""
    run = write_run(tmp_path / "run")
    shutil.rmtree(run / "sentences")
    _, page = report(tmp_path, run)
    assert "The run did not keep the sentences of the Turkish test split" in "".join(page.text)


def test_several_runs_are_compared_with_the_first(tmp_path: Path, write_run: Write) -> None:
    """Runs of one name are told apart by their parent folders, and the others are compared with the first."""
    first, second = write_run(tmp_path / "a" / "run", seeds=(1, 2)), write_run(tmp_path / "b" / "run", quality=0.05)
    text, page = report(tmp_path, first, second)
    shown = "".join(page.text)
    assert "Turkish F1 compared with a/run" in shown
    assert "seeds in common" in shown
    assert '<th scope="row">b/run</th><td class="text">progressive</td><td>250</td>\n<td>0</td>' in text
    assert "b/run · progressive" in shown
    assert len(page.ids) == len(set(page.ids))


def test_each_target_is_compared(tmp_path: Path, write_run: Write) -> None:
    """Of runs with several targets, those of each target are compared with the first run's."""
    runs = [
        write_run(tmp_path / name, targets=("tr", "de"), sizes=(250,), quality=good)
        for name, good in (("a", 0), ("b", 0.05))
    ]
    _, page = report(tmp_path, *runs)
    shown = "".join(page.text)
    assert "Turkish F1 compared with a (Turkish)" in shown
    assert "German F1 compared with a (German)" in shown


def test_the_page_is_the_same_to_the_byte(tmp_path: Path, write_run: Write) -> None:
    """The same stored results give the same page, so that a page can be compared."""
    run = write_run(tmp_path / "run")
    assert report(tmp_path, run)[0] == report(tmp_path, run)[0]


def test_report_needs_neither_torch_nor_pyplot() -> None:
    """Importing the report loads no torch, transformers, lightning or pyplot."""
    code = "import sys, xner.report; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True)
    assert not set(done.stdout.split()) & {"torch", "transformers", "lightning", "matplotlib.pyplot"}


MEASURE = """<iframe src="report.html" style="border: 0; width: 1280px; height: 900px"></iframe><pre></pre><script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument;
  for (const each of page.querySelectorAll("details")) each.open = true;
  const boxes = [page.documentElement, ...page.querySelectorAll(".scroll")];
  document.querySelector("pre").textContent = boxes.map(each => each.scrollWidth - each.clientWidth).join(" ");
};
</script>"""
"""A page that opens all details of the report and measures by how many pixels the page and each box scroll."""


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., str]:
    """Run headless Chromium with some options, and return its output."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip

    def run(path: Path, *options: str) -> str:
        command = [chromium, *flags, f"--user-data-dir={tmp_path / 'profile'}", *options, path.as_uri()]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    return run


def test_no_column_is_cut_off(tmp_path: Path, write_run: Write, browse: Callable[..., str]) -> None:
    """At 1280 px neither the page nor any table scrolls, with large sizes, all regimes and several seeds."""
    regimes = ("progressive", "independent", "scratch", "joint", "self_training")
    report(tmp_path, write_run(tmp_path / "run", regimes=regimes, sizes=(10_000, 20_000), seeds=(1234, 1235)))
    (tmp_path / "measure.html").write_text(MEASURE, encoding="utf-8")
    options = ("--window-size=1400,1000", "--allow-file-access-from-files", "--virtual-time-budget=5000", "--dump-dom")
    found = re.search("<pre>([-0-9 ]+)</pre>", browse(tmp_path / "measure.html", *options))
    assert found is not None
    pixels = [int(each) for each in found[1].split()]
    assert len(pixels) > 20
    assert max(pixels) <= 0


def test_page_renders_in_chromium(tmp_path: Path, write_run: Write, browse: Callable[..., str]) -> None:
    """Headless Chromium renders the page, narrow in light mode and wide in dark mode."""
    report(tmp_path, write_run(tmp_path / "run"))
    dom = browse(tmp_path / "report.html", "--dump-dom")
    assert "Turkish F1, zero-shot" in dom
    assert dom.count("<svg") == 2
    assert "<tbody>" in dom
    pictures = {}
    for name, width, options in (("light", 500, []), ("dark", 1200, ["--blink-settings=preferredColorScheme=0"])):
        picture = tmp_path / f"{name}.png"
        browse(tmp_path / "report.html", f"--window-size={width},900", f"--screenshot={picture}", *options)
        pictures[name] = picture.read_bytes()
    assert all(picture.startswith(b"\x89PNG") and len(picture) > 10_000 for picture in pictures.values())


@pytest.mark.parametrize("change", [lambda words: words[:-1], lambda words: [*words, ["a"]], lambda words: words[1:]])
def test_other_sentences(
    tmp_path: Path, write_run: Write, change: Callable[[list[list[str]]], list[list[str]]]
) -> None:
    """Words that are not those of the counts are damage, not an error within the page."""
    run = write_run(tmp_path / "run")
    path = run / "sentences" / "tr-test.json"
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    with pytest.raises(RunError, match=f"{path} does not have the sentences that were evaluated; delete it for a"):
        report(tmp_path, run)
    path.unlink()
    report(tmp_path, run)
