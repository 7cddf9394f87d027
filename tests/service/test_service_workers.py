"""Workers that are stuck, that die as the service stops, and what they counted."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from waiting import PATIENCE_S, until

from classmark.service.memory import Heartbeats
from classmark.service.workers.process import SilenceWatch

PAPER = {"title": "Graph colouring", "abstract": "We colour sparse graphs with few colours."}
LONG = {"papers": [{"abstract": f"{i} graphs " * 600} for i in range(900)]}


def answered(server: Any) -> int:
    with server.client() as client:
        return int(client.post("/v1/classify", json=PAPER).status_code)


def is_dead(pid: int) -> bool:
    """Tell whether a process has ended, whether or not its parent has looked."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.fixture
def watch() -> tuple[Heartbeats, SilenceWatch]:
    beats = Heartbeats(memoryview(bytearray(2 * Heartbeats.SLOT_BYTES)))
    return beats, SilenceWatch(beats, stuck_after_s=3)


def test_a_worker_is_stuck_when_it_was_silent_for_the_stated_time(
    watch: tuple[Heartbeats, SilenceWatch],
) -> None:
    beats, watching = watch
    found = []
    for second in range(100, 108):
        beats.beat(1)
        found.append(watching.stuck([0, 1], second))
    assert found == [[], [], [], [0], [], [], [0], []]


def test_a_worker_that_was_replaced_starts_afresh(watch: tuple[Heartbeats, SilenceWatch]) -> None:
    _, watching = watch
    looks = [([0], 100), ([0], 101), ([0], 102), ([], 102.5), ([0], 103), ([0], 104), ([0], 105)]
    assert [watching.stuck(slots, now_s) for slots, now_s in looks] == [[]] * 7


def test_a_process_tree_that_was_stopped_for_an_hour_is_not_stuck(
    watch: tuple[Heartbeats, SilenceWatch],
) -> None:
    _, watching = watch
    assert watching.tick_s == 0.75
    assert [watching.stuck([0], now_s) for now_s in (100, 100.75, 3700)] == [[], [], []]


@pytest.mark.slow
def test_a_stuck_worker_is_killed_said_and_replaced(start: Any) -> None:
    with start("--workers", "1", CLASSMARK_SERVE_STUCK_AFTER_S="1") as server:
        (stuck,) = server.workers()
        os.kill(stuck, signal.SIGSTOP)
        until(lambda: server.workers() not in ([stuck], []))
        assert until(lambda: answered(server)) == 200
        seen = [line for line in server.logs() if line["event"] in ("worker stuck", "worker died")]
        assert [line["worker"] for line in seen] == [stuck, stuck]
        assert seen[0]["silent_s"] == 1
        assert seen[1]["exit_code"] == -signal.SIGKILL


@pytest.mark.slow
def test_a_worker_that_hangs_before_it_is_ready_is_killed_and_replaced(start: Any) -> None:
    with start("--workers", "1", CLASSMARK_SERVE_STUCK_AFTER_S="1") as server:
        (first,) = server.workers()
        os.kill(first, signal.SIGKILL)
        (hanging,) = until(lambda: [pid for pid in server.workers() if pid != first])
        os.kill(hanging, signal.SIGSTOP)  # mostly before it is ready; else it is stuck as usual
        until(lambda: [pid for pid in server.workers() if pid not in (first, hanging)])
        assert until(lambda: answered(server)) == 200
        seen = [line for line in server.logs() if line["event"] == "worker stuck"]
        assert [line["worker"] for line in seen] == [hanging]


@pytest.mark.slow
@pytest.mark.parametrize("pause_s", [0.0, 0.06, 0.09, 0.15])
def test_sigterm_soon_after_a_worker_died_stops_in_order(start: Any, pause_s: float) -> None:
    with start("--workers", "2") as server:
        victim = server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: is_dead(victim))
        time.sleep(pause_s)  # into the start of its successor, for most of these pauses
        assert server.stop() == 0
        assert server.logs()[-1]["in_order"] is True


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_answers_what_is_in_work_and_exits_0(start: Any) -> None:
    with start("--workers", "2", CLASSMARK_SERVE_DRAIN_S="1") as server:
        statuses: list[int] = []

        def classify() -> None:
            with server.client() as client:
                statuses.append(client.post("/v1/classify", json=LONG).status_code)

        thread = threading.Thread(target=classify)
        with server.client() as client:
            assert client.get("/readyz").status_code == 200
            thread.start()
            until(lambda: "classmark_requests_in_work 1.0" in client.get("/metrics").text)
            os.killpg(server.process.pid, signal.SIGINT)  # as a terminal does: to all processes
            response = until(lambda: (r := client.get("/readyz")).status_code == 503 and r)
            assert response.json()["kind"] == "not_ready"
        # For the time of the drain whoever has not looked yet is still answered.
        assert answered(server) == 200
        assert server.process.wait(PATIENCE_S) == 0
        thread.join()
        assert statuses == [200]


@pytest.mark.slow
def test_what_dead_workers_counted_stays_and_they_leave_no_files(
    start: Any, tmp_path: Path
) -> None:
    counted = 'classmark_requests_total{method="POST",route="/v1/classify",status="200"} '
    written = "classmark_journal_written_total "

    def shown(name: str) -> float:
        with server.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return next((float(line[len(name) :]) for line in lines if line.startswith(name)), 0.0)

    with start("--workers", "1", TMPDIR=str(tmp_path)) as server:
        for death in range(1, 4):
            assert until(lambda: answered(server)) == 200
            until(lambda expected=death: (shown(counted), shown(written)) == (expected, expected))
            assert list(tmp_path.glob("classmark-serve-*")) == []
            (worker,) = server.workers()
            os.kill(worker, signal.SIGKILL)
            until(lambda gone=worker: server.workers() not in ([gone], []))
        assert until(lambda: shown("classmark_workers ")) == 1
        assert (shown(counted), shown(written)) == (3, 3)
    assert list(tmp_path.glob("classmark-serve-*")) == []
