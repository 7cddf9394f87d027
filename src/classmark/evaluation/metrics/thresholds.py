"""When to accept the top label, and when to add a further one: a threshold per category.

Both fits look at the same grid of thresholds and choose the best cell for each category by
counting. A category with few validation papers would get a threshold of chance; each therefore
also sees ``PRIOR_PAPERS`` papers' worth of the counts of all categories together. With no paper
of its own it gets the common threshold, with hundreds its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classmark.evaluation.metrics.arrays import Bools, Floats, Ints, known_rows, require_share

PRIOR_PAPERS = 50.0
# A power of two: every threshold is exact in float32 and float64, and so is each comparison.
_STEPS = 1024


def fit_thresholds(
    probabilities: Floats,
    primary: Ints,
    target_precision: float = 0.5,
    prior_papers: float = PRIOR_PAPERS,
) -> NDArray[np.float32]:
    """Return the probability from which the top label is accepted, float32 [k], 0..1.

    For each category c, of the papers whose top label is c, the threshold maximises
    (right - target * accepted). That accepts a paper if and only if papers like it are right at
    least as often as the target: it is the level set of the isotonic regression of correctness
    on probability, and for calibrated probabilities it is the target itself. So not only the
    accepted papers together are right with the target precision, but also the least certain
    ones among them. Of equally good thresholds the lowest is taken. Thresholds rise with the
    target.

    Args:
        probabilities: float [n, k], calibrated.
        primary: int [n], column of the true label; papers with -1 are left out.
        target_precision: wanted chance that an accepted label is right, between 0 and 1.
        prior_papers: weight of the pooled counts, in papers; 0 fits each category alone.

    Raises:
        EmptyEvaluation: no paper has a known primary.
        InvalidConfig: the target is not between 0 and 1.

    Source: Chow 1970, "On optimum recognition error and reject tradeoff".
    """
    require_share("target_precision", target_precision)
    rows = known_rows(primary)
    known = probabilities[rows]
    top = known.argmax(axis=1)
    confidence = known[np.arange(rows.size), top]
    accepted, right = _counts(top, confidence, top == primary[rows], known.shape[1])
    gain = right - target_precision * accepted
    pooled = gain.sum(axis=0) / rows.size
    best = np.argmax(gain + prior_papers * pooled, axis=1)
    return np.asarray(best / _STEPS, dtype=np.float32)


def fit_cross_list_thresholds(
    probabilities: Floats,
    primary: Ints,
    listed: Bools,
    prior_papers: float = PRIOR_PAPERS,
) -> NDArray[np.float32]:
    """Return the probability from which a further label is a cross-list, float32 [k], 0..1.

    For each category c, of the papers whose top label is not c, the threshold maximises F1 of
    "the paper is listed in c". (A primary that is not on top is listed too, and counts.) Of
    equally good thresholds the highest is taken, so a label that is never listed and cannot
    learn from others gets 1 and is never added.

    Args:
        probabilities: float [n, k], calibrated.
        primary: int [n], column of the true label; papers with -1 are left out.
        listed: bool [n, k], primary and cross-lists.
        prior_papers: weight of the pooled counts, in listings; 0 fits each category alone.

    Raises:
        EmptyEvaluation: no paper has a known primary.
    """
    rows = known_rows(primary)
    known = probabilities[rows]
    further = np.ones(known.shape, dtype=np.bool_)
    further[np.arange(rows.size), known.argmax(axis=1)] = False
    _, label = np.nonzero(further)
    added, found = _counts(label, known[further], listed[rows][further], known.shape[1])
    wanted = found[:, :1]
    scale = prior_papers / max(float(wanted.sum()), 1.0)
    added, found, wanted = (c + scale * c.sum(axis=0) for c in (added, found, wanted))
    f1 = 2.0 * found / np.maximum(added + wanted, np.finfo(np.float64).tiny)
    best = _STEPS - np.argmax(f1[:, ::-1], axis=1)
    return np.asarray(best / _STEPS, dtype=np.float32)


def _counts(
    labels: NDArray[np.intp], probabilities: Floats, right: Bools, n_labels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Count decisions, and right ones, at or above each threshold, float64 [k, _STEPS + 1]."""
    cells = np.clip(probabilities * _STEPS, 0, _STEPS).astype(np.intp)
    flat, shape = labels * (_STEPS + 1) + cells, (n_labels, _STEPS + 1)
    size = n_labels * (_STEPS + 1)
    made = np.bincount(flat, minlength=size).reshape(shape)
    hits = np.bincount(flat[right], minlength=size).reshape(shape)
    return _at_or_above(made), _at_or_above(hits)


def _at_or_above(histogram: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.cumsum(histogram[:, ::-1], axis=1)[:, ::-1].astype(np.float64)
