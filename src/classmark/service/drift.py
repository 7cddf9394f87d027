"""The newest report of ``classmark monitor run`` as numbers: read from its file, not made here."""

from __future__ import annotations

import json
import logging
import time
from datetime import datetime
from pathlib import Path
from typing import Protocol, get_args

from classmark.errors import ClassmarkError
from classmark.records.drift import ACTIONS, AlarmKind, DriftReport
from classmark.service.logs import log_rarely

LOOK_EVERY_S = 1.0
_DAMAGED = (
    *(OSError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError),
    ClassmarkError,
)
READABLE, AGE = "classmark_drift_report_readable", "classmark_drift_report_age_seconds"
Values = dict[tuple[str, ...], float]
"""Name of the metric, "", values of its labels -> value."""


class DriftNumbers(Protocol):
    """What has numbers of the newest report."""

    def values(self) -> Values:
        """Return the metrics of the report."""


class DriftFile:
    """Reads the file when it has changed, at most once a second."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet.

        Args:
            path: what ``classmark monitor run --output`` writes.
        """
        self._path = path
        self._next_s = 0.0
        self._mark: tuple[int, int, int] | None = None
        self._found: Values = {(READABLE, ""): 0.0}
        self._made_s: float | None = None

    def values(self) -> Values:
        """Return the metrics of the report; of a file that cannot be read, only that it cannot."""
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + LOOK_EVERY_S
            self._look()
        if self._made_s is None:
            return self._found
        return {**self._found, (AGE, ""): time.time() - self._made_s}

    def _look(self) -> None:
        try:
            state = self._path.stat()
            mark = (state.st_mtime_ns, state.st_ino, state.st_size)
            if mark == self._mark:
                return
            self._mark = mark
            report = DriftReport.from_dict(json.loads(self._path.read_bytes()))
            made_s = datetime.fromisoformat(report.created_at_utc).timestamp()
            self._found, self._made_s = values_of(report), made_s
        except _DAMAGED as error:
            if isinstance(error, OSError):
                self._mark = None
            self._made_s, self._found = None, {(READABLE, ""): 0.0}
            log_rarely("drift report not readable", logging.WARNING, detail=str(error)[:300])


def values_of(report: DriftReport) -> Values:
    """Return the metrics of a report without its age; a test that was not made has none."""
    found: Values = {
        (READABLE, ""): 1.0,
        ("classmark_drift_papers", ""): float(report.counts.compared),
    }
    if report.window is not None:
        found["classmark_drift_p_value", ""] = report.window.p_value
    if report.size is not None:
        found["classmark_drift_size", ""] = report.size.share
        found["classmark_drift_size_interval", "", "low"] = report.size.low
        found["classmark_drift_size_interval", "", "high"] = report.size.high
    if report.stream is not None:
        found["classmark_drift_martingale", ""] = report.stream.martingale
    for action in ACTIONS:
        found["classmark_drift_action", "", action] = float(action == report.action)
    raised = {alarm.kind for alarm in report.alarms}
    kinds = get_args(AlarmKind)
    found |= {("classmark_drift_alarm", "", k): float(k in raised) for k in kinds}
    return found | _accuracies(report)


def _accuracies(report: DriftReport) -> Values:
    """Return what is estimated without labels, and what feedback says."""
    found: Values = {}
    if report.accuracy is not None:
        for bound in ("value", "low", "high", "reference"):
            found["classmark_drift_accuracy", "", bound] = getattr(report.accuracy, bound)
    if report.live is not None:
        found["classmark_live_labels", ""] = float(report.live.n)
        for bound in ("value", "low", "high"):
            if (share := getattr(report.live.top1, bound)) is not None:
                found["classmark_live_accuracy", "", bound] = share
    return found
