"""The page of one evaluation: headline, calibration, years, sets, slices, categories, errors."""

from __future__ import annotations

from collections.abc import Sequence

from classmark.pages import figures
from classmark.pages.frame import (
    interval,
    number,
    origin,
    render,
    with_interval,
    with_note,
    wrapped,
)
from classmark.pages.text import METRIC_TITLES
from classmark.records import (
    CategoryDetail,
    EvaluationDetails,
    EvaluationReport,
    MetricValue,
    SliceReport,
)
from classmark.records.evaluation import FEW_PAPERS

_MOST_NEVER_RIGHT = 30
_TILES = {
    "top_1": "Top-1 accuracy",
    "top_5": "Top-5 accuracy",
    "macro_f1": "Macro-F1",
    "ece": "Calibration error",
    "set_coverage": "Coverage of sets",
    "set_size": "Categories in a set",
}
_YEAR_COLUMNS = ("top_1", "top_5", "macro_f1", "ece", "ece_floor", "set_coverage")

Row = Sequence[str]
Rows = Sequence[Row]


def evaluation_page(report: EvaluationReport, details: EvaluationDetails) -> str:
    """Return the report as one HTML file that needs nothing else.

    Args:
        report: what was measured.
        details: of the same table; with titles only where the caller has the papers.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    model = f"{report.model.name} {report.model.version}"
    where = f", split {report.split}" if report.split else ""
    lead = f"Evaluated on {report.n:,} papers{where}."
    if report.n_unknown:
        lead += f" {report.n_unknown:,} more have no primary category that the model knows."
    return render(
        "evaluation.html",
        title=f"How good is {model}?",
        lead=lead,
        generated=report.generated,
        report=report,
        details=details,
        level=f"{100 * report.config['level']:g} %",
        few=FEW_PAPERS,
        least_papers_of_year=figures.LEAST_PAPERS_OF_YEAR,
        n_errors=round(report.n * (1.0 - report.metrics["top_1"].value)),
        never_right=_never_right(details.categories),
        reliability=figures.reliability(details.bins),
        by_year=figures.by_year(report),
        sets=figures.sets_by_period(report),
        tiles=_tiles(report),
        set_rows=_set_rows(report),
        metric_rows=_metric_rows(report),
        slices=_slices(report, details),
        pairs=_pairs(details),
        categories=_categories(report, details),
        errors=_errors(details),
        year_rows=_year_rows(report),
        origin=origin(report, temperature=f"{report.config['temperature']:.4g}"),
    )


def _tiles(report: EvaluationReport) -> list[tuple[str, ...]]:
    """Return name, value and notes of the headline numbers."""
    notes = {"set_coverage": f"built for {report.config['set_coverage']:g}"}
    if "ece_floor" in report.metrics:
        notes["ece"] = f"by chance {report.metrics['ece_floor'].value:.3f}"
    return [
        (words, number(metric, _digits(name)), interval(metric, _digits(name)), notes.get(name, ""))
        for name, words in _TILES.items()
        if (metric := report.metrics.get(name)) is not None
    ]


def _set_rows(report: EvaluationReport) -> list[Row]:
    whole = SliceReport(name="all papers", n=report.n, metrics=report.metrics)
    return [
        (
            *(part.name, with_interval(part.metrics.get("set_coverage"))),
            with_interval(part.metrics.get("set_size"), 2),
        )
        for part in (whole, *report.periods)
    ]


def _metric_rows(report: EvaluationReport) -> list[Row]:
    return [
        (title, number(metric, _digits(name)), interval(metric, _digits(name)))
        for name, title in METRIC_TITLES.items()
        if (metric := report.metrics.get(name)) is not None
    ]


def _slices(report: EvaluationReport, details: EvaluationDetails) -> tuple[Row, Rows]:
    """Return heads and rows: where the model is better and worse."""
    level = float(report.config["level"])
    low, high = _span(
        [figures.share_of(s, "top_1", level) for g in details.groups for s in g.slices]
    )
    rows: list[Row] = []
    for group in details.groups:
        rows.append((with_note(group.title, group.note),))
        for part in group.slices:
            share = figures.share_of(part, "top_1", level)
            cell = figures.forest_cell(share, low, high, report.metrics["top_1"].value)
            rows.append((part.name, f"{part.n:,}", with_interval(share), cell, *_rates(part)))
    heads = ("", "papers", "top-1", figures.forest_head(low, high), "top-5", "ECE", "by chance")
    return (*heads, "coverage", "set size"), rows


def _rates(part: SliceReport) -> Row:
    get = part.metrics.get
    rates = [number(get(name)) for name in ("top_5", "ece", "ece_floor", "set_coverage")]
    return (*rates, number(get("set_size"), 2))


def _pairs(details: EvaluationDetails) -> tuple[Row, Rows]:
    """Return heads and rows: which category is taken for which."""
    high = max((p.share.high or p.share.value for p in details.pairs), default=1.0)
    rows = [
        (
            *(p.truth, p.predicted, f"{p.n:,}", with_interval(p.share)),
            figures.forest_cell(p.share, 0.0, high, 0.0),
        )
        for p in details.pairs
    ]
    axis = figures.forest_head(0.0, round(high, 2))
    return ("true", "taken for", "papers", "share of the true ones", axis), rows


def _categories(report: EvaluationReport, details: EvaluationDetails) -> tuple[Row, Rows]:
    """Return heads and rows: F1, precision and recall by category."""
    macro = report.metrics["macro_f1"].value
    rows = [
        (
            *(c.code, with_note(f"{c.n:,}", "uncertain" if c.n < FEW_PAPERS else "")),
            *(with_interval(c.f1), figures.forest_cell(c.f1, 0.0, 1.0, macro)),
            *(with_interval(c.precision), with_interval(c.recall)),
        )
        for c in details.categories
    ]
    axis = figures.forest_head(0.0, 1.0)
    return ("category", "papers", "F1", axis, "precision", "recall"), rows


def _never_right(categories: Sequence[CategoryDetail]) -> str:
    never = [f"{c.code} ({c.n:,})" for c in categories if c.n and not c.f1.value]
    more = ", ..." if len(never) > _MOST_NEVER_RIGHT else "."
    return ", ".join(never[:_MOST_NEVER_RIGHT]) + more if never else ""


def _errors(details: EvaluationDetails) -> tuple[Row, Rows]:
    """Return heads and rows: the errors that the model was surest of; titles only if known."""
    titled = any(error.title for error in details.errors)
    rows = [
        (
            e.id,
            *([wrapped(e.title)] if titled else []),
            e.truth,
            e.predicted,
            f"{e.probability:.3f}",
        )
        for e in details.errors
    ]
    return ("id", *(["title"] if titled else []), "true", "answered", "probability"), rows


def _year_rows(report: EvaluationReport) -> list[Row]:
    return [
        (part.name, f"{part.n:,}", *(number(part.metrics.get(name)) for name in _YEAR_COLUMNS))
        for part in (*report.periods, *report.years)
    ]


def _digits(name: str) -> int:
    return 2 if name == "set_size" else 3


def _span(metrics: list[MetricValue]) -> tuple[float, float]:
    """Return a range of tenths that holds all intervals."""
    ends = [e for m in metrics for e in (m.low, m.value, m.high) if e is not None] or [0.0, 1.0]
    low, high = int(min(ends) * 10) / 10, -int(-max(ends) * 10 // 1) / 10
    return low, max(high, low + 0.1)
