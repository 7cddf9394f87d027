"""Figure of compression: top-1 against speed and against size, and what nothing else beats."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from marks import document, words

from classmark.pages.svg import Scale, dot, line, path, text, ticks
from report import read_report

LABEL = (
    "Top-1 of every way to compress the deep model, left against papers a CPU-second, right "
    "against megabytes; the Pareto curve joins those that no other one beats in both"
)
HEIGHT, PANEL_WIDTH, GAP = 380, 400, 40
COLUMNS, ROW_STEP = 3, 16
STEPS = (1, 2, 5)
LABEL_STEP = 11

Way = dict[str, Any]


def draw() -> str:
    """Return the figure."""
    ways = [way for way in read_report("compression")["ways"] if way["family"] != "fast"]
    left = _panel(ways, "papers a CPU-second", lambda way: way["papers_per_cpu_s"], 1)
    right = _panel(ways, "megabytes", lambda way: way["mb"], -1)
    shifted = f'<g transform="translate({PANEL_WIDTH + GAP} 0)">{right}</g>'
    width, rows = 2 * PANEL_WIDTH + GAP, -(-len(ways) // COLUMNS)
    names = [
        words(
            44 + (place // rows) * width / COLUMNS,
            HEIGHT + 16 + (place % rows) * ROW_STEP,
            f"{place + 1}  {way['name']}",
            "name",
        )
        for place, way in enumerate(ways)
    ]
    return document(LABEL, HEIGHT + 24 + rows * ROW_STEP, [left, shifted, *names], width)


def pareto(ways: list[Way], value: Callable[[Way], float], sign: int) -> list[Way]:
    """Return the ways that no other beats in accuracy and in value, the best value first.

    Args:
        ways: all of them.
        value: of the other axis.
        sign: 1 if more of it is better, -1 if less is.
    """
    ranked = sorted(ways, key=lambda way: (-sign * value(way), -way["top_1"]))
    curve: list[Way] = []
    for way in ranked:
        if not curve or way["top_1"] > curve[-1]["top_1"]:
            curve.append(way)
    return curve


def _panel(ways: list[Way], title: str, value: Callable[[Way], float], sign: int) -> str:
    tops = [100 * way["top_1"] for way in ways]
    logs = [math.log10(value(way)) for way in ways]
    x = Scale(min(logs) - 0.1, max(logs) + 0.1, 44, PANEL_WIDTH - 12)
    y = Scale(min(tops) - 2, max(tops) + 2, HEIGHT - 52, 34)
    marks = [words(0, 16, f"top-1, %, against {title}", "head")]
    for tick in ticks(y.low, y.high):
        marks.append(line(x.start, y(tick), x.end, y(tick), "grid"))
        marks.append(text(x.start - 6, y(tick) + 4, f"{tick:g}", "end"))
    marks.append(line(x.start, y.start, x.end, y.start, "axis"))
    for tick in _log_ticks(x):
        marks.append(text(x(math.log10(tick)), y.start + 16, f"{tick:,g}"))
    marks.append(text((x.start + x.end) / 2, HEIGHT - 14, title))
    curve = pareto(ways, value, sign)
    places = {way["name"]: (x(math.log10(value(way))), y(100 * way["top_1"])) for way in ways}
    marks.append(path([places[way["name"]] for way in curve], "first curve"))
    on_curve = {way["name"] for way in curve}
    for name, place in places.items():
        marks.append(dot(*place, "first" if name in on_curve else "second"))
    return "".join([*marks, *_numbers(list(places.values()))])


def _numbers(places: list[tuple[float, float]]) -> list[str]:
    """Return the number of each point right of it, or as near to that as none covers another."""
    taken: list[tuple[float, float]] = []
    marks = []
    for number, (left, top) in sorted(enumerate(places, 1), key=lambda item: item[1][1]):
        at = (left + 6, top + 4)
        while any(abs(at[0] - x) < 14 and abs(at[1] - y) < LABEL_STEP for x, y in taken):
            at = (at[0], at[1] + LABEL_STEP / 2)
        taken.append(at)
        marks.append(text(*at, str(number), "start"))
    return marks


def _log_ticks(x: Scale) -> list[float]:
    powers = range(math.floor(x.low), math.ceil(x.high) + 1)
    found = [step * 10.0**power for power in powers for step in STEPS]
    return [tick for tick in found if x.low <= math.log10(tick) <= x.high]
