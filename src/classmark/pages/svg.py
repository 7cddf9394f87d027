"""Marks and axes of inline SVG; colours are classes of the style sheet, never values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from classmark.records import MetricValue

# A strip of bars has no text that stretching would spoil.
_FILL = {"strip": "none"}


@dataclass(frozen=True)
class Scale:
    """A linear map of [low, high] in data onto [start, end] in pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; values outside end at the edge."""
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.end - self.start)


def figure(width: int, height: int, label: str, marks: Sequence[str], css: str = "") -> str:
    """Return an ``svg`` element of that size in pixels; ``label`` is what a screen reader says."""
    box = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    fill = _FILL.get(css, "xMidYMid")
    return (
        f'<svg class="{css or "figure"}" {box} preserveAspectRatio="{fill}" role="img" '
        f'aria-label="{escape(label)}">{"".join(marks)}</svg>'
    )


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """Return a line from one point to another."""
    return f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def dot(x: float, y: float, css: str, radius: float = 3.5) -> str:
    """Return a filled circle."""
    return f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>'


def bar(x: float, y: float, width: float, height: float, css: str) -> str:
    """Return a rectangle by its upper left corner."""
    return (
        f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" '
        f'height="{max(height, 0):.1f}"/>'
    )


def path(points: Sequence[tuple[float, float]], css: str, *, closed: bool = False) -> str:
    """Return a line through the points, or the area they enclose."""
    steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="{css}" d="M{steps}{"Z" if closed else ""}"/>'


def text(x: float, y: float, words: str, anchor: str = "middle", css: str = "tick") -> str:
    """Return words at a point; ``anchor`` is start, middle or end."""
    return (
        f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def whisker(x: Scale, y: float, metric: MetricValue, css: str, radius: float = 3.5) -> str:
    """Return a horizontal interval with its value as a dot."""
    marks = ""
    if metric.low is not None and metric.high is not None:
        marks = line(x(metric.low), y, x(metric.high), y, f"{css} interval")
    return marks + dot(x(metric.value), y, css, radius)


def nice_step(span: float, most: int) -> float:
    """Return a step of 1, 2 or 5 times a power of ten that gives at most so many ticks."""
    rough = max(span, 1e-9) / most
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next((power * m for m in (1, 2, 5) if power * m >= rough), 10.0 * power)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round values inside [low, high]."""
    step = nice_step(high - low, most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def short(n: int) -> str:
    """Return a count in at most four characters: 999, 1.2k, 34k."""
    if n < 1000:
        return str(n)
    if n < 9950:
        return f"{n / 1000:.1f}k"
    return f"{n / 1000:.0f}k" if n < 999_500 else f"{n / 1e6:.1f}M"
