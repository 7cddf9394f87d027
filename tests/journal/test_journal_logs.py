"""A journal is its owner's alone, and its faults are lines of the log: at once, never many."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from journal_events import PATIENCE_S, feedback, prediction, wait_until

from classmark.errors import InvalidJournal
from classmark.journal import Journal, JournalConfig, JournalStatus
from classmark.journal.database import journal_files
from classmark.journal.journal import FaultLog
from classmark.journal.writer import FileWriter

Open = Callable[..., Journal]
posix = pytest.mark.skipif(os.name == "nt", reason="there are no such modes")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    """Return events of the journal's log with their fields."""
    found = [record for record in caplog.records if record.name == "classmark.journal"]
    return [(record.getMessage(), vars(record).get("fields", {})) for record in found]


def modes(folder: Path) -> dict[str, int]:
    found = {}
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # a log goes when its journal is closed
            found[path.name] = stat.S_IMODE(path.stat().st_mode)
    return found


@pytest.mark.slow
@posix
def test_no_file_of_a_journal_can_be_read_by_others_for_a_moment(
    open_journal: Open, path: Path
) -> None:
    seen: dict[str, int] = {}
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            for name, mode in modes(path.parent).items() if path.parent.is_dir() else ():
                seen[name] = seen.get(name, 0) | mode

    watcher = threading.Thread(target=watch)
    before = os.umask(0)
    watcher.start()
    try:
        journal = open_journal(rotate_bytes=64 * 1024, keep_text=True)
        for _ in range(400):
            journal.record(prediction(text="x" * 1_000))
        assert journal.flush(PATIENCE_S)
        journal.record(prediction())  # goes into the next file
        assert journal.flush(PATIENCE_S)
        assert len(journal_files(path)) > 1
        assert set(modes(path.parent).values()) == {0o600}
    finally:
        os.umask(before)
        is_over.set()
        watcher.join()
    assert {name[-4:] for name in seen} >= {"lite", "-wal", "-shm"}
    assert set(seen.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@posix
def test_a_journal_is_private_before_sqlite_opens_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[dict[str, int]] = []

    def connect(database: Any, **options: Any) -> sqlite3.Connection:
        if Path(database) == path:
            found.append(modes(path.parent))
        return connect_as_before(database, **options)

    connect_as_before = sqlite3.connect
    monkeypatch.setattr("sqlite3.connect", connect)
    before = os.umask(0)
    try:
        writer = FileWriter(JournalConfig(path=path))
        writer.open()
        writer.close()
    finally:
        os.umask(before)
    assert found[0] == {path.name: 0o600}


@posix
def test_a_journal_that_a_former_version_made_readable_is_closed_to_others(
    open_journal: Open, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal()
    journal.record(prediction())
    assert journal.flush(PATIENCE_S)
    for file in path.parent.iterdir():
        file.chmod(0o644)
    second = open_journal()
    second.record(prediction())
    assert second.flush(PATIENCE_S)
    assert set(modes(path.parent).values()) == {0o600}
    warned = [
        fields for event, fields in lines(caplog) if event == "journal was readable by others"
    ]
    assert {"path": str(path), "mode": "644"} in warned


@posix
def test_a_journal_behind_a_link_is_private_too(open_journal: Open, tmp_path: Path) -> None:
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "far.sqlite")
    before = os.umask(0)
    try:
        journal = open_journal(path=tmp_path / "link.sqlite")
        journal.record(prediction())
        assert journal.flush(PATIENCE_S)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "far.sqlite").stat().st_mode) == 0o600


def test_a_journal_that_cannot_be_written_is_said_at_once_and_its_recovery_too(
    open_journal: Open, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "classmark.journal")
    path.mkdir(parents=True)
    journal = open_journal(capacity_events=1)
    wait_until(lambda: bool(lines(caplog)), "the fault is said before anything is recorded")
    event, fields = lines(caplog)[0]
    assert event == "journal cannot be written"
    assert fields["problem"].startswith(f"journal {path}: it cannot be opened.")
    kept = [journal.record(prediction()) for _ in range(5)]
    assert kept == [True, False, False, False, False]
    wait_until(lambda: len(lines(caplog)) > 1, "the loss is said")
    event, fields = lines(caplog)[1]
    assert event == "journal events dropped"
    assert fields["events"] == fields["total"] >= 1
    path.rmdir()
    assert journal.flush(PATIENCE_S)
    wait_until(lambda: lines(caplog)[-1][0] == "journal is written again", "the recovery is said")
    assert len(lines(caplog)) == 3


@pytest.mark.slow
def test_a_damaged_journal_is_said(
    open_journal: Open, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1_000)
    open_journal().record(prediction())
    wait_until(lambda: bool(lines(caplog)), "the fault is said")
    assert "it is damaged or not an SQLite file" in lines(caplog)[0][1]["problem"]


def test_an_event_that_is_none_is_said_even_if_nothing_else_happens(
    open_journal: Open, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal()
    assert journal.flush(PATIENCE_S)
    assert not journal.record("no event")  # type: ignore[arg-type]
    wait_until(lambda: bool(lines(caplog)), "the loss is said")
    assert lines(caplog)[0][1]["total"] == 1


def test_one_line_a_minute_of_each_kind_says_how_many_were_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "classmark.journal")
    now = [0.0]
    faults = FaultLog(lambda: now[0])
    status = JournalStatus(written=0, dropped=0, queued=0, failing=True, last_error="full")
    for second in range(121):
        now[0] = second
        faults.report(replace(status, dropped=10 * (second + 1)))
    kinds: dict[str, list[Any]] = {}
    for event, fields in lines(caplog):
        kinds.setdefault(event, []).append((fields.get("left_out", 0), fields.get("events")))
    assert kinds == {
        "journal cannot be written": [(0, None), (59, None), (59, None)],
        "journal events dropped": [(0, 10), (59, 600), (59, 600)],
    }
    for _ in range(2):
        faults.report(replace(status, dropped=1210, failing=False))
    assert [event for event, _ in lines(caplog)].count("journal is written again") == 1


def test_a_damaged_row_is_an_error_of_the_journal(open_journal: Open, path: Path) -> None:
    journal = open_journal()
    event = prediction()
    journal.record(event)
    journal.record(feedback(event.prediction_id))
    assert journal.flush(PATIENCE_S)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE predictions SET ranked = 'no JSON'")
    with pytest.raises(InvalidJournal, match=r"holds a damaged prediction, '\w{26}'"):
        journal.find(event.prediction_id)
