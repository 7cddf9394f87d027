"""How much waits, how fast it is done, and what is refused for it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from unittest.mock import patch

import pytest
from pydantic_core import to_json

from classmark.errors import Overloaded
from classmark.service.http.service import Service
from classmark.service.metrics import Metrics
from classmark.service.problems import Problem
from classmark.service.requests.exchange import Exchange
from classmark.service.requests.threads import LONGEST_RETRY_S, MARGIN, Backlog, work_size
from classmark.service.settings import make_settings


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
    backlog.check(14.1, 50)
    with pytest.raises(
        Overloaded, match=r"1 papers wait, and this one needs about 14.0 s but has 13"
    ):
        backlog.check(13, 50)


def test_more_items_than_may_wait_are_refused_however_short(backlog: Backlog) -> None:
    backlog.add(3, 3)
    with pytest.raises(
        Overloaded, match=r"3 papers wait, and no more may\. Try again in 1 s"
    ) as full:
        backlog.check(1_000)
    assert full.value.retry_after_s == 1
    backlog.learn_pace(1, 1_000)
    with pytest.raises(Overloaded) as slow:
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
    monkeypatch.setattr("time.monotonic", lambda: next(now))
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


def test_what_fails_teaches_only_that_work_is_slower(backlog: Backlog) -> None:
    backlog.learn_pace(100, 100)
    for seconds in (0, 400):
        backlog.add(1, 100)
        with (
            suppress(ValueError),
            patch(
                "classmark.service.requests.threads.time.monotonic", side_effect=[1, 1 + seconds]
            ),
            backlog.running(100),
        ):
            raise ValueError("refused")
        expected = 100 if seconds == 0 else (90 + 400) / (90 + 100) * 100
        assert backlog.expected_wait_s(100) == pytest.approx(expected * MARGIN)


def test_short_work_does_not_let_long_work_be_expected_too_late(backlog: Backlog) -> None:
    text = "We colour sparse graphs with few colours. " * 30
    batch = to_json({"papers": [{"title": "Graph colouring", "abstract": text}] * 1000})
    for short in ({"text": "a", "explain": True}, {"papers": [{"text": "a"}]}):
        for _ in range(50):
            backlog.learn_pace(work_size(to_json(short), 1000), 0.01)
        assert backlog.expected_wait_s(work_size(batch, 1000)) < 2
    many = to_json({"papers": [{"text": "a"}] * 1000})
    assert work_size(batch, 1000) / 3 < work_size(many, 1000) < work_size(batch, 1000)
    assert work_size(b"{" * 8_000_000, 1000) < 2 * 8_000_000
    assert work_size(b"", 1000) > 0


def test_whatever_becomes_of_work_its_size_is_given_back() -> None:
    service = Service(make_settings(journal="off", max_queue=1000, access_log=False))

    def work(seconds: float) -> None:
        time.sleep(seconds)
        if seconds > 0.001:
            raise ValueError("broken")

    async def ask(number: int) -> None:
        scope = {"headers": [], "client": None}
        exchange = Exchange(scope, None, default_deadline_ms=1 + number % 40)  # type: ignore[arg-type]
        seconds = number % 3 / 1000
        with suppress(Problem, Overloaded, ValueError):
            await service.threads.run(exchange, lambda: work(seconds), number % 5 * 1000)

    async def ask_all() -> None:
        tasks = [asyncio.create_task(ask(number)) for number in range(400)]
        await asyncio.sleep(0)
        for task in tasks[::3]:  # clients that leave
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(ask_all())
    # What is left runs in the order of the queue, so this is the last.
    [
        service.threads._pool.submit(time.sleep, 0.05).result()
        for _ in range(service.settings.threads)
    ]
    backlog = service.threads.backlog
    assert (backlog.waiting, backlog.waiting_size, backlog.running_size) == (0, 0, 0)
    service.close()
