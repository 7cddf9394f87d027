"""Metrics that are no mean over papers, for many weightings of the papers at once.

A row of ``weights`` (float64 [d, n]) says how often each paper counts. All ones gives the
metric itself; the counts of a resample give one bootstrap draw. One definition serves both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classmark.evaluation.metrics.arrays import Floats, Ints


def weighted_macro_f1(
    top: Ints, primary: Ints, n_labels: int, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the mean F1 over the labels that occur as truth, float64 [d], 0..1.

    F1 of a label is 2 TP / (papers with it + papers predicted as it). A label with no paper
    in a weighting is left out of its mean; its false positives still lower other labels.

    Args:
        top: int [n], predicted column.
        primary: int [n], true column.
        n_labels: number of columns.
        weights: float64 [d, n].
    """
    hits = np.flatnonzero(top == primary)
    true_positives = sums_by_label(primary[hits], weights[:, hits], n_labels)
    truth = sums_by_label(primary, weights, n_labels)
    predicted = sums_by_label(top, weights, n_labels)
    f1 = 2.0 * true_positives / np.maximum(truth + predicted, np.finfo(np.float64).tiny)
    present = truth > 0.0
    return np.asarray((f1 * present).sum(axis=1) / present.sum(axis=1), dtype=np.float64)


def weighted_calibration_error(
    gaps: Floats, bins: Ints, n_bins: int, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return sum over bins of |sum of gaps| / sum of weights, float64 [d], 0..1.

    That is the mean of |confidence - accuracy| over bins, weighted by bin size.

    Args:
        gaps: float [n], confidence minus correctness (0 or 1).
        bins: int [n], bin of each paper, 0..n_bins-1.
        n_bins: number of bins.
        weights: float64 [d, n].
    """
    gap_in_bin = sums_by_label(bins, weights * gaps, n_bins)
    return np.asarray(np.abs(gap_in_bin).sum(axis=1) / weights.sum(axis=1), dtype=np.float64)


def weighted_calibration_floor(
    confidence: Floats, bins: Ints, n_bins: int, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the calibration error that chance alone gives a perfect model, float64 [d], 0..1.

    If each paper is right with just the probability claimed, the summed gap of a bin has mean 0 and
    variance sum of p (1 - p); the mean size of such a normal variable is sqrt(2 / pi) deviations.
    An error near this floor says that no miscalibration was found.

    Args:
        confidence: float [n], probability of the top label, 0..1.
        bins: int [n], bin of each paper, 0..n_bins-1.
        n_bins: number of bins.
        weights: float64 [d, n].
    """
    variance = sums_by_label(bins, weights * (confidence * (1.0 - confidence)), n_bins)
    sizes = np.sqrt(2.0 / np.pi * variance)
    return np.asarray(sizes.sum(axis=1) / weights.sum(axis=1), dtype=np.float64)


def sums_by_label(labels: Ints, weights: NDArray[np.float64], n_labels: int) -> NDArray[np.float64]:
    """Return the weight on each label, float64 [d, n_labels]; labels int [n], weights [d, n]."""
    return np.stack([np.bincount(labels, weights=row, minlength=n_labels) for row in weights])
