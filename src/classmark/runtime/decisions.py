"""What the policy decided on papers, as arrays: answers and lines are made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from classmark.kernels.featuriser import KERNEL
from classmark.wire import NoSetReason, Reason

REASONS: tuple[Reason, ...] = ("accepted", "below_threshold", "out_of_scope")
ACCEPTED, BELOW_THRESHOLD, OUT_OF_SCOPE = range(3)

MOST_INSERTED = 128
"""Labels of a paper that the C kernel puts in order by insertion; it would be slow for more."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Decisions:
    """What the policy decided on n papers, as arrays; k labels, a archives, g groups.

    Only the labels that an answer can name are put in order, m of them: of each paper the most
    probable ones, and all that its set or its cross lists could hold.

    Attributes:
        probabilities: float64 [n, k], calibrated; each row sums to 1.
        columns: intp [m], the named labels, paper after paper, by falling probability, equal ones
            in label order.
        falling: float64 [m], their probabilities.
        starts: intp [n + 1], where the labels of each paper begin, and where the last ones end.
        reasons: int8 [n], index into the reasons of an answer.
        cross_listed: bool [m], labels beside an accepted primary.
        in_set: bool [m], the prediction set; never empty.
        has_set: bool [n], the set is published: the text is in scope, of enough known terms.
        archives: float64 [n, a], sums of probabilities.
        groups: float64 [n, g], sums of the archives.
    """

    probabilities: Floats
    columns: NDArray[np.intp]
    falling: Floats
    starts: NDArray[np.intp]
    reasons: NDArray[np.int8]
    cross_listed: Mask
    in_set: Mask
    has_set: Mask
    archives: Floats
    groups: Floats

    @property
    def accepted(self) -> Mask:
        """Bool [n], the top label is the primary."""
        return np.asarray(self.reasons == ACCEPTED)

    @property
    def out_of_scope(self) -> Mask:
        """Bool [n], not like the papers that the model knows."""
        return np.asarray(self.reasons == OUT_OF_SCOPE)

    @property
    def first(self) -> NDArray[np.intp]:
        """Intp [n], the most probable label of each paper."""
        return self.columns[self.starts[:-1]]

    def ranked(self, top: int) -> NDArray[np.intp]:
        """Return where the ``top`` most probable labels of each paper are in ``columns``: [n, top].

        Args:
            top: at most as many as were asked for, and at most k.
        """
        return self.starts[:-1, None] + np.arange(top)

    def selected(self, mask: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the named labels that a mask [m] chooses, and where each paper's end: intp [n]."""
        ends = np.concatenate(([0], np.cumsum(mask)))[self.starts[1:]]
        return self.columns[mask], ends

    @property
    def published_set(self) -> Mask:
        """Bool [m], the prediction sets that are published."""
        return self.in_set & np.repeat(self.has_set, np.diff(self.starts))

    def no_set_reasons(self) -> list[NoSetReason | None]:
        """Return why each paper has no published set; None where it has one."""
        pairs = zip(self.has_set.tolist(), self.reasons.tolist(), strict=True)
        return [None if has_set else why_no_set(reason) for has_set, reason in pairs]

    def named(self) -> Decisions:
        """Return the decisions without the probabilities of all k labels, which may be 10,000."""
        return replace(self, probabilities=self.probabilities[:, :0].copy())


def why_no_set(reason: int) -> NoSetReason:
    """Return why a paper of this reason that has no published set has none."""
    return "out_of_scope" if reason == OUT_OF_SCOPE else "few_known_terms"


def in_order(
    probabilities: Floats, top: int, cutoff: float
) -> tuple[NDArray[np.intp], Floats, NDArray[np.intp]]:
    """Return ``columns``, ``falling`` and ``starts`` of the decisions on n papers.

    Args:
        probabilities: float64 [n, k].
        top: how many of each paper to name at least; more than k gives all.
        cutoff: all of this probability or a higher one are named.
    """
    n, k = probabilities.shape
    if KERNEL is not None and top <= MOST_INSERTED and cutoff * MOST_INSERTED >= 1:
        columns, falling = np.empty(n * k + 1, dtype=np.int64), np.empty(n * k + 1)
        starts = np.empty(n + 1, dtype=np.int64)
        ordered = np.ascontiguousarray(probabilities)  # scores of a cascade may be in another order
        KERNEL.order(ordered, columns, falling, starts, top, cutoff)
        m = int(starts[-1])
        return columns[:m].astype(np.intp), falling[:m].copy(), starts.astype(np.intp, copy=False)
    return in_order_in_numpy(probabilities, top, cutoff)


def in_order_in_numpy(
    probabilities: Floats, top: int, cutoff: float
) -> tuple[NDArray[np.intp], Floats, NDArray[np.intp]]:
    """Return the same, and perhaps further labels as probable as the last one: the reference."""
    n, k = probabilities.shape
    least = np.full(n, cutoff)
    if top < k:  # the others need not be sorted for the last of the first ones to be found
        np.minimum(np.partition(probabilities, k - top, axis=1)[:, k - top], cutoff, out=least)
    else:
        least[:] = 0.0
    rows, columns = np.nonzero(probabilities >= least[:, None])
    falling = probabilities[rows, columns]
    order = np.lexsort((-falling, rows))
    starts = np.zeros(n + 1, dtype=np.intp)
    np.cumsum(np.bincount(rows, minlength=n), out=starts[1:])
    return columns[order], falling[order], starts
