"""A perfect hash of feature keys: every key gets a slot of its own; unknown keys are recognised.

Source: Belazzougui, Botelho, Dietzfelbinger 2009, "Hash, displace, and compress". Buckets of about
four keys are placed from the largest to the smallest; each takes the first displacement that sends
all its keys to free slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classmark.errors import TrainingFailed
from classmark.kernels.linear import bucket_of, slot_of

_KEYS_PER_BUCKET = 4
_SLACK = 1.015
_TRIES_AT_ONCE = 64
_MOST_TRIES = 1 << 16


@dataclass(frozen=True, eq=False)
class PerfectHash:
    """displacements uint16 [b]; slots int [n], the slot of each key; n_slots."""

    displacements: NDArray[np.uint16]
    slots: NDArray[np.intp]
    n_slots: int


def build_perfect_hash(keys: NDArray[np.uint64]) -> PerfectHash:
    """Return slots for n distinct keys, no two the same, in 1.5 % more slots than keys.

    Raises:
        TrainingFailed: no displacement fits (two keys are equal).
    """
    n_buckets = -(-len(keys) // _KEYS_PER_BUCKET)
    n_slots = int(len(keys) * _SLACK) + 8
    bucket = bucket_of(keys, n_buckets)
    order = np.argsort(bucket, kind="stable")
    sizes = np.bincount(bucket, minlength=n_buckets)
    ends = np.cumsum(sizes)
    displacements = np.zeros(n_buckets, dtype=np.uint16)
    slots = np.empty(len(keys), dtype=np.intp)
    taken = np.zeros(n_slots, dtype=np.bool_)
    for b in np.argsort(-sizes, kind="stable"):
        if not sizes[b]:
            break
        members = order[ends[b] - sizes[b] : ends[b]]
        displacements[b], slots[members] = _place(keys[members], taken)
        taken[slots[members]] = True
    return PerfectHash(displacements, slots, n_slots)


def _place(keys: NDArray[np.uint64], taken: NDArray[np.bool_]) -> tuple[int, NDArray[np.intp]]:
    for first in range(0, _MOST_TRIES, _TRIES_AT_ONCE):
        tries = np.arange(first, first + _TRIES_AT_ONCE).astype(np.uint16)
        slots = slot_of(keys[None, :], tries[:, None], len(taken))
        fits: NDArray[np.bool_] = np.logical_not(taken[slots].any(axis=1))
        if len(keys) > 1:
            ordered = np.sort(slots[fits], axis=1)
            fits[fits] = (ordered[:, 1:] != ordered[:, :-1]).all(axis=1)
        if fits.any():
            best = int(np.argmax(fits))
            return first + best, slots[best]
    raise TrainingFailed(
        f"no slot for {len(keys)} features after {_MOST_TRIES} tries: two keys are equal. "
        "Report this with the dataset's digest."
    )
