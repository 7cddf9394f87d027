"""The tables of a journal, as named steps that are applied once each, in order."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from classmark.errors import InvalidJournal, JournalTooNew
from classmark.records import utc_text

_TABLES = """
CREATE TABLE journal_file (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    begun_at_utc TEXT NOT NULL,
    closed_at_utc TEXT
);
CREATE TABLE models (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    UNIQUE (name, version, digest)
);
CREATE TABLE predictions (
    prediction_id TEXT PRIMARY KEY,
    at_utc TEXT NOT NULL,
    model INTEGER NOT NULL REFERENCES models (id),
    paper_id TEXT,
    text_fingerprint TEXT NOT NULL,
    primary_code TEXT,
    reason TEXT NOT NULL,
    ranked TEXT NOT NULL,
    prediction_set TEXT NOT NULL,
    cross_lists TEXT NOT NULL,
    known_share REAL NOT NULL,
    n_chars INTEGER NOT NULL,
    n_words INTEGER NOT NULL,
    latex_share REAL NOT NULL,
    latency_ms REAL NOT NULL,
    source TEXT NOT NULL,
    author_category TEXT,
    text TEXT
) WITHOUT ROWID;
CREATE TABLE feedback (
    prediction_id TEXT NOT NULL,
    category TEXT NOT NULL,
    comment TEXT NOT NULL,
    at_utc TEXT NOT NULL,
    PRIMARY KEY (prediction_id, category, comment)
) WITHOUT ROWID;
"""

# What was deleted on request stays deleted, even if a retry of its request arrives late.
_FORGOTTEN = """
CREATE TABLE forgotten (prediction_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TRIGGER predictions_stay_forgotten BEFORE INSERT ON predictions
WHEN EXISTS (SELECT 1 FROM forgotten WHERE prediction_id = NEW.prediction_id)
BEGIN
    SELECT RAISE(IGNORE);
END;
CREATE TRIGGER feedback_stays_forgotten BEFORE INSERT ON feedback
WHEN EXISTS (SELECT 1 FROM forgotten WHERE prediction_id = NEW.prediction_id)
BEGIN
    SELECT RAISE(IGNORE);
END;
"""

_USED_AUTHORS = "ALTER TABLE predictions ADD COLUMN used_authors INTEGER NOT NULL DEFAULT 0;"

MIGRATIONS: Mapping[str, str] = {
    "0001_predictions_and_feedback": _TABLES,
    "0002_forgotten": _FORGOTTEN,
    "0003_used_authors": _USED_AUTHORS,
}


def pending_migrations(
    connection: sqlite3.Connection,
    path: Path,
    migrations: Mapping[str, str] = MIGRATIONS,
) -> list[str]:
    """Return the names of the steps that a database lacks.

    Raises:
        JournalTooNew: it has steps that this classmark does not know.
        InvalidJournal: it has tables, but none of a journal.
    """
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    if tables and "migrations" not in tables:
        raise InvalidJournal(
            f"{path} is an SQLite file of something else. Give another file, or move it away."
        )
    applied = [r[0] for r in connection.execute("SELECT name FROM migrations")] if tables else []
    unknown = sorted(set(applied) - set(migrations))
    if unknown:
        raise JournalTooNew(
            f"{path} was written by a newer classmark (it has {unknown[0]!r}). Install that "
            "version, or give another journal."
        )
    return [name for name in migrations if name not in applied]


def migrate(
    connection: sqlite3.Connection,
    path: Path,
    migrations: Mapping[str, str] = MIGRATIONS,
) -> list[str]:
    """Apply the steps that a database lacks, all or none; return their names.

    Several processes may do so at once: the first does it, the others find it done.

    Raises:
        JournalTooNew: it has steps that this classmark does not know.
        InvalidJournal: it has tables, but none of a journal.
        sqlite3.Error: it cannot be written.
    """
    if not pending_migrations(connection, path, migrations):
        return []
    with transaction(connection):
        pending = pending_migrations(connection, path, migrations)
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations "
            "(name TEXT PRIMARY KEY, applied_at_utc TEXT NOT NULL)"
        )
        for name in pending:
            for statement in _statements(migrations[name]):
                connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?, ?)", (name, utc_text()))
    return pending


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write what the block writes, all or nothing.

    Raises:
        sqlite3.Error: another connection writes for longer than the timeout, or it cannot be done.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(sql: str) -> Iterator[str]:
    """Yield the statements of a text; ``executescript`` would end the transaction."""
    statement = ""
    for line in sql.strip().splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
