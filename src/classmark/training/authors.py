"""Fits what a bundle makes of authors: the profile, and the weights of the join.

The profile is a linear softmax over the votes of ``kernels/authors.py``; the join weighs it against
the text by the small network of ``kernels/joining.py``. Both are fitted by Adam (Kingma and Ba
2015, arXiv:1412.6980), whose step falls linearly to 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from classmark.kernels.calibration import softmax
from classmark.kernels.joining import N_CONTEXT, N_HIDDEN, N_SIDES, JoinWeights, Sides
from classmark.kernels.votes import N_FEATURES

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = NDArray[np.float64]
_FEATURE_STEPS = 256
"""A feature of 256 is 1: log(1 + 4 votes) = 1, or nearly all votes."""
_OWN_LABEL = 0.5
"""Where the profile starts: each feature speaks for its own label."""
_FIRST_MOMENT, _SECOND_MOMENT, _TINY = 0.9, 0.999, 1e-8
_DIGITS = 4
_LEAST_SPREAD = 1e-3


@dataclass(frozen=True, kw_only=True)
class Steps:
    """How a fit by Adam proceeds: passes, papers a step, first step and weight decay."""

    epochs: int
    batch_size: int
    rate: float
    decay: float


PROFILE_STEPS = Steps(epochs=3, batch_size=2048, rate=0.02, decay=1e-5)
JOIN_STEPS = Steps(epochs=60, batch_size=512, rate=0.01, decay=3e-4)


def fit_profile(
    features: csr_array,
    labels: NDArray[np.integer],
    prior: NDArray[np.float32],
    *,
    seed: int,
    each_epoch: Callable[[int, float], None] | None = None,
    steps: Steps = PROFILE_STEPS,
) -> tuple[NDArray[np.int16], float]:
    """Return the profile in whole numbers, int16 [6 k, k], and what one of its steps is worth.

    Args:
        features: [n, 6 k], those of ``Votes.features``, papers without known authors left out.
        labels: int [n].
        prior: float32 [k], added to the sums.
        seed: of the order of the papers.
        each_epoch: is given the number of the pass, from 1, and its mean loss in nats.
        steps: of the fit.
    """
    k = len(prior)
    weights = np.zeros((N_FEATURES * k, k))
    weights[np.arange(N_FEATURES * k), np.tile(np.arange(k), N_FEATURES)] = _OWN_LABEL
    adam = _Adam([weights], steps, len(labels), seed)
    losses: list[float] = []
    for rows in adam.batches():
        batch = features[rows].astype(np.float64) / _FEATURE_STEPS
        p, _ = softmax(batch @ weights + prior, 1.0)
        own = np.arange(len(rows)), labels[rows]
        losses.append(float(-np.log(np.maximum(p[own], _TINY)).mean()))
        p[own] -= 1
        adam.step([batch.T @ p / len(rows)])
        if adam.ends_epoch and each_epoch:
            each_epoch(adam.epoch, float(np.mean(losses)))
            losses.clear()
    most = float(np.abs(weights).max())
    scale = max(most, _TINY) / np.iinfo(np.int16).max
    return np.rint(weights / scale).astype(np.int16), scale / _FEATURE_STEPS


def fit_join(
    sides: Sides,
    prior: NDArray[np.float32],
    labels: NDArray[np.integer],
    weights: NDArray[np.floating],
    *,
    seed: int,
    steps: Steps = JOIN_STEPS,
) -> JoinWeights:
    """Return the network that weighs text, authors and prior for the least log-loss.

    Args:
        sides: of n papers that no table holds.
        prior: float32 [k].
        labels: int [n].
        weights: float [n], of each paper in the loss.
        seed: of the first weights and the order of the papers.
        steps: of the fit.
    """
    random = np.random.default_rng(seed)
    mean, spread = sides.context.mean(axis=0), sides.context.std(axis=0)
    spread = np.maximum(spread, _LEAST_SPREAD)
    seen = _with_one((sides.context - mean) / spread)
    hidden = random.normal(0, 0.3, (N_CONTEXT + 1, N_HIDDEN))
    hidden[-1] = 0
    out = np.zeros((N_HIDDEN + 1, N_SIDES))
    out[-1] = 0.7, 0.5, 0.0
    parts = np.stack([sides.text, sides.authors, np.broadcast_to(prior, sides.text.shape)], 1)
    adam = _Adam([hidden, out], steps, len(labels), seed)
    for rows in adam.batches():
        inner = _with_one(np.tanh(seen[rows] @ hidden))
        p, _ = softmax(np.einsum("nj,njk->nk", inner @ out, parts[rows]), 1.0)
        p[np.arange(len(rows)), labels[rows]] -= 1
        p *= (weights[rows] / weights[rows].sum())[:, None]
        of_sides = np.einsum("nk,njk->nj", p, parts[rows])
        of_inner = (of_sides @ out.T)[:, :-1] * (1 - inner[:, :-1] ** 2)
        adam.step([seen[rows].T @ of_inner, inner.T @ of_sides])
    arrays = (np.stack([mean, spread]), hidden, out)
    return JoinWeights(*(np.round(array, _DIGITS).astype(np.float32) for array in arrays))


class _Adam:
    """Draws batches and takes steps; changes its arrays in place."""

    def __init__(self, arrays: Sequence[Floats], steps: Steps, n: int, seed: int) -> None:
        self._arrays, self._steps, self._n = arrays, steps, n
        self._random = np.random.default_rng(seed)
        self._size = min(steps.batch_size, n)
        self._last = steps.epochs * (n // self._size) if n else 0
        self._moments = [(np.zeros_like(a), np.zeros_like(a)) for a in arrays]
        self._taken = 0

    @property
    def epoch(self) -> int:
        """Return the number of the pass that the last step was of, from 1."""
        return -(-self._taken // (self._n // self._size))

    @property
    def ends_epoch(self) -> bool:
        """Tell whether the last step was the last one of its pass."""
        return self._taken % (self._n // self._size) == 0

    def batches(self) -> Iterator[NDArray[np.int64]]:
        """Yield rows of papers, pass after pass; a rest smaller than a batch is left out."""
        for _ in range(self._steps.epochs if self._n else 0):
            order = self._random.permutation(self._n)
            for first in range(0, self._n - self._size + 1, self._size):
                yield order[first : first + self._size]

    def step(self, gradients: Sequence[Floats]) -> None:
        """Take one step against the gradients and the weight decay."""
        self._taken += 1
        rate = self._steps.rate * (1 - (self._taken - 1) / self._last)
        first_bias = 1 - _FIRST_MOMENT**self._taken
        second_bias = 1 - _SECOND_MOMENT**self._taken
        for array, gradient, (first, second) in zip(
            self._arrays, gradients, self._moments, strict=True
        ):
            slope = gradient + self._steps.decay * array
            first += (1 - _FIRST_MOMENT) * (slope - first)
            second += (1 - _SECOND_MOMENT) * (slope * slope - second)
            array -= rate * (first / first_bias) / (np.sqrt(second / second_bias) + _TINY)


def _with_one(values: Floats) -> Floats:
    return np.concatenate([values, np.ones((len(values), 1))], axis=1)
