"""A bundle's integers answer as the float weights did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from classmark.export import quantise
from classmark.kernels.linear import (
    DIM,
    MAX_COUNT,
    MAX_WEIGHT,
    N_SCALES,
    ROW_BYTES,
    LinearArrays,
    LinearScorer,
)
from classmark.records import SILENT
from classmark.training import (
    LinearWeights,
    choose_frequent,
    read_occurrences,
    round_rows,
    to_sparse,
)

N_LABELS, N_WORDS = 6, 400
# Rows are rounded already; their steps are coded in 256 values, each 2.5 % above the one before.
ROUNDING_NOISE = 0.02
DTYPES = {
    "displacements": np.uint16,
    "fingerprints": np.uint16,
    "rows": np.uint8,
    "scale_codes": np.uint8,
    "weights": np.int16,
    "norms": np.int32,
    "head": np.int16,
    "bias": np.float64,
}


@dataclass(frozen=True)
class Model:
    """Random float weights, the papers they know, and both answers."""

    weights: LinearWeights
    papers: list[tuple[str, str]]
    arrays: LinearArrays
    expected: NDArray[np.float32]


def random_model(seed: int) -> Model:
    """Words lean to one label each; a paper's words come mostly from the words of one label."""
    rng = np.random.default_rng(seed)
    papers = []
    for i in range(200):
        own = rng.integers(0, N_WORDS // N_LABELS, 30) * N_LABELS + i % N_LABELS
        stray = rng.integers(0, N_WORDS, 15)
        papers.append(
            ("", " ".join(f"w{n}" for n in rng.permutation(np.concatenate([own, stray]))))
        )
    occurrences = read_occurrences([("", a) for _, a in papers], SILENT)
    keys, _ = choose_frequent(occurrences, 3)
    sparse = to_sparse(occurrences, keys)
    head = rng.normal(size=(DIM, N_LABELS)).astype(np.float32)
    truth = np.arange(len(papers)) % N_LABELS
    embedding = np.zeros((len(keys), DIM), np.float32)
    np.add.at(embedding, sparse.columns, head.T[np.repeat(truth, np.diff(sparse.starts))] * 0.02)
    embedding += rng.normal(0, 0.05, embedding.shape).astype(np.float32)
    embedding = round_rows(embedding)
    bias = rng.normal(0, 0.1, N_LABELS).astype(np.float32)
    weights = LinearWeights(keys, embedding, head, bias)
    return Model(weights, papers, quantise(keys, embedding, head, bias), weights.score(sparse))


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model(0)


def centred(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return scores without what all labels share, which the softmax does not see."""
    return scores - scores.mean(axis=1, keepdims=True)


@pytest.mark.slow
@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1))
def test_the_integers_score_as_the_floats(seed: int) -> None:
    made = random_model(seed)
    scores = LinearScorer(made.arrays).score(made.papers).scores
    ordered = np.sort(made.expected, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 0.1 * made.expected.std()
    same = scores.argmax(axis=1) == made.expected.argmax(axis=1)
    assert clear.mean() > 0.5
    assert same[clear].mean() > 0.95
    error = centred(scores) - centred(made.expected)
    assert error.std() < ROUNDING_NOISE * centred(made.expected).std()


def test_both_code_paths_give_the_same_bits(model: Model) -> None:
    fast = LinearScorer(model.arrays).score(model.papers)
    slow = LinearScorer(model.arrays, use_kernel=False).score(model.papers)
    assert np.array_equal(fast.scores, slow.scores)


def test_arrays_are_of_the_documented_type_and_shape_and_contiguous(model: Model) -> None:
    arrays = model.arrays.arrays()
    assert {name: array.dtype for name, array in arrays.items()} == DTYPES
    assert all(array.flags.c_contiguous for array in arrays.values())
    n_slots = len(arrays["fingerprints"])
    assert arrays["rows"].shape == (n_slots, ROW_BYTES)
    assert arrays["scale_codes"].shape == (n_slots,)
    assert arrays["weights"].shape == (MAX_COUNT, N_SCALES)
    assert arrays["norms"].shape == (MAX_COUNT,)
    assert arrays["head"].shape == (N_LABELS, DIM)


def test_numbers_stay_in_the_range_that_the_kernel_sums_exactly(model: Model) -> None:
    arrays = model.arrays
    assert 0 < arrays.weights.max() <= MAX_WEIGHT
    assert arrays.weights.min() >= 0
    assert np.abs(arrays.head).max() <= 1023
    assert arrays.hidden_scale > 0


def test_each_feature_fills_one_slot(model: Model) -> None:
    assert np.count_nonzero(model.arrays.fingerprints) == len(model.weights.keys)


def test_the_same_weights_give_the_same_bytes(model: Model) -> None:
    w = model.weights
    again = quantise(w.keys, w.embedding, w.head, w.bias)
    for name, array in model.arrays.arrays().items():
        assert np.array_equal(array, getattr(again, name)), name
    assert again.parameters() == model.arrays.parameters()


def test_what_the_head_gives_all_labels_alike_does_not_cost_precision(model: Model) -> None:
    w = model.weights
    shifted = w.head + np.float32(5.0) * np.ones((DIM, N_LABELS), np.float32)
    arrays = quantise(w.keys, w.embedding, shifted, w.bias)
    scores = LinearScorer(arrays).score(model.papers).scores
    error = centred(scores) - centred(model.expected)
    assert error.std() < 0.06 * centred(model.expected).std()


def test_a_feature_that_was_never_moved_adds_nothing(model: Model) -> None:
    w = model.weights
    embedding = w.embedding.copy()
    embedding[::2] = 0.0
    arrays = quantise(w.keys, embedding, w.head, w.bias)
    occurrences = read_occurrences([("", a) for _, a in model.papers][:200], SILENT)
    weights = LinearWeights(w.keys, embedding, w.head, w.bias)
    expected = centred(weights.score(to_sparse(occurrences, w.keys)))
    error = centred(LinearScorer(arrays).score(model.papers).scores) - expected
    assert error.std() < 0.06 * expected.std()
