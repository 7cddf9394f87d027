"""The figures of the robustness page: one small plot a kind, and what hurts most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from classmark.pages.svg import Scale, dot, figure, line, path, text, ticks, whisker
from classmark.records import Difference, MetricValue, RobustnessKind, RobustnessLevel

WIDTH, HEIGHT = 280, 172
LEFT, RIGHT, TOP, BOTTOM = 30, 10, 10, 26
MOST_NAMES = 6
SERIES = (
    ("top_1", "top-1 accuracy", "first"),
    ("confidence", "mean probability", "second"),
    ("abstained", "abstained", "unclear"),
)
_LOSS_WIDTH, _LOSS_LEFT, _ROW = 640, 230, 22


def kind_figure(kind: RobustnessKind, clean: RobustnessLevel | None) -> str:
    """Return accuracy, probability and abstention at each level, from 0 to 1.

    Args:
        kind: its levels stand side by side, joined by lines where their order means something.
        clean: stands before them; None where the texts are not the same ones.
    """
    levels = [*([clean] if clean else []), *kind.levels]
    x = Scale(-0.5, len(levels) - 0.5, LEFT, WIDTH - RIGHT)
    y = Scale(0, 1, HEIGHT - BOTTOM, TOP)
    marks = []
    for value in ticks(0, 1, 4):
        marks.append(line(LEFT, y(value), WIDTH - RIGHT, y(value), "axis" if not value else "grid"))
        marks.append(text(LEFT - 5, y(value) + 4, f"{value:g}", "end"))
    every = -(-len(levels) // MOST_NAMES)
    for i, level in list(enumerate(levels))[::every]:
        marks.append(text(x(i), HEIGHT - 10, _short(level.name)))
    for metric, _, css in SERIES:
        points = [
            (x(i), level.metrics[metric])
            for i, level in enumerate(levels)
            if metric in level.metrics
        ]
        marks += _series(points, y, css, joined=kind.ordered)
    told = "; ".join(_told(level) for level in levels)
    return figure(WIDTH, HEIGHT, f"{kind.name}: {told}", marks)


def loss_figure(rows: Sequence[tuple[str, Difference]]) -> str:
    """Return differences of top-1 to the clean papers in points with intervals, a row each."""
    ends = [100 * e for _, d in rows for e in (d.low, d.difference, d.high) if e is not None]
    low, high = min([*ends, -1.0]), max([*ends, 1.0])
    x = Scale(low, high, _LOSS_LEFT, _LOSS_WIDTH - RIGHT)
    bottom = 12 + _ROW * len(rows)
    marks = []
    for value in ticks(low, high, 8):
        marks.append(line(x(value), 6, x(value), bottom, "axis" if value == 0 else "grid"))
        marks.append(text(x(value), bottom + 16, f"{value:+g}" if value else "0"))
    for i, (name, d) in enumerate(rows):
        at = 18 + _ROW * i
        marks.append(text(_LOSS_LEFT - 10, at + 4, name, "end", "row"))
        low_end, high_end = (None if end is None else 100 * end for end in (d.low, d.high))
        metric = MetricValue(value=100 * d.difference, low=low_end, high=high_end)
        marks.append(whisker(x, at, metric, "second"))
    words = "top-1 accuracy minus that of the clean papers, points"
    marks.append(text((_LOSS_LEFT + _LOSS_WIDTH - RIGHT) / 2, bottom + 34, words, css="name"))
    return figure(_LOSS_WIDTH, bottom + 40, "What hurts most", marks, "wide")


def _series(
    points: Sequence[tuple[float, MetricValue]], y: Scale, css: str, *, joined: bool
) -> Iterator[str]:
    if joined and len(points) > 1:
        yield path([(at, y(m.value)) for at, m in points], f"{css} curve")
    for at, m in points:
        if m.low is not None and m.high is not None:
            yield line(at, y(m.low), at, y(m.high), f"{css} interval")
        yield dot(at, y(m.value), css, 2.5)


def _told(level: RobustnessLevel) -> str:
    values = (
        f"{words} {level.metrics[metric].value:.2f}"
        for metric, words, _ in SERIES
        if metric in level.metrics
    )
    return f"{level.name}: {', '.join(values)}"


def _short(level: str) -> str:
    return level.removesuffix(" words")
