"""Rows that two bits a number can hold."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from classmark.training import round_rows


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e3))
def test_every_number_goes_to_the_nearest_of_four_levels(seed: int, size: float) -> None:
    rows = (np.random.default_rng(seed).normal(size=(5, 32)) * size).astype(np.float32)
    rounded = round_rows(rows)
    steps = np.abs(rounded).max(axis=1, keepdims=True) / 1.5
    levels = np.array([-1.5, -0.5, 0.5, 1.5]) * steps[..., None]
    nearest = np.abs(rows[..., None] - levels).min(axis=-1)
    assert np.all(np.abs(rows - rounded) <= nearest + 1e-5 * size)


def test_a_row_keeps_its_size_and_a_row_of_zeros_stays() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 128)).astype(np.float32)
    rows[1] = 0.0
    rounded = round_rows(rows)
    assert not rounded[1].any()
    kept = np.linalg.norm(rounded[[0, 2]], axis=1) / np.linalg.norm(rows[[0, 2]], axis=1)
    assert np.all(np.abs(kept - 1) < 0.15)


def test_rounding_depends_on_the_shape_of_a_row_not_on_its_size() -> None:
    row = np.random.default_rng(1).normal(size=(1, 64)).astype(np.float32)
    assert np.allclose(round_rows(row * 8), round_rows(row) * 8)
