"""Counters in shared memory: they never fall, stay within their bounds, and are merged."""

from __future__ import annotations

import os
import signal

import pytest

from classmark.service.memory import SERIES, Place, TreeMemory
from classmark.service.metrics import FAMILIES, METHODS, Metrics, forget_worker
from classmark.service.series import _RESERVED, MAX_SERIES, OTHER, SLOT_BYTES, Series


@pytest.fixture
def memory() -> TreeMemory:
    return TreeMemory({SERIES: 2 * SLOT_BYTES})


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
