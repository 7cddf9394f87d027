"""Tables of what the monitor estimates, written from the committed reports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from report import Measured, markdown, where_and_when

OURS = "learned difference"
ANSWERS = ("text", "with authors")
PERIODS = ("2018-2019", "from-2020")


def estimates(report: Measured) -> str:
    """Return error and coverage of our estimate by answers, period and size of the window."""
    rows = [
        [answers, period, size, part["windows"], part["by_chance_points"], ours["error_points"],
         f"{ours['bias_points']:+.1f}", ours["half_width_points"], f"{ours['coverage']:.0%}"]
        for answers in ANSWERS
        for period in PERIODS
        for size, part in _parts(report[answers], period)
        for ours in [part["methods"][OURS]]
    ]  # fmt: skip
    head = ("answers", "period", "window", "windows", "error by chance alone", "mean error",
            "bias", "half of the interval", "covered")  # fmt: skip
    return markdown(head, rows) + f"\nIn points. {where_and_when(report)}.\n"


def _parts(answers: Measured, period: str) -> Iterator[tuple[str, Any]]:
    sizes = {size: parts for size, parts in answers["by_size"].items() if period in parts}
    yield "month", answers["by_month"][period]
    for size, parts in sizes.items():
        yield f"{int(size):,} papers", parts[period]


def references(report: Measured) -> str:
    """Return how error and coverage by month depend on the papers of the reference."""
    words, covered = [], []
    for answers in ANSWERS:
        others = report[answers]["other_references"]
        errors = [one[PERIODS[0]]["error_points"] for one in others]
        shares = [one[PERIODS[1]]["coverage"] for one in others]
        words.append(f"{min(errors):.1f} to {max(errors):.1f} points ({answers})")
        covered.append(f"{min(shares):.0%} to {max(shares):.0%} ({answers})")
    return (
        f"With {len(errors)} other draws of the {report['reference_papers']:,} papers, the mean "
        f"error by month in {PERIODS[0]} is {' and '.join(words)}. In {PERIODS[1]} its "
        f"interval contains the truth in {' and '.join(covered)} of the months.\n"
    )


def rivals(report: Measured) -> str:
    """Return the mean error by month of every method, with the coverage of its interval."""
    places = [(answers, period) for period in PERIODS for answers in ANSWERS]
    parts = [report[answers]["by_month"][period]["methods"] for answers, period in places]
    rows = [
        [name, *(f"{part[name]['error_points']:.1f} ({part[name]['coverage']:.0%})"
                 for part in parts)]
        for name in parts[0]
    ]  # fmt: skip
    return markdown(["method", *(f"{period}, {answers}" for answers, period in places)], rows)


def joined(report: Measured) -> str:
    """Return half the interval, and its coverage, by labels of a month."""
    rows = [
        [cell["labels"], *(_half(cell.get(way)) for way in ("labels alone", "joined", "glide"))]
        for cell in report["with authors"]["joined"]
    ]
    version = f"glide {report['glide']}" if report["glide"] else "glide"
    return markdown(["labels of the month", "labels alone", "joined", version], rows)


def _half(found: Measured | None) -> str:
    if found is None:
        return "–"
    return f"{100 * found['half_width']:.1f} ({found['coverage']:.1%})"


def alarms(report: Measured) -> str:
    """Return how many streams of labels raise the alarm, and after how many labels."""
    rows: list[list[object]] = []
    for answers in ANSWERS:
        found = report[answers]["alarms"]
        for name, key in (("reference", "unchanged"), ("exactly at the bound", "at_the_bound")):
            rows.append([answers, name, "–", f"{found[f'false_alarms_{key}']:.1%}", "–"])
        rows += [
            [answers, part["period"], f"{part['accuracy']:.3f}", f"{part['alarms']:.1%}",
             part["median_labels"] or "–"]
            for part in found["periods"]
        ]  # fmt: skip
    head = ("answers", "labels of", "accuracy", "streams with an alarm", "median labels until it")
    return markdown(head, rows)
