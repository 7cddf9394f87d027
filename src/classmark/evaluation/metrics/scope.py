"""Is it a paper at all: a score from the share of known terms and the energy of the scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classmark.errors import EmptyEvaluation, InvalidConfig
from classmark.evaluation.metrics.rows import Bools, Floats, require_papers
from classmark.kernels.calibration import softmax

_RIDGE = 1e-3
_MAX_STEPS = 100
_TOLERANCE = 1e-10
_LEAST_SPREAD = 1e-5
"""Of a feature, relative to its mean: scores are float32."""


def energy(scores: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return logsumexp(scores / temperature), float64 [n]; high where the model is at home.

    This is the negative free energy divided by the temperature.

    Args:
        scores: float [n, k], raw scores (logits).
        temperature: above 0.

    Source: Liu et al. 2020, arXiv:2010.03759.
    """
    return softmax(scores, temperature)[1]


def fit_scope(known_share: Floats, energy: Floats, in_scope: Bools) -> tuple[float, float, float]:
    """Return (bias, w_share, w_energy) of the logit that a text is in scope.

    A logistic regression in which both kinds of text weigh alike however many there are, so a
    score of 0 means even odds. Features are standardised for the fit and a small ridge keeps it
    finite when they separate the texts; the weights returned are for raw features.

    Args:
        known_share: float [n], share of the text's terms that the model knows, 0..1.
        energy: float [n], from ``energy``.
        in_scope: bool [n], whether the text is a paper.

    Raises:
        EmptyEvaluation: papers or other texts are missing.
    """
    n_papers = int(in_scope.sum())
    if n_papers in (0, in_scope.size):
        raise EmptyEvaluation(
            f"the scope score needs papers and other texts, got {n_papers} papers and "
            f"{in_scope.size - n_papers} other texts. Add the missing kind."
        )
    raw = np.column_stack([known_share, energy]).astype(np.float64)
    mean, spread = raw.mean(axis=0), raw.std(axis=0)
    # What varies less is rounding, as the energy of scores that are log-probabilities already.
    spread[spread <= _LEAST_SPREAD * (1 + np.abs(mean))] = 1.0
    mass = np.where(in_scope, 0.5 / n_papers, 0.5 / (in_scope.size - n_papers))
    weights = fit_logistic((raw - mean) / spread, in_scope, mass)
    slopes = weights[1:] / spread
    return float(weights[0] - slopes @ mean), float(slopes[0]), float(slopes[1])


def choose_scope_threshold(in_scope_scores: Floats, false_rejection_rate: float = 0.005) -> float:
    """Return the highest observed score that rejects at most this share of the papers.

    A text is rejected if its score is below the threshold.

    Args:
        in_scope_scores: float [n], scope scores of papers.
        false_rejection_rate: share of papers that may be rejected, 0 up to below 1.

    Raises:
        EmptyEvaluation: there are no papers.
        InvalidConfig: the rate is not in that range.
    """
    require_papers(in_scope_scores.size)
    if not 0.0 <= false_rejection_rate < 1.0:
        raise InvalidConfig(
            f"false_rejection_rate must be from 0 to below 1, got {false_rejection_rate}."
        )
    n_rejected = int(false_rejection_rate * in_scope_scores.size)
    return float(np.partition(in_scope_scores, n_rejected)[n_rejected])


def fit_logistic(
    features: NDArray[np.float64],
    truth: Bools,
    mass: NDArray[np.float64],
    *,
    ridge: float = _RIDGE,
    offset: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    """Return bias and weights of the ridge-penalised logistic loss: float64 [1 + d].

    Newton's method (IRLS); the bias is not penalised.

    Args:
        features: float64 [n, d], standardised.
        truth: bool [n].
        mass: float64 [n], weight of each row, summing to 1.
        ridge: penalty of the squared weights.
        offset: float64 [n], added to the logit of each row; the weights are shrunk towards it.
    """
    design = np.column_stack([np.ones(truth.size), features])
    penalty = np.diag([0.0, *[ridge] * features.shape[1]])
    weights = np.zeros(design.shape[1])
    for _ in range(_MAX_STEPS):  # pragma: no branch - it converges long before
        chance = 1.0 / (1.0 + np.exp(-np.clip(design @ weights + offset, -500.0, 500.0)))
        slope = design.T @ (mass * (chance - truth)) + penalty @ weights
        curvature = (design.T * (mass * chance * (1.0 - chance))) @ design + penalty
        step = _shortened(np.linalg.solve(curvature, slope))
        weights = weights - step
        if np.abs(step).max() < _TOLERANCE:
            break
    return weights


def _shortened(step: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bound a Newton step: far from the optimum the curvature is nearly 0 and it overshoots."""
    longest = float(np.abs(step).max())
    return step / max(1.0, longest)
