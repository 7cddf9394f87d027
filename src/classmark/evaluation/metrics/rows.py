"""One value per paper, and sums of them over papers for many weightings.

``scores`` may be raw scores or probabilities wherever only their order counts. Equal scores rank
by column, the lower one first, as ``numpy.argmax`` does. ``weights`` (float64 [d, n]) say how often
each paper counts: a row of ones gives the metric itself, the counts of a resample one bootstrap
draw.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.errors import EmptyEvaluation, InvalidConfig
from classmark.records.scores import UNKNOWN

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]


def known_rows(primary: Ints) -> NDArray[np.intp]:
    """Return the indices of the papers whose true label is a column.

    Args:
        primary: int [n], column of the true label, -1 if it is unknown or not a column.

    Raises:
        EmptyEvaluation: there are no papers, or none has a known label.
    """
    rows = np.flatnonzero(primary != UNKNOWN)
    if rows.size == 0:
        raise EmptyEvaluation(
            f"none of the {primary.size} papers has a primary category that the model knows. "
            "Evaluate on labelled papers that share their labels with the model."
        )
    return rows


def require_papers(n: int) -> None:
    """Refuse an empty table.

    Raises:
        EmptyEvaluation: ``n`` is 0.
    """
    if n == 0:
        raise EmptyEvaluation("there are no papers to evaluate. Choose a split that has some.")


def require_share(name: str, value: float) -> None:
    """Refuse a share that is not strictly between 0 and 1.

    Raises:
        InvalidConfig: it is not, or it is not a number.
    """
    if not 0.0 < value < 1.0:
        raise InvalidConfig(f"{name} must be between 0 and 1 (both excluded), got {value}.")


def rank_of_primary(scores: Floats, primary: Ints) -> NDArray[np.int64]:
    """Return how many labels rank before the true one, int64 [n], 0 = it is on top.

    Args:
        scores: float [n, k].
        primary: int [n], column of the true label.
    """
    own = np.take_along_axis(scores, primary[:, None].astype(np.intp), axis=1)
    columns = np.arange(scores.shape[1])
    tied_before = (scores == own) & (columns < primary[:, None])
    ranks = np.count_nonzero((scores > own) | tied_before, axis=1)
    return np.asarray(ranks, dtype=np.int64)


def listed_hits(scores: Floats, listed: Bools) -> Bools:
    """Return whether the top label is any of the listed categories, bool [n].

    Args:
        scores: float [n, k].
        listed: bool [n, k], every category the paper is listed in.
    """
    return np.take_along_axis(listed, scores.argmax(axis=1)[:, None], axis=1)[:, 0]


def listed_recalls(
    scores: Floats, listed: Bools, listed_count: Ints, k: int
) -> NDArray[np.float64]:
    """Return the share of a paper's listed categories among its top k, float64 [n], 0..1.

    Args:
        scores: float [n, k].
        listed: bool [n, k], every category the paper is listed in.
        listed_count: int [n], how many they are; those without a column count as missed.
        k: how many of the top labels are looked at.
    """
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    found = np.count_nonzero(np.take_along_axis(listed, top, axis=1), axis=1)
    return np.asarray(found / np.maximum(listed_count, 1), dtype=np.float64)


def log_losses(probabilities: Floats, primary: Ints) -> NDArray[np.float64]:
    """Return -log p(true label), float64 [n], in nats; p = 0 counts as the smallest float64."""
    own = np.take_along_axis(probabilities, primary[:, None].astype(np.intp), axis=1)[:, 0]
    return -np.log(np.maximum(own.astype(np.float64), np.finfo(np.float64).tiny))


def brier_scores(probabilities: Floats, primary: Ints) -> NDArray[np.float64]:
    """Return the squared distance of p from the truth, sum over labels, float64 [n], 0..2."""
    own = np.take_along_axis(probabilities, primary[:, None].astype(np.intp), axis=1)[:, 0]
    squares = np.einsum("nk,nk->n", probabilities, probabilities, dtype=np.float64)
    return np.asarray(squares - 2.0 * own + 1.0, dtype=np.float64)


def level_hits(probabilities: Floats, primary: Ints, level_of_label: Ints) -> Bools:
    """Return whether the most probable level is that of the true label, bool [n].

    The probability of a level (archive, group) is the sum over its categories, so the top
    level need not be the level of the top category.

    Args:
        probabilities: float [n, k].
        primary: int [n].
        level_of_label: int [k], the level of each column, 0..g-1.
    """
    members = np.zeros((level_of_label.size, int(level_of_label.max()) + 1))
    members[np.arange(level_of_label.size), level_of_label] = 1.0
    top_level = (probabilities @ members).argmax(axis=1)
    return np.asarray(top_level == level_of_label[primary], dtype=np.bool_)


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
