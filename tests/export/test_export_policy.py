"""The policy of a bundle weighs periods alike and knows papers from other texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from classmark.errors import EmptyEvaluation
from classmark.evaluation import calibrated_probabilities, expected_calibration_error
from classmark.export import fit_curve, fit_policy
from classmark.export.policy import SET_COVERAGE, _equal_periods
from classmark.kernels import RawScores
from classmark.records import ScoreTable
from classmark.wire import ModelRef

LABELS = ("cs.AI", "cs.LG", "math.CO", "hep-th")
OLD, NEW = "until-2017", "from-2018"


def table_of(n_old: int, n_new: int, **changes: Any) -> ScoreTable:
    """Old papers are hard (the scores are noise), new ones are easy."""
    rng = np.random.default_rng(3)
    n = n_old + n_new
    primary = rng.integers(0, 4, n).astype(np.int16)
    margin = np.where(np.arange(n) < n_old, 0.0, 6.0)[:, None]
    scores = rng.normal(size=(n, 4)) + margin * (primary[:, None] == np.arange(4))
    values: dict[str, Any] = {
        "labels": LABELS,
        "ids": tuple(f"p{i}" for i in range(n)),
        "scores": scores.astype(np.float32),
        "primary": primary,
        "listed": primary[:, None] == np.arange(4),
        "listed_count": np.ones(n, dtype=np.int16),
        "years": np.zeros(n, dtype=np.int16),
        "periods": (OLD,) * n_old + (NEW,) * n_new,
        "known_share": rng.uniform(0.8, 1.0, n).astype(np.float32),
        "model": ModelRef("fast", "1.0", ""),
    }
    return ScoreTable(**{**values, **changes})


def test_each_period_gives_the_same_number_of_papers_that_have_a_label() -> None:
    table = table_of(90, 30)
    table.primary[:5] = -1
    rows = _equal_periods(table)
    assert [table.periods[i] for i in rows].count(OLD) == 30
    assert [table.periods[i] for i in rows].count(NEW) == 30
    assert len(set(rows.tolist())) == 60
    assert (table.primary[rows] >= 0).all()


def test_more_papers_of_a_period_do_not_move_the_temperature() -> None:
    few, many = fit_policy(table_of(150, 150)), fit_policy(table_of(150, 1500))
    all_new = fit_policy(table_of(0, 1500))
    assert many.temperature == pytest.approx(few.temperature, rel=0.2)
    assert all_new.temperature < 0.75 * few.temperature


def test_without_other_texts_nothing_is_out_of_scope() -> None:
    policy = fit_policy(table_of(50, 50))
    assert policy.scope_weights == (0.0, 0.0, 0.0)
    assert policy.scope_threshold < 0.0
    assert policy.set_coverage == SET_COVERAGE
    assert len(policy.thresholds) == len(policy.cross_list_thresholds) == len(LABELS)
    assert all(0.0 <= t <= 1.0 for t in (*policy.thresholds, *policy.cross_list_thresholds))


def test_sets_need_the_known_terms_that_nearly_all_validation_papers_have() -> None:
    table = table_of(150, 150)
    table.known_share[:] = 0.5

    def set_terms(n: int) -> int:
        return fit_policy(table, n_terms=np.full(len(table), n, dtype=np.int32)).set_terms

    assert (set_terms(16), set_terms(60), set_terms(200)) == (8, 30, 30)
    assert fit_policy(table).set_terms == 30


def test_no_cross_list_is_suggested_where_no_paper_has_one() -> None:
    policy = fit_policy(table_of(50, 50), has_cross_lists=False)
    assert policy.cross_list_thresholds == (1.0,) * len(LABELS)


def test_scope_tells_papers_from_other_texts() -> None:
    table = table_of(300, 300)
    rng = np.random.default_rng(0)
    others = RawScores(
        rng.normal(0, 0.3, (80, 4)).astype(np.float32),
        rng.uniform(0.0, 0.4, 80).astype(np.float32),
    )
    policy = fit_policy(table, others)

    def accepted(scores: Any, shares: Any) -> float:
        energies = np.log(np.exp(scores / policy.temperature).sum(axis=1))
        bias, on_share, on_energy = policy.scope_weights
        in_scope = bias + on_share * shares + on_energy * energies >= policy.scope_threshold
        return float(in_scope.mean())

    assert accepted(table.scores, table.known_share) > 0.98
    assert accepted(others.scores, others.known_share) == 0.0


@pytest.mark.parametrize("n", [0, 20])
def test_no_paper_with_a_known_label_is_refused(n: int) -> None:
    table = table_of(n, 0, primary=np.full(n, -1, dtype=np.int16))
    with pytest.raises(EmptyEvaluation, match=r"no paper with a label.*larger --valid-share"):
        fit_policy(table)


@pytest.mark.slow
def test_the_curve_mends_a_model_that_claims_too_much() -> None:
    table = overconfident_table()
    curve = fit_curve(table)
    assert curve is not None

    def error(scores: np.ndarray) -> float:
        probabilities = calibrated_probabilities(scores)
        right = probabilities.argmax(axis=1) == table.primary
        return expected_calibration_error(probabilities.max(axis=1), right)

    assert error(table.scores) > 0.15
    assert error(curve.apply(table.scores)) < 0.03


def test_a_curve_is_not_fitted_to_a_few_papers() -> None:
    table = overconfident_table()
    assert fit_curve(table.select(np.arange(1_999))) is None


def overconfident_table() -> ScoreTable:
    """3,000 papers whose true probabilities are the softmax of a third of the scores."""
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(3_000, 6)).astype(np.float32) * 4
    gumbel = -np.log(-np.log(rng.uniform(size=scores.shape)))
    primary = (scores / 3 + gumbel).argmax(axis=1).astype(np.int16)
    listed = np.zeros(scores.shape, dtype=np.bool_)
    listed[np.arange(len(scores)), primary] = True
    return ScoreTable(
        labels=tuple("abcdef"),
        ids=tuple(map(str, range(len(scores)))),
        scores=scores,
        primary=primary,
        listed=listed,
        listed_count=np.ones(len(scores), dtype=np.int16),
        years=np.zeros(len(scores), dtype=np.int16),
        periods=("",) * len(scores),
        known_share=np.ones(len(scores), dtype=np.float32),
    )
