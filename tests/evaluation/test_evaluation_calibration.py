from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.errors import EmptyEvaluation, InvalidConfig
from classmark.evaluation import (
    calibrated_probabilities,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
)
from classmark.evaluation.metrics.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE
from classmark.evaluation.metrics.rows import (
    weighted_calibration_error,
    weighted_calibration_floor,
)


def draw_truth(scores: np.ndarray, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """One label a paper, drawn from softmax(scores / temperature)."""
    cumulative = calibrated_probabilities(scores, temperature).cumsum(axis=1)
    return (cumulative < rng.random((len(scores), 1))).sum(axis=1).clip(max=scores.shape[1] - 1)


def test_fit_temperature_by_hand() -> None:
    # Right 3 times of 4 with a lead of 1: sigmoid(1 / T) = 3/4, so T = 1 / log 3.
    scores = np.tile([1.0, 0.0], (4, 1))
    assert fit_temperature(scores, np.array([0, 0, 0, 1])) == pytest.approx(1 / math.log(3))


@pytest.mark.parametrize("temperature", [0.2, 1.0, 6.0])
def test_fit_temperature_finds_the_one_the_labels_were_drawn_with(temperature: float) -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(4000, 10)) * 3 * temperature
    primary = draw_truth(scores, temperature, rng)
    fitted = fit_temperature(scores, primary)
    assert fitted == pytest.approx(temperature, rel=0.06)
    probabilities = calibrated_probabilities(scores, fitted)
    correct = probabilities.argmax(axis=1) == primary
    assert expected_calibration_error(probabilities.max(axis=1), correct) < 0.03


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.05, 20))
def test_fit_temperature_is_a_minimum_of_the_likelihood(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    scores, primary = rng.normal(size=(40, 5)) * spread, rng.integers(0, 5, 40)
    fitted = fit_temperature(scores, primary)

    def loss(temperature: float) -> float:
        clipped = min(max(temperature, MIN_TEMPERATURE), MAX_TEMPERATURE)
        return negative_log_likelihood(calibrated_probabilities(scores, clipped), primary)

    assert loss(fitted) <= min(loss(fitted * 1.05), loss(fitted / 1.05)) + 1e-7


def test_fit_temperature_of_a_model_that_is_always_right_stops_at_the_lowest() -> None:
    assert fit_temperature(np.eye(3) * 5, np.arange(3)) == pytest.approx(MIN_TEMPERATURE)


def test_fit_temperature_of_a_model_worse_than_chance_stops_at_the_highest() -> None:
    assert fit_temperature(np.eye(2) * 5, np.array([1, 0])) == pytest.approx(MAX_TEMPERATURE)


def test_fit_temperature_is_1_where_no_temperature_matters() -> None:
    assert fit_temperature(np.zeros((3, 4)), np.array([0, 1, 2])) == 1.0


def test_fit_temperature_leaves_out_papers_without_known_truth() -> None:
    scores = np.tile([1.0, 0.0], (5, 1))
    assert fit_temperature(scores, np.array([0, 0, 0, 1, -1])) == pytest.approx(1 / math.log(3))


def test_fit_temperature_counts_a_paper_by_its_weight() -> None:
    scores = np.tile([1.0, 0.0], (3, 1))
    weights = np.array([3.0, 1.0, 99.0])
    fitted = fit_temperature(scores, np.array([0, 1, -1]), weights)
    assert fitted == pytest.approx(1 / math.log(3))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"shape \(3,\), expected one a paper: \(2,\)"),
        (np.array([1.0, -1.0]), "not negative"),
        (np.array([1.0, np.nan]), "must be finite"),
        (np.zeros(2), "not all 0"),
    ],
)
def test_fit_temperature_refuses_weights_that_are_none(weights: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        fit_temperature(np.eye(2), np.array([0, 1]), weights)


def test_fit_temperature_needs_a_known_truth() -> None:
    with pytest.raises(EmptyEvaluation, match="none of the 2 papers"):
        fit_temperature(np.eye(2), np.array([-1, -1]))


def test_the_floor_is_the_error_of_a_model_that_is_right_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    n, n_bins = 2_000, 15
    confidence = rng.uniform(0.1, 1.0, n)
    bins = np.minimum((confidence * n_bins).astype(np.intp), n_bins - 1)
    once = np.ones((1, n))
    floor = weighted_calibration_floor(confidence, bins, n_bins, once)[0]
    drawn = [
        weighted_calibration_error(confidence - (rng.random(n) < confidence), bins, n_bins, once)[0]
        for _ in range(200)
    ]
    assert floor == pytest.approx(np.mean(drawn), rel=0.05)
    assert 0.01 < floor < 0.04


def test_the_floor_halves_with_four_times_the_papers() -> None:
    confidence = np.linspace(0.05, 0.95, 300)
    bins = (confidence * 15).astype(np.intp)
    once, four = np.ones((1, 300)), np.full((1, 300), 4.0)
    ratio = weighted_calibration_floor(confidence, bins, 15, four) / weighted_calibration_floor(
        confidence, bins, 15, once
    )
    assert ratio[0] == pytest.approx(0.5)
