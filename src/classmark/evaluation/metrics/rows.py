"""What happened to each paper: one value a row, whose mean over papers is a metric.

``scores`` may be raw scores or probabilities wherever only their order counts. Equal scores
rank by column, the lower one first, as ``numpy.argmax`` does. ``primary`` must be known here
(0..k-1); see ``arrays.known_rows``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classmark.evaluation.metrics.arrays import Bools, Floats, Ints


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
        listed_count: int [n], how many they are; those that are no column count as missed.
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
