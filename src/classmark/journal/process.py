"""The process that writes a journal, and the pipes between it and the process that records.

Both ends are here. A batch goes out as one frame and is answered by one: what became of its events,
or why nothing was written, and the lines that the writer wants in the log. The recorder keeps the
events until then, so a writer that is killed loses none. It ends when its input does: with the
recorder, however that ends.
"""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from threading import Lock
from typing import Any, BinaryIO

import msgspec

from classmark.errors import ClassmarkError, InvalidJournal, WorkerFailed
from classmark.journal import database
from classmark.journal.config import LOGGER_NAME, JournalConfig
from classmark.journal.inserter import Event, Outcome
from classmark.journal.place import in_clear, place_of
from classmark.journal.rows import storable
from classmark.journal.writer import Writer, writer_for
from classmark.records import FeedbackEvent, PredictionEvent

_LENGTH_BYTES = 8
_KINDS = {PredictionEvent: b"p", FeedbackEvent: b"f"}
# -P: a file of the current folder must not replace a module.
_COMMAND = (sys.executable, "-P", "-c", "from classmark.journal.process import main; main()")
_END_S = 1.0
_log = logging.getLogger(LOGGER_NAME)

_pack = msgspec.msgpack.Encoder().encode
_unpack_events: dict[int, Callable[[memoryview], Event]] = {
    ord(kind): msgspec.msgpack.Decoder(event).decode for event, kind in _KINDS.items()
}


class Batch(msgspec.Struct, array_like=True, frozen=True):
    """What the writer is asked to write.

    Attributes:
        busy_timeout_ms: how long to wait for other processes.
        events: from ``pack_event``.
    """

    busy_timeout_ms: int
    events: Sequence[bytes]


class Written(msgspec.Struct, array_like=True, frozen=True):
    """What became of a batch.

    Attributes:
        outcome: of its events; None if nothing was written.
        problem: why nothing was.
        lines: level, event and fields of lines for the log.
    """

    outcome: Outcome | None
    problem: str | None
    lines: list[tuple[int, str, dict[str, Any]]]


_unpack_batch = msgspec.msgpack.Decoder(Batch).decode
_unpack_written = msgspec.msgpack.Decoder(Written).decode


def pack_event(event: Event) -> bytes:
    """Return an event as the writer takes it.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: it is not an event, or holds something
            other than texts, numbers and lists.
    """
    kind = _KINDS[type(event)]
    try:
        return kind + _pack(event)
    except UnicodeEncodeError:  # half a character
        values = msgspec.to_builtins(event)
        texts = {name: storable(text) for name, text in values.items() if isinstance(text, str)}
        return kind + _pack({**values, **texts})


def unpack_event(packed: bytes) -> Event:
    """Return the event of ``pack_event``.

    Raises:
        ValueError: a value has the wrong type.
    """
    return _unpack_events[packed[0]](memoryview(packed)[1:])


def send_frame(stream: BinaryIO, content: bytes) -> None:
    """Write a frame: its length, then its content.

    Raises:
        OSError, ValueError: nobody reads, or the stream is closed.
    """
    stream.write(len(content).to_bytes(_LENGTH_BYTES) + content)
    stream.flush()


def receive_frame(stream: BinaryIO) -> bytes | None:
    """Return the content of the next frame; None if the stream ends before the frame does."""
    head = stream.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    n_bytes = int.from_bytes(head)
    content = stream.read(n_bytes)
    return content if len(content) == n_bytes else None


class WriterProcess:
    """The writer as the process that records sees it; started when needed, also after its death."""

    def __init__(self, config: JournalConfig) -> None:
        """Start nothing yet."""
        self._config = config
        self._lock = Lock()
        self._is_ended = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Number of the process, None if there is none."""
        process = self._process
        return process.pid if process else None

    def write(self, batch: Batch) -> Outcome:
        """Have a batch written, and wait until it is.

        Raises:
            InvalidJournal: nothing was written; says why.
            WorkerFailed: the writer ended before it answered.
            OSError: it cannot be started.
        """
        process = self._started()
        try:
            send_frame(process.stdin, _pack(batch))  # type: ignore[arg-type]
            answer = receive_frame(process.stdout)  # type: ignore[arg-type]
        except (OSError, ValueError):  # ValueError: the pipe was closed meanwhile
            answer = None
        if answer is None:
            code = self._reap()
            raise WorkerFailed(
                f"journal {self._config.path}: the process that writes it ended with code {code}. "
                "Another one is started."
            )
        written = _unpack_written(answer)
        for level, event, facts in written.lines:
            _log.log(level, event, extra={"fields": facts})
        if written.outcome is None:
            raise InvalidJournal(written.problem or "")
        return written.outcome

    def kill(self) -> None:
        """End the process at once, and start none again; for any thread."""
        with self._lock:
            self._is_ended = True
            process = self._process
        if process is not None:
            with suppress(OSError):
                process.kill()

    def close(self) -> None:
        """Let the process end, in order; for the thread that calls ``write``."""
        with self._lock:
            self._is_ended = True
        if self._process is not None:
            with suppress(OSError):
                self._process.stdin.close()  # type: ignore[union-attr]
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            self._reap()

    def _started(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._is_ended:
                raise WorkerFailed(f"journal {self._config.path} is closed.")
            if self._process is not None:
                return self._process
            path = os.pathsep.join(filter(None, sys.path))
            process = subprocess.Popen(
                _COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )
            self._process = process
        options = {**asdict(self._config), "path": in_clear(self._config.path)}
        with suppress(OSError):  # that it has died already, reading its answer says
            send_frame(process.stdin, _pack(options))  # type: ignore[arg-type]
        return process

    def _reap(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        return process.returncode


class _Lines(logging.Handler):
    """Keeps the lines of the log for the process that has one."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[tuple[int, str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append((record.levelno, record.getMessage(), getattr(record, "fields", {})))

    def take(self) -> list[tuple[int, str, dict[str, Any]]]:
        lines, self._lines = self._lines, []
        return lines


def main() -> None:
    """Be the writer: read batches from stdin and answer on stdout until stdin ends.

    Signals to the whole group of processes are for the recorder, which then ends the writer.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    frames, answers = sys.stdin.buffer, sys.stdout.buffer
    first = receive_frame(frames)
    if first is None:
        return
    options = msgspec.msgpack.decode(first)
    serve(JournalConfig(**{**options, "path": place_of(options["path"])}), frames, answers)


def serve(config: JournalConfig, frames: BinaryIO, answers: BinaryIO) -> None:
    """Write batches until there are no more, or nobody wants the answers."""
    lines = _Lines()
    _log.addHandler(lines)
    _log.setLevel(logging.INFO)
    writer = writer_for(config)
    try:
        while (frame := receive_frame(frames)) is not None:
            outcome, problem = None, None
            try:
                outcome = _write(writer, _unpack_batch(frame))
            except Exception as error:  # noqa: BLE001 - the recorder is waiting for the reason
                problem = problem_of(config, error)
                with suppress(sqlite3.Error):  # the next attempt opens a new one
                    writer.close()
            send_frame(answers, _pack(Written(outcome, problem, lines.take())))
    except BrokenPipeError:
        pass  # the recorder has ended
    finally:
        _log.removeHandler(lines)
        with suppress(sqlite3.Error):
            writer.close()


def _write(writer: Writer, batch: Batch) -> Outcome:
    writer.limit_waiting(batch.busy_timeout_ms)
    writer.open()
    events, refused, problem = [], 0, None
    for packed in batch.events:
        try:
            events.append(unpack_event(packed))
        except ValueError as error:
            refused, problem = refused + 1, f"an event was refused: {error}"
    outcome = writer.write(events) if events else Outcome(0, 0, None)
    return Outcome(outcome.written, outcome.refused + refused, outcome.problem or problem)


def problem_of(config: JournalConfig, error: Exception) -> str:
    """Return why a journal cannot be written."""
    if isinstance(error, ClassmarkError):
        return str(error)
    if isinstance(error, sqlite3.Error | OSError):
        return f"journal {config.path}: {database.in_words(error)}"
    return f"journal {config.path}: {type(error).__name__}: {error}"
