"""Logs of the service: one JSON object a line, on stderr or in a file, never a paper's text."""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from classmark.errors import StorageFailed
from classmark.journal.config import LOGGER_NAME as JOURNAL_LOGGER_NAME

LOGGER_NAME = "classmark.service"
_EXTRA = "fields"
_MAX_MESSAGE_CHARS = 500
_MAX_WAITING_LINES = 100
_MAX_WAITING_BYTES = 1 << 20
_RARELY_S = 10.0
_LOG_MODE = 0o640
_LEVEL_NAMES = {logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}
_WORTH_A_WARNING = frozenset((401, 403, 408, 421, 429, 431, 503, 504))
"""Somebody is refused, or the service has more to do than it can."""
_rare_events: dict[str, tuple[float, int]] = {}
_ATOMIC_BYTES = 4096
"""So much a pipe takes as one piece, so that lines of several workers do not mix."""


class AccessEntry(NamedTuple):
    """What is logged of a request.

    Attributes:
        request_id: plain characters only.
        method, route: as in the metrics.
        status: of the response.
        duration_ms: from the first byte seen to the last one given to the socket.
        client: its address.
        facts: what else there is to say.
    """

    request_id: str
    method: str
    route: str
    status: int
    duration_ms: float
    client: str
    facts: dict[str, Any]


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object: time, level, event, and what came with it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            # asyncio continues its messages with values, which may contain a text.
            "event": record.getMessage().partition("\n")[0][:_MAX_MESSAGE_CHARS],
            "pid": record.process,
        }
        line.update(getattr(record, _EXTRA, {}))
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = _without_values(record.exc_info[1])
        return json.dumps(line, ensure_ascii=True, default=str)


class _DirectHandler(logging.Handler):
    """Writes to stderr or a file; a line that its reader leaves no room for is dropped."""

    def __init__(self, file: Path | None = None) -> None:
        super().__init__()
        self._closing = ExitStack()
        self._write = _writer(file, self._closing)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        with suppress(OSError):
            self._write((self.format(record) + "\n").encode("ascii"))

    def close(self) -> None:
        """Close what was opened for it."""
        self._closing.close()
        super().close()


def set_up_logs(
    stream: TextIO | None = None, *, file: Path | None = None, level: str = "info"
) -> None:
    """Send the logs of this process somewhere as JSON lines; a second call does so again.

    Args:
        stream: to write to.
        file: to append to, if there is no stream; without both it is stderr.
        level: lines below it are left out.

    Raises:
        StorageFailed: the file cannot be opened. The logs continue where they were.
    """
    handler = _DirectHandler(file) if stream is None else logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    lowest = level_number(level)
    names = (LOGGER_NAME, JOURNAL_LOGGER_NAME, "uvicorn.error", "asyncio")
    for old in {h for name in names for h in logging.getLogger(name).handlers}:
        if isinstance(old, _DirectHandler):
            old.close()
    for name in names:
        target = logging.getLogger(name)
        target.handlers[:] = [handler]
        target.propagate = False
        is_ours = name in (LOGGER_NAME, JOURNAL_LOGGER_NAME)
        target.setLevel(lowest if is_ours else max(lowest, logging.WARNING))
    # What it has to say of a form, the reply says too.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


def level_number(level: str) -> int:
    """Return a level of ``log_level`` as ``logging`` counts."""
    return logging.getLevelNamesMapping()[level.upper()]


def log(event: str, level: int = logging.INFO, **fields: object) -> None:
    """Write one line about the service."""
    logging.getLogger(LOGGER_NAME).log(level, event, extra={_EXTRA: fields})


def log_rarely(event: str, level: int = logging.WARNING, **fields: object) -> None:
    """Write one line about what may happen often: of each event one every ten seconds.

    The next line says how many were left out.
    """
    now = time.monotonic()
    last, n_left_out = _rare_events.get(event, (-_RARELY_S, 0))
    if now - last < _RARELY_S:
        _rare_events[event] = (last, n_left_out + 1)
        return
    _rare_events[event] = (now, 0)
    log(event, level, **fields, **({"left_out": n_left_out} if n_left_out else {}))


def log_failure(event: str, error: BaseException, **fields: object) -> None:
    """Write where an unexpected error arose; its message may hold a text, so it is left out."""
    logging.getLogger(LOGGER_NAME).error(
        event, extra={_EXTRA: fields}, exc_info=(type(error), error, error.__traceback__)
    )


class AccessLog:
    """Writes one line a request; lines wait for ``flush``, or until there are some of them.

    The logging machinery takes longer for a line than the model takes for a paper.
    """

    def __init__(self, file: int | Path | None = None, lowest: int = logging.INFO) -> None:
        """Begin a log.

        Args:
            file: a path, or a file descriptor; stderr if left out.
            lowest: level below which lines are left out.

        Raises:
            StorageFailed: the file cannot be opened.
        """
        self._closing = ExitStack()
        self._write = _writer(file, self._closing)
        self._lowest = lowest
        self._waiting = bytearray()
        self._n_dropped = 0
        self._lines: list[str] = []
        self._second = 0
        self._second_text = ""
        self._pid = os.getpid()

    def write(self, entry: AccessEntry) -> None:
        """Take the line of one request."""
        level = level_of(entry.status)
        if level < self._lowest:
            return
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        more = ", " + json.dumps(entry.facts)[1:-1] if entry.facts else ""
        # What is spelled by hand holds no character that JSON must escape; see ``Exchange``.
        self._lines.append(
            f'{{"time": "{self._second_text}.{int(now % 1 * 1000):03d}Z", '
            f'"level": "{_LEVEL_NAMES[level]}", '
            f'"event": "request", "pid": {self._pid}, "request_id": "{entry.request_id}", '
            f'"method": {json.dumps(entry.method)}, "route": {json.dumps(entry.route)}, '
            f'"status": {entry.status}, "duration_ms": {entry.duration_ms:.3f}, '
            f'"client": {json.dumps(entry.client)}{more}}}\n'
        )
        if len(self._lines) >= _MAX_WAITING_LINES:
            self.flush()

    def flush(self) -> None:
        """Write the waiting lines; a log that is not read does not stop the service.

        A MiB of lines waits for its reader, further ones are dropped, and that is logged.
        """
        lines, self._lines = self._lines, []
        if len(self._waiting) < _MAX_WAITING_BYTES:
            if self._n_dropped and lines:
                lines.append(self._dropped_line())
            self._waiting += "".join(lines).encode("ascii")
        else:
            self._n_dropped += len(lines)
        try:
            while self._waiting:
                del self._waiting[: self._write(self._next_piece())]
        except BlockingIOError:
            return
        except OSError:
            self._waiting.clear()

    def close(self) -> None:
        """Write what can be written, and close what was opened for it."""
        self.flush()
        self._closing.close()

    def _next_piece(self) -> bytes:
        """Return as many whole lines as are written at once, of a longer line the whole."""
        end = self._waiting.rfind(b"\n", 0, _ATOMIC_BYTES) + 1
        return bytes(self._waiting[: end or _ATOMIC_BYTES])

    def _dropped_line(self) -> str:
        n, self._n_dropped = self._n_dropped, 0
        fields = {"level": "warning", "event": "log lines dropped", "pid": self._pid, "lines": n}
        return json.dumps({"time": _utc(time.time()), **fields}) + "\n"


def level_of(status: int) -> int:
    """Return how serious the outcome of a request is for the operator, as ``logging`` counts."""
    if status in _WORTH_A_WARNING:
        return logging.WARNING
    return logging.ERROR if status >= 500 else logging.INFO


def _writer(file: int | Path | None, closing: ExitStack) -> Callable[[bytes], int]:
    """Return what writes to a log; to a pipe or socket without waiting for the reader.

    Several processes may append to one file. Other processes have the same pipe or socket, so it
    must not itself be made non-blocking.

    Raises:
        StorageFailed: the file cannot be opened.
    """
    if file is None:
        handle = sys.stderr.fileno()
    elif isinstance(file, int):
        handle = file
    else:
        handle = _opened_file(file)
        closing.callback(os.close, handle)
    mode = os.fstat(handle).st_mode
    if stat.S_ISFIFO(mode):
        with suppress(OSError):  # where there is no /proc
            own = os.open(f"/proc/self/fd/{handle}", os.O_WRONLY | os.O_NONBLOCK)
            closing.callback(os.close, own)
            return partial(os.write, own)
    if stat.S_ISSOCK(mode):
        own_socket = closing.enter_context(socket.socket(fileno=os.dup(handle)))
        return lambda data: own_socket.send(data, socket.MSG_DONTWAIT)
    return partial(os.write, handle)


def _opened_file(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, _LOG_MODE)
    except OSError as error:
        raise StorageFailed(
            f"the log file {path} cannot be opened ({error.strerror}). Make its folder, let the "
            "user that this runs as write there, or choose another --log-file."
        ) from error


def _utc(created: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created))
    return f"{whole}.{int(created % 1 * 1000):03d}Z"


def _without_values(error: BaseException) -> dict[str, Any]:
    """Return the type of an error and its places in the code, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "type": type(error).__name__,
        "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
