"""Charts that several pages share: differences with intervals, bars, columns, values over time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from classmark.pages.svg import (
    WIDTH,
    Markup,
    Scale,
    bar,
    columns_grid,
    dot,
    figure,
    line,
    path,
    rows_grid,
    text,
    ticks,
    upright_text,
    upright_whisker,
    whisker,
)
from classmark.records import Difference, MetricValue

_RIGHT, _ROW = 14, 24
_LEAST_REACH = 0.1


@dataclass(frozen=True, kw_only=True)
class Differences:
    """How differences are drawn.

    Attributes:
        words: below the axis.
        left: pixels for the names of the rows.
        width: of the figure.
        ends: words over both ends of the axis.
        most_ticks: on the axis.
    """

    words: str
    left: int = 178
    width: int = WIDTH
    ends: tuple[str, str] = ("", "")
    most_ticks: int = 5


@dataclass(frozen=True, kw_only=True)
class Series:
    """The values of one dataset, in the order of the names; ``css`` is its colour."""

    name: str
    css: str
    values: Sequence[float]


def differences(
    rows: Sequence[tuple[str, Difference, str]], label: str, form: Differences
) -> Markup:
    """Return differences of shares in points with intervals, one row each, over a line at 0.

    Args:
        rows: name, difference and colour class.
        label: what a screen reader says.
        form: sizes and words.
    """
    ends = [100 * e for _, d, _ in rows for e in (d.low, d.difference, d.high) if e is not None]
    reach = max([abs(e) for e in ends] + [_LEAST_REACH]) * 1.08
    low, high = min([*ends, -0.15 * reach]), max([*ends, 0.15 * reach])
    x, bottom = Scale(low, high, form.left, form.width - _RIGHT), 30 + _ROW * len(rows)
    marks = [*columns_grid(x, 22, bottom, ticks(low, high, form.most_ticks), signed=True)]
    marks.append(text(x.start, 14, form.ends[0], "start"))
    marks.append(text(x.end, 14, form.ends[1], "end"))
    for i, (name, d, css) in enumerate(rows):
        y = 38 + _ROW * i
        marks.append(text(x.start - 10, y + 4, name, "end", "row"))
        marks.append(whisker(x, y, _in_points(d), css))
    marks.append(text(x.middle, bottom + 34, form.words, css="name"))
    css = "wide" if form.width > WIDTH else ""
    return figure(form.width, bottom + 40, label, marks, css)


def bars(names: Sequence[str], series: Sequence[Series], label: str, unit: str) -> Markup:
    """Return horizontal bars, a row for each name, series below one another."""
    thick = 13 if len(series) == 1 else 8
    row = thick * len(series) + 6
    high = max((v for s in series for v in s.values), default=0.0) or 1.0
    top, left = 10 + 18 * (len(series) > 1), 124
    x, bottom = Scale(0, high, left, WIDTH - _RIGHT), top + row * len(names)
    marks = [*_legend(series), *columns_grid(x, top, bottom, ticks(0, high))]
    for i, name in enumerate(names):
        y = top + row * i + 3
        marks.append(text(left - 8, y + row / 2, name, "end", "row"))
        for j, part in enumerate(series):
            marks.append(bar(left, y + thick * j, x(part.values[i]) - left, thick - 1, part.css))
    marks.append(text(x.middle, bottom + 34, unit, css="name"))
    return figure(WIDTH, bottom + 40, label, marks)


def columns(
    names: Sequence[str], series: Sequence[Series], label: str, axes: tuple[str, str]
) -> Markup:
    """Return vertical bars, a group for each name, series side by side.

    Args:
        names: below the columns; some are left out where they would run into each other.
        series: the values.
        label: what a screen reader says.
        axes: words at the vertical and below the horizontal axis.
    """
    high = max((v for s in series for v in s.values), default=0.0) or 1.0
    x, y = Scale(0, len(names), 48, WIDTH - _RIGHT), Scale(0, high, 190, 28)
    marks = [*_legend(series), *rows_grid(x, y, ticks(0, high)), upright_text(12, 109, axes[0])]
    room = (x.end - x.start) / len(names)
    wide = room * 0.8 / len(series)
    every = 1 + len(names) * 36 // int(x.end - x.start)
    for i, name in enumerate(names):
        for j, part in enumerate(series):
            at, top = x(i) + room * 0.1 + wide * j, y(part.values[i])
            marks.append(bar(at, top, wide - min(1.0, wide / 8), y.start - top, part.css))
        if i % every == 0:
            marks.append(text(x(i + 0.5), 206, name))
    marks.append(line(x.start, y.start, x.end, y.start, "axis"))
    marks.append(text(x.middle, 226, axes[1], css="name"))
    return figure(WIDTH, 232, label, marks)


def changes(rows: Sequence[tuple[str, float]], label: str) -> Markup:
    """Return bars to both sides of 0 with their numbers: more is green, less is brown."""
    reach = max([abs(value) for _, value in rows] + [_LEAST_REACH])
    low, high = (side * 1.3 * reach for side in (-1, 1))
    x, bottom = Scale(low, high, 124, WIDTH - _RIGHT), 10 + 20 * len(rows)
    marks = [*columns_grid(x, 6, bottom, ticks(low, high), signed=True)]
    for i, (name, value) in enumerate(rows):
        y, more = 12 + 20 * i, value > 0
        start, end = sorted((x(0), x(value)))
        marks.append(text(114, y + 11, name, "end", "row"))
        marks.append(bar(start, y, end - start, 14, "first" if more else "second"))
        at, anchor = (end + 4, "start") if more else (start - 4, "end")
        marks.append(text(at, y + 11, f"{value:+.2f}", anchor))
    return figure(WIDTH, bottom + 22, label, marks)


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Values over time.

    Attributes:
        name: for the legend.
        css: colour class.
        points: Unix time in seconds, and the value then; the oldest first.
    """

    name: str
    css: str
    points: Sequence[tuple[float, MetricValue]]


@dataclass(frozen=True, kw_only=True)
class TimeForm:
    """How values over time are drawn.

    Attributes:
        mark: the value of a dashed line; None for no line.
        flags: Unix times in seconds of upright lines, with a short name of each.
        width: of the figure.
    """

    mark: float | None = None
    flags: Sequence[tuple[float, str]] = ()
    width: int = WIDTH


def over_time(
    series: Sequence[Moments], label: str, words: str, form: TimeForm = TimeForm()
) -> Markup:
    """Return values over time, on a scale of powers of ten where no value has an interval.

    Args:
        series: one or more, of one point or more each; values are 0..1.
        label: what a screen reader says.
        words: at the vertical axis.
        form: size, lines and names.
    """
    metrics = [metric for part in series for _, metric in part.points]
    is_logarithmic = all(metric.low is None for metric in metrics)
    mark = form.mark
    seconds = [at for part in series for at, _ in part.points] + [at for at, _ in form.flags]
    x = Scale(min(seconds), max(max(seconds), min(seconds) + 1), 60, form.width - _RIGHT - 6)
    place = _exponent if is_logarithmic else float
    ends = [e for m in metrics for e in (m.low, m.value, m.high) if e is not None]
    ends += [] if mark is None else [mark]
    highest = 0.0 if is_logarithmic else 1.05 * max([*ends, 0.01])
    lowest = min(math.floor(_exponent(min(ends))), -1) if is_logarithmic else 0.0
    y = Scale(lowest, highest, 190, 28)
    marks = [*_legend(series), upright_text(12, 109, words), *_rows_over_time(x, y, is_logarithmic)]
    if mark is not None:
        marks.append(line(x.start, y(place(mark)), x.end, y(place(mark)), "ideal"))
    for at, name in form.flags:
        marks.append(line(x(at), y.start, x(at), y.end, "ideal"))
        marks.append(text(x(at), y.end - 3, name))
    for part in series:
        marks.append(path([(x(s), y(place(m.value))) for s, m in part.points], f"{part.css} curve"))
        for at, m in part.points:
            point = dot(x(at), y(place(m.value)), part.css, 2.5)
            marks.append(point if is_logarithmic else upright_whisker(x(at), y, m, part.css, 2.5))
    marks.append(line(x.start, 190, x.end, 190, "axis"))
    marks.append(text(x.start, 208, _day(x.low), "start"))
    marks.append(text(x.end, 208, _day(x.high), "end"))
    css = "figure wide" if form.width > WIDTH else ""
    return figure(form.width, 214, label, marks, css)


def _rows_over_time(x: Scale, y: Scale, is_logarithmic: bool) -> Iterator[str]:
    if not is_logarithmic:
        yield from rows_grid(x, y, ticks(y.low, y.high, 4))
        return
    for exponent in (round(v) for v in ticks(y.low, y.high, 4) if v == round(v)):
        yield line(x.start, y(exponent), x.end, y(exponent), "grid")
        yield text(x.start - 6, y(exponent) + 4, f"{10.0**exponent:g}", "end")


def _exponent(value: float) -> float:
    return math.log10(max(value, 1e-300))


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def _legend(series: Sequence[Series | Moments]) -> Iterator[str]:
    """Yield the names of two series or more with their colours, from the left."""
    if len(series) < 2:
        return
    for i, part in enumerate(series):
        at = 48 + i * (WIDTH - 62) / len(series)
        yield bar(at, 4, 11, 11, part.css)
        yield text(at + 16, 14, part.name, "start", "row")


def _in_points(d: Difference) -> MetricValue:
    low, high = (None if end is None else 100 * end for end in (d.low, d.high))
    return MetricValue(value=100 * d.difference, low=low, high=high)
