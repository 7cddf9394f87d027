from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark.evaluation.metrics.intervals import f1_interval, share_interval


def test_share_interval_is_wilsons() -> None:
    # Newcombe 1998, table I: 81 of 263 and 15 of 148.
    for hits, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        share = share_interval(hits, n)
        assert (share.low, share.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.slow
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_share_interval_holds_the_share_and_stays_inside_0_and_1(counts: tuple[int, int]) -> None:
    share = share_interval(*counts)
    assert share.low is not None
    assert share.high is not None
    assert 0.0 <= share.low <= share.value <= share.high <= 1.0
    assert share.low < share.high


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_f1_interval_holds_f1(right: int, missed: int, wrong: int) -> None:
    n, predicted = right + missed, right + wrong
    if n + predicted == 0:
        return
    f1 = f1_interval(right, n, predicted)
    assert f1.low is not None
    assert f1.high is not None
    assert f1.value == pytest.approx(2 * right / (n + predicted))
    assert 0.0 <= f1.low <= f1.value <= f1.high <= 1.0


def test_f1_of_a_label_that_is_always_right_is_1() -> None:
    assert f1_interval(9, 9, 9).value == 1.0
    assert f1_interval(9, 9, 9).high == 1.0
