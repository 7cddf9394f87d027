from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from classmark.errors import EmptyEvaluation, InvalidConfig
from classmark.evaluation import (
    calibrated_probabilities,
    expected_calibration_error,
    macro_f1,
    negative_log_likelihood,
    top_k_accuracy,
)
from classmark.evaluation.metrics.ranking import equal_mass_bins
from classmark.evaluation.metrics.rows import (
    brier_scores,
    known_rows,
    level_hits,
    listed_hits,
    listed_recalls,
    weighted_calibration_error,
)

# Ranks of the truth (column 0, 1, 2, unknown): 0, 1, 2.
SCORES = np.array([[3, 2, 1], [3, 2, 1], [3, 2, 1], [1, 2, 3]], dtype=np.float32)
PRIMARY = np.array([0, 1, 2, -1], dtype=np.int16)


def brier_score(probabilities: np.ndarray, primary: np.ndarray) -> float:
    known = known_rows(primary)
    return float(np.mean(brier_scores(probabilities[known], primary[known])))


def equal_mass_calibration_error(
    confidence: np.ndarray, correct: np.ndarray, n_bins: int = 15
) -> float:
    bins, once = equal_mass_bins(confidence, n_bins), np.ones((1, confidence.size))
    return float(weighted_calibration_error(confidence - correct, bins, n_bins, once)[0])


finite = st.floats(-50, 50, width=32)
score_arrays = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        arrays(np.float32, (n, 6), elements=finite), arrays(np.int16, n, elements=st.integers(0, 5))
    )
)


def test_top_k_accuracy_counts_the_truth_among_the_k_best_and_skips_unknown_papers() -> None:
    shares = [top_k_accuracy(SCORES, PRIMARY, k) for k in (1, 2, 3)]
    assert shares == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_top_k_accuracy_breaks_ties_in_favour_of_the_lower_column_as_argmax_does() -> None:
    tied = np.ones((2, 3), dtype=np.float32)
    assert top_k_accuracy(tied, np.array([0, 1]), 1) == 0.5
    assert top_k_accuracy(tied, np.array([0, 1]), 2) == 1.0


def test_macro_f1_averages_over_the_labels_that_occur() -> None:
    scores = np.eye(4)[[0, 0, 1, 3]]
    primary = np.array([0, 1, 1, 0])
    # label 0: TP 1, 2 true, 2 predicted; label 1: TP 1, 2 true, 1 predicted; 2 and 3 not true.
    assert macro_f1(scores, primary) == pytest.approx((2 / 4 + 2 / 3) / 2)


def test_macro_f1_weighs_a_rare_label_as_much_as_a_frequent_one() -> None:
    primary = np.array([0] * 98 + [1] * 2)
    always_frequent = np.tile([1.0, 0.0], (100, 1))
    assert macro_f1(always_frequent, primary) == pytest.approx((2 * 98 / 198) / 2)
    assert top_k_accuracy(always_frequent, primary) == 0.98


def test_precision_at_1_listed_accepts_any_cross_list() -> None:
    listed = np.array([[0, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 0]], dtype=bool)
    assert listed_hits(SCORES, listed).tolist() == [False, True, True, False]


def test_recall_of_listed_counts_categories_without_a_column_as_missed() -> None:
    listed = np.array([[1, 0, 1], [1, 0, 0]], dtype=bool)
    scores = SCORES[:2]
    assert listed_recalls(scores, listed, np.array([2, 1]), k=2).tolist() == [0.5, 1.0]
    assert listed_recalls(scores, listed, np.array([4, 1]), k=2).tolist() == [0.25, 1.0]
    assert listed_recalls(scores, listed, np.array([2, 1]), k=5).tolist() == [1.0, 1.0]


def test_negative_log_likelihood_is_the_mean_in_nats() -> None:
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]])
    value = negative_log_likelihood(probabilities, np.array([0, 0, -1]))
    assert value == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_negative_log_likelihood_of_an_impossible_truth_is_large_but_finite() -> None:
    value = negative_log_likelihood(np.array([[0.0, 1.0]], dtype=np.float32), np.array([0]))
    assert value == pytest.approx(708.396, abs=0.01)


def test_brier_score_sums_squares_over_labels() -> None:
    probabilities = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    assert brier_score(probabilities, np.array([0, 0])) == pytest.approx((0.5 + 2.0) / 2)
    assert brier_score(probabilities, np.array([-1, 1])) == 0.0


def test_levels_are_summed_before_they_are_compared() -> None:
    # The top category is alone in its level; the two others together outweigh it.
    probabilities = np.array([[0.4, 0.3, 0.3]])
    levels = np.array([0, 1, 1])
    assert level_hits(probabilities, np.array([1]), levels).tolist() == [True]
    assert level_hits(probabilities, np.array([0]), levels).tolist() == [False]


def test_expected_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.65, 0.65])
    correct = np.array([True, False, True, True])
    # Two bins of two papers: |.95 - .5| and |.65 - 1|.
    expected = (0.45 + 0.35) / 2
    assert expected_calibration_error(confidence, correct) == pytest.approx(expected)
    assert equal_mass_calibration_error(confidence, correct, 2) == pytest.approx(expected)


def test_expected_calibration_error_closes_bins_on_the_right() -> None:
    # .5 and .6 fall in different halves; gaps +.5 and -.4 do not cancel.
    confidence, correct = np.array([0.5, 0.6]), np.array([False, True])
    assert expected_calibration_error(confidence, correct, 2) == pytest.approx(0.45)
    assert expected_calibration_error(confidence, correct, 1) == pytest.approx(0.05)


def test_expected_calibration_error_is_zero_when_every_confidence_is_its_frequency() -> None:
    confidence = np.repeat(np.arange(1, 11) / 10, 10)
    correct = np.tile(np.arange(10), 10) < np.repeat(np.arange(1, 11), 10)
    assert expected_calibration_error(confidence, correct) == pytest.approx(0.0, abs=1e-12)
    assert equal_mass_calibration_error(confidence, correct) == pytest.approx(0.0, abs=1e-12)


def test_equal_mass_bins_keep_equal_confidences_together() -> None:
    confidence, correct = np.full(10, 0.7), np.arange(10) < 7
    assert equal_mass_calibration_error(confidence, correct) == pytest.approx(0.0, abs=1e-12)


def test_calibrated_probabilities_by_hand() -> None:
    probabilities = calibrated_probabilities(np.array([[math.log(3), 0.0]]), 1.0)
    assert probabilities == pytest.approx(np.array([[0.75, 0.25]]))
    sharper = calibrated_probabilities(np.array([[math.log(3), 0.0]]), 0.5)
    assert sharper == pytest.approx(np.array([[0.9, 0.1]]))


def test_calibrated_probabilities_do_not_overflow() -> None:
    huge = np.array([[3e38, -3e38, 0.0]], dtype=np.float32)
    assert calibrated_probabilities(huge, 0.01).tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_calibrated_probabilities_refuse_an_impossible_temperature(temperature: float) -> None:
    with pytest.raises(InvalidConfig, match=f"positive number, got {temperature}"):
        calibrated_probabilities(SCORES, temperature)


@pytest.mark.slow
@given(score_arrays, st.floats(0.05, 20))
def test_calibrated_probabilities_sum_to_one_and_ignore_an_offset(
    table: tuple[np.ndarray, np.ndarray], temperature: float
) -> None:
    probabilities = calibrated_probabilities(table[0], temperature)
    assert probabilities.sum(axis=1) == pytest.approx(1.0)
    moved = calibrated_probabilities(table[0].astype(np.float64) + 7.0, temperature)
    assert moved == pytest.approx(probabilities, abs=1e-9)


@pytest.mark.slow
@given(score_arrays)
def test_top_k_accuracy_grows_with_k_up_to_one(table: tuple[np.ndarray, np.ndarray]) -> None:
    shares = [top_k_accuracy(*table, k) for k in range(1, 7)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.slow
@given(score_arrays, st.randoms(use_true_random=False))
def test_metrics_do_not_depend_on_the_order_of_the_papers(
    table: tuple[np.ndarray, np.ndarray], random: object
) -> None:
    scores, primary = table
    order = np.array(random.sample(range(len(primary)), len(primary)))  # type: ignore[attr-defined]
    probabilities = calibrated_probabilities(scores)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == primary
    for metric, first, second in (
        (top_k_accuracy, scores, primary),
        (macro_f1, scores, primary),
        (negative_log_likelihood, probabilities, primary),
        (brier_score, probabilities, primary),
        (expected_calibration_error, confidence, correct),
        (equal_mass_calibration_error, confidence, correct),
    ):
        shuffled = metric(first[order], second[order])  # type: ignore[operator]
        assert shuffled == pytest.approx(metric(first, second), abs=1e-9)  # type: ignore[operator]


@pytest.mark.slow
@given(score_arrays)
def test_every_share_stays_between_0_and_1(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, primary = table
    probabilities = calibrated_probabilities(scores)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == primary
    shares = [
        macro_f1(scores, primary),
        expected_calibration_error(confidence, correct),
        equal_mass_calibration_error(confidence, correct),
        brier_score(probabilities, primary) / 2,
    ]
    assert all(-1e-12 <= share <= 1 + 1e-12 for share in shares)


@pytest.mark.parametrize("metric", [top_k_accuracy, macro_f1, brier_score])
def test_a_metric_of_papers_without_known_truth_is_refused(metric: object) -> None:
    with pytest.raises(EmptyEvaluation, match="none of the 2 papers has a primary"):
        metric(SCORES[:2], np.array([-1, -1]))  # type: ignore[operator]


def test_a_metric_of_no_papers_is_refused() -> None:
    with pytest.raises(EmptyEvaluation, match="there are no papers"):
        expected_calibration_error(np.zeros(0), np.zeros(0, dtype=bool))
