"""Sets of labels that hold the right one with a stated frequency: split conformal prediction.

The score of a label is 1 - p (least ambiguous sets, LAC), so a label is in the set if and only
if its probability reaches one threshold. The guarantee holds on average over papers drawn like
the calibration papers, not for each category or for later years: measure it there.
"""

from __future__ import annotations

import math

import numpy as np

from classmark.evaluation.metrics.arrays import Bools, Floats, Ints, known_rows, require_share

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


def prediction_sets(probabilities: Floats, threshold: float) -> Bools:
    """Return which labels are in each paper's set, bool [n, k]; no set is empty.

    A set that would be empty gets the top label, which only adds coverage.

    Args:
        probabilities: float [n, k], calibrated.
        threshold: from ``fit_set_threshold``.
    """
    sets = np.asarray(probabilities >= threshold, dtype=np.bool_)
    empty = np.flatnonzero(~sets.any(axis=1))
    sets[empty, probabilities[empty].argmax(axis=1)] = True
    return sets
