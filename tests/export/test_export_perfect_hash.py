"""Every key gets a slot of its own, and is found in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from classmark.errors import TrainingFailed
from classmark.export import perfect_hash
from classmark.export.perfect_hash import build_perfect_hash
from classmark.kernels import featuriser
from classmark.kernels.linear import bucket_of, fingerprint, slot_of

# Not 0: its slot does not move, whatever the displacement.
KEYS = st.lists(st.integers(1, 2**64 - 1), min_size=2, max_size=300, unique=True)


def check(keys: NDArray[np.uint64]) -> None:
    hashed = build_perfect_hash(keys)
    assert hashed.displacements.dtype == np.uint16
    assert len(np.unique(hashed.slots)) == len(keys)
    assert hashed.slots.min() >= 0
    assert hashed.slots.max() < hashed.n_slots
    displacement = hashed.displacements[bucket_of(keys, len(hashed.displacements))]
    assert np.array_equal(slot_of(keys, displacement, hashed.n_slots), hashed.slots)


@settings(max_examples=60)
@given(KEYS)
def test_distinct_keys_get_distinct_slots_and_look_up_finds_them(keys: list[int]) -> None:
    # Keys come mixed from the featuriser; mixing keeps distinct numbers distinct.
    check(featuriser._mix(np.array(keys, dtype=np.uint64)))


@pytest.mark.slow
def test_twenty_thousand_keys_fit_in_two_percent_more_slots() -> None:
    keys = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64)
    check(keys)
    assert build_perfect_hash(keys).n_slots < 1.02 * len(keys)


def test_equal_keys_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perfect_hash, "_MOST_TRIES", 128)
    with pytest.raises(TrainingFailed, match=r"no slot for 2 features after 128 tries: two keys"):
        build_perfect_hash(np.array([7, 7], dtype=np.uint64))


@settings(max_examples=60)
@given(KEYS)
def test_a_fingerprint_is_never_that_of_a_free_slot(keys: list[int]) -> None:
    prints = fingerprint(np.array([*keys, 0, 1 << 16], dtype=np.uint64))
    assert prints.dtype == np.uint16
    assert prints.all()
    assert prints[:-2].tolist() == [key % 2**16 or 1 for key in keys]
