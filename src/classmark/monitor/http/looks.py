"""Looks of a process that keeps running: one at a time, on a schedule and on request."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from concurrent.futures import Future
from datetime import datetime

from classmark.errors import ClassmarkError
from classmark.monitor.history import History
from classmark.monitor.look import LookOptions, look
from classmark.records import utc_text
from classmark.records.drift import DriftReport
from classmark.records.progress import Progress
from classmark.service.drift import AGE, READABLE, Values, values_of
from classmark.service.families import MODEL_INFO
from classmark.service.logs import log, log_failure
from classmark.wire import ModelRef

OUTCOMES = ("done", "failed", "left_out")


class LookEnded(Exception):
    """The process stops, so the look was not finished; nothing of it is kept."""


class _Steps(Progress):
    """Ends a look between two of its steps once the process stops."""

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped

    def step(self, text: str, *, done: int = 0, share: float = 0.0) -> None:  # noqa: ARG002
        if self._stopped.is_set():
            raise LookEnded(text)

    def advance(self, n: int, *, share: float | None = None) -> None: ...

    def note(self, text: str) -> None: ...

    def warn(self, line: str) -> None: ...


class Looks:
    """Makes looks and counts them. Its numbers are those of the newest report of the history.

    Attributes:
        options: of a look, if a request gives no others.
        history: keeps the reports.
        model: that was watched last.
        started_at_utc: when the look that runs was begun, "" if none does.
    """

    def __init__(
        self, options: LookOptions, history: History, every_s: float, model: ModelRef
    ) -> None:
        """Make no look yet.

        Args:
            options: of a look.
            history: keeps the reports.
            every_s: from one scheduled look to the next; 0 for no schedule.
            model: that the options name now.
        """
        self.options, self.history, self.model = options, history, model
        self.started_at_utc = ""
        self._every_s = every_s
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._counts: Counter[str] = Counter()
        self._running: threading.Thread | None = None

    def start(self) -> None:
        """Make the first scheduled look, and the next ones from now on."""
        if self._every_s:
            threading.Thread(target=self._keep_looking, daemon=True).start()

    def begin(self, options: LookOptions | None = None) -> Future[DriftReport] | None:
        """Begin a look in a thread; returns None if one is running, or the process stops.

        Args:
            options: of this look; None for the usual ones.
        """
        future: Future[DriftReport] = Future()
        future.set_running_or_notify_cancel()  # who waits may give up, and the look goes on
        with self._lock:
            if self.started_at_utc or self._stopped.is_set():
                return None
            self.started_at_utc = utc_text()
            # Of a process that stops it may be left behind: a report is added as a whole or not.
            self._running = threading.Thread(
                target=self._run, args=(options or self.options, future), daemon=True
            )
            self._running.start()
        return future

    def values(self) -> Values:
        """Return the metrics: of the newest report, and of the looks of this process."""
        with self._lock:
            counts = Counter(self._counts)
        found: Values = {("classmark_drift_looks_total", "", o): float(counts[o]) for o in OUTCOMES}
        found[MODEL_INFO, "", self.model.name, self.model.version, self.model.digest] = 1.0
        try:
            newest = self.history.reports(newest=1)
        except ClassmarkError as error:
            log("history not readable", logging.WARNING, detail=str(error))
            return {**found, (READABLE, ""): 0.0}
        for report in newest:
            made_s = datetime.fromisoformat(report.created_at_utc).timestamp()
            found |= {**values_of(report), (AGE, ""): time.time() - made_s}
        return found

    def stop(self) -> None:
        """Begin no more looks, and end the one that runs at its next step."""
        self._stopped.set()

    def close(self, timeout_s: float) -> None:
        """Stop, and wait for the look that runs; leave it behind after the timeout."""
        self.stop()
        running = self._running
        if running is not None:
            running.join(timeout_s)
            if running.is_alive():
                log("look left behind", logging.WARNING, started_at_utc=self.started_at_utc)

    def _keep_looking(self) -> None:
        while not self._stopped.is_set():
            if self.begin() is None:
                self._count("left_out")
            self._stopped.wait(self._every_s)

    def _run(self, options: LookOptions, future: Future[DriftReport]) -> None:
        outcome = "failed"
        try:
            report = look(options, self.history, _Steps(self._stopped))
            outcome, self.model = "done", report.model
        except LookEnded as error:
            log("look ended", logging.WARNING, step=str(error))
            self._end(outcome)
            future.set_exception(error)
        except ClassmarkError as error:
            log("look failed", logging.ERROR, kind=error.kind, detail=str(error))
            self._end(outcome)
            future.set_exception(error)
        except Exception as error:  # noqa: BLE001 - the next look may succeed
            log_failure("look failed", error)
            self._end(outcome)
            future.set_exception(error)
        else:
            log("looked", action=report.action, papers=report.counts.compared)
            self._end(outcome)
            future.set_result(report)

    def _end(self, outcome: str) -> None:
        """Let the next look begin, before anybody learns of the end of this one."""
        self._count(outcome)
        with self._lock:
            self.started_at_utc = ""

    def _count(self, outcome: str) -> None:
        with self._lock:
            self._counts[outcome] += 1
