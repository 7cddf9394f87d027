"""The process that writes: it may be killed, stopped or left alone, and every event is counted."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_events import PATIENCE_S, feedback, has_ended, ids_in, prediction, wait_until

from classmark.journal import Journal, JournalConfig
from classmark.journal.process import (
    Batch,
    Written,
    pack_event,
    receive_frame,
    send_frame,
    serve,
    unpack_event,
)

Open = Callable[..., Journal]
posix = pytest.mark.skipif(os.name == "nt", reason="there are no such signals")

RECORDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from classmark.journal import Journal, JournalConfig
from journal_events import PATIENCE_S, prediction
journal = Journal(JournalConfig(path=Path(sys.argv[1]), flush_window_ms=1))
journal.record(prediction())
journal.flush(PATIENCE_S)
print(journal.writer_pid, flush=True)
sys.stdin.read()
"""


def writer_of(journal: Journal) -> int:
    """Return the number of the writing process when it has written."""
    journal.record(feedback("0" * 26))
    assert journal.flush(PATIENCE_S)
    assert journal.writer_pid is not None
    return journal.writer_pid


@posix
def test_a_writer_that_is_killed_loses_nothing_and_doubles_nothing(
    open_journal: Open, path: Path
) -> None:
    journal = open_journal(flush_window_ms=1)
    events = [prediction() for _ in range(3_000)]
    writers: list[int] = []
    for number, event in enumerate(events):
        assert journal.record(event)
        if number % 1_000 == 500:
            writers.append(writer_of(journal))
            for later in range(20):  # some of them are on their way when it dies
                journal.record(feedback(events[later].prediction_id, f"cs.{number}"))
            os.kill(writers[-1], signal.SIGKILL)
    assert journal.flush(PATIENCE_S)
    assert ids_in(path) == sorted(event.prediction_id for event in events)
    status = journal.status()
    assert (status.written, status.dropped, status.queued) == (3_063, 0, 0)
    assert len(set(writers)) == 3
    assert all(has_ended(pid) for pid in writers)


@posix
def test_a_writer_that_stands_still_fills_the_queue_and_then_events_are_dropped(
    open_journal: Open, path: Path
) -> None:
    journal = open_journal(capacity_events=100)
    pid = writer_of(journal)
    os.kill(pid, signal.SIGSTOP)
    kept = [event for event in [prediction() for _ in range(250)] if journal.record(event)]
    status = journal.status()
    assert (len(kept), status.written, status.dropped, status.queued) == (100, 1, 150, 100)
    os.kill(pid, signal.SIGCONT)
    assert journal.flush(PATIENCE_S)
    assert ids_in(path) == sorted(event.prediction_id for event in kept)
    assert journal.status().written + journal.status().dropped == 251


@posix
def test_closing_ends_a_writer_that_does_not_answer_and_counts_what_it_had(
    open_journal: Open,
) -> None:
    journal = open_journal()
    pid = writer_of(journal)
    os.kill(pid, signal.SIGSTOP)
    for _ in range(3):
        journal.record(prediction())
    assert journal.close(0.05) == 3
    assert (journal.status().dropped, journal.status().queued) == (3, 0)
    wait_until(lambda: has_ended(pid), "the writer has ended")


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_group_is_not_for_the_writer(
    open_journal: Open, path: Path, number: int
) -> None:
    journal = open_journal()
    pid = writer_of(journal)
    os.kill(pid, number)
    event = prediction()
    journal.record(event)
    assert writer_of(journal) == pid
    assert ids_in(path) == [event.prediction_id]


@posix
def test_a_writer_ends_with_the_process_that_records_even_if_that_is_killed(path: Path) -> None:
    command = [sys.executable, "-c", RECORDER, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as recorder:
        assert recorder.stdout is not None
        pid = int(recorder.stdout.readline())
        assert not has_ended(pid)
        recorder.kill()
    wait_until(lambda: has_ended(pid), "the writer has ended")
    assert len(ids_in(path)) == 1


def test_closing_leaves_no_process(open_journal: Open) -> None:
    journal = open_journal()
    pid = writer_of(journal)
    assert journal.close(PATIENCE_S) == 0
    assert journal.writer_pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_writer_loads_neither_numpy_nor_the_service() -> None:
    code = (
        "import sys, classmark.journal.process\n"
        "print({'numpy', 'classmark.service'} & {*sys.modules})"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


def test_a_batch_that_is_cut_off_is_not_written_and_the_one_before_it_is(path: Path) -> None:
    event = prediction()
    frames = io.BytesIO()
    for batch in (Batch(100, [pack_event(event)]), Batch(100, [pack_event(prediction())])):
        send_frame(frames, msgspec.msgpack.encode(batch))
    answers = io.BytesIO()
    serve(JournalConfig(path=path), io.BytesIO(frames.getvalue()[:-1]), answers)
    answer = receive_frame(io.BytesIO(answers.getvalue()))
    assert answer is not None
    written = msgspec.msgpack.decode(answer, type=Written)
    assert written.outcome is not None
    assert written.outcome.written == 1
    assert ids_in(path) == [event.prediction_id]


@given(contents=st.lists(st.binary(max_size=300)), cut=st.integers(0, 400))
def test_frames_come_back_whole_or_not_at_all(contents: list[bytes], cut: int) -> None:
    stream = io.BytesIO()
    ends = [0]
    for content in contents:
        send_frame(stream, content)
        ends.append(stream.tell())
    left = io.BytesIO(stream.getvalue()[: max(0, ends[-1] - cut)])
    found = []
    while (frame := receive_frame(left)) is not None:
        found.append(frame)
    n_whole = sum(end <= max(0, ends[-1] - cut) for end in ends[1:])
    assert found == contents[:n_whole]


def test_a_huge_frame_passes_a_real_pipe() -> None:
    content = os.urandom(1 << 20) * 20
    theirs, ours = os.pipe()
    with os.fdopen(theirs, "rb") as receiver, os.fdopen(ours, "wb") as sender:
        thread = Thread(target=send_frame, args=(sender, content))
        thread.start()
        assert receive_frame(receiver) == content
        thread.join()


@given(
    text=st.text(),
    shares=st.lists(st.tuples(st.text(max_size=9), st.floats(allow_nan=False)), max_size=12),
)
def test_an_event_comes_back_as_it_was(text: str, shares: list[tuple[str, float]]) -> None:
    event = prediction(text=text, paper_id=text[:50], ranked=tuple(shares))
    assert unpack_event(pack_event(event)) == event
    said = feedback(event.prediction_id, text[:20], comment=text[:500])
    assert unpack_event(pack_event(said)) == said
