"""Draws the peers: accuracy against what a fit and a paper cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from report import start_plot, write_plot

BROWN, LIGHT, GREY = "#7a4a21", "#c08a55", "#808080"

LABELS = {
    "classmark": "classmark fast",
    "classmark-shipped": "as shipped (all papers)",
    "tfidf-logistic": "TF-IDF + logistic regr.",
    "tfidf-svc": "TF-IDF + LinearSVC",
    "classmark-authors": "classmark fast, with authors",
    "classmark-shipped-authors": "as shipped, with authors",
    "fasttext": "fastText",
    "wordllama": "static embeddings",
    "minilm": "frozen MiniLM",
}


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw the peers of the first comparison: top-1 against the cost of a fit and of a paper."""
    found = result["comparisons"]["all"]["peers"]
    peers = {name: peer for name, peer in found.items() if "fit" in peer}
    plt = start_plot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4), sharey=True, layout="constrained")
    fitted = {n: p for n, p in peers.items() if p["fit"]["cpu_s"] > 0}
    _draw(left, fitted, lambda peer: peer["fit"]["cpu_s"])
    _draw(right, peers, lambda peer: peer["serve"]["papers_per_cpu_s"])
    left.set(xlabel="CPU-seconds of the fit (left is better)", ylabel="top-1, % of test papers")
    right.set(xlabel="papers classified per CPU-second (right is better)")
    figure.suptitle(
        f"Fitted on {result['comparisons']['all']['papers']['train']:,} papers; hollow: the names "
        "of authors are read too",
        size=10,
    )
    write_plot(figure, path)


def _draw(axes: Any, peers: dict[str, Any], cost: Any) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_xscale("log")
    middle = _middle([cost(peer) for peer in peers.values()])
    tops = {n: 100 * p["metrics"]["top_1"]["value"] for n, p in peers.items() if n in LABELS}
    heights = _spread(tops)
    for name, peer in peers.items():
        x, top = cost(peer), peer["metrics"]["top_1"]
        y, low, high = (100 * top[key] for key in ("value", "low", "high"))
        colour = BROWN if name.startswith("classmark") else GREY  # ours are labelled above
        inside = "white" if name.endswith("-authors") else colour
        axes.errorbar(
            x, y, [[y - low], [high - y]], fmt="o", color=colour, mfc=inside, markersize=5
        )
        if name not in LABELS:
            continue
        side, beside = ("right", x / 1.15) if x > middle else ("left", x * 1.15)
        at = (x, high, "bottom") if colour == BROWN else (beside, heights[name], "center")
        axes.text(*at[:2], LABELS[name], ha=side, va=at[2], size=8, color=colour)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="#e8e8e8", linewidth=0.6)
    axes.margins(x=0.15, y=0.12)


def _spread(tops: dict[str, float]) -> dict[str, float]:
    """Return where labels go: at their points, but no two closer than a line of text."""
    gap = max(1.0, (max(tops.values()) - min(tops.values())) / 16) if tops else 1.0
    heights: dict[str, float] = {}
    above = float("inf")
    for name in sorted(tops, key=lambda name: -tops[name]):
        heights[name] = above = min(tops[name], above - gap)
    return heights


def _middle(costs: list[float]) -> float:
    """Return the geometric middle of the range: labels right of it go to the left."""
    return float((min(costs) * max(costs)) ** 0.5) if costs else 1.0
