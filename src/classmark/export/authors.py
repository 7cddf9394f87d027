"""The author table of a bundle, counted from training papers; no name is in it.

An author can be taken out again: ``forget_authors`` writes a bundle without some.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classmark.bundle import Bundle, write_bundle
from classmark.bundle.files import CARD_FILE
from classmark.bundle.manifest import read_measured_bytes
from classmark.errors import NotFound, Refused
from classmark.export.perfect_hash import build_perfect_hash
from classmark.kernels.authors import (
    CROSS_LISTED,
    FADING_YEARS,
    LAST_PERIOD,
    MOST_AUTHORS,
    PERIOD_YEARS,
    AuthorArrays,
    AuthorTable,
    column_type,
    expand,
)
from classmark.kernels.featuriser import hash_texts
from classmark.kernels.joining import load_join
from classmark.kernels.linear import fingerprint
from classmark.kernels.votes import N_FEATURES
from classmark.papers.authors import MAX_NAME_CHARS, author_keys
from classmark.records import BundleManifest
from classmark.storage import check_apart

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


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What a bundle has lost.

    Attributes:
        manifest: of the new bundle.
        names: that were removed.
        entries: of these.
        sharing: names that stay and share surname and first initial with a removed one.
    """

    manifest: BundleManifest
    names: int
    entries: int
    sharing: int


def forget_authors(
    bundle: Bundle, names: Sequence[str], folder: Path, *, name: str, version: str, overwrite: bool
) -> Forgotten:
    """Write a bundle without the entries of some authors.

    The entries behind all words of a name go, and with them what they added to its initials. The
    entries of other names with these initials stay.

    Args:
        bundle: with a table of authors.
        names: to forget, each as papers spell it.
        folder: the bundle to write.
        name: of the new bundle.
        version: of the new bundle.
        overwrite: replace a bundle that exists.

    Raises:
        NotFound: the bundle has no table, or one without one of the names; nothing is written.
        Refused: nobody else would be left.
        StorageFailed: the folder cannot be written, or is the bundle itself.
    """
    check_apart((folder,), (bundle.path,))
    join = load_join(bundle)
    if join is None:
        raise NotFound(
            f"model {bundle.manifest.name} {bundle.manifest.version} has no table of authors: "
            "there is nobody to forget."
        )
    arrays, first_year = join.arrays, join.table.first_year
    entries, slots = 0, set[int]()
    authors = {author_keys(author): author for author in names}
    for author in authors.values():
        slot, place = _place(arrays, first_year, author)
        entries += int(arrays.n_entries[place])
        slots.add(slot)
        arrays = _without(arrays, slot, place)
    others = {n: array for n, array in bundle.arrays.items() if n not in arrays.arrays()}
    manifest = write_bundle(
        folder,
        _renamed(bundle, name, version, len(authors)),
        {**others, **arrays.arrays()},
        {**bundle.contents, **_card(bundle, name, version, len(authors))},
        overwrite=overwrite,
        measured=read_measured_bytes(bundle.path),
    )
    sharing = int(arrays.variants[sorted(slots)].sum())
    return Forgotten(manifest=manifest, names=len(authors), entries=entries, sharing=sharing)


def _place(arrays: AuthorArrays, first_year: int, name: str) -> tuple[int, int]:
    """Return slot and place of a name.

    Raises:
        NotFound: the table does not know the name.
        Refused: nobody else would be left.
    """
    slot, place = AuthorTable(arrays, first_year).place(name)
    if place < 0:
        sharing = int(arrays.variants[slot]) if slot >= 0 else 0
        raise NotFound(
            f"the table of authors does not know {name[:MAX_NAME_CHARS]!r}; {sharing} other names "
            "share surname and first initial. Spell the name as papers do, in quotation marks."
        )
    if len(arrays.names) == 1:
        raise Refused(
            f"{name[:MAX_NAME_CHARS]!r} is the only name in the table. Train again with "
            "model.max_author_entries=0, and export that run."
        )
    return slot, place


def _without(arrays: AuthorArrays, slot: int, place: int) -> AuthorArrays:
    """Return a table without a name; what it says of all others is the same to the last bit."""
    ends = np.cumsum(arrays.n_entries, dtype=np.int64)
    entries = np.arange(ends[place] - arrays.n_entries[place], ends[place])
    variants, initials = arrays.variants.copy(), arrays.initials.copy()
    variants[slot] -= 1
    initials[slot] *= variants[slot] > 0
    kept = replace(
        arrays,
        variants=variants,
        initials=initials,
        names=np.delete(arrays.names, place),
        n_entries=np.delete(arrays.n_entries, place),
        labels=np.delete(arrays.labels, entries),
        periods=np.delete(arrays.periods, entries),
        counts=np.delete(arrays.counts, entries),
    )
    return _with_newest(kept, int((arrays.periods & LAST_PERIOD).max()))


def _with_newest(arrays: AuthorArrays, newest: int) -> AuthorArrays:
    """Return a table whose newest period is this one; an entry of no paper keeps it.

    Papers without a year are counted from there.
    """
    if int((arrays.periods & LAST_PERIOD).max()) == newest:
        return arrays
    n_entries = arrays.n_entries.copy()
    n_entries[0] += 1
    return replace(
        arrays,
        n_entries=n_entries,
        labels=np.insert(arrays.labels, 0, 0),
        periods=np.insert(arrays.periods, 0, newest),
        counts=np.insert(arrays.counts, 0, 0),
    )


def _renamed(bundle: Bundle, name: str, version: str, n: int) -> BundleManifest:
    manifest = bundle.manifest
    forgotten = {"authors": n, "model": f"{manifest.name}@{manifest.version}"}
    provenance = {**manifest.provenance, "forgotten": {**forgotten, "digest": bundle.digest}}
    return replace(manifest, name=name, version=version, provenance=provenance)


def _card(bundle: Bundle, name: str, version: str, n: int) -> dict[str, str]:
    """Return the card under its new title, with a note; nothing if the bundle has none."""
    if CARD_FILE not in bundle.contents:
        return {}
    old = f"{bundle.manifest.name} {bundle.manifest.version}"
    text = bundle.contents[CARD_FILE].decode(errors="replace")
    note = (
        f"## Forgotten authors\n\n{n} of the table of {old} (digest {bundle.digest[:16]}). "
        "All numbers were measured before."
    )
    return {CARD_FILE: f"{text.replace(f'# {old}', f'# {name} {version}', 1)}\n{note}\n"}
