"""Accuracy without labels: what holds exactly, how often intervals hold, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invented_features import Invented, invent, late_shares

from classmark.errors import EmptyEvaluation, InvalidConfig, InvalidScores
from classmark.monitor.accuracy import AccuracyEstimator
from classmark.runtime.features import FLAGS

REFERENCE = invent(2_000, seed=1)
ESTIMATOR = AccuracyEstimator(REFERENCE, REFERENCE.truth)


def test_the_reference_itself_has_its_accuracy_and_is_not_unlike() -> None:
    found = ESTIMATOR.estimate(REFERENCE)
    assert found.value == pytest.approx(REFERENCE.accuracy, abs=1e-6)
    assert found.reference == REFERENCE.accuracy
    assert found.unlike == 0
    assert (found.papers, found.labels, found.level) == (2_000, 0, 0.95)
    assert found.low < found.value < found.high


def test_chances_follow_what_the_confidence_gets_wrong() -> None:
    first, last = (
        ESTIMATOR.chances(REFERENCE.rows(np.flatnonzero(REFERENCE.truth == category)))
        - REFERENCE.top_probs[REFERENCE.truth == category, 0]
        for category in (0, 11)
    )
    assert first.mean() > 0.02 > -0.02 > last.mean()


def test_another_mix_of_categories_is_seen_and_corrected() -> None:
    window = invent(4_000, seed=2, shares=late_shares(), too_sure=0.3)
    reference = invent(4_000, seed=3, too_sure=0.3)
    estimator = AccuracyEstimator(reference, reference.truth)
    found = estimator.estimate(window)
    confidence = float(window.top_probs[:, 0].mean())
    assert abs(found.value - window.accuracy) < 0.5 * abs(confidence - window.accuracy)
    assert found.unlike is not None
    assert 0.1 < found.unlike < 0.5
    alike = estimator.estimate(reference)
    assert found.high - found.low > 2 * (alike.high - alike.low)


def test_intervals_cover_the_truth_with_and_without_a_shift() -> None:
    for shares in (None, late_shares()):
        windows = [invent(300, seed, shares=shares) for seed in range(100, 200)]
        found = [ESTIMATOR.estimate(window) for window in windows]
        covered = [
            one.low <= window.accuracy <= one.high
            for one, window in zip(found, windows, strict=True)
        ]
        assert np.mean(covered) >= 0.9


def test_who_sends_authors_changes_no_estimate() -> None:
    """Nearly all papers of a reference had authors; a client that sends none asks the same."""
    authors = FLAGS.index("used_authors")
    had = REFERENCE.flags.copy()
    had[:, authors] = np.arange(2_000) % 20 > 0
    reference = replace(REFERENCE, flags=had)
    estimator = AccuracyEstimator(reference, REFERENCE.truth)
    window = invent(2_000, seed=5)
    for is_used in (False, True):
        flags = window.flags.copy()
        flags[:, authors] = is_used
        found = estimator.estimate(replace(window, flags=flags))
        assert found == ESTIMATOR.estimate(window)
        assert found.high - found.low < 0.1


def test_a_higher_level_gives_a_wider_interval() -> None:
    window = invent(300, seed=4, shares=late_shares())
    narrow, wide = (ESTIMATOR.estimate(window, level) for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.value == wide.value < narrow.high < wide.high


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(50, 200), far=st.floats(-1e6, 1e6))
def test_estimates_stay_within_0_and_1_however_far_a_window_is(
    seed: int, n: int, far: float
) -> None:
    window = invent(n, seed)
    shifted = replace(window, projection=(window.projection + far).astype(np.float32))
    for papers in (window, shifted):
        found = ESTIMATOR.estimate(papers)
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.unlike is not None
        assert 0 <= found.unlike <= 1


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_the_order_of_papers_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    window = invent(200, seed)
    before = ESTIMATOR.estimate(window)
    mixed = REFERENCE.rows(rng.permutation(2_000))
    after = AccuracyEstimator(mixed, mixed.truth).estimate(window.rows(rng.permutation(200)))
    for end in ("value", "low", "high", "unlike"):
        assert getattr(after, end) == pytest.approx(getattr(before, end), abs=1e-6)


def test_papers_that_are_all_alike_can_be_estimated() -> None:
    alike = REFERENCE.rows(np.zeros(60, dtype=np.intp))
    found = ESTIMATOR.estimate(alike)
    assert found.value == pytest.approx(float(ESTIMATOR.chances(alike)[0]), abs=0.2)
    constant = REFERENCE.with_energy(np.zeros(2_000, np.float32))
    assert AccuracyEstimator(constant, constant.truth).estimate(constant).value == pytest.approx(
        REFERENCE.accuracy, abs=1e-6
    )


def test_papers_without_a_label_are_left_out_of_the_reference() -> None:
    unknown = REFERENCE.truth.copy()
    unknown[1_000:] = -1
    half = REFERENCE.rows(np.arange(1_000))
    estimator = AccuracyEstimator(REFERENCE, unknown)
    assert estimator.papers == 1_000
    assert estimator.accuracy == half.accuracy


def one_label_each(papers: Invented, *, right: bool) -> Any:
    return papers.top_labels[:, 0] if right else (papers.top_labels[:, 0] + 1)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (np.full(2_000, -1, np.int16), r"0 papers with labels; .* needs 200"),
        (one_label_each(REFERENCE, right=True), r"all 2000 papers of the reference is right"),
        (one_label_each(REFERENCE, right=False), r"all 2000 papers of the reference is wrong"),
    ],
)
def test_a_reference_that_teaches_nothing_is_refused(truth: Any, message: str) -> None:
    with pytest.raises(EmptyEvaluation, match=message):
        AccuracyEstimator(REFERENCE, truth)


def test_a_reference_with_another_number_of_labels_is_refused() -> None:
    with pytest.raises(InvalidScores, match="2000 papers and 10 labels"):
        AccuracyEstimator(REFERENCE, REFERENCE.truth[:10])


@pytest.mark.parametrize("n", [0, 49])
def test_a_window_that_is_too_small_says_how_many_are_needed(n: int) -> None:
    with pytest.raises(EmptyEvaluation, match=f"the window has {n} papers; .* needs 50"):
        ESTIMATOR.estimate(REFERENCE.rows(np.arange(n)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_counted_and_refused(value: float) -> None:
    energy = REFERENCE.energy.copy()
    energy[[3, 5]] = value
    for use in (ESTIMATOR.estimate, ESTIMATOR.chances):
        with pytest.raises(InvalidScores, match="2 of 2000 papers have features that are not"):
            use(REFERENCE.with_energy(energy))


def test_features_of_different_numbers_of_papers_are_refused() -> None:
    with pytest.raises(InvalidScores, match=r"different numbers of papers: \[1999, 2000\]"):
        ESTIMATOR.estimate(replace(REFERENCE, numbers=REFERENCE.numbers[1:]))


@pytest.mark.parametrize("level", [0.0, 1.0, np.nan])
def test_a_level_outside_of_0_and_1_is_refused(level: float) -> None:
    with pytest.raises(InvalidConfig, match="level must be between 0 and 1"):
        ESTIMATOR.estimate(REFERENCE, level)
