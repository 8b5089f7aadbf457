"""The page: one file without scripts and without requests, to be sent around."""

from collections.abc import Sequence

from xner.report import headline, mistakes, sections
from xner.report.analysis import Analysis
from xner.report.markup import Html, details, element, escape, join, record, table
from xner.report.points import trained_on
from xner.report.style import STYLE

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""The browser is told to ask for nothing, so that a mistake here cannot make it."""


def page(analyses: Sequence[Analysis], svg: str) -> str:
    """Compose the page.

    Args:
        analyses: Of each run; the first is what the others are compared with.
        svg: The curve of all of them.
    """
    first, several = analyses[0], len(analyses) > 1
    title = f"{first.source} → {first.target}: named-entity transfer" + ("" if several else f", {first.run.name}")
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Html(STYLE)),
    ]
    body = [
        element(
            "header",
            element("h1", f"From {first.source} to {first.target}"),
            element("p", _lead(analyses), class_="lead"),
            _contents(analyses),
        ),
        element("main", *_main(analyses, svg)),
        element(
            "footer",
            "Made by xner from the stored results alone. Headline and curve show F1 in per cent, tables fractions.",
        ),
    ]
    return f"<!doctype html>\n{element('html', element('head', *head), element('body', *body), lang='en')}\n"


def _main(analyses: Sequence[Analysis], svg: str) -> list[str]:
    parts: list[str] = []
    if len(analyses) == 1:
        parts += [headline.warnings(analyses[0]), headline.numbers(analyses[0]), headline.figure(svg, analyses)]
        return parts + _details(analyses[0], "")
    parts += [
        headline.figure(svg, analyses),
        _section("Run against run", "", "compared", sections.comparison(analyses)),
    ]
    for number, analysis in enumerate(analyses, 1):
        prefix = f"run{number}-"
        parts += [
            element("h2", analysis.run.name, id=f"run{number}", class_="run"),
            headline.warnings(analysis),
            headline.numbers(analysis),
            *_details(analysis, prefix),
        ]
    return parts


def _details(analysis: Analysis, prefix: str) -> list[str]:
    errors = join(
        [
            mistakes.fates(analysis),
            mistakes.lengths(analysis),
            mistakes.seen(analysis),
            mistakes.example_sentences(analysis),
        ]
    )
    return [
        _section(
            "Results",
            prefix,
            "results",
            join([sections.results(analysis), sections.gains(analysis), sections.stages(analysis)]),
        ),
        _section("Whole curves", prefix, "curves", sections.whole_curves(analysis)),
        _section("Forgetting", prefix, "forgetting", sections.forgotten(analysis)),
        _section(f"Errors on {analysis.target}", prefix, "errors", errors),
        _section("Lineage", prefix, "lineage", lineage(analysis)),
        _section("Configuration and versions", prefix, "configuration", configuration(analysis)),
    ]


def lineage(analysis: Analysis) -> Html:
    """What the weights of each stage have ever been trained on."""
    note = element(
        "p",
        "What the weights of each stage have been trained on, oldest first. Zero-shot is what holds no sentence of the "
        "evaluated language; a backbone of unknown history counts as pretrained, not trained.",
        class_="note",
    )
    folds = [
        details(f"{result['stage']}: {trained_on(result)}", record(result["lineage"], "lineage"))
        for result in analysis.run.results
    ]
    return join([note, *folds])


def configuration(analysis: Analysis) -> Html:
    """What defined the run, and the versions of what ran it."""
    path = analysis.run.path / "config.yaml"
    parts: list[str] = []
    if path.is_file():
        parts.append(
            details("config.yaml", element("pre", path.read_text(encoding="utf-8", errors="replace"), tabindex="0"))
        )
    versions: dict[str, list[str]] = {}
    for result in analysis.run.results:
        for name, version in result.get("versions", {}).items():
            if version not in versions.setdefault(name, []):
                versions[name].append(version)
    if versions:
        rows = [[name, " and ".join(found)] for name, found in sorted(versions.items())]
        parts.append(table("What the stages ran with.", ["", "version"], rows, texts=2))
    return join(parts) if parts else element("p", "The run kept neither a config.yaml nor versions.", class_="note")


def _lead(analyses: Sequence[Analysis]) -> Html:
    first = analyses[0]
    names = join((element("strong", each.run.name) for each in analyses), " and ")
    source, target = first.source, first.target
    text = f": how well entities learnt in {source} carry over to {target}, and what a little {target} adds. "
    regimes = list(dict.fromkeys(point.regime for each in analyses for point in each.points if point.size))
    seeds = sorted({result["seed"] for each in analyses for result in each.run.results})
    many = f"Seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    return join([names, text, escape(f"Regimes: {', '.join(regimes)}. " if regimes else ""), f"{many}."])


def _contents(analyses: Sequence[Analysis]) -> Html:
    if len(analyses) > 1:
        links = [("compared", "Run against run"), *((f"run{n}", each.run.name) for n, each in enumerate(analyses, 1))]
    else:
        names = ("results", "curves", "forgetting", "errors", "lineage", "configuration")
        links = [(name, name.capitalize()) for name in names]
    return element("nav", *(element("a", text, href=f"#{name}") for name, text in links), aria_label="Contents")


def _section(title: str, prefix: str, name: str, content: str) -> Html:
    """A titled part; nothing where there is nothing to say."""
    return element("section", element("h2", title, id=f"{prefix}{name}"), content) if content else Html("")
