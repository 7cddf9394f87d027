from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.errors import EmptyEvaluation, InvalidConfig
from classmark.evaluation import choose_scope_threshold, energy, fit_scope

scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=20).map(np.array)


def test_energy_by_hand() -> None:
    assert energy(np.array([[0.0, 0.0], [2.0, -1e9]])) == pytest.approx([math.log(2), 2.0])
    assert energy(np.array([[4.0, 4.0]]), temperature=2.0) == pytest.approx([2 + math.log(2)])


def test_energy_does_not_overflow() -> None:
    huge = np.array([[1e30, -1e30]], dtype=np.float32)
    assert energy(huge, 0.01) == pytest.approx([1e32])


def test_fit_scope_recovers_the_weights_the_labels_were_drawn_with() -> None:
    rng = np.random.default_rng(8)
    share, high = rng.random(20_000), rng.normal(30, 8, 20_000)
    chance = 1 / (1 + np.exp(-(-6 + 4 * share + 0.15 * high)))
    in_scope = rng.random(20_000) < chance
    _, w_share, w_energy = fit_scope(share, high, in_scope)
    assert (w_share, w_energy) == pytest.approx((4.0, 0.15), rel=0.1)


def test_fit_scope_stays_finite_and_ranks_perfectly_when_the_texts_are_separable() -> None:
    share = np.array([0.1, 0.2, 0.8, 0.9])
    high = np.array([5.0, 6.0, 50.0, 60.0])
    bias, w_share, w_energy = fit_scope(share, high, np.array([False, False, True, True]))
    logits = bias + w_share * share + w_energy * high
    assert np.isfinite(logits).all()
    assert logits[:2].max() < 0 < logits[2:].min()


def test_fit_scope_gives_a_constant_feature_no_weight() -> None:
    share = np.full(40, 0.7)
    high = np.arange(40.0)
    _, w_share, w_energy = fit_scope(share, high, high + (np.arange(40) % 3) * 9 > 25)
    assert w_share == pytest.approx(0.0, abs=1e-6)
    assert w_energy > 0


def test_fit_scope_weighs_both_kinds_alike_however_many_there_are() -> None:
    rng = np.random.default_rng(9)
    high = np.concatenate([rng.normal(1, 1, 9000), rng.normal(-1, 1, 90)])
    in_scope = np.arange(9090) < 9000
    bias, _, _ = fit_scope(np.full(9090, 0.5), high, in_scope)
    assert bias == pytest.approx(0.0, abs=0.4)


@pytest.mark.parametrize("in_scope", [[True, True], [False, False]])
def test_fit_scope_needs_both_kinds_of_text(in_scope: list[bool]) -> None:
    with pytest.raises(EmptyEvaluation, match=r"needs papers and other texts, got \d papers"):
        fit_scope(np.zeros(2), np.zeros(2), np.array(in_scope))


def test_choose_scope_threshold_rejects_no_more_than_allowed() -> None:
    papers = np.arange(1000.0)
    assert choose_scope_threshold(papers, 0.005) == 5.0
    assert choose_scope_threshold(papers, 0.0) == 0.0


@given(scores, st.floats(0, 0.99))
def test_choose_scope_threshold_keeps_its_promise_with_ties(
    papers: np.ndarray, rate: float
) -> None:
    assert np.mean(papers < choose_scope_threshold(papers, rate)) <= rate


def test_choose_scope_threshold_refuses_bad_input() -> None:
    with pytest.raises(EmptyEvaluation, match="no papers"):
        choose_scope_threshold(np.zeros(0))
    with pytest.raises(InvalidConfig, match=r"false_rejection_rate .* got 1\.0"):
        choose_scope_threshold(np.zeros(3), 1.0)


def test_an_energy_that_is_only_rounding_counts_for_nothing() -> None:
    random = np.random.default_rng(7)
    in_scope = np.arange(400) < 200
    shares = np.where(in_scope, 0.9, 0.4) + random.normal(0, 0.05, 400)
    bias, on_share, on_energy = fit_scope(shares, random.normal(0, 1e-7, 400), in_scope)
    assert abs(on_energy) < 1
    assert on_share > 0
    assert abs(bias) < 100
