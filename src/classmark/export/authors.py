"""The author table of a bundle, counted from training papers; no name is in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classmark.export.perfect_hash import build_perfect_hash
from classmark.kernels.authors import (
    CROSS_LISTED,
    FADING_YEARS,
    LAST_PERIOD,
    MOST_AUTHORS,
    N_FEATURES,
    PERIOD_YEARS,
    AuthorArrays,
    column_type,
    expand,
)
from classmark.kernels.featuriser import hash_texts
from classmark.kernels.linear import fingerprint
from classmark.papers.authors import author_keys

Ints = NDArray[np.int64]
_HASHED_PAPERS = 5_000
_MOST_ENTRIES = (1 << 16) - 1
"""Of one name, and most names of one slot."""
_MOST_COUNT = 255


@dataclass(frozen=True, kw_only=True)
class CountedPapers:
    """What n training papers are counted by.

    Attributes:
        authors: names of each paper.
        years: int [n], 0 if unknown: the paper is not counted.
        listed_indptr, listed_indices: columns of all listed labels, the primary first.
        n_labels: k.
    """

    authors: Iterable[Sequence[str]]
    years: NDArray[np.integer]
    listed_indptr: NDArray[np.int64]
    listed_indices: NDArray[np.int16]
    n_labels: int


def count_authors(papers: CountedPapers, max_entries: int) -> tuple[AuthorArrays, int] | None:
    """Return the table and the first year of its first period; None if no paper has an author.

    The profile is still to be fitted, it is zero.

    Args:
        papers: to count.
        max_entries: entries to keep; the names that say least today go first.
    """
    paper, initials, names = _hash_authors(papers)
    dated = papers.years[paper] > 0
    paper, initials, names = paper[dated], initials[dated], names[dated]
    if not len(paper):
        return None
    first_year = int(papers.years[paper].min())
    slots = np.unique(initials)
    # A slot keeps 16 bits of a name: two names that share them count as one.
    slot = np.searchsorted(slots, initials)
    person = slot * (1 << 16) + fingerprint(names)
    person_of, entries, counts = _count(papers, paper, person, first_year)
    kept = _worth_keeping(person_of, entries, counts, max_entries)
    return _pack(slots, person_of[kept], entries[kept], counts[kept], papers), first_year


def _hash_authors(
    papers: CountedPapers,
) -> tuple[Ints, NDArray[np.uint64], NDArray[np.uint64]]:
    """Return paper, hash of the initials and hash of the name of each author of each paper."""
    owner: list[NDArray[np.int64]] = []
    initials: list[NDArray[np.uint64]] = []
    names: list[NDArray[np.uint64]] = []
    batch: list[tuple[int, str, str]] = []

    def hash_batch() -> None:
        owner.append(np.array([item[0] for item in batch], dtype=np.int64))
        initials.append(hash_texts([item[1].encode() for item in batch]))
        names.append(hash_texts([item[2].encode() for item in batch]))
        batch.clear()

    for i, authors in enumerate(papers.authors):
        found = dict.fromkeys(map(author_keys, authors[:MOST_AUTHORS]))
        batch += [(i, key.initial, key.full) for key in found if key is not None]
        if len(batch) >= _HASHED_PAPERS:
            hash_batch()
    hash_batch()
    return np.concatenate(owner), np.concatenate(initials), np.concatenate(names)


def _count(
    papers: CountedPapers, paper: Ints, person: Ints, first_year: int
) -> tuple[Ints, Ints, Ints]:
    """Return person, entry and count, sorted by both: an entry is label, listing and period."""
    first = papers.listed_indptr[paper]
    owner, place = expand(first, papers.listed_indptr[paper + 1] - first)
    labels = papers.listed_indices[place].astype(np.int64)
    period = (papers.years[paper[owner]].astype(np.int64) - first_year) // PERIOD_YEARS
    period = np.minimum(period, LAST_PERIOD) + np.where(place > first[owner], CROSS_LISTED, 0)
    entry = labels * 256 + period
    pair = np.stack([person[owner], entry])
    order = np.lexsort(pair[::-1])
    pair = pair[:, order]
    is_first = np.concatenate([[True], (pair[:, 1:] != pair[:, :-1]).any(axis=0)])
    starts = np.flatnonzero(is_first)
    counts = np.diff(np.append(starts, pair.shape[1]))
    return pair[0, starts], pair[1, starts], counts


def _worth_keeping(person: Ints, entries: Ints, counts: Ints, most: int) -> NDArray[np.bool_]:
    """Return the entries to keep: those of the names with the most recent papers."""
    kept = np.ones(len(person), dtype=np.bool_)
    if len(person) > most:
        _, name = np.unique(person, return_inverse=True)
        period = entries & LAST_PERIOD
        apart = (period.max() - period) * PERIOD_YEARS
        worth = np.bincount(name, weights=counts * np.exp(-apart / FADING_YEARS))
        order = np.argsort(-worth, kind="stable")
        sizes = np.bincount(name)[order]
        kept = np.isin(name, order[np.cumsum(sizes) <= most])
    # What 16 bits cannot count: nobody has that many.
    starts = np.flatnonzero(np.concatenate([[True], person[1:] != person[:-1]]))
    lengths = np.diff(np.append(starts, len(person)))
    rank = np.arange(len(person)) - np.repeat(starts, lengths)
    return kept & (rank < _MOST_ENTRIES)


def _pack(
    slots: NDArray[np.uint64], person: Ints, entries: Ints, counts: Ints, papers: CountedPapers
) -> AuthorArrays:
    """Return the arrays of a table from its entries, sorted by person."""
    people, n_entries = np.unique(person, return_counts=True)
    slot_of_person = people >> 16
    used, variants = np.unique(slot_of_person, return_counts=True)
    hashed = build_perfect_hash(slots[used])
    # Names and entries are stored in the order of the slots.
    place = np.empty(len(slots), dtype=np.int64)
    place[used] = hashed.slots
    order = np.argsort(place[slot_of_person] * (1 << 16) + (people & 0xFFFF), kind="stable")
    starts = np.cumsum(n_entries) - n_entries
    moved = np.concatenate([np.arange(starts[j], starts[j] + n_entries[j]) for j in order])
    initials = np.zeros(hashed.n_slots, dtype=np.uint16)
    initials[hashed.slots] = fingerprint(slots[used])
    per_slot = np.zeros(hashed.n_slots, dtype=np.uint16)
    per_slot[hashed.slots] = variants
    k = papers.n_labels
    return AuthorArrays(
        displacements=hashed.displacements,
        initials=initials,
        variants=per_slot,
        names=(people[order] & 0xFFFF).astype(np.uint16),
        n_entries=n_entries[order].astype(np.uint16),
        labels=(entries[moved] >> 8).astype(column_type(k)),
        periods=(entries[moved] & 0xFF).astype(np.uint8),
        counts=np.minimum(counts[moved], _MOST_COUNT).astype(np.uint8),
        profile=np.zeros((N_FEATURES * k, k), dtype=np.int16),
        prior=_log_prior(papers),
    )


def _log_prior(papers: CountedPapers) -> NDArray[np.float32]:
    """Return log of each label's share of the papers, one paper added to each: float32 [k]."""
    primaries = papers.listed_indices[papers.listed_indptr[:-1]]
    counts = np.bincount(primaries, minlength=papers.n_labels) + 1.0
    prior: NDArray[np.float32] = np.log(counts / counts.sum()).astype(np.float32)
    return prior
