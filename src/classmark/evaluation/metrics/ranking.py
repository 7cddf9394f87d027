"""Metrics of ranked categories: each takes arrays, returns one number, and says its formula.

Papers whose primary is unknown (-1) are left out by every function that takes ``primary``.
``scores`` may be raw scores or probabilities: only their order counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classmark.errors import InvalidConfig
from classmark.evaluation.metrics import rows
from classmark.evaluation.metrics.arrays import Bools, Floats, Ints, known_rows, require_papers
from classmark.evaluation.metrics.weighted import weighted_calibration_error, weighted_macro_f1
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


def micro_f1(scores: Floats, primary: Ints) -> float:
    """F1 over all decisions pooled, 0..1.

    With one true and one predicted label a paper every error is one false positive and one
    false negative, so micro precision, recall and F1 all equal top-1 accuracy.

    Raises:
        EmptyEvaluation: no paper has a known primary.
    """
    return top_k_accuracy(scores, primary, k=1)


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


def precision_at_1_listed(scores: Floats, listed: Bools) -> float:
    """Share of papers whose top label is any of their listed categories, 0..1.

    Args:
        scores: float [n, k].
        listed: bool [n, k], primary and cross-lists.

    Raises:
        EmptyEvaluation: there are no papers.
    """
    require_papers(scores.shape[0])
    return float(np.mean(rows.listed_hits(scores, listed)))


def recall_at_k_listed(scores: Floats, listed: Bools, listed_count: Ints, k: int = 5) -> float:
    """Mean share of a paper's listed categories that are among its top k, 0..1.

    Args:
        scores: float [n, k].
        listed: bool [n, k], primary and cross-lists.
        listed_count: int [n], how many they are; those that are no column count as missed.
        k: how many of the top labels are looked at.

    Raises:
        EmptyEvaluation: there are no papers.
    """
    require_papers(scores.shape[0])
    return float(np.mean(rows.listed_recalls(scores, listed, listed_count, k)))


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


def brier_score(probabilities: Floats, primary: Ints) -> float:
    """Mean over papers of the sum over labels of (p - truth)^2, 0..2, lower is better.

    Args:
        probabilities: float [n, k].
        primary: int [n], column of the true label, -1 unknown.

    Raises:
        EmptyEvaluation: no paper has a known primary.

    Source: Brier 1950, "Verification of forecasts expressed in terms of probability".
    """
    known = known_rows(primary)
    return float(np.mean(rows.brier_scores(probabilities[known], primary[known])))


def level_accuracy(probabilities: Floats, primary: Ints, level_of_label: Ints) -> float:
    """Share of papers whose most probable level (archive, group) is the right one, 0..1.

    Args:
        probabilities: float [n, k]; a level's is the sum over its categories.
        primary: int [n], column of the true label, -1 unknown.
        level_of_label: int [k], the level of each column, 0..g-1.

    Raises:
        EmptyEvaluation: no paper has a known primary.
    """
    known = known_rows(primary)
    return float(np.mean(rows.level_hits(probabilities[known], primary[known], level_of_label)))


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
    return _calibration_error(confidence, correct, equal_width_bins(confidence, n_bins))


def equal_mass_calibration_error(confidence: Floats, correct: Bools, n_bins: int = N_BINS) -> float:
    """Mean |confidence - accuracy| over bins that hold equally many papers, 0..1.

    Args:
        confidence: float [n], probability of the top label, 0..1.
        correct: bool [n], whether the top label is the true one.
        n_bins: number of bins; equal confidences share a bin, so there may be fewer.

    Raises:
        EmptyEvaluation: there are no papers.

    Source: Nguyen & O'Connor 2015, arXiv:1508.05154.
    """
    require_papers(confidence.size)
    return _calibration_error(confidence, correct, equal_mass_bins(confidence, n_bins))


def set_coverage(sets: Bools, primary: Ints) -> float:
    """Share of papers whose true label is in their prediction set, 0..1.

    Args:
        sets: bool [n, k].
        primary: int [n], column of the true label, -1 unknown.

    Raises:
        EmptyEvaluation: no paper has a known primary.
    """
    known = known_rows(primary)
    return float(np.mean(sets[known, primary[known]]))


def mean_set_size(sets: Bools) -> float:
    """Mean number of labels in a prediction set.

    Raises:
        EmptyEvaluation: there are no papers.
    """
    require_papers(sets.shape[0])
    return float(np.mean(np.count_nonzero(sets, axis=1)))


def equal_width_bins(confidence: Floats, n_bins: int) -> NDArray[np.intp]:
    """Return the bin of each paper, 0..n_bins-1; bins are closed on the right."""
    bins = np.ceil(confidence * n_bins).astype(np.intp) - 1
    return np.clip(bins, 0, n_bins - 1)


def equal_mass_bins(confidence: Floats, n_bins: int) -> NDArray[np.intp]:
    """Return the bin of each paper, cut at quantiles; equal confidences share a bin."""
    cuts = np.quantile(confidence, np.arange(1, n_bins) / n_bins)
    return np.searchsorted(cuts, confidence, side="left").astype(np.intp)


def _calibration_error(confidence: Floats, correct: Bools, bins: NDArray[np.intp]) -> float:
    once = np.ones((1, confidence.size))
    gaps = confidence.astype(np.float64) - correct
    return float(weighted_calibration_error(gaps, bins, int(bins.max()) + 1, once)[0])
