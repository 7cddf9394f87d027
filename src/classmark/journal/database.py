"""Connections to one file of a journal, and what SQLite's errors mean in words."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from classmark.errors import ADVICE, InvalidJournal
from classmark.journal.faults import LOGGER_NAME
from classmark.journal.files import with_logs
from classmark.journal.migrations import migrate, pending_migrations

_LOG_LIMIT_BYTES = 16 * 1024 * 1024
_READER_TIMEOUT_MS = 10_000
_BUSY_PAUSE_S = 0.005
_PRIMARY_CODE = 0xFF  # SQLite's error codes without their extended part
_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600
_OTHERS = 0o077
_log = logging.getLogger(LOGGER_NAME)


def open_writer(path: Path, *, busy_timeout_ms: int, secure: bool = False) -> sqlite3.Connection:
    """Open a file for writing, begin it if it is not there, and bring its tables up to date.

    Args:
        path: the file.
        busy_timeout_ms: how long a transaction waits for that of another connection.
        secure: overwrite what is deleted.

    Raises:
        JournalTooNew: it was written by a newer classmark.
        InvalidJournal: it is no journal.
        OSError: its folder cannot be made.
        sqlite3.Error: it cannot be opened or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=_PRIVATE_FOLDER)
    _begin_private(path)
    connection = sqlite3.connect(path, timeout=busy_timeout_ms / 1000, isolation_level=None)
    try:
        _use_log(connection, busy_timeout_ms)
        # A kill loses nothing that is committed; only a power cut may lose the newest commits.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT_BYTES}")
        connection.execute(f"PRAGMA secure_delete = {'ON' if secure else 'OFF'}")
        migrate(connection, path)
        _close_to_others(path)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def reader(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that only reads a file; one of an older classmark is brought up to date.

    Raises:
        JournalTooNew: it was written by a newer classmark.
        InvalidJournal: it is missing, damaged or no journal.
    """
    with journal_errors(path):
        connection = _open_reader(path)
    try:
        with journal_errors(path):
            yield connection
    finally:
        connection.close()


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


@contextmanager
def journal_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the system into one that names the file."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise InvalidJournal(f"journal {path}: {in_words(error)}") from error


def in_words(error: Exception) -> str:
    """Return what went wrong, and what to do, as one sentence."""
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
    if isinstance(error, OSError):
        if error.errno in ADVICE:
            return f"{error.strerror}. {ADVICE[error.errno]}."
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        code = sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_CANTOPEN
    return _REMEDIES.get(code) or f"{error}. Check the path, its permissions and the disk."


_REMEDIES = {
    sqlite3.SQLITE_FULL: "the disk is full. Free some space.",
    sqlite3.SQLITE_READONLY: "it is read-only. Give write permission, raise the limit of "
    "open files (ulimit -n), or name another file with --journal.",
    sqlite3.SQLITE_IOERR: "the disk cannot be read or written. Check it, and that it has room.",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened. Check the path, its permissions and the "
    "limit of open files (ulimit -n), or name another file with --journal.",
    sqlite3.SQLITE_BUSY: "another process holds it for too long. Wait until it is done.",
    sqlite3.SQLITE_CORRUPT: "it is damaged. Move it away; a new one is begun.",
    sqlite3.SQLITE_NOTADB: "it is damaged or no SQLite file. Move it away; a new one is begun.",
}


def _begin_private(path: Path) -> None:
    """Begin a file that is its owner's alone before SQLite opens it, which gives its log that mode.

    A file that exists stays as it is.
    """
    with suppress(FileExistsError):
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        os.close(os.open(os.path.realpath(path), flags, _PRIVATE_FILE))


def _close_to_others(path: Path) -> None:
    """Make a journal private that a former version, or somebody else, has made readable."""
    if os.name == "nt":  # pragma: no cover - there are no such modes
        return
    for file in with_logs(Path(os.path.realpath(path))):
        with suppress(FileNotFoundError):
            mode = file.stat().st_mode & 0o777
            if mode & _OTHERS:
                _make_private(file, mode)


def _make_private(file: Path, mode: int) -> None:
    fields = {"path": str(file), "mode": f"{mode:o}"}
    try:
        file.chmod(mode & ~_OTHERS)
    except PermissionError:
        _log.warning("journal is readable by others", extra={"fields": fields})
    else:
        _log.warning("journal was readable by others", extra={"fields": fields})


def _use_log(connection: sqlite3.Connection, timeout_ms: int) -> None:
    """Switch to WAL; SQLite does not wait by itself for another connection that does so now."""
    deadline = time.monotonic() + timeout_ms / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & _PRIMARY_CODE == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() >= deadline:
                raise
            time.sleep(_BUSY_PAUSE_S)
        else:
            return


def _open_reader(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise InvalidJournal(f"there is no journal at {path}. Check the path.")
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=_READER_TIMEOUT_MS / 1000,
        isolation_level=None,
    )
    try:
        if pending_migrations(connection, path):
            open_writer(path, busy_timeout_ms=_READER_TIMEOUT_MS).close()
    except BaseException:
        connection.close()
        raise
    return connection
