"""Other estimates of the accuracy without labels, beside which label_free.py measures ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.evaluation.metrics.scope import fit_logistic
from classmark.runtime.features import FeatureTable

Floats = NDArray[np.float64]
_MOST_WEIGHT = 20.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Features(FeatureTable):
    """What ``classmark.monitor`` reads of n papers, and what is true of them.

    Attributes:
        truth: int16 [n], column of the right label.
    """

    truth: NDArray[np.int16]

    def rows(self, rows: NDArray[np.intp]) -> Features:
        """Return some of the papers."""
        return Features(**vars(self.select(rows)), truth=self.truth[rows])

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Return whether the first category is right: bool [n]."""
        return np.asarray(self.top_labels[:, 0] == self.truth)


@dataclass(frozen=True)
class Case:
    """What an estimate may read: reference and window, with the chances of each paper to be right.

    Attributes:
        reference: n papers with their truth.
        reference_chances: float64 [n].
        window: m papers; only ``known_mix`` reads their truth.
        window_chances: float64 [m].
    """

    reference: Features
    reference_chances: Floats
    window: Features
    window_chances: Floats


Rival = Callable[[Case], float]


def mean_confidence(case: Case) -> float:
    """Return the mean calibrated confidence."""
    return float(case.window.confidence.mean())


def difference_of_confidences(case: Case) -> float:
    """Return the accuracy of the reference, and by how much the confidence has changed.

    Source: Guillory et al. 2021, arXiv:2107.03315.
    """
    reference, window = case.reference, case.window
    change = window.confidence.mean() - reference.confidence.mean()
    return float(reference.correct.mean() + change)


def thresholded_confidence(case: Case) -> float:
    """Return the share above the confidence that as many of the reference exceed as are right.

    Source: Garg et al. 2022, arXiv:2201.04234.
    """
    reference = case.reference
    threshold = np.quantile(reference.confidence, 1.0 - reference.correct.mean())
    return float((case.window.confidence >= threshold).mean())


def recalibrated_confidence(case: Case) -> float:
    """Return the mean of the chances: the first of the three steps of ours."""
    return float(case.window_chances.mean())


def importance_weights(case: Case) -> float:
    """Return the mean chance, and the error of the chances on a weighted reference (doubly robust).

    The weights are the odds of a logistic regression that tells window from reference, fitted on
    the other half of both, and clipped.
    """
    n, m = len(case.reference), len(case.window)
    columns = np.vstack([_columns(case.reference), _columns(case.window)])
    features = (columns - columns[:n].mean(axis=0)) / (columns[:n].std(axis=0) + 1e-9)
    features = np.clip(features, -6.0, 6.0)
    is_window = np.arange(n + m) >= n
    half = np.random.default_rng(0).integers(0, 2, n + m)
    logits = np.zeros(n + m)
    for one in (0, 1):
        fitted = half != one
        of_window = is_window[fitted]
        mass = np.where(of_window, 0.5 / of_window.sum(), 0.5 / (~of_window).sum())
        weights = fit_logistic(features[fitted], of_window, mass, ridge=1e-2)
        logits[~fitted] = weights[0] + features[~fitted] @ weights[1:]
    odds = np.exp(np.clip(logits[:n], -5.0, np.log(_MOST_WEIGHT)))
    errors = case.reference.correct - case.reference_chances
    return float(case.window_chances.mean() + (odds * errors).sum() / odds.sum())


def known_mix(case: Case) -> float:
    """Return the accuracy of the reference with the true shares of categories of the window.

    No method can know these; it shows what is left when the mix is known exactly.
    """
    reference = case.reference
    wanted = case.window.truth
    labels = int(max(reference.truth.max(), wanted.max())) + 1
    seen = np.bincount(reference.truth, minlength=labels)
    right = np.bincount(reference.truth[reference.correct], minlength=labels)
    share = (right + 2.0 * reference.correct.mean()) / (seen + 2.0)
    return float(share[wanted].mean())


RIVALS: dict[str, Rival] = {
    "mean confidence": mean_confidence,
    "difference of confidences": difference_of_confidences,
    "thresholded confidence": thresholded_confidence,
    "recalibrated confidence": recalibrated_confidence,
    "importance weights": importance_weights,
    "known mix (cheats)": known_mix,
}


def _columns(papers: Features) -> NDArray[Any]:
    columns = (
        papers.confidence, papers.entropy, papers.energy, papers.known_share, papers.log_words,
        papers.latex_share, papers.used_authors, papers.projection,
    )  # fmt: skip
    return np.column_stack(columns).astype(np.float64)
