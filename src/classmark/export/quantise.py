"""From fitted weights to the integers of a fast bundle."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from classmark.export.perfect_hash import build_perfect_hash
from classmark.kernels.linear import (
    HIDDEN_LIMIT,
    MAX_WEIGHT,
    N_SCALES,
    NORM_UNIT,
    ROW_BITS,
    ROW_BYTES,
    LinearArrays,
    count_weights,
    fingerprint,
)

N = TypeVar("N", bound=np.generic)

_FAR = 1.5
_SCALE_RANGE = 500.0
_HEAD_LIMIT = 1023
_HIDDEN_PARTS = 16.0


def quantise(
    keys: NDArray[np.uint64],
    embedding: NDArray[np.float32],
    head: NDArray[np.float32],
    bias: NDArray[np.float32],
) -> LinearArrays:
    """Return the arrays of a bundle: rows in 2 bits, steps in 8, head in 11.

    Args:
        keys: uint64 [f], the features, all different.
        embedding: float32 [f, 128], every number 0.5 or 1.5 steps of its row from 0, as a rounded
            fit leaves them (numbers between are rounded; the greatest of a row is 1.5 steps).
        head: float32 [128, k].
        bias: float32 [k].

    What a head gives all labels alike is left out: the softmax does not see it.
    """
    steps = np.abs(embedding).max(axis=1).astype(np.float64) / _FAR
    scales, codes = _scales(steps)
    centred = head.astype(np.float64) - head.mean(axis=1, keepdims=True, dtype=np.float64)
    hashed = build_perfect_hash(keys)
    unit = MAX_WEIGHT / (scales.max() * count_weights()[-1])
    head_step = max(float(np.abs(centred).max()), 1e-12) / _HEAD_LIMIT
    hidden_step = _HIDDEN_PARTS * _typical_hidden(steps) / HIDDEN_LIMIT
    return LinearArrays(
        displacements=hashed.displacements,
        fingerprints=_in_slots(fingerprint(keys), hashed.slots, hashed.n_slots),
        rows=_in_slots(_pack(embedding, steps), hashed.slots, hashed.n_slots),
        scale_codes=_in_slots(codes.astype(np.uint8), hashed.slots, hashed.n_slots),
        weights=np.rint(count_weights()[:, None] * scales * unit).astype(np.int16),
        norms=np.rint(count_weights() ** 2 * NORM_UNIT).astype(np.int32),
        head=np.ascontiguousarray(np.rint(centred.T / head_step), dtype=np.int16),
        bias=bias.astype(np.float64),
        hidden_scale=float(np.sqrt(NORM_UNIT) / unit / hidden_step / 2),
        logit_scale=float(head_step * hidden_step),
    )


def _scales(steps: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return 256 steps in geometric order, and the code of each row's step."""
    wanted = np.maximum(steps, 1e-12)
    scales = np.geomspace(wanted.max() / _SCALE_RANGE, wanted.max(), N_SCALES)
    position = np.log(wanted / scales[0]) / np.log(scales[1] / scales[0])
    return scales, np.clip(np.rint(position), 0, N_SCALES - 1).astype(np.intp)


def _typical_hidden(steps: NDArray[np.float64]) -> float:
    """Return the largest coordinate that a paper of a few strong terms can reach, roughly."""
    return float(np.quantile(_FAR * steps, 0.999))


def _pack(embedding: NDArray[np.float32], steps: NDArray[np.float64]) -> NDArray[np.uint8]:
    is_far = np.abs(embedding) >= steps[:, None]
    numbers = np.where(embedding < 0, 1 - is_far, 2 + is_far).astype(np.uint8)
    in_bytes = numbers.reshape(len(embedding), ROW_BYTES, 8 // ROW_BITS)
    shifts = np.arange(0, 8, ROW_BITS, dtype=np.uint8)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(in_bytes << shifts, axis=2)
    return packed


def _in_slots(values: NDArray[N], slots: NDArray[np.intp], n_slots: int) -> NDArray[N]:
    placed = np.zeros((n_slots, *values.shape[1:]), dtype=values.dtype)
    placed[slots] = values
    return placed
