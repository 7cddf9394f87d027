"""Deletes what a journal need not keep: predictions that are too old, and files that are too many.

Whole files go, which takes no longer than removing a name and holds up no writer. So a journal with
a limit begins new files more often; see ``JournalConfig``. Only a file that was begun before there
was a limit is shortened, once it is closed and nobody writes it any more.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path

from classmark.errors import ClassmarkError
from classmark.journal.config import JournalConfig
from classmark.journal.database import period_of, reader
from classmark.journal.faults import LOGGER_NAME
from classmark.journal.files import delete_file, journal_files, with_logs
from classmark.journal.forget import Forgettable, forget
from classmark.records import utc_text

_DAY_MS = 86_400_000
_log = logging.getLogger(LOGGER_NAME)


class Retention:
    """The limits of one journal; belongs to one thread."""

    def __init__(self, config: JournalConfig) -> None:
        """Take the limits of a configuration."""
        self._path, self._max_bytes = config.path, config.max_bytes
        self._keep_days, self._file_days = config.keep_days, config.file_days or 0.0
        self._gone_through: dict[Path, str] = {}

    def delete_files(self) -> None:
        """Delete closed files that are too old, or too many; what cannot be is tried again."""
        if self._keep_days is not None:
            limit = days_ago(self._keep_days)
            for file in self._older_files():
                with suppress(ClassmarkError, OSError):
                    if (_period(file)[1] or limit) < limit:
                        _delete(file, "age")
        if self._max_bytes is not None:
            files = self._older_files()
            total = sum(map(_size, journal_files(self._path)))
            while files and total > self._max_bytes:
                oldest = files.pop(0)
                with suppress(ClassmarkError, OSError):
                    if _period(oldest)[1] is not None:
                        total -= _size(oldest)
                        _delete(oldest, "size")

    def shorten_files(self) -> None:
        """Delete the old part of closed files that hold more time than files do with a limit.

        Raises:
            InvalidJournal: a file cannot be read or written now.
        """
        if self._keep_days is None:
            return
        limit, late = days_ago(self._keep_days), days_ago(self._keep_days + 2 * self._file_days)
        for file in self._older_files():
            begun, closed = _period(file)
            if closed is None or max(begun, self._gone_through.get(file, "")) >= late:
                continue
            done = forget(self._path, Forgettable(before_utc=limit), only=file)
            self._gone_through[file] = limit
            if done.predictions or done.feedback:
                fields = {"path": str(file), "predictions": done.predictions, "before": limit}
                _log.info("journal file shortened", extra={"fields": fields})

    def _older_files(self) -> list[Path]:
        # The newest one stays: the next one learns from it what is forgotten.
        return journal_files(self._path)[:-1]


def days_ago(days: float) -> str:
    """Return the time so many days before now, as the journal writes it."""
    return utc_text(time.time_ns() // 1_000_000 - round(days * _DAY_MS))


def _period(file: Path) -> tuple[str, str | None]:
    with reader(file) as connection:
        return period_of(connection)


def _size(file: Path) -> int:
    total = 0
    for part in with_logs(file):
        with suppress(FileNotFoundError):
            total += part.stat().st_size
    return total


def _delete(file: Path, limit: str) -> None:
    fields = {"path": str(file), "bytes": _size(file), "limit": limit}
    delete_file(file)
    _log.info("journal file deleted", extra={"fields": fields})
