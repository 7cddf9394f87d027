"""The page of one comparison: who is right where, and every difference with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from classmark.pages.charts import Differences, differences
from classmark.pages.frame import interval, render
from classmark.pages.svg import WIDTH, Markup, Scale, bar, figure
from classmark.pages.text import (
    LOWER_IS_BETTER,
    METRIC_TITLES,
    better_of,
    expected_by_chance,
    not_compared,
    signed,
)
from classmark.records import ComparisonReport, Difference, MetricValue

_MOST_CATEGORIES = 24
# Each block has a scale of its own; what is not a share of papers is in the table only.
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
_FORM = Differences(words="B minus A, points", ends=("\u2190 A higher", "B higher \u2192"))


def comparison_page(report: ComparisonReport) -> str:
    """Return the comparison as one HTML file that needs nothing else.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    a = _name(report.model_a.name, report.model_a.version)
    b = _name(report.model_b.name, report.model_b.version)
    lead = f"A is {a}, B is {b}. Both on the same {report.n:,} papers, {report.labels} categories."
    if left_out := not_compared(report):
        lead += f" Not compared: {left_out}."
    clear = [c for c in report.categories if c.f1.is_clear]
    drawn = report.config["draws"]
    return render(
        "comparison.html",
        title=f"{a} or {b}?",
        lead=lead,
        generated=report.generated,
        report=report,
        p_value=f"{report.agreement.p_value:.2g}",
        agreement=_agreement(report),
        blocks=_blocks(report),
        n_clear=len(clear),
        most_categories=_MOST_CATEGORIES,
        by_chance=f"{expected_by_chance(report):.0f}",
        clear=_clear_categories(report),
        level=f"{100 * report.config['level']:g} % interval" if drawn else "",
        metric_rows=_metric_rows(report),
        category_rows=_category_rows(report),
        origin=_origin(report),
    )


def _agreement(report: ComparisonReport) -> tuple[Markup, Sequence[Sequence[str]]]:
    """Return a strip of bars, and rows with its colours and numbers."""
    agreement = report.agreement
    parts = (
        ("both right", agreement.both, "count"),
        ("only A right", agreement.only_a, "second"),
        ("only B right", agreement.only_b, "first"),
        ("neither right", agreement.neither, "grid-fill"),
    )
    x = Scale(0, report.n, 0, 2 * WIDTH)
    marks, start = [], 0
    for _, n, css in parts:
        marks.append(bar(x(start), 0, x(start + n) - x(start), 26, css))
        start += n
    label = ", ".join(f"{words}: {n:,}" for words, n, _ in parts)
    rows = [
        (
            Markup(f'<span class="key {css}"></span>{words}'),
            *(f"{n:,}", f"{100 * n / report.n:.1f} %"),
        )
        for words, n, css in parts
    ]
    return figure(2 * WIDTH, 26, label, marks, "strip"), rows


def _blocks(report: ComparisonReport) -> list[tuple[str, Markup]]:
    """Return title and figure of each block of metrics."""
    found = []
    for title, names in _BLOCKS.items():
        rows = [
            (_SHORT.get(name, METRIC_TITLES[name]), d, _COLOURS[better_of(name, d)])
            for name in names
            if (d := report.metrics.get(name)) is not None
        ]
        if rows:
            label = f"{title}: B minus A, with intervals"
            found.append((title, differences(rows, label, _FORM)))
    return found


def _clear_categories(report: ComparisonReport) -> Markup:
    clear = [c for c in report.categories if c.f1.is_clear]
    largest = sorted(clear, key=lambda c: -abs(c.f1.difference))[:_MOST_CATEGORIES]
    rows = [
        (f"{c.code} ({c.n:,})", c.f1, _COLOURS[better_of("f1", c.f1)])
        for c in sorted(largest, key=lambda c: -c.f1.difference)
    ]
    label = "Differences of F1 by category, B minus A, with intervals"
    return differences(rows, label, _FORM) if rows else Markup()


def _metric_rows(report: ComparisonReport) -> list[Sequence[str]]:
    return [
        (
            title + (" (less is better)" if name in LOWER_IS_BETTER else ""),
            *(*_cells(report.metrics[name]), better_of(name, report.metrics[name])),
        )
        for name, title in METRIC_TITLES.items()
        if name in report.metrics
    ]


def _category_rows(report: ComparisonReport) -> list[Sequence[str]]:
    return [
        (
            *(c.code, f"{c.n:,}", *_cells(c.f1), better_of("f1", c.f1)),
            *(f"{c.only_a:,}", f"{c.only_b:,}"),
        )
        for c in report.categories
    ]


def _cells(d: Difference) -> tuple[str, str, str, str]:
    ends = MetricValue(value=d.difference, low=d.low, high=d.high)
    return f"{d.a:.3f}", f"{d.b:.3f}", signed(d.difference), interval(ends, with_sign=True)


def _origin(report: ComparisonReport) -> dict[str, str]:
    config = report.config
    drawn = f"{config['draws']:,} resamples, {config['n_bins']} bins"
    first, second = report.dataset_digests
    return {
        "A": _name(report.model_a.name, report.model_a.version),
        "digest of A": report.model_a.digest,
        "B": _name(report.model_b.name, report.model_b.version),
        "digest of B": report.model_b.digest,
        "dataset digest": first if first == second else f"{first} (A), {second} (B)",
        "split": report.split,
        "papers": "invented by the sample generator" if report.generated else "as given",
        "overlap": "what both tables have" if config["common"] else "",
        "measured": f"{report.date}; seed {config['seed']}, {drawn}",
        "machine": report.machine,
        "command": report.command,
    }


def _name(name: str, version: str) -> str:
    return f"{name} {version}"
