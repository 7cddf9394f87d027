"""What one worker of a service does now and then for all of them, in a thread of its own."""

from __future__ import annotations

import errno
import logging
import threading
from typing import TYPE_CHECKING

from classmark.errors import ClassmarkError
from classmark.records import utc_text
from classmark.service.keys import write_last_uses
from classmark.service.logs import log_failure, log_rarely

if TYPE_CHECKING:
    from classmark.journal import Journal
    from classmark.service.metrics import Metrics

PAUSE_S = 60.0


class Chores:
    """Writes down when API keys were last used, and deletes what the journal need not keep."""

    def __init__(self, metrics: Metrics, journal: Journal | None, pause_s: float = PAUSE_S) -> None:
        """Start the thread; the chores are done for the first time after a pause.

        Args:
            metrics: of all workers.
            journal: None if there is none.
            pause_s: between two times.

        Raises:
            OSError: the system has no thread left.
        """
        self._metrics, self._journal, self._pause_s = metrics, journal, pause_s
        self._written: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="classmark-chores", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, "no thread can be started; raise ulimit -u") from error

    def close(self, timeout_s: float) -> None:
        """Write down the last uses of keys once more and end, or leave that after the timeout."""
        self._ended.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ended.wait(self._pause_s):
            self._do(is_last=False)
        self._do(is_last=True)

    def _do(self, *, is_last: bool) -> None:
        try:
            self._note_uses()
            if self._journal is not None and not is_last:
                self._journal.delete_old()
        except Exception as error:  # the thread lives as long as the process
            log_failure("chores failed", error)

    def _note_uses(self) -> None:
        uses = self._metrics.last_uses()
        if uses == self._written:
            return
        try:
            write_last_uses({key: utc_text(round(at_s * 1000)) for key, at_s in uses.items()})
        except (ClassmarkError, RuntimeError) as error:  # RuntimeError: there is no home
            log_rarely("last use of keys not written", logging.WARNING, detail=str(error))
        else:
            self._written = uses
