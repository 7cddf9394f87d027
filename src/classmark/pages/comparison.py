"""The page of one comparison: who is right where, and every difference with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from classmark.pages.document import document, facts, pair, section
from classmark.pages.render import METRIC_TITLES
from classmark.pages.render_comparison import (
    LOWER_IS_BETTER,
    better_of,
    expected_by_chance,
    signed,
)
from classmark.pages.svg import Scale, bar, figure, line, text, ticks, whisker
from classmark.pages.tables import Markup, interval, table
from classmark.records import CategoryDifference, ComparisonReport, Difference, MetricValue

WIDTH, LEFT, RIGHT, ROW = 420, 178, 14, 24
MOST_CATEGORIES = 24
# Each block has a scale of its own; what is no share of papers stands in the table only.
_BLOCKS = {
    "Ranking": (
        *("top_1", "top_3", "top_5", "macro_f1", "precision_at_1_listed", "recall_at_5_listed"),
        *("archive_accuracy", "group_accuracy"),
    ),
    "Calibration error (less is better)": ("ece", "ece_equal_mass"),
    "Sets and acceptance": ("set_coverage", "acceptance_rate", "accepted_accuracy"),
}
_SHORT = {
    "macro_f1": "macro-F1",
    "precision_at_1_listed": "precision@1, listed",
    "recall_at_5_listed": "recall@5, listed",
    "ece": "ECE, equal width",
    "ece_equal_mass": "ECE, equal mass",
    "set_coverage": "coverage of sets",
    "acceptance_rate": "accepted papers",
    "accepted_accuracy": "accuracy of accepted",
}
_COLOURS = {"A": "second", "B": "first", "": "unclear"}


def render_comparison_page(report: ComparisonReport) -> str:
    """Return the comparison as one HTML file that needs nothing else."""
    a = _name(report.model_a.name, report.model_a.version)
    b = _name(report.model_b.name, report.model_b.version)
    sections = [
        _agreement(report),
        pair(_metric_figure(report), _category_figure(report)),
        _metric_table(report),
        _category_table(report),
        _origin(report),
    ]
    lead = f"A is {a}, B is {b}. Both on the same {report.n:,} papers, {report.labels} categories."
    left_out = [
        f"{n:,} of {name}" for name, n in (("A", report.left_out_a), ("B", report.left_out_b)) if n
    ]
    if left_out:
        lead += f" Not compared: {', '.join(left_out)}."
    return document(f"{a} or {b}?", lead, sections, generated=report.generated)


def differences_figure(rows: Sequence[tuple[str, Difference, str]], label: str) -> str:
    """Return B minus A in points with intervals, one row each, over a line at 0.

    Args:
        rows: name, difference (of shares) and colour class.
        label: what a screen reader says.
    """
    ends = [100 * e for _, d, _ in rows for e in (d.low, d.difference, d.high) if e is not None]
    reach = max([abs(e) for e in ends] + [0.1]) * 1.08
    low, high = min([*ends, -0.15 * reach]), max([*ends, 0.15 * reach])
    x, bottom = Scale(low, high, LEFT, WIDTH - RIGHT), 30 + ROW * len(rows)
    marks = []
    for value in ticks(low, high, 5):
        marks.append(line(x(value), 22, x(value), bottom, "axis" if value == 0 else "grid"))
        marks.append(text(x(value), bottom + 16, f"{value:+g}" if value else "0"))
    marks.append(text(LEFT, 14, "\u2190 A higher", "start"))
    marks.append(text(WIDTH - RIGHT, 14, "B higher \u2192", "end"))
    for i, (name, d, css) in enumerate(rows):
        y = 38 + ROW * i
        marks.append(text(LEFT - 10, y + 4, name, "end", "row"))
        marks.append(whisker(x, y, _in_points(d), css))
    marks.append(text((LEFT + WIDTH - RIGHT) / 2, bottom + 34, "B minus A, points", css="name"))
    return figure(WIDTH, bottom + 40, label, marks)


def _agreement(report: ComparisonReport) -> str:
    agreement = report.agreement
    parts = (
        ("both right", agreement.both, "count"),
        ("only A right", agreement.only_a, "only-a"),
        ("only B right", agreement.only_b, "only-b"),
        ("neither right", agreement.neither, "grid-fill"),
    )
    x = Scale(0, report.n, 0, 2 * WIDTH)
    marks, start = [], 0
    for _, n, css in parts:
        marks.append(bar(x(start), 0, x(start + n) - x(start), 26, css))
        start += n
    rows = [(words, f"{n:,}", f"{100 * n / report.n:.1f} %") for words, n, _ in parts]
    hint = (
        "Only the papers that one model gets right and the other does not tell them apart. Were "
        "both as good, a split at least this uneven would come by chance with "
        f"p = {agreement.p_value:.2g} (McNemar, exact)."
    )
    words = ", ".join(f"{name}: {n:,}" for name, n, _ in parts)
    strip = f"<figure>{figure(WIDTH * 2, 26, words, marks, 'strip')}</figure>"
    keys = [
        (Markup(f'<span class="key {css}"></span>{row[0]}'), *row[1:])
        for row, (_, _, css) in zip(rows, parts, strict=True)
    ]
    return section("Who is right?", hint, strip, table(("", "papers", "share"), keys))


def _metric_figure(report: ComparisonReport) -> str:
    parts = []
    for title, names in _BLOCKS.items():
        rows = [
            (_SHORT.get(name, METRIC_TITLES[name]), d, _COLOURS[better_of(name, d)])
            for name in names
            if (d := report.metrics.get(name)) is not None
        ]
        if rows:
            svg = differences_figure(rows, f"{title}: B minus A, with intervals")
            parts.append(f"<h3>{title}</h3><figure>{svg}</figure>")
    hint = (
        "Green where B is better, brown where A is, grey where the interval holds 0 or neither "
        "direction is better. Mind the scales, they differ."
    )
    return section("Differences over all papers", hint, *parts)


def _category_figure(report: ComparisonReport) -> str:
    clear = [c for c in report.categories if c.f1.is_clear]
    largest = sorted(clear, key=lambda c: -abs(c.f1.difference))[:MOST_CATEGORIES]
    rows = [
        (f"{c.code} ({c.n:,})", c.f1, _COLOURS[better_of("f1", c.f1)])
        for c in sorted(largest, key=lambda c: -c.f1.difference)
    ]
    hint = (
        f"F1 of {len(clear)} of {len(report.categories)} categories differs by more than its "
        f"interval; about {expected_by_chance(report):.0f} would if the models were alike, so one "
        "alone is no finding."
    )
    if len(largest) < len(clear):
        hint += f" The {len(largest)} largest differences are shown."
    if not rows:
        return section("Categories that differ", hint, "<p>None is clear.</p>")
    svg = differences_figure(rows, "Differences of F1 by category, B minus A, with intervals")
    return section("Categories that differ", hint, f"<figure>{svg}</figure>")


def _metric_table(report: ComparisonReport) -> str:
    rows = []
    for name, title in METRIC_TITLES.items():
        if name in report.metrics:
            title += " (less is better)" if name in LOWER_IS_BETTER else ""
            d = report.metrics[name]
            rows.append((title, *_cells(d), better_of(name, d)))
    drawn = report.config["draws"]
    level = f"{100 * report.config['level']:g} % interval" if drawn else ""
    hint = (
        f"The same papers were drawn anew for both models, {drawn:,} times (paired bootstrap)."
        if drawn
        else "No intervals were drawn."
    )
    heads = ("metric", "A", "B", "B \u2212 A", level, "better")
    return section("Every metric", hint, table(heads, rows))


def _category_table(report: ComparisonReport) -> str:
    rows = [_category_row(c) for c in report.categories]
    hint = "F1 by category, largest first; and papers that only one of the models gets right."
    heads = ("category", "papers", "F1 of A", "F1 of B", "B \u2212 A", "interval", "better")
    return section("Categories", hint, table((*heads, "only A", "only B"), rows))


def _category_row(c: CategoryDifference) -> tuple[str, ...]:
    only = (f"{c.only_a:,}", f"{c.only_b:,}")
    return (c.code, f"{c.n:,}", *_cells(c.f1), better_of("f1", c.f1), *only)


def _cells(d: Difference) -> tuple[str, str, str, str]:
    ends = MetricValue(value=d.difference, low=d.low, high=d.high)
    return f"{d.a:.3f}", f"{d.b:.3f}", signed(d.difference), interval(ends, with_sign=True)


def _origin(report: ComparisonReport) -> str:
    config = report.config
    drawn = f"{config['draws']:,} resamples, seed {config['seed']}, {config['n_bins']} bins"
    first, second = report.dataset_digests
    values = {
        "A": _name(report.model_a.name, report.model_a.version),
        "digest of A": report.model_a.digest,
        "B": _name(report.model_b.name, report.model_b.version),
        "digest of B": report.model_b.digest,
        "dataset digest": first if first == second else f"{first} (A), {second} (B)",
        "split": report.split,
        "papers": "invented by the sample generator" if report.generated else "as given",
        "overlap": "what both tables have" if config["common"] else "",
        "measured": f"{report.date}; {drawn}",
        "machine": report.machine,
        "command": report.command,
    }
    code = ("digest of A", "digest of B", "dataset digest", "command")
    return section("Where the numbers come from", "Enough to get them again.", facts(values, code))


def _in_points(d: Difference) -> MetricValue:
    low, high = (None if end is None else 100 * end for end in (d.low, d.high))
    return MetricValue(value=100 * d.difference, low=low, high=high)


def _name(name: str, version: str) -> str:
    return f"{name} {version}"
