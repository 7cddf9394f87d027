"""Counters in shared memory: they never fall, stay within their bounds, and are merged."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from classmark.journal import JournalStatus
from classmark.service.families import FAMILIES, LAST_USE
from classmark.service.memory import _RESERVED, MAX_SERIES, OTHER, SERIES, Place, Series, TreeMemory
from classmark.service.metrics import (
    METHODS,
    SUPERVISOR,
    Metrics,
    forget_worker,
)
from classmark.wire import ModelRef


@pytest.fixture
def memory() -> TreeMemory:
    return TreeMemory({SERIES: 2 * Series.SLOT_BYTES})


def shown(metrics: Metrics) -> dict[str, float]:
    lines = metrics.text().decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def test_workers_are_summed_and_a_successor_goes_on(memory: TreeMemory) -> None:
    first, second = (Metrics(Place(slot, memory, 5.0)) for slot in (0, 1))
    for metrics in (first, second):
        metrics.worker_started(5.0)
        metrics.request_done("/v1/classify", "POST", 200, 0.001)
    forget_worker(memory[SERIES], 0)
    successor = Metrics(Place(0, memory, 5.0))
    successor.request_done("/v1/classify", "POST", 200, 100.0)
    seen = shown(second)
    labels = '{method="POST",route="/v1/classify",status="200"}'
    assert seen[f"classmark_requests_total{labels}"] == 3
    assert seen["classmark_workers"] == 1
    assert seen["classmark_start_time_seconds"] == 5
    route = 'route="/v1/classify"}'
    assert seen[f'classmark_request_seconds_bucket{{le="0.001",{route}'] == 2
    assert seen[f'classmark_request_seconds_bucket{{le="+Inf",{route}'] == 3
    assert seen[f"classmark_request_seconds_count{{{route}"] == 3
    assert seen[f"classmark_request_seconds_sum{{{route}"] == pytest.approx(100.002)
    assert seen == shown(successor)


def test_what_has_no_labels_is_shown_from_the_start(memory: TreeMemory) -> None:
    seen = shown(Metrics(Place(0, memory, 5.0)))
    assert seen["classmark_queue_refused_total"] == 0
    assert seen['classmark_batch_papers_bucket{le="+Inf"}'] == 0
    assert not any(name.startswith("classmark_requests_total") for name in seen)


def test_a_method_that_a_client_invents_is_no_series_of_its_own() -> None:
    metrics = Metrics()
    for method in (*METHODS, *(f"M{i}" for i in range(10_000))):
        metrics.request_done("unmatched", method, 405, 0.001)
    names = [name for name in shown(metrics) if name.startswith("classmark_requests_total")]
    assert len(names) == len(METHODS) + 1
    labels = '{method="other",route="unmatched",status="405"}'
    assert shown(metrics)[f"classmark_requests_total{labels}"] == 10_000


def test_series_beyond_the_room_there_is_are_counted_as_other() -> None:
    metrics = Metrics()
    for i in range(MAX_SERIES):
        metrics.count("classmark_papers", f"outcome {i}")
    metrics.count("classmark_papers", "x" * 200)
    metrics.request_done("/v1/classify", "POST", 200, 0.001)
    seen = shown(metrics)
    assert seen['classmark_papers_total{outcome="other"}'] == _RESERVED + 1
    assert sum(n for name, n in seen.items() if "papers_total" in name) == MAX_SERIES + 1
    assert seen['classmark_request_seconds_bucket{le="0.001",route="other"}'] == 1


def test_what_is_reserved_holds_every_family() -> None:
    families = FAMILIES.values()
    assert sum(max(1, len(family.edges) + 1) for family in families) <= _RESERVED
    assert OTHER not in METHODS


def test_a_name_that_is_not_wholly_there_is_read_later(memory: TreeMemory) -> None:
    writer, reader = Series(memory[SERIES], 0), Series(memory[SERIES], 0)
    writer.add(("a", ""))
    writer.add(("b", ""))
    names = memory[SERIES][8 + MAX_SERIES * 8 :]
    whole = bytes(names[128:140])
    names[128:140] = bytes(12)
    assert dict(reader.items()) == {("a", ""): 1}
    names[128:140] = whole
    assert dict(reader.items()) == {("a", ""): 1, ("b", ""): 1}


@pytest.mark.slow
def test_a_writer_that_is_killed_anywhere_leaves_whole_counters(memory: TreeMemory) -> None:
    before = 0.0
    for _ in range(30):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            metrics = Metrics(Place(0, memory, 5.0))
            for i in range(10**9):
                metrics.request_done(f"/{i % 50}", "GET", 200, 0.001)
                if i == 200:
                    os.write(writer, b".")
        os.read(reader, 1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)
        seen = shown(Metrics(Place(1, memory, 5.0)))
        total = sum(n for name, n in seen.items() if "requests_total" in name)
        counted = sum(n for name, n in seen.items() if "seconds_count" in name)
        assert total >= before + 200
        assert total - 30 <= counted <= total
        before = total


def test_every_family_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/http.md").read_text("utf-8")
    for name, family in FAMILIES.items():
        shown_name = f"{name}_total" if family.kind == "counter" else name
        labels = "{" + ",".join(family.labels) + "}" if family.labels else ""
        assert f"| `{shown_name}{labels}` | {family.kind} |" in page, name


def test_memory_and_time_of_each_process_are_shown_and_those_of_the_dead_end(
    memory: TreeMemory,
) -> None:
    worker, other = Metrics(Place(0, memory, 5.0)), Metrics(Place(1, memory, 5.0), SUPERVISOR)
    for metrics in (worker, other):
        metrics.set_process()
    seen = shown(other)
    resident, cpu = "process_resident_memory_bytes", "process_cpu_seconds_total"
    for process in ("0", "supervisor"):
        assert seen[f'{resident}{{process="{process}"}}'] > 1 << 20
        assert seen[f'{cpu}{{process="{process}"}}'] > 0
    forget_worker(memory[SERIES], 0)
    after = shown(other)
    assert after[f'{resident}{{process="0"}}'] == 0
    assert after[f'{cpu}{{process="0"}}'] == seen[f'{cpu}{{process="0"}}']


def test_the_last_use_of_a_key_outlives_its_worker(memory: TreeMemory) -> None:
    first, second = (Metrics(Place(slot, memory, 5.0)) for slot in (0, 1))
    first.key_used("a")
    first.set(LAST_USE, 60.0, "b")
    second.set(LAST_USE, 120.0, "b")
    second.set(LAST_USE, 1.0, OTHER)
    forget_worker(memory[SERIES], 0)
    uses = second.last_uses()
    assert uses.keys() == {"a", "b"}
    assert (uses["a"] % 60, uses["b"]) == (0, 120)


def test_the_model_is_named_however_long_its_name_is(memory: TreeMemory) -> None:
    metrics = Metrics(Place(0, memory, 5.0))
    metrics.worker_started(5.0, ModelRef("n" * 200, "1.1", "d" * 64))
    labels = f'digest="{"d" * 64}",name="{"n" * 200}",version="1.1"'
    assert shown(metrics)[f"classmark_model_info{{{labels}}}"] == 1


@pytest.mark.slow
def test_a_worker_that_is_replaced_is_counted_as_a_restart(start: Any) -> None:
    with start("--workers", "1") as server, server.client() as client:
        assert "classmark_worker_restarts_total 0.0" in client.get("/metrics").text
        text = client.get("/metrics").text
        assert re.search(r'classmark_model_info{digest="[0-9a-f]{64}",name="fast"', text)
        os.kill(server.workers()[0], signal.SIGKILL)
        until(lambda: "classmark_worker_restarts_total 1.0" in client.get("/metrics").text)
        resident = 'process_resident_memory_bytes{process="supervisor"}'
        assert resident in client.get("/metrics").text


def test_answers_are_counted_by_confidence_abstention_and_first_category() -> None:
    metrics = Metrics()
    answers = [("cs.LG", 0.55, False), ("cs.LG", 0.95, False), ("math.CO", 0.05, True)]
    metrics.answers_done("fast@2.0", answers)
    metrics.answers_done("fast@2.0", [])
    seen = shown(metrics)
    assert seen['classmark_confidence_bucket{le="0.1",model="fast@2.0"}'] == 1
    assert seen['classmark_confidence_bucket{le="0.6",model="fast@2.0"}'] == 2
    assert seen['classmark_confidence_count{model="fast@2.0"}'] == 3
    assert seen['classmark_confidence_sum{model="fast@2.0"}'] == pytest.approx(1.55)
    assert seen['classmark_abstained_total{model="fast@2.0"}'] == 1
    assert seen['classmark_first_category_total{category="cs.LG"}'] == 2
    assert seen['classmark_first_category_total{category="math.CO"}'] == 1


def test_the_lag_of_the_journal_grows_while_an_event_waits_and_ends_with_it() -> None:
    metrics = Metrics()

    def lag(written: int, queued: int) -> float:
        status = JournalStatus(
            written=written, dropped=0, queued=queued, failing=False, last_error=None
        )
        metrics.set_journal(status)
        return shown(metrics)["classmark_journal_lag_seconds"]

    assert lag(5, 0) == 0
    assert lag(5, 3) < 1  # they came a moment ago
    time.sleep(0.2)
    assert lag(6, 9) >= 0.2  # the seventh was there then
    assert lag(8, 9) < 0.2  # nothing that was there waits
    assert lag(17, 0) == 0
