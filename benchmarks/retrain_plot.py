"""Draws the replay of retraining: accuracy by quarter, and what is recovered against the cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from peer_plot import BROWN, GREY, LIGHT
from report import start_plot, write_plot

_QUARTER = 3
_BLUE = "#2f6f8f"
_SHOWN = {"xlim": (0, 45), "ylim": (60, 101)}
"""Never and monthly are the corners of the scale by definition, and are left out."""
_LINES = {
    "never": (GREY, "-", "never"),
    "yearly": (_BLUE, "-", "yearly"),
    "default": (BROWN, "-", "default policy"),
    "monthly": ("#202020", ":", "monthly"),
}
_KINDS = {
    "schedule": ("#202020", "o", "schedule"),
    "alarm": (_BLUE, "^", "alarms alone"),
    "estimate": ("#5f8f3f", "v", "estimated accuracy alone"),
    "decide": (LIGHT, "s", "classmark.retrain, other values"),
}
_AIM, _MOST_COST = 80, 25


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw both panels."""
    plt = start_plot()
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10.5, 3.9), layout="constrained", width_ratios=(3, 2)
    )
    _draw_accuracy(left, result)
    _draw_recovery(right, result)
    write_plot(figure, path)


def _draw_accuracy(axes: Any, result: dict[str, Any]) -> None:
    months, policies = result["months"], result["policies"]
    whole = len(months) // _QUARTER * _QUARTER
    middles = np.arange(whole // _QUARTER) * _QUARTER + 1
    for name, (colour, style, label) in _LINES.items():
        values = np.array(policies[name]["by_month"][:whole]).reshape(-1, _QUARTER).mean(axis=1)
        axes.plot(middles, 100 * values, style, color=colour, label=label)
    place = {month: i for i, month in enumerate(months)}
    at = [place[month] + 0.5 for month in policies["default"]["at"]]
    bottom = axes.get_ylim()[0]
    axes.plot(at, [bottom] * len(at), "|", color=BROWN, markersize=9, clip_on=False,
              label="a new model by default")  # fmt: skip
    axes.set_ylim(bottom=bottom)
    years = [i for i, month in enumerate(months) if month.endswith("-01")]
    axes.set_xticks(years, [months[i][:4] for i in years])
    axes.set(ylabel="top-1, % of the papers, by quarter")
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 0.03))


def _draw_recovery(axes: Any, result: dict[str, Any]) -> None:
    axes.axhline(_AIM, color="#d0d0d0", linewidth=0.8)
    axes.axvline(_MOST_COST, color="#d0d0d0", linewidth=0.8)
    for kind, (colour, marker, label) in _KINDS.items():
        found = [
            p for name, p in result["policies"].items() if p["kind"] == kind and name != "default"
        ]
        found = [p for p in found if p["recovered"]]
        axes.plot([100 * p["cost_share"] for p in found],
                  [100 * p["recovered"]["value"] for p in found], marker, color=colour,
                  markersize=5, linestyle="", label=label)  # fmt: skip
    own = result["policies"]["default"]
    if own["recovered"]:
        place = 100 * own["cost_share"], 100 * own["recovered"]["value"]
        axes.plot(*place, "*", color=BROWN, markersize=13, label="default policy")
    axes.set(xlabel="CPU-hours of fits, % of monthly", ylabel="recovered, % of what monthly gains",
             **_SHOWN)  # fmt: skip
    axes.legend(frameon=False, fontsize=8, loc="lower right")
