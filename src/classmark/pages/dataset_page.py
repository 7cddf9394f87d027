"""Statistics as one HTML page that needs nothing else: no script, no font, no picture beside it."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from classmark.dataset.statistics.statistics import UNKNOWN_YEAR, Comparison
from classmark.dataset.statistics.statistics import DatasetStatistics as Statistics
from classmark.pages.dataset_markdown import GENERATED
from classmark.pages.dataset_plots import plots
from classmark.pages.dataset_tables import Table, percent, tables

_STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --card: #ffffff; --ink: #22201c;
  --soft: #6b665e; --faint: #dcd7cd; --after: #7a4a21; --before: #b9a68e; --less: #2f6f8f; }
@media (prefers-color-scheme: dark) { :root { --paper: #191816; --card: #22211e; --ink: #ece8e0;
  --soft: #a49d91; --faint: #3d3a35; --after: #d9955a; --before: #776a5a; --less: #6fb3d3; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 76rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 .6rem; }
p { margin: .2rem 0 .8rem; color: var(--soft); }
.warning { border-left: 4px solid var(--after); padding: .4rem .8rem; color: var(--ink); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0; }
.tile, section { background: var(--card); border: 1px solid var(--faint); border-radius: 10px; }
.tile { padding: .7rem .9rem; }
.tile b { display: block; font-size: 1.3rem; line-height: 1.3; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .85rem; }
.grid { columns: 2 32rem; column-gap: 1rem; }
section { padding: 1rem 1.1rem; margin: 0 0 1rem; break-inside: avoid; overflow-x: auto; }
section p { font-size: .85rem; }
svg { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .5rem; text-align: right; border-bottom: 1px solid var(--faint); }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 500; }
"""


def to_html(after: Statistics, comparison: Comparison | None = None) -> str:
    """Return the page.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    return "\n".join(_lines(after, comparison)) + "\n"


def _lines(after: Statistics, comparison: Comparison | None) -> Iterator[str]:
    title = escape(f"Dataset {after.name}")
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>{title}</h1>"
    against = f"compared with {escape(comparison.before.name)}, " if comparison else ""
    yield f"<p>{against}digest {after.digest[:12]}</p>"
    if after.generated or (comparison and comparison.before.generated):
        yield f'<p class="warning">{GENERATED}</p>'
    yield '<div class="tiles">'
    yield from (_tile(number, what) for number, what in _key_figures(after, comparison))
    yield '</div><div class="grid">'
    shown = [_table(table) for table in tables(after, comparison)]
    if comparison:
        yield shown.pop(0)  # how far apart, before it is shown in what
    for what, svg in plots(after, comparison):
        yield f"<section><h2>{escape(what)}</h2>{svg}</section>"
    yield from shown
    yield "</div></body></html>"


def _key_figures(after: Statistics, comparison: Comparison | None) -> Iterator[tuple[str, str]]:
    yield f"{after.kept:,}", "papers"
    yield f"{len(after.categories)}", "categories"
    years = [year for year in after.years if year != UNKNOWN_YEAR]
    yield (f"{years[0]}-{years[-1]}" if years else "-"), "first versions"
    yield f"{after.abstract_words['median']:.0f}", "words in an abstract, median"
    yield percent(after.cross_listed, after.kept), "cross-listed"
    yield f"{after.duplicates.near:,}", "near-duplicates left"
    if comparison:
        yield f"{comparison.category_divergence:.4f}", "divergence of categories, bits (0 to 1)"
        yield f"{comparison.word_divergence:.4f}", "divergence of words, bits (0 to 1)"


def _tile(number: str, what: str) -> str:
    return f'<div class="tile"><b>{escape(number)}</b><span>{escape(what)}</span></div>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.head)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    note = f"<p>{escape(table.note)}</p>" if table.note else ""
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<section><h2>{escape(table.title)}</h2>{note}{body}</section>"
