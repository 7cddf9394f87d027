from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from classmark.errors import EmptyEvaluation, InvalidConfig, InvalidReport, InvalidScores
from classmark.evaluation import (
    EvaluationConfig,
    calibrated_probabilities,
    evaluate_table,
    expected_calibration_error,
    macro_f1,
    top_k_accuracy,
)
from classmark.evaluation.metrics.intervals import resample_counts
from classmark.evaluation.metrics.rows import listed_recalls
from classmark.records import EvaluationReport, ScoreTable

MakeTable = Callable[..., ScoreTable]
NO_DRAWS = EvaluationConfig(draws=0)
FEW_DRAWS = EvaluationConfig(draws=200)
# Two papers right, one a near miss within the archive cs, one far off.
SCORES = [[4, 1, 0, 0], [0, 1, 4, 0], [4, 3, 0, 0], [4, 1, 2, 3]]
PRIMARY = [0, 2, 1, 2]


def values(report: EvaluationReport) -> dict[str, float]:
    return {name: metric.value for name, metric in report.metrics.items()}


def test_a_report_holds_every_metric_of_the_table(make_table: MakeTable) -> None:
    measured = values(evaluate_table(make_table(SCORES, PRIMARY), config=NO_DRAWS))
    assert measured["top_1"] == measured["micro_f1"] == 0.5
    assert measured["top_3"] == measured["top_5"] == 1.0
    # cs.AI: 1 true, 3 predicted; cs.LG: never; math.CO: 2 true, 1 predicted.
    assert measured["macro_f1"] == pytest.approx((2 / 4 + 0 + 2 / 3) / 3)
    assert measured["archive_accuracy"] == 0.75
    assert measured["group_accuracy"] == 0.75
    assert set(measured) == {
        *("top_1", "top_3", "top_5", "micro_f1", "macro_f1", "nll", "brier"),
        *("precision_at_1_listed", "recall_at_5_listed", "archive_accuracy", "group_accuracy"),
        *("ece", "ece_equal_mass", "ece_floor", "set_coverage", "set_size"),
    }


def test_a_report_agrees_with_the_metric_functions(random_table: ScoreTable) -> None:
    table = replace(random_table, temperature=1.7)
    measured = values(evaluate_table(table, config=NO_DRAWS))
    probabilities = calibrated_probabilities(table.scores, 1.7)
    correct = probabilities.argmax(axis=1) == table.primary
    assert measured["top_3"] == top_k_accuracy(table.scores, table.primary, 3)
    assert measured["macro_f1"] == pytest.approx(macro_f1(table.scores, table.primary))
    assert measured["ece"] == pytest.approx(
        expected_calibration_error(probabilities.max(axis=1), correct)
    )
    recalls = listed_recalls(table.scores, table.listed, table.listed_count, 5)
    assert measured["recall_at_5_listed"] == pytest.approx(recalls.mean())


def test_cross_lists_count_for_the_listed_metrics_only(make_table: MakeTable) -> None:
    listed = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 1, 0]], dtype=bool)
    counts = np.array([2, 1, 4, 1], dtype=np.int16)
    table = make_table(SCORES, PRIMARY, listed=listed, listed_count=counts)
    measured = values(evaluate_table(table, config=NO_DRAWS))
    assert measured["top_1"] == 0.5
    assert measured["precision_at_1_listed"] == 0.75
    assert measured["recall_at_5_listed"] == pytest.approx((1 + 1 + 2 / 4 + 1) / 4)


def test_prediction_sets_use_the_threshold_of_the_table(make_table: MakeTable) -> None:
    # Probabilities 3/4 and 1/4 (and nearly none for the others).
    scores = [[np.log(3), 0, -50, -50]] * 2
    narrow = evaluate_table(make_table(scores, [0, 1], set_threshold=0.5), config=NO_DRAWS)
    wide = evaluate_table(make_table(scores, [0, 1], set_threshold=0.2), config=NO_DRAWS)
    assert (values(narrow)["set_coverage"], values(narrow)["set_size"]) == (0.5, 1.0)
    assert (values(wide)["set_coverage"], values(wide)["set_size"]) == (1.0, 2.0)


def test_abstention_is_measured_when_the_table_has_thresholds(make_table: MakeTable) -> None:
    sure, unsure = [9, 0, 0, 0], [0.1, 0, 0, 0]
    table = make_table([sure, sure, unsure, sure], [0, 0, 0, 3], thresholds=(0.5,) * 4)
    measured = values(evaluate_table(table, config=NO_DRAWS))
    assert measured["acceptance_rate"] == 0.75
    assert measured["accepted_accuracy"] == pytest.approx(2 / 3)


def test_accuracy_of_the_accepted_is_left_out_when_none_is_accepted(
    make_table: MakeTable,
) -> None:
    report = evaluate_table(make_table(SCORES, PRIMARY, thresholds=(1.0,) * 4), config=FEW_DRAWS)
    assert report.metrics["acceptance_rate"].value == 0.0
    assert "accepted_accuracy" not in report.metrics


def test_free_labels_have_no_levels(make_table: MakeTable) -> None:
    report = evaluate_table(make_table(SCORES, PRIMARY, labels=tuple("abcd")), config=NO_DRAWS)
    assert report.label_space == "free"
    assert "archive_accuracy" not in report.metrics
    assert "group_accuracy" not in report.metrics


def test_papers_of_unknown_primary_are_counted_and_left_out(make_table: MakeTable) -> None:
    whole = evaluate_table(make_table(SCORES, PRIMARY), config=NO_DRAWS)
    padded = evaluate_table(make_table([*SCORES, [9, 0, 0, 0]], [*PRIMARY, -1]), config=NO_DRAWS)
    assert (padded.n, padded.n_unknown) == (4, 1)
    assert padded.metrics == whole.metrics


def test_periods_and_years_are_in_order_of_time_and_measured_alone(make_table: MakeTable) -> None:
    table = make_table(
        SCORES,
        PRIMARY,
        years=np.array([2021, 2009, 2009, 0], dtype=np.int16),
        periods=("a-late", "z-early", "z-early", ""),
    )
    report = evaluate_table(table, config=NO_DRAWS)
    assert [(p.name, p.n, p.metrics["top_1"].value) for p in report.periods] == [
        ("z-early", 2, 0.5),
        ("a-late", 1, 1.0),
    ]
    assert [(y.name, y.n) for y in report.years] == [("2009", 2), ("2021", 1)]


def test_categories_tell_precision_recall_and_what_they_are_confused_with(
    make_table: MakeTable,
) -> None:
    report = evaluate_table(make_table(SCORES, PRIMARY), config=NO_DRAWS)
    ai, lg, co = report.categories
    assert (ai.code, ai.n, ai.predicted, ai.recall, ai.confused_with) == ("cs.AI", 1, 3, 1.0, None)
    assert ai.precision == pytest.approx(1 / 3)
    assert (lg.code, lg.precision, lg.recall, lg.f1) == ("cs.LG", None, 0.0, 0.0)
    assert (co.code, co.confused_with, co.confused) == ("math.CO", "cs.AI", 1)
    assert co.f1 == pytest.approx(2 / 3)


def test_a_category_that_is_only_predicted_has_no_recall(make_table: MakeTable) -> None:
    report = evaluate_table(make_table([[0, 0, 0, 9]], [0]), config=NO_DRAWS)
    only_predicted = report.categories[1]
    assert (only_predicted.code, only_predicted.n) == ("hep-th", 0)
    assert (only_predicted.precision, only_predicted.recall) == (0.0, None)


def test_every_interval_holds_its_value(random_table: ScoreTable) -> None:
    report = evaluate_table(random_table, config=FEW_DRAWS)
    for part in (report.metrics, *(p.metrics for p in (*report.periods, *report.years))):
        for name, metric in part.items():
            assert metric.low is not None, name
            assert metric.high is not None, name
            assert 0.0 <= metric.low <= metric.value <= metric.high, name


def test_the_interval_of_accuracy_is_as_wide_as_the_binomial_one(random_table: ScoreTable) -> None:
    top_1 = evaluate_table(random_table).metrics["top_1"]
    assert top_1.low is not None
    assert top_1.high is not None
    binomial = 2 * 1.96 * np.sqrt(top_1.value * (1 - top_1.value) / 200)
    assert top_1.high - top_1.low == pytest.approx(binomial, rel=0.1)


def test_the_interval_of_a_calibration_error_lies_around_it(random_table: ScoreTable) -> None:
    # Every resample of a calibrated model looks worse calibrated; the interval must not.
    ece = evaluate_table(replace(random_table, temperature=1 / 1.2)).metrics["ece"]
    assert ece.low is not None
    assert ece.high is not None
    below, above = ece.value - ece.low, ece.high - ece.value
    assert min(below, above) > 0.6 * max(below, above)


def test_intervals_narrow_with_a_lower_level(random_table: ScoreTable) -> None:
    def width(level: float) -> float:
        config = EvaluationConfig(draws=200, level=level)
        metric = evaluate_table(random_table, config=config).metrics["ece"]
        return float(metric.high or 0) - float(metric.low or 0)

    assert width(0.5) < width(0.95)


def test_the_same_seed_gives_the_same_report_and_another_seed_other_intervals(
    random_table: ScoreTable,
) -> None:
    def metrics(seed: int) -> dict[str, Any]:
        return evaluate_table(random_table, config=EvaluationConfig(draws=50, seed=seed)).metrics

    assert metrics(1) == metrics(1)
    assert metrics(1)["top_1"].low != metrics(2)["top_1"].low


def test_resamples_draw_as_many_papers_as_there_are() -> None:
    chunks = list(resample_counts(300_000, 3, np.random.default_rng(0)))
    assert [chunk.shape for chunk in chunks] == [(1, 300_000)] * 3
    assert [chunk.sum() for chunk in chunks] == [300_000.0] * 3
    small = next(resample_counts(10, 7, np.random.default_rng(0)))
    assert small.shape == (7, 10)
    assert (small.sum(axis=1) == 10).all()


def test_a_table_of_one_paper_is_measured(make_table: MakeTable) -> None:
    report = evaluate_table(make_table([[3, 0, 0, 0]], [0]), config=FEW_DRAWS)
    top_1 = report.metrics["top_1"]
    assert (top_1.low, top_1.value, top_1.high) == (1.0, 1.0, 1.0)


def test_no_draws_give_no_intervals(make_table: MakeTable) -> None:
    report = evaluate_table(make_table(SCORES, PRIMARY), config=NO_DRAWS)
    assert all(metric.low is None is metric.high for metric in report.metrics.values())


def test_an_empty_table_is_refused(make_table: MakeTable) -> None:
    with pytest.raises(EmptyEvaluation, match="there are no papers to evaluate"):
        evaluate_table(make_table([], []))


def test_a_table_without_labels_is_refused(make_table: MakeTable) -> None:
    table = replace(
        make_table([[0, 0, 0, 0]], [0]),
        labels=(),
        scores=np.zeros((1, 0), dtype=np.float32),
        listed=np.zeros((1, 0), dtype=bool),
    )
    with pytest.raises(EmptyEvaluation, match="no labels"):
        evaluate_table(table)


def test_a_table_of_unknown_primaries_is_refused(make_table: MakeTable) -> None:
    with pytest.raises(EmptyEvaluation, match="none of the 2 papers has a primary"):
        evaluate_table(make_table(SCORES[:2], [-1, -1]))


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused_by_paper(
    make_table: MakeTable, broken: float
) -> None:
    scores = [[1, 0, 0, 0], [0, broken, 0, 0], [0, 0, broken, 0]]
    with pytest.raises(InvalidScores, match=r"'p1' has scores that are not finite \(2 .* of 3\)"):
        evaluate_table(make_table(scores, [0, 1, 2]))


@pytest.mark.parametrize("column", [4, -2])
def test_a_primary_beyond_the_columns_is_refused(make_table: MakeTable, column: int) -> None:
    listed = np.zeros((1, 4), dtype=bool)
    with pytest.raises(InvalidScores, match="'p0' has a primary outside the 4 columns"):
        evaluate_table(make_table([[1, 0, 0, 0]], [column], listed=listed))


def test_a_paper_not_listed_in_its_primary_is_refused(make_table: MakeTable) -> None:
    listed = np.array([[0, 1, 0, 0]], dtype=bool)
    with pytest.raises(InvalidScores, match="'p0' is not listed in its own primary"):
        evaluate_table(make_table([[1, 0, 0, 0]], [0], listed=listed))


def test_a_paper_listed_in_more_columns_than_categories_is_refused(make_table: MakeTable) -> None:
    listed = np.ones((1, 4), dtype=bool)
    with pytest.raises(InvalidScores, match="'p0' is listed in more columns"):
        evaluate_table(make_table([[1, 0, 0, 0]], [0], listed=listed))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": -1}, "draws must be at least 0, got -1"),
        ({"seed": -3}, "seed must be at least 0, got -3"),
        ({"n_bins": 0}, "n_bins must be at least 1, got 0"),
        ({"level": 1.0}, r"level must be between 0 and 1 .* got 1\.0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        EvaluationConfig(**options)


def test_a_report_survives_json_and_has_no_nan(random_table: ScoreTable) -> None:
    report = evaluate_table(random_table, config=FEW_DRAWS, command="classmark evaluate")
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert EvaluationReport.from_dict(json.loads(text)) == report


def test_a_report_names_its_data_its_date_and_its_command(make_table: MakeTable) -> None:
    table = make_table(SCORES, PRIMARY, dataset_digest="abc", split="test", generated=True)
    written = evaluate_table(table, config=NO_DRAWS, command="classmark evaluate").to_dict()
    assert written["model"] == {"name": "fast", "version": "1.0", "digest": "d" * 64}
    assert (written["dataset_digest"], written["split"]) == ("abc", "test")
    assert written["generated"] is True
    assert written["command"] == "classmark evaluate"
    assert written["date"].endswith("+00:00")
    assert "Python" in written["machine"]
    assert written["config"]["set_coverage"] == 0.9


def test_the_headline_says_what_was_measured(make_table: MakeTable) -> None:
    table = make_table(SCORES, PRIMARY, split="test", generated=True)
    headline = evaluate_table(table, config=NO_DRAWS).to_dict()["headline"]
    assert headline.startswith("top-1 0.500 top-5 1.000 ECE 0.")
    assert headline.endswith("on 4 invented papers of split test")


def test_a_report_of_another_format_is_refused(make_table: MakeTable) -> None:
    written = evaluate_table(make_table(SCORES, PRIMARY), config=NO_DRAWS).to_dict()
    with pytest.raises(InvalidReport, match="version is 99, this classmark reads 1"):
        EvaluationReport.from_dict({**written, "format_version": 99})
    with pytest.raises(InvalidReport, match=r"not of format 1: 'model'.*classmark evaluate"):
        EvaluationReport.from_dict({"format_version": 1})
