"""Figure 3b: what the encoder adds to the fast model, and the curve of a cascade of both."""

from __future__ import annotations

import math
from typing import Any

from marks import document, words

from classmark.pages.svg import Scale, dot, line, path, text, ticks
from report import read_report

LABEL = (
    "Left: points of top-1 beside the fast model, each try with its interval. "
    "Right: top-1 of a cascade against CPU time a paper"
)
HEIGHT, GAP, STEP = 330, 40, 26
LEFT_WIDTH, RIGHT_WIDTH = 470, 340
NAMES = 300


def draw() -> str:
    """Return the figure."""
    left = _tries(read_report("two-cores")["tries"])
    right = f'<g transform="translate({LEFT_WIDTH + GAP} 0)">{_curve(read_report("cascade"))}</g>'
    return document(LABEL, HEIGHT, [*left, right], LEFT_WIDTH + GAP + RIGHT_WIDTH)


def _tries(tries: list[dict[str, Any]]) -> list[str]:
    """Return a whisker a try that was mixed with the fast model, the newest period below it."""
    shown = [one for one in tries if "weight" in one]
    ends = [
        100 * one["beside_fast"][part][end]
        for one in shown
        for part in one["beside_fast"]
        for end in ("low", "high")
    ]
    x = Scale(min(*ends, 0), max(*ends, 0), NAMES, LEFT_WIDTH - 8)
    bottom = 40 + STEP * len(shown)
    marks = [words(0, 16, "points of top-1 that mixing adds to the fast model", "head")]
    for value in ticks(x.low, x.high):
        marks.append(line(x(value), 30, x(value), bottom, "axis" if not value else "grid"))
        marks.append(text(x(value), bottom + 16, f"{value:+g}" if value else "0"))
    for row, one in enumerate(shown):
        y = 46 + STEP * row
        marks.append(words(0, y + 4, one["name"].removesuffix("; mixed with fast"), "name"))
        for shift, css, part in zip((-4, 4), ("first", "second"), one["beside_fast"], strict=True):
            low, middle, high = (
                x(100 * one["beside_fast"][part][end]) for end in ("low", "difference", "high")
            )
            marks.append(line(low, y + shift, high, y + shift, f"{css} interval"))
            marks.append(dot(middle, y + shift, css))
    marks += [dot(6, bottom + 34, "first"), words(16, bottom + 38, "all test papers", "tick")]
    marks += [dot(126, bottom + 34, "second"), words(136, bottom + 38, "newest period", "tick")]
    return marks


def _curve(report: dict[str, Any]) -> str:
    """Return accuracy against CPU time on test, and the point that is served."""
    points = [p for p in report["points"] if p["split"] == "test"]
    chosen = report["chosen"]["test"]
    costs = [math.log10(p["cpu_ms"]) for p in points]
    tops = [100 * p["accuracy"] for p in points]
    x = Scale(min(costs), max(costs), 44, RIGHT_WIDTH - 12)
    y = Scale(min(tops) - 0.2, max(tops) + 0.2, HEIGHT - 48, 34)
    marks = [words(0, 16, "top-1 of the cascade, % of test papers", "head")]
    for value in ticks(y.low, y.high):
        marks.append(line(x.start, y(value), x.end, y(value), "grid"))
        marks.append(text(x.start - 6, y(value) + 4, f"{value:g}", "end"))
    marks.append(line(x.start, y.start, x.end, y.start, "axis"))
    for value in (0.03, 0.1, 0.3, 1, 3, 10, 30, 100):
        if x.low <= math.log10(value) <= x.high:
            marks.append(text(x(math.log10(value)), y.start + 16, f"{value:g}"))
    marks.append(text((x.start + x.end) / 2, HEIGHT - 14, "CPU time a paper, ms"))
    places = [(x(cost), y(top)) for cost, top in zip(costs, tops, strict=True)]
    marks.append(path(places, "first curve"))
    marks += [dot(*places[0], "first"), dot(*places[-1], "first")]
    marks.append(text(places[0][0] + 8, places[0][1] + 16, "fast alone", "start"))
    marks.append(text(places[-1][0], places[-1][1] + 16, "always both", "end"))
    at = (x(math.log10(chosen["cpu_ms"])), y(100 * chosen["accuracy"]))
    marks.append(dot(*at, "second", 5))
    label = f"chosen: asks {chosen['deep_share']:.0%}, {chosen['cheaper']:.1f} times cheaper"
    side, aside = ("start", 8) if at[0] < (x.start + x.end) / 2 else ("end", -8)
    beside = 32 if at == places[0] else -12  # below "fast alone", clear of the rising curve
    marks.append(text(at[0] + aside, at[1] + beside, label, side))
    return "".join(marks)
