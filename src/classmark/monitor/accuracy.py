"""How accurate the model is on papers without labels, estimated from a labelled reference.

Three steps, each fitted on the reference alone:

1. *A chance of being right for each paper*: the calibrated confidence, corrected by a logistic
   regression on everything else that the journal keeps of a paper. Its mean is the estimate of
   Guillory et al. 2021, arXiv:2107.03315 (difference of confidences), on more features. Whether
   authors were used is left out: it says who asks, not what is asked.
2. *A learned difference*: the reference is drawn again with other shares of its categories, many
   times over. In each draw the accuracy is known, so a ridge regression finds how the error of
   step 1 depends on the shift of the mean features. It fades with the length of the shift, as a
   Gaussian process does far from its data: nine in ten draws are shorter than one standard
   deviation. The idea is that of Deng and Zheng 2021, arXiv:2007.02915 (meta-sets).
3. *An interval*: it contains the sampling error of a window of this size, and so much for each
   unit of the shift seen as the same interval needs to cover step 1 in 95 % of those draws, as in
   split conformal prediction.

A shift that leaves no trace in the features, such as papers of the same words filed elsewhere, is
invisible without labels (Garg et al. 2022, arXiv:2201.04234, prove that no method is safe from
it); ``few_labels`` is the remedy.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.errors import EmptyEvaluation, InvalidConfig, InvalidScores
from classmark.evaluation.metrics.scope import fit_logistic
from classmark.records.evaluation import AccuracyEstimate
from classmark.runtime.features import FeatureTable

LEAST_REFERENCE = 200
"""Labelled papers below which the corrections would be noise."""
LEAST_WINDOW = 50
DRAWS = 400
"""How often the reference is drawn again with other shares of its categories."""
_SEED = 17
_SPREADS = (0.2, 2.0)
"""Standard deviations of the logarithms of the new shares, from mild to wild."""
_MOST_WEIGHT = 30.0
"""Of a paper in a draw, in means: one of a rare category must not be the whole draw."""
_RIDGE_CHANCE = 1e-2
_RIDGE_DIFFERENCE = 1.0
"""Both chosen on the months of ``benchmarks/label_free.py``, decision 0070."""
_RIDGE_PAPERS = 20
"""The ridge of the chances is this over the papers of the reference, where that is more: few papers
must not bend the confidence of others that are unlike them."""
_FARTHEST = 6.0
"""Standard deviations at which a feature is cut off."""
_LEAST_UNLIKE = 0.05
"""Draws that are more like the reference say nothing about errors relative to a shift."""

Floats = NDArray[np.float64]


class AccuracyEstimator:
    """What a labelled reference says about the accuracy on other papers.

    Attributes:
        accuracy: share of the reference whose first category is right, 0..1.
        papers: labelled papers of the reference.
    """

    def __init__(self, reference: FeatureTable, truth: NDArray[np.integer[Any]]) -> None:
        """Fit it; takes about half a second for 4,000 papers.

        Args:
            reference: n papers that the model was not fitted on.
            truth: integers [n], column of the true label; -1 if it is unknown.

        Raises:
            EmptyEvaluation: it has too few labels, or all of them are right, or all are wrong.
            InvalidScores: a feature is not a finite number, or has another number of papers.
        """
        columns = _columns(reference)
        if len(truth) != len(columns):
            raise InvalidScores(
                f"the reference has {len(columns)} papers and {len(truth)} labels. Export the "
                "bundle again."
            )
        rows = np.flatnonzero(truth >= 0)
        correct = (reference.top_labels[rows, 0] == truth[rows]).astype(np.float64)
        _check_labels(correct)
        self.papers, self.accuracy = len(rows), float(correct.mean())
        self._centre, self._spread = _scale(columns[rows])
        offset = _logit(reference.top_probs[rows, 0])
        features = self._standardised(columns[rows])
        mass = np.full(len(rows), 1.0 / len(rows))
        ridge = max(_RIDGE_CHANCE, _RIDGE_PAPERS / len(rows))
        self._weights = fit_logistic(features, correct > 0, mass, ridge=ridge, offset=offset)
        residuals = correct - self._chances(features, offset)
        self._error = float(residuals.std()) / sqrt(len(rows))
        self._slopes, self._draws = _learn_difference(features, residuals, truth[rows])

    def chances(self, papers: FeatureTable) -> Floats:
        """Return the chance that the first category of each paper is right: float64 [n], 0..1.

        Raises:
            InvalidScores: a feature is not a finite number.
        """
        return self._chances(self._standardised(_columns(papers)), _logit(papers.top_probs[:, 0]))

    def estimate(self, window: FeatureTable, level: float = 0.95) -> AccuracyEstimate:
        """Return the estimated accuracy on a window without labels.

        Args:
            window: n papers, of the same model and recipe as the reference.
            level: wanted coverage of the interval, between 0 and 1.

        Raises:
            EmptyEvaluation: the window has fewer than ``LEAST_WINDOW`` papers.
            InvalidConfig: the level is not between 0 and 1.
            InvalidScores: a feature is not a finite number.
        """
        _check_level(level)
        columns = _columns(window)
        n = len(columns)
        if n < LEAST_WINDOW:
            raise EmptyEvaluation(
                f"the window has {n} papers; an estimate of the accuracy needs {LEAST_WINDOW}. "
                "Choose a longer window."
            )
        features = self._standardised(columns)
        chances = self._chances(features, _logit(window.top_probs[:, 0]))
        difference = features.mean(axis=0)
        noise = np.array([1.0 / n + 1.0 / self.papers])
        distance = float(_distances(difference[None], noise)[0])
        unlike = float(_unlike(np.array([distance]))[0])
        learned = float(difference @ self._slopes) * exp(-0.5 * distance**2)
        value = min(max(float(chances.mean()) + learned, 0.0), 1.0)
        sampling = float((chances * (1.0 - chances)).mean()) / n + self._error**2
        z = NormalDist().inv_cdf((1.0 + level) / 2.0)
        beyond = self._draws.beyond(z, level) * unlike
        reach = sqrt(z * z * sampling + beyond * beyond)
        return AccuracyEstimate(
            papers=n, labels=0, value=value, low=max(value - reach, 0.0),
            high=min(value + reach, 1.0), level=level, reference=self.accuracy,
            unlike=unlike,
        )  # fmt: skip

    def _standardised(self, columns: Floats) -> Floats:
        far = (columns - self._centre) / self._spread
        return np.clip(far, -_FARTHEST, _FARTHEST)

    def _chances(self, features: Floats, offset: Floats) -> Floats:
        logit = offset + self._weights[0] + features @ self._weights[1:]
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -500.0, 500.0))))


def _columns(papers: FeatureTable) -> Floats:
    """Return the features of each paper as one table: float64 [n, d]."""
    top = papers.top_probs.astype(np.float64)
    columns = (
        _logit(top[:, 0]), top[:, 0], top[:, 0] - top[:, 1], top[:, 1], top[:, 2], papers.entropy,
        papers.energy, papers.known_share, papers.log_words, papers.latex_share,
        papers.projection,
    )  # fmt: skip
    lengths = {len(column) for column in columns}
    if len(lengths) != 1:
        raise InvalidScores(
            f"the features have different numbers of papers: {sorted(lengths)}. Each paper needs "
            "every feature."
        )
    table = np.column_stack(columns).astype(np.float64)
    broken = int((~np.isfinite(table)).any(axis=1).sum())
    if broken:
        raise InvalidScores(
            f"{broken} of {len(table)} papers have features that are not finite numbers. Leave "
            "these papers out."
        )
    return table


def _logit(share: NDArray[Any]) -> Floats:
    inside = np.clip(share.astype(np.float64), 1e-6, 1.0 - 1e-6)
    return np.asarray(np.log(inside / (1.0 - inside)))


def _check_labels(correct: Floats) -> None:
    if len(correct) < LEAST_REFERENCE:
        raise EmptyEvaluation(
            f"the reference has {len(correct)} papers with labels; estimating the accuracy of "
            f"others needs {LEAST_REFERENCE}. Export the bundle with more validation papers."
        )
    if correct.min() == correct.max():
        raise EmptyEvaluation(
            f"the first category of all {len(correct)} papers of the reference is "
            f"{'right' if correct.max() else 'wrong'}, so nothing can be learned from them. Use "
            "papers that the model was not fitted on."
        )


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise InvalidConfig(f"level must be between 0 and 1 (both excluded), got {level}.")


def _scale(columns: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of each column; 1 where all papers are alike."""
    centre, spread = columns.mean(axis=0), columns.std(axis=0)
    return centre, np.where(spread > 1e-6 * (1.0 + np.abs(centre)), spread, 1.0)


def _distances(differences: Floats, noise: Floats) -> Floats:
    """Return the lengths of shifts, without what chance alone would give: float64 [s].

    Args:
        differences: float64 [s, d], of the means of standardised features.
        noise: float64 [s], variance of such a difference by chance.
    """
    squared = (differences**2).sum(axis=1) - differences.shape[1] * noise
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def _unlike(distances: Floats) -> Floats:
    """Return the size of shifts of such lengths, 0..1: float64 [s].

    The total variation distance of two normal distributions whose means differ by so many standard
    deviations.
    """
    normal = NormalDist()
    return np.array([2.0 * normal.cdf(distance / 2.0) - 1.0 for distance in distances.tolist()])


@dataclass(frozen=True, eq=False)
class _Draws:
    """The reference with other shares of its categories.

    Attributes:
        errors: float64 [s], of the mean chance.
        sampling: float64 [s], their variance if the mix of categories does not matter.
        sizes: float64 [s], of the shifts, 0..1.
    """

    errors: Floats
    sampling: Floats
    sizes: Floats

    def beyond(self, z: float, level: float) -> float:
        """Return what an interval needs for a shift of size 1 to cover that share of the draws.

        Args:
            z: standard deviations that the interval has for the sampling error.
            level: 0..1.
        """
        is_far = self.sizes >= min(_LEAST_UNLIKE, float(self.sizes.max()))
        needed = np.sqrt(np.maximum(self.errors**2 - z * z * self.sampling, 0.0))
        return float(np.quantile((needed / np.maximum(self.sizes, _LEAST_UNLIKE))[is_far], level))


def _learn_difference(
    features: Floats, residuals: Floats, truth: NDArray[np.integer[Any]]
) -> tuple[Floats, _Draws]:
    """Draw the reference with other shares of its categories, and learn from the errors.

    Returns:
        float64 [d], by how much a shift of each mean feature changes the accuracy; and the draws.
    """
    shares = _draw_weights(truth)
    differences, errors = shares @ features, shares @ residuals
    noise = (shares**2).sum(axis=1)
    sampling = (shares**2) @ (residuals**2)
    covariance = differences.T @ differences / DRAWS
    ridge = _RIDGE_DIFFERENCE * float(np.mean(differences**2)) + 1e-12
    slopes = np.linalg.solve(
        covariance + ridge * np.eye(len(covariance)), differences.T @ errors / DRAWS
    )
    sizes = _unlike(_distances(differences, noise))
    return np.asarray(slopes, np.float64), _Draws(errors, sampling, sizes)


def _draw_weights(truth: NDArray[np.integer[Any]]) -> Floats:
    """Return the weight of each paper in each draw, float64 [s, n]; a row sums to 1."""
    rng = np.random.default_rng(_SEED)
    spreads = rng.uniform(*_SPREADS, size=DRAWS)
    logs = rng.standard_normal((DRAWS, int(truth.max()) + 1)) * spreads[:, None]
    weights = np.exp(logs)[:, truth]
    weights = np.minimum(weights, _MOST_WEIGHT * weights.mean(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
