"""Statistics of a dataset as one HTML page, and as Markdown for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from classmark.dataset.statistics.statistics import (
    HISTOGRAM_END_WORDS,
    HISTOGRAM_STEP_WORDS,
    UNKNOWN_YEAR,
    Comparison,
    DatasetStatistics,
)
from classmark.dataset.statistics.tally import (
    MAX_FOREIGN_SHARE,
    MIN_ENGLISH_SHARE,
    MIN_JUDGED_WORDS,
    NEAR_DUPLICATE_SHARE,
)
from classmark.pages.charts import Series, bars, changes, columns
from classmark.pages.frame import render
from classmark.pages.svg import Markup

SHOWN_ROWS = 20
FORMULA = (
    "Jensen-Shannon divergence in bits, 0 (the same) to 1 (nothing in common): "
    "JSD(P, Q) = ½ Σ p log₂(p/m) + ½ Σ q log₂(q/m), m = (p + q)/2."
)
_GENERATED = "The papers are invented: nothing in them is true."
_OPEN_TABLES = ("How far apart", "Category shifts", "Records", "Language, vocabulary, duplicates")
_SHOWN_CATEGORIES = 25
_SHOWN_SHIFTS = 16
_UNIT = "% of papers"

Figure = tuple[str, Markup]
"""What it shows, and the SVG."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A heading, a sentence on what it shows, and cells; the first column is text."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


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


def tables(after: DatasetStatistics, comparison: Comparison | None = None) -> Iterator[Table]:
    """Yield the tables of one dataset, or of what has changed in it first, then of both."""
    before = comparison.before if comparison else None
    if comparison:
        yield _divergences(comparison)
        yield _shifted(comparison)
        yield _moved_words(comparison)
    yield _overview(after, before)
    yield _counted("Categories", after.categories, before.categories if before else None)
    yield _counted("Years", after.years, before.years if before else None)
    yield _lengths(after, before)
    if after.pairs:
        yield Table(
            title="Most frequent cross-lists",
            head=("label", "also listed in", "papers"),
            rows=tuple((label, other, f"{count:,}") for label, other, count in after.pairs),
        )
    yield _quality(after, before)


def percent(part: float, whole: float) -> str:
    """Return a share as text."""
    return f"{part / whole:.1%}" if whole else "-"


def _counts(after: int, whole: int, before: int | None, old_whole: int) -> tuple[str, ...]:
    """Return a number with its share; or both shares and the change in points."""
    if before is None:
        return f"{after:,}", percent(after, whole)
    change = after / max(1, whole) - before / max(1, old_whole)
    shares = (f"{part / max(1, all_):.2%}" for part, all_ in ((before, old_whole), (after, whole)))
    return *shares, points(change)


def points(change: float) -> str:
    """Return a change of a share in percentage points, as text with its sign."""
    return f"{100 * change:+.2f} pt"


def _divergences(comparison: Comparison) -> Table:
    rows = (
        ("categories", f"{comparison.category_divergence:.4f}"),
        ("years", f"{comparison.year_divergence:.4f}"),
        ("words", f"{comparison.word_divergence:.4f}"),
        ("running words that are new", f"{comparison.new_words:.2%}"),
        ("papers in both, by id", f"{comparison.in_both:,}"),
    )
    return Table(
        title="How far apart", head=("of", "divergence, or number"), rows=rows, note=FORMULA
    )


def _shifted(comparison: Comparison) -> Table:
    rows = tuple(
        (s.code, f"{s.before:.2%}", f"{s.after:.2%}", points(s.change))
        for s in comparison.shifts[:SHOWN_ROWS]
    )
    return Table(
        title="Category shifts",
        head=("category", "before", "after", "change"),
        rows=rows,
        note=_rest(len(comparison.shifts)) + "Share of all papers, the largest change first.",
    )


def _moved_words(comparison: Comparison) -> Table:
    rows = tuple(
        (word, f"{1e4 * before:.1f}", f"{1e4 * after:.1f}", "more" if after > before else "fewer")
        for word, before, after, _ in comparison.words
    )
    return Table(
        title="Words that make the difference",
        head=("word", "before", "after", "now"),
        rows=rows,
        note="Occurrences in 10,000 words, the largest part of the divergence first.",
    )


def _overview(after: DatasetStatistics, before: DatasetStatistics | None) -> Table:
    dropped = {**(before.dropped if before else {}), **after.dropped}
    rows = [("read", *_numbers(after.read, before.read if before else None))]
    for reason in sorted(dropped):
        old = before.dropped.get(reason, 0) if before else None
        rows.append((f"dropped: {reason}", *_numbers(after.dropped.get(reason, 0), old)))
    rows += [("kept", *_numbers(after.kept, before.kept if before else None))]
    rows += [
        (name, *_numbers(count, before.splits.get(name, 0) if before else None))
        for name, count in after.splits.items()
    ]
    head = ("records", "before", "after", "change") if before else ("records", "number")
    return Table(title="Records", head=head, rows=tuple(rows))


def _numbers(after: int, before: int | None) -> tuple[str, ...]:
    return (
        (f"{after:,}",) if before is None else (f"{before:,}", f"{after:,}", f"{after - before:+,}")
    )


def _counted(title: str, after: Mapping[str, int], before: Mapping[str, int] | None) -> Table:
    keys = list(after) + [key for key in before or () if key not in after]
    shown = SHOWN_ROWS
    if title == "Years":
        keys.sort()
        shown = len(keys)
    whole, old_whole = sum(after.values()), sum((before or {}).values())
    rows = tuple(
        (key, *_counts(after.get(key, 0), whole, before.get(key, 0) if before else None, old_whole))
        for key in keys[:shown]
    )
    head = ("before", "after", "change") if before else ("papers", "share")
    note = _rest(len(keys), shown)
    return Table(title=title, head=(title.lower(), *head), rows=rows, note=note)


def _rest(number: int, shown: int = SHOWN_ROWS) -> str:
    return f"{shown} of {number}. " if number > shown else ""


def _lengths(after: DatasetStatistics, before: DatasetStatistics | None) -> Table:
    rows = []
    for noun, lengths, old in (
        ("abstract", after.abstract_words, before.abstract_words if before else None),
        ("title", after.title_words, before.title_words if before else None),
    ):
        for name in ("mean", "p5", "median", "p95", "max"):
            new = lengths[name]
            texts: tuple[str, ...] = (f"{new:,.1f}",)
            if old:
                texts = (f"{old[name]:,.1f}", f"{new:,.1f}", f"{new - old[name]:+,.1f}")
            rows.append((f"{noun}, {name}", *texts))
    head = ("before", "after", "change") if before else ("words",)
    return Table(title="Lengths in words", head=("of", *head), rows=tuple(rows))


def _quality(after: DatasetStatistics, before: DatasetStatistics | None) -> Table:
    new, old = dict(_facts(after)), dict(_facts(before)) if before else {}
    rows = tuple((name, *((old[name],) if before else ()), value) for name, value in new.items())
    return Table(
        title="Language, vocabulary, duplicates",
        head=("of", "before", "after") if before else ("of", "number"),
        rows=rows,
        note=(
            "Language is a heuristic: English is recognised by function words (the, of, and ...: "
            f"{MIN_ENGLISH_SHARE:.0%} or more of {MIN_JUDGED_WORDS} or more words), another script "
            f"by letters that are neither Latin nor Greek (more than {MAX_FOREIGN_SHARE:.0%}). "
            "A near-duplicate begins or ends with the same eight words as another abstract and "
            f"shares {NEAR_DUPLICATE_SHARE:.0%} of the words with it."
        ),
    )


def _facts(statistics: DatasetStatistics) -> Iterator[tuple[str, str]]:
    language, words, twice = statistics.language, statistics.words, statistics.duplicates
    judged, kept = language.judged, statistics.kept
    yield "listed in two categories or more", percent(statistics.cross_listed, kept)
    yield "long enough to judge the language", f"{judged:,}"
    yield (
        "probably not English",
        f"{language.not_english:,} ({percent(language.not_english, judged)})",
    )
    yield "in another script", f"{language.not_latin:,} ({percent(language.not_latin, kept)})"
    yield "running words", f"{words.running:,}"
    yield "distinct words", f"{words.distinct:,}"
    yield "words that occur once", f"{words.once:,} ({percent(words.once, words.distinct)})"
    yield "duplicate ids dropped", f"{twice.dropped_ids:,}"
    yield "duplicate abstracts dropped", f"{twice.dropped_texts:,}"
    yield "papers that share their title", f"{twice.same_title:,}"
    yield "near-duplicate papers left", f"{twice.near:,}"
