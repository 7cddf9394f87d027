"""What a few labels add, and how soon they show a fall: the second part of label_free.py."""

from __future__ import annotations

import importlib.metadata
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.evaluation.metrics.intervals import share_interval
from classmark.monitor.accuracy import AccuracyEstimator
from classmark.monitor.few_labels import join_labels, loss_evidence, tolerated_accuracy
from label_free_rivals import Features

LABELS = (50, 100, 200)
LEVEL, ALPHA, TOLERANCE = 0.95, 0.05, 0.02
SEED = 11
Windows = list[tuple[str, NDArray[np.intp]]]


def measure_joining(
    estimator: AccuracyEstimator, papers: Features, windows: Windows, draws: int
) -> list[dict[str, Any]]:
    """Return width and coverage of the joined interval, and of the labels alone, by labels."""
    rng = np.random.default_rng(SEED)
    cells = []
    for m in LABELS:
        found = []
        for _, rows in windows:
            if len(rows) < 2 * m:
                continue
            window = papers.rows(rows)
            chances = estimator.chances(window)
            for _ in range(draws):
                chosen = rng.permutation(len(rows))[:m]
                found.append(_compare(estimator, window, chances, chosen))
        if not found:
            continue
        cell: dict[str, Any] = {"labels": m, "draws": len(found)}
        for name in found[0]:
            widths, covered = np.array([one[name] for one in found]).T
            cell[name] = {
                "half_width": round(float(widths.mean()) / 2, 4),
                "coverage": round(float(covered.mean()), 4),
            }
        cells.append(cell)
    return cells


def _compare(
    estimator: AccuracyEstimator, window: Features, chances: NDArray[Any], chosen: NDArray[np.intp]
) -> dict[str, tuple[float, bool]]:
    truth, correct = float(window.correct.mean()), window.correct[chosen]
    alone = share_interval(int(correct.sum()), len(correct), LEVEL)
    joined = join_labels(chances, chosen, correct, reference=estimator.accuracy, level=LEVEL)
    ends = {
        "labels alone": (alone.low or 0.0, alone.high or 1.0),
        "joined": (joined.low, joined.high),
    }
    if find_spec("glide"):
        ends["glide"] = _by_glide(chances, chosen, correct)
    return {name: (high - low, low <= truth <= high) for name, (low, high) in ends.items()}


def _by_glide(
    chances: NDArray[Any], chosen: NDArray[np.intp], correct: NDArray[np.bool_]
) -> tuple[float, float]:
    from glide.estimators import PPIMeanEstimator

    labels = np.full(len(chances), np.nan)
    labels[chosen] = correct
    found = PPIMeanEstimator().estimate(labels, chances, confidence_level=LEVEL)
    return found.confidence_interval.lower_bound, found.confidence_interval.upper_bound


def glide_version() -> str | None:
    """Return the version of glide, None where it is not installed."""
    return importlib.metadata.version("glide-py") if find_spec("glide") else None


def measure_alarms(
    reference: Features, papers: Features, windows: Windows, *, streams: int, labels: int
) -> dict[str, Any]:
    """Return how often labels of the reference raise the alarm, and how soon those of windows do.

    The streams of the reference are drawn from it with replacement, so nothing has changed.
    """
    rng = np.random.default_rng(SEED)
    right = int(reference.correct.sum())
    bound = tolerated_accuracy(right, len(reference), TOLERANCE, ALPHA)
    wanted = float(np.log(2.0 / ALPHA))
    exactly = [rng.random(labels) < bound for _ in range(streams)]
    unchanged = [rng.choice(reference.correct, labels) for _ in range(streams)]
    return {
        "tolerance": TOLERANCE,
        "alpha": ALPHA,
        "bound": round(bound, 4),
        "streams": streams,
        "labels": labels,
        "false_alarms_unchanged": _alarms(unchanged, bound, wanted),
        "false_alarms_at_the_bound": _alarms(exactly, bound, wanted),
        "periods": [
            {"period": name, "accuracy": round(float(papers.correct[rows].mean()), 4),
             **_delays([rng.choice(papers.correct[rows], labels) for _ in range(streams)],
                       bound, wanted)}
            for name, rows in windows
        ],
    }  # fmt: skip


def _alarms(streams: list[NDArray[np.bool_]], bound: float, wanted: float) -> float:
    return float(np.mean([loss_evidence(one, bound).max() >= wanted for one in streams]))


def _delays(streams: list[NDArray[np.bool_]], bound: float, wanted: float) -> dict[str, Any]:
    firsts = []
    for one in streams:
        above = loss_evidence(one, bound) >= wanted
        firsts.append(int(above.argmax()) + 1 if above.any() else None)
    found = [first for first in firsts if first is not None]
    median = int(np.median(found)) if 2 * len(found) > len(firsts) else None
    return {"alarms": round(len(found) / len(firsts), 4), "median_labels": median}
