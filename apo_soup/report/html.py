"""The pieces of a report page: style, headings, tables. No script, no request; light, dark and print."""

import html
from collections.abc import Sequence
from typing import Any

from apo_soup.tables import printable

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d7dce3; --paper: #ffffff; --tint: #f4f6f9;
  --c0: #1f6fb2; --c1: #c2571a; --c2: #2b8a4b; --c3: #8a4fb0; --c4: #a8327a; --c5: #6b7280; --c6: #0f8a8a;
  --c7: #9a7b00; --heat: 31, 111, 178; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b4; --line: #36404d; --paper: #14181e;
  --tint: #1c222a; --c0: #6db3ee; --c1: #f0955c; --c2: #6cc98b; --c3: #c394e6; --c4: #ea83bd; --c5: #aab3bf;
  --c6: #5fd0d0; --c7: #d9b93b; --heat: 109, 179, 238; } }
* { box-sizing: border-box; }
html { overflow-wrap: anywhere; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 78rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p, figcaption { color: var(--soft); max-width: 46rem; } figcaption { font-size: .85rem; }
.wide { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .88rem; } th, td { padding: .3rem .6rem; text-align: left;
  border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: normal; }
th { color: var(--soft); font-weight: 600; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; } small { color: var(--soft); display: block; }
ol.lineage { list-style: none; display: flex; flex-wrap: wrap; gap: .5rem 1rem; padding: 0; }
ol.lineage li { background: var(--tint); border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .8rem;
  max-width: 100%; } ol.lineage li.absent { border-style: dashed; color: var(--soft); }
code { font-size: .85em; } pre { white-space: pre-wrap; margin: 0; font-size: .8rem; background: var(--tint);
  padding: .5rem; border-radius: .4rem; }
figure { margin: 0; min-width: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); gap: 1rem; }
.answers { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); gap: .6rem; }
.answers > div { border: 1px solid var(--line); border-radius: .4rem; padding: .4rem .5rem; min-width: 0; }
.answers pre { background: none; padding: 0; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.good { color: var(--c2); } .bad { color: var(--c1); } .verdict { font-weight: 600; }
details { margin: .4rem 0; } summary { cursor: pointer; }
@media print { body { max-width: none; padding: 0; } h2, h3 { break-after: avoid; } figure, tr, .answers > div {
  break-inside: avoid; } .wide { overflow: visible; } table { font-size: .7rem; } }
"""


def esc(text: Any) -> str:
    """A value's text, safe inside HTML."""
    return html.escape(printable(text))


def html_section(title: str, body: str) -> str:
    """A part of the page; a part without content says that it was not run."""
    return f"<section><h2>{esc(title)}</h2>{body or '<p>Not run.</p>'}</section>"


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], prose: bool = False) -> str:
    """An HTML table; cells are HTML already. `prose` lets their lines break."""
    kind = "" if prose else ' class="number"'
    head = "".join(f"<th>{esc(h)}</th>" for h in header)
    body = "".join("<tr>" + "".join(f"<td{kind}>{c}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def figure(drawing: str, caption: str) -> str:
    """A drawing with plain text below it."""
    return f"<figure>{drawing}<figcaption>{esc(caption)}</figcaption></figure>"


def chart_grid(figures: Sequence[str]) -> str:
    """Figures side by side, as many as the screen holds; empty for none."""
    return f'<div class="charts">{"".join(figures)}</div>' if figures else ""


def html_page(title: str, body: str) -> str:
    """A whole page around the HTML of its body."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{esc(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )
