"""What the service counts, summed over all workers of one tree."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from classmark.service.families import ENDLESS, FAMILIES, LAST_USE, MODEL_INFO, Family
from classmark.service.memory import OTHER, SERIES, Key, Place, Series, own_bytes

if TYPE_CHECKING:
    from classmark.journal import JournalStatus
    from classmark.service.drift import DriftNumbers
    from classmark.wire import ModelRef

MEDIA_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
)
"""Others count as ``OTHER``: clients choose them, and each is a series."""
_FIRST_REFUSAL, _FIRST_FAULT = 400, 500
SUPERVISOR = "supervisor"
"""What the supervisor is called where workers have their numbers."""
_USE_STEP_S = 60
_JOURNAL_COUNTERS = ("written", "dropped")
_JOURNAL_GAUGES = ("queued", "failing")


class Metrics(Collector):
    """What a worker counts, and what all of them have counted."""

    def __init__(
        self,
        place: Place | None = None,
        process: str | None = None,
        drift: DriftNumbers | None = None,
    ) -> None:
        """Begin to count, or continue the counts of the previous worker in the same place.

        Args:
            place: of this worker in its tree; None counts in this process alone.
            process: what its memory and time are shown as; None for the number of the worker.
            drift: whose numbers are shown too; None for none.
        """
        self._drift = drift
        if place is None:
            memory, slot = memoryview(bytearray(Series.SLOT_BYTES)), 0
        else:
            memory, slot = place.memory[SERIES], place.slot
        self._own = Series(memory, slot)
        self._all = [Series(memory, number) for number in range(len(memory) // Series.SLOT_BYTES)]
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._journal_seen = dict.fromkeys(_JOURNAL_COUNTERS, 0)
        self._journal_mark = (0, time.monotonic())
        self._process = process or str(place.slot if place else 0)
        self._cpu_seen_s = 0.0
        self._model: Key = ()
        self._last_uses: dict[str, float] = {}

    def count(self, name: str, *labels: str, n: float = 1) -> None:
        """Add to the counter of a family."""
        self._own.add((f"{name}_total", "", *labels), n)

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set the gauge of a family."""
        self._own.set((name, "", *labels), value)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Count a value in the histogram of a family."""
        family = FAMILIES[name]
        edge = family.edge_texts[bisect_left(family.edges, value)]
        self._own.add((f"{name}_bucket", edge, *labels))
        self._own.add((f"{name}_sum", "", *labels), value)

    def worker_started(self, at_s: float, model: ModelRef | None = None) -> None:
        """Set the gauges of a worker that has started.

        Args:
            at_s: when the service was started, in Unix time.
            model: what answers, if it is known.
        """
        if model is not None:
            self.set_model(model)
        self.set("classmark_workers", 1)
        self.set("classmark_start_time_seconds", at_s)

    def version_done(self, role: str, status: int, seconds: float | None) -> None:
        """Count a request that a version answered, and its time if it was for one paper."""
        failed = "failed" if status >= _FIRST_FAULT else "refused"
        outcome = "answered" if status < _FIRST_REFUSAL else failed
        self.count("classmark_version_requests", role, outcome)
        if seconds is not None and outcome == "answered":
            self.observe("classmark_version_seconds", seconds, role)

    def set_model(self, model: ModelRef) -> None:
        """Say which model answers."""
        self._model = (model.name, model.version, model.digest)

    def request_done(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request."""
        known = method if method in METHODS else OTHER
        self.count("classmark_requests", route, known, str(status))
        self.observe("classmark_request_seconds", seconds, route)

    def papers_done(self, outcome: str, n: int = 1) -> None:
        """Count papers by ``reason`` of their answer, or ``error``."""
        self.count("classmark_papers", outcome, n=n)

    def answers_done(self, model: str, answers: Iterable[tuple[str, float, bool]]) -> None:
        """Count what answers say.

        Args:
            model: ``NAME@VERSION``.
            answers: first category, its probability, and whether it was not accepted.
        """
        family = FAMILIES["classmark_confidence"]
        edges: Counter[str] = Counter()
        categories: Counter[str] = Counter()
        n_abstained, total = 0, 0.0
        for category, probability, is_abstained in answers:
            edges[family.edge_texts[bisect_left(family.edges, probability)]] += 1
            categories[category] += 1
            n_abstained += is_abstained
            total += probability
        for edge, n in edges.items():
            self._own.add(("classmark_confidence_bucket", edge, model), n)
        for category, n in categories.items():
            self.count("classmark_first_category", category, n=n)
        if edges:
            self._own.add(("classmark_confidence_sum", "", model), total)
            self.count("classmark_abstained", model, n=n_abstained)

    def key_used(self, key_id: str) -> None:
        """Note that a key was used, to the minute."""
        now = float(time.time() // _USE_STEP_S * _USE_STEP_S)
        if self._last_uses.get(key_id) != now:
            self._last_uses[key_id] = now
            self.set(LAST_USE, now, key_id)

    def last_uses(self) -> dict[str, float]:
        """Return when each key was last used, by id, in Unix time; of all workers."""
        found = {key[2]: value for key, value in self.values().items() if key[0] == LAST_USE}
        found.pop(OTHER, None)
        return found

    def batch_done(self, papers: int, tokens: int) -> None:
        """Count a batch of the deep model."""
        self.observe("classmark_batch_papers", papers)
        self.observe("classmark_batch_tokens", tokens)

    def batch_refused(self) -> None:
        """Count a request that the queue of the deep model had no time for."""
        self.count("classmark_queue_refused")

    def set_queue(self, papers: int, tokens: int) -> None:
        """Publish how much work waits for the deep model."""
        self.set("classmark_queue_papers", papers)
        self.set("classmark_queue_tokens", tokens)

    def set_journal(self, status: JournalStatus) -> None:
        """Publish the counts and the health of the journal of this process."""
        for name in _JOURNAL_COUNTERS:
            n = getattr(status, name)
            self.count(f"classmark_journal_{name}", n=n - self._journal_seen[name])
            self._journal_seen[name] = n
        for name in _JOURNAL_GAUGES:
            self.set(f"classmark_journal_{name}", float(getattr(status, name)))
        self.set("classmark_journal_lag_seconds", self._lag_s(status))

    def _lag_s(self, status: JournalStatus) -> float:
        """Return how long at least the oldest waiting event has waited.

        The mark is how many events had come by a moment; while fewer are done, one of them still
        waits.
        """
        now, done = time.monotonic(), status.written + status.dropped
        if done >= self._journal_mark[0]:
            self._journal_mark = (done + status.queued, now)
        return now - self._journal_mark[1] if status.queued else 0.0

    def set_process(self) -> None:
        """Publish the memory and CPU time of this process."""
        cpu_s = time.process_time()
        self.count("process_cpu_seconds", self._process, n=cpu_s - self._cpu_seen_s)
        self._cpu_seen_s = cpu_s
        resident = own_bytes("resident")
        if resident:
            self.set("process_resident_memory_bytes", resident, self._process)

    def close(self) -> None:
        """Release the shared memory; nothing can be counted or shown after that."""
        for series in (self._own, *self._all):
            series.close()

    def text(self) -> bytes:
        """Return the counts of the process tree in Prometheus' text format."""
        return generate_latest(self._registry)

    def summary(self) -> dict[str, Any]:
        """Return what the status page shows of the process tree."""
        samples = {family.name: family.samples for family in self.collect()}
        requests = _totals(samples["classmark_requests"], "status")
        papers = _totals(samples["classmark_papers"], "outcome")
        journal = {
            name: int(_single(samples[f"classmark_journal_{name}"]))
            for name in (*_JOURNAL_COUNTERS, *_JOURNAL_GAUGES)
        }
        return {
            "started_at_s": _single(samples["classmark_start_time_seconds"]),
            "workers": int(_single(samples["classmark_workers"])),
            "requests": {"total": sum(requests.values()), "by_status": requests},
            "latency_ms": _percentiles(samples["classmark_request_seconds"]),
            "papers": papers,
            "journal": {**journal, "failing": bool(journal["failing"])},
        }

    def collect(self) -> Iterator[Metric]:
        """Yield every family with the samples of all workers together."""
        merged = self.values()
        for name, family in FAMILIES.items():
            metric = Metric(name, family.help, family.kind)
            for sample, labels, value in _samples(name, family, merged):
                metric.add_sample(sample, labels, value)
            yield metric

    def values(self) -> dict[Key, float]:
        """Return every series, of all workers together."""
        merges = {name: family.merge for name, family in FAMILIES.items()}
        merged: dict[Key, float] = {}
        for series in self._all:
            for key, value in series.items():
                merge = merges.get(key[0], float.__add__)
                merged[key] = merge(merged[key], value) if key in merged else value
        if self._drift is not None:
            merged.update(self._drift.values())
        if self._model:  # a long name would not fit the memory of a series
            merged[MODEL_INFO, "", *self._model] = 1.0
        return merged


def forget_worker(memory: memoryview, slot: int) -> None:
    """Take a dead worker out of what counts the living; what it counted stays.

    Args:
        memory: of all slots.
        slot: of the dead worker.
    """
    families = FAMILIES.items()
    gauges = {name for name, of in families if of.kind == "gauge" and not of.outlives}
    Series(memory, slot).clear(gauges)


def _samples(
    name: str, family: Family, merged: dict[Key, float]
) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield the samples of a family; without labels there is one from the start."""
    main = {"counter": f"{name}_total", "gauge": name, "histogram": f"{name}_sum"}[family.kind]
    found: set[Key] = {()}
    if family.labels or family.is_optional:
        found = {key[2:] for key in merged if key[0] == main}
    for values in sorted(found):
        labels = dict(zip(family.labels, values, strict=True))
        if family.kind == "histogram":
            edges = family.edge_texts
            counts = [merged.get((f"{name}_bucket", edge, *values), 0.0) for edge in edges]
            for edge, count in zip(edges, accumulate(counts), strict=True):
                yield f"{name}_bucket", {**labels, "le": edge}, count
            yield f"{name}_count", labels, sum(counts)
        yield main, labels, merged.get((main, "", *values), 0.0)


def _totals(samples: Iterable[Sample], label: str) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for sample in samples:
        totals[sample.labels[label]] += int(sample.value)
    return dict(sorted(totals.items()))


def _single(samples: Iterable[Sample]) -> float:
    return next(float(sample.value) for sample in samples)


def _percentiles(samples: Iterable[Sample]) -> dict[str, float | None]:
    """Return percentiles in ms, read from the buckets with a straight line within each."""
    counts: defaultdict[float, float] = defaultdict(float)
    for sample in samples:
        if sample.name.endswith("_bucket") and sample.labels["route"].startswith("/v"):
            counts[float(sample.labels["le"])] += sample.value
    edges = sorted(counts)
    total = counts[edges[-1]] if edges else 0.0
    return {name: _quantile(edges, counts, share * total) for name, share in PERCENTILES.items()}


def _quantile(edges: list[float], counts: dict[float, float], wanted: float) -> float | None:
    low, below = 0.0, 0.0
    for edge in edges if wanted else ():
        if counts[edge] >= wanted:
            if edge == ENDLESS:
                return round(low * 1000, 3)
            inside = (wanted - below) / (counts[edge] - below)
            return round((low + (edge - low) * inside) * 1000, 3)
        low, below = edge, counts[edge]
    return None
