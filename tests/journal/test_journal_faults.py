"""Real faults: a full disk, a read-only one, a killed process, several processes at once."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from journal_events import PATIENCE_S, has_ended, prediction, wait_until

from classmark.journal import Journal, JournalConfig, database, read_predictions
from classmark.journal.database import journal_files
from classmark.journal.forget import Forgettable, forget
from classmark.journal.writer import FileWriter

Open = Callable[..., Journal]

# Records without pause or end, and says after each event which one it was, when, and how many are
# written; at first, which process writes.
WRITER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from classmark.journal import Journal, JournalConfig
from journal_events import PATIENCE_S, prediction
journal = Journal(JournalConfig(path=Path(sys.argv[1]), rotate_bytes=int(sys.argv[3])))
assert journal.flush(PATIENCE_S)
print(journal.writer_pid, flush=True)
while True:
    event = prediction()
    kept = journal.record(event)
    written = journal.status().written
    print(event.prediction_id, time.monotonic_ns(), int(kept), written, flush=True)
    time.sleep(0.0005)
"""
WINDOW_NS = 250_000_000
NEVER_BYTES = 1 << 40


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(filler: Path) -> None:
    """Write a file until there is no room."""
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def ids_in(path: Path) -> list[str]:
    return [found.event.prediction_id for found in read_predictions(path)]


def start_writer(path: Path, rotate_bytes: int = NEVER_BYTES) -> subprocess.Popen[str]:
    arguments = [str(path), str(Path(__file__).parent), str(rotate_bytes)]
    command = [sys.executable, "-c", WRITER, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_after(process: subprocess.Popen[str], n_lines: int) -> tuple[int, list[list[str]]]:
    """Kill one that records after so many events; return when, and all that it said.

    What it had passed on is written by then.
    """
    assert process.stdout is not None
    writer_pid = int(process.stdout.readline())
    lines = [process.stdout.readline() for _ in range(n_lines)]
    at_ns = time.monotonic_ns()
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    wait_until(lambda: has_ended(writer_pid), "its writer has ended")
    return at_ns, [line.split() for line in lines if line.endswith("\n")]


def said_written(said: list[list[str]]) -> set[str]:
    """Return the events that were written by the count of the process: those recorded first."""
    return {line[0] for line in said[: int(said[-1][3])]}


def test_a_full_disk_is_counted_and_recovers(open_journal: Open, small_disk: Path) -> None:
    path = small_disk / "journal.sqlite"
    journal = open_journal(path=path, capacity_events=2_000)
    first = prediction()
    journal.record(first)
    assert journal.flush(PATIENCE_S)
    filler = small_disk / "filler"
    fill(filler)
    kept = [event for event in [prediction() for _ in range(3_000)] if journal.record(event)]
    wait_until(lambda: journal.status().failing, "the journal notices the full disk")
    status = journal.status()
    assert "the disk is full" in str(status.last_error)
    assert status.written + status.dropped + status.queued == 3_001
    assert status.dropped >= 1_000
    filler.unlink()
    assert journal.flush(PATIENCE_S)
    assert not journal.status().failing
    assert set(ids_in(path)) == {first.prediction_id, *(e.prediction_id for e in kept)}
    assert journal.status().written == 1 + len(kept)


def test_what_comes_while_writing_fails_is_written_without_another_event(
    open_journal: Open, path: Path
) -> None:
    obstacle = path.parent
    obstacle.write_text("in the way of the folder")
    journal = open_journal()
    events = [prediction(), prediction()]
    for event in events:  # the second comes when the first has been tried
        journal.record(event)
        assert not journal.flush(0.3)
        wait_until(lambda: journal.status().failing, "the journal notices the obstacle")
    obstacle.unlink()
    wait_until(lambda: journal.status().queued == 0, "both are written")
    assert ids_in(path) == sorted(event.prediction_id for event in events)


def test_a_disk_that_is_full_at_the_start_is_counted_and_recovers(
    open_journal: Open, small_disk: Path
) -> None:
    fill(small_disk / "filler")
    path = small_disk / "journal.sqlite"
    journal = open_journal(path=path)
    event = prediction()
    assert journal.record(event)
    wait_until(lambda: journal.status().failing, "the journal notices the full disk")
    (small_disk / "filler").unlink()
    assert journal.flush(PATIENCE_S)
    assert ids_in(path) == [event.prediction_id]


def test_a_read_only_disk_is_counted_and_recovers(open_journal: Open, small_disk: Path) -> None:
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remount, check=True)
    path = small_disk / "journal.sqlite"
    journal = open_journal(path=path)
    event = prediction()
    assert journal.record(event)
    wait_until(lambda: journal.status().failing, "the journal notices the read-only disk")
    assert "cannot be opened. Check the path" in str(journal.status().last_error)
    subprocess.run([*remount[:2], "remount,rw", str(small_disk)], check=True)
    assert journal.flush(PATIENCE_S)
    assert ids_in(path) == [event.prediction_id]


def test_a_journal_on_a_read_only_disk_is_read_with_a_writer_and_without_one(
    small_disk: Path, tmp_path: Path
) -> None:
    """As a container sees it that mounts the folder of the service read-only."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    subprocess.run(["mount", "--bind", str(small_disk), str(mounted)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(mounted)], check=True)
        writer = FileWriter(JournalConfig(path=small_disk / "journal.sqlite"))
        first, second = sorted((prediction(), prediction()), key=lambda e: e.prediction_id)
        for written in ([first], [first, second]):
            writer.write(written[-1:])
            assert ids_in(mounted / "journal.sqlite") == [e.prediction_id for e in written]
        writer.close()  # takes the log away, as with a file that is full
        assert [file.name for file in mounted.iterdir()] == ["journal.sqlite"]
        assert ids_in(mounted / "journal.sqlite") == [first.prediction_id, second.prediction_id]
    finally:
        subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def test_a_database_that_may_not_grow_keeps_nothing_of_a_batch_and_recovers(path: Path) -> None:
    """The portable form of the full disk: SQLite's own limit of pages."""
    writer = FileWriter(JournalConfig(path=path))
    writer.open().execute("PRAGMA max_page_count = 24")
    events = [prediction() for _ in range(500)]
    with pytest.raises(sqlite3.OperationalError, match="full") as fault:
        writer.write(events)
    assert "the disk is full. Free some space" in database.in_words(fault.value)
    assert ids_in(path) == []
    writer.close()  # the next connection has no such limit
    assert writer.write(events).written == 500
    writer.close()
    assert ids_in(path) == sorted(event.prediction_id for event in events)


def test_a_database_that_another_process_holds_is_waited_for(
    open_journal: Open, path: Path
) -> None:
    journal = open_journal(busy_timeout_ms=1)
    assert journal.flush(PATIENCE_S)
    wait_until(path.exists, "the file is begun")
    event = prediction()
    with closing(sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_S)) as other, other:
        other.execute("BEGIN IMMEDIATE")
        journal.record(event)
        wait_until(lambda: journal.status().failing, "the journal waits in vain")
        assert "another process holds it" in str(journal.status().last_error)
        other.execute("COMMIT")
    other.close()
    assert journal.flush(PATIENCE_S)
    assert ids_in(path) == [event.prediction_id]


@pytest.mark.slow
def test_sigkill_under_load_loses_at_most_the_window(path: Path) -> None:
    killed_ns, said = kill_after(start_writer(path), 2_000)
    kept = set(ids_in(path))
    lost_ages_ns = [
        killed_ns - int(at_ns) for event, at_ns, ok, _ in said if ok == "1" and event not in kept
    ]
    assert len(kept) > 1_000
    # On a starved machine nothing is passed on while the process does not run.
    pause_ns = max(int(b[1]) - int(a[1]) for a, b in pairwise(said))
    assert max(lost_ages_ns, default=0) <= WINDOW_NS + pause_ns


@pytest.mark.slow
def test_sigkill_of_one_writer_leaves_the_others_writing(open_journal: Open, path: Path) -> None:
    survivor = open_journal()
    events = [prediction() for _ in range(300)]
    writers = [start_writer(path), start_writer(path)]
    for n_lines, writer in zip((200, 400), writers, strict=True):
        for event in events[: n_lines - 100]:
            survivor.record(event)
        kill_after(writer, n_lines)
    assert survivor.flush(PATIENCE_S)
    assert survivor.status().dropped == 0
    assert {event.prediction_id for event in events} <= set(ids_in(path))
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_change_that_a_killed_process_left_half_made_is_taken_back_by_a_reader(
    path: Path,
) -> None:
    journal = Journal(JournalConfig(path=path))
    journal.record(prediction())
    journal.close(PATIENCE_S)
    before = ids_in(path)
    code = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = DELETE")
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("CREATE TABLE more (text)")
connection.executemany("INSERT INTO more VALUES (?)", [("x" * 9000,)] * 50)
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert path.with_name(f"{path.name}-journal").stat().st_size > 0
    assert ids_in(path) == before


@pytest.mark.slow
def test_several_processes_rotate_without_losing_or_doubling(path: Path) -> None:
    writers = [start_writer(path, rotate_bytes=128 * 1024) for _ in range(3)]
    outcomes = [kill_after(writer, 500) for writer in writers]
    found = ids_in(path)
    assert len(found) == len(set(found))
    assert len(journal_files(path)) >= 3
    written = [said_written(said) for _, said in outcomes]
    assert all(written)
    assert set().union(*written) <= set(found)
    for file in journal_files(path):
        with closing(sqlite3.connect(file)) as connection, connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()


@pytest.mark.slow
def test_forgetting_while_another_process_writes_loses_nothing_else(path: Path) -> None:
    writer = start_writer(path, rotate_bytes=128 * 1024)
    wait_until(lambda: path.exists() and len(ids_in(path)) > 200, "there is something to forget")
    doomed = ids_in(path)[:200:20]
    for prediction_id in doomed:
        assert forget(path, Forgettable(prediction_ids=(prediction_id,))).predictions == 1
    # More than the pipe holds: some of them are recorded after the last `forget` let the file go.
    _, said = kill_after(writer, 2_500)
    old = said_written(said)
    found = set(ids_in(path))
    assert all(ok == "1" for _, _, ok, _ in said)
    assert len(old) > len(doomed)
    assert old - set(doomed) <= found
    assert not found & set(doomed)
