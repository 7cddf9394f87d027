"""Writes batches of events into the live file, and begins the next one when that is full."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from classmark.journal import database
from classmark.journal.config import JournalConfig
from classmark.journal.database import is_closed, journal_files, live_file, mark_closed, next_file
from classmark.journal.forget import Retention, days_ago
from classmark.journal.migrations import transaction
from classmark.journal.rows import (
    INSERT_FEEDBACK,
    feedback_row,
    insert_predictions,
    prediction_row,
)
from classmark.records import FeedbackEvent, PredictionEvent, utc_text
from classmark.wire import ModelRef

Event = PredictionEvent | FeedbackEvent

_FILE_BYTES = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
# Errors that a single event can cause; every other error concerns the file.
_EVENT_FAULTS = (
    *(sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError),
    *(TypeError, ValueError, OverflowError, AttributeError),
)


class Outcome(NamedTuple):
    """What became of a batch: events written and refused, and why the last of these was."""

    written: int
    refused: int
    problem: str | None


class FileWriter:
    """Writes into the live file of a journal; belongs to one thread."""

    def __init__(self, config: JournalConfig) -> None:
        self._config = config
        self._path: Path | None = None
        self._inode: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None
        self._models: dict[ModelRef, int] = {}
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
                    outcome = self._write_rows(connection, events)
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
        path = live_file(self._config.path)
        while True:
            connection = database.open_writer(path, busy_timeout_ms=self._busy_timeout_ms)
            try:
                begin_file(connection, predecessor_of=path, first=self._config.path)
                if not is_closed(connection):
                    break
            except BaseException:
                connection.close()
                raise
            connection.close()
            path = next_file(self._config.path, path)
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

    def limit_waiting(self, timeout_ms: int) -> None:
        """Wait no longer than this for other processes from now on."""
        self._busy_timeout_ms = min(timeout_ms, self._busy_timeout_ms)
        if self._connection is not None:
            self._connection.execute(f"PRAGMA busy_timeout = {self._busy_timeout_ms}")

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        self._models = {}
        if connection is not None:
            connection.close()

    def _write_rows(self, connection: sqlite3.Connection, events: Sequence[Event]) -> Outcome:
        for model in {e.model for e in events if isinstance(e, PredictionEvent)}:
            self._know(connection, model)
        connection.execute("SAVEPOINT batch")
        try:
            self._insert(connection, events)
        except _EVENT_FAULTS:
            connection.execute("ROLLBACK TO batch")
        else:
            return Outcome(len(events), 0, None)
        refused, problem = 0, None
        for event in events:
            try:
                self._insert(connection, [event])
            except _EVENT_FAULTS as error:
                refused += 1
                problem = f"event {event.prediction_id} was refused: {error}"
        return Outcome(len(events) - refused, refused, problem)

    def _insert(self, connection: sqlite3.Connection, events: Sequence[Event]) -> None:
        keep_text = self._config.keep_text
        predictions = [e for e in events if isinstance(e, PredictionEvent)]
        rows = [prediction_row(e, self._models[e.model], keep_text=keep_text) for e in predictions]
        insert_predictions(connection, rows)
        feedback = [feedback_row(e) for e in events if isinstance(e, FeedbackEvent)]
        connection.executemany(INSERT_FEEDBACK, feedback)

    def _know(self, connection: sqlite3.Connection, model: ModelRef) -> None:
        """Learn the row of a model in the table ``models``, added if needed."""
        if model in self._models:
            return
        values = (model.name, model.version, model.digest)
        connection.execute(
            "INSERT INTO models (name, version, digest) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            values,
        )
        query = "SELECT id FROM models WHERE name = ? AND version = ? AND digest = ?"
        self._models[model] = int(connection.execute(query, values).fetchone()[0])

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
