"""Few labels: the joined interval by hand and in simulation, and alarms that keep their word."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classmark.errors import EmptyEvaluation, InvalidConfig, InvalidScores
from classmark.evaluation.metrics.intervals import share_interval
from classmark.monitor.few_labels import (
    LabelWatch,
    join_labels,
    lasting_bounds,
    loss_evidence,
    tolerated_accuracy,
)

FIRST_20 = np.arange(20)
ALTERNATING = np.arange(20) % 2 == 0


def test_chances_that_are_all_alike_leave_the_labels_alone() -> None:
    found = join_labels(np.full(100, 0.7), FIRST_20, ALTERNATING, reference=0.6)
    assert found.value == 0.5
    reach = 1.959964 * math.sqrt(0.25 * 20 / 19 / 20)
    assert (found.low, found.high) == pytest.approx((0.5 - reach, 0.5 + reach), abs=1e-6)
    assert (found.papers, found.labels, found.reference, found.unlike) == (100, 20, 0.6, None)


def test_chances_that_tell_right_from_wrong_take_the_place_of_labels() -> None:
    chances = np.where(np.arange(1_000) % 2 == 0, 0.9, 0.1)
    found = join_labels(chances, FIRST_20, ALTERNATING, reference=0.6)
    power = np.cov(ALTERNATING, chances[:20])[0, 1] / ((1 + 20 / 980) * chances.var())
    assert power > 1  # so it is bounded by 1
    assert found.value == pytest.approx(chances[20:].mean() + (ALTERNATING - chances[:20]).mean())
    alone = share_interval(10, 20)
    assert found.high - found.low < 0.4 * ((alone.high or 1) - (alone.low or 0))


def test_chances_that_say_nothing_do_not_widen_the_interval() -> None:
    rng = np.random.default_rng(4)
    correct = np.arange(200) % 2 == 0
    found = join_labels(rng.choice([0.0, 1.0], 1_000), np.arange(200), correct, reference=0.6)
    alone = share_interval(100, 200)
    assert found.high - found.low < 1.02 * ((alone.high or 1) - (alone.low or 0))


def test_labels_that_are_all_right_have_the_interval_of_a_share() -> None:
    found = join_labels(np.linspace(0.1, 0.9, 100), FIRST_20, np.ones(20, bool), reference=0.6)
    alone = share_interval(20, 20)
    assert (found.value, found.low, found.high) == (1.0, alone.low, alone.high)


def test_joined_intervals_cover_the_truth_and_are_narrower_than_labels_alone() -> None:
    rng = np.random.default_rng(1)
    covered, widths, alone = [], [], []
    for _ in range(400):
        chances = rng.beta(0.7, 0.5, 1_000)
        correct = rng.random(1_000) < chances - 0.1  # too sure by 10 points
        chosen = rng.permutation(1_000)[:100]
        found = join_labels(chances, chosen, correct[chosen], reference=0.6)
        covered.append(found.low <= correct.mean() <= found.high)
        widths.append(found.high - found.low)
        plain = share_interval(int(correct[chosen].sum()), 100)
        alone.append((plain.high or 1) - (plain.low or 0))
    assert np.mean(covered) >= 0.93
    assert np.mean(widths) < 0.9 * np.mean(alone)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), n=st.integers(21, 200), level=st.floats(0.5, 0.999))
def test_joined_estimates_stay_within_0_and_1(seed: int, n: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(n)[:20]
    correct = rng.random(20) < rng.random()
    found = join_labels(rng.random(n), chosen, correct, reference=0.6, level=level)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_labels_of_all_papers_leave_nothing_to_estimate() -> None:
    found = join_labels(np.linspace(0.1, 0.9, 20), FIRST_20, ALTERNATING, reference=0.6)
    alone = share_interval(10, 20)
    assert (found.value, found.low, found.high) == (0.5, alone.low, alone.high)


def test_too_few_labels_are_refused() -> None:
    with pytest.raises(EmptyEvaluation, match=r"19 of 100 papers have labels; .* needs 20"):
        join_labels(np.full(100, 0.5), np.arange(19), np.arange(19) > 5, reference=0.6)


def test_labels_that_do_not_fit_the_papers_are_refused() -> None:
    chances = np.full(100, 0.5)
    for rows in (np.zeros(20, int), np.arange(21), np.arange(90, 110)):
        with pytest.raises(InvalidScores, match="Give one label for each labelled row"):
            join_labels(chances, rows, ALTERNATING, reference=0.6)
    chances[3] = np.nan
    with pytest.raises(InvalidScores, match="1 of 100 chances are not finite"):
        join_labels(chances, FIRST_20, ALTERNATING, reference=0.6)
    with pytest.raises(InvalidConfig, match="level must be between 0 and 1"):
        join_labels(np.full(100, 0.5), FIRST_20, ALTERNATING, reference=0.6, level=1.0)


def test_lasting_bounds_enclose_the_share_and_shrink() -> None:
    assert lasting_bounds(0, 0) == (0.0, 1.0)
    before = (0.0, 1.0)
    for n in (20, 200, 2_000):
        low, high = lasting_bounds(6 * n // 10, n)
        assert before[0] <= low < 0.6 < high <= before[1]
        before = low, high
    assert before[1] - before[0] < 0.1


def test_lasting_bounds_hold_at_every_moment() -> None:
    rng = np.random.default_rng(2)
    moments = [2**i for i in range(3, 10)]
    streams = [np.cumsum(rng.random(moments[-1]) < 0.6) for _ in range(200)]
    broken = 0
    for rights in streams:
        bounds = [lasting_bounds(int(rights[n - 1]), n, alpha=0.1) for n in moments]
        broken += not all(low <= 0.6 <= high for low, high in bounds)
    assert broken / len(streams) <= 0.1


@given(bound=st.floats(0.05, 0.95), accuracy=st.floats(0, 1), steps=st.integers(1, 5))
def test_the_expected_evidence_is_at_most_1_while_the_accuracy_holds(
    bound: float, accuracy: float, steps: int
) -> None:
    accuracy = bound + (1 - bound) * accuracy
    expected = 0.0
    for outcome in range(2**steps):
        correct = np.array([outcome >> i & 1 for i in range(steps)], dtype=bool)
        chance = accuracy ** correct.sum() * (1 - accuracy) ** (~correct).sum()
        expected += chance * math.exp(loss_evidence(correct, bound)[-1])
    assert expected <= 1 + 1e-9


def test_a_fall_is_noticed_however_long_all_was_well_before() -> None:
    rng = np.random.default_rng(3)
    wanted = math.log(1 / 0.05)
    delays = []
    for before in (0, 2_000):
        correct = np.concatenate([rng.random(before) < 0.7, rng.random(400) < 0.5])
        evidence = loss_evidence(correct, bound=0.65)
        assert (evidence[:before] < wanted).all()
        delays.append(int((evidence[before:] >= wanted).argmax()))
        assert evidence.max() >= wanted
    assert 0 < delays[0] < 250
    assert 0 < delays[1] < 350


def test_no_labels_are_no_evidence() -> None:
    assert len(loss_evidence(np.zeros(0, bool), 0.6)) == 0


def test_what_is_tolerated_is_below_what_the_reference_may_have() -> None:
    bound = tolerated_accuracy(650, 1_000, tolerance=0.02, alpha=0.05)
    assert bound == pytest.approx((share_interval(650, 1_000).low or 0) - 0.02)
    assert tolerated_accuracy(1, 100, tolerance=0.5, alpha=0.05) == 0.0
    assert loss_evidence(np.zeros(5, bool), 0.0)[-1] < math.log(20)
    assert loss_evidence(np.array([True, False]), 1.0)[-1] > math.log(20)


@given(outcomes=st.lists(st.booleans(), max_size=120), cuts=st.lists(st.integers(0, 120)))
def test_a_watch_says_the_same_in_one_part_or_in_many(
    outcomes: list[bool], cuts: list[int]
) -> None:
    ids = [f"prediction {i}" for i in range(len(outcomes))]
    correct, reference = np.array(outcomes, dtype=bool), np.arange(1_000) < 650
    begun = LabelWatch(begun_at_utc="2026-11-01T00:00:00.000Z", first="")
    whole, parts = begun.counting(ids, correct), begun
    for end in (*sorted(cuts), len(ids)):
        is_new = parts.is_new(ids[:end])
        new = [one for one, is_one in zip(ids, is_new.tolist(), strict=False) if is_one]
        parts = parts.counting(new, correct[:end][is_new])
    assert parts.state(reference, 0.03, 0.01) == whole.state(reference, 0.03, 0.01)


def test_false_alarms_of_a_watch_are_at_most_alpha_with_the_reference_drawn_too() -> None:
    rng = np.random.default_rng(5)
    begun = LabelWatch(begun_at_utc="2026-11-01T00:00:00.000Z", first="")
    alarms = 0
    for _ in range(300):
        reference = rng.random(500) < 0.6
        watch = begun.counting([str(i) for i in range(400)], rng.random(400) < 0.6)
        alarms += watch.state(reference, tolerance=0.0, alpha=0.1).p_value <= 0.1
    assert alarms / 300 <= 0.1
