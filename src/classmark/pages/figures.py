"""The figures of the evaluation page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from classmark.evaluation.metrics.intervals import share_interval
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
    short,
    text,
    ticks,
    upright_text,
    upright_whisker,
    whisker,
)
from classmark.records import EvaluationReport, MetricValue, ReliabilityBin, SliceReport

_LEFT, _RIGHT = 44, 12
_TOP, _BOTTOM, _COUNTS_BOTTOM, _COUNTS_HEIGHT = 12, 330, 408, 46
_CELL = (6, 134)
# A year of fewer papers would stretch the axis with intervals that say nothing.
LEAST_PAPERS_OF_YEAR = 30
_SERIES = (("top_5", "top-5", "second"), ("top_1", "top-1", "first"))


def reliability(bins: Sequence[ReliabilityBin]) -> Markup:
    """Return accuracy against probability with intervals, over the number of papers per bin."""
    x, y = Scale(0, 1, _LEFT, WIDTH - _RIGHT), Scale(0, 1, _BOTTOM, _TOP)
    marks = [*rows_grid(x, y, ticks(0, 1)), line(x(0), y(0), x(1), y(1), "ideal")]
    marks.append(text(x(0.98), y(0.03), "dashed: perfectly calibrated", "end", "note"))
    marks.append(line(x.start, y(0), x.end, y(0), "axis"))
    tall = Scale(0, max((b.n for b in bins), default=1), 0, _COUNTS_HEIGHT)
    for b in bins:
        marks.append(upright_whisker(x(b.confidence), y, b.accuracy))
        left, wide = x(b.low) + 1, x(b.high) - x(b.low) - 2
        marks.append(_count(left, wide, tall(b.n)))
        marks.append(_count_text(left + wide / 2, tall(b.n), b.n))
    marks += _below(x, ticks(0, 1), "probability of the top category")
    marks.append(upright_text(12, y.middle, "share that is right"))
    label = "Reliability diagram: share that is right against probability, with papers per bin"
    return figure(WIDTH, 448, label, marks)


def by_year(report: EvaluationReport) -> Markup:
    """Return top-1 and top-5 by year with intervals, over the papers per year; "" for no year."""
    shown = [part for part in report.years if part.n >= LEAST_PAPERS_OF_YEAR]
    if not shown:
        return Markup()
    level = float(report.config["level"])
    first, last = int(shown[0].name), int(shown[-1].name)
    x = Scale(first - 0.5, last + 0.5, _LEFT, WIDTH - _RIGHT - 32)
    values = [share_of(part, name, level) for part in shown for name, _, _ in _SERIES]
    floor = min(v.value if v.low is None else v.low for v in values)
    y = Scale(max(0.0, int(floor * 10) / 10), 1.0, _BOTTOM, _TOP)
    marks = [*rows_grid(x, y, ticks(y.low, 1.0))]
    for name, words, css in _SERIES:
        points = [(int(part.name), share_of(part, name, level)) for part in shown]
        marks += _curve(points, x, y, css)
        end = shown[-1].metrics[name].value
        marks.append(text(x(last) + 8, y(end) + 4, words, "start", f"series {css}"))
    marks += _papers_by_year(shown, x)
    years = [v for v in ticks(first, last, 6) if v == int(v)]
    marks += _below(x, years, "year of the first version")
    marks.append(upright_text(12, y.middle, "accuracy"))
    return figure(WIDTH, 448, "Accuracy by year with intervals, and papers per year", marks)


def sets_by_period(report: EvaluationReport) -> Markup:
    """Return coverage and mean size of the prediction sets, over all papers and by period."""
    parts = [SliceReport(name="all papers", n=report.n, metrics=report.metrics), *report.periods]
    bottom, target = 40 + 34 * len(parts), float(report.config["set_coverage"])
    coverage = Scale(*_room(parts, "set_coverage", (target,)), 112, 250)
    size = Scale(*_room(parts, "set_size", ()), 282, WIDTH - _RIGHT)
    marks: list[str] = []
    for x, words in ((coverage, "coverage"), (size, "categories in a set")):
        marks.append(text(x.middle, 16, words, css="name"))
        marks += columns_grid(x, 26, bottom, ticks(x.low, x.high, 4))
    marks.append(line(coverage(target), 26, coverage(target), bottom, "ideal"))
    marks.append(text(coverage(target), bottom + 32, f"built for {target:g}", css="note"))
    for i, part in enumerate(parts):
        y = 46 + 34 * i
        for x, name in ((coverage, "set_coverage"), (size, "set_size")):
            if name in part.metrics:
                marks.append(whisker(x, y, part.metrics[name], "first" if i else "second", 4))
        marks.append(text(98, y - 2, part.name, "end", "row"))
        marks.append(text(98, y + 11, f"n {part.n:,}", "end", "tick"))
    label = "Coverage and mean size of the prediction sets by period, with intervals"
    return figure(WIDTH, bottom + 40, label, marks)


def share_of(part: SliceReport, name: str, level: float) -> MetricValue:
    """Return a metric that is a share of papers with Wilson's interval.

    A resample of papers that are all right is all right: the bootstrap would draw no interval.
    """
    return share_interval(round(part.metrics[name].value * part.n), part.n, level)


def forest_cell(metric: MetricValue | None, low: float, high: float, mark: float) -> Markup:
    """Return a row's interval on a common scale, with a line at ``mark``; for a table's cell."""
    if metric is None:
        return Markup()
    x = Scale(low, high, *_CELL)
    marks = [line(x(mark), 0, x(mark), 20, "ideal"), whisker(x, 10, metric, "first", 3)]
    return figure(140, 20, f"{metric.value:.3f}", marks, "cell")


def forest_head(low: float, high: float) -> Markup:
    """Return the ends of the scale of ``forest_cell``, for the head of its column."""
    marks = [text(_CELL[0], 14, f"{low:g}", "start"), text(_CELL[1], 14, f"{high:g}", "end")]
    return figure(140, 20, f"{low:g} to {high:g}", marks, "cell")


def _count(left: float, wide: float, height: float) -> str:
    return bar(left, _COUNTS_BOTTOM - height, wide, height, "count")


def _count_text(x: float, height: float, n: int) -> str:
    return text(x, _COUNTS_BOTTOM - 4 - height, short(n), css="count-text")


def _below(x: Scale, values: Sequence[float], words: str) -> Iterator[str]:
    """Yield the axis below the counts of papers."""
    yield line(x.start, _COUNTS_BOTTOM, x.end, _COUNTS_BOTTOM, "axis")
    for value in values:
        yield text(x(value), 424, f"{value:g}")
    yield text(x.middle, 442, words, css="name")
    yield text(x.start, 352, "papers", "end")


def _papers_by_year(shown: Sequence[SliceReport], x: Scale) -> Iterator[str]:
    most = max(shown, key=lambda part: part.n)
    tall = Scale(0, most.n, 0, _COUNTS_HEIGHT)
    wide = (x.end - x.start) / (x.high - x.low)
    for part in shown:
        yield _count(x(int(part.name)) - wide / 2 + 0.5, wide - 1, tall(part.n))
    yield _count_text(x(int(most.name)), tall(most.n), most.n)


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
            yield upright_whisker(x(run[0][0]), y, run[0][1], css)
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


def _room(parts: Sequence[SliceReport], name: str, also: tuple[float, ...]) -> tuple[float, float]:
    metrics = [part.metrics[name] for part in parts if name in part.metrics]
    ends = [end for m in metrics for end in (m.low, m.value, m.high) if end is not None]
    low, high = min([*ends, *also]), max([*ends, *also])
    margin = max(high - low, 0.02) * 0.12
    return max(low - margin, 0.0), high + margin
