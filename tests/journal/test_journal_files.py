"""Rotation, retention, migrations, reading over several files, and forgetting."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest
from journal_events import (
    MODEL,
    OLD,
    PATIENCE_S,
    bytes_in,
    feedback,
    ids_in,
    old_prediction,
    prediction,
    rotate,
    write,
)

from classmark.errors import InvalidJournal, UsageError
from classmark.journal import Journal, JournalConfig, find_prediction, read_predictions
from classmark.journal.database import journal_files
from classmark.journal.forget import Forgettable, forget
from classmark.journal.migrations import MIGRATIONS, migrate
from classmark.journal.reading import PredictionFilter, summarise
from classmark.journal.writer import FileWriter
from classmark.records import PredictionEvent
from classmark.wire import ModelRef

Open = Callable[..., Journal]


# --- files -----------------------------------------------------------------------------------


def test_a_full_file_is_closed_and_the_next_number_begun(path: Path) -> None:
    events = [prediction() for _ in range(400)]
    for start in range(0, 400, 50):
        write(path, *events[start : start + 50], rotate_bytes=64 * 1024)
    assert [file.name for file in journal_files(path)][:2] == [
        "journal.sqlite",
        "journal.000002.sqlite",
    ]
    assert sorted(ids_in(path)) == sorted(event.prediction_id for event in events)


def test_a_file_is_closed_when_it_is_old_enough(path: Path) -> None:
    write(path, prediction(), rotate_days=0)
    write(path, prediction())
    assert len(journal_files(path)) == 2


def test_a_writer_that_has_a_closed_file_open_goes_on_to_the_next(path: Path) -> None:
    writer = FileWriter(JournalConfig(path=path))
    writer.write([prediction()])
    rotate(path)
    event = prediction()
    writer.write([event])
    writer.close()
    found = sqlite3.connect(path.with_name("journal.000002.sqlite"))
    rows = found.execute("SELECT prediction_id FROM predictions").fetchall()
    found.close()
    assert rows == [(event.prediction_id,)]


def test_files_of_another_journal_beside_it_are_left_alone(path: Path) -> None:
    write(path, prediction())
    write(path.with_name("journal.other.sqlite"), prediction())
    write(path.with_name("another.sqlite"), prediction())
    assert journal_files(path) == [path]


def test_closed_files_are_deleted_after_the_days_they_are_kept(path: Path) -> None:
    write(path, prediction(), rotate_days=0)
    event = prediction()
    write(path, event, keep_days=1)
    assert len(journal_files(path)) == 2
    connection = sqlite3.connect(path)
    connection.execute("UPDATE journal_file SET closed_at_utc = ?", (OLD,))
    connection.commit()
    connection.close()
    write(path, keep_days=1)
    assert ids_in(path) == [event.prediction_id]


def test_a_retry_that_meets_the_next_file_is_read_once(path: Path) -> None:
    event = prediction(latency_ms=1.0)
    write(path, event)
    rotate(path)
    write(path, prediction(prediction_id=event.prediction_id, latency_ms=2.0), prediction())
    found = list(read_predictions(path))
    assert [p.event.latency_ms for p in found] == [1.0, 1.5]


def test_feedback_is_joined_over_files_in_both_directions(path: Path) -> None:
    first, second = prediction(), prediction()
    write(path, first, feedback(second.prediction_id, "hep-th"))
    rotate(path)
    write(path, second, feedback(first.prediction_id, "math.CO"))
    said = {p.event.prediction_id: p.feedback[0].category for p in read_predictions(path)}
    assert said == {first.prediction_id: "math.CO", second.prediction_id: "hep-th"}
    found = find_prediction(path, first.prediction_id)
    assert found is not None
    assert found.feedback[0].category == "math.CO"


def test_filters_choose_by_time_and_model(path: Path) -> None:
    other = ModelRef("mine", "2.0", "e" * 64)
    events = [
        prediction(at_utc="2026-01-01T00:00:00.000Z"),
        prediction(at_utc="2026-01-02T00:00:00.000Z", model=other),
        prediction(at_utc="2026-01-03T00:00:00.000Z"),
    ]
    write(path, *events)

    def chosen(**options: str) -> list[int]:
        found = [p.event for p in read_predictions(path, PredictionFilter(**options))]
        return sorted(events.index(event) for event in found)

    assert chosen(since_utc="2026-01-02T00:00:00.000Z") == [1, 2]
    assert chosen(until_utc="2026-01-02T00:00:00.000Z") == [0]
    assert chosen(model="fast") == [0, 2]
    assert chosen(model="mine", version="2.0") == [1]
    assert chosen(model="mine", version="1.0") == []


def test_the_summary_counts_files_predictions_and_waiting_feedback(path: Path) -> None:
    event = prediction(at_utc=OLD, text="kept")
    write(path, event, feedback(event.prediction_id), keep_text=True)
    rotate(path)
    write(path, prediction(), feedback(prediction().prediction_id))
    summary = summarise(path)
    assert (summary.predictions, summary.with_text) == (2, 1)
    assert (summary.feedback, summary.waiting_feedback) == (2, 1)
    assert len(summary.files) == 2
    assert summary.path == str(path.with_name("journal.000002.sqlite"))
    assert summary.oldest_utc == OLD
    assert summary.models == {"fast@1.0": 2}
    assert summary.bytes > 0


def test_feedback_that_was_sent_again_after_the_next_file_was_begun_counts_once(path: Path) -> None:
    late = feedback(prediction().prediction_id)
    write(path, late)
    rotate(path)
    write(path, late)
    summary = summarise(path)
    assert (len(summary.files), summary.feedback, summary.waiting_feedback) == (2, 1, 1)


def test_the_summary_of_nothing_is_empty(path: Path) -> None:
    assert asdict(summarise(path)) == {
        **{"path": str(path), "files": (), "bytes": 0, "models": {}},
        **dict.fromkeys(("predictions", "with_text", "feedback", "waiting_feedback"), 0),
        **{"oldest_utc": None, "newest_utc": None},
    }


# --- migrations ------------------------------------------------------------------------------


def test_migrations_are_applied_once_and_in_order(tmp_path: Path) -> None:
    steps = {
        "0001_one": "CREATE TABLE one (x);\nCREATE TABLE two (x);",
        "0002_fill": "INSERT INTO one VALUES (7);",
    }
    connection = sqlite3.connect(tmp_path / "db", isolation_level=None)
    assert migrate(connection, tmp_path, {"0001_one": steps["0001_one"]}) == ["0001_one"]
    assert migrate(connection, tmp_path, steps) == ["0002_fill"]
    assert migrate(connection, tmp_path, steps) == []
    assert connection.execute("SELECT x FROM one").fetchall() == [(7,)]
    connection.close()


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "db", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        migrate(connection, tmp_path, {"0001": "CREATE TABLE a (x);\nINSERT INTO b VALUES (1);"})
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()


def test_a_file_of_an_older_classmark_is_brought_up_to_date_by_reading_it(path: Path) -> None:
    path.parent.mkdir()
    connection = sqlite3.connect(path, isolation_level=None)
    first = next(iter(MIGRATIONS))
    migrate(connection, path, {first: MIGRATIONS[first]})
    connection.close()
    assert ids_in(path) == []
    event = prediction()
    write(path, event)
    assert ids_in(path) == [event.prediction_id]


def test_a_journal_from_before_authors_is_read_written_and_exported(path: Path) -> None:
    """Its closed file and the live one lack the column, as do lines that were exported from it."""
    old = [
        begin_before_authors(path),
        begin_before_authors(path.with_name("journal.000002.sqlite")),
    ]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE journal_file SET closed_at_utc = '2026-11-01T00:00:00.000Z'")
    connection.close()
    new = prediction(used_authors=True)
    write(path, new)
    found = {p.event.prediction_id: p.event.used_authors for p in read_predictions(path)}
    assert found == {**dict.fromkeys(old, False), new.prediction_id: True}
    for file in journal_files(path):
        connection = sqlite3.connect(file)
        names = [row[0] for row in connection.execute("SELECT name FROM migrations")]
        assert names == list(MIGRATIONS)
        connection.close()
    line = new.to_dict()
    del line["used_authors"]
    assert PredictionEvent.from_dict(line).used_authors is False


def test_feedback_from_before_keys_were_kept_stays_and_what_is_forgotten_stays_away(
    path: Path,
) -> None:
    path.parent.mkdir(exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    names = list(MIGRATIONS)[: list(MIGRATIONS).index("0006_said_by")]
    migrate(connection, path, {name: MIGRATIONS[name] for name in names})
    kept, gone = prediction(), prediction()
    connection.execute("INSERT INTO journal_file VALUES (1, ?, NULL)", (kept.at_utc,))
    row = (kept.prediction_id, "hep-th", "of old", kept.at_utc)
    connection.execute("INSERT INTO feedback VALUES (?, ?, ?, ?)", row)
    connection.execute("INSERT INTO forgotten VALUES (?)", (gone.prediction_id,))
    connection.close()
    write(path, kept, feedback(kept.prediction_id, "hep-th", comment="of old", client="a1"))
    write(path, feedback(gone.prediction_id))
    (found,) = read_predictions(path)
    assert [(said.category, said.client) for said in found.feedback] == [
        ("hep-th", ""),
        ("hep-th", "a1"),
    ]
    assert summarise(path).feedback == 2


def test_the_same_words_of_two_clients_are_two_and_again_of_one_they_are_one(path: Path) -> None:
    event = prediction()
    for client in ("a1", "b2", "a1"):
        write(path, event, feedback(event.prediction_id, client=client))
        rotate(path)
    (found,) = read_predictions(path)
    assert sorted(said.client for said in found.feedback) == ["a1", "b2"]
    assert summarise(path).feedback == 2
    assert [said["client"] for said in found.to_dict()["feedback"]] == ["b2", "a1"]


def test_a_prediction_from_before_the_version_was_kept_has_none(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    old, new = prediction(client="a1"), prediction(client="a1", service_version="1.2.3")
    write(path, old)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DELETE FROM migrations WHERE name = '0007_answered_by'")
    connection.execute("ALTER TABLE predictions DROP COLUMN service_version")
    connection.close()
    write(path, new)
    found = {p.event.prediction_id: p.event for p in read_predictions(path)}
    assert found == {old.prediction_id: old, new.prediction_id: new}
    assert old.service_version == ""
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def begin_before_authors(path: Path) -> str:
    """Begin a file with one prediction as the version before wrote it; return its id."""
    path.parent.mkdir(exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    names = list(MIGRATIONS)[: list(MIGRATIONS).index("0003_used_authors")]
    migrate(connection, path, {name: MIGRATIONS[name] for name in names})
    event = prediction()
    connection.execute("INSERT INTO journal_file VALUES (1, ?, NULL)", (event.at_utc,))
    connection.execute("INSERT INTO models VALUES (1, 'fast', '1.0', ?)", ("d" * 64,))
    connection.execute(
        "INSERT INTO predictions VALUES (?, ?, 1, NULL, '0123456789abcdef', 'cs.LG', 'accepted', "
        """'[["cs.LG",0.75]]', '["cs.LG"]', '[]', 0.5, 900, 140, 0.25, 1.5, 'classify', NULL, """
        "NULL)",
        (event.prediction_id, event.at_utc),
    )
    connection.close()
    return event.prediction_id


# --- forgetting ------------------------------------------------------------------------------


def test_what_is_forgotten_by_id_is_gone_from_every_byte(path: Path) -> None:
    doomed = prediction(text="SECRETWORD in the text " * 200, paper_id="SECRETPAPER")
    kept = prediction(text="PUBLICWORD")
    said = feedback(doomed.prediction_id, comment="SECRETCOMMENT")
    write(path, doomed, kept, said, keep_text=True)
    rotate(path)
    write(path, prediction(), feedback(doomed.prediction_id, "hep-th", comment="SECRETSEQUEL"))
    assert bytes_in(path.parent).count(b"SECRET") > 200
    done = forget(path, Forgettable(prediction_ids=(doomed.prediction_id,)))
    assert (done.predictions, done.feedback, len(done.files_changed)) == (1, 2, 2)
    assert b"SECRET" not in bytes_in(path.parent)
    assert b"PUBLICWORD" in bytes_in(path.parent)
    assert kept.prediction_id in ids_in(path)


def test_forgetting_empties_the_log_of_a_journal_in_use(open_journal: Open, path: Path) -> None:
    journal = open_journal(keep_text=True)
    event = prediction(text="SECRETWORD " * 500)
    journal.record(event)
    assert journal.flush(PATIENCE_S)
    forget(path, Forgettable(prediction_ids=(event.prediction_id,)))
    names = [path.name, path.name + "-wal"]
    # Read by another process: closing a file here would drop the locks that this one holds.
    search = ["grep", "-c", "SECRETWORD", *names]
    found = subprocess.run(search, cwd=path.parent, capture_output=True, text=True, check=False)
    assert found.stdout.split() == [f"{name}:0" for name in names]
    later = prediction()
    journal.record(later)
    assert journal.flush(PATIENCE_S)
    assert ids_in(path) == [later.prediction_id]


def test_what_is_forgotten_does_not_come_back_with_a_retry(path: Path) -> None:
    event = prediction()
    write(path, event)
    forget(path, Forgettable(prediction_ids=(event.prediction_id,)))
    write(path, event, feedback(event.prediction_id))
    rotate(path)
    write(path, event, feedback(event.prediction_id))
    assert ids_in(path) == []
    assert summarise(path).feedback == 0


def test_what_is_forgotten_before_it_is_written_is_never_written(path: Path) -> None:
    event = prediction()
    write(path)
    forget(path, Forgettable(prediction_ids=(event.prediction_id,)))
    write(path, event)
    assert ids_in(path) == []


def test_forgetting_a_paper_takes_all_its_predictions(path: Path) -> None:
    doomed = [prediction(paper_id="2401.1"), prediction(paper_id="2401.1")]
    kept = prediction(paper_id="2401.11")
    write(path, doomed[0], kept)
    rotate(path)
    write(path, doomed[1])
    done = forget(path, Forgettable(paper_ids=("2401.1",)))
    assert done.predictions == 2
    assert ids_in(path) == [kept.prediction_id]


def test_forgetting_by_age_deletes_a_closed_file_that_is_then_empty(path: Path) -> None:
    event = old_prediction()
    write(path, event)
    rotate(path)
    kept = prediction()
    write(path, kept, feedback(event.prediction_id, comment="of today"))
    done = forget(path, Forgettable(before_utc="2021-01-01T00:00:00.000Z"))
    assert (done.predictions, done.feedback) == (1, 1)
    assert [file.name for file in done.files_deleted] == ["journal.sqlite"]
    assert journal_files(path) == [path.with_name("journal.000002.sqlite")]
    assert ids_in(path) == [kept.prediction_id]
    write(path, prediction())
    assert len(journal_files(path)) == 1


def test_a_dry_run_counts_the_same_and_changes_nothing(path: Path) -> None:
    event = old_prediction()
    write(path, event, feedback(event.prediction_id), prediction())
    wanted = Forgettable(before_utc="2021-01-01T00:00:00.000Z")
    planned = forget(path, wanted, dry_run=True)
    assert len(ids_in(path)) == 2
    done = forget(path, wanted)
    assert (planned.predictions, planned.feedback) == (done.predictions, done.feedback) == (1, 1)


def test_forgetting_gives_space_back(path: Path) -> None:
    write(path, *[old_prediction() for _ in range(1)])
    write(path, *[prediction(at_utc=OLD) for _ in range(1000)])
    before = path.stat().st_size
    forget(path, Forgettable(before_utc="2021-01-01T00:00:00.000Z"))
    assert path.stat().st_size < before / 4


def test_the_newest_file_stays_and_hands_on_what_is_forgotten(path: Path) -> None:
    doomed, old = prediction(), old_prediction()
    write(path, doomed, old)
    forget(path, Forgettable(prediction_ids=(doomed.prediction_id,)))
    rotate(path)
    forget(path, Forgettable(before_utc="2021-01-01T00:00:00.000Z"))
    assert journal_files(path) == [path]
    write(path, doomed)
    assert ids_in(path) == []


def test_forgetting_in_no_journal_says_so(path: Path) -> None:
    with pytest.raises(InvalidJournal, match=r"there is no journal at .*journal\.sqlite"):
        forget(path, Forgettable(paper_ids=("x",)))


def test_forgetting_nothing_is_a_mistake() -> None:
    with pytest.raises(UsageError, match=r"nothing to forget. Give --id, --paper-id or"):
        Forgettable()
    with pytest.raises(UsageError, match=r"'2401.1' is not a prediction id.*or use --paper-id"):
        Forgettable(prediction_ids=("2401.1",))


def test_forgetting_in_a_damaged_file_names_it(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(InvalidJournal, match=r"journal\.sqlite: it is damaged"):
        forget(path, Forgettable(paper_ids=("x",)))


def test_a_reader_that_holds_the_log_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classmark.journal.forget._CHECKPOINT_TRIES", 1)
    monkeypatch.setattr("classmark.journal.forget._BUSY_TIMEOUT_MS", 1)
    event = prediction(model=MODEL)
    write(path, event)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM predictions").fetchall()
    with pytest.raises(InvalidJournal, match="another process keeps reading"):
        forget(path, Forgettable(prediction_ids=(event.prediction_id,)))
    other.close()
    assert ids_in(path) == []
