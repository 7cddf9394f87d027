"""Draws how the fast tier ages: accuracy by year of test under each schedule, and loss by age."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peer_plot import BROWN, GREY, LIGHT
from report import start_plot, write_plot

_LINES = {"never": (GREY, "-"), "every 3 years": (LIGHT, "-"), "every year": (BROWN, "-")}


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw the series of equal size, in two panels; nothing without it."""
    plt = start_plot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
    _draw_schedules(left, result)
    _draw_loss(right, result)
    n = result["settings"]["recent_papers"]
    figure.suptitle(f"Fits on the newest {n:,} papers at the end of a year", size=10)
    write_plot(figure, path)


def _draw_schedules(axes: Any, result: dict[str, Any]) -> None:
    names = list(result["tests"])
    place = {name: i for i, name in enumerate(names)}
    for schedule, cells in result["in_use"].get("recent", {}).items():
        colour, style = _LINES.get(schedule, ("#202020", ":"))
        xs = [place[cell["test"]] for cell in cells]
        axes.plot(xs, [100 * c["top_1"]["value"] for c in cells], style, color=colour, marker="o",
                  markersize=3, label=_LABELS[schedule])  # fmt: skip
        low, high = ([100 * c["top_1"][end] for c in cells] for end in ("low", "high"))
        if schedule in ("never", "every year"):
            axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set(ylabel="top-1, % of the year's papers", xlabel="papers of")
    axes.legend(frameon=False, fontsize=8)


_LABELS = {
    "same year": "fitted on the same year too",
    "every year": "fitted again every year",
    "every 3 years": "fitted again every 3 years",
    "never": "fitted once, end of 2009",
}


def _draw_loss(axes: Any, result: dict[str, Any]) -> None:
    points = result["lost_by_age"].get("recent", [])
    ages = [p["age"] for p in points]
    values, low, high = ([100 * p["lost"][k] for p in points] for k in ("value", "low", "high"))
    axes.plot(ages, values, color=BROWN, marker="o", markersize=3)
    axes.fill_between(ages, low, high, color=BROWN, alpha=0.15, linewidth=0)
    axes.axhline(0, color="#c0c0c0", linewidth=0.8)
    axes.set(xlabel="years between fit and papers of 2010-2019", ylabel="points of top-1 lost")
