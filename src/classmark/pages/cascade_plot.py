"""The curve of a cascade as an SVG file that stands alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from classmark.pages.svg import Scale, dot, line, path, text, ticks
from classmark.records import CascadePoint

WIDTH, HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 620, 40, 350
_COLOURS = {"valid": "#8a8f98", "test": "#1f5fbf"}
_STYLE = (
    "text{font:12px sans-serif;fill:#333}.axis,.grid{stroke:#999}.grid{stroke-opacity:.3}"
    + "".join(
        f".{name}{{stroke:{colour};fill:none;stroke-width:2}}.{name}-dot{{fill:{colour}}}"
        for name, colour in _COLOURS.items()
    )
)


def draw_curve(
    curves: Mapping[str, Sequence[CascadePoint]], chosen: Mapping[str, CascadePoint]
) -> str:
    """Return accuracy against CPU time a paper (logarithmic), a line a split, the choice as a dot.

    Args:
        curves: points by the name of their split, ``valid`` and ``test``.
        chosen: the point that is served, by split.
    """
    points = [point for curve in curves.values() for point in curve]
    costs = [math.log10(point.cpu_ms) for point in points]
    accuracies = [point.accuracy for point in points]
    x = Scale(min(costs), max(costs) + 1e-9, _LEFT, _RIGHT)
    y = Scale(min(accuracies) - 0.005, max(accuracies) + 0.005, _BOTTOM, _TOP)
    marks = [*_axes(x, y)]
    for row, (name, curve) in enumerate(curves.items()):
        places = [(x(math.log10(point.cpu_ms)), y(point.accuracy)) for point in curve]
        marks.append(path(places, name))
        at = chosen[name]
        marks.append(dot(x(math.log10(at.cpu_ms)), y(at.accuracy), f"{name}-dot", 5))
        told = (
            f"{name}: {at.accuracy:.3f} at {at.cpu_ms:.2f} ms, "
            f"{at.cheaper:.1f} times cheaper than deep"
        )
        marks.append(dot(_LEFT + 8, 12 + 16 * row, f"{name}-dot"))
        marks.append(text(_LEFT + 18, 16 + 16 * row, told, "start"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="Accuracy against CPU time of a cascade"><style>{_STYLE}</style>'
        f"{''.join(marks)}</svg>\n"
    )


def _axes(x: Scale, y: Scale) -> list[str]:
    marks = [
        line(_LEFT, _BOTTOM, _RIGHT, _BOTTOM, "axis"),
        line(_LEFT, _TOP, _LEFT, _BOTTOM, "axis"),
    ]
    for value in ticks(y.low, y.high):
        marks.append(line(_LEFT, y(value), _RIGHT, y(value), "grid"))
        marks.append(text(_LEFT - 6, y(value) + 4, f"{value:g}", "end"))
    for value in ticks(x.low, x.high):
        marks.append(text(x(value), _BOTTOM + 18, f"{10**value:.3g}"))
    marks.append(text((_LEFT + _RIGHT) / 2, HEIGHT - 8, "CPU time a paper, ms"))
    marks.append(text(_LEFT - 44, _TOP - 8, "top-1", "start"))
    return marks
