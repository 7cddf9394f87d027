"""Connections are spread over the workers, and a stuck worker keeps none of them waiting."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from classmark.service.accepting import ConnectionCounts


def test_the_lowest_count_is_that_of_a_worker_that_is_there(tmp_path: Path) -> None:
    counts = ConnectionCounts.create(tmp_path / "counts", 3)
    other = ConnectionCounts(tmp_path / "counts")
    counts.set(0, 4)
    other.set(2, 2)
    assert (counts.lowest(), other.lowest()) == (2, 2)
    counts.set(2, None)
    assert other.lowest() == 4
    counts.close()
    other.close()


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
