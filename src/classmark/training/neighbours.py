"""Fits how far the neighbours of a paper are trusted: the weights of ``neighbours/evidence.py``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classmark.kernels.calibration import log_softmax

Floats = NDArray[np.float64]
_ROUNDS = 25
_DECAY = 1e-4
"""Pulls towards the model alone where papers do not say, as with two sides that are the same."""
_CLOSE = 1e-7
_START = (1.0, 0.0, 0.0, 0.0)
_DIGITS = 4


def fit_sides(
    parts: Floats, labels: NDArray[np.integer], weights: NDArray[np.floating]
) -> tuple[float, ...]:
    """Return a weight of each side for the least log-loss: a conditional logit, by Newton's steps.

    Args:
        parts: float64 [n, 4, k], what is joined; the first is what the model says.
        labels: int [n].
        weights: float [n], of each paper in the loss.
    """
    share = weights / weights.sum()
    own = parts[np.arange(len(labels)), :, labels]
    sides, start = np.array(_START), np.array(_START)

    def loss(sides: Floats) -> tuple[float, Floats]:
        log_p = log_softmax(np.einsum("j,njk->nk", sides, parts), 1.0)
        lost = -share @ log_p[np.arange(len(labels)), labels]
        return float(lost + _DECAY / 2 * np.sum((sides - start) ** 2)), np.exp(log_p)

    lost, p = loss(sides)
    for _ in range(_ROUNDS):
        mean = np.einsum("nk,njk->nj", p, parts)
        spread = np.einsum("n,nk,nik,njk->ij", share, p, parts, parts, optimize=True)
        spread += _DECAY * np.eye(len(sides)) - np.einsum("n,ni,nj->ij", share, mean, mean)
        step = np.linalg.solve(spread, share @ (own - mean) - _DECAY * (sides - start))
        tried, p = loss(sides + step)
        while tried > lost and np.abs(step).max() > _CLOSE:
            step /= 2
            tried, p = loss(sides + step)
        if tried > lost or np.abs(step).max() <= _CLOSE:
            break
        sides, lost = sides + step, tried
    return tuple(round(float(side), _DIGITS) for side in sides)
