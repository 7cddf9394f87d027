"""How much waits, how fast it is done, and what is refused for it."""

from __future__ import annotations

import pytest

from classmark.service.backlog import LONGEST_RETRY_S, MARGIN, Backlog
from classmark.service.metrics import Metrics
from classmark.service.problems import Problem


@pytest.fixture
def backlog() -> Backlog:
    return Backlog("papers", 3, Metrics())


def test_nothing_is_refused_while_the_pace_is_unknown_or_nothing_is_there(
    backlog: Backlog,
) -> None:
    backlog.add(1, 1_000)
    backlog.check(0.001, 1_000_000)
    backlog.drop(1, 1_000)
    backlog.learn_pace(1, 1_000_000)
    backlog.check(0.001, 1_000_000)


def test_what_needs_longer_than_it_has_is_refused_with_both_numbers(backlog: Backlog) -> None:
    backlog.learn_pace(100, 10)
    backlog.add(1, 20)
    backlog.begin(1, 20)
    backlog.add(1, 30)
    assert backlog.expected_wait_s(50) == pytest.approx(10 * MARGIN)
    backlog.check(12.1, 50)
    with pytest.raises(Problem, match=r"1 papers wait, and this one needs about 12.0 s but has 11"):
        backlog.check(11, 50)


def test_more_items_than_may_wait_are_refused_however_short(backlog: Backlog) -> None:
    backlog.add(3, 3)
    with pytest.raises(Problem, match=r"3 papers wait, and no more may\. Try again in 1 s") as full:
        backlog.check(1_000)
    assert full.value.retry_after_s == 1
    backlog.learn_pace(1, 1_000)
    with pytest.raises(Problem) as slow:
        backlog.check(1_000)
    assert slow.value.retry_after_s == LONGEST_RETRY_S


def test_the_pace_follows_what_is_done_and_the_newest_counts_most(backlog: Backlog) -> None:
    for _ in range(100):
        backlog.learn_pace(10, 10)
    for _ in range(20):
        backlog.learn_pace(10, 1)
    backlog.add(1, 10)
    assert 1 < backlog.expected_wait_s() / MARGIN < 3


def test_work_that_runs_at_the_same_time_is_not_counted_twice(
    backlog: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([100.0, 110.0, 110.0])
    monkeypatch.setattr("classmark.service.backlog.time.monotonic", lambda: next(now))
    backlog.add(2, 20)
    backlog.begin(1, 10)
    backlog.begin(1, 10)
    backlog.end(10)
    backlog.end(10)
    assert (backlog.waiting, backlog.waiting_size, backlog.running_size) == (0, 0, 0)
    assert backlog.expected_wait_s(20) / MARGIN == pytest.approx(10, rel=0.1)


def test_work_that_fails_is_no_longer_there(backlog: Backlog) -> None:
    backlog.add(1, 10)
    with pytest.raises(ValueError, match="broken"), backlog.running(10):
        raise ValueError("broken")
    assert (backlog.waiting, backlog.waiting_size, backlog.running_size) == (0, 0, 0)
