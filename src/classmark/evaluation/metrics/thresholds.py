"""Thresholds on probabilities: accept the top label, add a further one, put one into the set.

The fits per category look at the same grid of thresholds and choose the best cell by counting. A
category with few validation papers would get a threshold of chance; each therefore also sees
``PRIOR_PAPERS`` papers' worth of the counts of all categories together. With no paper of its own it
gets the common threshold, with hundreds its own.

Prediction sets are split conformal: the score of a label is 1 - p (least ambiguous sets, LAC), so a
label is in the set if and only if its probability reaches one threshold. The guarantee holds on
average over papers drawn like the calibration papers, not for each category or for later years:
measure it there.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from classmark.evaluation.metrics.rows import Bools, Floats, Ints, known_rows, require_share

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


# (n + 1) * coverage is often whole in exact arithmetic and a hair above it in floating point.
_ROUNDING = 1e-9


def fit_set_threshold(probabilities: Floats, primary: Ints, coverage: float = 0.9) -> float:
    """Return the probability from which a label belongs to the prediction set, 0..1.

    It is the ceil((n + 1) * coverage)-th largest probability of a true label. A new paper drawn
    like these n then has its true label in the set with probability of at least ``coverage``.
    With too few papers for that (n < coverage / (1 - coverage)) it is 0: every label is in.

    Args:
        probabilities: float [n, k], calibrated.
        primary: int [n], column of the true label; papers with -1 are left out.
        coverage: wanted share, between 0 and 1.

    Raises:
        EmptyEvaluation: no paper has a known primary.
        InvalidConfig: coverage is not between 0 and 1.

    Source: Sadinle et al. 2019, arXiv:1609.00451; Angelopoulos & Bates 2021, arXiv:2107.07511.
    """
    require_share("coverage", coverage)
    rows = known_rows(primary)
    rank = math.ceil((rows.size + 1) * coverage - _ROUNDING)
    if rank > rows.size:
        return 0.0
    truths = probabilities[rows, primary[rows]]
    return float(np.partition(truths, rows.size - rank)[rows.size - rank])


def prediction_sets(probabilities: Floats, threshold: float | Floats) -> Bools:
    """Return which labels are in each paper's set, bool [n, k]; no set is empty.

    A set that would be empty gets the top label, which only adds coverage.

    Args:
        probabilities: float [n, k], calibrated.
        threshold: from ``fit_set_threshold``, or one for each paper, [n, 1].
    """
    sets = np.asarray(probabilities >= threshold, dtype=np.bool_)
    empty = np.flatnonzero(~sets.any(axis=1))
    sets[empty, probabilities[empty].argmax(axis=1)] = True
    return sets
