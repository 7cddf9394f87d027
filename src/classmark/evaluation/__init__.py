"""EVALUATION: metrics, calibration, prediction sets and thresholds, from stored score tables."""

from classmark.evaluation.comparison import compare_shares, compare_tables
from classmark.evaluation.details import evaluate_details, weakest_categories
from classmark.evaluation.metrics.calibration import fit_temperature
from classmark.evaluation.metrics.ranking import (
    calibrated_probabilities,
    expected_calibration_error,
    macro_f1,
    negative_log_likelihood,
    top_k_accuracy,
)
from classmark.evaluation.metrics.scope import choose_scope_threshold, energy, fit_scope
from classmark.evaluation.metrics.thresholds import (
    fit_cross_list_thresholds,
    fit_set_threshold,
    fit_thresholds,
    prediction_sets,
)
from classmark.evaluation.report import EvaluationConfig, evaluate_table
from classmark.evaluation.robustness.gates import (
    check_gates,
    count_gates,
    make_gates,
    other_papers,
    read_gates,
)
from classmark.evaluation.robustness.measure import (
    ROBUSTNESS_KINDS,
    RobustnessConfig,
    measure_robustness,
)

__all__ = [
    "ROBUSTNESS_KINDS",
    "EvaluationConfig",
    "RobustnessConfig",
    "calibrated_probabilities",
    "check_gates",
    "choose_scope_threshold",
    "compare_shares",
    "compare_tables",
    "count_gates",
    "energy",
    "evaluate_details",
    "evaluate_table",
    "expected_calibration_error",
    "fit_cross_list_thresholds",
    "fit_scope",
    "fit_set_threshold",
    "fit_temperature",
    "fit_thresholds",
    "macro_f1",
    "make_gates",
    "measure_robustness",
    "negative_log_likelihood",
    "other_papers",
    "prediction_sets",
    "read_gates",
    "top_k_accuracy",
    "weakest_categories",
]
