"""From float32 weights to the integers of a fast bundle."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from classmark.export.perfect_hash import build_perfect_hash
from classmark.runtime.linear import (
    DIM,
    HIDDEN_LIMIT,
    MAX_WEIGHT,
    N_SCALES,
    NIBBLE_ZERO,
    NORM_UNIT,
    LinearArrays,
    count_weights,
    fingerprint,
)

N = TypeVar("N", bound=np.generic)

_LARGEST = 7
_CLIP_DEVIATIONS = 2.6
_SCALE_RANGE = 500.0
_HEAD_LIMIT = 1023
_HIDDEN_PARTS = 2.0


def quantise(
    keys: NDArray[np.uint64],
    embedding: NDArray[np.float32],
    head: NDArray[np.float32],
    bias: NDArray[np.float32],
) -> LinearArrays:
    """Return the arrays of a bundle: rows in 4 bits, scales in 8, head in 11.

    Args:
        keys: uint64 [f], the features, all different.
        embedding: float32 [f, 64].
        head: float32 [64, k].
        bias: float32 [k].

    The hidden vector is first turned so that its dimensions share the logits evenly; a row's step
    is chosen from its standard deviation, which clips about one number in a hundred.
    """
    turned, turned_head = _balance(embedding, head)
    hashed = build_perfect_hash(keys)
    scales, codes = _scales(turned)
    numbers = np.clip(np.rint(turned / scales[codes][:, None]), -_LARGEST, _LARGEST)
    top = scales.max() * count_weights()[-1]
    unit = MAX_WEIGHT / top
    head_step = max(float(np.abs(turned_head).max()), 1e-12) / _HEAD_LIMIT
    hidden_step = _HIDDEN_PARTS * _typical_hidden(turned) / HIDDEN_LIMIT * 8
    return LinearArrays(
        displacements=hashed.displacements,
        fingerprints=_in_slots(fingerprint(keys), hashed.slots, hashed.n_slots),
        rows=_in_slots(_pack(numbers), hashed.slots, hashed.n_slots),
        scale_codes=_in_slots(codes.astype(np.uint8), hashed.slots, hashed.n_slots),
        weights=np.rint(count_weights()[:, None] * scales * unit).astype(np.int16),
        norms=np.rint(count_weights() ** 2 * NORM_UNIT).astype(np.int32),
        head=np.ascontiguousarray(np.rint(turned_head.T / head_step), dtype=np.int16),
        bias=bias.astype(np.float64),
        hidden_scale=float(np.sqrt(NORM_UNIT) / unit / hidden_step),
        logit_scale=float(head_step * hidden_step),
    )


def _balance(
    embedding: NDArray[np.float32], head: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turn (E, U) into (E A, A^-1 U): the head's rows orthogonal and of equal length."""
    centred = head.astype(np.float64) - head.mean(axis=1, keepdims=True, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    roots = np.sqrt(np.maximum(values, values.max() * 1e-9))
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((DIM, DIM)))[0]
    return embedding @ ((vectors * roots) @ turn), turn.T @ ((vectors / roots).T @ centred)


def _scales(embedding: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return 256 steps in geometric order, and the code of each row's step."""
    wanted = np.maximum(embedding.std(axis=1), 1e-12) * _CLIP_DEVIATIONS / _LARGEST
    scales = np.geomspace(wanted.max() / _SCALE_RANGE, wanted.max(), N_SCALES)
    position = np.log(wanted / scales[0]) / np.log(scales[1] / scales[0])
    return scales, np.clip(np.rint(position), 0, N_SCALES - 1).astype(np.intp)


def _typical_hidden(embedding: NDArray[np.float64]) -> float:
    """Return the largest coordinate that a paper of a few strong terms can reach, roughly."""
    return float(np.quantile(np.abs(embedding).max(axis=1), 0.999))


def _pack(numbers: NDArray[np.float64]) -> NDArray[np.uint8]:
    nibbles = (numbers + NIBBLE_ZERO).astype(np.uint8)
    high = np.left_shift(nibbles[:, DIM // 2 :], 4, dtype=np.uint8)
    return np.bitwise_or(nibbles[:, : DIM // 2], high)


def _in_slots(values: NDArray[N], slots: NDArray[np.intp], n_slots: int) -> NDArray[N]:
    placed = np.zeros((n_slots, *values.shape[1:]), dtype=values.dtype)
    placed[slots] = values
    return placed
