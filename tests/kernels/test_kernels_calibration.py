"""The calibration curve changes how sure an answer is, never its order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from classmark.evaluation import calibrated_probabilities, negative_log_likelihood
from classmark.kernels.calibration import GAP_KNOTS, TOP_KNOTS, CalibrationCurve, CurveLoss

RISES = st.lists(st.floats(0.05, 5), min_size=len(GAP_KNOTS) - 1, max_size=len(GAP_KNOTS) - 1)
FACTORS = st.lists(st.floats(0.2, 3), min_size=len(TOP_KNOTS), max_size=len(TOP_KNOTS))
LOGITS = st.lists(st.integers(-200, 200), min_size=2, max_size=8, unique=True)


@given(RISES, FACTORS, LOGITS)
def test_no_curve_changes_the_order_of_labels(
    rises: list[float], factors: list[float], tenths: list[int]
) -> None:
    curve = CalibrationCurve((0.0, *np.cumsum(rises).tolist()), tuple(factors))
    logits = np.array([tenths], dtype=np.float32) / 10
    assert np.argsort(curve.apply(logits)[0]).tolist() == np.argsort(logits[0]).tolist()


def test_the_plain_curve_leaves_the_probabilities() -> None:
    logits = np.array([[1.0, -2.0, 0.5], [30.0, 0.0, 3.0]], dtype=np.float32)
    moved = CalibrationCurve().apply(logits)
    assert np.allclose(moved, logits - logits.max(axis=1, keepdims=True), atol=1e-6)


def test_a_factor_below_one_makes_the_answer_less_sure() -> None:
    logits = np.array([[4.0, 0.0]], dtype=np.float32)
    factors = (1.0,) * (len(TOP_KNOTS) - 1) + (0.5,)
    top, runner_up = CalibrationCurve(factors=factors).apply(logits)[0]
    assert 2.0 < top - runner_up < 4.0


@given(st.lists(st.tuples(RISES, FACTORS), min_size=1, max_size=4), st.integers(0, 99))
def test_the_loss_of_a_curve_is_that_of_its_probabilities_to_the_last_bit(
    curves: list[tuple[list[float], list[float]]], seed: int
) -> None:
    random = np.random.default_rng(seed)
    logits = (random.standard_normal((1_100, 6)) * 12).astype(np.float32)
    logits[:8] = [0, 0, 1, 2, 41, 90]  # on the knots, between them, and beyond the last
    labels = random.integers(0, 6, len(logits))
    loss = CurveLoss(logits, labels)
    for rises, factors in curves:
        curve = CalibrationCurve((0.0, *np.cumsum(rises).tolist()), tuple(factors))
        same_gaps = CalibrationCurve(curve.gaps, tuple(reversed(factors)))
        for one in (curve, same_gaps, curve):
            probabilities = calibrated_probabilities(one.apply(logits, np.float64))
            assert loss.of(one) == negative_log_likelihood(probabilities, labels)
