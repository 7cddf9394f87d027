from __future__ import annotations

import threading
from multiprocessing import Pipe
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classmark import Paper
from classmark.bundle import find_bundle
from classmark.errors import WorkerFailed
from classmark.profiling.turns import answer_rounds, median_interval, take_turns
from recording import Recording

PAPERS = [Paper(id="1", abstract="We colour graphs."), Paper(id="2", title="Strings and branes")]


def test_each_model_answers_in_a_process_of_its_own_and_says_what_it_costs() -> None:
    fast, progress = find_bundle("fast"), Recording()
    costs = take_turns([fast, fast], PAPERS, 5, progress)
    assert [len(cost.latency_ms) for cost in costs] == [5, 5]
    assert all(ms > 0 for cost in costs for ms in cost.latency_ms)
    assert sum(progress.counts) == 6
    if Path("/proc/self/status").exists():
        assert all(10 < (cost.peak_mb or 0) < 2000 for cost in costs)


def test_a_model_that_cannot_answer_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed, match=r"gone cannot answer: no model at"):
        take_turns([tmp_path / "gone"], PAPERS, 3)


def test_rounds_are_answered_until_nobody_asks() -> None:
    ours, theirs = Pipe()
    ours.send("round")
    ours.send("peak")
    thread = threading.Thread(target=answer_rounds, args=(theirs, find_bundle("fast"), PAPERS))
    thread.start()
    received = [ours.recv(), ours.recv()]
    ours.close()
    thread.join(60)
    assert not thread.is_alive()
    assert received[0] > 0


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40))
def test_the_interval_holds_the_median_and_only_values_that_were_seen(values: list[float]) -> None:
    low, high = median_interval(values)
    in_order = sorted(values)
    assert {low, high} <= set(values)
    assert low <= in_order[(len(values) - 1) // 2] <= high


def test_the_interval_of_fifteen_rounds_leaves_out_three_at_each_end() -> None:
    # P(X <= 3) = 0.0176 and P(X <= 4) = 0.059 for a binomial of 15 with p = 1/2.
    assert median_interval(list(range(1, 16))) == (4, 12)
    assert median_interval([3.0]) == (3.0, 3.0)
