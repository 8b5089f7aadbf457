"""The page's style: light and dark, readable on a phone, nothing from outside."""

CURVE = {
    "#1f2328": "var(--ink)", "#59636e": "var(--quiet)", "#e4e7eb": "var(--line)", "#ffffff": "var(--paper)",
    "#0072b2": "var(--blue)", "#b84a00": "var(--orange)", "#007a5a": "var(--green)", "#a3507f": "var(--pink)",
    "#8a6d00": "var(--yellow)", "#3f4fa8": "var(--violet)",
}  # fmt: skip
"""What the page calls the colours that ``curve`` draws with, so that the curve follows the page into the dark."""

STYLE = """
:root { color-scheme: light dark;
  --paper: #ffffff; --wash: #f6f7f8; --ink: #1f2328; --quiet: #59636e; --line: #e4e7eb; --rule: #c9cfd6;
  --blue: #0072b2; --orange: #b84a00; --green: #007a5a; --pink: #a3507f; --yellow: #8a6d00; --violet: #3f4fa8;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif;
  --serif: Charter, "Bitstream Charter", "Sitka Text", "Noto Serif", Cambria, Georgia, serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "Noto Sans Mono", "DejaVu Sans Mono", monospace; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171a; --wash: #1c2024; --ink: #e4e7ea; --quiet: #9ba5b0; --line: #2a3036; --rule: #454d56;
  --blue: #62b5e8; --orange: #f2955a; --green: #4cc9a0; --pink: #e3a0c6; --yellow: #d9bd55; --violet: #a3aef5; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 17px/1.55 var(--serif); overflow-wrap: anywhere; }
header, main, footer { max-width: 62rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 3.2rem; }
h1 { font-size: 2.1rem; line-height: 1.2; font-weight: 600; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.4rem; line-height: 1.25; font-weight: 600; margin: 3.2rem 0 .6rem; }
h3 { font-size: 1.08rem; font-weight: 600; margin: 2rem 0 .4rem; }
.run { margin-top: 4.5rem; padding-top: 1rem; border-top: 3px double var(--rule); font-size: 1.7rem; }
p { margin: 0 0 .8rem; max-width: 42rem; }
.lead, .note, figcaption, .where { color: var(--quiet); }
.note { font-size: .94rem; }
a { color: var(--blue); }
nav { font: .88rem/1.9 var(--sans); margin-top: 1rem; }
nav a { margin-right: 1.1rem; text-decoration: none; white-space: nowrap; }
nav a:hover { text-decoration: underline; }
.warning { border-left: 4px solid var(--orange); background: var(--wash); padding: .7rem 1rem; margin: 1.2rem 0; }
.headline { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 1.4rem 1.6rem;
  margin: 2rem 0 .8rem; padding: 1.4rem 0; border: solid var(--line); border-width: 1px 0; }
.headline div { display: flex; flex-direction: column; }
.headline dt { font: .86rem/1.35 var(--sans); color: var(--quiet); order: 2; }
.headline dd { margin: 0; order: 1; }
.headline .value { font-size: 2.2rem; line-height: 1.15; font-variant-numeric: lining-nums tabular-nums; }
.headline .range { order: 3; font: .86rem/1.35 var(--sans); color: var(--quiet); }
figure { margin: 1.2rem 0 1.6rem; }
figure svg { display: block; width: 100%; min-width: 40rem; height: auto; }
figcaption { font-size: .94rem; max-width: 42rem; }
.scroll { overflow-x: auto; margin: .5rem 0; }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
table { border-collapse: collapse; font: .86rem/1.4 var(--sans); font-variant-numeric: lining-nums tabular-nums; }
th, td { padding: .36rem .95rem .36rem 0; text-align: left; white-space: nowrap; vertical-align: baseline; }
thead th { font-weight: 600; border-bottom: 1px solid var(--rule); vertical-align: bottom; }
tbody th { font-weight: 400; }
tbody tr { border-bottom: 1px solid var(--line); }
th.number, td.number { text-align: right; padding: .36rem 0 .36rem 1.15rem; }
td small, .value small { color: var(--quiet); }
details { margin: .6rem 0; }
summary { cursor: pointer; font: .92rem/1.7 var(--sans); color: var(--blue); }
pre { font: .8rem/1.5 var(--mono); background: var(--wash); padding: 1rem; overflow-x: auto; max-height: 36rem; }
code { font: .88em var(--mono); }
.record { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .15rem 1.2rem; margin: .4rem 0 1rem;
  font: .86rem/1.5 var(--sans); }
.record dt { color: var(--quiet); }
.record dd { margin: 0; } .record figure { margin: 0 0 .6rem; } .record .scroll { margin: 0; }
.bar { display: flex; width: 13rem; height: .8rem; border-radius: 2px; overflow: hidden; gap: 1px; }
.bar span, .key { display: block; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .4em 0 0; }
.f0 { background: var(--blue); }
.f1 { background: repeating-linear-gradient(90deg, var(--pink) 0 3px, var(--paper) 3px 4px); }
.f2 { background: repeating-linear-gradient(45deg, var(--yellow) 0 3px, var(--paper) 3px 5px); }
.f3 { background: var(--rule); }
.legend { font: .86rem/1.8 var(--sans); }
.legend span { white-space: nowrap; margin-right: 1.1rem; }
.examples { list-style: none; padding: 0; margin: .4rem 0 1rem; max-width: 52rem; }
.examples li { padding: .7rem 0; border-bottom: 1px solid var(--line); }
.where { font: .8rem/1.4 var(--sans); margin: 0 0 .2rem; }
.pair { display: grid; grid-template-columns: 5.2rem minmax(0, 1fr); gap: .25rem .8rem; margin: 0; line-height: 1.75; }
.pair dt { font: .8rem/2.1 var(--sans); color: var(--quiet); }
.pair dd { margin: 0; }
mark { background: none; color: inherit; border-bottom: 2px solid; padding: 0 .1em .05em; margin: 0 .1em; }
mark.predicted { border-bottom-style: dashed; }
mark small { font: 600 .68em var(--sans); letter-spacing: .03em; margin-left: .35em; white-space: nowrap; }
.PER { border-color: var(--blue); } .PER small { color: var(--blue); }
.ORG { border-color: var(--orange); } .ORG small { color: var(--orange); }
.LOC { border-color: var(--green); } .LOC small { color: var(--green); }
footer { margin: 4rem auto 3rem; font: .86rem/1.5 var(--sans); color: var(--quiet); }
@media (max-width: 40rem) {
  body { font-size: 16px; } header, main, footer { padding: 0 1rem; } header { padding-top: 1.8rem; }
  tbody th, thead th:first-child { position: sticky; left: 0; background: var(--paper); padding-right: .7rem; }
  h1 { font-size: 1.65rem; } .headline { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1.2rem; }
  .headline .value { font-size: 1.75rem; }
  .pair { grid-template-columns: 1fr; gap: 0; } .pair dt { line-height: 1.6; } }
@media print { details::details-content { content-visibility: visible; } .scroll { overflow: visible; } }
"""
