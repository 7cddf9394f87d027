"""The files of a journal: names, connections, and explanations of SQLite's errors.

They are ``journal.sqlite``, then ``journal.000002.sqlite`` and so on. A file is never renamed:
SQLite knows its log (``-wal``) and shared memory (``-shm``) by name, so one process could write a
renamed database that the next takes for another one. Instead a full file is closed for good by a
mark inside it, which every writer reads in its transaction, and the next number is begun.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from classmark.errors import ADVICE, InvalidJournal
from classmark.journal.config import LOGGER_NAME
from classmark.journal.migrations import migrate, pending_migrations
from classmark.journal.place import Address, Connection, Place, postgres
from classmark.records import utc_text
from classmark.storage import is_remote, local_copy

_LOG_LIMIT_BYTES = 16 * 1024 * 1024
_READER_TIMEOUT_MS = 10_000
_BUSY_PAUSE_S = 0.005
_PRIMARY_CODE = 0xFF  # SQLite's error codes without their extended part
_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600
_OTHERS = 0o077
_log = logging.getLogger(LOGGER_NAME)
LOG_SUFFIXES = ("-wal", "-shm")


def open_writer(path: Path, *, busy_timeout_ms: int, secure: bool = False) -> sqlite3.Connection:
    """Open a file for writing, begin it if it is not there, and bring its tables up to date.

    Args:
        path: the file.
        busy_timeout_ms: how long a transaction waits for that of another connection.
        secure: overwrite what is deleted.

    Raises:
        JournalTooNew: it was written by a newer classmark.
        InvalidJournal: it is not a journal.
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
def reader(part: Place) -> Iterator[Connection]:
    """Yield a connection that reads a file or a database, brought up to date if it is older.

    Raises:
        JournalTooNew: it was written by a newer classmark.
        InvalidJournal: it is missing, damaged or no journal, or the database cannot be read.
        MissingExtra: the driver of the database is not installed.
    """
    opened = postgres().reader(part) if isinstance(part, Address) else _file_reader(part)
    with opened as connection:
        yield connection


@contextmanager
def _file_reader(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that only reads a file."""
    if not path.is_file():
        raise InvalidJournal(f"there is no journal at {path}. Check the path.")
    with journal_errors(path), ExitStack() as stack:
        connection = stack.enter_context(closing(_connect(path, "mode=ro")))
        if _is_frozen(connection, path):
            connection = stack.enter_context(closing(_connect(path, "mode=ro&immutable=1")))
        if _needs_writer(connection, path):
            open_writer(path, busy_timeout_ms=_READER_TIMEOUT_MS).close()
        yield connection


def _connect(path: Path, options: str) -> sqlite3.Connection:
    address, timeout_s = f"{path.absolute().as_uri()}?{options}", _READER_TIMEOUT_MS / 1000
    return sqlite3.connect(address, uri=True, timeout=timeout_s, isolation_level=None)


def _is_frozen(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether a file is on a read-only disk, and no writer has it open.

    Its last writer took its log away, so the file is complete; but SQLite cannot begin another log
    there, and reads the file only if it may expect that nothing changes.
    """
    try:
        connection.execute("PRAGMA schema_version")
    except sqlite3.OperationalError as error:
        logs = with_logs(Path(os.path.realpath(path)))[1:]
        cannot_open = error.sqlite_errorcode & _PRIMARY_CODE == sqlite3.SQLITE_CANTOPEN
        return cannot_open and not any(log.exists() for log in logs)
    return False


def _needs_writer(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether a file lacks tables, or holds a change that a killed process left half-made.

    A connection that only reads cannot take such a change back.
    """
    try:
        return bool(pending_migrations(connection, path))
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_READONLY:
            raise
        return True


@contextmanager
def readers(place: Place) -> Iterator[dict[Place, Connection]]:
    """Yield connections that read the parts of a journal, by part, the oldest first.

    A file that has been deleted since they were listed, because it need not be kept, is left out.

    Args:
        place: of the journal.

    Raises:
        JournalTooNew, InvalidJournal, MissingExtra: as ``reader``.
    """
    with ExitStack() as stack:
        opened = {}
        for part in parts_of(place):
            try:
                opened[part] = stack.enter_context(reader(part))
            except InvalidJournal:
                if not isinstance(part, Path) or part.exists():
                    raise
        yield opened


def parts_of(place: Place) -> list[Place]:
    """Return what a journal consists of: its files that exist, oldest first, or a database.

    Of a folder, also one in a bucket, the files of all journals below it: the copies that
    ``journal ship`` makes of the journals of several machines.

    Raises:
        CloudNotFound, StorageFailed: a folder of a bucket is empty, or cannot be read.
    """
    if isinstance(place, Address):
        return [place]
    if is_remote(place) or place.is_dir():
        return [*sorted(local_copy(place).rglob("*.sqlite"))]
    return [*journal_files(place)]


def period_of(connection: Connection) -> tuple[str, str | None]:
    """Return when a file was begun and when it was closed; None if it is the live one."""
    row = connection.execute("SELECT begun_at_utc, closed_at_utc FROM journal_file").fetchone()
    return (row[0], row[1]) if row else ("", None)


def is_closed(connection: sqlite3.Connection) -> bool:
    """Return whether a file is closed and takes no more events."""
    return period_of(connection)[1] is not None


def mark_closed(connection: sqlite3.Connection) -> None:
    """Close a file permanently; every writer continues with the next one."""
    connection.execute("UPDATE journal_file SET closed_at_utc = ?", (utc_text(),))


def is_empty(connection: sqlite3.Connection) -> bool:
    """Return whether a file holds neither predictions nor feedback."""
    query = "SELECT 1 FROM predictions UNION ALL SELECT 1 FROM feedback LIMIT 1"
    return connection.execute(query).fetchone() is None


@contextmanager
def journal_errors(path: Place) -> Iterator[None]:
    """Turn errors of SQLite and of the system into one that names the file; see ``reader``."""
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
    sqlite3.SQLITE_CORRUPT: "it is damaged. Move it away; a new one is started.",
    sqlite3.SQLITE_NOTADB: "it is damaged or not an SQLite file. Move it away; a new one is "
    "started.",
}


def _begin_private(path: Path) -> None:
    """Begin a file that is its owner's alone before SQLite opens it, which gives its log that mode.

    A file that exists stays as it is.
    """
    with suppress(FileExistsError):
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        os.close(os.open(os.path.realpath(path), flags, _PRIVATE_FILE))


def _close_to_others(path: Path) -> None:
    """Make a journal private that an earlier version, or another program, made readable."""
    if os.name == "nt":  # pragma: no cover - there are no such modes
        return
    for file in with_logs(Path(os.path.realpath(path))):
        with suppress(FileNotFoundError):
            mode = file.stat().st_mode & 0o777
            if not mode & _OTHERS:
                continue
            event = "journal was readable by others"
            try:
                file.chmod(mode & ~_OTHERS)
            except PermissionError:
                event = "journal is readable by others"
            _log.warning(event, extra={"fields": {"path": str(file), "mode": f"{mode:o}"}})


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


def journal_files(path: Path) -> list[Path]:
    """Return the files of a journal that exist, oldest first.

    Args:
        path: its first file, whether that exists (still) or not.
    """
    return [path_of(path, number) for number in sorted(_numbers(path)[0])]


def live_file(path: Path) -> Path:
    """Return the file that the next event belongs in, unless it is closed; it need not exist.

    A number whose log was left behind by a deleted database is not used again: processes that
    have the deleted one open share the log's memory by its name.
    """
    databases, logs = _numbers(path)
    newest, newest_log = max(databases, default=0), max(logs, default=0)
    return path_of(path, newest_log + 1 if newest_log > newest else max(newest, 1))


def next_file(path: Path, current: Path) -> Path:
    """Return the file that follows one that is closed."""
    number = _number_of(path, current.name)
    if number is None:
        raise ValueError(f"{current} is not a file of the journal {path}")
    return path_of(path, number + 1)


def delete_file(path: Path) -> None:
    """Delete a closed file and what SQLite left beside it."""
    for file in with_logs(path):
        file.unlink(missing_ok=True)


def with_logs(path: Path) -> list[Path]:
    """Return a file, and those that SQLite keeps beside it, whether they exist or not."""
    return [path.with_name(path.name + suffix) for suffix in ("", *LOG_SUFFIXES)]


def path_of(path: Path, number: int) -> Path:
    """Return the file of a number, from 1."""
    return path if number == 1 else path.with_name(f"{path.stem}.{number:06d}{path.suffix}")


def _numbers(path: Path) -> tuple[set[int], set[int]]:
    """Return the numbers of the databases, and of the logs without one."""
    databases: set[int] = set()
    logs: set[int] = set()
    try:
        names = [child.name for child in path.parent.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return databases, logs
    for name in names:
        log = next((suffix for suffix in LOG_SUFFIXES if name.endswith(suffix)), "")
        number = _number_of(path, name.removesuffix(log))
        if number is not None:
            (logs if log else databases).add(number)
    return databases, logs - databases


def _number_of(path: Path, name: str) -> int | None:
    if name == path.name:
        return 1
    match = re.fullmatch(rf"{re.escape(path.stem)}\.(\d{{6,}}){re.escape(path.suffix)}", name)
    return int(match[1]) if match else None


def bytes_of(file: Path) -> int:
    """Return the size of a file and of what SQLite keeps beside it."""
    total = 0
    for part in with_logs(file):
        with suppress(OSError):
            total += part.stat().st_size
    return total


def size_of(part: Place, connection: Connection) -> int:
    """Return the bytes of a part of a journal, which a connection reads."""
    if isinstance(part, Path):
        return bytes_of(part)
    return int(connection.execute(postgres().BYTES).fetchone()[0])
