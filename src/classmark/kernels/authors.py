"""What earlier papers of a paper's authors were about: the author table of a bundle.

The table holds no name. A name has two keys (``papers.authors``): all its words, and surname with
first initial. A perfect hash sends the second to a slot, as in ``linear.py``; behind each slot are
the names that share it, and behind each name its papers counted by label, listing and period.

A paper's *votes* are those counts, each weighted by exp(-years apart / 4); papers of later periods
than the paper itself count nothing, and no author counts more than three papers. All sums are of
whole numbers, so that no order of them matters: ``c/authors.h`` does the same, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.kernels.featuriser import KERNEL, hash_texts
from classmark.kernels.linear import bucket_of, fingerprint, slot_of
from classmark.papers.authors import AuthorKeys, author_keys, latin_letters

PERIOD_YEARS = 2
FADING_YEARS = 4
"""A paper counts exp(-years apart / 4)."""
ONE_PAPER = 1024
"""The weight of one paper of the same period."""
MOST_AUTHORS = 200
"""Of a paper with more authors, these first ones count."""
CROSS_LISTED = 0x80
"""Set in a period's byte where the label was a cross-list, not the primary."""
LAST_PERIOD = CROSS_LISTED - 1

_CAP = 3 * ONE_PAPER
_WHOLE = 1 << 16
_LOG_STEPS, _LOG_SHIFT, _LOG_ENTRIES = 256, 3, 4096
_SHARE_STEPS = 255
_KEPT_NAMES = 1 << 16

Ints = NDArray[np.int64]
_LISTINGS = 2
N_VOTES = 4
"""Kinds of votes: by names and by initials, of primaries and of cross-lists."""
N_FEATURES = 6
"""Features a label: the logarithm of each kind of vote, the shares of both primaries."""


@dataclass(frozen=True, eq=False)
class AuthorArrays:
    """A table of s slots, b buckets, v names and e entries, and the profile over k labels.

    Attributes:
        displacements: uint16 [b], of the perfect hash.
        initials: uint16 [s], fingerprint of surname and first initial, 0 for a free slot.
        variants: uint16 [s], how many names share the slot.
        names: uint16 [v], fingerprint of each name, slot after slot.
        n_entries: uint16 [v], entries of each name.
        labels: uint8 [e], uint16 for more than 256 labels: column of each entry.
        periods: uint8 [e], periods since ``first_year``; ``CROSS_LISTED`` is set on cross-lists.
        counts: uint8 [e], papers.
        profile: int16 [6 k, k], what a feature adds to a label.
        prior: float32 [k], logarithm of the label's share of the training papers.
    """

    displacements: NDArray[np.uint16]
    initials: NDArray[np.uint16]
    variants: NDArray[np.uint16]
    names: NDArray[np.uint16]
    n_entries: NDArray[np.uint16]
    labels: NDArray[np.unsignedinteger[Any]]
    periods: NDArray[np.uint8]
    counts: NDArray[np.uint8]
    profile: NDArray[np.int16]
    prior: NDArray[np.float32]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what a bundle keeps as arrays, by name."""
        return {f"author_{field.name}": getattr(self, field.name) for field in fields(self)}


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
        logs = _logarithms()[np.minimum(self.votes >> _LOG_SHIFT, _LOG_ENTRIES - 1)]
        primaries = self.votes[:, ::_LISTINGS]
        totals = np.maximum(primaries.sum(axis=2, keepdims=True), 1)
        shares = primaries * _SHARE_STEPS // totals
        both = np.concatenate([logs, shares], axis=1)
        return both.reshape(n, -1).astype(np.float64)

    def said(self, profile: NDArray[np.int16]) -> Said:
        """Return what the votes say by a profile."""
        # Products of whole numbers below 2^53: exact in any order.
        sums = self.features() @ profile.astype(np.float64)
        papers = self.votes[:, ::_LISTINGS].sum(axis=2)
        return Said(sums, papers, self.known, self.authors, self.ages)

    def rows(self, rows: NDArray[np.intp]) -> Votes:
        """Return the votes of some papers."""
        return Votes(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Said:
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

    def rows(self, rows: NDArray[np.intp]) -> Said:
        """Return what some of the papers' authors say."""
        return Said(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class _Lookups:
    """The authors of n papers: occurrence j is of paper ``owner[j]``.

    ``slots`` is -1 for an author that the table does not know, ``names`` for a name it does not.
    """

    n_papers: int
    owner: Ints
    slots: Ints
    names: Ints


class AuthorTable:
    """Finds authors in the arrays of a bundle; may be shared by threads.

    Attributes:
        arrays: those it looks into.
        n_labels: k.
        first_year: the first one of period 0.
    """

    def __init__(self, arrays: AuthorArrays, first_year: int, *, use_kernel: bool = True) -> None:
        self.n_labels = len(arrays.prior)
        self.first_year = first_year
        self.arrays = arrays
        self._first_name = _starts(arrays.variants)
        self._first_entry = _starts(arrays.n_entries)
        newest = int((arrays.periods & LAST_PERIOD).max(initial=0))
        self._newest = newest
        self._fading = _fading()
        self._kernel: Any = KERNEL if use_kernel else None
        is_cross_list = arrays.periods >= CROSS_LISTED
        self._places = arrays.labels + np.uint16(self.n_labels) * is_cross_list

    def said(self, authors: Sequence[Sequence[str]], years: NDArray[np.integer[Any]]) -> Said:
        """Return what the authors of n papers say; arguments as for ``votes``."""
        if self._kernel is None or not authors:
            return self.votes(authors, years).said(self.arrays.profile)
        return self._said_in_c([tuple(names) for names in authors], self._periods_of(years))

    def _said_in_c(self, authors: list[tuple[str, ...]], periods: Ints) -> Said:
        a, n = self.arrays, len(authors)
        facts = np.empty((n, 5), dtype=np.int64)
        sums = np.empty((n, self.n_labels), dtype=np.float64)
        self._kernel.authors(
            _latin(),
            *(a.displacements, a.initials, a.names, self._first_name, self._first_entry),
            *(self._places, a.periods, a.counts, a.profile),
            *(_fading_by_byte(), _logarithms()),
            *(periods, facts, sums, authors, _keys),
        )
        return Said(sums, facts[:, 3:], facts[:, 1:3], facts[:, 0], self._ages(periods))

    def votes(
        self,
        authors: Sequence[Sequence[str]],
        years: NDArray[np.integer[Any]],
        *,
        own: Sequence[NDArray[np.int16]] | None = None,
    ) -> Votes:
        """Return the votes of n papers.

        Args:
            authors: names of each paper.
            years: int [n], of the first version, 0 if unknown: then all papers count.
            own: the columns of each paper, its primary first, if the papers are in the table:
                their own entries are left out.
        """
        found = self._look_up(authors)
        periods = self._periods_of(years)
        period = periods[found.owner]
        levels = [
            self._count(found, entries, period, None if own is None else _own(found, own, level))
            for level, entries in enumerate(self._ranges(found))
        ]
        votes = np.concatenate([counted for counted, _ in levels], axis=1)
        known = np.stack([n for _, n in levels], axis=1)
        n_authors = np.bincount(found.owner, minlength=found.n_papers)
        return Votes(votes, known, n_authors, self._ages(periods))

    def _ages(self, periods: Ints) -> Ints:
        return np.maximum(self._newest - periods, 0)

    def _periods_of(self, years: NDArray[np.integer[Any]]) -> Ints:
        periods = (years.astype(np.int64) - self.first_year) // PERIOD_YEARS
        return np.where(years > 0, periods, self._newest)

    def _look_up(self, authors: Sequence[Sequence[str]]) -> _Lookups:
        """Return where the authors of papers are; names that are one, once."""
        owner: list[int] = []
        keys: list[AuthorKeys] = []
        for paper, listed in enumerate(authors):
            found = dict.fromkeys(map(_keys, listed[:MOST_AUTHORS]))
            found.pop(None, None)
            keys += [key for key in found if key is not None]
            owner += [paper] * len(found)
        a = self.arrays
        hashes = hash_texts([key.initial.encode() for key in keys])
        slots = slot_of(
            hashes,
            a.displacements[bucket_of(hashes, len(a.displacements))],
            len(a.initials),
        )
        slots = np.where(a.initials[slots] == fingerprint(hashes), slots, -1).astype(np.int64)
        names = self._find_names(slots, hash_texts([key.full.encode() for key in keys]))
        return _Lookups(len(authors), np.array(owner, dtype=np.int64), slots, names)

    def _find_names(self, slots: Ints, hashes: NDArray[np.uint64]) -> Ints:
        """Return where each name is among those of its slot, -1 if it is not there."""
        wanted = fingerprint(hashes)
        first = self._first_name[slots]
        length = np.where(slots >= 0, self._first_name[slots + 1] - first, 0)
        occurrence, place = expand(first, length)
        fits = np.flatnonzero(self.arrays.names[place] == wanted[occurrence])[::-1]
        names = np.full(len(slots), -1, dtype=np.int64)
        names[occurrence[fits]] = place[fits]
        return names

    def _ranges(self, found: _Lookups) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
        """Return first entry and end of each occurrence: of its name, and of its initials."""
        entries, names, slots = self._first_entry, found.names, found.slots
        by_name = entries[names], np.where(names >= 0, entries[names + 1], entries[names])
        first = entries[self._first_name[slots]]
        by_slot = first, np.where(slots >= 0, entries[self._first_name[slots + 1]], first)
        return by_name, by_slot

    def _count(
        self, found: _Lookups, entries: tuple[Ints, Ints], period: Ints, own: _Own | None
    ) -> tuple[Ints, Ints]:
        """Return the votes of each paper, int64 [n, 2, k], and how many authors have any: [n].

        Args:
            found: the authors.
            entries: first entry and end of each.
            period: of the paper of each.
            own: what is left out.
        """
        a, k = self.arrays, self.n_labels
        first, end = entries
        occurrence, entry = expand(first, end - first)
        apart = period[occurrence] - (a.periods[entry] & LAST_PERIOD)
        weight = self._fading[np.clip(apart, -1, len(self._fading) - 2)] * a.counts[entry]
        is_cross_list = a.periods[entry] >= CROSS_LISTED
        total = _bincount(occurrence, weight * ~is_cross_list, len(first))
        if own is not None:
            total -= own.times * ONE_PAPER
        share = np.where(total > 0, np.minimum(_WHOLE, (_CAP * _WHOLE) // np.maximum(total, 1)), 0)
        column = (found.owner[occurrence] * _LISTINGS + is_cross_list) * k + a.labels[entry]
        size = found.n_papers * _LISTINGS * k
        sums = _bincount(column, weight * share[occurrence], size)
        if own is not None:
            columns, occurrences = own.columns(k)
            left_out = (own.times * ONE_PAPER * share)[occurrences]
            sums = np.maximum(sums - _bincount(columns, left_out, size), 0)
        known = _bincount(found.owner, total > 0, found.n_papers)
        return (sums // _WHOLE).reshape(-1, _LISTINGS, k), known


@dataclass(frozen=True, eq=False)
class _Own:
    """The entries that the papers themselves have put into the table.

    Author j has put them there ``times[j]`` times; it is of paper ``owner[j]``, whose columns are
    ``listed[owner[j]]``.
    """

    times: Ints
    owner: Ints
    listed: Sequence[NDArray[np.int16]]

    def columns(self, k: int) -> tuple[Ints, Ints]:
        """Return column of the votes and author of each entry."""
        length = np.array([len(columns) for columns in self.listed], dtype=np.int64)
        flat = np.concatenate(self.listed).astype(np.int64)
        starts = np.cumsum(length) - length
        author, place = expand(starts[self.owner], length[self.owner])
        listing = (place != starts[self.owner][author]).astype(np.int64)
        return (self.owner[author] * _LISTINGS + listing) * k + flat[place], author


def column_type(k: int) -> type[np.uint8] | type[np.uint16]:
    """Return the smallest type that holds the columns of k labels."""
    return np.uint8 if k <= 1 << 8 else np.uint16


def _own(found: _Lookups, own: Sequence[NDArray[np.int16]], level: int) -> _Own:
    """Return what to leave out by names (level 0) or by initials (level 1)."""
    if level == 0:
        times = (found.names >= 0).astype(np.int64)
    else:  # two authors who share their initials have put the paper there twice
        pairs = np.stack([found.owner, found.slots], axis=1)
        _, inverse, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
        times = np.where(found.slots >= 0, counts[inverse.reshape(-1)], 0)
    return _Own(times, found.owner, own)


def _bincount(places: Ints, weights: NDArray[Any], size: int) -> Ints:
    """Return sums of whole numbers below 2^53, which float64 adds exactly: int64 [size]."""
    return np.bincount(places, weights=weights, minlength=size).astype(np.int64)


def expand(first: Ints, length: Ints) -> tuple[Ints, Ints]:
    """Return (range, place) of every place in ranges that begin at ``first``."""
    owner = np.repeat(np.arange(len(first)), length)
    before = np.cumsum(length) - length
    return owner, np.arange(len(owner)) - before[owner] + first[owner]


def _starts(lengths: NDArray[np.integer[Any]]) -> Ints:
    """Return where each part begins and the last one ends, [n + 1]; place -1 is that end."""
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


@lru_cache(maxsize=_KEPT_NAMES)
def _keys(name: str) -> AuthorKeys | None:
    return author_keys(name)


def _fading() -> Ints:
    """Return the weight of a paper by periods apart; the last one is that of a later paper, 0."""
    years = np.arange(LAST_PERIOD + 1) * PERIOD_YEARS
    weights = np.array([round(ONE_PAPER * math.exp(-year / FADING_YEARS)) for year in years])
    return np.append(weights, 0).astype(np.int64)


@lru_cache(maxsize=1)
def _fading_by_byte() -> NDArray[np.int32]:
    """Return the weight of a paper by period of the answered one and byte of ``periods``.

    int32 [256, 256]: the first row is of period -1 and before, the last one of 254 and after. The
    weights of cross-lists are 0.
    """
    apart = np.arange(-1, 255)[:, None] - np.arange(CROSS_LISTED)
    weights = _fading()[np.clip(apart, -1, LAST_PERIOD)]
    return np.concatenate([weights, np.zeros_like(weights)], axis=1).astype(np.int32)


@lru_cache(maxsize=1)
def _latin() -> bytes:
    return latin_letters()


@lru_cache(maxsize=1)
def _logarithms() -> Ints:
    """Return log(1 + 4 papers) in 1/256, by votes in steps of 1/128 paper."""
    papers = (np.arange(_LOG_ENTRIES) << _LOG_SHIFT) / ONE_PAPER
    return np.array([round(_LOG_STEPS * math.log1p(4 * p)) for p in papers], dtype=np.int64)
