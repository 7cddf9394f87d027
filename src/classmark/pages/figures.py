"""The figures of the page, each 420 pixels wide: two a row on a desk, one on a phone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from classmark.evaluation.metrics.intervals import share_interval
from classmark.pages.svg import (
    Scale,
    bar,
    dot,
    figure,
    line,
    path,
    short,
    text,
    ticks,
    whisker,
)
from classmark.records import EvaluationReport, MetricValue, ReliabilityBin, SliceReport

WIDTH = 420
LEFT, RIGHT = 44, 12
_CELL = (6, 134)
# A year of fewer papers would stretch the axis with intervals that say nothing.
LEAST_PAPERS_OF_YEAR = 30
_SERIES = (("top_5", "top-5", "second"), ("top_1", "top-1", "first"))


def reliability(bins: Sequence[ReliabilityBin]) -> str:
    """Return accuracy against probability with intervals, over the number of papers a bin."""
    x, y = Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, 330, 12)
    marks = [*_grid(y, ticks(0, 1), x), line(x(0), y(0), x(1), y(1), "ideal")]
    marks.append(text(x(0.98), y(0.03), "dashed: perfectly calibrated", "end", "note"))
    marks.append(line(LEFT, y(0), WIDTH - RIGHT, y(0), "axis"))
    largest = max((b.n for b in bins), default=1)
    tall = Scale(0, largest, 0, 46)
    for b in bins:
        marks.append(_upright(x(b.confidence), y, b.accuracy))
        left, wide, height = x(b.low) + 1, x(b.high) - x(b.low) - 2, tall(b.n)
        marks.append(bar(left, 408 - height, wide, height, "count"))
        marks.append(text(left + wide / 2, 404 - height, short(b.n), css="count-text"))
    marks.append(line(LEFT, 408, WIDTH - RIGHT, 408, "axis"))
    marks += [text(x(v), 424, f"{v:g}") for v in ticks(0, 1)]
    marks.append(text(x(0.5), 442, "probability of the top category", css="name"))
    marks.append(text(LEFT, 352, "papers", "end", "tick"))
    marks.append(_upright_name(y, "share that is right"))
    label = "Reliability diagram: share that is right against probability, with papers a bin"
    return figure(WIDTH, 448, label, marks)


def by_year(report: EvaluationReport) -> str:
    """Return top-1 and top-5 by year with intervals, over the papers a year; "" for no year."""
    level = float(report.config["level"])
    shown = [part for part in report.years if part.n >= LEAST_PAPERS_OF_YEAR]
    if not shown:
        return ""
    first, last = int(shown[0].name), int(shown[-1].name)
    x = Scale(first - 0.5, last + 0.5, LEFT, WIDTH - RIGHT - 32)
    values = [share_of(part, name, level) for part in shown for name, _, _ in _SERIES]
    floor = min(v.value if v.low is None else v.low for v in values)
    y = Scale(max(0.0, int(floor * 10) / 10), 1.0, 330, 12)
    marks = [*_grid(y, ticks(y.low, 1.0), x)]
    for name, words, css in _SERIES:
        points = [(int(part.name), share_of(part, name, level)) for part in shown]
        marks += _curve(points, x, y, css)
        end = shown[-1].metrics[name].value
        marks.append(text(x(last) + 8, y(end) + 4, words, "start", f"series {css}"))
    tall = Scale(0, max(part.n for part in shown), 0, 46)
    wide = (x.end - x.start) / (last - first + 1)
    for part in shown:
        height = tall(part.n)
        marks.append(
            bar(x(int(part.name)) - wide / 2 + 0.5, 408 - height, wide - 1, height, "count")
        )
    most = max(shown, key=lambda part: part.n)
    peak = x(int(most.name))
    marks.append(text(peak, 404 - tall(most.n), short(most.n), css="count-text"))
    marks.append(line(LEFT, 408, x.end, 408, "axis"))
    marks += [text(x(v), 424, f"{v:.0f}") for v in ticks(first, last, 6) if v == int(v)]
    marks.append(text((x.start + x.end) / 2, 442, "year of the first version", css="name"))
    marks.append(text(LEFT, 352, "papers", "end"))
    marks.append(_upright_name(y, "accuracy"))
    return figure(WIDTH, 448, "Accuracy by year with intervals, and papers a year", marks)


def sets_by_period(report: EvaluationReport) -> str:
    """Return coverage and mean size of the prediction sets, over all papers and by period."""
    whole = SliceReport(name="all papers", n=report.n, metrics=report.metrics)
    parts = [whole, *report.periods]
    bottom = 40 + 34 * len(parts)
    target = float(report.config["set_coverage"])
    panels = (
        ("set_coverage", "coverage", 112, 250, _room(parts, "set_coverage", (target,))),
        ("set_size", "categories in a set", 282, WIDTH - RIGHT, _room(parts, "set_size", ())),
    )
    marks: list[str] = []
    for name, words, start, end, (low, high) in panels:
        x = Scale(low, high, start, end)
        marks.append(text((start + end) / 2, 16, words, css="name"))
        for value in ticks(low, high, 4):
            marks += [line(x(value), 26, x(value), bottom, "grid")]
            marks += [text(x(value), bottom + 16, f"{value:g}")]
        if name == "set_coverage":
            marks.append(line(x(target), 26, x(target), bottom, "ideal"))
            marks.append(text(x(target), bottom + 32, f"built for {target:g}", css="note"))
        for i, part in enumerate(parts):
            css = "second" if part is whole else "first"
            if name in part.metrics:
                marks.append(whisker(x, 46 + 34 * i, part.metrics[name], css, 4))
    for i, part in enumerate(parts):
        marks.append(text(98, 44 + 34 * i, part.name, "end", "row"))
        marks.append(text(98, 57 + 34 * i, f"n {part.n:,}", "end", "tick"))
    label = "Coverage and mean size of the prediction sets by period, with intervals"
    return figure(WIDTH, bottom + 40, label, marks)


def share_of(part: SliceReport, name: str, level: float) -> MetricValue:
    """Return a metric that is a share of papers with Wilson's interval.

    A resample of papers that are all right is all right: the bootstrap would draw no interval.
    """
    return share_interval(round(part.metrics[name].value * part.n), part.n, level)


def forest_cell(metric: MetricValue | None, low: float, high: float, mark: float) -> str:
    """Return a row's interval on a common scale, with a line at ``mark``; for a table's cell."""
    if metric is None:
        return ""
    x = Scale(low, high, *_CELL)
    marks = [line(x(mark), 0, x(mark), 20, "ideal"), whisker(x, 10, metric, "first", 3)]
    return figure(140, 20, f"{metric.value:.3f}", marks, "cell")


def forest_head(low: float, high: float) -> str:
    """Return the ends of the scale of ``forest_cell``, for the head of its column."""
    marks = [text(_CELL[0], 14, f"{low:g}", "start"), text(_CELL[1], 14, f"{high:g}", "end")]
    return figure(140, 20, f"{low:g} to {high:g}", marks, "cell")


def _curve(
    points: Sequence[tuple[int, MetricValue]], x: Scale, y: Scale, css: str
) -> Iterator[str]:
    for run in _unbroken(points):
        upper = [(x(year), y(m.value if m.high is None else m.high)) for year, m in run]
        lower = [(x(year), y(m.value if m.low is None else m.low)) for year, m in run]
        if len(run) > 1:
            yield path(upper + lower[::-1], f"{css} band", closed=True)
            yield path([(x(year), y(m.value)) for year, m in run], f"{css} curve")
        else:
            yield _upright(x(run[0][0]), y, run[0][1], css)
        for year, m in run:
            yield dot(x(year), y(m.value), css, 2)


def _unbroken(
    points: Sequence[tuple[int, MetricValue]],
) -> Iterator[list[tuple[int, MetricValue]]]:
    """Yield runs of consecutive years: a line over years without papers would be invented."""
    run: list[tuple[int, MetricValue]] = []
    for point in points:
        if run and point[0] != run[-1][0] + 1:
            yield run
            run = []
        run.append(point)
    yield run


def _upright(x: float, y: Scale, metric: MetricValue, css: str = "first") -> str:
    low = metric.value if metric.low is None else metric.low
    high = metric.value if metric.high is None else metric.high
    return line(x, y(low), x, y(high), f"{css} interval") + dot(x, y(metric.value), css)


def _upright_name(y: Scale, words: str) -> str:
    middle = (y.start + y.end) / 2
    return (
        f'<text class="name" text-anchor="middle" transform="translate(12 {middle:g}) '
        f'rotate(-90)">{words}</text>'
    )


def _grid(y: Scale, values: Sequence[float], x: Scale) -> Iterator[str]:
    for value in values:
        yield line(x.start, y(value), x.end, y(value), "grid")
        yield text(x.start - 6, y(value) + 4, f"{value:g}", "end")


def _room(parts: Sequence[SliceReport], name: str, also: tuple[float, ...]) -> tuple[float, float]:
    metrics = [part.metrics[name] for part in parts if name in part.metrics]
    ends = [end for m in metrics for end in (m.low, m.value, m.high) if end is not None]
    low, high = min([*ends, *also]), max([*ends, *also])
    margin = max(high - low, 0.02) * 0.12
    return max(low - margin, 0.0), high + margin
