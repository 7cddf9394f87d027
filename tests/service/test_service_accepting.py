"""Connections are spread over the workers, and a stuck worker keeps none of them waiting."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from typing import Any

import pytest

from classmark.service.memory import ConnectionCounts
from classmark.service.workers.worker import surplus


def test_the_lowest_count_is_that_of_a_worker_that_is_there() -> None:
    memory = memoryview(bytearray(3 * ConnectionCounts.SLOT_BYTES))
    counts, other = ConnectionCounts(memory), ConnectionCounts(memory)
    assert counts.lowest() > 1000
    counts.set(0, 4)
    other.set(2, 2)
    assert (counts.lowest(), other.lowest()) == (2, 2)
    counts.set(2, None)
    assert other.lowest() == 4


@pytest.mark.slow
def test_connections_are_spread_evenly_and_a_stopped_worker_is_passed_over(start: Any) -> None:
    with start("--workers", "2") as server:
        first, second = server.workers()
        before = [server.sockets(pid) for pid in (first, second)]
        with ExitStack() as stack:
            clients = [stack.enter_context(server.client()) for _ in range(10)]
            assert {client.get("/healthz").status_code for client in clients} == {200}
            after = [server.sockets(pid) for pid in (first, second)]
        assert [n - m for n, m in zip(after, before, strict=True)] == [5, 5]
        os.kill(first, signal.SIGSTOP)
        try:
            with ExitStack() as stack:
                clients = [stack.enter_context(server.client()) for _ in range(4)]
                assert {client.get("/healthz").status_code for client in clients} == {200}
        finally:
            os.kill(first, signal.SIGCONT)


def test_only_a_worker_with_notably_more_connections_ends_some() -> None:
    assert [surplus(n, 2) for n in (1, 2, 5, 6, 12)] == [0, 0, 0, 2, 5]
    assert surplus(5, 2**31 - 1) == 0


@pytest.mark.slow
def test_connections_move_to_a_worker_that_comes_back(start: Any) -> None:
    with start("--workers", "2") as server:
        first, second = server.workers()
        before = server.sockets(first)
        os.kill(first, signal.SIGSTOP)
        with ExitStack() as stack:
            try:
                clients = [stack.enter_context(server.client()) for _ in range(8)]
                assert {client.get("/healthz").status_code for client in clients} == {200}
            finally:
                os.kill(first, signal.SIGCONT)
            end = time.monotonic() + 30
            while server.sockets(first) < before + 3:
                assert time.monotonic() < end
                assert {client.get("/healthz").status_code for client in clients} == {200}
        assert second in server.workers()
