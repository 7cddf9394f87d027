"""Figures that are files: reliability diagram, confusion matrix, curve of a cascade."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from classmark.evaluation.details import pair_counts, reliability_bins
from classmark.evaluation.metrics.outcomes import read_outcomes
from classmark.evaluation.metrics.rows import known_rows, require_papers
from classmark.evaluation.report import EvaluationConfig
from classmark.pages.figures import reliability
from classmark.pages.svg import (
    Markup,
    Scale,
    dot,
    figure,
    line,
    path,
    rows_grid,
    svg_file,
    text,
    ticks,
    upright_text,
)
from classmark.records import CascadePoint, ScoreTable, csv_text

# More categories than this cannot be read in a figure; the table has all.
N_SHOWN = 40
_CELL, _LEFT, _TOP, _BELOW = 14, 110, 26, 112
_SPLIT_COLOURS = {"valid": "unclear", "test": "first"}


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
        "reliability.svg": svg_file(reliability(reliability_bins(outcomes, EvaluationConfig()))),
        "confusion.svg": svg_file(confusion_matrix(counts, known.labels)),
        "confusion.csv": confusion_table(counts, known.labels),
    }


def confusion_matrix(counts: NDArray[np.intp], labels: Sequence[str]) -> Markup:
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
        marks.append(upright_text(x, y, labels[column], "end", "tick"))
    note = f"the {len(shown)} largest of {int((sizes > 0).sum())} categories"
    marks.append(text(_LEFT, _TOP + side + _BELOW - 6, note, "start", "note"))
    label = f"Confusion matrix of {note}"
    return figure(max(_LEFT + side + 12, 340), _TOP + side + _BELOW, label, marks)


def confusion_table(counts: NDArray[np.intp], labels: Sequence[str]) -> str:
    """Return the whole matrix as CSV: a row a true category, a column a predicted one."""
    rows = ([label, *row] for label, row in zip(labels, counts.tolist(), strict=True))
    return csv_text([["true", *labels], *rows])


def draw_cascade(
    curves: Mapping[str, Sequence[CascadePoint]], chosen: Mapping[str, CascadePoint]
) -> str:
    """Return accuracy against CPU time per paper (logarithmic) as an SVG file.

    Args:
        curves: points by the name of their split, ``valid`` and ``test``; one line each.
        chosen: the point that is served, by split; a dot.
    """
    points = [point for curve in curves.values() for point in curve]
    costs = [math.log10(point.cpu_ms) for point in points]
    accuracies = [point.accuracy for point in points]
    x = Scale(min(costs), max(costs) + 1e-9, 64, 620)
    y = Scale(min(accuracies) - 0.005, max(accuracies) + 0.005, 350, 40)
    marks = [*rows_grid(x, y, ticks(y.low, y.high))]
    marks.append(line(x.start, y.start, x.end, y.start, "axis"))
    marks.append(line(x.start, y.end, x.start, y.start, "axis"))
    marks += [text(x(v), 368, f"{10**v:.3g}") for v in ticks(x.low, x.high)]
    marks += [text(x.middle, 392, "CPU time per paper, ms"), text(20, 32, "top-1", "start")]
    for i, (name, curve) in enumerate(curves.items()):
        css, at = _SPLIT_COLOURS.get(name, "first"), chosen[name]
        marks.append(
            path([(x(math.log10(p.cpu_ms)), y(p.accuracy)) for p in curve], f"{css} curve")
        )
        marks.append(dot(x(math.log10(at.cpu_ms)), y(at.accuracy), css, 5))
        words = f"{name}: {at.accuracy:.3f} at {at.cpu_ms:.2f} ms, "
        words += f"{at.cheaper:.1f} times cheaper than deep"
        marks.append(dot(72, 12 + 16 * i, css))
        marks.append(text(82, 16 + 16 * i, words, "start"))
    return svg_file(figure(640, 400, "Accuracy against CPU time of a cascade", marks))


def _cells(
    counts: NDArray[np.intp], labels: Sequence[str], shown: NDArray[np.intp]
) -> Iterator[str]:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for i, truth in enumerate(shown.tolist()):
        for j, guess in enumerate(shown.tolist()):
            if not counts[truth, guess]:
                continue
            css = "first" if truth == guess else "second"
            said = f"{labels[truth]} gets {labels[guess]}: {counts[truth, guess]}"
            yield (
                f'<rect class="{css}" x="{_LEFT + _CELL * j}" y="{_TOP + _CELL * i}" '
                f'width="{_CELL}" height="{_CELL}" fill-opacity="{shares[truth, guess]:.3f}">'
                f"<title>{escape(said)}</title></rect>"
            )
