"""A row of ``FAMILIES`` a metric: what ``/metrics`` shows, and alerts may ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.utils import floatToGoString

ENDLESS = float("inf")
# Two buckets per doubling from 0.25 ms, so that a percentile is off by at most a fifth.
LATENCY_BUCKETS_S = tuple(round(0.00025 * 2 ** (i / 2), 6) for i in range(33))


@dataclass(frozen=True)
class Family:
    """One metric.

    Attributes:
        kind: ``counter``, ``gauge`` or ``histogram``.
        help: a sentence.
        labels: their names.
        edges: of a histogram, the upper edges of its buckets; the last one has no end.
        edge_texts: the same as they are shown.
        merge: how the gauges of several workers make one.
        outlives: a gauge that still counts when its worker has died.
        is_optional: not shown until it has a value, where 0 would be wrong.
    """

    kind: str
    help: str
    labels: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    edge_texts: tuple[str, ...] = ()
    merge: Callable[[float, float], float] = float.__add__
    outlives: bool = False
    is_optional: bool = False


def _least(one: float, other: float) -> float:
    """Return the smaller one; 0 is the value of a worker that has died."""
    return min(one, other) if one and other else one or other


def _counter(text: str, *labels: str) -> Family:
    return Family("counter", text, labels)


def _optional(text: str, *labels: str) -> Family:
    return Family("gauge", text, labels, merge=max, is_optional=True)


def _gauge(text: str, merge: Callable[[float, float], float] = float.__add__) -> Family:
    return Family("gauge", text, merge=merge)


def _histogram(text: str, edges: Iterable[float], *labels: str) -> Family:
    whole = (*map(float, edges), ENDLESS)
    return Family("histogram", text, labels, whole, tuple(map(floatToGoString, whole)))


_MODEL_LABELS = ("name", "version", "digest")
MODEL_INFO = "classmark_model_info"
LAST_USE = "classmark_key_last_use_timestamp_seconds"
# A gauge is that of the living: what a dead worker set no longer counts.
FAMILIES: dict[str, Family] = {
    "classmark_requests": _counter(
        "Requests by route, method and status.", "route", "method", "status"
    ),
    "classmark_request_seconds": _histogram(
        "From the first byte seen to the last byte given to the socket.",
        LATENCY_BUCKETS_S,
        "route",
    ),
    "classmark_papers": _counter("Papers classified, by outcome.", "outcome"),
    "classmark_confidence": _histogram(
        "Probability of the first category of each answer, by NAME@VERSION of the model.",
        [round(0.1 * i, 1) for i in range(1, 11)],
        "model",
    ),
    "classmark_abstained": _counter(
        "Answers without an accepted category, by NAME@VERSION of the model.", "model"
    ),
    "classmark_first_category": _counter(
        "Answers by their first category; beyond the first 250 labels of a model it is `other`.",
        "category",
    ),
    "classmark_keys_refused": _counter(
        "Requests refused for their API key, by kind of problem.", "reason"
    ),
    LAST_USE: Family(
        "gauge",
        "When an API key was last used since the service started, to the minute, in Unix time.",
        ("key",),
        merge=max,
        outlives=True,
    ),
    "classmark_connections_refused": _counter(
        "Connections refused before the application saw their request, by kind of problem.",
        "reason",
    ),
    "classmark_requests_in_work": _gauge("Requests being answered now."),
    "classmark_workers": _gauge("Workers alive."),
    "classmark_worker_restarts": _counter("Workers started to replace one that died."),
    MODEL_INFO: Family("gauge", "1; the labels say which model answers.", _MODEL_LABELS),
    "classmark_model_made_timestamp_seconds": _optional(
        "When the model that answers was fitted, in Unix time."
    ),
    "classmark_champion_since_timestamp_seconds": _optional(
        "Since when the registry has had this champion, in Unix time."
    ),
    "classmark_registry_sequence": _gauge(
        "Number of the change of the registry that every worker has followed.", _least
    ),
    "classmark_registry_refused": _gauge(
        "Bundles that the registry names but that a worker cannot use.", max
    ),
    "classmark_version_requests": _counter(
        "Requests that a version of the registry answered, failed or refused.", "role", "outcome"
    ),
    "classmark_version_seconds": _histogram(
        "Time to answer a request for one paper, by the role of the version.",
        LATENCY_BUCKETS_S,
        "role",
    ),
    "classmark_compared": _counter(
        "Papers that two versions scored, by whether their first category is the same and who "
        "abstained.",
        "pair",
        "top",
        "abstained",
    ),
    "classmark_compared_dropped": _counter(
        "Papers that were to be compared, but the queue was full or slow.", "pair"
    ),
    "classmark_compared_seconds": _histogram(
        "Time from request to answer, and of scoring again.", LATENCY_BUCKETS_S, "pair", "side"
    ),
    "classmark_compared_probability": _histogram(
        "Probability of the first category of both.",
        [round(0.1 * i, 1) for i in range(1, 11)],
        "pair",
        "side",
    ),
    "classmark_replacements": _counter("Times that a worker began to answer with another bundle."),
    "process_resident_memory_bytes": Family("gauge", "Resident memory.", ("process",)),
    "process_cpu_seconds": _counter("User and system CPU time spent.", "process"),
    "classmark_start_time_seconds": _gauge("When the service started, in Unix time.", max),
    "classmark_journal_written": _counter("Events that were written to the journal."),
    "classmark_journal_dropped": _counter(
        "Events that the journal lost: its queue was full, or it could not be written."
    ),
    "classmark_journal_queued": _gauge("Events that wait to be written."),
    "classmark_journal_failing": _gauge("1 while the journal cannot be written.", max),
    "classmark_journal_lag_seconds": _gauge(
        "At least as long the oldest event that waits for the journal has waited.", max
    ),
    "classmark_drift_report_readable": _optional(
        "1 if the file of `--drift-report` holds a report, else 0."
    ),
    "classmark_drift_report_age_seconds": _optional("Age of the newest drift report."),
    "classmark_drift_papers": _optional("Papers that the report compared."),
    "classmark_drift_p_value": _optional("Chance of such a window if nothing has changed."),
    "classmark_drift_size": _optional(
        "Share of papers that would have to come from another field, 0..1."
    ),
    "classmark_drift_size_interval": _optional("Ends of the interval of that share.", "bound"),
    "classmark_drift_looks": _counter(
        "Looks of `monitor serve`, by outcome: done, failed, or left out since one was running.",
        "outcome",
    ),
    "classmark_drift_martingale": _optional("Wealth of the continuous watch; 1 at the beginning."),
    "classmark_drift_accuracy": _optional(
        "Estimated share of first categories that are right, 0..1, with its interval and that of "
        "the reference.",
        "bound",
    ),
    "classmark_live_labels": _optional(
        "Predictions whose category feedback names, of the 30 days before the newest paper."
    ),
    "classmark_live_accuracy": _optional(
        "Share of them whose first category is right, 0..1, with its interval of 95 %.", "bound"
    ),
    "classmark_drift_action": _optional("1 for what the report asks for, else 0.", "action"),
    "classmark_drift_alarm": _optional("1 for each kind of alarm of the report, else 0.", "kind"),
    "classmark_queue_papers": _gauge("Papers that wait for the deep model."),
    "classmark_queue_tokens": _gauge("Tokens that wait for the deep model."),
    "classmark_batch_papers": _histogram(
        "Papers of a batch of the deep model.", (1, 2, 4, 8, 16, 32, 64)
    ),
    "classmark_batch_tokens": _histogram(
        "Tokens of a batch of the deep model.", (64, 128, 256, 512, 1024, 2048, 4096)
    ),
    "classmark_queue_refused": _counter(
        "Requests refused at once because the queue is full or longer than their deadline."
    ),
}
