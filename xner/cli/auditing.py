"""The tool ``audit``: its options, its tables, and its JSON."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from xner.cli.output import Cell, say, shortened, table
from xner.cli.parsing import OPTIONS, ToolParser, add_source, languages_of, reading_of
from xner.data.sources import splits_of
from xner.errors import UserError, did_you_mean, options_called

if TYPE_CHECKING:
    from xner.data.audit import Audit, Tally

_WIDTH = 100
"""Columns of the longest line."""

_GROUPS = {
    "Sentences": ("duplicates", "conflicting", "redirects"),
    "Overlap with training splits": ("overlap", "conflicting_overlap"),
    "Near-duplicates of training sentences": ("near_overlap",),
    "Long sentences": ("long",),
    "Words": ("invisible", "no_pieces", "cut_words"),
    "Tags": ("invalid_tags", "converted_tags"),
    "Entities": ("seen_entities", "seen_any_case"),
    "Ambiguous entities": ("ambiguous", "ambiguous_strings"),
}
"""The findings of each table."""


class _Findings(UserError):
    """Findings that ``--fail_on`` names."""

    exit_code = 3


def audit(args: Sequence[str]) -> None:
    """Count repeated and overlapping sentences, inconsistent tags and unreadable words, and show examples."""
    from xner.data.audit import FINDINGS, OF_TOKENIZER, audit_splits

    parser = ToolParser(
        "audit", "Count repeated sentences, overlap between splits, inconsistent tags and unreadable words in a corpus."
    )
    add_source(parser)
    parser.add_argument(
        "--tokenizer",
        help="hub name, folder with the tokenizer's files, or sample (embedded); None leaves out "
        f"{', '.join(OF_TOKENIZER)}",
    )
    parser.add_argument("--max_length", type=int, default=512, help="maximum number of subwords per window")
    parser.add_argument("--examples", type=int, default=2, help="number of examples per count")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument(
        "--fail_on", default="", help=f"end with exit code 3 if any of these is found: {', '.join(FINDINGS)}"
    )
    options = parser.parse_args(args)
    languages = languages_of(options)
    if options.max_length < 1:
        raise UserError(f"max_length={options.max_length} is not positive; use 1 or more")
    if options.examples < 0:
        raise UserError(f"examples={options.examples} is negative; use 0 or more")
    fail_on = options.fail_on.strip("[]").replace(",", " ").split()
    for name in fail_on:
        if name not in FINDINGS:
            raise UserError(f"fail_on={name!r} is not a finding; {did_you_mean(name, [*FINDINGS])}")
        if name in OF_TOKENIZER and options.tokenizer is None:
            raise UserError(f"fail_on={name!r} needs a tokenizer; name one with --tokenizer")
    with options_called({**OPTIONS, "data.max_length": "max_length", "model.backbone": "tokenizer"}):
        reading = reading_of(options)
        splits = [split for language in languages for split in splits_of(options.source, language, reading)]
        result = audit_splits(
            splits, tokenizer=options.tokenizer, max_length=options.max_length, examples=options.examples
        )
    if options.json:
        request = {
            "source": options.source,
            "languages": languages,
            "tokenizer": options.tokenizer,
            "max_length": options.max_length,
        }
        print(_as_json({**request, **_content(result)}))
    else:
        say(_as_tables(result))
    sys.stdout.flush()
    if found := [f"{name} ({result.count(name):,})" for name in fail_on if result.count(name)]:
        raise _Findings(f"fail_on={','.join(fail_on)}: found {', '.join(found)}")


def _content(result: "Audit") -> dict[str, object]:
    from xner.data.audit import FINDINGS

    findings = {
        name: None
        if name not in result.findings
        else {
            "unit": kind.unit,
            "count": result.count(name),
            "tallies": [asdict(tally) for tally in result.findings[name]],
        }
        for name, kind in FINDINGS.items()
    }
    return {"splits": [asdict(size) for size in result.splits], "findings": findings}


def _as_json(content: object) -> str:
    """Format JSON whose strings show their invisible characters as escapes."""
    from xner.data.characters import has_invisible

    text = json.dumps(content, ensure_ascii=False)
    if not has_invisible(text):
        return text
    return "".join(json.dumps(character)[1:-1] if has_invisible(character) else character for character in text)


def _as_tables(result: "Audit") -> str:
    """Format a table for each group of findings, with what they count and examples below."""
    from xner.data.audit import FINDINGS

    head = ["language", "split", "scheme", "sentences", "words", "entities"]
    parts = ["Splits", table(head, [[*asdict(size).values()] for size in result.splits])]
    for title, group in _GROUPS.items():
        names = [name for name in group if name in result.findings]
        if names and result.findings[names[0]]:
            parts.append(title)
            parts.append(_table_of({name: result.findings[name] for name in names}))
            for name in names:
                parts.append("\n".join([f"{name}: {FINDINGS[name].description}", *_examples(result.findings[name])]))
    return "\n\n".join(parts)


def _table_of(findings: dict[str, list["Tally"]]) -> str:
    """Format findings in the same splits, with the percentage of each."""
    from xner.data.audit import FINDINGS

    first, *_ = findings.values()
    labels = [name for name in ("language", "split", "train_language") if getattr(first[0], name) is not None]
    head = [*(name.replace("_language", "") for name in labels), FINDINGS[next(iter(findings))].unit]
    for name in findings:
        head += [name, "%"]
    rows: list[list[Cell]] = []
    for tallies in zip(*findings.values(), strict=True):
        row: list[Cell] = [*(getattr(tallies[0], name) for name in labels), tallies[0].total]
        for tally in tallies:
            row += [tally.count, 100 * tally.count / tally.total if tally.total else 0.0]
        rows.append(row)
    return table(head, rows, decimals=2)


def _examples(tallies: Sequence["Tally"]) -> list[str]:
    """Format a line for each example: its split, its number, and its text as far as it fits."""
    from xner.data.characters import escape_invisible

    lines = []
    for tally in tallies:
        place = "/".join(filter(None, (tally.language, tally.split)))
        if tally.train_language not in (None, tally.language):
            place += f", in {tally.train_language}/train"
        for example in tally.examples:
            number = "" if example.sentence is None else f", sentence {example.sentence}"
            lines.append(shortened(f"  {place}{number}: {escape_invisible(example.text)}", _WIDTH))
    return lines
