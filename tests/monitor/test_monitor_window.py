"""Whether a window differs from its reference, how much, and what carries it."""

from __future__ import annotations

import numpy as np
import pytest
from drift_papers import HIDDEN, LABELS, features

from classmark.errors import InvalidWindow
from classmark.monitor.sizes import size_of
from classmark.monitor.window import LEAST_PAPERS, columns_of, compare
from classmark.runtime.features import FLAGS, FeatureTable

HIDDEN_NAME = f"predicted {LABELS[HIDDEN]}"


def test_the_p_value_of_papers_like_the_reference_is_uniform() -> None:
    rng = np.random.default_rng(1)
    p_values = [
        compare(features(rng, 60), features(rng, 150), exchanges=99).p_value for _ in range(200)
    ]
    # 200 looks at a stated .05 and .2: within three standard deviations of them.
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert 0.2 - 0.085 <= np.mean(np.array(p_values) <= 0.2) <= 0.2 + 0.085
    assert 0.4 <= np.mean(p_values) <= 0.6


def test_a_tenth_of_papers_of_another_field_is_found_and_named() -> None:
    rng = np.random.default_rng(2)
    test = compare(features(rng, 500, hidden=0.1), features(rng, 2000))
    assert test.p_value == pytest.approx(1 / 1000)
    named = {s.name for s in test.shifts if s.p_value <= 0.01}
    assert HIDDEN_NAME in named
    assert not {name for name in named if name.startswith("predicted")} - {HIDDEN_NAME}
    shift = next(s for s in test.shifts if s.name == HIDDEN_NAME)
    assert shift.window > shift.reference
    assert shift.standardised > 0


def test_each_shift_has_its_means_and_a_p_value_that_falls_with_its_size() -> None:
    rng = np.random.default_rng(3)
    window, reference = features(rng, 300, hidden=0.2), features(rng, 900)
    test = compare(window, reference)
    columns, other = columns_of(window), columns_of(reference)
    assert sorted(s.name for s in test.shifts) == sorted(columns.names)
    for shift in test.shifts:
        j = columns.names.index(shift.name)
        assert shift.window == pytest.approx(columns.values[:, j].mean(), abs=1e-5)
        assert shift.reference == pytest.approx(other.values[:, j].mean(), abs=1e-5)
    sizes = [abs(s.standardised) for s in test.shifts]
    assert sizes == sorted(sizes, reverse=True)
    p_values = [s.p_value for s in test.shifts]
    assert p_values == sorted(p_values)
    assert all(1 / 1000 <= p <= 1 for p in (*p_values, *test.statistics.values()))


def test_a_window_larger_than_its_reference_is_compared_as_well() -> None:
    rng = np.random.default_rng(4)
    reference = features(rng, 200)
    assert compare(features(rng, 900), reference, exchanges=99).p_value > 0.02
    assert compare(features(rng, 900, hidden=0.2), reference, exchanges=99).p_value == 0.01


def test_the_same_papers_give_the_same_p_values() -> None:
    window = features(np.random.default_rng(5), 100, hidden=0.05)
    reference = features(np.random.default_rng(6), 300)
    assert compare(window, reference) == compare(window, reference)


def test_whether_authors_were_used_is_not_compared() -> None:
    window = features(np.random.default_rng(7), 200)
    reference = features(np.random.default_rng(8), 400)
    flags = window.flags.copy()
    flags[:, FLAGS.index("used_authors")] = True
    others = FeatureTable(**{**vars(window), "flags": flags})
    assert compare(others, reference, exchanges=99) == compare(window, reference, exchanges=99)


@pytest.mark.parametrize("hidden", [0.1, 0.3])
def test_the_same_shift_has_the_same_size_in_any_window(hidden: float) -> None:
    rng = np.random.default_rng(9)
    reference = features(rng, 3000)
    means = {}
    for n in (100, 400, 2000):
        sizes = [size_of(features(rng, n, hidden=hidden), reference) for _ in range(30)]
        means[n] = np.mean([size.share for size in sizes])
        covered = [size.low <= means[n] <= size.high for size in sizes]
        assert np.mean(covered) >= 0.85
    assert max(means.values()) - min(means.values()) < 0.15 * hidden + 0.01
    assert means[2000] == pytest.approx(hidden, rel=0.35)


def test_papers_like_the_reference_have_a_size_whose_interval_begins_at_none() -> None:
    rng = np.random.default_rng(10)
    reference = features(rng, 1000)
    sizes = [size_of(features(rng, 300), reference) for _ in range(40)]
    assert np.mean([size.low == 0 for size in sizes]) >= 0.9
    assert all(0 <= size.low <= size.share <= size.high <= 1 for size in sizes)


def test_too_few_papers_say_how_many_are_needed() -> None:
    rng = np.random.default_rng(11)
    with pytest.raises(InvalidWindow, match=r"window has 49 papers, a comparison needs 50"):
        compare(features(rng, LEAST_PAPERS - 1), features(rng, 100))
    with pytest.raises(InvalidWindow, match=r"reference has 20 papers"):
        compare(features(rng, 100), features(rng, 20))


def test_features_that_are_not_numbers_are_refused() -> None:
    window = features(np.random.default_rng(12), 60)
    numbers = window.numbers.copy()
    numbers[3, 0] = np.nan
    broken = FeatureTable(**{**vars(window), "numbers": numbers})
    with pytest.raises(InvalidWindow, match="not finite numbers"):
        compare(broken, features(np.random.default_rng(13), 100))


def test_papers_that_are_all_alike_can_be_compared_but_have_no_size() -> None:
    one = features(np.random.default_rng(14), 1).select(np.zeros(60, dtype=np.intp))
    assert compare(one, one, exchanges=99).p_value == 1
    with pytest.raises(InvalidWindow, match="no two categories that differ"):
        size_of(one, one)


def test_of_too_large_a_window_a_sample_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classmark.monitor.window.MOST_PAPERS", 100)
    rng = np.random.default_rng(15)
    assert compare(features(rng, 150), features(rng, 200), exchanges=99).n_window == 100
