"""Figure 5: what the evaluation page draws of the shipped model, from the committed reports."""

from __future__ import annotations

from marks import document

from classmark.pages.figures import by_year, reliability
from classmark.pages.svg import WIDTH
from classmark.records import EvaluationReport, MetricValue, ReliabilityBin
from report import SHIPPED, read_report

LABEL = "Left: share that is right against probability. Right: accuracy by year"
GAP = 24


def draw() -> str:
    """Return the figure."""
    bins = [
        ReliabilityBin(**{**found, "accuracy": MetricValue(**found["accuracy"])})
        for found in read_report("reliability")["bins"]
    ]
    report = EvaluationReport.from_dict(read_report(f"{SHIPPED}-test"))
    right = f'<g transform="translate({WIDTH + GAP} 0)">{by_year(report)}</g>'
    return document(LABEL, 448, [reliability(bins), right], 2 * WIDTH + GAP)
