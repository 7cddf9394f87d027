"""Marks, axes and files of SVG; colours are classes of the style sheet, never values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from classmark.records import MetricValue

TEMPLATES = Path(__file__).with_name("templates")
WIDTH = 420
"""Pixels of a figure: two side by side on a desk, one on a phone."""


class Markup(str):
    """Text that is HTML or SVG already; templates do not escape it again."""

    __slots__ = ()

    def __html__(self) -> str:
        """Return the text itself, as the templates ask for it."""
        return self


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

    @property
    def middle(self) -> float:
        """The pixel in the middle."""
        return (self.start + self.end) / 2


def figure(width: int, height: float, label: str, marks: Sequence[str], css: str = "") -> Markup:
    """Return an ``svg`` element of that size in pixels; ``label`` is what a screen reader says."""
    box = f'viewBox="0 0 {width} {height:g}" width="{width}" height="{height:g}"'
    # A strip of bars has no text that stretching would spoil.
    fill = "none" if css == "strip" else "xMidYMid"
    return Markup(
        f'<svg class="{css or "figure"}" {box} preserveAspectRatio="{fill}" role="img" '
        f'aria-label="{escape(label)}">{"".join(marks)}</svg>'
    )


def svg_file(svg: str) -> str:
    """Return a figure of a page as a file: with its namespace, colours and a background."""
    screen = style_sheet().partition("@media print")[0]
    colours, _, rules = screen.partition("*, ::before")
    own = "".join(f"{rule}\n" for rule in rules.splitlines() if rule.startswith("svg "))
    font = "svg text { font-family: system-ui, sans-serif; }"
    head, _, marks = svg.partition(">")
    return (
        f'{head} xmlns="http://www.w3.org/2000/svg">\n<style>\n{colours}{own}{font}\n</style>\n'
        f'<rect width="100%" height="100%" style="fill: var(--sheet)"/>{marks}\n'
    )


def style_sheet() -> str:
    """Return the style sheet that all pages and figures share."""
    return (TEMPLATES / "style.css").read_text(encoding="utf-8")


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


def upright_text(x: float, y: float, words: str, anchor: str = "middle", css: str = "name") -> str:
    """Return words that are read from bottom to top."""
    return (
        f'<text class="{css}" text-anchor="{anchor}" transform="translate({x:g} {y:g}) '
        f'rotate(-90)">{escape(words)}</text>'
    )


def whisker(x: Scale, y: float, metric: MetricValue, css: str, radius: float = 3.5) -> str:
    """Return a horizontal interval with its value as a dot."""
    marks = ""
    if metric.low is not None and metric.high is not None:
        marks = line(x(metric.low), y, x(metric.high), y, f"{css} interval")
    return marks + dot(x(metric.value), y, css, radius)


def upright_whisker(
    x: float, y: Scale, metric: MetricValue, css: str = "first", radius: float = 3.5
) -> str:
    """Return a vertical interval with its value as a dot."""
    marks = ""
    if metric.low is not None and metric.high is not None:
        marks = line(x, y(metric.low), x, y(metric.high), f"{css} interval")
    return marks + dot(x, y(metric.value), css, radius)


def rows_grid(x: Scale, y: Scale, values: Sequence[float]) -> Iterator[str]:
    """Yield a horizontal line with its number for each value of y."""
    for value in values:
        yield line(x.start, y(value), x.end, y(value), "grid")
        yield text(x.start - 6, y(value) + 4, f"{value:g}", "end")


def columns_grid(
    x: Scale, top: float, bottom: float, values: Sequence[float], *, signed: bool = False
) -> Iterator[str]:
    """Yield a vertical line with its number for each value of x; the line at 0 is an axis."""
    for value in values:
        yield line(x(value), top, x(value), bottom, "grid" if value else "axis")
        yield text(x(value), bottom + 16, f"{value:+g}" if signed and value else f"{value:g}")


def nice_step(span: float, most: int) -> float:
    """Return a step of 1, 2 or 5 times a power of ten that gives no more than ``most`` ticks."""
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
    """Return a count in no more than four characters: 999, 1.2k, 34k."""
    if n < 1000:
        return str(n)
    if n < 9950:
        return f"{n / 1000:.1f}k"
    return f"{n / 1000:.0f}k" if n < 999_500 else f"{n / 1e6:.1f}M"
