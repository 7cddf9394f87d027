"""Plots of statistics as SVG that stands in a page and takes its colours from it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from classmark.dataset.statistics.statistics import (
    HISTOGRAM_END_WORDS,
    HISTOGRAM_STEP_WORDS,
    Comparison,
)
from classmark.dataset.statistics.statistics import DatasetStatistics as Statistics
from classmark.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN_CATEGORIES = 25
_SHOWN_SHIFTS = 16
# Colours that nobody uses stand for the page's own, light or dark.
_INK, _FAINT, _AFTER, _BEFORE, _LESS = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {_INK: "ink", _FAINT: "faint", _AFTER: "after", _BEFORE: "before", _LESS: "less"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}

Plot = tuple[str, str]
"""What it shows, and the SVG."""


def plots(after: Statistics, comparison: Comparison | None = None) -> list[Plot]:
    """Return the plots of one dataset, or of two in one picture each.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    before = comparison.before if comparison else None
    drawn = [
        _drawn("Papers by category", _height(after), lambda axes: _categories(axes, after, before)),
        _drawn("Papers by year", 3.0, lambda axes: _years(axes, after, before)),
        _drawn("Words in an abstract", 3.0, lambda axes: _words(axes, after, before)),
    ]
    if len({*after.listed, *(before.listed if before else ())}) > 1:
        title = "Categories a paper is listed in"
        drawn.append(_drawn(title, 3.0, lambda axes: _listed(axes, after, before)))
    if comparison:
        shifts = min(_SHOWN_SHIFTS, len(comparison.shifts))
        title = "Change of a category's share, percentage points"
        drawn.insert(0, _drawn(title, 1 + 0.26 * shifts, lambda axes: _shifts(axes, comparison)))
    return drawn


def _height(statistics: Statistics) -> float:
    return 1 + 0.24 * min(_SHOWN_CATEGORIES, len(statistics.categories))


def _drawn(title: str, height: float, draw: Callable[[Any], None]) -> Plot:
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("drawing statistics", "train") from error
    with mpl.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(7.2, height), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        memory = io.StringIO()
        figure.savefig(memory, format="svg", metadata={"Date": None, "Creator": None})
    return title, _inlined(memory.getvalue(), title)


def _inlined(svg: str, title: str) -> str:
    """Return the element alone, without ids that two plots share, in the colours of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)
    svg = re.sub(r"font: [^;\"]*sans-serif", lambda m: _font(m[0]), svg)
    svg = re.sub(
        r'(<svg [^>]*?)width="[^"]*"', r"\1", re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", svg)
    )
    for colour, name in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def _font(style: str) -> str:
    size = re.search(r"[\d.]+px", style)
    return f"font: {size[0] if size else '10px'} sans-serif"


def _share(counts: Sequence[int], whole: int) -> list[float]:
    return [100 * count / max(1, whole) for count in counts]


def _pair(
    axes: Axes, keys: Sequence[Any], after: Statistics, before: Statistics | None, table: str
) -> None:
    """Draw columns of shares by key, both datasets side by side."""
    width = 0.4 if before else 0.8
    for who, colour, offset in ((before, _BEFORE, -0.2), (after, _AFTER, 0.2 if before else 0.0)):
        if who is None:
            continue
        counts = getattr(who, table)
        shares = _share([counts.get(key, 0) for key in keys], who.kept)
        places = [place + offset for place in range(len(keys))]
        axes.bar(places, shares, width=width, color=colour, label=who.name)
    axes.set_ylabel("% of papers")
    axes.grid(axis="x", visible=False)
    _legend(axes, before)


def _legend(axes: Axes, before: Statistics | None) -> None:
    if before:
        axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderpad=0)


def _categories(axes: Axes, after: Statistics, before: Statistics | None) -> None:
    codes = list(after.categories)[:_SHOWN_CATEGORIES][::-1]
    height = 0.4 if before else 0.75
    for who, colour, offset in ((before, _BEFORE, -0.2), (after, _AFTER, 0.2 if before else 0.0)):
        if who is None:
            continue
        shares = _share([who.categories.get(code, 0) for code in codes], who.kept)
        places = [place - offset for place in range(len(codes))]
        axes.barh(places, shares, height=height, color=colour, label=who.name)
    axes.set_yticks(range(len(codes)), codes)
    axes.set_ylim(-0.6, len(codes) - 0.4)
    axes.set_xlabel("% of papers")
    axes.grid(axis="y", visible=False)
    _legend(axes, before)


def _years(axes: Axes, after: Statistics, before: Statistics | None) -> None:
    years = _without_gaps({*after.years, *(before.years if before else ())})
    _pair(axes, years, after, before, "years")
    step = 1 + len(years) // 14
    axes.set_xticks(range(0, len(years), step), years[::step])


def _without_gaps(years: set[str]) -> list[str]:
    """Return every year from the first to the last, then what is no year."""
    numbers = [int(year) for year in years if year.isdigit()]
    span = range(min(numbers), max(numbers) + 1) if numbers else ()
    return [str(year) for year in span] + sorted(year for year in years if not year.isdigit())


def _words(axes: Axes, after: Statistics, before: Statistics | None) -> None:
    lowers = range(0, HISTOGRAM_END_WORDS + 1, HISTOGRAM_STEP_WORDS)
    _pair(axes, lowers, after, before, "abstract_histogram")
    texts = [f"{lower}+" if lower == HISTOGRAM_END_WORDS else str(lower) for lower in lowers]
    axes.set_xticks(range(0, len(texts), 2), texts[::2])
    axes.set_xlabel(f"words, in steps of {HISTOGRAM_STEP_WORDS}")


def _listed(axes: Axes, after: Statistics, before: Statistics | None) -> None:
    numbers = sorted({*after.listed, *(before.listed if before else ())})
    _pair(axes, numbers, after, before, "listed")
    axes.set_xticks(range(len(numbers)), [str(number) for number in numbers])
    axes.set_xlabel("categories")


def _shifts(axes: Axes, comparison: Comparison) -> None:
    shifts = comparison.shifts[:_SHOWN_SHIFTS][::-1]
    changes = [100 * shift.change for shift in shifts]
    bars = axes.barh(
        range(len(shifts)), changes, height=0.7, color=[_AFTER if c > 0 else _LESS for c in changes]
    )
    axes.bar_label(bars, fmt="%+.2f", padding=4)
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.margins(x=0.18)
    axes.set_yticks(range(len(shifts)), [shift.code for shift in shifts])
    axes.grid(axis="y", visible=False)
