"""The page of one gate: what refuses a candidate, its losses against the champion, every line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from classmark.pages.charts import Differences, differences
from classmark.pages.frame import interval, render, with_note, wrapped
from classmark.pages.svg import Markup
from classmark.pages.text import OUTCOMES, counts_by_group, verdict
from classmark.records import Difference, GateCheck, GateReport, MetricValue

_MOST_LOSSES = 24
_MOST_FAILED = 10
_WORDS = {"passed": "passed", "failed": "fails", "not_checked": "not checked"}
_COLOURS = {"passed": "first", "failed": "second", "not_checked": "unclear"}
_FORM = Differences(
    words="loss against the champion, points; more is worse", left=250, width=640, most_ticks=8
)


def gate_page(report: GateReport) -> str:
    """Return the report as one HTML file that needs nothing else, and holds no text of a paper.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    name = f"{report.candidate.name} {report.candidate.version}"
    other = report.champion and f"{report.champion.name} {report.champion.version}"
    losses = [check for check in report.checks if _is_loss(check)]
    return render(
        "gate.html",
        title=f"May {name} replace {other}?" if other else f"May {name} be promoted?",
        lead=f"{verdict(report).capitalize()}.",
        generated=report.generated,
        failed=[_row(check) for check in _worst(report.failed)],
        n_failed=len(report.failed),
        counts=[
            (group, *(f"{found[kind]:,}" for kind in OUTCOMES))
            for group, found in counts_by_group(report).items()
        ],
        left_out=", ".join(report.left_out),
        n_losses=len(losses),
        most_losses=_MOST_LOSSES,
        losses=_figure(losses),
        rows=list(_rows(report)),
        origin=_origin(report),
    )


def _worst(failed: Sequence[GateCheck]) -> list[GateCheck]:
    """Return of each group the lines that are furthest beyond their limit, in their order."""
    groups: dict[str, list[GateCheck]] = {}
    for check in sorted(failed, key=lambda check: -(check.missed_by or math.inf)):
        groups.setdefault(check.group, []).append(check)
    shown = {id(check) for found in groups.values() for check in found[:_MOST_FAILED]}
    return [check for check in failed if id(check) in shown]


def _is_loss(check: GateCheck) -> bool:
    return None not in (check.champion, check.candidate, check.low) and check.group != "cost"


def _figure(losses: Sequence[GateCheck]) -> Markup:
    worst = sorted(losses, key=lambda check: -(check.high or 0.0))[:_MOST_LOSSES]
    rows = [(_title(check), _loss(check), _COLOURS[check.outcome]) for check in worst]
    label = "Losses against the champion, with intervals"
    return differences(rows, label, _FORM) if rows else Markup()


def _loss(check: GateCheck) -> Difference:
    a, b = check.champion or 0.0, check.candidate or 0.0
    value = a - b if check.name.startswith("fall") else b - a
    return Difference(a=a, b=b, difference=value, low=check.low, high=check.high)


def _title(check: GateCheck) -> str:
    return f"{check.name}, {check.part}" if check.part else check.name


def _rows(report: GateReport) -> Iterator[Sequence[str]]:
    group = ""
    for check in report.checks:
        if check.group != group:
            group = check.group
            yield (group,)
        yield _row(check)


def _row(check: GateCheck) -> Sequence[str]:
    ends = None
    if check.value is not None and check.low is not None:
        ends = MetricValue(value=check.value, low=check.low, high=check.high)
    return (
        Markup(f"{wrapped(check.name)} <small>{escape(check.place or check.group)}</small>"),
        Markup(f'<span class="key {_COLOURS[check.outcome]}"></span>{_WORDS[check.outcome]}'),
        _number(check.champion),
        _number(check.candidate),
        with_note(_number(check.value), interval(ends)),
        check.limit_words,
        _number(check.missed_by),
        wrapped(check.note),
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value == round(value) else f"{value:.4f}"


def _origin(report: GateReport) -> dict[str, str]:
    champion = report.champion
    return {
        "candidate": f"{report.candidate.name} {report.candidate.version}",
        "digest of the candidate": report.candidate.digest,
        "champion": f"{champion.name} {champion.version}" if champion else "none",
        "digest of the champion": champion.digest if champion else "",
        "dataset digest": report.dataset_digest,
        "split": f"{report.split}, {report.n:,} papers",
        "papers": "invented by the sample generator" if report.generated else "as given",
        "measured": report.date,
        "machine": report.machine,
        "command": report.command,
    }
