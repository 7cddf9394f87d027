"""Draws a storm: requests, latency and memory over time, with what happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from report import start_plot, write_plot


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw requests, latency and memory over time, with the events."""
    figure, panels = start_plot().subplots(3, 1, figsize=(9, 6), layout="constrained", sharex=True)
    curves = (
        ("requests/s", [[at, rate] for at, rate, _ in result["series"]]),
        ("p99, ms", [[at, ms] for at, _, ms in result["series"]]),
        ("memory, MB", result["memory_mb"]),
    )
    colours = {"swap": "#c8a27c", "kill": "#b03030", "no room": "#808080", "corrupt": "#606060"}
    for axes, (label, points) in zip(panels, curves, strict=True):
        named: set[str] = set()
        for event in result["events"]:
            shown = None if event["name"] in named else event["name"]
            named.add(event["name"])
            colour = colours.get(event["name"], "#4060a0")
            axes.axvline(event["began"] / 60, color=colour, linewidth=0.8, label=shown, zorder=0)
        axes.plot([at / 60 for at, _ in points], [y for _, y in points], color="#7a4a21", lw=1)
        axes.set(ylabel=label, ylim=(0, None))
    panels[-1].set(xlabel="minutes")
    panels[0].legend(frameon=False, fontsize=7, ncols=6, loc="lower center")
    write_plot(figure, path)
