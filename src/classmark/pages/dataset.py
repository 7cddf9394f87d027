"""Statistics of a dataset as one HTML page, and as Markdown for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from classmark.dataset.statistics.statistics import (
    HISTOGRAM_END_WORDS,
    HISTOGRAM_STEP_WORDS,
    UNKNOWN_YEAR,
    Comparison,
    DatasetStatistics,
)
from classmark.pages.charts import Series, bars, changes, columns
from classmark.pages.dataset_tables import Table, percent, tables
from classmark.pages.frame import render
from classmark.pages.svg import Markup

_GENERATED = "The papers are invented: nothing in them is true."
_OPEN_TABLES = ("How far apart", "Category shifts", "Records", "Language, vocabulary, duplicates")
_SHOWN_CATEGORIES = 25
_SHOWN_SHIFTS = 16
_UNIT = "% of papers"

Figure = tuple[str, Markup]
"""What it shows, and the SVG."""


def dataset_page(after: DatasetStatistics, comparison: Comparison | None = None) -> str:
    """Return the statistics as one HTML file that needs nothing else.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    before = comparison.before if comparison else None
    against = f"Compared with {before.name}. " if before else ""
    return render(
        "dataset.html",
        title=f"Dataset {after.name}",
        lead=f"{against}{after.kept:,} papers, {len(after.categories)} categories.",
        generated=_is_generated(after, comparison),
        warning=_GENERATED,
        tiles=list(_tiles(after, comparison)),
        tables=list(tables(after, comparison)),
        n_first=1 if comparison else 0,
        figures=list(_figures(after, comparison)),
        origin={
            "dataset": after.name,
            "digest": after.digest,
            "compared with": before.name if before else "",
            "digest of that": before.digest if before else "",
        },
    )


def dataset_markdown(after: DatasetStatistics, comparison: Comparison | None = None) -> str:
    """Return the statistics as a heading and tables; the long ones are folded."""
    return "\n".join(_markdown_lines(after, comparison)) + "\n"


def _is_generated(after: DatasetStatistics, comparison: Comparison | None) -> bool:
    return after.generated or (comparison is not None and comparison.before.generated)


def _tiles(after: DatasetStatistics, comparison: Comparison | None) -> Iterator[tuple[str, str]]:
    """Yield name and value of the headline numbers."""
    years = [year for year in after.years if year != UNKNOWN_YEAR]
    yield "Papers", f"{after.kept:,}"
    yield "Categories", f"{len(after.categories)}"
    yield "First versions", f"{years[0]}\u2013{years[-1]}" if years else "\u2013"
    yield "Words in an abstract, median", f"{after.abstract_words['median']:.0f}"
    yield "Cross-listed", percent(after.cross_listed, after.kept)
    yield "Near-duplicates left", f"{after.duplicates.near:,}"
    if comparison:
        yield "Divergence of categories, bits (0 to 1)", f"{comparison.category_divergence:.4f}"
        yield "Divergence of words, bits (0 to 1)", f"{comparison.word_divergence:.4f}"


def _figures(after: DatasetStatistics, comparison: Comparison | None) -> Iterator[Figure]:
    """Yield the figures of one dataset, or of two in one figure each."""
    before = comparison.before if comparison else None
    if comparison:
        title = "Change of a category's share, percentage points"
        shifts = comparison.shifts[:_SHOWN_SHIFTS]
        yield title, changes([(shift.code, 100 * shift.change) for shift in shifts], title)
    both = [*([before] if before else []), after]
    codes = list(after.categories)[:_SHOWN_CATEGORIES]
    title = "Papers by category"
    yield title, bars(codes, _shares(both, "categories", codes), title, _UNIT)
    years = _without_gaps({year for who in both for year in who.years})
    yield _columns("Papers by year", years, _shares(both, "years", years), "first version")
    lowers = range(0, HISTOGRAM_END_WORDS + 1, HISTOGRAM_STEP_WORDS)
    names = [f"{lower}+" if lower == HISTOGRAM_END_WORDS else str(lower) for lower in lowers]
    series = _shares(both, "abstract_histogram", lowers)
    words = f"words, in steps of {HISTOGRAM_STEP_WORDS}"
    yield _columns("Words in an abstract", names, series, words)
    listed = sorted({number for who in both for number in who.listed})
    if len(listed) > 1:
        series = _shares(both, "listed", listed)
        names = [str(number) for number in listed]
        yield _columns("Categories a paper is listed in", names, series, "categories")


def _columns(title: str, names: Sequence[str], series: Sequence[Series], words: str) -> Figure:
    return title, columns(names, series, title, (_UNIT, words))


def _shares(both: Sequence[DatasetStatistics], counts: str, keys: Sequence[Any]) -> list[Series]:
    """Return the share of papers by key in percent, for one dataset or for before and after."""
    return [
        Series(
            name=who.name,
            css="first" if who is both[-1] else "count",
            values=[100 * getattr(who, counts).get(key, 0) / max(1, who.kept) for key in keys],
        )
        for who in both
    ]


def _without_gaps(years: set[str]) -> list[str]:
    """Return every year from the first to the last, then what is not a year."""
    numbers = [int(year) for year in years if year.isdigit()]
    span = range(min(numbers), max(numbers) + 1) if numbers else ()
    return [str(year) for year in span] + sorted(year for year in years if not year.isdigit())


def _markdown_lines(after: DatasetStatistics, comparison: Comparison | None) -> Iterator[str]:
    against = f" against {_plain(comparison.before.name)}" if comparison else ""
    yield f"## Dataset {_plain(after.name)}{against}"
    yield ""
    if _is_generated(after, comparison):
        yield f"> {_GENERATED}"
        yield ""
    yield (
        f"{after.kept:,} papers, {len(after.categories)} categories, digest `{after.digest[:12]}`."
    )
    for table in tables(after, comparison):
        folded = table.title not in _OPEN_TABLES
        yield ""
        yield f"<details><summary>{table.title}</summary>" if folded else f"### {table.title}"
        yield ""
        yield from _markdown_table(table)
        if folded:
            yield ""
            yield "</details>"


def _markdown_table(table: Table) -> Iterator[str]:
    if table.note:
        yield table.note
        yield ""
    yield f"| {' | '.join(table.head)} |"
    yield "|".join(["", " --- ", *[" ---: "] * (len(table.head) - 1), ""])
    yield from (f"| {' | '.join(map(_plain, row))} |" for row in table.rows)


def _plain(text: str) -> str:
    """Return text in which nothing is taken for Markdown or HTML."""
    for mark, shown in (("&", "&amp;"), ("<", "&lt;"), ("\\", "\\\\"), ("|", "\\|")):
        text = text.replace(mark, shown)
    for mark in "`*_[]":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
