"""What has been harvested, in one SQLite file: a page is in it whole, with its token, or not."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path

from classmark.errors import CheckpointCorrupt, StorageFailed
from classmark.papers.files.oai import OaiRecord
from classmark.records.fields import WrongField, read_fields
from classmark.storage import storage_errors

STATE_FILE, PAPERS_FILE = "harvest.sqlite", "papers.jsonl"
_VERSION = 1
_TABLES = (
    "CREATE TABLE harvest (id INTEGER PRIMARY KEY CHECK (id = 1), state TEXT NOT NULL)",
    "CREATE TABLE records (identifier TEXT PRIMARY KEY, datestamp TEXT NOT NULL, "
    "pass INTEGER NOT NULL, paper TEXT)",  # paper is NULL where it is deleted
    "CREATE TABLE tokens (token BLOB PRIMARY KEY) WITHOUT ROWID",
    f"PRAGMA user_version = {_VERSION}",
)
_PUT = (
    "INSERT INTO records VALUES (?, ?, ?, ?) ON CONFLICT (identifier) DO UPDATE SET "
    "datestamp = excluded.datestamp, pass = excluded.pass, paper = excluded.paper"
)
_FULL = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A span of days that is being harvested.

    Attributes:
        since: first day, None for the beginning.
        until: last day, None for no end.
        number: of the pass through a window; each has a number of its own.
        token: of the next page; None: the first page has not come yet.
        answered_on: day on which the server answered with the first page, by its clock.
        newest: day of the newest record so far.
        records: how many came.
        announced: how many the server says there are.
    """

    since: str | None
    until: str | None
    number: int
    token: str | None = None
    answered_on: str | None = None
    newest: str | None = None
    records: int = 0
    announced: int | None = None


@dataclass(frozen=True, kw_only=True)
class HarvestState:
    """What is harvested, and how far.

    Attributes:
        endpoint: base address of the archive.
        metadata: format of the metadata.
        set: name of the set, None for everything.
        complete_until: day up to which all records are here; None: no window is complete.
        passes: passes through windows so far.
        window: the one in work, None if all are complete.
        is_written: whether the file of papers holds what is here.
    """

    endpoint: str
    metadata: str
    set: str | None
    complete_until: str | None = None
    passes: int = 0
    window: Window | None = None
    is_written: bool = False


class Harvested:
    """The records of a harvest and its state.

    Attributes:
        state: as it is on the disk.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, state: HarvestState) -> None:
        self._path = path
        self._connection = connection
        self.state = state

    @classmethod
    @contextmanager
    def open(cls, folder: Path, new: HarvestState) -> Iterator[Harvested]:
        """Open the harvest in a folder for the block; begin one with a new state if there is none.

        Raises:
            CheckpointCorrupt: it is damaged, or was written by a newer classmark.
            StorageFailed: it cannot be written.
        """
        path = folder / STATE_FILE
        with _database_errors(path), closing(sqlite3.connect(path)) as connection:
            connection.isolation_level = None
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                with _transaction(connection):
                    for statement in _TABLES:
                        connection.execute(statement)
                    connection.execute("INSERT INTO harvest VALUES (1, ?)", (_encoded(new),))
            elif version != _VERSION:
                raise CheckpointCorrupt(
                    f"{path} has format {version}, this classmark reads {_VERSION}. Use a newer "
                    "classmark, or choose another output."
                )
            yield cls(path, connection, _read_state(path, connection))

    def save(self, state: HarvestState) -> None:
        """Keep a state that brings no records; outside of a window, tokens are forgotten."""
        with _transaction(self._connection):
            self._keep(state)
        self.state = state

    def add(self, records: Iterable[OaiRecord], state: HarvestState) -> Counter[str]:
        """Keep the records of a page and the state after it, all or nothing.

        Of two versions of a record the one with the later datestamp counts, of two with the same
        the one that comes later.

        Returns:
            Counts of ``new``, ``updated``, ``unchanged``, ``deleted``, ``unreadable``, which add up
            to the records, and of ``first_seen`` in this pass.
        """
        counts: Counter[str] = Counter()
        number = state.window.number if state.window else state.passes
        with _transaction(self._connection):
            for record in records:
                counts[self._put(record, number, counts)] += 1
            if counts["new"] + counts["updated"] + counts["deleted"]:
                state = replace(state, is_written=False)
            self._keep(state)
        self.state = state
        return counts

    def _put(self, record: OaiRecord, number: int, counts: Counter[str]) -> str:
        """Keep one record; return what it was."""
        if record.problem:
            return "unreadable"
        query = "SELECT datestamp, paper, pass FROM records WHERE identifier = ?"
        found = self._connection.execute(query, (record.identifier,)).fetchone()
        old_datestamp, old_paper, seen_in = found or ("", None, -1)
        counts["first_seen"] += seen_in != number
        paper = None if record.is_deleted else _paper_line(record)
        if found and record.datestamp < old_datestamp:
            paper, datestamp = old_paper, old_datestamp
        else:
            datestamp = record.datestamp
        values = (record.identifier, datestamp, number, paper)
        self._connection.execute(_PUT, values)
        if found and paper == old_paper:
            return "unchanged"
        if paper is None:
            return "deleted"
        return "new" if old_paper is None else "updated"

    def knows_token(self, token: str) -> bool:
        """Return whether the server has given a token before in this pass."""
        query = "SELECT 1 FROM tokens WHERE token = ?"
        return self._connection.execute(query, (_digest(token),)).fetchone() is not None

    def papers(self) -> Iterator[str]:
        """Yield the papers as lines of JSON, in the order of their identifiers."""
        query = "SELECT paper FROM records WHERE paper IS NOT NULL ORDER BY identifier"
        for (line,) in self._connection.execute(query):
            yield line

    def sizes(self) -> tuple[int, int]:
        """Return how many papers there are, and how many are deleted."""
        query = "SELECT count(paper), count(*) FROM records"
        n_papers, n_records = self._connection.execute(query).fetchone()
        return n_papers, n_records - n_papers

    def _keep(self, state: HarvestState) -> None:
        self._connection.execute("UPDATE harvest SET state = ?", (_encoded(state),))
        window = state.window
        if state.passes != self.state.passes or window is None:
            self._connection.execute("DELETE FROM tokens")
        if window is not None and window.token is not None:
            digest = _digest(window.token)
            self._connection.execute("INSERT OR IGNORE INTO tokens VALUES (?)", (digest,))


def _paper_line(record: OaiRecord) -> str:
    """Return a paper as a line of JSON with the keys that all readers know."""
    paper = record.paper
    assert paper is not None  # noqa: S101 - neither deleted nor unreadable
    fields = {
        "id": paper.id,
        "title": paper.title,
        "abstract": paper.abstract,
        "category_code": paper.category_code,
        "categories": list(paper.categories),
        "published_date": paper.published_date,
        "updated_date": paper.updated_date,
        "authors": list(paper.authors),
        "datestamp": record.datestamp,
    }
    return json.dumps({key: v for key, v in fields.items() if v}, ensure_ascii=False)


def _digest(token: str) -> bytes:
    return blake2b(token.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _encoded(state: HarvestState) -> str:
    return json.dumps(asdict(state))


def _read_state(path: Path, connection: sqlite3.Connection) -> HarvestState:
    row = connection.execute("SELECT state FROM harvest").fetchone()
    try:
        return read_fields(HarvestState, json.loads(row[0]))
    except (WrongField, ValueError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # SQLite ends it itself where the disk is full
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def _database_errors(path: Path) -> Iterator[None]:
    try:
        with storage_errors(path):
            yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _FULL:
            raise StorageFailed(
                f"cannot write {path}: {error}. Check the disk and the permissions, or choose "
                "another output."
            ) from error
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CheckpointCorrupt:
    return CheckpointCorrupt(
        f"{path} is damaged ({error}). Move its folder away and harvest again, or restore it."
    )
