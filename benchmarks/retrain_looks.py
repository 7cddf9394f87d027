"""What the monitor says of a model month by month: the same code as `classmark monitor run`.

A look compares the papers of a month with the reference of the model, estimates its accuracy and
continues the watch of every paper since the model began to serve. Parts of a window are left out:
no alarm comes from them. Hits and reports are kept on disk; a second run reads them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classmark.monitor.accuracy import AccuracyEstimator
from classmark.monitor.labelled import estimator_of
from classmark.monitor.policy import WatchPolicy, accuracy_alarm, stream_alarm, window_alarm
from classmark.monitor.sizes import size_of
from classmark.monitor.stream import Stream
from classmark.monitor.window import LEAST_PAPERS, compare
from classmark.records.drift import Alarm, Counts, DriftReport, StreamState
from classmark.runtime.features import FeatureTable
from classmark.storage import atomic_file, write_json
from classmark.wire import ModelRef
from retrain_fits import SEED, Model, Timeline

Hits = NDArray[np.bool_]


@dataclass(eq=False)
class _Watch:
    """The watch of a model: how far its stream has come."""

    model: Model
    stream: Stream
    begun: str
    next_month: int
    estimator: AccuracyEstimator | None = None


@dataclass(frozen=True, eq=False)
class Monitor:
    """Answers and looks of the models of a timeline.

    Attributes:
        timeline: papers and fits.
        folder: keeps hits and reports.
        most: maximum number of papers of a month that are asked.
    """

    timeline: Timeline
    folder: Path
    most: int
    _watches: dict[str, _Watch] = field(default_factory=dict)

    def hits(self, until: str, month: str) -> Hits:
        """Return which papers of a month a model gets right: bool [n], the same papers for all."""
        path = self.folder / "hits" / until / f"{month}.npy"
        if not path.exists():
            papers = self.timeline.drawn(month, self.most)
            watched = self.timeline.model(until).watched(papers)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                np.save(file, watched.scores.argmax(axis=1) == papers.labels)
        return np.asarray(np.load(path), dtype=np.bool_)

    def report(self, until: str, month: str) -> DriftReport:
        """Return the look at a month, by a monitor that began when the model began to serve."""
        path = self._path(until, month)
        if not path.exists():
            report = self._look(self._watch(until, month), month)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, report.to_dict())
        return DriftReport.from_dict(json.loads(path.read_text(encoding="utf-8")))

    def has_report(self, until: str, month: str) -> bool:
        """Return whether a rule has asked for the look."""
        return self._path(until, month).exists()

    def _path(self, until: str, month: str) -> Path:
        return self.folder / "looks" / until / f"{month}.json"

    def _watch(self, until: str, month: str) -> _Watch:
        """Return the watch of a model up to the month before, from its first one if need be."""
        wanted = self.timeline.months.index(month)
        watch = self._watches.get(until)
        if watch is None or watch.next_month > wanted:
            model = self.timeline.model(until)
            first = self.timeline.months.index(until) + 1
            watch = _Watch(model, Stream.begin(model.reference.table), until, first)
        while watch.next_month < wanted:
            self._answers(watch, self.timeline.months[watch.next_month])
        self._watches[until] = watch
        return watch

    def _answers(self, watch: _Watch, month: str) -> FeatureTable:
        """Return the features of a month's answers, which the stream has then seen."""
        papers = self.timeline.drawn(month, self.most)
        table = watch.model.features(watch.model.watched(papers))
        place = self.timeline.months.index(month)
        watch.stream.watch(table, np.random.default_rng([SEED, place]).random(len(table)))
        watch.next_month = place + 1
        return table

    def _look(self, watch: _Watch, month: str) -> DriftReport:
        print(f"looking at {month} by {watch.begun}", file=sys.stderr, flush=True)
        table = self._answers(watch, month)
        n, stream = len(table), watch.stream
        report = DriftReport(
            model=ModelRef("replay", watch.begun, ""),
            reference=f"{len(watch.model.reference.table):,} validation papers of the model",
            created_at_utc=month,
            since_utc=month,
            until_utc=month,
            counts=Counts(read=n, compared=n, repeated=0, without_features=0, left_out=0),
            alpha=WatchPolicy().alpha,
            window=None,
            size=None,
            stream=StreamState(
                n=stream.n_papers,
                begun_at_utc=watch.begun,
                martingale=float(np.exp(min(stream.log_martingale, 700.0))),
                p_value=stream.p_value,
            ),
        )
        if n >= LEAST_PAPERS:
            report = _compared(report, watch, table)
        return replace(report, alarms=alarms_of(report, WatchPolicy()))


def _compared(report: DriftReport, watch: _Watch, table: FeatureTable) -> DriftReport:
    reference = watch.model.reference
    watch.estimator = watch.estimator or estimator_of(reference, table)
    return replace(
        report,
        window=replace(compare(table, reference.table), shifts=()),
        size=size_of(table, reference.table),
        accuracy=watch.estimator.estimate(table) if watch.estimator else None,
    )


def alarms_of(report: DriftReport, policy: WatchPolicy) -> tuple[Alarm, ...]:
    """Return the alarms of a report under a policy of the monitor."""
    window: tuple[Alarm, ...] = ()
    if report.window is not None and report.size is not None:
        window = window_alarm(report.window, report.size, policy)
    return (
        *window,
        *accuracy_alarm(report.accuracy, policy),
        *stream_alarm(report, policy),
    )
