"""What goes wrong with a journal, as lines of a log that are never many."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

LOGGER_NAME = "classmark.journal"
NOT_WRITTEN = "journal cannot be written"
DROPPED = "journal events dropped"
NOT_DELETED = "old part of the journal not deleted"
_RECOVERED = "journal is written again"
_PAUSE_S = 60.0
_log = logging.getLogger(LOGGER_NAME)


class FaultLog:
    """Says the first fault of a kind at once, and then one a minute, with how many it left out.

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

    def not_written(self, problem: str) -> None:
        """Say that an attempt to write has failed."""
        self._is_down = self._say(NOT_WRITTEN, logging.ERROR, problem=problem) or self._is_down

    def written(self) -> None:
        """Say that writing works again, if it was said that it does not."""
        if self._is_down:
            self._is_down = False
            _log.info(_RECOVERED, extra={"fields": {"dropped": self._n_dropped}})

    def dropped(self, total: int, problem: str | None) -> None:
        """Say how many events were lost so far, if that has changed.

        Args:
            total: since the beginning.
            problem: what is known of the reason.
        """
        if total == self._n_dropped:
            return
        more = total - self._n_dropped
        if self._say(DROPPED, logging.WARNING, events=more, total=total, problem=problem):
            self._n_dropped = total

    def not_deleted(self, problem: str) -> None:
        """Say that what need not be kept could not be deleted."""
        self._say(NOT_DELETED, logging.ERROR, problem=problem)

    def _say(self, event: str, level: int, **fields: object) -> bool:
        """Write a line unless one of its kind was written a moment ago; tell whether it was."""
        now = self._clock()
        if now - self._said_at_s.get(event, -_PAUSE_S) < _PAUSE_S:
            self._left_out[event] = self._left_out.get(event, 0) + 1
            return False
        self._said_at_s[event] = now
        left_out = {"left_out": n} if (n := self._left_out.pop(event, 0)) else {}
        _log.log(level, event, extra={"fields": {**fields, **left_out}})
        return True
