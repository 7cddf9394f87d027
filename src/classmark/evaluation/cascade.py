"""What a cascade gains and costs at every threshold, and the point to serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classmark.errors import EmptyEvaluation
from classmark.records import CascadePoint, Speeds

N_POINTS = 41
MIX_WEIGHTS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
LEAST_MIX_GAIN = 0.0005
"""Accuracy that a mix must add on valid to be worth its one more number."""

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Answers:
    """What both models say of the same n papers.

    Attributes:
        confidence: float64 [n], highest probability of the fast model.
        fast_right, deep_right: bool [n], whose first label is the true one; deep with its mix.
        best: accuracy of always asking: of the deep model alone or mixed, whichever is higher.
    """

    confidence: Floats
    fast_right: NDArray[np.bool_]
    deep_right: NDArray[np.bool_]
    best: float


def compare_answers(
    fast: Floats, deep: Floats, primary: Ints, mixed: Floats | None = None
) -> Answers:
    """Return who is right on which paper; papers without a known label are left out.

    Args:
        fast: log-probabilities [n, k].
        deep: the same.
        primary: int [n], the true columns, -1 for unknown.
        mixed: log-probabilities [n, k] where the deep model is asked; None is the deep ones.

    Raises:
        EmptyEvaluation: no paper has a known label.
    """
    known = np.flatnonzero(primary >= 0)
    if not len(known):
        raise EmptyEvaluation(
            "no paper of the split has a label of the models. Use the dataset they were fitted on."
        )
    truth = primary[known]
    asked = deep if mixed is None else mixed
    fast_right, deep_right, asked_right = (
        scores[known].argmax(axis=1) == truth for scores in (fast, deep, asked)
    )
    best = max(float(deep_right.mean()), float(asked_right.mean()))
    return Answers(np.exp(fast[known].max(axis=1)), fast_right, asked_right, best)


def cascade_point(answers: Answers, threshold: float, speeds: Speeds) -> CascadePoint:
    """Return accuracy and cost of one threshold."""
    asked = answers.confidence < threshold
    accuracy = float(np.where(asked, answers.deep_right, answers.fast_right).mean())
    share = float(asked.mean())
    cost_s = 1 / speeds.fast + share / speeds.deep
    return CascadePoint(
        threshold=threshold,
        deep_share=round(share, 4),
        accuracy=round(accuracy, 5),
        cpu_ms=round(cost_s * 1000, 4),
        cheaper=round(1 / speeds.deep / cost_s, 2),
        loss=round(answers.best - accuracy, 5),
    )


def cascade_curve(
    answers: Answers, speeds: Speeds, thresholds: Sequence[float]
) -> list[CascadePoint]:
    """Return a point for each threshold, the cheapest first."""
    return [cascade_point(answers, threshold, speeds) for threshold in sorted(thresholds)]


def choose_thresholds(confidence: Floats, n: int = N_POINTS) -> list[float]:
    """Return thresholds that ask the deep model about evenly spaced shares of papers, 0 to all."""
    inner = np.quantile(confidence, np.linspace(0, 1, n)[1:-1])
    return sorted({0.0, *(round(float(t), 4) for t in inner), 1.0})


def choose_point(curve: Sequence[CascadePoint], max_loss: float) -> CascadePoint:
    """Return the cheapest point that loses no more than stated; asking always loses nothing."""
    within = [point for point in curve if point.loss <= max_loss]
    return min(within or [curve[-1]], key=lambda point: point.cpu_ms)
