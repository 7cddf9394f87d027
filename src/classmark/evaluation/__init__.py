"""EVALUATION: metrics, calibration, prediction sets and thresholds, from stored score tables."""

from classmark.evaluation.comparison import compare_shares, compare_tables
from classmark.evaluation.details import evaluate_details, weakest_categories
from classmark.evaluation.metrics.calibration import fit_temperature
from classmark.evaluation.metrics.ranking import (
    brier_score,
    calibrated_probabilities,
    equal_mass_calibration_error,
    expected_calibration_error,
    level_accuracy,
    macro_f1,
    mean_set_size,
    micro_f1,
    negative_log_likelihood,
    precision_at_1_listed,
    recall_at_k_listed,
    set_coverage,
    top_k_accuracy,
)
from classmark.evaluation.metrics.scope import auroc, choose_scope_threshold, energy, fit_scope
from classmark.evaluation.metrics.thresholds import (
    fit_cross_list_thresholds,
    fit_set_threshold,
    fit_thresholds,
    prediction_sets,
)
from classmark.evaluation.report import EvaluationConfig, evaluate_table
from classmark.evaluation.robustness.gates import check_gates, count_gates, make_gates, other_papers
from classmark.evaluation.robustness.measure import (
    ROBUSTNESS_KINDS,
    RobustnessConfig,
    measure_robustness,
)

__all__ = [
    "ROBUSTNESS_KINDS",
    "EvaluationConfig",
    "RobustnessConfig",
    "auroc",
    "brier_score",
    "calibrated_probabilities",
    "check_gates",
    "choose_scope_threshold",
    "compare_shares",
    "compare_tables",
    "count_gates",
    "energy",
    "equal_mass_calibration_error",
    "evaluate_details",
    "evaluate_table",
    "expected_calibration_error",
    "fit_cross_list_thresholds",
    "fit_scope",
    "fit_set_threshold",
    "fit_temperature",
    "fit_thresholds",
    "level_accuracy",
    "macro_f1",
    "make_gates",
    "mean_set_size",
    "measure_robustness",
    "micro_f1",
    "negative_log_likelihood",
    "other_papers",
    "precision_at_1_listed",
    "prediction_sets",
    "recall_at_k_listed",
    "set_coverage",
    "top_k_accuracy",
    "weakest_categories",
]
