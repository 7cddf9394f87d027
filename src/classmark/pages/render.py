"""An evaluation report as aligned plain text, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from classmark.evaluation import weakest_categories
from classmark.records import EvaluationReport, MetricValue, SliceReport
from classmark.records.evaluation import FEW_PAPERS

GENERATED_WARNING = "invented sample papers: these numbers say nothing about real ones"

METRIC_TITLES = {
    "top_1": "top-1 accuracy",
    "top_3": "top-3 accuracy",
    "top_5": "top-5 accuracy",
    "macro_f1": "macro-F1 (labels that occur)",
    "micro_f1": "micro-F1 (equals top-1)",
    "precision_at_1_listed": "precision@1, any listed category",
    "recall_at_5_listed": "recall@5, all listed categories",
    "archive_accuracy": "archive accuracy",
    "group_accuracy": "group accuracy",
    "ece": "calibration error, equal width",
    "ece_floor": "the same of a perfect model, by chance",
    "ece_equal_mass": "calibration error, equal mass",
    "nll": "negative log-likelihood, nats",
    "brier": "Brier score, 0..2",
    "set_coverage": "prediction sets: coverage",
    "set_size": "prediction sets: mean size",
    "acceptance_rate": "accepted",
    "accepted_accuracy": "accuracy of the accepted",
}
_SLICE_COLUMNS = {
    "top_1": "top-1",
    "top_3": "top-3",
    "top_5": "top-5",
    "macro_f1": "macro-F1",
    "precision_at_1_listed": "p@1 listed",
    "ece": "ECE",
    "set_coverage": "coverage",
    "set_size": "set size",
}
_GAP = "  "


def render_table(report: EvaluationReport, *, weakest: int = 20) -> str:
    """Return the report as text for people; the JSON form has everything.

    Args:
        report: what was measured.
        weakest: how many categories to show, lowest F1 first.
    """
    sections = [_head(report), _overall(report)]
    for title, slices in (("period", report.periods), ("year", report.years)):
        if slices:
            sections.append(_by_slice(title, slices))
    sections.append(_by_category(report, weakest))
    return "\n\n".join(section for section in sections if section)


def _head(report: EvaluationReport) -> str:
    model, digest = report.model, report.model.digest[:12]
    lines = [GENERATED_WARNING, ""] if report.generated else []
    lines.append(f"model    {model.name} {model.version}" + (f" ({digest})" if digest else ""))
    if report.dataset_digest or report.split:
        digest = f" of dataset {report.dataset_digest[:12]}" if report.dataset_digest else ""
        lines.append(f"data     {report.split or 'unnamed'} split{digest}")
    left_out = f", {report.n_unknown:,} more without a primary that the model knows"
    lines.append(f"papers   {report.n:,}" + (left_out if report.n_unknown else ""))
    return "\n".join(lines)


def _overall(report: EvaluationReport) -> str:
    level = f"{100 * report.config['level']:g} % interval" if report.config["draws"] else ""
    rows = [("all papers", "value", level)]
    for name in [*(n for n in METRIC_TITLES if n in report.metrics)]:
        metric = report.metrics[name]
        rows.append((METRIC_TITLES[name], _number(name, metric.value), _interval(name, metric)))
    return aligned(rows, left=(0, 2))


def _by_slice(title: str, slices: Iterable[SliceReport]) -> str:
    rows = [(title, "papers", *_SLICE_COLUMNS.values())]
    for part in slices:
        cells = (_optional(name, part.metrics.get(name)) for name in _SLICE_COLUMNS)
        rows.append((part.name, f"{part.n:,}", *cells))
    return aligned(rows, left=(0,))


def _by_category(report: EvaluationReport, most: int) -> str:
    shown = weakest_categories(report, most)
    if not shown:
        return ""
    level = f"{100 * report.config['level']:g} % range"
    rows = [("weakest categories", "papers", "precision", "recall", "F1", level, "confused with")]
    for c, f1 in shown:
        other = f"{c.confused_with} ({c.confused:,})" if c.confused_with else "-"
        papers = f"{c.n:,}?" if c.is_uncertain else f"{c.n:,} "
        rates = (_rate(c.precision), _rate(c.recall), _rate(c.f1))
        rows.append((c.code, papers, *rates, _interval("f1", f1), other))
    lines = [aligned(rows, left=(0, 5, 6))]
    if any(c.is_uncertain for c, _ in shown):
        lines.append(f"? uncertain: fewer than {FEW_PAPERS} papers")
    lines.append(
        f"{len(shown)} of {len(report.categories)} categories; the JSON report has them all"
    )
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]], left: tuple[int, ...]) -> str:
    """Return rows as columns of equal width, those in ``left`` set to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append(_GAP.join(cells).rstrip())
    return "\n".join(lines)


def _number(name: str, value: float) -> str:
    return f"{value:.2f}" if name == "set_size" else f"{value:.3f}"


def _interval(name: str, metric: MetricValue) -> str:
    if metric.low is None or metric.high is None:
        return ""
    return f"{_number(name, metric.low)} - {_number(name, metric.high)}"


def _optional(name: str, metric: MetricValue | None) -> str:
    return "-" if metric is None else _number(name, metric.value)


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
