"""Statistics as Markdown that fits a comment on a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from classmark.dataset.statistics.statistics import Comparison, DatasetStatistics
from classmark.pages.dataset_tables import Table, tables

GENERATED = "The papers are invented: nothing in them is true."
_OPEN_TABLES = ("How far apart", "Category shifts", "Records", "Language, vocabulary, duplicates")


def to_markdown(after: DatasetStatistics, comparison: Comparison | None = None) -> str:
    """Return a heading and tables; the long ones are folded."""
    return "\n".join(_lines(after, comparison)) + "\n"


def _lines(after: DatasetStatistics, comparison: Comparison | None) -> Iterator[str]:
    against = f" against {_text(comparison.before.name)}" if comparison else ""
    yield f"## Dataset {_text(after.name)}{against}"
    yield ""
    if after.generated or (comparison and comparison.before.generated):
        yield f"> {GENERATED}"
        yield ""
    yield (
        f"{after.kept:,} papers, {len(after.categories)} categories, digest `{after.digest[:12]}`."
    )
    for table in tables(after, comparison):
        folded = table.title not in _OPEN_TABLES
        yield ""
        yield f"<details><summary>{table.title}</summary>" if folded else f"### {table.title}"
        yield ""
        yield from _table(table)
        if folded:
            yield ""
            yield "</details>"


def _table(table: Table) -> Iterator[str]:
    if table.note:
        yield table.note
        yield ""
    yield _row(table.head)
    yield "|".join(["", " --- ", *[" ---: "] * (len(table.head) - 1), ""])
    yield from (_row(tuple(_text(cell) for cell in row)) for row in table.rows)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(text: str) -> str:
    """Return text in which nothing is taken for Markdown or HTML."""
    for mark, shown in (("&", "&amp;"), ("<", "&lt;"), ("\\", "\\\\"), ("|", "\\|")):
        text = text.replace(mark, shown)
    for mark in "`*_[]":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
