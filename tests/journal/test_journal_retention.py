"""What a journal does not keep: old files go, old parts of files, and files that are too many."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from journal_events import (
    OLD,
    PATIENCE_S,
    bytes_in,
    ids_in,
    old_prediction,
    prediction,
    rotate,
    write,
)

from classmark.errors import InvalidConfig
from classmark.journal import Journal, JournalConfig, find_prediction
from classmark.journal.database import journal_files, with_logs
from classmark.journal.forget import Forgettable, Retention, forget
from classmark.journal.reading import summarise

Open = Callable[..., Journal]


def dated(path: Path, **times: str) -> None:
    """Change when a file was begun or closed."""
    connection = sqlite3.connect(path)
    for column, at_utc in times.items():
        connection.execute(f"UPDATE journal_file SET {column} = ?", (at_utc,))
    connection.commit()
    connection.close()


@pytest.mark.skipif(os.name == "nt", reason="the writer has the file open, which stays until later")
def test_old_files_go_though_nobody_writes_any_more(
    path: Path, open_journal: Open, caplog: pytest.LogCaptureFixture
) -> None:
    write(path, old_prediction())
    dated(path, begun_at_utc=OLD)
    journal = open_journal(keep_days=1)
    with caplog.at_level(logging.INFO):
        journal.delete_old()  # closes the file, empties and deletes it
    for _ in range(2):
        assert [file.name for file in journal_files(path)] == ["journal.000002.sqlite"]
        dated(journal_files(path)[0], begun_at_utc=OLD)
        journal.delete_old()  # an empty file is not closed again and again
    (line,) = [r for r in caplog.records if r.message == "journal file shortened"]
    assert line.fields["predictions"] == 1  # type: ignore[attr-defined]


def test_a_file_from_before_there_was_a_limit_loses_its_old_part_only(
    path: Path, open_journal: Open
) -> None:
    old, new = old_prediction(text="a secret"), prediction()
    write(path, old, new, keep_text=True)
    dated(path, begun_at_utc=OLD)
    journal = open_journal(keep_days=30)
    assert b"a secret" in bytes_in(path.parent)
    journal.delete_old()
    assert ids_in(path) == [new.prediction_id]
    assert b"a secret" not in bytes_in(path.parent)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE predictions SET at_utc = ?", (OLD,))
    connection.commit()
    connection.close()
    journal.delete_old()  # is not gone through again so soon
    assert ids_in(path) == [new.prediction_id]


@pytest.mark.slow
def test_the_oldest_files_go_while_all_of_them_are_too_large(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    most = 8 * 64 * 1024
    events = [prediction() for _ in range(4_000)]
    with caplog.at_level(logging.INFO):
        for start in range(0, 4_000, 200):
            write(path, *events[start : start + 200], max_bytes=most)
    Retention(JournalConfig(path=path, max_bytes=most)).delete_files()
    assert sum(file.stat().st_size for file in path.parent.iterdir()) <= most
    kept = ids_in(path)
    assert 0 < len(kept) < 4_000
    assert sorted(kept) == sorted(e.prediction_id for e in events[-len(kept) :])
    deleted = [r for r in caplog.records if r.message == "journal file deleted"]
    assert {r.fields["limit"] for r in deleted} == {"size"}  # type: ignore[attr-defined]
    assert summarise(path).predictions == len(kept)


@pytest.mark.slow
def test_writers_go_on_while_old_parts_are_deleted(path: Path, open_journal: Open) -> None:
    write(path, *(old_prediction() for _ in range(3_000)))
    dated(path, begun_at_utc=OLD)
    journal = open_journal(keep_days=1)
    writer = open_journal(keep_days=1)
    events = [prediction() for _ in range(500)]
    thread = threading.Thread(target=journal.delete_old)
    thread.start()
    for event in events:
        assert writer.record(event)
    assert writer.flush(PATIENCE_S)
    thread.join()
    assert sorted(ids_in(path)) == sorted(event.prediction_id for event in events)


def test_what_cannot_be_deleted_is_a_line_of_the_log_and_tried_again(
    path: Path, open_journal: Open, caplog: pytest.LogCaptureFixture
) -> None:
    write(path, prediction())
    rotate(path)
    write(path, prediction())
    journal = open_journal(keep_days=1)
    whole = path.read_bytes()
    for file in with_logs(path):
        file.unlink(missing_ok=True)
    path.write_bytes(b"damaged" * 1_000)
    journal.delete_old()
    (line,) = [r for r in caplog.records if r.message.startswith("old part")]
    assert "damaged" in line.fields["problem"]  # type: ignore[attr-defined]
    path.write_bytes(whole)
    dated(path, closed_at_utc=OLD)
    journal.delete_old()
    assert [file.name for file in journal_files(path)] == ["journal.000002.sqlite"]


def test_a_file_that_is_deleted_while_others_look_is_no_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, prediction())
    rotate(path)
    event = prediction()
    write(path, event)
    listed = journal_files(path)
    for part in with_logs(path):
        part.unlink(missing_ok=True)
    for room in ("database", "forget"):
        monkeypatch.setattr(f"classmark.journal.{room}.journal_files", lambda _: listed)
    assert ids_in(path) == [event.prediction_id]
    assert find_prediction(path, event.prediction_id) is not None
    assert summarise(path).predictions == 1
    assert forget(path, Forgettable(prediction_ids=(event.prediction_id,))).predictions == 1
    assert not path.exists()


def test_a_limit_makes_files_so_small_that_some_can_go() -> None:
    limited = JournalConfig(keep_days=30, max_bytes=80_000_000)
    assert (limited.file_days, limited.file_bytes) == (1, 10_000_000)
    usual = JournalConfig()
    assert (usual.file_days, usual.file_bytes) == (None, 256 * 1024 * 1024)
    assert JournalConfig(keep_days=30, rotate_days=0.5).file_days == 0.5
    with pytest.raises(InvalidConfig, match="max_bytes must be at least 524288"):
        JournalConfig(max_bytes=1)
