"""Metrics of arrays of scores: each returns one number and says its formula.

Epochs of a fit and perturbed papers are measured with these. Reports need every metric for many
weightings of the papers at once; those are in ``outcomes``.

Papers whose primary is unknown (-1) are left out by every function that takes ``primary``.
``scores`` may be raw scores or probabilities: only their order counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classmark.errors import InvalidConfig
from classmark.evaluation.metrics import rows
from classmark.evaluation.metrics.rows import (
    Bools,
    Floats,
    Ints,
    known_rows,
    require_papers,
    weighted_calibration_error,
    weighted_macro_f1,
)
from classmark.kernels.calibration import softmax

N_BINS = 15


def calibrated_probabilities(scores: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return softmax(scores / temperature), float64 [n, k]; safe for scores of any size.

    Args:
        scores: float [n, k], raw scores (logits).
        temperature: above 0; above 1 flattens, below 1 sharpens.

    Raises:
        InvalidConfig: the temperature is not a positive number.

    Source: Guo et al. 2017, arXiv:1706.04599.
    """
    if not 0.0 < temperature < np.inf:
        raise InvalidConfig(f"temperature must be a positive number, got {temperature}.")
    return softmax(scores, temperature)[0]


def top_k_accuracy(scores: Floats, primary: Ints, k: int = 1) -> float:
    """Share of papers whose true label is among the k top ones, 0..1.

    Args:
        scores: float [n, k].
        primary: int [n], column of the true label, -1 unknown.
        k: from 1 on.

    Raises:
        EmptyEvaluation: no paper has a known primary.
    """
    known = known_rows(primary)
    return float(np.mean(rows.rank_of_primary(scores[known], primary[known]) < k))


def macro_f1(scores: Floats, primary: Ints) -> float:
    """Unweighted mean of F1 over the labels that occur as truth, 0..1.

    F1 of a label is 2 TP / (papers with it + papers predicted as it), 0 if it is never
    predicted right. Labels without a true paper are not in the mean.

    Args:
        scores: float [n, k].
        primary: int [n], column of the true label, -1 unknown.

    Raises:
        EmptyEvaluation: no paper has a known primary.
    """
    known = known_rows(primary)
    top = scores[known].argmax(axis=1)
    once = np.ones((1, known.size))
    return float(weighted_macro_f1(top, primary[known], scores.shape[1], once)[0])


def negative_log_likelihood(probabilities: Floats, primary: Ints) -> float:
    """Mean of -log p(true label), in nats, from 0 on, lower is better.

    Args:
        probabilities: float [n, k]; 0 counts as the smallest float64 (708 nats).
        primary: int [n], column of the true label, -1 unknown.

    Raises:
        EmptyEvaluation: no paper has a known primary.
    """
    known = known_rows(primary)
    return float(np.mean(rows.log_losses(probabilities[known], primary[known])))


def expected_calibration_error(confidence: Floats, correct: Bools, n_bins: int = N_BINS) -> float:
    """Mean |confidence - accuracy| over bins of equal width, weighted by bin size, 0..1.

    Args:
        confidence: float [n], probability of the top label, 0..1.
        correct: bool [n], whether the top label is the true one.
        n_bins: bin b holds confidences in (b / n_bins, (b + 1) / n_bins].

    Raises:
        EmptyEvaluation: there are no papers.

    Source: Guo et al. 2017, arXiv:1706.04599.
    """
    require_papers(confidence.size)
    bins, once = equal_width_bins(confidence, n_bins), np.ones((1, confidence.size))
    gaps = confidence.astype(np.float64) - correct
    return float(weighted_calibration_error(gaps, bins, n_bins, once)[0])


def equal_width_bins(confidence: Floats, n_bins: int) -> NDArray[np.intp]:
    """Return the bin of each paper, 0..n_bins-1; bins are closed on the right."""
    bins = np.ceil(confidence * n_bins).astype(np.intp) - 1
    return np.clip(bins, 0, n_bins - 1)


def equal_mass_bins(confidence: Floats, n_bins: int) -> NDArray[np.intp]:
    """Return the bin of each paper, cut at quantiles; equal confidences share a bin."""
    cuts = np.quantile(confidence, np.arange(1, n_bins) / n_bins)
    return np.searchsorted(cuts, confidence, side="left").astype(np.intp)
