"""A journal in PostgreSQL: what differs from files. Only ``place.postgres`` imports this module.

Its tables are in a schema of their own, because their names are common ones. Everyone who writes
holds an advisory lock for the transaction: shared to insert, alone to change tables or to forget,
so that what is forgotten while it is written does not stay.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.rows import TupleRow
from psycopg.types.numeric import FloatDumper
from psycopg.types.string import StrDumperUnknown, TextLoader

from classmark.errors import InvalidJournal
from classmark.journal.config import LOGGER_NAME, JournalConfig
from classmark.journal.forget import days_ago
from classmark.journal.inserter import Event, Inserter, Outcome
from classmark.journal.migrations import pending_of, postgres_script
from classmark.journal.place import PASSWORD_VARIABLE, Address
from classmark.journal.rows import insert_one_by_one, storable
from classmark.records import FeedbackEvent, utc_text

_SCHEMA = "classmark"
BYTES = (
    "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class "  # noqa: S608 - no input
    f"WHERE relnamespace = to_regnamespace('{_SCHEMA}') AND relkind = 'r'"
)
_LOCK = "(1668047219, 1)"  # "clas", and what of it
_INSERTING = f"SELECT pg_advisory_xact_lock_shared{_LOCK}"
_ALONE = f"SELECT pg_advisory_xact_lock{_LOCK}"
_PATIENCE_MS = 30_000
_ROWS_AT_ONCE = 5_000
_DELETE_OLD = (
    "DELETE FROM {table} "  # noqa: S608 - no input in it
    "WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE at_utc < ? "
    f"LIMIT {_ROWS_AT_ONCE} FOR UPDATE SKIP LOCKED))"
)
# A server that stops without a word is given up after half a minute, and found by the next write.
_DEFAULTS: Mapping[str, object] = {
    "connect_timeout": 3,
    "application_name": "classmark journal",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "client_encoding": "utf8",
}
# Errors that a single event can cause; every other error concerns the database.
_EVENT_FAULTS = (
    *(psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded),
    *(TypeError, ValueError, OverflowError, AttributeError),
)
_log = logging.getLogger(LOGGER_NAME)


class PostgresWriter:
    """Writes into a database; belongs to one thread. Every error is an ``InvalidJournal``."""

    def __init__(self, config: JournalConfig) -> None:
        """Open nothing yet."""
        if not isinstance(config.path, Address):
            raise TypeError(f"{config.path} is not the address of a database")
        self._address, self._keep_days = config.path, config.keep_days
        self._busy_timeout_ms = config.busy_timeout_ms
        self._inserter = Inserter(
            keep_text=config.keep_text, faults=_EVENT_FAULTS, insert_rows=insert_one_by_one
        )
        self._connection: psycopg.Connection[TupleRow] | None = None

    def write(self, events: Sequence[Event]) -> Outcome:
        """Write all events in one transaction; those that the database refuses are left out.

        Raises:
            ClassmarkError: nothing was written, or the answer was lost; may be tried again.
        """
        connection = self.open()
        try:
            with _errors(self._address), connection.transaction():
                connection.execute(_INSERTING)
                # In one order, or two writers of the same events wait for each other.
                return self._inserter.insert(connection, sorted(events, key=_key))
        except InvalidJournal:
            self.close()
            raise

    def open(self) -> psycopg.Connection[TupleRow]:
        """Return a connection to tables that are up to date.

        Raises:
            JournalTooNew: they were written by a newer classmark.
            InvalidJournal: the database cannot be reached or used.
        """
        if self._connection is not None and not self._connection.closed:
            return self._connection
        self.close()
        with _errors(self._address):
            connection = _connect(self._address, self._busy_timeout_ms)
            try:
                _migrate(connection, self._address)
            except BaseException:
                connection.close()
                raise
        self._connection = connection
        return connection

    def limit_waiting(self, timeout_ms: int) -> None:
        """Wait no longer than this for other connections from now on."""
        if timeout_ms < self._busy_timeout_ms:
            self._busy_timeout_ms = timeout_ms
            if self._connection is not None and not self._connection.closed:
                with _errors(self._address):
                    self._connection.execute(f"SET lock_timeout = {max(1, timeout_ms)}")

    def delete_old(self) -> None:
        """Delete predictions and feedback that are too old, some at a time.

        Raises:
            ClassmarkError: it cannot be done now.
        """
        if self._keep_days is None:
            return
        limit, connection = days_ago(self._keep_days), self.open()
        counts = dict.fromkeys(("predictions", "feedback"), 0)
        with _errors(self._address):
            for table in counts:
                n_deleted = _ROWS_AT_ONCE
                while n_deleted == _ROWS_AT_ONCE:
                    deleted = connection.execute(_DELETE_OLD.format(table=table), (limit,))
                    n_deleted = deleted.rowcount
                    counts[table] += n_deleted
        if any(counts.values()):
            _log.info("journal rows deleted", extra={"fields": {**counts, "before": limit}})

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        self._inserter.forget_models()
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


@contextmanager
def reader(address: Address) -> Iterator[psycopg.Connection[TupleRow]]:
    """Yield a connection to the tables of a journal, brought up to date if they are older.

    Raises:
        JournalTooNew: they were written by a newer classmark.
        InvalidJournal: the database has no journal, or cannot be reached or read.
    """
    with _errors(address), closing(_connect(address, _PATIENCE_MS)) as connection:
        if not _tables(connection):
            raise InvalidJournal(
                f"there is no journal at {address}. Check the address, or run `classmark serve` "
                "with it first."
            )
        _migrate(connection, address)
        yield connection


def forget(
    address: Address,
    prediction_ids: Sequence[str],
    paper_ids: Sequence[str],
    before_utc: str,
    *,
    dry_run: bool,
) -> dict[str, int]:
    """Delete predictions and feedback as ``forget.forget`` does; return how many, by table.

    Raises:
        ClassmarkError: there is no journal, or it cannot be read or written.
    """
    papers = [storable(paper_id) for paper_id in paper_ids]
    counts: dict[str, int] = {}
    with reader(address) as connection, connection.transaction():
        if not dry_run and (prediction_ids or paper_ids):
            connection.execute(_ALONE)
        query = "SELECT prediction_id FROM predictions WHERE paper_id = ANY(?)"
        named = sorted({*prediction_ids, *(row[0] for row in connection.execute(query, (papers,)))})
        for table, doomed in _DOOMED.items():
            count = f"SELECT count(*) FROM {table} WHERE {doomed}"  # noqa: S608 - no input in it
            delete = f"DELETE FROM {table} WHERE {doomed}"  # noqa: S608
            values = {"before": before_utc, "named": named}
            done = connection.execute(count if dry_run else delete, values)
            counts[table] = done.fetchone()[0] if dry_run else done.rowcount  # type: ignore[index]
        if not dry_run:
            remember = "INSERT INTO forgotten VALUES (?) ON CONFLICT DO NOTHING"
            connection.cursor().executemany(remember, [(value,) for value in named])
    if not dry_run and any(counts.values()):
        with reader(address) as connection:
            connection.execute("VACUUM (SKIP_LOCKED) predictions, feedback")
    return counts


# Feedback first: its second half reads the predictions.
_DOOMED = {
    "feedback": "at_utc < %(before)s OR prediction_id = ANY(%(named)s) OR prediction_id IN "
    "(SELECT prediction_id FROM predictions WHERE at_utc < %(before)s)",
    "predictions": "at_utc < %(before)s OR prediction_id = ANY(%(named)s)",
}


class _Text(StrDumperUnknown):
    """Writes a text: PostgreSQL has no character 0, so 1 becomes its mark. Keeps the order."""

    def dump(self, obj: str) -> bytes:
        if "\0" in obj or "\1" in obj:
            obj = obj.replace("\1", "\0011").replace("\0", "\0010")
        return bytes(super().dump(obj) or b"")


class _TextBack(TextLoader):
    """Reads what ``_Text`` wrote."""

    def load(self, data: Any) -> str:  # noqa: ANN401 - a buffer
        text = str(super().load(data))
        if "\1" in text:
            text = re.sub("\1(.)", lambda pair: "\0" if pair[1] == "0" else "\1", text)
        return text


class _Number(FloatDumper):
    """Writes a float as SQLite keeps it: not a number is nothing, and zero has no sign."""

    def dump(self, obj: float) -> Any:  # noqa: ANN401 - a buffer
        return None if math.isnan(obj) else super().dump(obj + 0.0)


class _Cursor(psycopg.Cursor[TupleRow]):
    """Takes statements with ``?``, as SQLite does."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> _Cursor:  # noqa: ANN401
        super().execute(_spelled(query) if params else query, params or None, **options)
        return self

    def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:  # noqa: ANN401
        super().executemany(_spelled(query), params_seq, **options)


@lru_cache(64)
def _spelled(sql: str) -> str:
    return sql.replace("?", "%s")


def _connect(address: Address, lock_timeout_ms: int) -> psycopg.Connection[TupleRow]:
    connection = psycopg.connect(
        **{**_DEFAULTS, **address.login()},  # type: ignore[arg-type]
        autocommit=True,
        prepare_threshold=1,
        cursor_factory=_Cursor,
    )
    connection.adapters.register_dumper(str, _Text)
    connection.adapters.register_dumper(float, _Number)
    connection.adapters.register_loader("text", _TextBack)
    settings = f"SET search_path = {_SCHEMA}; SET lock_timeout = {max(1, lock_timeout_ms)}"
    connection.execute(settings)
    return connection


def _tables(connection: psycopg.Connection[TupleRow]) -> set[str]:
    query = f"SELECT tablename FROM pg_tables WHERE schemaname = '{_SCHEMA}'"  # noqa: S608
    return {row[0] for row in connection.execute(query)}


def _pending(connection: psycopg.Connection[TupleRow], address: Address) -> list[str]:
    tables = _tables(connection)
    if tables and "migrations" not in tables:
        raise InvalidJournal(
            f"journal {address}: {_OTHER_TABLES.format(found=', '.join(sorted(tables)[:3]))}"
        )
    query = f"SELECT name FROM {_SCHEMA}.migrations"  # noqa: S608
    return pending_of([r[0] for r in connection.execute(query)] if tables else [], address)


def _migrate(connection: psycopg.Connection[TupleRow], address: Address) -> None:
    """Apply the steps that a database lacks, all or none; others who do so wait.

    Raises:
        JournalTooNew: it has steps that this classmark does not know.
        InvalidJournal: it has tables, but none of a journal.
        psycopg.Error: it cannot be written.
    """
    if not _pending(connection, address):
        return
    with connection.transaction():
        connection.execute(_ALONE)
        pending = _pending(connection, address)
        schema = connection.execute(f"SELECT to_regnamespace('{_SCHEMA}')").fetchone()
        if schema == (None,):
            connection.execute(f"CREATE SCHEMA {_SCHEMA}")
        connection.execute(
            'CREATE TABLE IF NOT EXISTS migrations (name TEXT COLLATE "C" PRIMARY KEY, '
            "applied_at_utc TEXT NOT NULL)"
        )
        for name in pending:
            connection.execute(postgres_script(name))
            connection.execute("INSERT INTO migrations VALUES (?, ?)", (name, utc_text()))


def _key(event: Event) -> tuple[str, str, str]:
    if isinstance(event, FeedbackEvent):
        return event.prediction_id, event.category, event.comment or ""
    return event.prediction_id, "", ""


@contextmanager
def _errors(address: Address) -> Iterator[None]:
    """Turn errors of the database into one line that names it, without its password."""
    try:
        yield
    except psycopg.Error as error:
        raise InvalidJournal(f"journal {address}: {in_words(error)}") from error


def in_words(error: psycopg.Error) -> str:
    """Return what went wrong, and what to do, in one line."""
    reason = " ".join(str(error).split())
    found = f"{error.sqlstate or ''} {reason}"
    remedy = next((words for sign, words in _REMEDIES if re.search(sign, found)), _OTHER)
    return remedy.format(found=reason.rstrip("."))


_OTHER_TABLES = (
    f"its schema {_SCHEMA} has tables of something else ({{found}}). Give the address of another "
    "database."
)
_OTHER = "{found}. Check the address and the log of the server."
_REMEDIES = (  # by SQLSTATE; an attempt to connect has none, only libpq's words
    (
        r"28P01|password authentication failed|no password supplied",
        "the server refuses the password. Check the user and the password in the address, and the "
        "special characters in it, which must be percent-encoded; or the password in the file that "
        f"{PASSWORD_VARIABLE} names.",
    ),
    (
        r'28000|role ".*" does not exist|pg_hba\.conf|authentication failed',
        "the server does not let this user in from here ({found}). Check the user in the address, "
        "and pg_hba.conf of the server.",
    ),
    (
        r'3D000|database ".*" does not exist',
        "there is no such database. Create it (createdb), or correct the address.",
    ),
    (
        r"57P0[123]|starting up|shutting down|recovery mode|not yet accepting",
        "the server is starting or stopping. Wait until it accepts connections.",
    ),
    (
        r"53300|too many (clients|connections)|connection slots",
        "the server has no connection left. Raise max_connections, or run fewer workers.",
    ),
    (r"53100|No space left", "the disk of the server is full. Free some space."),
    (
        r"25006",
        "the server is read-only. Give the address of the primary server, or end its read-only "
        "mode.",
    ),
    (
        r"42501|3F000",
        f"the user lacks a right ({{found}}). Let an administrator run: CREATE SCHEMA {_SCHEMA} "
        "AUTHORIZATION USER, in this database.",
    ),
    (r"42P01|42703|42P07|42723", _OTHER_TABLES),
    (r"55P03|40P01", "another connection holds it for too long. Wait until it is done."),
    (
        r"translate host name|not known|resolve",
        "its host is unknown. Check the host in the address.",
    ),
    (
        r"timeout expired|[Cc]onnection refused|No route|unreachable|No such file",
        "the server does not answer. Check that it runs, and the host and port in the address.",
    ),
    (
        r"08...|server closed|connection .*lost|consuming input|sending|SYSCALL|is closed|reset by",
        "the connection was lost. Check that the server runs.",
    ),
)
