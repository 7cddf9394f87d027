"""Vectors as rows of few bits, and the lists that rows are searched in."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from classmark.kernels.linear import DIM

Bits = Literal[8, 4, 2]
Floats = NDArray[np.float32]

MOST_EXACT_ROWS = 20_000
"""Up to so many, all rows are one list: a search compares them all."""
PROBES = 24
"""Lists that a search reads of an index with many."""
_LISTS_PER_ROOT = 3
_SAMPLES_PER_LIST = 48
_ROUNDS = 6
_BLOCK_ROWS = 8192
_SEED = 0
_STEPS = {4: 0.335, 2: 0.9957}
"""Of standard deviations: best for 16 and 4 levels of normal numbers (Max 1960)."""


def row_bytes(bits: int) -> int:
    """Return the bytes of a row."""
    return DIM * bits // 8


def quantise(vectors: Floats, bits: int) -> NDArray[np.uint8]:
    """Return vectors [n, 128] as rows uint8 [n, 16 bits]; only their direction is kept."""
    if bits == 8:
        peak = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
        return np.rint(vectors * (127 / np.where(peak > 0, peak, 1))).astype(np.int8).view(np.uint8)
    step = _STEPS[bits] * np.sqrt(np.square(vectors).mean(axis=1, keepdims=True))
    half = 1 << (bits - 1)
    codes = np.clip(np.floor(vectors / np.where(step > 0, step, 1)), -half, half - 1) + half
    shifted = codes.astype(np.uint8).reshape(len(vectors), row_bytes(bits), 8 // bits) << _shifts(
        bits
    )
    return np.asarray(np.bitwise_or.reduce(shifted, axis=2), dtype=np.uint8)


def decode(rows: NDArray[np.uint8], bits: int) -> Floats:
    """Return the numbers that rows stand for, float32 [n, 128], of any length."""
    if bits == 8:
        return rows.view(np.int8).astype(np.float32)
    return _numbers(bits).take(rows).view(np.float32)


def unit(vectors: Floats) -> Floats:
    """Return vectors of length 1; one of zeros stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), dtype=np.float32)


def inverse_lengths(rows: NDArray[np.uint8], bits: int) -> Floats:
    """Return 1 / length of each row, float32 [n]; 0 for one of zeros."""
    found = [np.zeros(0, dtype=np.float32)]
    for first in range(0, len(rows), _BLOCK_ROWS):
        length = np.linalg.norm(decode(rows[first : first + _BLOCK_ROWS], bits), axis=1)
        found.append(np.where(length > 0, 1 / np.where(length > 0, length, 1), 0))
    return np.concatenate(found).astype(np.float32)


def lists_for(n_rows: int) -> int:
    """Return how many lists so many rows are searched in; few rows are all compared."""
    return 1 if n_rows <= MOST_EXACT_ROWS else int(_LISTS_PER_ROOT * n_rows**0.5)


def find_centroids(rows: NDArray[np.uint8], bits: int) -> Floats:
    """Return the middles of lists that rows fall into, float32 [lists, 128], of length 1.

    Spherical k-means on a sample (Dhillon and Modha 2001); the same rows give the same lists.
    """
    n_lists = lists_for(len(rows))
    if n_lists == 1:
        return np.zeros((1, DIM), dtype=np.float32)
    random = np.random.default_rng(_SEED)
    chosen = random.permutation(len(rows))[: n_lists * _SAMPLES_PER_LIST]
    sample = unit(decode(rows[np.sort(chosen)], bits))
    centroids = sample[random.permutation(len(sample))[:n_lists]]
    for _ in range(_ROUNDS):
        owner = nearest(sample, centroids)
        order = np.argsort(owner, kind="stable")
        lists, starts = np.unique(owner[order], return_index=True)
        centroids = centroids.copy()
        centroids[lists] = unit(np.add.reduceat(sample[order], starts, axis=0))
    return centroids


def nearest(vectors: Floats, centroids: Floats) -> NDArray[np.int32]:
    """Return the list of each vector, int32 [n]."""
    if len(centroids) == 1:
        return np.zeros(len(vectors), dtype=np.int32)
    blocks = range(0, len(vectors), _BLOCK_ROWS)
    parts = [(vectors[i : i + _BLOCK_ROWS] @ centroids.T).argmax(axis=1) for i in blocks]
    return np.concatenate([np.zeros(0, dtype=np.int32), *parts]).astype(np.int32)


def lists_of(rows: NDArray[np.uint8], bits: int, centroids: Floats) -> NDArray[np.int32]:
    """Return the list of each row, int32 [n]."""
    blocks = range(0, len(rows), _BLOCK_ROWS)
    parts = [nearest(decode(rows[i : i + _BLOCK_ROWS], bits), centroids) for i in blocks]
    return np.concatenate([np.zeros(0, dtype=np.int32), *parts]).astype(np.int32)


@cache
def _shifts(bits: int) -> NDArray[np.uint8]:
    """Return where each number that shares a byte begins in it."""
    return np.arange(0, 8, bits, dtype=np.uint8)


@cache
def _numbers(bits: int) -> NDArray[Any]:
    """Return the 2 or 4 float32 numbers that each byte of a row holds, as one item."""
    codes = np.arange(256, dtype=np.uint8)[:, None] >> _shifts(bits)
    levels = 1 << bits
    numbers = (codes & (levels - 1)).astype(np.float32) - (levels - 1) / 2
    return numbers.astype(np.float32).view(np.complex64 if bits == 4 else np.complex128).ravel()
