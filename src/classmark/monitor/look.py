"""One look at the journal: predictions of a model -> DriftReport."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from classmark.errors import InvalidWindow
from classmark.journal import default_journal_path
from classmark.journal.place import Place
from classmark.journal.reading import PredictionFilter, newest_id
from classmark.monitor.few_labels import LabelWatch
from classmark.monitor.history import History, Watched
from classmark.monitor.labelled import estimator_of, join_answers, watch_labels, with_labels
from classmark.monitor.labels import LabelSources, Truths, live_accuracy
from classmark.monitor.policy import (
    WatchPolicy,
    accuracy_alarm,
    client_alarms,
    labels_alarm,
    stream_alarm,
    window_alarm,
)
from classmark.monitor.predictions import WatchedModel, papers_of, sample_of, watched_model
from classmark.monitor.sizes import size_of
from classmark.monitor.stream import Stream
from classmark.monitor.window import LEAST_PAPERS, compare, compare_categories, compare_parts
from classmark.records import PredictionEvent, utc_text
from classmark.records.drift import (
    Counts,
    DriftReport,
    LabelState,
    LiveScore,
    StreamState,
    WindowTest,
)
from classmark.records.progress import SILENT, Progress
from classmark.runtime.features import FeatureTable

DEFAULT_NEWEST = 2_000
_LIVE_DAYS, _MOST_LIVE = 30, 50_000
"""Feedback is looked for in so many days, and in at most so many of their newest predictions, which
are read within 3 s (CPU time of one core): without a bound a look would read the journal twice."""
_SET_BACK = (
    "the clock of this machine was set back since the last look. The continuous watch resumes with "
    "predictions from now on; what was predicted meanwhile is in the window only."
)
_SETTLED_MS = 5_000
"""A prediction may be written after one that was made later; the stream waits so long. What a
database takes only later, since it was down, is in the window and not in the stream."""


@dataclass(frozen=True, kw_only=True)
class LookOptions:
    """What a look is about.

    Attributes:
        model: as for ``Classifier``; of a registry, as its commands name bundles.
        registry: its champion is watched, if no model is named; None for no registry.
        journal: first file of the journal, or its database.
        newest: at most so many of the newest predictions.
        since_utc, until_utc: predictions of this span, as ``utc_text`` writes times.
        baseline: span of predictions to compare with, instead of the reference of the bundle.
        policy: what is an alarm.
        labels: what is known of papers drawn at random.
        stream: continue the watch of every prediction.
        restart: begin the continuous watch again.
    """

    model: str | None = None
    registry: Path | None = None
    journal: Place = field(default_factory=default_journal_path)
    newest: int = DEFAULT_NEWEST
    since_utc: str | None = None
    until_utc: str | None = None
    baseline: tuple[str, str] | None = None
    policy: WatchPolicy = field(default_factory=WatchPolicy)
    labels: LabelSources = field(default_factory=LabelSources)
    stream: bool = True
    restart: bool = False


def look(
    options: LookOptions, history: History | None = None, progress: Progress = SILENT
) -> DriftReport:
    """Return what the journal says of a model, and add it to a history.

    Args:
        options: what to look at.
        history: keeps the report, and where the continuous watch is; without one there is no watch.
        progress: of the steps.

    Raises:
        BundleNotFound, RegistryNotFound ...: the model cannot be watched, as ``watched_model``.
        InvalidWindow: it has no reference, or the reference cannot be compared with.
        InvalidJournal, JournalTooNew: journal or history cannot be read.
        UnreadableSource, WrongColumns: a file of labels cannot be read.
        OutputBusy: another monitor adds to the history.
    """
    model = watched_model(options.model, options.registry)
    progress.step("reading the journal")
    events, counts = window_of(options, model)
    against = model.reference.table
    words = f"{len(against):,} validation papers of the model"
    if options.baseline is not None:
        against, words = baseline_of(options, model)
    report = _begun(options, model, events, counts, words)
    progress.step(f"comparing {counts.compared:,} papers")
    truths = _truths(options, model, events)
    report = with_labels(report, options.labels, truths, events)
    report = _compared(report, model, events, against, options.policy, truths)
    state = None
    if history is not None and options.stream:
        progress.step("watching the stream")
        state, stream, notes = _stream(options, model, history, against, events)
        report = replace(report, stream=stream, notes=(*report.notes, *notes))
        if report.labelled is not None:
            watch, found = _labels(options, model, state, truths, events)
            state = replace(state, labels=watch)
            report = replace(report, labelled=replace(report.labelled, watch=found))
    policy = options.policy
    alarms = (*report.alarms, *stream_alarm(report, policy), *labels_alarm(report, policy))
    report = replace(report, alarms=alarms)
    if history is not None:
        history.add(report, state)
    return report


def _begun(
    options: LookOptions,
    model: WatchedModel,
    events: list[PredictionEvent],
    counts: Counts,
    words: str,
) -> DriftReport:
    """Return the report of a window before anything is compared.

    Args:
        options: of the look.
        model: that is watched.
        events: predictions of the window.
        counts: what became of the others.
        words: what they will be compared with.
    """
    return DriftReport(
        model=model.ref,
        reference=words,
        created_at_utc=utc_text(),
        since_utc=events[0].at_utc if events else "",
        until_utc=events[-1].at_utc if events else "",
        counts=counts,
        alpha=options.policy.alpha,
        window=None,
        size=None,
        live=_live(options, model, events),
    )


def _truths(options: LookOptions, model: WatchedModel, window: list[PredictionEvent]) -> Truths:
    """Return what is known of all predictions; without labels that count, of the window."""
    first = None if options.labels else _first_id(window)
    wanted = PredictionFilter(digest=model.ref.digest, from_id=first)
    return options.labels.read(options.journal, wanted)


def _labels(
    options: LookOptions,
    model: WatchedModel,
    state: Watched,
    truths: Truths,
    window: list[PredictionEvent],
) -> tuple[LabelWatch, LabelState]:
    """Return the watch of labels after those that it has not counted, and what to say of it."""
    begun = LabelWatch(begun_at_utc=utc_text(), first=_first_id(window) or "")
    watch = state.labels or begun
    return watch_labels(watch, options.journal, model, truths, options.policy)


def looked_at(
    report: DriftReport, options: LookOptions
) -> tuple[WatchedModel, list[PredictionEvent], FeatureTable]:
    """Return the model of a report, the papers of its window, and what they were compared with.

    Args:
        report: of a look with these options.
        options: of the look.

    Raises:
        BundleNotFound, BundleCorrupt, BundleIncompatible: the model cannot be loaded.
        InvalidWindow: the window has no papers.
        InvalidJournal, JournalTooNew: the journal cannot be read.
    """
    model = watched_model(options.model, options.registry)
    if not report.since_utc:
        raise InvalidWindow(
            "the window has no papers, so there is nothing to show. Take a longer span."
        )
    after = datetime.fromisoformat(report.until_utc) + timedelta(milliseconds=1)
    until = utc_text(round(after.timestamp() * 1000))
    events, _ = window_of(replace(options, since_utc=report.since_utc, until_utc=until), model)
    against = model.reference.table
    if options.baseline is not None:
        against, _ = baseline_of(options, model)
    return model, events, against


def window_of(options: LookOptions, model: WatchedModel) -> tuple[list[PredictionEvent], Counts]:
    """Return the papers to compare, each once, the oldest first, and what became of the others."""
    wanted = PredictionFilter(
        since_utc=options.since_utc, until_utc=options.until_utc, digest=model.ref.digest
    )
    if options.since_utc is None:
        first = newest_id(options.journal, options.newest, wanted)
        wanted = replace(wanted, from_id=first or None)
    events, counts = papers_of(options.journal, wanted)
    chosen = sample_of(events)
    left_out = len(events) - len(chosen)
    return chosen, replace(counts, compared=len(chosen), left_out=left_out)


def baseline_of(options: LookOptions, model: WatchedModel) -> tuple[FeatureTable, str]:
    """Return the features of the papers of the baseline, and its name.

    Raises:
        InvalidWindow: it has too few papers.
    """
    since, until = options.baseline or ("", "")
    wanted = PredictionFilter(since_utc=since, until_utc=until, digest=model.ref.digest)
    events, _ = papers_of(options.journal, wanted)
    if len(events) < LEAST_PAPERS:
        raise InvalidWindow(
            f"the baseline from {since} to {until} has {len(events)} papers of "
            f"{model.ref.name}, a comparison needs {LEAST_PAPERS} or more. Take a longer span."
        )
    return model.features(events), f"{len(events):,} predictions from {since} to {until}"


def _compared(
    report: DriftReport,
    model: WatchedModel,
    events: list[PredictionEvent],
    against: FeatureTable,
    policy: WatchPolicy,
    truths: Truths,
) -> DriftReport:
    """Return the report with the comparison of the window, if it has enough papers."""
    if len(events) < LEAST_PAPERS:
        note = (
            f"{len(events)} papers are too few to compare; {LEAST_PAPERS} are needed, so "
            f"{LEAST_PAPERS - len(events)} more."
        )
        if not report.counts.read:
            note += (
                f" The journal has no prediction of {report.of_whom}, digest "
                f"{report.model.digest[:12]}, in this span; --model names another one."
            )
        return replace(report, notes=(*report.notes, note))
    table = model.features(events)
    test = compare(table, against)
    size = size_of(table, against, fields=model.reference.table)
    clients = Counter(event.client for event in events if event.client)
    by_client = {c: np.array([e.client == c for e in events]) for c, _ in clients.most_common()}
    estimator = estimator_of(model.reference, table)
    accuracy = estimator.estimate(table) if estimator else None
    labelled = report.labelled
    if labelled is not None and estimator is not None:
        labelled = replace(labelled, estimate=join_answers(events, table, truths, estimator))
    alarms = (*window_alarm(test, size, policy), *accuracy_alarm(accuracy, policy))
    parts_of_clients = compare_parts(table, against, by_client, None, model.reference.table)
    return replace(
        report,
        window=test,
        size=size,
        confidence=(_mean(table.confidence), _mean(against.confidence)),
        abstained=(1 - _flag(table, "accepted"), 1 - _flag(against, "accepted")),
        used_authors=_flag(table, "used_authors"),
        categories=_categories(table, against, test, policy.alpha),
        clients=parts_of_clients,
        parts=compare_categories(table, against, model.reference.table),
        accuracy=accuracy,
        labelled=labelled,
        alarms=(*alarms, *client_alarms(parts_of_clients, policy)),
    )


def _live(
    options: LookOptions, model: WatchedModel, events: list[PredictionEvent]
) -> LiveScore | None:
    """Return how right the answers were, up to the newest paper; None without feedback."""
    if not events:
        return None
    days = timedelta(days=_LIVE_DAYS)
    since = (datetime.fromisoformat(events[-1].at_utc) - days).timestamp()
    wanted = PredictionFilter(
        since_utc=utc_text(round(since * 1000)),
        until_utc=options.until_utc,
        digest=model.ref.digest,
    )
    first = newest_id(options.journal, _MOST_LIVE, wanted)
    found = live_accuracy(options.journal, wanted=replace(wanted, from_id=first)).overall
    return found and replace(found, name=f"{_LIVE_DAYS} days")


def _mean(values: NDArray[np.float32]) -> float:
    return float(values.mean(dtype=np.float64))


def _flag(table: FeatureTable, name: str) -> float:
    return float(table.flag(name).mean())


def _categories(
    table: FeatureTable, against: FeatureTable, test: WindowTest, alpha: float
) -> dict[str, tuple[float, ...]]:
    """Return the shares of the categories that differ, of papers that are ranked first there."""
    prefix = "predicted "
    named = [d.name for d in test.shifts if d.p_value <= alpha and d.name.startswith(prefix)]
    found = {}
    for code in (name.removeprefix(prefix) for name in named):
        column = table.labels.index(code)
        found[code] = tuple(float((t.top_labels[:, 0] == column).mean()) for t in (table, against))
    return found


def _stream(
    options: LookOptions,
    model: WatchedModel,
    history: History,
    against: FeatureTable,
    window: list[PredictionEvent],
) -> tuple[Watched, StreamState, tuple[str, ...]]:
    """Return the stream after the predictions that it has not seen, and what to say of it."""
    before = history.watched(model.ref.digest)
    reference, notes = _digest_of(against), tuple[str, ...]()
    if before is None or options.restart or before.reference != reference:
        kept = None if before is None or options.restart else before.labels
        before = Watched(
            stream=Stream.begin(against),
            reference=reference,
            begun_at_utc=utc_text(),
            labels=kept,
            looks=before.looks if before else 0,
        )
        since = min((event.at_utc for event in window), default="")
    else:
        since = before.watched_until_utc
    until = _settled()
    if since > utc_text():
        since, notes = until, (_SET_BACK,)
    wanted = PredictionFilter(digest=model.ref.digest, since_utc=since, until_utc=until)
    events, _ = papers_of(options.journal, wanted)
    if events:
        chance = np.array([_chance(event.prediction_id) for event in events])
        before.stream.watch(model.features(events), chance)
    stream = before.stream
    state = StreamState(
        n=stream.n_papers,
        begun_at_utc=before.begun_at_utc,
        martingale=float(np.exp(min(stream.log_martingale, 700.0))),
        p_value=stream.p_value,
        leading=dict(stream.leading(model.decider.labels)),
    )
    return replace(before, watched_until_utc=max(since, until)), state, notes


def _first_id(window: list[PredictionEvent]) -> str | None:
    return window[0].prediction_id if window else None


def _settled() -> str:
    return utc_text(round(time.time() * 1000) - _SETTLED_MS)


def _chance(prediction_id: str) -> float:
    """Return the number of 0..1 that divides the ties of a prediction, the same every time."""
    digest = blake2b(prediction_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2.0**64


def _digest_of(table: FeatureTable) -> str:
    arrays = (table.top_labels, table.top_probs, table.numbers, table.flags, table.projection)
    digest = blake2b(msgspec.json.encode(table.labels), digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
