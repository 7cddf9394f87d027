"""What the votes of a paper's authors are turned into before they are joined with the text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

ONE_PAPER = 1024
"""The weight of one paper of the same period."""
LISTINGS = 2
N_FEATURES = 6
"""Features a label: the logarithm of each kind of vote (by names and by initials, of primaries and
of cross-lists), and the shares of both primaries."""
_LOG_STEPS, _LOG_SHIFT, _LOG_ENTRIES = 256, 3, 4096
_SHARE_STEPS = 255

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Votes:
    """What the earlier papers of the authors of n papers say; k labels.

    Attributes:
        votes: int64 [n, 4, k], in 1/1024 papers: primaries and cross-lists by names, then both by
            initials.
        known: int64 [n, 2], authors with earlier papers, by name and by initial.
        authors: int64 [n], authors that were looked up.
        ages: int64 [n], periods from the paper to the newest one of the table; 0 for a later paper
            and for one of an unknown year.
    """

    votes: Ints
    known: Ints
    authors: Ints
    ages: Ints

    def features(self) -> NDArray[np.float64]:
        """Return whole numbers [n, 6 k]: logarithms of the votes, shares of the primaries."""
        n = len(self.votes)
        logs = logarithms()[np.minimum(self.votes >> _LOG_SHIFT, _LOG_ENTRIES - 1)]
        primaries = self.votes[:, ::LISTINGS]
        totals = np.maximum(primaries.sum(axis=2, keepdims=True), 1)
        shares = primaries * _SHARE_STEPS // totals
        both = np.concatenate([logs, shares], axis=1)
        return both.reshape(n, both.shape[1] * both.shape[2]).astype(np.float64)

    def evidence(self, profile: NDArray[np.int16]) -> AuthorEvidence:
        """Return what the votes say by a profile."""
        # Products of whole numbers below 2^53: exact in any order.
        sums = self.features() @ profile.astype(np.float64)
        papers = self.votes[:, ::LISTINGS].sum(axis=2)
        return AuthorEvidence(sums, papers, self.known, self.authors, self.ages)

    def rows(self, rows: NDArray[np.intp]) -> Votes:
        """Return the votes of some papers."""
        return Votes(self.votes[rows], self.known[rows], self.authors[rows], self.ages[rows])


@dataclass(frozen=True, eq=False)
class AuthorEvidence:
    """What the authors of n papers say; whole numbers, the same from the C kernel and from numpy.

    Attributes:
        sums: float64 [n, k], features times profile.
        papers: int64 [n, 2], sum of the votes of primaries, by names and by initials.
        known: as in ``Votes``.
        authors: the same.
        ages: the same.
    """

    sums: NDArray[np.float64]
    papers: Ints
    known: Ints
    authors: Ints
    ages: Ints

    def rows(self, rows: NDArray[np.intp]) -> AuthorEvidence:
        """Return what some of the papers' authors say."""
        counts = (self.papers[rows], self.known[rows], self.authors[rows], self.ages[rows])
        return AuthorEvidence(self.sums[rows], *counts)


@lru_cache(maxsize=1)
def logarithms() -> Ints:
    """Return log(1 + 4 papers) in 1/256, by votes in steps of 1/128 paper."""
    papers = (np.arange(_LOG_ENTRIES) << _LOG_SHIFT) / ONE_PAPER
    return np.array([round(_LOG_STEPS * math.log1p(4 * p)) for p in papers], dtype=np.int64)
