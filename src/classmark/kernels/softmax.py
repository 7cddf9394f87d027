"""The one softmax: from scores of any size to calibrated probabilities, without overflow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def softmax(scores: NDArray[Any], temperature: float) -> tuple[Floats, Floats]:
    """Return calibrated probabilities, and the energy of each row: its log-sum-exp.

    Args:
        scores: [n, k], finite.
        temperature: above 0.

    Returns:
        Probabilities float64 [n, k], and energies float64 [n].
    """
    shifted, highest = _shifted(scores, temperature)
    probabilities = np.exp(shifted, out=shifted)
    total = probabilities.sum(axis=1, keepdims=True)
    probabilities /= total
    return probabilities, (np.log(total) + highest)[:, 0]


def log_softmax(scores: NDArray[Any], temperature: float) -> Floats:
    """Return the logarithm of softmax(scores / temperature): float64 [n, k]."""
    shifted, _ = _shifted(scores, temperature)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def _shifted(scores: NDArray[Any], temperature: float) -> tuple[Floats, Floats]:
    """Return scaled scores minus the highest of each row, so that no exponent is above 0."""
    scaled = scores.astype(np.float64) / temperature
    highest = scaled.max(axis=1, keepdims=True, initial=-np.inf)
    scaled -= highest
    return scaled, highest
