"""Recording: everything is written or counted, and what is wrong with the disk is not raised."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from journal_events import MODEL, PATIENCE_S, feedback, prediction, wait_until

from classmark.errors import InvalidConfig, InvalidJournal, JournalTooNew
from classmark.journal import Journal, JournalConfig, default_journal_path, read_predictions

not_on_windows = pytest.mark.skipif(
    os.name == "nt", reason="an open journal cannot be deleted there"
)

Open = Callable[..., Journal]


def ids_in(path: Path) -> list[str]:
    return [found.event.prediction_id for found in read_predictions(path)]


@pytest.mark.parametrize("used_authors", [True, False])
def test_a_recorded_prediction_is_found_as_it_was(open_journal: Open, used_authors: bool) -> None:
    journal = open_journal()
    event = prediction(
        paper_id="quant-ph/0101001", author_category="hep-th", used_authors=used_authors
    )
    assert journal.record(event)
    assert journal.flush(PATIENCE_S)
    found = journal.find(event.prediction_id)
    assert found is not None
    assert found.event == event
    assert found.event.used_authors is used_authors
    assert found.feedback == ()


def test_the_text_is_left_out_unless_it_is_to_be_kept(open_journal: Open, path: Path) -> None:
    journal = open_journal()
    event = prediction(text="A secret\nabstract")
    journal.record(event)
    assert journal.flush(PATIENCE_S)
    found = journal.find(event.prediction_id)
    assert found is not None
    assert found.event.text is None
    journal.close(PATIENCE_S)
    assert not any(b"secret" in file.read_bytes() for file in path.parent.iterdir())


def test_the_text_is_kept_on_request(open_journal: Open) -> None:
    journal = open_journal(keep_text=True)
    event = prediction(text="A title\nan abstract")
    journal.record(event)
    assert journal.flush(PATIENCE_S)
    found = journal.find(event.prediction_id)
    assert found is not None
    assert found.event.text == "A title\nan abstract"


def test_feedback_is_joined_whether_it_comes_after_or_before(open_journal: Open) -> None:
    journal = open_journal()
    early, late = prediction(), prediction()
    journal.record(feedback(early.prediction_id, "math.CO"))
    journal.flush(PATIENCE_S)
    for event in (
        early,
        late,
        feedback(late.prediction_id, "hep-th", comment="it is about strings"),
    ):
        journal.record(event)
    assert journal.flush(PATIENCE_S)
    found = [journal.find(event.prediction_id) for event in (early, late)]
    assert [[said.category for said in f.feedback] for f in found if f] == [["math.CO"], ["hep-th"]]
    assert found[1] is not None
    assert found[1].feedback[0].comment == "it is about strings"


def test_the_last_word_wins_when_somebody_changes_their_mind(open_journal: Open) -> None:
    journal = open_journal()
    event = prediction()
    journal.record(event)
    for second, category in enumerate(("math.CO", "hep-th", "math.CO")):
        journal.record(
            feedback(event.prediction_id, category, at_utc=f"2026-01-01T00:00:0{second}.000Z")
        )
    assert journal.flush(PATIENCE_S)
    found = journal.find(event.prediction_id)
    assert found is not None
    assert [said.category for said in found.feedback] == ["hep-th", "math.CO"]


def test_an_id_that_comes_again_is_one_prediction(open_journal: Open, path: Path) -> None:
    journal = open_journal()
    event = prediction()
    for latency_ms in (1.0, 2.0):
        journal.record(prediction(prediction_id=event.prediction_id, latency_ms=latency_ms))
        journal.flush(PATIENCE_S)
    assert [found.event.latency_ms for found in read_predictions(path)] == [1.0]


def test_unknown_ids_are_not_found(open_journal: Open) -> None:
    assert open_journal().find(prediction().prediction_id) is None


def test_an_event_that_the_database_refuses_costs_only_itself(
    open_journal: Open, path: Path
) -> None:
    journal = open_journal()
    events = [
        prediction(),
        prediction(n_chars=2**70),
        prediction(known_share=float("nan")),
        prediction(paper_id=["no", "text"]),
        feedback(prediction().prediction_id, 7),  # type: ignore[arg-type]
        prediction(),
    ]
    assert [journal.record(event) for event in events] == [True, False, True, True, True, True]
    assert journal.flush(PATIENCE_S)
    status = journal.status()
    assert (status.written, status.dropped, status.failing) == (2, 4, False)
    assert status.last_error is not None
    assert "was refused" in status.last_error
    assert len(ids_in(path)) == 2


def test_halves_of_characters_and_nul_are_written(open_journal: Open) -> None:
    journal = open_journal(keep_text=True)
    event = prediction(paper_id="id \ud800", text="a\x00b \udfff 𝔘")
    journal.record(event)
    assert journal.flush(PATIENCE_S)
    found = journal.find(event.prediction_id)
    assert found is not None
    assert (found.event.paper_id, found.event.text) == ("id ?", "a\x00b ? 𝔘")


@pytest.mark.parametrize("nonsense", [None, "text", 7, {"prediction_id": "x"}])
def test_what_is_no_event_is_dropped_and_counted(open_journal: Open, nonsense: Any) -> None:
    journal = open_journal()
    assert not journal.record(nonsense)
    assert journal.status().dropped == 1


@pytest.mark.slow
def test_more_than_the_capacity_is_dropped_and_counted(open_journal: Open, path: Path) -> None:
    path.parent.parent.joinpath("journal").write_text("in the way of the folder")
    journal = open_journal(capacity_events=5)
    assert [journal.record(prediction()) for _ in range(8)] == [True] * 5 + [False] * 3
    status = journal.status()
    assert (status.written, status.dropped, status.queued) == (0, 3, 5)


@pytest.mark.slow
def test_long_texts_count_against_the_capacity(open_journal: Open, path: Path) -> None:
    path.parent.parent.joinpath("journal").write_text("in the way of the folder")
    journal = open_journal(capacity_bytes=10_000)
    texts = [prediction(text="x" * 4_000) for _ in range(5)]
    assert [journal.record(event) for event in texts] == [True, True, False, False, False]


def test_after_closing_events_are_dropped(open_journal: Open) -> None:
    journal = open_journal()
    journal.record(prediction())
    assert journal.close(PATIENCE_S) == 0
    assert not journal.record(prediction())
    assert (journal.status().written, journal.status().dropped) == (1, 1)
    assert journal.close(PATIENCE_S) == 0


def test_closing_says_how_many_events_are_lost(open_journal: Open, path: Path) -> None:
    path.parent.parent.joinpath("journal").write_text("in the way of the folder")
    journal = open_journal()
    for _ in range(3):
        journal.record(prediction())
    assert journal.close(0.05) == 3
    status = journal.status()
    assert (status.dropped, status.queued, status.failing) == (3, 0, True)


def test_several_threads_lose_and_invent_nothing(open_journal: Open, path: Path) -> None:
    journal = open_journal()
    events = [[prediction() for _ in range(200)] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda mine=mine: [journal.record(e) for e in mine])
        for mine in events
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert journal.flush(PATIENCE_S)
    assert sorted(ids_in(path)) == sorted(e.prediction_id for mine in events for e in mine)
    assert journal.status().written == 800


def test_a_journal_of_a_newer_classmark_is_refused(open_journal: Open, path: Path) -> None:
    open_journal().close(PATIENCE_S)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO migrations VALUES ('0099_later', 'now')")
    connection.close()
    with pytest.raises(JournalTooNew, match=r"by a newer classmark \(it has '0099_later'\)"):
        open_journal()


def test_a_file_of_something_else_is_left_alone_and_named(open_journal: Open, path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    journal = open_journal()
    wait_until(lambda: journal.status().failing, "the journal fails")
    assert "SQLite file of something else" in str(journal.status().last_error)
    assert not journal.flush(0.01) or journal.status().written == 0


def test_a_file_that_is_no_database_fails_until_it_is_moved_away(
    open_journal: Open, path: Path
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    journal = open_journal()
    event = prediction()
    journal.record(event)
    wait_until(lambda: journal.status().failing, "the journal fails")
    assert "damaged or not an SQLite file. Move it away" in str(journal.status().last_error)
    path.unlink()
    assert journal.flush(PATIENCE_S)
    assert not journal.status().failing
    assert ids_in(path) == [event.prediction_id]


@not_on_windows
def test_deleting_the_folder_under_load_loses_only_what_was_in_it(
    open_journal: Open, path: Path
) -> None:
    journal = open_journal()
    journal.record(prediction())
    journal.flush(PATIENCE_S)
    shutil.rmtree(path.parent)
    event = prediction()
    journal.record(event)
    assert journal.flush(PATIENCE_S)
    assert ids_in(path) == [event.prediction_id]
    assert journal.status().written == 2


@not_on_windows
def test_deleting_only_the_database_begins_another_number(open_journal: Open, path: Path) -> None:
    journal, other = open_journal(), open_journal()
    for each in (journal, other):
        each.record(prediction())
        each.flush(PATIENCE_S)
    path.unlink()  # its -wal and -shm stay, which others have mapped
    events = [prediction(), prediction()]
    for each, event in zip((journal, other), events, strict=True):
        each.record(event)
        assert each.flush(PATIENCE_S)
    assert sorted(ids_in(path)) == sorted(event.prediction_id for event in events)
    assert path.with_name("journal.000002.sqlite").exists()


def test_reading_a_damaged_file_names_it(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(InvalidJournal, match=r"journal .*journal\.sqlite: it is damaged or no"):
        list(read_predictions(path))


def test_the_default_path_is_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSMARK_HOME", str(tmp_path))
    assert default_journal_path() == tmp_path / "journal" / "journal.sqlite"
    assert JournalConfig().path == default_journal_path()


@pytest.mark.parametrize("name", ["capacity_events", "flush_window_ms", "rotate_bytes"])
def test_impossible_options_are_refused(name: str) -> None:
    with pytest.raises(InvalidConfig, match=f"journal: {name} must be at least .*, got -1"):
        JournalConfig(**{name: -1})


def test_status_has_a_json_form(open_journal: Open) -> None:
    journal = open_journal()
    journal.record(prediction(model=MODEL))
    journal.flush(PATIENCE_S)
    assert asdict(journal.status()) == {
        "written": 1,
        "dropped": 0,
        "queued": 0,
        "failing": False,
        "last_error": None,
    }
