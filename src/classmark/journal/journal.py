"""The journal of one process: a queue with a limit, and one thread that feeds the writer.

The thread only passes packed events on and waits. A thread that writes takes the interpreter's lock
at every statement of SQLite, and requests wait for it (decision 0061).
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from classmark.errors import ClassmarkError, InvalidJournal
from classmark.journal.config import LOGGER_NAME, JournalConfig, JournalStatus
from classmark.journal.database import parts_of, reader
from classmark.journal.inserter import Event, Outcome
from classmark.journal.process import Batch, WriterProcess, pack_event, problem_of
from classmark.journal.reading import find_prediction
from classmark.journal.writer import writer_for
from classmark.records import Prediction

# Two commits in a window, so that an event is written within it though commits take time.
_COMMITS_PER_WINDOW = 2
_EVENTS_PER_TRANSACTION = 2_000
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.1, 2.0
_EVENT_BYTES = 600  # what an event without texts takes, roughly
_READ_AFTER_WRITE_S = 1.0
_AFTER_KILL_S = 2.0  # an answer on its way still counts; ends in milliseconds unless the disk hangs
NOT_WRITTEN = "journal cannot be written"
DROPPED = "journal events dropped"
NOT_DELETED = "old part of the journal not deleted"
_RECOVERED = "journal is written again"
_PAUSE_S = 60.0
_log = logging.getLogger(LOGGER_NAME)


class Journal:
    """Has events written in the background; may be shared by threads, not by processes.

    Each process makes its own, after it was forked or spawned; they may share a path.
    """

    def __init__(self, config: JournalConfig) -> None:
        """Start a thread, and the process that writes. What fails now is tried again later.

        Raises:
            JournalTooNew: the journal was written by a newer classmark.
            MissingExtra: the journal is in a database, and its driver is not installed.
        """
        self._chores = writer_for(config)
        # Any other fault is met by the thread, again and again.
        with suppress(InvalidJournal, OSError):
            for part in parts_of(config.path)[-1:]:
                with reader(part):
                    pass
        self._config = config
        self._lock = threading.Lock()
        self._settled_more = threading.Condition(self._lock)
        self._wake, self._hurry = threading.Event(), threading.Event()
        self._queue: list[bytes] = []
        self._in_hand: list[bytes] = []
        self._queued_bytes = 0
        self._accepted = self._settled = self._written = self._dropped = 0
        self._is_tried = False
        self._failing = False
        self._last_error: str | None = None
        self._faults, self._old_faults = FaultLog(), FaultLog()
        self._deadline: float | None = None
        self._writer = WriterProcess(config)
        self._thread = threading.Thread(target=self._run, name="classmark-journal", daemon=True)
        self._thread.start()

    def record(self, event: Event) -> bool:
        """Take an event to be written soon; never waits for the disk and never raises.

        Returns:
            False if it was dropped, which is counted: too many wait, the journal is closed, or it
            is not an event.
        """
        try:
            packed = pack_event(event)
        except (LookupError, TypeError, ValueError, OverflowError):
            packed = b""
        with self._lock:
            taken = (
                self._deadline is None
                and bool(packed)
                and len(self._queue) + len(self._in_hand) < self._config.capacity_events
                and self._queued_bytes + len(packed) <= self._config.capacity_bytes + _EVENT_BYTES
            )
            if taken:
                self._queue.append(packed)
                self._queued_bytes += len(packed)
                self._accepted += 1
            else:
                self._dropped += 1
        if not self._wake.is_set():
            self._wake.set()
        return taken

    def status(self) -> JournalStatus:
        """Return counts and health at this moment."""
        with self._lock:
            return JournalStatus(
                written=self._written,
                dropped=self._dropped,
                queued=len(self._queue) + len(self._in_hand),
                failing=self._failing,
                last_error=self._last_error,
            )

    @property
    def writer_pid(self) -> int | None:
        """Number of the process that writes, None while there is none."""
        return self._writer.pid

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything recorded so far is written or refused; False if time ran out.

        At the start it also waits until the writer has opened the file, or has said why it cannot.
        """
        with self._settled_more:
            wanted = self._accepted
            self._hurry.set()
            self._wake.set()
            return self._settled_more.wait_for(
                lambda: self._is_tried and self._settled >= wanted, timeout_s
            )

    def find(self, prediction_id: str) -> Prediction | None:
        """Return a prediction with its feedback, None if there is none; reads the disk.

        What this process recorded before is found; what another one did, after its flush window.

        Raises:
            InvalidJournal: a file of the journal cannot be read.
        """
        if self.status().queued:
            self.flush(_READ_AFTER_WRITE_S)
        return find_prediction(self._config.path, prediction_id)

    def delete_old(self) -> None:
        """Delete what the configuration does not keep; for one thread of one process, now and then.

        What this takes does not hold up those who write. What cannot be done now is said in the
        log and done the next time.
        """
        if self._config.keep_days is None and self._config.max_bytes is None:
            return
        try:
            self._chores.delete_old()
        except (sqlite3.Error, OSError, ClassmarkError) as error:
            self._old_faults.say(NOT_DELETED, logging.ERROR, problem=str(error))
        finally:
            with suppress(sqlite3.Error):
                self._chores.close()

    def close(self, timeout_s: float) -> int:
        """Have written what waits, end the writer, and return how many events were lost.

        Args:
            timeout_s: what is not written by then is lost.
        """
        with self._lock:
            self._deadline = time.monotonic() + timeout_s
            self._hurry.set()
            self._wake.set()
        self._thread.join(timeout_s + _FIRST_RETRY_S)
        if self._thread.is_alive():  # the writer does not answer
            self._writer.kill()
            self._thread.join(_AFTER_KILL_S)
        with self._lock:
            lost = len(self._queue) + len(self._in_hand)
            self._dropped += lost
            self._queue, self._in_hand = [], []
        return lost

    # --- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        gather_s = self._config.flush_window_ms / 1000 / _COMMITS_PER_WINDOW
        retry_s = _FIRST_RETRY_S
        began_s = time.monotonic()
        self._write()
        while not self._is_finished():
            if self._failing:
                self._hurry.wait(self._within_deadline(retry_s))
                retry_s = min(2 * retry_s, _LONGEST_RETRY_S)
            else:
                retry_s = _FIRST_RETRY_S
                self._wake.wait()
                # From batch to batch: what waits for a slow commit must not also wait afterwards.
                self._hurry.wait(max(0.0, began_s + gather_s - time.monotonic()))
            self._hurry.clear()
            self._wake.clear()
            began_s = time.monotonic()
            self._write()
        self._writer.close()

    def _is_finished(self) -> bool:
        with self._lock:
            if self._deadline is None:
                return False
            return not (self._queue or self._in_hand) or time.monotonic() >= self._deadline

    def _within_deadline(self, seconds: float) -> float:
        if self._deadline is None:
            return seconds
        return max(0.0, min(seconds, self._deadline - time.monotonic()))

    def _write(self) -> None:
        """Have everything written that waits, or keep it and note why that is not possible."""
        try:
            while True:  # at first without events: the writer then opens the file
                wait_ms = self._config.busy_timeout_ms
                if self._deadline is not None:
                    wait_ms = min(wait_ms, round(self._within_deadline(60) * 1000))
                events = self._take()
                outcome = self._writer.write(Batch(wait_ms, events))
                self._settle(events, outcome)
                if len(events) < _EVENTS_PER_TRANSACTION:
                    break
        except Exception as error:  # noqa: BLE001 - the thread lives as long as the process
            with self._lock:
                self._failing, self._last_error = True, problem_of(self._config, error)
        else:
            with self._lock:
                self._failing = False
        with self._settled_more:
            self._is_tried = True
            self._settled_more.notify_all()
        self._faults.report(self.status())

    def _take(self) -> list[bytes]:
        """Return the oldest events; they are kept until they are settled."""
        with self._lock:
            # Also behind those of an attempt that failed: what came meanwhile wakes nobody again.
            self._in_hand += self._queue
            self._queue = []
            return self._in_hand[:_EVENTS_PER_TRANSACTION]

    def _settle(self, events: list[bytes], outcome: Outcome) -> None:
        with self._settled_more:
            self._queued_bytes -= sum(map(len, events))
            del self._in_hand[: len(events)]
            self._written += outcome.written
            self._dropped += outcome.refused
            self._settled += len(events)
            self._failing = False
            if outcome.problem is not None:
                self._last_error = outcome.problem
            self._settled_more.notify_all()


class FaultLog:
    """Logs the first fault of a kind at once, and then one a minute, with how many it left out.

    A line is an event with fields, which a formatter finds in the record as ``fields``.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin.

        Args:
            clock: seconds from some moment.
        """
        self._clock = clock
        self._said_at_s: dict[str, float] = {}
        self._left_out: dict[str, int] = {}
        self._is_down = False
        self._n_dropped = 0

    def report(self, now: JournalStatus) -> None:
        """Log what is wrong with the journal, or that it is written again."""
        if now.failing:
            self._is_down |= self.say(NOT_WRITTEN, logging.ERROR, problem=now.last_error or "")
        facts = {"total": now.dropped, "problem": now.last_error}
        more = now.dropped - self._n_dropped
        if more and self.say(DROPPED, logging.WARNING, events=more, **facts):
            self._n_dropped = now.dropped
        if self._is_down and not now.failing:
            self._is_down = False
            _log.info(_RECOVERED, extra={"fields": {"dropped": self._n_dropped}})

    def say(self, event: str, level: int, **fields: object) -> bool:
        """Write a line, at most one of a kind in a minute; return whether it was written."""
        now = self._clock()
        if now - self._said_at_s.get(event, -_PAUSE_S) < _PAUSE_S:
            self._left_out[event] = self._left_out.get(event, 0) + 1
            return False
        self._said_at_s[event] = now
        left_out = {"left_out": n} if (n := self._left_out.pop(event, 0)) else {}
        _log.log(level, event, extra={"fields": {**fields, **left_out}})
        return True
