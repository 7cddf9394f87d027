"""A server that is down, killed, read-only or somebody else's: nothing lost, said in a line."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from journal_events import PATIENCE_S, feedback, ids_in, prediction, wait_until, write

from classmark.errors import InvalidJournal
from classmark.journal import Address, Journal, JournalConfig
from classmark.journal.forget import Forgettable, forget
from classmark.journal.writer import writer_for
from postgres_server import PASSWORD, PostgresServer

Open = Callable[..., Journal]
Spoil = Callable[[PostgresServer], str]


@pytest.fixture
def address(postgres: PostgresServer) -> Address:
    """Return an empty database."""
    return Address(postgres.database())


def open_and_close(address: Address) -> None:
    writer = writer_for(JournalConfig(path=address, busy_timeout_ms=100))
    try:
        writer.write([prediction()])
    finally:
        writer.close()


def with_other_tables(server: PostgresServer) -> str:
    url = server.database()
    database = Address(url).parameters["dbname"]
    server.run("CREATE SCHEMA classmark", "CREATE TABLE classmark.things ()", database=database)
    return url


def with_other_migrations(server: PostgresServer) -> str:
    url = server.database()
    database = Address(url).parameters["dbname"]
    statements = ["CREATE SCHEMA classmark", "CREATE TABLE classmark.migrations (id int)"]
    server.run(*statements, "GRANT ALL ON SCHEMA classmark TO PUBLIC", database=database)
    server.run("GRANT ALL ON classmark.migrations TO PUBLIC", database=database)
    return url


def of_somebody_else(server: PostgresServer) -> str:
    url = server.database()
    write(Address(url), prediction())
    database = Address(url).parameters["dbname"]
    server.run("REVOKE ALL ON SCHEMA classmark FROM writer", database=database)
    server.run("ALTER SCHEMA classmark OWNER TO boss", database=database)
    return url


def read_only(server: PostgresServer) -> str:
    url = server.database()
    name = Address(url).parameters["dbname"]
    server.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    return url


def held(server: PostgresServer) -> str:
    url = server.database()
    write(Address(url))
    database = Address(url).parameters["dbname"]
    server.hold("SELECT pg_advisory_xact_lock(1668047219, 1)", database)
    return url


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda s: f"postgresql://u:{PASSWORD[:6]}@127.0.0.1:1/db", "the server does not answer"),
        (lambda s: f"postgresql://u:{PASSWORD[:6]}@no.invalid/db", "its host is unknown"),
        (lambda s: s.address("postgres", password="x" + PASSWORD[:6]), "refuses the password"),
        (lambda s: s.address("nowhere"), "there is no such database"),
        (lambda s: s.database(may_create=False), "CREATE SCHEMA classmark AUTHORIZATION USER"),
        (with_other_tables, r"has tables of something else \(things\)"),
        (with_other_migrations, "has tables of something else"),
        (of_somebody_else, "the user lacks a right"),
        (read_only, "the server is read-only"),
        (lambda s: s.database(options="CONNECTION LIMIT 0"), "has no connection left"),
        (held, "another connection holds it for too long"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_without_the_password(
    postgres: PostgresServer, spoil: Spoil, expected: str
) -> None:
    postgres.database()  # makes the user
    address = Address(spoil(postgres))
    with pytest.raises(InvalidJournal, match=expected) as caught:
        open_and_close(address)
    message = str(caught.value)
    assert message.startswith(f"journal {address}: ")
    assert "\n" not in message
    assert PASSWORD[:6] not in message
    assert message.endswith(".")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("FATAL:  the database system is starting up", "starting or stopping"),
        ("server closed the connection unexpectedly\n\tThis probably means", "connection was lost"),
        ('connection failed: FATAL:  no pg_hba.conf entry for host "h"', "pg_hba.conf of the"),
        ("something\n  that nobody has seen", "something that nobody has seen. Check the address"),
    ],
)
def test_words_of_the_driver_become_advice(words: str, expected: str) -> None:
    psycopg = pytest.importorskip("psycopg")
    from classmark.journal.postgres import in_words

    assert expected in in_words(psycopg.OperationalError(words))


def test_a_database_without_a_journal_cannot_be_read_or_forgotten(address: Address) -> None:
    for act in (
        lambda: ids_in(address),
        lambda: forget(address, Forgettable(paper_ids=("7",))),
    ):
        with pytest.raises(InvalidJournal, match="there is no journal at postgresql://"):
            act()


class Load:
    """Records one event after another until it is stopped."""

    def __init__(self, journal: Journal) -> None:
        self.ids: list[str] = []
        self._journal, self._ended = journal, Event()
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            event = prediction()
            assert self._journal.record(event)
            self.ids.append(event.prediction_id)
            time.sleep(0.001)

    def wait_for_more(self, n_events: int) -> None:
        wanted = len(self.ids) + n_events
        wait_until(lambda: len(self.ids) >= wanted, "events are recorded")

    def stop(self) -> list[str]:
        self._ended.set()
        self._thread.join()
        return sorted(self.ids)


@pytest.fixture
def under_load(open_journal: Open, address: Address) -> Iterator[tuple[Journal, Load]]:
    journal = open_journal(path=address)
    load = Load(journal)
    yield journal, load
    load.stop()


@pytest.mark.slow  # a server that is started again and again
def test_a_server_that_is_killed_and_started_under_load_loses_nothing(
    postgres: PostgresServer, address: Address, under_load: tuple[Journal, Load]
) -> None:
    journal, load = under_load
    for _ in range(3):
        load.wait_for_more(100)
        postgres.kill()
        wait_until(lambda: journal.status().failing, "the journal notices")
        load.wait_for_more(100)
        postgres.start()
        wait_until(lambda: not journal.status().failing, "the journal is written again")
    expected = load.stop()
    assert journal.flush(PATIENCE_S)
    assert ids_in(address) == expected
    status = journal.status()
    assert (status.written, status.dropped, status.queued) == (len(expected), 0, 0)
    assert PASSWORD not in str(status.last_error)


@pytest.mark.slow  # a server that is started again
def test_a_server_and_a_writer_that_die_together_lose_nothing(
    postgres: PostgresServer, address: Address, under_load: tuple[Journal, Load]
) -> None:
    journal, load = under_load
    wait_until(lambda: journal.status().written > 0, "the writer has begun")
    assert journal.writer_pid is not None
    os.kill(journal.writer_pid, signal.SIGKILL)
    postgres.kill()
    load.wait_for_more(100)
    postgres.start()
    expected = load.stop()
    assert journal.flush(PATIENCE_S)
    assert ids_in(address) == expected
    assert journal.status().written == len(expected)


@pytest.mark.slow  # a server that is started again
def test_a_server_that_stops_in_order_and_connections_that_are_cut_lose_nothing(
    postgres: PostgresServer, address: Address, under_load: tuple[Journal, Load]
) -> None:
    journal, load = under_load
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'writer'"
    for _ in range(5):
        load.wait_for_more(40)
        postgres.run(cut)
    postgres.stop()
    load.wait_for_more(100)
    postgres.start()
    expected = load.stop()
    assert journal.flush(PATIENCE_S)
    assert ids_in(address) == expected


@pytest.mark.slow  # a server that is started again
def test_what_does_not_fit_in_the_window_is_dropped_and_counted(
    postgres: PostgresServer, address: Address, open_journal: Open
) -> None:
    postgres.stop()
    journal = open_journal(path=address, capacity_events=100)
    events = [prediction() for _ in range(250)]
    kept = [event.prediction_id for event in events if journal.record(event)]
    wait_until(lambda: journal.status().failing, "the journal notices")
    status = journal.status()
    assert (len(kept), status.written, status.dropped, status.queued) == (100, 0, 150, 100)
    assert "the server does not answer" in str(status.last_error)
    postgres.start()
    assert journal.flush(PATIENCE_S)
    assert ids_in(address) == sorted(kept)
    assert (journal.status().written, journal.status().dropped) == (100, 150)


def test_a_server_that_hangs_does_not_hold_up_the_end_of_the_process(
    postgres: PostgresServer, address: Address, open_journal: Open
) -> None:
    journal = open_journal(path=address)
    journal.record(prediction())
    assert journal.flush(PATIENCE_S)
    query = "SELECT pid FROM pg_stat_activity WHERE usename = 'writer'"
    pids = [pid for (pid,) in postgres.run(query)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(3):
            journal.record(feedback("0" * 26))
        assert journal.close(0.1) == 3
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_old_rows_that_cannot_be_deleted_now_are_a_line_of_the_log(
    postgres: PostgresServer, address: Address, open_journal: Open, caplog: Any
) -> None:
    journal = open_journal(path=address, keep_days=30)
    assert journal.flush(PATIENCE_S)
    postgres.stop()
    journal.delete_old()
    assert "old part of the journal not deleted" in caplog.text
    assert PASSWORD not in str([record.__dict__ for record in caplog.records])


def test_an_event_that_is_at_fault_does_not_end_the_connection(
    address: Address, tmp_path: Path
) -> None:
    writer = writer_for(JournalConfig(path=address))
    first = writer.open()
    assert writer.write([prediction(known_share=float("nan"))]).refused == 1
    assert writer.write([prediction()]).written == 1
    assert writer.open() is first
    writer.close()
