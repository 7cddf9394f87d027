"""Counters of the service: one process alone, or all workers of one tree.

With ``PROMETHEUS_MULTIPROC_DIR`` set before this module is imported, every worker counts in files
of that folder and ``/metrics`` sums them; else the counts are of this process. The files belong to
the worker's slot: its successor goes on where it ended, so that no counter falls and no file stays.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
    values,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from classmark.journal import JournalStatus

MEDIA_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# Two a doubling from 0.25 ms, so that a percentile read from them is off by a fifth at most.
LATENCY_BUCKETS_S = tuple(round(0.00025 * 2 ** (i / 2), 6) for i in range(33))
PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
_BATCH_BUCKETS = {
    "papers": (1, 2, 4, 8, 16, 32, 64),
    "tokens": (64, 128, 256, 512, 1024, 2048, 4096),
}
_JOURNAL_COUNTERS = {
    "written": "Events that were written to the journal.",
    "dropped": "Events that the journal lost: its queue was full, or it could not be written.",
}
_JOURNAL_GAUGES: tuple[tuple[str, Any, str], ...] = (
    ("queued", "livesum", "Events that wait to be written."),
    ("failing", "livemax", "1 while the journal cannot be written."),
)


@dataclass(slots=True)
class _Times:
    """Times to answer: how many in each bucket (the last one is without end), and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BUCKETS_S) + 1))
    total_s: float = 0.0


class Metrics:
    """What a worker counts; other workers see it a quarter of a second later."""

    def __init__(self, slot: int | None = None) -> None:
        """Begin to count.

        Args:
            slot: of this worker in its tree; None counts in this process alone.
        """
        if slot is not None:
            values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "classmark_requests",
            "Requests by route, method and status.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self._latency = Histogram(
            "classmark_request_seconds",
            "From the first byte seen to the last byte given to the socket.",
            ["route"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._papers = Counter(
            "classmark_papers",
            "Papers classified, by outcome.",
            ["outcome"],
            registry=self.registry,
        )
        self._keys_refused = Counter(
            "classmark_keys_refused",
            "Requests refused for their API key, by kind of problem.",
            ["reason"],
            registry=self.registry,
        )
        self._in_work = Gauge(
            "classmark_requests_in_work",
            "Requests being answered now.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self._workers = Gauge(
            "classmark_workers",
            "Workers alive.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self._started = Gauge(
            "classmark_start_time_seconds",
            "When the oldest worker started, in Unix time.",
            multiprocess_mode="min",
            registry=self.registry,
        )
        self._journal_counters = {
            name: Counter(f"classmark_journal_{name}", text, registry=self.registry)
            for name, text in _JOURNAL_COUNTERS.items()
        }
        self._journal_gauges = {
            name: Gauge(
                f"classmark_journal_{name}", text, multiprocess_mode=mode, registry=self.registry
            )
            for name, mode, text in _JOURNAL_GAUGES
        }
        self._queue = {
            unit: Gauge(
                f"classmark_queue_{unit}",
                f"{unit.capitalize()} that wait for the deep model.",
                multiprocess_mode="livesum",
                registry=self.registry,
            )
            for unit in ("papers", "tokens")
        }
        self._batches = {
            unit: Histogram(
                f"classmark_batch_{unit}",
                f"{unit.capitalize()} of a batch of the deep model.",
                buckets=buckets,
                registry=self.registry,
            )
            for unit, buckets in _BATCH_BUCKETS.items()
        }
        self._refused = Counter(
            "classmark_queue_refused",
            "Requests refused at once because the queue is full or longer than their deadline.",
            registry=self.registry,
        )
        self._journal_seen = dict.fromkeys(_JOURNAL_COUNTERS, 0)
        # Since the last flush: counting in the files of many processes takes ten times as long.
        self._lock = Lock()
        self._new_requests: dict[tuple[str, str, int], int] = {}
        self._new_papers: dict[str, int] = {}
        self._new_keys_refused: dict[str, int] = {}
        self._new_latency: dict[str, _Times] = {}

    def worker_started(self, at_s: float) -> None:
        """Say that this worker is there."""
        self._workers.set(1)
        self._started.set(at_s)

    def request_done(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request; only in the thread of the event loop."""
        key = (route, method, status)
        with self._lock:
            self._new_requests[key] = self._new_requests.get(key, 0) + 1
            times = self._new_latency.get(route)
            if times is None:
                times = self._new_latency[route] = _Times()
            times.counts[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
            times.total_s += seconds

    def papers_done(self, outcome: str, n: int = 1) -> None:
        """Count papers by ``reason`` of their answer, or ``error``."""
        with self._lock:
            self._new_papers[outcome] = self._new_papers.get(outcome, 0) + n

    def key_refused(self, kind: str) -> None:
        """Count a request whose key is missing, wrong or too narrow, by kind of the problem."""
        with self._lock:
            self._new_keys_refused[kind] = self._new_keys_refused.get(kind, 0) + 1

    def flush(self) -> None:
        """Add what was counted since the last time to what ``/metrics`` shows."""
        with self._lock:
            requests, self._new_requests = self._new_requests, {}
            papers, self._new_papers = self._new_papers, {}
            refused, self._new_keys_refused = self._new_keys_refused, {}
            latency, self._new_latency = self._new_latency, {}
        for (route, method, status), n in requests.items():
            self._requests.labels(route, method, str(status)).inc(n)
        for reason, n in refused.items():
            self._keys_refused.labels(reason).inc(n)
        for outcome, n in papers.items():
            self._papers.labels(outcome).inc(n)
        for route, times in latency.items():
            histogram: Any = self._latency.labels(route)
            # The client can observe one value at a time only.
            histogram._sum.inc(times.total_s)
            for bucket, n in zip(histogram._buckets, times.counts, strict=True):
                if n:
                    bucket.inc(n)

    def batch_done(self, papers: int, tokens: int) -> None:
        """Count a batch of the deep model."""
        self._batches["papers"].observe(papers)
        self._batches["tokens"].observe(tokens)

    def batch_refused(self) -> None:
        """Count a request that the queue of the deep model had no time for."""
        self._refused.inc()

    def set_queue(self, papers: int, tokens: int) -> None:
        """Say how much waits for the deep model."""
        self._queue["papers"].set(papers)
        self._queue["tokens"].set(tokens)

    def set_in_work(self, n: int) -> None:
        """Say how many requests are in work."""
        self._in_work.set(n)

    def set_journal(self, status: JournalStatus) -> None:
        """Say how the journal of this process fares."""
        for name, counter in self._journal_counters.items():
            n = getattr(status, name)
            counter.inc(n - self._journal_seen[name])
            self._journal_seen[name] = n
        for name, gauge in self._journal_gauges.items():
            gauge.set(float(getattr(status, name)))

    def text(self) -> bytes:
        """Return the counts of the process tree in Prometheus' text format."""
        self.flush()
        return generate_latest(self._whole_registry())

    def summary(self) -> dict[str, Any]:
        """Return what the status page shows of the process tree."""
        self.flush()
        families = {family.name: family.samples for family in self._whole_registry().collect()}
        requests = _totals(families.get("classmark_requests", ()), "status")
        papers = _totals(families.get("classmark_papers", ()), "outcome")
        journal = {
            name: int(_single(families.get(f"classmark_journal_{name}", ())) or 0)
            for name in (*self._journal_counters, *self._journal_gauges)
        }
        return {
            "started_at_s": _single(families.get("classmark_start_time_seconds", ())),
            "workers": int(_single(families.get("classmark_workers", ())) or 0),
            "requests": {"total": sum(requests.values()), "by_status": requests},
            "latency_ms": _percentiles(families.get("classmark_request_seconds", ())),
            "papers": papers,
            "journal": {**journal, "failing": bool(journal["failing"])},
        }

    def _whole_registry(self) -> CollectorRegistry:
        if FOLDER_VARIABLE not in os.environ:
            return self.registry
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry


def forget_worker(slot: int) -> None:
    """Take a dead worker out of what counts the living; what it counted stays."""
    if FOLDER_VARIABLE in os.environ:
        multiprocess.mark_process_dead(slot)  # type: ignore[no-untyped-call]


def _totals(samples: Iterable[Any], label: str) -> dict[str, int]:
    totals: dict[str, int] = {}
    for sample in samples:
        if sample.name.endswith("_total"):
            key = sample.labels[label]
            totals[key] = totals.get(key, 0) + int(sample.value)
    return dict(sorted(totals.items()))


def _single(samples: Iterable[Any]) -> float | None:
    return next((float(sample.value) for sample in samples), None)


def _percentiles(samples: Iterable[Any]) -> dict[str, float | None]:
    """Return percentiles in ms, read from the buckets with a straight line within each."""
    counts: dict[float, float] = {}
    for sample in samples:
        if sample.name.endswith("_bucket") and sample.labels["route"].startswith("/v"):
            edge = float(sample.labels["le"])
            counts[edge] = counts.get(edge, 0.0) + sample.value
    edges = sorted(counts)
    total = counts[edges[-1]] if edges else 0.0
    return {name: _quantile(edges, counts, share * total) for name, share in PERCENTILES.items()}


def _quantile(edges: list[float], counts: dict[float, float], wanted: float) -> float | None:
    low, below = 0.0, 0.0
    for edge in edges if wanted else ():
        if counts[edge] >= wanted:
            if edge == float("inf"):
                return round(low * 1000, 3)
            inside = (wanted - below) / (counts[edge] - below)
            return round((low + (edge - low) * inside) * 1000, 3)
        low, below = edge, counts[edge]
    return None
