"""Writes batches of events into the live file, and begins the next one when that is full.

``writer_for`` is the one place that knows that a journal may be a database instead.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from classmark.journal import database
from classmark.journal.config import JournalConfig
from classmark.journal.database import is_closed, journal_files, live_file, mark_closed, next_file
from classmark.journal.forget import Retention, days_ago
from classmark.journal.inserter import Event, Inserter, Outcome
from classmark.journal.migrations import transaction
from classmark.journal.place import Address, postgres
from classmark.records import utc_text

_FILE_BYTES = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
# Errors that a single event can cause; every other error concerns the file.
_EVENT_FAULTS = (
    *(sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError),
    *(TypeError, ValueError, OverflowError, AttributeError),
)


class Writer(Protocol):
    """Writes into a journal; belongs to one thread. Whatever it raises, it may be called again."""

    def open(self) -> object:
        """Have the journal ready to be written, its tables up to date."""
        ...

    def write(self, events: Sequence[Event]) -> Outcome:
        """Write all events in one transaction; those that the database refuses are left out."""
        ...

    def limit_waiting(self, timeout_ms: int) -> None:
        """Wait no longer than this for other processes from now on."""
        ...

    def delete_old(self) -> None:
        """Delete what the configuration does not keep."""
        ...

    def close(self) -> None:
        """Close the connection, if there is one; the next call opens another."""
        ...


def writer_for(config: JournalConfig) -> Writer:
    """Return what writes to the place of a journal.

    Raises:
        MissingExtra: that is a database, and its driver is not installed.
    """
    if isinstance(config.path, Address):
        return postgres().PostgresWriter(config)  # type: ignore[no-any-return]
    return FileWriter(config)


class FileWriter:
    """Writes into the live file of a journal; belongs to one thread."""

    def __init__(self, config: JournalConfig) -> None:
        self._config, self._first = config, config.first_file
        self._path: Path | None = None
        self._inode: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None
        self._inserter = Inserter(keep_text=config.keep_text, faults=_EVENT_FAULTS)
        self._busy_timeout_ms = config.busy_timeout_ms
        self._retention = Retention(config)

    def write(self, events: Sequence[Event]) -> Outcome:
        """Write all events in one transaction; those that the database refuses are left out.

        Raises:
            sqlite3.OperationalError: nothing was written: no room, no permission, busy.
            OSError: the folder cannot be made.
            ClassmarkError: the file is not a journal.
        """
        while True:
            connection = self.open()
            with transaction(connection):
                if not is_closed(connection):
                    outcome = self._inserter.insert(connection, events)
                    full = self._is_full(connection)
                    if full:
                        mark_closed(connection)
                    break
            self.close()  # another process has filled it
        if full:
            self.close()
        return outcome

    def open(self) -> sqlite3.Connection:
        """Return the connection to the live file, opened again if that was deleted or replaced."""
        if self._connection is not None and self._inode == _inode(self._path):
            return self._connection
        self.close()
        path = live_file(self._first)
        while True:
            connection = database.open_writer(path, busy_timeout_ms=self._busy_timeout_ms)
            try:
                begin_file(connection, predecessor_of=path, first=self._first)
                if not is_closed(connection):
                    break
            except BaseException:
                connection.close()
                raise
            connection.close()
            path = next_file(self._first, path)
        self._connection, self._path, self._inode = connection, path, _inode(path)
        self._retention.delete_files()
        return connection

    def begin_next_if_due(self) -> None:
        """Close the live file if it is full or old enough, and begin the next one.

        Raises:
            sqlite3.Error, OSError, ClassmarkError: it cannot be done now.
        """
        connection = self.open()
        with transaction(connection):
            is_due = not database.is_empty(connection) and self._is_full(connection)
            if is_due and not is_closed(connection):
                mark_closed(connection)
        if is_due:
            self.close()
            self.open()

    def delete_old(self) -> None:
        """Close the live file if that is due, and delete what is too old or too much.

        Raises:
            sqlite3.Error, OSError, ClassmarkError: it cannot be done now.
        """
        self.begin_next_if_due()
        self._retention.delete_files()
        self._retention.shorten_files()

    def limit_waiting(self, timeout_ms: int) -> None:
        """Wait no longer than this for other processes from now on."""
        self._busy_timeout_ms = min(timeout_ms, self._busy_timeout_ms)
        if self._connection is not None:
            self._connection.execute(f"PRAGMA busy_timeout = {self._busy_timeout_ms}")

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        self._inserter.forget_models()
        if connection is not None:
            connection.close()

    def _is_full(self, connection: sqlite3.Connection) -> bool:
        if connection.execute(_FILE_BYTES).fetchone()[0] >= self._config.file_bytes:
            return True
        days = self._config.file_days
        if days is None:
            return False
        begun = connection.execute("SELECT begun_at_utc FROM journal_file").fetchone()[0]
        return str(begun) <= days_ago(days)


def begin_file(connection: sqlite3.Connection, *, predecessor_of: Path, first: Path) -> None:
    """Note when a file was begun, and take over what its predecessor must not let in again.

    Args:
        connection: to the file.
        predecessor_of: the file.
        first: the first file of the journal.
    """
    if connection.execute("SELECT 1 FROM journal_file").fetchone():
        return
    older = [file for file in journal_files(first) if file != predecessor_of]
    forgotten: list[tuple[str]] = []
    if older:
        with database.reader(older[-1]) as previous:
            forgotten = previous.execute("SELECT prediction_id FROM forgotten").fetchall()
    with transaction(connection):
        connection.execute(
            "INSERT INTO journal_file (id, begun_at_utc) VALUES (1, ?) ON CONFLICT DO NOTHING",
            (utc_text(),),
        )
        connection.executemany("INSERT OR IGNORE INTO forgotten VALUES (?)", forgotten)


def _inode(path: Path | None) -> tuple[int, int] | None:
    try:
        status = os.stat(path) if path else None  # noqa: PTH116 - twice as fast, at every flush
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status else None
