"""From logits to probabilities: the calibration curve of a bundle, and the one softmax.

A fit with few papers a category is too sure of its first label against the second, and gives too
much to the far ones: no single temperature mends both. The curve maps each label's gap to the top
logit by a rising piecewise linear function, times a factor that depends on the top probability. The
order of a paper's labels stays as it is.

Source: parameterised temperature scaling (Tomani et al. 2022, arXiv:2102.12182), with the top
probability as the one input, and a gap function in place of a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAP_KNOTS = (0.0, 0.5, 1.0, 2.0, 4.0, 7.0, 12.0, 40.0)
TOP_KNOTS = (0.0, 0.3, 0.5, 0.7, 0.85, 1.0)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CalibrationCurve:
    """What to do with the gaps between a paper's top logit and its others.

    Attributes:
        gaps: the new gap at each of ``GAP_KNOTS``, rising from 0.
        factors: what the new gaps are multiplied by where the top probability is at each of
            ``TOP_KNOTS``.
    """

    gaps: tuple[float, ...] = GAP_KNOTS
    factors: tuple[float, ...] = (1.0,) * len(TOP_KNOTS)

    def apply(self, logits: NDArray[np.float32], dtype: type = np.float32) -> NDArray[Any]:
        """Return the scores of n papers: [n, k], 0 for the top label, others below it.

        Args:
            logits: float32 [n, k].
            dtype: of the scores and of the sums inside; float64 is smooth enough to fit the curve
                by differences.
        """
        gap = logits.max(axis=1, keepdims=True) - logits
        mapped = np.interp(gap, GAP_KNOTS, self.gaps)
        top = 1.0 / np.exp(-mapped.astype(dtype)).sum(axis=1)
        mapped *= -np.interp(top, TOP_KNOTS, self.factors)[:, None]
        scores: NDArray[Any] = mapped.astype(dtype)
        return scores


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
