"""What a monitor has found so far: reports and the state of its streams, in one SQLite file.

A look reads the state, works, and adds its report with the new state in one transaction, if nobody
has changed the state meanwhile: of two monitors at once one is refused, and nothing is counted
twice.
"""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classmark.errors import InvalidJournal, OutputBusy, OutputChanged
from classmark.monitor.few_labels import LabelWatch
from classmark.monitor.stream import Stream
from classmark.records.drift import DriftReport
from classmark.storage import BucketPath, Version
from classmark.storage.bucket import crc32c_of

_VERSION = 1
_TABLES = """
CREATE TABLE reports (
    id INTEGER PRIMARY KEY,
    created_at_utc TEXT NOT NULL,
    model TEXT NOT NULL,
    action TEXT NOT NULL,
    report TEXT NOT NULL
);
CREATE TABLE streams (
    model TEXT PRIMARY KEY,
    reference TEXT NOT NULL,
    begun_at_utc TEXT NOT NULL,
    watched_until_utc TEXT NOT NULL,
    looks INTEGER NOT NULL,
    state BLOB NOT NULL
);
"""
_BUSY_MS = 10_000
_ARRAYS = ("ways", "columns", "edges", "counts", "log_wealth")
_WORDS, _COUNTED = ("begun_at_utc", "first"), ("ids", "correct")
_OF_LABELS = "labels_"


@dataclass(frozen=True, eq=False, kw_only=True)
class Watched:
    """A stream where a monitor left it.

    Attributes:
        stream: its state.
        reference: digest of what it is compared with.
        begun_at_utc: when it began.
        watched_until_utc: it has seen every prediction that was made before.
        labels: those that were counted; None before the first one could be.
        looks: how often it was saved.
    """

    stream: Stream
    reference: str
    begun_at_utc: str
    watched_until_utc: str = ""
    labels: LabelWatch | None = None
    looks: int = 0


class History:
    """The history of one or more models."""

    def __init__(self, place: Path) -> None:
        """Name the file, which the first report makes; one in a bucket is fetched.

        Args:
            place: of the file. In a bucket it is written after each report, if nobody else has
                written it since.

        Raises:
            StorageFailed, CloudNotFound: it cannot be fetched.
        """
        self.path = place
        self._kept: BucketPath | None = None
        self._version: Version | None = None
        if isinstance(place, BucketPath):
            folder = tempfile.mkdtemp(prefix="classmark-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self.path, self._kept = Path(folder, place.name), place
            self._version = version = place.version()
            if version.generation:
                self.path.write_bytes(place.fetch(version))

    def reports(self, *, model: str | None = None, newest: int | None = None) -> list[DriftReport]:
        """Return reports, the oldest first.

        Args:
            model: digest; None for all models.
            newest: the maximum number, the newest ones.

        Raises:
            InvalidJournal: the file is damaged, or of something else.
            InvalidReport: a report is of another version.
        """
        if not self.path.exists():
            return []
        query = "SELECT report FROM reports WHERE ? IS NULL OR model = ? ORDER BY id DESC LIMIT ?"
        with self._opened() as connection:
            limit = -1 if newest is None else newest
            rows = connection.execute(query, (model, model, limit)).fetchall()
        return [DriftReport.from_dict(json.loads(row[0])) for row in reversed(rows)]

    def watched(self, model: str) -> Watched | None:
        """Return the stream of a model, None if none was begun.

        Args:
            model: its digest.

        Raises:
            InvalidJournal: the file is damaged, or of something else.
        """
        if not self.path.exists():
            return None
        query = (
            "SELECT state, reference, begun_at_utc, watched_until_utc, looks FROM streams "
            "WHERE model = ?"
        )
        with self._opened() as connection:
            row = connection.execute(query, (model,)).fetchone()
        if row is None:
            return None
        stream, labels = self._read_state(row[0])
        return Watched(
            stream=stream,
            labels=labels,
            reference=row[1],
            begun_at_utc=row[2],
            watched_until_utc=row[3],
            looks=row[4],
        )

    def add(self, report: DriftReport, watched: Watched | None) -> None:
        """Add a report, and the stream as it is now, both or neither.

        Args:
            report: of a look.
            watched: of ``watched`` before the look, with the new state; None leaves the stream.

        Raises:
            OutputBusy: another monitor has added to the stream, or to the file in the bucket,
                since it was read.
            InvalidJournal: the file cannot be written.
            StorageFailed: the bucket cannot be; the report is in the next write.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report.to_dict(), ensure_ascii=False)
        model = report.model.digest
        with self._opened() as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            if watched is not None:
                self._save(connection, model, watched)
            connection.execute(
                "INSERT INTO reports (created_at_utc, model, action, report) VALUES (?, ?, ?, ?)",
                (report.created_at_utc, model, report.action, text),
            )
        self._keep()

    def _keep(self) -> None:
        if self._kept is None:
            return
        try:
            self._kept.write(self.path, before=self._version)
        except OutputChanged as error:
            raise _busy(str(self._kept)) from error
        now = self._kept.version()
        if now.crc32c == crc32c_of(self.path):  # else it is another's already
            self._version = now

    def _save(self, connection: sqlite3.Connection, model: str, watched: Watched) -> None:
        query = "SELECT looks FROM streams WHERE model = ?"
        row = connection.execute(query, (model,)).fetchone()
        if (row[0] if row else 0) != watched.looks:
            raise _busy(str(self.path))
        connection.execute(
            "INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?, ?, ?)",
            (
                *(model, watched.reference, watched.begun_at_utc, watched.watched_until_utc),
                *(watched.looks + 1, _state_of(watched)),
            ),
        )

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(
                sqlite3.connect(self.path, timeout=_BUSY_MS / 1000, isolation_level=None)
            ) as connection:
                self._prepare(connection)
                yield connection
        except sqlite3.Error as error:
            raise InvalidJournal(
                f"the history {self.path} cannot be used: {error}. Check the path, its permissions "
                "and the disk, or give another file with --history."
            ) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == _VERSION:
            return
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version or tables:
            raise InvalidJournal(
                f"{self.path} is not a history of this classmark (version {version}, it reads "
                f"{_VERSION}). Give another file with --history."
            )
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                for statement in filter(str.strip, _TABLES.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {_VERSION}")

    def _read_state(self, state: bytes) -> tuple[Stream, LabelWatch | None]:
        labels = None
        try:
            with np.load(io.BytesIO(state), allow_pickle=False) as arrays:
                kept = {name: arrays[name] for name in _ARRAYS}
                n_papers, peak = int(arrays["n_papers"]), float(arrays["peak"])
                if f"{_OF_LABELS}ids" in arrays:
                    words = {name: str(arrays[_OF_LABELS + name]) for name in _WORDS}
                    counted = {name: arrays[_OF_LABELS + name] for name in _COUNTED}
                    labels = LabelWatch(**words, **counted)  # type: ignore[arg-type]
        except (ValueError, KeyError, OSError, EOFError) as error:
            raise InvalidJournal(
                f"the history {self.path} holds a damaged stream. Move it away; a new one is "
                "started."
            ) from error
        return Stream(**kept, n_papers=n_papers, peak=peak), labels


def _state_of(watched: Watched) -> bytes:
    buffer, stream, labels = io.BytesIO(), watched.stream, watched.labels
    arrays = {name: getattr(stream, name) for name in _ARRAYS}
    arrays |= {"n_papers": np.int64(stream.n_papers), "peak": np.float64(stream.peak)}
    if labels is not None:
        arrays |= {_OF_LABELS + n: np.array(getattr(labels, n)) for n in (*_WORDS, *_COUNTED)}
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _busy(place: str) -> OutputBusy:
    return OutputBusy(
        f"another monitor has added to {place} meanwhile. Let one monitor keep a history, or give "
        "each its own with --history."
    )
