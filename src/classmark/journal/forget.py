"""Deletes predictions: those that are named, and those that are older or larger than the limits.

``forget`` removes every byte of a prediction and its feedback. ``Retention`` deletes whole files,
which takes no longer than removing a name and holds up no writer; so a journal with a limit begins
new files more often (see ``JournalConfig``). Only a file that was begun before there was a limit is
shortened, once it is closed and no process writes to it.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from classmark.errors import ClassmarkError, InvalidJournal, UsageError
from classmark.journal.config import LOGGER_NAME, JournalConfig
from classmark.journal.database import (
    bytes_of,
    delete_file,
    in_words,
    is_closed,
    is_empty,
    journal_errors,
    journal_files,
    open_writer,
    period_of,
    reader,
    readers,
)
from classmark.journal.migrations import transaction
from classmark.journal.place import Address, Connection, Place, postgres
from classmark.records import is_prediction_id, utc_text
from classmark.storage import is_remote

_BUSY_TIMEOUT_MS = 30_000
_SPACE_TO_GIVE_BACK = 1
"""``user_version`` of a file from which something was deleted whose bytes are still there."""
_CHECKPOINT_TRIES, _CHECKPOINT_PAUSE_S = 20, 0.1
_DAY_MS = 86_400_000
_log = logging.getLogger(LOGGER_NAME)


@dataclass(frozen=True, kw_only=True)
class Forgettable:
    """What is to be deleted: everything that one of the three names.

    Attributes:
        prediction_ids: these predictions, also when they come later.
        paper_ids: all predictions of these papers.
        before_utc: all predictions and feedback from before this time, see ``utc_text``.
    """

    prediction_ids: tuple[str, ...] = ()
    paper_ids: tuple[str, ...] = ()
    before_utc: str | None = None

    def __post_init__(self) -> None:
        for value in self.prediction_ids:
            if not is_prediction_id(value):
                raise UsageError(
                    f"{value[:40]!r} is not a prediction id. Give 26 letters and digits as in an "
                    "answer, or use --paper-id."
                )
        if not (self.prediction_ids or self.paper_ids or self.before_utc):
            raise UsageError("nothing to forget. Give --id, --paper-id or --older-than.")


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What was deleted, or would be.

    Attributes:
        predictions: how many predictions.
        feedback: how many pieces of feedback.
        files_changed: files that they were deleted from; none of a database.
        files_deleted: closed files that held nothing else and are gone.
    """

    predictions: int = 0
    feedback: int = 0
    files_changed: tuple[Path, ...] = ()
    files_deleted: tuple[Path, ...] = ()


def forget(
    path: Place,
    wanted: Forgettable,
    *,
    dry_run: bool = False,
    only: Path | None = None,
) -> Forgotten:
    """Delete predictions and their feedback from all files of a journal, and return what it was.

    Afterwards no byte of them is in the files: deleted pages are overwritten, the log is emptied
    and the free space given back. Predictions named by id or paper stay deleted even if a retry
    of their request is recorded later. Other processes may write at the same time; they wait.
    A database deletes the rows; its write-ahead log, replicas and backups keep what they had.

    Args:
        path: the first file of the journal, or the address of a database.
        wanted: what to delete.
        dry_run: only count.
        only: the one file to delete from; None for all.

    Raises:
        InvalidJournal: there is no file, one cannot be read or written, or another process keeps
            reading it.
    """
    if isinstance(path, Address):
        ids, papers, before_utc = wanted.prediction_ids, wanted.paper_ids, wanted.before_utc or ""
        return Forgotten(**postgres().forget(path, ids, papers, before_utc, dry_run=dry_run))
    if is_remote(path):
        raise InvalidJournal(
            f"{path} holds copies, which are never changed. Use the journal itself and copy it "
            "again, or delete the objects."
        )
    if not journal_files(path):
        raise InvalidJournal(f"there is no journal at {path}. Check the path.")
    targets = _targets(path, wanted)
    found, done = list[Forgotten](), set[Path]()
    # A file that is begun meanwhile takes over what its predecessor knew then; it comes last.
    while todo := [f for f in journal_files(path) if f not in done and only in (None, f)]:
        done.update(todo)
        for file in todo:
            if not file.exists():  # deleted since it was listed; a writer would begin it again
                continue
            with journal_errors(file):
                found.append((_count_in if dry_run else _forget_in)(path, file, targets))
    return Forgotten(
        predictions=sum(one.predictions for one in found),
        feedback=sum(one.feedback for one in found),
        files_changed=tuple(file for one in found for file in one.files_changed),
        files_deleted=tuple(file for one in found for file in one.files_deleted),
    )


@dataclass(frozen=True)
class _Targets:
    """What to delete from each file.

    Attributes:
        prediction_ids: predictions named by their id or their paper.
        feedback_ids: the same, and old predictions that have feedback in some file.
        before_utc: older rows go, too; "" for none.
    """

    prediction_ids: frozenset[str]
    feedback_ids: frozenset[str]
    before_utc: str


_DOOMED = {
    "predictions": "at_utc < ? OR prediction_id IN (SELECT id FROM temp.doomed_predictions)",
    "feedback": "at_utc < ? OR prediction_id IN (SELECT id FROM temp.doomed_feedback)",
}


def _targets(path: Path, wanted: Forgettable) -> _Targets:
    named, commented, old = set(wanted.prediction_ids), set[str](), set[str]()
    before_utc = wanted.before_utc or ""
    with readers(path) as opened:
        for file, connection in opened.items():
            with journal_errors(file):
                for paper_id in wanted.paper_ids:
                    query = "SELECT prediction_id FROM predictions WHERE paper_id = ?"
                    named |= {row[0] for row in connection.execute(query, (paper_id,))}
                query = "SELECT prediction_id FROM feedback"
                commented |= {row[0] for row in connection.execute(query)}
        for file, connection in opened.items():
            with journal_errors(file):
                query = "SELECT prediction_id FROM predictions WHERE at_utc < ?"
                ids = {row[0] for row in connection.execute(query, (before_utc,))}
                old |= ids & commented
    return _Targets(frozenset(named), frozenset(named | old), before_utc)


def _count_in(_: Path, file: Path, targets: _Targets) -> Forgotten:
    with reader(file) as connection:
        _mark_doomed(connection, targets)
        query = "SELECT count(*) FROM {table} WHERE {doomed}"
        counts = {
            table: connection.execute(
                query.format(table=table, doomed=doomed), (targets.before_utc,)
            ).fetchone()[0]
            for table, doomed in _DOOMED.items()
        }
    return Forgotten(**counts, files_changed=(file,) if any(counts.values()) else ())


def _forget_in(path: Path, file: Path, targets: _Targets) -> Forgotten:
    with closing(open_writer(file, busy_timeout_ms=_BUSY_TIMEOUT_MS, secure=True)) as connection:
        _mark_doomed(connection, targets)
        with transaction(connection):
            ids = [(value,) for value in sorted(targets.prediction_ids)]
            connection.executemany("INSERT OR IGNORE INTO forgotten VALUES (?)", ids)
            counts = {
                table: connection.execute(
                    f"DELETE FROM {table} WHERE {doomed}",  # noqa: S608 - no input in it
                    (targets.before_utc,),
                ).rowcount
                for table, doomed in _DOOMED.items()
            }
            if any(counts.values()):
                connection.execute(f"PRAGMA user_version = {_SPACE_TO_GIVE_BACK}")
        if connection.execute("PRAGMA user_version").fetchone()[0] != _SPACE_TO_GIVE_BACK:
            return Forgotten()
        # The newest file stays, whatever is in it: the next one learns from it what is forgotten.
        is_newest = file == journal_files(path)[-1]
        emptied = not is_newest and is_closed(connection) and is_empty(connection)
        if not emptied:
            _give_back_space(connection)
    if not emptied:
        return Forgotten(**counts, files_changed=(file,), files_deleted=())
    delete_file(file)
    return Forgotten(**counts, files_changed=(), files_deleted=(file,))


def _mark_doomed(connection: Connection, targets: _Targets) -> None:
    """Fill the two temporary tables that ``_DOOMED`` reads."""
    connection.execute("PRAGMA temp_store = MEMORY")
    doomed = {"predictions": targets.prediction_ids, "feedback": targets.feedback_ids}
    for name, ids in doomed.items():
        table = f"doomed_{name}"
        connection.execute(f"CREATE TEMP TABLE {table} (id TEXT PRIMARY KEY) WITHOUT ROWID")
        insert = f"INSERT INTO temp.{table} VALUES (?)"  # noqa: S608 - no input in it
        connection.cursor().executemany(insert, [(value,) for value in sorted(ids)])


def _give_back_space(connection: sqlite3.Connection) -> None:
    """Empty the log, which still holds the old pages, and make the file smaller.

    Until that has worked, the file remembers that it is to be done.

    Raises:
        InvalidJournal: another process keeps reading what was there before, or the disk is full.
    """
    try:
        _empty_log(connection)
        connection.execute("VACUUM")
        _empty_log(connection)
        connection.execute("PRAGMA user_version = 0")
    except sqlite3.Error as error:
        raise InvalidJournal(
            "what was to be forgotten is deleted, but its bytes are still in the file, because "
            f"{in_words(error)} Run the same command again then."
        ) from error


def _empty_log(connection: sqlite3.Connection) -> None:
    for _ in range(_CHECKPOINT_TRIES):
        if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0:
            return
        time.sleep(_CHECKPOINT_PAUSE_S)
    raise InvalidJournal(
        "what was to be forgotten is deleted, but its bytes are still in the log, because another "
        "process keeps reading. Run the same command again later."
    )


class Retention:
    """The limits of one journal; belongs to one thread."""

    def __init__(self, config: JournalConfig) -> None:
        """Take the limits of a configuration."""
        self._path, self._max_bytes = config.first_file, config.max_bytes
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
            total = sum(map(bytes_of, journal_files(self._path)))
            while files and total > self._max_bytes:
                oldest = files.pop(0)
                with suppress(ClassmarkError, OSError):
                    if _period(oldest)[1] is not None:
                        total -= bytes_of(oldest)
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
    """Return the time that was some days ago, as the journal writes it."""
    return utc_text(time.time_ns() // 1_000_000 - round(days * _DAY_MS))


def _period(file: Path) -> tuple[str, str | None]:
    with reader(file) as connection:
        return period_of(connection)


def _delete(file: Path, limit: str) -> None:
    fields = {"path": str(file), "bytes": bytes_of(file), "limit": limit}
    delete_file(file)
    _log.info("journal file deleted", extra={"fields": fields})
