"""How accurate the model is on papers of which a few have labels, and when to raise the alarm.

Two questions with two answers. *How accurate is it on this window?* Prediction-powered inference
joins the few labels with the estimates for all papers. *Has it become worse, at any moment since
the watch began?* An e-process over the labels in the order in which they arrive.

Both hold for labels of papers that were drawn at random, or that come for all papers after a
while. Of feedback that is sent because an answer was wrong neither holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.errors import EmptyEvaluation, InvalidConfig, InvalidScores
from classmark.evaluation.metrics.intervals import share_interval
from classmark.records.drift import LabelState
from classmark.records.evaluation import AccuracyEstimate
from classmark.registry.sequential import BETS, mean_evidence

LEAST_LABELS = 20
"""Below this a normal approximation says little; more labels, or the estimate without any."""
_STEPS = 40
_BEGIN_EVERY = 50
"""Labels between two beginnings of bets: each has less to bet with, the later it begins."""

Floats = NDArray[np.float64]


def join_labels(
    chances: Floats,
    labelled: NDArray[np.integer[Any]],
    correct: NDArray[np.bool_],
    *,
    reference: float,
    level: float = 0.95,
) -> AccuracyEstimate:
    """Return the accuracy on a window by its labels and by the estimates for all of its papers.

    The labelled papers must be drawn from the window at random: labels that clients send because
    an answer was wrong would make any estimate too low.

    Args:
        chances: float64 [n], of each paper's first category to be right.
        labelled: int [m], rows of the papers with labels, each at most once.
        correct: bool [m], whether their first category is right.
        reference: accuracy on the reference, 0..1, for the record.
        level: wanted coverage of the interval, between 0 and 1.

    Raises:
        EmptyEvaluation: there are fewer than ``LEAST_LABELS`` labels.
        InvalidConfig: the level is not between 0 and 1.
        InvalidScores: a chance is not a finite number, or the rows do not fit.

    Source: Angelopoulos et al. 2023, arXiv:2301.09633, with the power tuning of Angelopoulos, Duchi
    and Zrnic 2023, arXiv:2311.01453.
    """
    _check(chances, labelled, correct, level)
    others = np.delete(chances, labelled)
    n, m = len(others), len(labelled)
    seen, right = chances[labelled], correct.astype(np.float64)
    if n == 0 or right.min() == right.max():  # nothing to join, or no spread to go by
        plain = share_interval(int(right.sum()), m, level)
        value, low, high = plain.value, plain.low or 0.0, plain.high or 1.0
    else:
        power = _power(right, seen, chances, n)
        left = right - power * seen
        value = power * float(others.mean()) + float(left.mean())
        variance = power**2 * float(others.var()) / n + float(left.var(ddof=1)) / m
        reach = NormalDist().inv_cdf((1.0 + level) / 2.0) * math.sqrt(variance)
        low, high = value - reach, value + reach
    value, low, high = (min(max(end, 0.0), 1.0) for end in (value, low, high))
    return AccuracyEstimate(
        papers=len(chances), labels=m, value=value, low=low, high=high, level=level,
        reference=reference,
    )  # fmt: skip


def _power(right: Floats, seen: Floats, chances: Floats, others: int) -> float:
    """Return the weight of the estimates that makes the interval narrowest, 0..1."""
    spread = float(chances.var())
    if spread == 0.0:
        return 0.0
    covariance = float(np.cov(right, seen)[0, 1])
    return min(max(covariance / ((1.0 + len(right) / others) * spread), 0.0), 1.0)


def _check(
    chances: Floats, labelled: NDArray[np.integer[Any]], correct: NDArray[np.bool_], level: float
) -> None:
    if not 0.0 < level < 1.0:
        raise InvalidConfig(f"level must be between 0 and 1 (both excluded), got {level}.")
    if not np.isfinite(chances).all():
        raise InvalidScores(
            f"{int((~np.isfinite(chances)).sum())} of {len(chances)} chances are not finite "
            "numbers. Leave these papers out."
        )
    if len(labelled) < LEAST_LABELS:
        raise EmptyEvaluation(
            f"{len(labelled)} of {len(chances)} papers have labels; joining them with estimates "
            f"needs {LEAST_LABELS}. Wait for more labels."
        )
    known = np.unique(labelled)
    if len(known) != len(correct) or len(known) != len(labelled) or known[-1] >= len(chances):
        raise InvalidScores(
            f"{len(correct)} labels for {len(known)} different rows up to {known[-1]} of "
            f"{len(chances)} papers. Give one label for each labelled row."
        )


def lasting_bounds(right: int, labels: int, alpha: float = 0.05) -> tuple[float, float]:
    """Return bounds of the accuracy that hold at every moment together, each with 1 - alpha / 2.

    Args:
        right: labels that agree with the first category.
        labels: all labels so far.
        alpha: chance that the accuracy is ever outside of them, however often one looks.

    Source: Waudby-Smith and Ramdas 2023, arXiv:2010.09686 (betting confidence sequences).
    """
    wanted = math.log(2.0 / alpha)
    low = _lower_bound(right, labels, wanted)
    return low, 1.0 - _lower_bound(labels - right, labels, wanted)


def _lower_bound(hits: int, n: int, wanted: float) -> float:
    """Return the largest mean that the evidence excludes, 0 if it excludes none."""
    below, above = 0.0, hits / n if n else 0.0
    for _ in range(_STEPS):
        middle = (below + above) / 2
        is_excluded = mean_evidence(hits, 0, n - hits, middle) >= wanted
        below, above = (middle, above) if is_excluded else (below, middle)
    return below


def tolerated_accuracy(right: int, papers: int, tolerance: float, alpha: float) -> float:
    """Return the accuracy below which there is an alarm: the least that the reference may have.

    Args:
        right: papers of the reference whose first category is right.
        papers: of the reference.
        tolerance: by how much the accuracy may be lower, 0..1.
        alpha: share of false alarms; half of it is spent here, half on the labels.

    Source: Podkopaev and Ramdas 2022, arXiv:2110.06177.
    """
    least = share_interval(right, papers, 1.0 - alpha).low or 0.0
    return max(least - tolerance, 0.0)


def loss_evidence(correct: NDArray[np.bool_], bound: float) -> Floats:
    """Return the evidence that the accuracy has fallen below a bound, after each label.

    As long as the accuracy is at least the bound, the chance that the evidence ever exceeds
    log(1 / a) is at most a (Ville), over an unlimited stream. A process of bets begins every 50
    labels, so a fall that comes late is not hidden by what was right before.

    Args:
        correct: bool [n], in the order of arrival.
        bound: accuracy that is tolerated, 0..1.

    Returns:
        float64 [n], logarithms.

    Source: Waudby-Smith and Ramdas 2023, arXiv:2010.09686; the sum over beginnings is that of
    Shin, Ramdas and Rinaldo 2022, arXiv:2203.03532, with weights 1 / (j (j + 1)), whose sum is 1.
    """
    error = max(1.0 - bound, 1e-9)
    stakes = np.array(BETS) / error
    gains = {True: np.log1p(-stakes * error), False: np.log1p(stakes * (1.0 - error))}
    running = np.full(len(BETS), -np.inf)
    evidence = np.empty(len(correct))
    still_to_begin = 0.0
    for i, is_right in enumerate(correct.tolist()):
        if i % _BEGIN_EVERY == 0:
            j = i // _BEGIN_EVERY + 1
            running = np.logaddexp(running, -math.log(j * (j + 1)))
            still_to_begin = -math.log(j + 1)
        running = running + gains[is_right]
        total = np.logaddexp.reduce(running) - math.log(len(BETS))
        evidence[i] = np.logaddexp(total, still_to_begin)
    return evidence


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelWatch:
    """The labels that a watch has counted, each once, in the order in which they arrived.

    Attributes:
        begun_at_utc: when it began.
        first: id of the oldest prediction that counts, "" for any.
        ids: uint64 [n], digests of the ids of the predictions.
        correct: bool [n], whether the first category of the text alone was right.
    """

    begun_at_utc: str
    first: str
    ids: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    correct: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    def is_new(self, prediction_ids: Sequence[str]) -> NDArray[np.bool_]:
        """Return which predictions it has not counted: bool [m]."""
        return np.isin(_digests(prediction_ids), self.ids, invert=True)

    def counting(self, prediction_ids: Sequence[str], correct: NDArray[np.bool_]) -> LabelWatch:
        """Return the watch after labels that are new to it, in the order of arrival.

        Args:
            prediction_ids: m of them.
            correct: bool [m].
        """
        return replace(
            self,
            ids=np.concatenate([self.ids, _digests(prediction_ids)]),
            correct=np.concatenate([self.correct, correct]),
        )

    def state(self, reference: NDArray[np.bool_], tolerance: float, alpha: float) -> LabelState:
        """Return what the labels say so far.

        Args:
            reference: bool [r], whether the first category of each paper of it is right.
            tolerance: accuracy that may be lost, 0..1.
            alpha: share of false alarms, half of it for the labels and half for the reference.
        """
        bound = tolerated_accuracy(int(reference.sum()), len(reference), tolerance, alpha)
        evidence = loss_evidence(self.correct, bound)
        right, n = int(self.correct.sum()), len(self.correct)
        low, high = lasting_bounds(right, n)
        return LabelState(
            n=n, begun_at_utc=self.begun_at_utc, right=right, low=low, high=high, tolerated=bound,
            p_value=min(1.0, 2.0 * math.exp(-float(evidence.max(initial=0.0)))),
        )  # fmt: skip


def _digests(prediction_ids: Iterable[str]) -> NDArray[np.uint64]:
    digests = (blake2b(one.encode(), digest_size=8).digest() for one in prediction_ids)
    return np.array([int.from_bytes(one) for one in digests], dtype=np.uint64)
