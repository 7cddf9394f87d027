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
        numbers = mapped.astype(dtype)
        np.exp(np.negative(numbers, out=numbers), out=numbers)
        top = 1.0 / numbers.sum(axis=1)
        mapped *= -np.interp(top, TOP_KNOTS, self.factors)[:, None]
        scores: NDArray[Any] = mapped.astype(dtype)
        return scores


_BLOCK_PAPERS = 512
"""Their arrays stay in the processor's cache while a curve is applied to them."""


class CurveLoss:
    """The log-loss of any curve on the same papers: bit for bit that of ``apply`` and ``softmax``.

    A fit asks for hundreds of curves. Which two knots a gap is between does not depend on the
    curve, so it is found once. A curve with the gaps of the one before it reuses what they gave.

    Args:
        logits: float32 [n, k].
        labels: int [n], column of the true label.
    """

    def __init__(self, logits: NDArray[np.float32], labels: NDArray[np.integer[Any]]) -> None:
        self._blocks = [
            _Block(logits[first : first + _BLOCK_PAPERS], labels[first : first + _BLOCK_PAPERS])
            for first in range(0, len(labels), _BLOCK_PAPERS)
        ]

    def of(self, curve: CalibrationCurve) -> float:
        """Return the mean of -log p(true label), in nats."""
        return float(np.mean(np.concatenate([block.losses(curve) for block in self._blocks])))


class _Block:
    """Some papers, what the gaps of the last curve made of them, and room for the numbers."""

    def __init__(self, logits: NDArray[np.float32], labels: NDArray[np.integer[Any]]) -> None:
        knots = np.array(GAP_KNOTS)
        gap = logits.max(axis=1, keepdims=True) - logits
        self._place = np.searchsorted(knots, gap, side="right") - 1
        self._offset = np.where(self._place < len(knots) - 1, gap - knots[self._place], 0.0)
        self._own = (np.arange(len(labels)), labels)
        self._gaps: tuple[float, ...] = ()
        self._mapped, self._numbers = np.empty(gap.shape), np.empty(gap.shape)
        self._top = np.empty(len(labels))

    def losses(self, curve: CalibrationCurve) -> Floats:
        """Return -log p(true label): float64 [n]."""
        if curve.gaps != self._gaps:
            self._map(curve.gaps)
        factors = -np.interp(self._top, TOP_KNOTS, curve.factors)
        np.exp(np.multiply(self._mapped, factors[:, None], out=self._numbers), out=self._numbers)
        own = self._numbers[self._own] / self._numbers.sum(axis=1)
        losses: Floats = -np.log(np.maximum(own, np.finfo(np.float64).tiny))
        return losses

    def _map(self, gaps: tuple[float, ...]) -> None:
        """Keep the new gaps as ``np.interp`` gives them, and the top probability of each paper."""
        values = np.array(gaps)
        slopes = np.append(np.diff(values) / np.diff(GAP_KNOTS), 0.0)
        np.take(slopes, self._place, out=self._mapped, mode="clip")
        self._mapped *= self._offset
        self._mapped += np.take(values, self._place, out=self._numbers, mode="clip")
        np.exp(np.negative(self._mapped, out=self._numbers), out=self._numbers)
        self._top = 1.0 / self._numbers.sum(axis=1)
        self._gaps = gaps


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
    scaled: Floats = np.divide(scores, temperature, dtype=np.float64)
    highest = scaled.max(axis=1, keepdims=True, initial=-np.inf)
    scaled -= highest
    return scaled, highest
