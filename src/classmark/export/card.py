"""The model card of a bundle, from its reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from classmark.evaluation import weakest_categories
from classmark.records import EvaluationReport
from classmark.records.evaluation import FEW_PAPERS

_COLUMNS = {
    "top_1": "top-1",
    "top_3": "top-3",
    "top_5": "top-5",
    "precision_at_1_listed": "P@1 listed",
    "macro_f1": "macro-F1",
    "ece": "ECE",
    "set_coverage": "set coverage",
    "set_size": "set size",
    "archive_accuracy": "archive",
    "acceptance_rate": "accepted",
    "accepted_accuracy": "right if accepted",
}
_WEAKEST = 20
WEAKEST = "## Weakest categories"


def render_card(
    title: str, report: EvaluationReport, facts: Mapping[str, str], about: str = ""
) -> str:
    """Return the card as Markdown.

    Args:
        title: name and version of the bundle.
        report: of the test split, by the bundle's own kernel.
        facts: rows of the table of facts.
        about: further sections in Markdown: data, intended use, limits, licence.
    """
    parts = [f"# {title}", _warning(report), _facts(facts), "## Measured on the test split"]
    parts += [_by_period(report), about.strip(), WEAKEST, weakest_table(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _warning(report: EvaluationReport) -> str:
    if not report.generated:
        return ""
    return "**Fitted on invented sample papers: these numbers say nothing about real ones.**"


def _facts(facts: Mapping[str, str]) -> str:
    return _table(("fact", "value"), list(facts.items()))


def _by_period(report: EvaluationReport) -> str:
    rows = [("all", report.n, report.metrics)]
    rows += [(part.name, part.n, part.metrics) for part in report.periods]
    shown = [key for key in _COLUMNS if key in report.metrics]
    cells = [
        (name, f"{n:,}", *(f"{metrics[key].value:.3f}" if key in metrics else "" for key in shown))
        for name, n, metrics in rows
    ]
    return _table(("period", "papers", *(_COLUMNS[key] for key in shown)), cells)


def weakest_table(report: EvaluationReport) -> str:
    """Return the categories of the lowest F1 as Markdown, those of few papers marked."""
    weakest = weakest_categories(report, _WEAKEST)
    if not weakest:
        return "No category has a test paper."
    rows = [
        (
            *(c.code, f"{c.n}, uncertain" if c.is_uncertain else str(c.n), f"{f1.value:.2f}"),
            *(f"{f1.low:.2f} to {f1.high:.2f}", c.confused_with or ""),
        )
        for c, f1 in weakest
    ]
    table = _table(("category", "papers", "F1", "interval", "most confused with"), rows)
    note = f"\n\nUncertain: fewer than {FEW_PAPERS} test papers."
    return table + (note if any(c.is_uncertain for c, _ in weakest) else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """Return a text as a cell; a label of one's own may hold the sign between cells."""
    return text.replace("|", r"\|")
