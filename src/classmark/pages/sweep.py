"""The page of a sweep: its history, what mattered, where the good values are, every trial."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from classmark.pages.charts import Series, bars
from classmark.pages.frame import render
from classmark.pages.svg import (
    WIDTH,
    Markup,
    Scale,
    dot,
    figure,
    line,
    path,
    rows_grid,
    text,
    ticks,
    upright_text,
)
from classmark.pages.text import METRIC_TITLES, aligned
from classmark.records import SweepReport, SweepTrial, TrialState

_PANEL_WIDTH, _PANEL_HEIGHT = 280, 172
_LEAST_SPAN = 1e-3
_STATES: tuple[TrialState, ...] = ("complete", "pruned", "failed", "running", "waiting")
_COLOURS = {"complete": "first", "pruned": "unclear"}
_MOST_TICKS = 4


def sweep_page(report: SweepReport) -> str:
    """Return the report as one HTML file that needs nothing else.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    best, default, title = report.best, report.default, METRIC_TITLES[report.metric]
    complete = [t for t in report.trials if t.value is not None]
    lead = (
        f"{len(complete)} complete trials of {len(report.trials)}; {title} on the "
        f"{report.n_valid:,} papers of the valid split. The test split was not looked at."
    )
    return render(
        "sweep.html",
        title=f"Sweep {report.name}",
        lead=lead,
        generated=report.generated,
        best=best,
        default=default,
        gain=_gain(best, default),
        metric=title,
        history=history_figure(report) if complete else "",
        importance=_importance_figure(report),
        panels=[(key, _panel(report, key)) for key in report.space] if complete else [],
        heads=("trial", "state", title, *_short(report), "CPU s", "note"),
        rows=[_row(report, trial) for trial in _ranked(report)],
        origin=_origin(report),
    )


def sweep_text(report: SweepReport) -> str:
    """Return how trials ended, and the best values beside those before the sweep, as text."""
    best, default = report.best, report.default
    counts = (f"{report.count(s)} {s}" for s in _STATES if report.count(s))
    facts = [("trials", ", ".join(counts) or "none")]
    for name, trial in (("best", best), ("before the sweep", default)):
        if trial is not None:
            facts.append(
                (name, f"{report.metric} {trial.value:.4f} on valid, trial {trial.number}")
            )
    if best is None:
        return aligned(facts, left=(0, 1))
    rows = [("key", "best", "before", "importance" if report.importance else "")]
    for key in report.space:
        before = "" if default is None else _number(default.values[key])
        share = f"{report.importance[key]:.2f}" if key in report.importance else ""
        rows.append((key, _number(best.values[key]), before, share))
    return aligned(facts, left=(0, 1)) + "\n\n" + aligned(rows, left=(0,))


def history_figure(report: SweepReport) -> Markup:
    """Return the value of each complete trial, the best so far, and where trials were pruned."""
    shown = [(t, v) for t in report.trials if (v := _last_value(t)) is not None]
    values = [value for _, value in shown]
    x = Scale(-0.5, len(report.trials) - 0.5, 52, WIDTH - 14)
    y = _value_scale(values, 190, 14)
    marks = [*rows_grid(x, y, ticks(y.low, y.high))]
    marks.append(line(x.start, y.start, x.end, y.start, "axis"))
    if report.default is not None and report.default.value is not None:
        level = y(report.default.value)
        marks.append(line(x.start, level, x.end, level, "ideal"))
    bests = [(x(trial.number), y(best)) for trial, best in report.bests()]
    marks.append(path(_steps(bests), "first curve"))
    marks += [dot(x(t.number), y(v), _COLOURS.get(t.state, "second"), 3) for t, v in shown]
    every = max(1, -(-len(report.trials) // 8))
    marks += [text(x(i), 206, str(i)) for i in range(0, len(report.trials), every)]
    marks.append(text(x.middle, 226, "trial", css="name"))
    marks.append(upright_text(12, 102, METRIC_TITLES[report.metric]))
    return figure(WIDTH, 232, "Value of each trial, and the best so far", marks)


def _steps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return a line that stays level until the next point."""
    line_: list[tuple[float, float]] = []
    for x, y in points:
        if line_:
            line_.append((x, line_[-1][1]))
        line_.append((x, y))
    return line_


def _importance_figure(report: SweepReport) -> Markup | str:
    if not report.importance:
        return ""
    ranked = sorted(report.importance.items(), key=lambda item: -item[1])
    series = Series(name="importance", css="first", values=[share for _, share in ranked])
    names = [_without_group(key) for key, _ in ranked]
    return bars(names, [series], "Importance of each key", "share")


def _panel(report: SweepReport, key: str) -> Markup:
    """Return the value of complete trials by the value of one key."""
    shown = [(t.values[key], t) for t in report.trials if t.value is not None and key in t.values]
    where = report.space[key]
    x, marks = _key_scale(where)
    y = _value_scale([t.value for _, t in shown if t.value is not None], _PANEL_HEIGHT - 26, 10)
    marks = [*rows_grid(x, y, ticks(y.low, y.high, 3)), *marks]
    marks.append(line(x.start, y.start, x.end, y.start, "axis"))
    for value, trial in shown:
        css = "second" if trial.is_default else "first"
        marks.append(dot(x(_position(where, value)), y(trial.value or 0.0), css, 3))
    return figure(_PANEL_WIDTH, _PANEL_HEIGHT, f"{key}: value of each complete trial", marks)


def _key_scale(where: dict[str, Any]) -> tuple[Scale, list[str]]:
    """Return the scale of a range, and its numbers below the axis."""
    left, right, below = 46, _PANEL_WIDTH - 12, _PANEL_HEIGHT - 10
    if choices := where.get("choices"):
        x = Scale(-0.5, len(choices) - 0.5, left, right)
        return x, [text(x(i), below, str(choice)) for i, choice in enumerate(choices)]
    low, high = _position(where, where.get("low", 0)), _position(where, where["high"])
    margin = 0.04 * (high - low)
    x = Scale(low - margin, high + margin, left, right)
    if not where.get("log"):
        return x, [text(x(v), below, f"{v:g}") for v in ticks(low, high, _MOST_TICKS)]
    numbers = (10.0**k * m for k in range(math.floor(low), math.ceil(high) + 1) for m in (1, 3))
    inside = [n for n in numbers if low - margin <= math.log10(n) <= high + margin]
    return x, [text(x(math.log10(n)), below, f"{n:g}") for n in inside]


def _position(where: dict[str, Any], value: object) -> float:
    if choices := where.get("choices"):
        return float(choices.index(value))
    number = float(str(value))
    return math.log10(number) if where.get("log") else number


def _value_scale(values: Sequence[float], start: float, end: float) -> Scale:
    low, high = min(values), max(values)
    margin = max(0.06 * (high - low), _LEAST_SPAN)
    return Scale(low - margin, high + margin, start, end)


def _last_value(trial: SweepTrial) -> float | None:
    """Return the value of a trial; of a pruned one that of its last epoch."""
    if trial.value is not None or not trial.measured:
        return trial.value
    return list(trial.measured.values())[-1]


def _ranked(report: SweepReport) -> list[SweepTrial]:
    """Return the trials: the best first, then those without a value."""
    return sorted(report.trials, key=lambda t: (t.value is None, -(t.value or 0.0), t.number))


def _row(report: SweepReport, trial: SweepTrial) -> Sequence[str]:
    value = _last_value(trial)
    shown = "\u2013" if value is None else f"{value:.4f}"
    cpu = "\u2013" if trial.cpu_seconds is None else f"{trial.cpu_seconds:.0f}"
    values = (_number(trial.values.get(key)) for key in report.space)
    return (str(trial.number), trial.state, shown, *values, cpu, ", ".join(_notes(trial)))


def _notes(trial: SweepTrial) -> Iterator[str]:
    if trial.is_default:
        yield "the default"
    if trial.retry_of is not None:
        yield f"trial {trial.retry_of} again"
    if trial.state == "pruned" and trial.measured:
        yield f"ended at {list(trial.measured)[-1]} %"
    if trial.error:
        yield trial.error


def _number(value: object) -> str:
    if value is None:
        return "\u2013"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(report: SweepReport) -> list[str]:
    return [_without_group(key) for key in report.space]


def _without_group(key: str) -> str:
    return key.rpartition(".")[2]


def _gain(best: SweepTrial | None, default: SweepTrial | None) -> str:
    if best is None or default is None or best.value is None or default.value is None:
        return ""
    return f"{100 * (best.value - default.value):+.2f}"


def _origin(report: SweepReport) -> dict[str, str]:
    packages = ", ".join(f"{name} {version}" for name, version in report.packages.items())
    return {
        "model": report.kind,
        "dataset digest": report.dataset_digest,
        "papers": f"{report.n_train:,} for fitting, {report.n_valid:,} for choosing; "
        + ("invented by the sample generator" if report.generated else "as given"),
        "measured": report.date,
        "machine": report.machine,
        "packages": packages,
        "command": report.command,
    }
