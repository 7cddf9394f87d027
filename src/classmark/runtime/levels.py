"""Archives and groups of an answer: sums of the probabilities of their categories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classmark.wire import Level

MIN_LEVEL_PROBABILITY = 0.0005
"""Archives and groups below this are left out of an answer; they would fill it with noise."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LevelSums:
    """Labels in order of their groups and archives, so that each level is a run of columns.

    Attributes:
        label_order: intp [k], columns of the scores.
        archive_codes, archive_starts: a codes, and where each begins in ``label_order``.
        group_codes, group_starts: g codes, and where each begins in ``archive_codes``.
    """

    label_order: NDArray[np.intp]
    archive_codes: tuple[str, ...]
    archive_starts: NDArray[np.intp]
    group_codes: tuple[str, ...]
    group_starts: NDArray[np.intp]

    def sums(self, probabilities: Floats) -> tuple[Floats, Floats]:
        """Return sums [n, a] by archive, and [n, g] by group as sums of those."""
        # Not a matrix product: its threads cost more than it does, and its last digits vary.
        by_archive = np.add.reduceat(
            probabilities[:, self.label_order], self.archive_starts, axis=1
        )
        return by_archive, np.add.reduceat(by_archive, self.group_starts, axis=1)


def make_levels(parents: list[tuple[str, str]]) -> LevelSums:
    """Return the levels over labels with these (group, archive); none for no labels."""
    label_order = sorted(range(len(parents)), key=parents.__getitem__)
    archives = sorted(set(parents))
    groups = sorted({group for group, _ in archives})
    in_order = [parents[label] for label in label_order]
    group_of = [group for group, _ in archives]
    return LevelSums(
        np.array(label_order, dtype=np.intp),
        tuple(archive for _, archive in archives),
        np.array([in_order.index(archive) for archive in archives], dtype=np.intp),
        tuple(groups),
        np.array([group_of.index(group) for group in groups], dtype=np.intp),
    )


def likely_levels(sums: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Return the levels of n rows that are probable enough, most probable first.

    Returns:
        How many each row has: intp [n]; and, row after row, their columns and probabilities.
    """
    rows, columns = np.nonzero(sums >= MIN_LEVEL_PROBABILITY)
    falling = sums[rows, columns]
    order = np.lexsort((-falling, rows))
    return np.bincount(rows, minlength=len(sums)), columns[order], falling[order]


def levels_of(sums: Floats, codes: tuple[str, ...]) -> list[tuple[Level, ...]]:
    """Return the levels of each row that are probable enough, most probable first."""
    counts, columns, falling = likely_levels(sums)
    pairs = zip(columns.tolist(), falling.tolist(), strict=True)
    levels = [Level(codes[i], p) for i, p in pairs]
    ends = np.cumsum(counts).tolist()
    return [tuple(levels[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def levels_of_one(sums: list[float], codes: tuple[str, ...]) -> tuple[Level, ...]:
    """Return the levels of one paper that are probable enough, most probable first."""
    order = [i for i, p in enumerate(sums) if p >= MIN_LEVEL_PROBABILITY]
    order.sort(key=sums.__getitem__, reverse=True)
    return tuple([Level(codes[i], sums[i]) for i in order])
