"""A journal in a real PostgreSQL: the same events, exports and promises as in files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from threading import Barrier, Thread
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from journal_events import (
    MODEL,
    OLD,
    PATIENCE_S,
    feedback,
    ids_in,
    old_prediction,
    prediction,
    wait_until,
    write,
)
from test_journal_properties import Promises

from classmark.errors import InvalidJournal, JournalTooNew
from classmark.journal import Address, Journal, JournalConfig, find_prediction, read_predictions
from classmark.journal.export import text_of
from classmark.journal.forget import Forgettable, forget
from classmark.journal.migrations import MIGRATIONS
from classmark.journal.place import Place
from classmark.journal.reading import PredictionFilter, summarise
from classmark.journal.rows import PREDICTION_COLUMNS
from classmark.journal.writer import writer_for
from classmark.records import Compared, FeedbackEvent, PredictionEvent, new_prediction_id
from classmark.wire import ModelRef
from postgres_server import PostgresServer

Open = Callable[..., Journal]
IDS = [new_prediction_id(at_ms=number) for number in range(4)]
texts = st.text(max_size=40)
reals = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**63 - 1)
models = st.builds(ModelRef, *[st.sampled_from(["fast", "ä\0", "\1" * 3])] * 3)
compared = st.builds(
    Compared,
    model=models,
    primary=st.none() | texts,
    code=texts,
    probability=reals,
    latency_ms=reals,
)
predictions = st.builds(
    PredictionEvent,
    prediction_id=st.sampled_from(IDS),
    at_utc=st.sampled_from([OLD, "2024-05-01T00:00:00.000Z"]),
    model=models,
    paper_id=st.none() | texts,
    text_fingerprint=st.sampled_from(["0123456789abcdef"]),
    primary=st.none() | texts,
    reason=st.sampled_from(["accepted", "below_threshold", "out_of_scope"]),
    ranked=st.lists(st.tuples(texts, reals), max_size=3).map(tuple),
    set=st.lists(texts, max_size=3).map(tuple),
    cross_lists=st.lists(texts, max_size=3).map(tuple),
    known_share=reals,
    n_chars=counts,
    n_words=counts,
    latex_share=reals,
    latency_ms=reals,
    source=st.sampled_from(["classify", "files", "infer"]),
    author_category=st.none() | texts,
    used_authors=st.booleans(),
    compared=st.none() | compared,
    client=texts,
    service_version=texts,
    features=st.none() | st.binary(max_size=40),
    text=st.none() | st.text(),
)
said = st.builds(
    FeedbackEvent,
    prediction_id=st.sampled_from(IDS),
    category=texts,
    at_utc=st.sampled_from([OLD, "2024-05-01T00:00:00.000Z", "2024-06-01T00:00:00.000Z"]),
    comment=st.none() | st.text(max_size=500),
)


@pytest.fixture
def address(postgres: PostgresServer) -> Address:
    """Return an empty database."""
    return Address(postgres.database())


def exported(place: Place, format: Any = "jsonl") -> str:
    return "".join(text for text, _ in text_of(read_predictions(place), format))


def empty(server: PostgresServer, address: Address) -> None:
    tables = "classmark.predictions, classmark.feedback, classmark.models, classmark.forgotten"
    server.run(f"TRUNCATE {tables}", database=address.parameters["dbname"])


@pytest.mark.slow  # a hundred journals in both databases
@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(batches=[[prediction(prediction_id=IDS[0], known_share=-0.0, text="\0\1")]])
@example(
    batches=[
        [feedback(IDS[0], category, at_utc=OLD) for category in ("b", "B", "a", "\0", "", "ä")],
        [prediction(prediction_id=IDS[0])],
    ]
)
@given(batches=st.lists(st.lists(predictions | said, max_size=8), max_size=3))
def test_an_export_is_that_of_sqlite_to_the_byte(
    postgres: PostgresServer,
    address: Address,
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[Any]],
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    write(address)
    write(path)
    empty(postgres, address)
    for batch in batches:
        write(address, *batch, keep_text=True)
        write(path, *batch, keep_text=True)
    assert exported(address) == exported(path)
    assert exported(address, "csv") == exported(path, "csv")
    for prediction_id in IDS:
        assert find_prediction(address, prediction_id) == find_prediction(path, prediction_id)


def test_both_databases_have_the_same_columns_in_the_same_order(
    postgres: PostgresServer, address: Address
) -> None:
    write(address)
    found = postgres.run(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = "
        "'classmark' AND table_name = 'predictions' ORDER BY ordinal_position",
        database=address.parameters["dbname"],
    )
    types = dict(found)
    assert set(types) == set(PREDICTION_COLUMNS)
    assert types["prediction_id"] == "text"
    assert types["known_share"] == "double precision"
    steps = postgres.run(
        "SELECT name FROM classmark.migrations ORDER BY name", database=address.parameters["dbname"]
    )
    assert [name for (name,) in steps] == list(MIGRATIONS)


def test_what_a_database_refuses_is_left_out_and_the_rest_is_written(address: Address) -> None:
    good, bad = prediction(), prediction(known_share=float("nan"))
    writer = writer_for(JournalConfig(path=address))
    outcome = writer.write([good, bad, feedback(good.prediction_id)])
    writer.close()
    assert (outcome.written, outcome.refused) == (2, 1)
    assert f"event {bad.prediction_id} was refused" in str(outcome.problem)
    (found,) = read_predictions(address)
    assert (found.event, len(found.feedback)) == (good, 1)


def test_a_key_that_no_index_holds_is_refused_and_does_not_stand_in_the_way(
    address: Address,
) -> None:
    chance = Random(3)
    long = "".join(chr(chance.randrange(0x20000, 0x2FFFF)) for _ in range(3_000))
    good = prediction()
    writer = writer_for(JournalConfig(path=address))
    outcome = writer.write([feedback("0" * 26, long), good])
    writer.close()
    assert (outcome.written, outcome.refused) == (1, 1)
    assert ids_in(address) == [good.prediction_id]


def test_two_machines_that_write_the_same_events_at_once_write_each_once(
    address: Address,
) -> None:
    events: list[Any] = []
    for number in range(400):
        events.append(prediction(model=ModelRef("fast", str(number % 7), "d" * 64)))
        events.append(feedback(events[-1].prediction_id, comment=str(number)))
    # Both make the tables, too.
    writers = [writer_for(JournalConfig(path=address)) for _ in range(2)]
    written: list[int] = []
    together = Barrier(2)

    def run(which: int) -> None:
        for first in (0, *range(0, len(events), 200)):  # the first makes tables and models
            batch = events[first : first + 200]
            together.wait(60)  # for one that failed it would wait for good
            written.append(writers[which].write(batch if which else batch[::-1]).written)
        writers[which].close()

    threads = [Thread(target=run, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert written == [200] * 10
    found = list(read_predictions(address))
    expected = {e.prediction_id: e for e in events if isinstance(e, PredictionEvent)}
    assert {f.event.prediction_id: f.event for f in found} == expected
    assert len(found) == 400
    assert all(len(f.feedback) == 1 for f in found)
    assert len(summarise(address).models) == 7


def test_a_journal_of_a_process_writes_and_finds(open_journal: Open, address: Address) -> None:
    journal = open_journal(path=address)
    event = prediction()
    assert journal.record(event)
    assert journal.record(feedback(event.prediction_id, "math.CO"))
    assert journal.flush(PATIENCE_S)
    found = journal.find(event.prediction_id)
    assert found is not None
    assert (found.event, found.latest_feedback.category) == (event, "math.CO")  # type: ignore[union-attr]
    assert (journal.status().written, journal.status().last_error) == (2, None)


def test_written_first_wins(address: Address) -> None:
    first = prediction(primary="cs.LG")
    write(address, first)
    write(address, prediction(prediction_id=first.prediction_id, primary="cs.AI"))
    (found,) = read_predictions(address)
    assert found.event == first


def test_what_is_forgotten_stays_forgotten_even_while_it_is_written(
    postgres: PostgresServer, address: Address
) -> None:
    gone, kept, paper = prediction(), prediction(), prediction(paper_id="7")
    write(address, gone, kept, paper, feedback(gone.prediction_id))
    wanted = Forgettable(prediction_ids=(gone.prediction_id, "0" * 26), paper_ids=("7",))
    counted = forget(address, wanted, dry_run=True)
    assert (counted.predictions, counted.feedback) == (2, 1)
    assert len(ids_in(address)) == 3
    writer = writer_for(JournalConfig(path=address))
    connection: Any = writer.open()
    with connection.transaction():  # one that writes the same prediction meanwhile
        connection.execute("SELECT pg_advisory_xact_lock_shared(1668047219, 1)")
        late = prediction(prediction_id="0" * 26)
        thread = Thread(target=forget, args=(address, wanted))
        thread.start()
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
        wait_until(lambda: bool(postgres.run(waiting)), "who forgets waits")
        writer._inserter.insert(connection, [late])  # type: ignore[attr-defined]
    thread.join()
    writer.close()
    assert ids_in(address) == [kept.prediction_id]
    write(address, gone, paper, late, feedback(gone.prediction_id))
    assert ids_in(address) == [kept.prediction_id]
    assert summarise(address).feedback == 0


def test_by_age_old_predictions_go_with_their_feedback(address: Address) -> None:
    old, new = old_prediction(), prediction()
    write(address, old, new, feedback(old.prediction_id), feedback(new.prediction_id))
    write(address, feedback("0" * 26, at_utc=OLD))
    done = forget(address, Forgettable(before_utc="2021-01-01T00:00:00.000Z"))
    assert (done.predictions, done.feedback) == (1, 2)
    (found,) = read_predictions(address)
    assert (found.event, len(found.feedback)) == (new, 1)


@pytest.mark.slow  # six thousand rows
def test_retention_deletes_what_is_too_old_and_leaves_the_rest(
    open_journal: Open, address: Address
) -> None:
    new = prediction()
    write(address, *(old_prediction() for _ in range(6_000)), new)
    write(address, feedback("0" * 26, at_utc=OLD), feedback(new.prediction_id))
    journal = open_journal(path=address, keep_days=30)
    journal.delete_old()
    assert ids_in(address) == [new.prediction_id]
    assert summarise(address).feedback == 1
    open_journal(path=address).delete_old()  # without a limit nothing goes


def test_a_summary_counts_and_has_no_password(address: Address) -> None:
    write(address, prediction(text="T\nA"), feedback("0" * 26), keep_text=True)
    found = summarise(address)
    assert (found.predictions, found.with_text, found.feedback) == (1, 1, 1)
    assert (found.waiting_feedback, found.files) == (1, ())
    assert found.bytes > 10_000
    assert found.models == {f"{MODEL.name}@{MODEL.version}": 1}
    assert found.path == str(address)


def test_a_filter_selects_as_it_does_in_files(address: Address) -> None:
    old, new = old_prediction(), prediction()
    write(address, old, new)
    wanted = PredictionFilter(since_utc="2021-01-01T00:00:00.000Z", model="fast", version="1.0")
    assert [found.event for found in read_predictions(address, wanted)] == [new]


def test_an_older_journal_is_brought_up_to_date_by_who_reads_it(
    postgres: PostgresServer, address: Address
) -> None:
    write(address, prediction())
    postgres.run(
        "DELETE FROM classmark.migrations WHERE name IN ('0004_compared', '0007_answered_by')",
        "ALTER TABLE classmark.predictions DROP COLUMN compared, DROP COLUMN service_version",
        database=address.parameters["dbname"],
    )
    (found,) = read_predictions(address)
    assert (found.event.compared, found.event.service_version) == (None, "")


def test_feedback_from_before_keys_were_kept_stays(
    postgres: PostgresServer, address: Address
) -> None:
    event = prediction()
    write(address, event, feedback(event.prediction_id))
    postgres.run(
        "DELETE FROM classmark.migrations WHERE name = '0006_said_by'",
        "ALTER TABLE classmark.feedback DROP COLUMN client",
        "ALTER TABLE classmark.feedback ADD CONSTRAINT feedback_pkey "
        "PRIMARY KEY (prediction_id, category, comment)",
        database=address.parameters["dbname"],
    )
    write(address, *(feedback(event.prediction_id, client=client) for client in ("a1", "b2", "a1")))
    (found,) = read_predictions(address)
    assert sorted(said.client for said in found.feedback) == ["", "a1", "b2"]


def test_a_journal_of_a_newer_classmark_is_refused_by_everyone(
    postgres: PostgresServer, address: Address
) -> None:
    write(address, prediction())
    postgres.run(
        "INSERT INTO classmark.migrations VALUES ('9999_new', '')",
        database=address.parameters["dbname"],
    )
    for refused in (
        lambda: write(address, prediction()),
        lambda: ids_in(address),
        lambda: Journal(JournalConfig(path=address)),
    ):
        with pytest.raises(JournalTooNew, match=r"newer classmark \(it has '9999_new'\)"):
            refused()


class PostgresPromises(Promises):
    """The same promises, while connections are cut off."""

    server: ClassVar[PostgresServer]

    def begin_place(self) -> Place:
        return Address(self.server.database())

    def disturb(self) -> None:
        self.server.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'journal%'"
        )

    def _check_counts(self, who: int) -> None:
        journal = self.journals[who]
        wait_until(lambda: not journal.status().failing, "a lost connection is opened again")
        super()._check_counts(who)

    def end_place(self) -> None:
        assert isinstance(self.path, Address)
        self.server.run(f"DROP DATABASE {self.path.parameters['dbname']} WITH (FORCE)")


@pytest.mark.slow  # hundreds of steps
def test_any_order_of_steps_keeps_the_promises_of_files(postgres: PostgresServer) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    PostgresPromises.server = postgres
    run_state_machine_as_test(
        PostgresPromises,
        settings=settings(
            max_examples=8,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_file_is_still_the_default(path: Path) -> None:
    write(path, prediction())
    assert path.is_file()


def test_a_password_in_a_file_is_changed_without_a_restart(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text("first\n", encoding="utf-8")
    monkeypatch.setenv("CLASSMARK_JOURNAL_PASSWORD_FILE", str(file))
    name = Address(postgres.database()).parameters["dbname"]
    postgres.run("CREATE ROLE rotated LOGIN PASSWORD 'first'")
    postgres.run(f"GRANT CREATE ON DATABASE {name} TO rotated")
    at = f"127.0.0.1:{postgres.port}/{name}"
    address = Address(f"postgresql://rotated@{at}")
    writer = writer_for(JournalConfig(path=address))
    assert writer.write([prediction(prediction_id=IDS[0])]).refused == 0
    postgres.run(
        "ALTER ROLE rotated PASSWORD 'second'",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotated'",
    )
    with pytest.raises(InvalidJournal):
        writer.write([prediction(prediction_id=IDS[1])])  # its connection is gone, and the password
    file.write_text("second", encoding="utf-8")
    assert writer.write([prediction(prediction_id=IDS[1])]).refused == 0
    writer.close()
    assert summarise(address).predictions == 2
    file.unlink()
    with pytest.raises(InvalidJournal, match="CLASSMARK_JOURNAL_PASSWORD_FILE names, cannot"):
        summarise(address)
    own = Address(f"postgresql://rotated:second@{at}")
    assert summarise(own).predictions == 2  # the password of an address comes first
