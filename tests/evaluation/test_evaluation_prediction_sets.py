from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from classmark.errors import EmptyEvaluation, InvalidConfig
from classmark.evaluation import (
    calibrated_probabilities,
    fit_set_threshold,
    prediction_sets,
)

probability_arrays = arrays(np.float64, (20, 5), elements=st.floats(-4, 4)).map(
    calibrated_probabilities
)


def set_coverage(sets: np.ndarray, primary: np.ndarray) -> float:
    return float(np.mean(sets[np.arange(primary.size), primary]))


def truth_probabilities(own: np.ndarray) -> np.ndarray:
    """Two labels, the first always the true one."""
    return np.column_stack([own, 1.0 - own])


def test_fit_set_threshold_takes_the_conformal_rank() -> None:
    own = np.arange(1, 10) / 10
    probabilities, primary = truth_probabilities(own), np.zeros(9, dtype=int)
    # n = 9: ceil(10 * .9) = 9th largest, ceil(10 * .55) = 6th largest.
    assert fit_set_threshold(probabilities, primary, 0.9) == pytest.approx(0.1)
    assert fit_set_threshold(probabilities, primary, 0.55) == pytest.approx(0.4)


def test_fit_set_threshold_is_not_fooled_by_rounding() -> None:
    # 100 * .55 is 55.00000000000001 in floating point: the 55th largest of 99, not the 56th.
    own = np.arange(1, 100) / 100
    threshold = fit_set_threshold(truth_probabilities(own), np.zeros(99, dtype=int), 0.55)
    assert threshold == pytest.approx(0.45)


def test_fit_set_threshold_admits_every_label_when_papers_are_too_few_to_promise_less() -> None:
    probabilities = truth_probabilities(np.full(8, 0.6))
    assert fit_set_threshold(probabilities, np.zeros(8, dtype=int), 0.9) == 0.0
    assert prediction_sets(probabilities, 0.0).all()


def test_fit_set_threshold_leaves_out_papers_without_known_truth() -> None:
    own = np.append(np.arange(1, 10) / 10, 0.0)
    primary = np.array([0] * 9 + [-1])
    assert fit_set_threshold(truth_probabilities(own), primary, 0.9) == pytest.approx(0.1)


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.1, float("nan")])
def test_fit_set_threshold_refuses_an_impossible_coverage(coverage: float) -> None:
    with pytest.raises(InvalidConfig, match=r"coverage must be between 0 and 1 .*got"):
        fit_set_threshold(np.eye(2), np.array([0, 1]), coverage)


def test_fit_set_threshold_needs_papers() -> None:
    with pytest.raises(EmptyEvaluation, match="none of the 0 papers"):
        fit_set_threshold(np.zeros((0, 2)), np.zeros(0, dtype=int))


def test_prediction_sets_include_the_threshold_itself_and_are_never_empty() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.34, 0.33, 0.33]])
    sets = prediction_sets(probabilities, 0.5)
    assert sets.tolist() == [[True, False, False], [True, False, False]]


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_coverage_on_new_papers_is_what_was_promised(coverage: float) -> None:
    rng = np.random.default_rng(11)
    probabilities = rng.dirichlet(np.full(8, 0.4), size=6000)
    cumulative = probabilities.cumsum(axis=1)
    primary = (cumulative < rng.random((6000, 1))).sum(axis=1).clip(max=7)
    threshold = fit_set_threshold(probabilities[:2000], primary[:2000], coverage)
    measured = set_coverage(prediction_sets(probabilities[2000:], threshold), primary[2000:])
    # Four standard errors of the calibration (n = 2000) and the test sample (n = 4000) together.
    bound = 4 * np.sqrt(coverage * (1 - coverage) * (1 / 2000 + 1 / 4000))
    assert measured == pytest.approx(coverage, abs=bound)


@pytest.mark.slow
@given(probability_arrays, st.integers(0, 5), st.floats(0.05, 0.9))
def test_a_larger_coverage_gives_a_superset(
    probabilities: np.ndarray, column: int, coverage: float
) -> None:
    primary = np.full(20, column % 5)
    narrow = prediction_sets(probabilities, fit_set_threshold(probabilities, primary, coverage))
    wide = prediction_sets(
        probabilities, fit_set_threshold(probabilities, primary, coverage + 0.09)
    )
    assert not (narrow & ~wide).any()


@given(probability_arrays, arrays(np.int64, 20, elements=st.integers(0, 4)), st.floats(0.05, 0.95))
def test_the_papers_of_the_fit_are_covered(
    probabilities: np.ndarray, primary: np.ndarray, coverage: float
) -> None:
    sets = prediction_sets(probabilities, fit_set_threshold(probabilities, primary, coverage))
    assert set_coverage(sets, primary) >= coverage - 1e-9
