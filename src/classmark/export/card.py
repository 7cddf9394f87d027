"""The model card of a bundle, from its reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from classmark.evaluation import weakest_categories
from classmark.records import EvaluationReport, MetricValue
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


_AUTHORS = """## Authors

Where a paper names authors, the model uses what their earlier papers were about; the rows *with
authors* measure that, over all test papers. It can go wrong: people who share a name, or a surname
and a first initial, count as one person; someone who changes fields is expected in the old one for
a while; nothing is known of a newcomer, and the answer is then that of the text. The model contains
fingerprints and no names, but anyone who has a name can ask it what that author's papers were
about. `classmark models forget-author` writes a model without an author, and `--no-authors` answers
from the text alone."""


def render_card(
    title: str,
    report: EvaluationReport,
    facts: Mapping[str, str],
    about: str = "",
    *,
    with_authors: EvaluationReport | None = None,
) -> str:
    """Return the card as Markdown.

    Args:
        title: name and version of the bundle.
        report: of the test split, by the bundle's own kernel.
        facts: rows of the table of facts.
        about: further sections in Markdown: data, intended use, limits, licence.
        with_authors: the same papers with their authors; None for a bundle without a table.
    """
    parts = [f"# {title}", _warning(report), _facts(facts), "## Measured on the test split"]
    parts += [_by_period(report, with_authors), _AUTHORS if with_authors else "", about.strip()]
    parts += [WEAKEST, weakest_table(report)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _warning(report: EvaluationReport) -> str:
    if not report.generated:
        return ""
    return "**Fitted on invented sample papers: these numbers say nothing about real ones.**"


def _facts(facts: Mapping[str, str]) -> str:
    return _table(("fact", "value"), list(facts.items()))


def _by_period(report: EvaluationReport, with_authors: EvaluationReport | None) -> str:
    rows = _rows(report, "") + (_rows(with_authors, ", with authors") if with_authors else [])
    shown = [key for key in _COLUMNS if key in report.metrics]
    cells = [
        (name, f"{n:,}", *(f"{metrics[key].value:.3f}" if key in metrics else "" for key in shown))
        for name, n, metrics in rows
    ]
    return _table(("period", "papers", *(_COLUMNS[key] for key in shown)), cells)


def _rows(
    report: EvaluationReport, beside: str
) -> list[tuple[str, int, Mapping[str, MetricValue]]]:
    """Return name, papers and metrics of all papers and of each period."""
    parts = [("all", report.n, report.metrics)]
    parts += [(part.name, part.n, part.metrics) for part in report.periods]
    return [(f"{name}{beside}", n, metrics) for name, n, metrics in parts]


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
