"""Builds an index, adds papers and removes them; a folder is replaced as a whole, or not at all."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from classmark.bundle import write_array
from classmark.errors import NotFound, TrainingFailed
from classmark.neighbours.evidence import EvidenceWeights
from classmark.neighbours.index import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    Arrays,
    Index,
    IndexManifest,
    array_file,
    joined_starts,
)
from classmark.neighbours.rows import (
    Bits,
    Floats,
    find_centroids,
    inverse_lengths,
    lists_for,
    lists_of,
    quantise,
    row_bytes,
)
from classmark.papers import RECIPE_VERSION
from classmark.storage import (
    atomic_file,
    atomic_folder,
    check_folder_place,
    locked_folder,
    sha256_file,
    target_of,
    write_text,
)
from classmark.wire import ModelRef

GROWTH = 1.4
"""Lists that are so many times too few or too many are found again: after twice the rows."""
_MOST_CODES = 1 << 16


@dataclass(frozen=True)
class Entry:
    """What an index keeps of a paper beside its row.

    Attributes:
        id: names it; a later paper of the same id replaces it.
        year: of its first version, 0 if unknown.
        categories: the primary first.
        title: "" to keep none.
    """

    id: str
    year: int = 0
    categories: tuple[str, ...] = ()
    title: str = ""


@dataclass(frozen=True)
class Change:
    """What a change did to an index.

    Attributes:
        added: papers that are new.
        replaced: papers whose id was there.
        removed: papers that are gone.
        papers: in the index now.
    """

    added: int = 0
    replaced: int = 0
    removed: int = 0
    papers: int = 0


class _Of(NamedTuple):
    """What an index is of, whatever its papers are."""

    model: ModelRef
    bits: Bits
    evidence: EvidenceWeights | None = None


@dataclass(frozen=True, eq=False)
class _Content:
    """Papers in memory: entries, and their rows uint8 [n, bytes]."""

    entries: list[Entry]
    rows: NDArray[np.uint8]


Batches = Iterable[tuple[list[Entry], Floats]]
"""Entries and their vectors float32 [n, 128], as ``Classifier.vectors`` returns them."""


def build_index(
    path: Path, batches: Batches, model: ModelRef, *, bits: Bits = 8, overwrite: bool = False
) -> Change:
    """Write an index of papers, whole or not at all.

    Args:
        path: the folder.
        batches: the papers; of those with the same id the last one counts.
        model: that the vectors come from.
        bits: of each number of a row; fewer make it smaller and find fewer true neighbours, which
            are as good as evidence.
        overwrite: replace an existing index.

    Raises:
        TrainingFailed: there is no paper.
        OutputBusy: another run is changing this index.
        StorageFailed: something is in the way, or it cannot be written.
    """
    with _held(path):
        check_folder_place(path, overwrite=overwrite)
        content, replaced = _latest(_gathered(batches, bits))
        n = len(content.entries)
        if not n:
            raise TrainingFailed("no paper to index was read. Check the files.")
        _write(path, content, find_centroids(content.rows, bits), _Of(model, bits), overwrite)
    return Change(added=n, replaced=replaced, papers=n)


def add_papers(path: Path, batches: Batches, model: ModelRef) -> Change:
    """Add papers to an index; those whose id is there replace the old ones.

    Raises:
        IndexCorrupt, IndexIncompatible: it cannot be read, or is of another model.
        OutputBusy, StorageFailed: as ``build_index``.
    """
    with _held(path):
        index = Index.open(path, model=model)
        old, bits = _content_of(index), index.manifest.bits
        new, _ = _latest(_gathered(batches, bits))
        rows = np.concatenate([old.rows, new.rows])
        content, replaced = _latest(_Content(old.entries + new.entries, rows))
        _write(path, content, _centroids_for(index, content.rows), _of(index), True)
    n = len(content.entries)
    return Change(added=len(new.entries) - replaced, replaced=replaced, papers=n)


def remove_papers(path: Path, ids: Collection[str]) -> Change:
    """Remove papers from an index; nothing changes if one of them is not in it.

    Raises:
        NotFound: the index has no paper with one of these ids.
        IndexCorrupt, IndexIncompatible: it cannot be read.
        OutputBusy, StorageFailed: as ``build_index``.
    """
    with _held(path):
        index = Index.open(path)
        content, gone = _content_of(index), set(ids)
        unknown = gone - {entry.id for entry in content.entries}
        if unknown:
            raise NotFound(
                f"the index {path} has no paper {min(unknown)!r}"
                f"{f' and {len(unknown) - 1} more' if len(unknown) > 1 else ''}. Nothing was "
                "removed. Check the ids."
            )
        keep = [i for i, entry in enumerate(content.entries) if entry.id not in gone]
        left = _Content([content.entries[i] for i in keep], content.rows[keep])
        _write(path, left, _centroids_for(index, left.rows), _of(index), True)
    return Change(removed=len(gone), papers=len(keep))


def set_evidence(path: Path, weights: EvidenceWeights, model: ModelRef) -> None:
    """Keep in an index how its papers count as evidence; later changes of it keep that.

    Raises:
        IndexCorrupt, IndexIncompatible: it cannot be read, or is of another model.
        OutputBusy, StorageFailed: as ``build_index``.
    """
    with _held(path):
        manifest = Index.open(path, model=model).manifest
        text = _manifest_text(replace(manifest, evidence=weights))
        with atomic_file(path / MANIFEST_FILE) as file:
            file.write(text.encode())


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Let no other run change an index meanwhile."""
    target = target_of(path)
    with locked_folder(target.with_name(f"{target.name}.work"), "choose another index"):
        yield


def _gathered(batches: Batches, bits: Bits) -> _Content:
    entries: list[Entry] = []
    rows = [np.zeros((0, row_bytes(bits)), dtype=np.uint8)]
    for some, vectors in batches:
        entries += some
        rows.append(quantise(vectors, bits))
    return _Content(entries, np.concatenate(rows))


def _latest(content: _Content) -> tuple[_Content, int]:
    """Return the last paper of each id, in their order, and how many others there were."""
    last = {entry.id: i for i, entry in enumerate(content.entries)}
    keep = sorted(last.values())
    kept = _Content([content.entries[i] for i in keep], content.rows[keep])
    return kept, len(content.entries) - len(keep)


def _content_of(index: Index) -> _Content:
    """Return the papers of an index, in memory."""
    entries = [
        Entry(
            index.id_of(row),
            int(index.years[row]),
            index.categories_of(row),
            index.title_of(row) or "",
        )
        for row in range(len(index))
    ]
    return _Content(entries, np.array(index.arrays.rows))


def _of(index: Index) -> _Of:
    manifest = index.manifest
    return _Of(manifest.model, manifest.bits, manifest.evidence)


def _manifest_text(manifest: IndexManifest) -> str:
    return json.dumps(manifest.to_dict(), indent=1, ensure_ascii=False) + "\n"


def _centroids_for(index: Index, rows: NDArray[np.uint8]) -> Floats:
    """Return the lists of an index, or new ones if it has changed too much for them."""
    bits, lists = index.manifest.bits, index.manifest.lists
    wanted = lists_for(len(rows))
    if min(wanted, lists) > 1 and max(wanted, lists) <= GROWTH * min(wanted, lists):
        return np.array(index.arrays.centroids)
    return find_centroids(rows, bits)


def _write(
    path: Path,
    content: _Content,
    centroids: Floats,
    of: _Of,
    overwrite: bool,
) -> None:
    model, bits, evidence = of
    owner = lists_of(content.rows, bits, centroids)
    order = np.argsort(owner, kind="stable")
    entries = [content.entries[i] for i in order.tolist()]
    codes = tuple(sorted({code for entry in entries for code in entry.categories}))
    if len(codes) > _MOST_CODES:
        raise TrainingFailed(
            f"the papers have {len(codes):,} categories, an index holds {_MOST_CODES:,}. Check "
            "the column of categories."
        )
    starts = np.searchsorted(owner[order], np.arange(len(centroids) + 1)).astype(np.int64)
    arrays = _arrays(entries, content.rows[order], (centroids, starts), codes, bits)
    with atomic_folder(path, overwrite=overwrite) as folder:
        files = {name: _save(folder, name, array) for name, array in vars(arrays).items()}
        manifest = IndexManifest(
            format_version=FORMAT_VERSION,
            papers=len(entries),
            lists=len(centroids),
            bits=bits,
            has_titles=bool(len(arrays.titles)),
            model=model,
            text_recipe=RECIPE_VERSION,
            codes=codes,
            files=files,
            evidence=evidence,
        )
        write_text(folder / MANIFEST_FILE, _manifest_text(manifest))


def _arrays(
    entries: list[Entry],
    rows: NDArray[np.uint8],
    lists: tuple[Floats, NDArray[np.int64]],
    codes: tuple[str, ...],
    bits: Bits,
) -> Arrays:
    column = {code: i for i, code in enumerate(codes)}
    ids, id_starts = _texts(entry.id for entry in entries)
    titles, title_starts = _texts(entry.title for entry in entries)
    columns = [column[code] for entry in entries for code in entry.categories]
    return Arrays(
        centroids=lists[0],
        starts=lists[1],
        rows=rows,
        inverse_lengths=inverse_lengths(rows, bits),
        years=np.array([entry.year for entry in entries], dtype=np.int16),
        categories=np.array(columns, dtype=np.uint16),
        category_starts=joined_starts([len(entry.categories) for entry in entries]),
        ids=ids,
        id_starts=id_starts,
        titles=titles,
        title_starts=title_starts,
    )


def _texts(texts: Iterable[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    encoded = [text.encode("utf-8", "replace") for text in texts]
    content = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    return content, joined_starts([len(text) for text in encoded])


def _save(folder: Path, name: str, array: NDArray[np.generic]) -> tuple[int, str]:
    path = folder / array_file(name)
    write_array(path, array)
    return path.stat().st_size, sha256_file(path)
