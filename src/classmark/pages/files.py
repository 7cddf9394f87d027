"""Figures of one score table as files of their own: reliability diagram and confusion matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classmark.evaluation.details import pair_counts, reliability_bins
from classmark.evaluation.metrics.outcomes import read_outcomes
from classmark.evaluation.metrics.rows import known_rows, require_papers
from classmark.evaluation.report import EvaluationConfig
from classmark.pages.figures import reliability
from classmark.pages.svg import figure, text
from classmark.records import ScoreTable, csv_text

# More categories than this cannot be read in a figure; the table has all.
N_SHOWN = 40
_CELL, _LEFT, _TOP, _BELOW = 14, 110, 26, 112


def render_figures(table: ScoreTable) -> dict[str, str]:
    """Return ``reliability.svg``, ``confusion.svg`` and ``confusion.csv`` of a table, as text.

    Args:
        table: scores and truth of n papers; those whose primary is unknown are left out.

    Raises:
        EmptyEvaluation: there are no papers, or none with a known primary.
        InvalidScores: a score is not finite, or truth and labels disagree; names the paper.
    """
    require_papers(len(table))
    known = table.select(known_rows(table.primary))
    outcomes = read_outcomes(known)
    counts = pair_counts(outcomes)
    return {
        "reliability.svg": alone(reliability(reliability_bins(outcomes, EvaluationConfig()))),
        "confusion.svg": alone(confusion_matrix(counts, known.labels)),
        "confusion.csv": confusion_table(counts, known.labels),
    }


def confusion_matrix(counts: NDArray[np.intp], labels: Sequence[str]) -> str:
    """Return the largest categories against what they get; darker is a larger share of a row.

    Args:
        counts: int [k, k], papers by true and predicted column.
        labels: k labels.
    """
    sizes = counts.sum(axis=1)
    shown = np.argsort(-sizes, kind="stable")[: min(N_SHOWN, int((sizes > 0).sum()))]
    side = _CELL * len(shown)
    marks = [
        text(_LEFT, 14, "rows: true category; columns: predicted", "start", "name"),
        f'<rect class="grid-fill" x="{_LEFT}" y="{_TOP}" width="{side}" height="{side}"/>',
        *_cells(counts, labels, shown),
    ]
    for i, column in enumerate(shown):
        middle = _TOP + _CELL * (i + 0.5)
        marks.append(text(_LEFT - 6, middle + 4, labels[column], "end"))
        x, y = _LEFT + _CELL * (i + 0.5) + 4, _TOP + side + 6
        marks.append(
            f'<text class="tick" text-anchor="end" transform="translate({x:g} {y:g}) rotate(-90)">'
            f"{escape(labels[column])}</text>"
        )
    note = f"the {len(shown)} largest of {int((sizes > 0).sum())} categories"
    marks.append(text(_LEFT, _TOP + side + _BELOW - 6, note, "start", "note"))
    label = f"Confusion matrix of {note}"
    return figure(max(_LEFT + side + 12, 340), _TOP + side + _BELOW, label, marks)


def confusion_table(counts: NDArray[np.intp], labels: Sequence[str]) -> str:
    """Return the whole matrix as CSV: a row a true category, a column a predicted one."""
    rows = ([label, *row] for label, row in zip(labels, counts.tolist(), strict=True))
    return csv_text([["true", *labels], *rows])


def alone(svg: str) -> str:
    """Return a figure of the page as a file: with its namespace, colours and a ground."""
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    screen = style.partition("@media print")[0]
    colours, _, rules = screen.partition("*, ::before")
    own = "".join(f"{rule}\n" for rule in rules.splitlines() if rule.startswith("svg "))
    font = "svg text { font-family: system-ui, sans-serif; }"
    head, _, marks = svg.partition(">")
    return (
        f'{head} xmlns="http://www.w3.org/2000/svg">\n<style>\n{colours}{own}{font}\n</style>\n'
        f'<rect width="100%" height="100%" style="fill: var(--sheet)"/>{marks}\n'
    )


def _cells(
    counts: NDArray[np.intp], labels: Sequence[str], shown: NDArray[np.intp]
) -> Iterator[str]:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for i, truth in enumerate(shown.tolist()):
        for j, guess in enumerate(shown.tolist()):
            if not counts[truth, guess]:
                continue
            css = "only-b" if truth == guess else "only-a"
            said = f"{labels[truth]} gets {labels[guess]}: {counts[truth, guess]}"
            yield (
                f'<rect class="{css}" x="{_LEFT + _CELL * j}" y="{_TOP + _CELL * i}" '
                f'width="{_CELL}" height="{_CELL}" fill-opacity="{shares[truth, guess]:.3f}">'
                f"<title>{escape(said)}</title></rect>"
            )
