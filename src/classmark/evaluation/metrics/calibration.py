"""How sure is right: the temperature that makes probabilities match frequencies."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from classmark.errors import InvalidConfig
from classmark.evaluation.metrics.ranking import calibrated_probabilities
from classmark.evaluation.metrics.rows import Floats, Ints, known_rows

MIN_TEMPERATURE = 0.01
MAX_TEMPERATURE = 100.0
_MAX_STEPS = 60
_RELATIVE_TOLERANCE = 1e-7


def fit_temperature(scores: Floats, primary: Ints, weights: Floats | None = None) -> float:
    """Return the temperature with the smallest mean negative log-likelihood.

    That likelihood is convex in 1 / temperature. Its slope is brought to 0 by Newton steps, and
    by bisection (of the logarithm) where a step would leave the bracket or converges slowly.

    Args:
        scores: float [n, k], raw scores (logits).
        primary: int [n], column of the true label; papers with -1 are left out.
        weights: float [n], how much each paper counts, not negative; all alike if None.

    Returns:
        Between ``MIN_TEMPERATURE`` and ``MAX_TEMPERATURE``; 1 if no temperature is better
        than another (all scores equal).

    Raises:
        EmptyEvaluation: no paper has a known primary.
        InvalidConfig: the weights are negative, of another length, or all 0.

    Source: Guo et al. 2017, arXiv:1706.04599.
    """
    rows = known_rows(primary)
    mass = _normalised_weights(weights, rows, primary.size)
    logits = scores[rows].astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    truth = float(mass @ logits[np.arange(rows.size), primary[rows]])
    return 1.0 / _sharpness_of_zero_slope(logits, truth, mass)


def _sharpness_of_zero_slope(
    logits: NDArray[np.float64], truth: float, mass: NDArray[np.float64]
) -> float:
    low, high = 1.0 / MAX_TEMPERATURE, 1.0 / MIN_TEMPERATURE
    sharpness, moved = 1.0, math.inf
    for _ in range(_MAX_STEPS):  # pragma: no branch - it converges long before
        expected, variance = _moments(logits, mass, sharpness)
        slope = expected - truth
        if slope == 0.0:
            break
        low, high = (sharpness, high) if slope < 0.0 else (low, sharpness)
        newton = sharpness - slope / variance if variance > 0.0 else math.inf
        # Steps that do not at least halve crawl along a flat tail: bisect instead.
        converging = low < newton < high and abs(newton - sharpness) < moved / 2.0
        following = newton if converging else math.sqrt(low * high)
        moved = abs(following - sharpness)
        sharpness = following
        if moved <= _RELATIVE_TOLERANCE * sharpness:
            break
    return sharpness


def _moments(
    logits: NDArray[np.float64], mass: NDArray[np.float64], sharpness: float
) -> tuple[float, float]:
    """Mean over papers of the logits' expectation and variance under the model."""
    probabilities = calibrated_probabilities(logits, 1.0 / sharpness)
    expected = np.einsum("nk,nk->n", probabilities, logits)
    squares = np.einsum("nk,nk,nk->n", probabilities, logits, logits)
    return float(mass @ expected), float(mass @ (squares - expected**2))


def _normalised_weights(
    weights: Floats | None, rows: NDArray[np.intp], n: int
) -> NDArray[np.float64]:
    if weights is None:
        return np.full(rows.size, 1.0 / rows.size)
    if weights.shape != (n,):
        raise InvalidConfig(f"weights have shape {weights.shape}, expected one a paper: ({n},).")
    mass = weights[rows].astype(np.float64)
    if not (np.isfinite(mass).all() and mass.min() >= 0.0 and mass.sum() > 0.0):
        raise InvalidConfig("weights must be finite, not negative, and not all 0.")
    return np.asarray(mass / mass.sum(), dtype=np.float64)
