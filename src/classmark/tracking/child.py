"""A tracker whose library lives in a process of its own: both ends of the pipe between them.

The fit sends JSON lines; the process prints one line if it fails. Such a library takes seconds to
import, tries for minutes to reach what does not answer, and talks on stderr. In a process of its
own it costs a fit no time, and can be given up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Thread
from typing import IO, Any

from classmark.errors import TrackerDown
from classmark.tracking.tracker import RunInfo, Status

# After a failure or Ctrl-C nobody waits for the library to start.
_SHORT_PATIENCE_S = 5.0
_ROWS_AT_ONCE = 1000
_SECONDS_BETWEEN = 1.0
_QUEUE_LENGTH = 10_000
_FEEDER_SECONDS = 5.0
# -P: a file of the current folder must not replace a module.
_PYTHON = (sys.executable, "-P", "-m")


class ChildTracker(ABC):
    """Keeps a run in another process: every call only queues, ``finish`` waits.

    Args:
        patience_s: longest that ``finish`` waits, in seconds.
    """

    writer: str
    """Module that the process runs."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._process: WriterProcess | None = None
        self._rows: list[tuple[int, int, dict[str, float]]] = []
        self._sent_at = 0.0

    @property
    @abstractmethod
    def name(self) -> str:
        """Return what a warning calls it."""

    @abstractmethod
    def figure(self, name: str, svg_or_png: Path) -> None:
        """Queue a picture."""

    @abstractmethod
    def model(self, folder: Path, files: Sequence[Path]) -> None:
        """Queue the files of the fitted model."""

    @abstractmethod
    def _environment(self, run: RunInfo) -> dict[str, str]:
        """Return the variables of the process of a run."""

    @abstractmethod
    def _described(self, run: RunInfo) -> dict[str, Any]:
        """Return what the process learns of a run, and where it is kept."""

    def start(self, run: RunInfo) -> None:
        """Start the process; it gets the run when it is ready."""
        self._process = WriterProcess(self.writer, self._environment(run))
        self._send({"call": "start", **self._described(run)})

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int | None = None) -> None:
        """Queue numbers of one step; they go on together with those of the same second."""
        now_ms = time.time_ns() // 1_000_000
        named = {name: float(value) for name, value in values.items()}
        if epoch is not None:
            named["epoch"] = epoch
        self._rows.append((now_ms, step, named))
        waited_s = time.monotonic() - self._sent_at
        if waited_s >= _SECONDS_BETWEEN or len(self._rows) >= _ROWS_AT_ONCE:
            self._send_rows()

    def artifact(self, path: Path, folder: str = "") -> None:
        """Queue a file."""
        self._send({"call": "artifact", "path": str(path.resolve()), "folder": folder})

    def finish(self, status: Status) -> None:
        """End the run; what has not been taken within the patience is given up."""
        self._send({"call": "finish", "status": status})
        patience_s = self._patience_s
        if status != "finished":
            patience_s = min(patience_s, _SHORT_PATIENCE_S)
        self._started().end(patience_s)

    def _send_rows(self) -> None:
        self._sent_at = time.monotonic()
        if self._rows:
            self._started().send({"call": "metrics", "rows": self._rows})
            self._rows = []

    def _send(self, message: Mapping[str, Any]) -> None:
        """Queue a message behind the numbers that were measured before it."""
        self._send_rows()
        self._started().send(message)

    def _started(self) -> WriterProcess:
        if self._process is None:
            raise TrackerDown("the run was never started")
        return self._process


class WriterProcess:
    """A writer as a child; a thread feeds it, so that a child that hangs delays nobody.

    Args:
        module: of the writer; it calls ``run_writer``.
        environment: its variables.
    """

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            (*_PYTHON, module),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=environment,
            # Ctrl-C is for the fit, which then says that it was stopped.
            start_new_session=True,
        )
        self._waiting: Queue[str | None] = Queue(_QUEUE_LENGTH)
        self._feeder = Thread(
            target=_feed, args=(self._waiting, self._process.stdin), name=module, daemon=True
        )
        self._feeder.start()

    def send(self, message: Mapping[str, Any]) -> None:
        """Queue a message.

        Raises:
            TrackerDown: the process has failed, or does not keep up.
        """
        if self._process.poll() is not None:
            raise TrackerDown(self._last_words())
        try:
            self._waiting.put_nowait(json.dumps(message) + "\n")
        except Full as error:
            self.kill()
            raise TrackerDown(f"{_QUEUE_LENGTH:,} messages wait for it") from error

    def end(self, patience_s: float) -> None:
        """Wait until every message is taken; after that long the rest is given up.

        Raises:
            TrackerDown: the process has failed, or took too long.
        """
        try:
            self._waiting.put(None, timeout=patience_s)
            failed = self._process.wait(patience_s) != 0
        except (Full, subprocess.TimeoutExpired) as error:
            raise TrackerDown(f"no answer within {patience_s:g} s") from error
        finally:
            words = self._last_words()
        if failed:
            raise TrackerDown(words)

    def kill(self) -> None:
        """End the process at once."""
        self._last_words()

    def _last_words(self) -> str:
        """End what still runs, and return what the process said, or how it ended."""
        self._process.kill()
        code = self._process.wait()
        self._stop_feeding()
        with self._process.stdout or open(os.devnull) as pipe:  # noqa: PTH123
            words = pipe.read().strip()
        return words or f"its process ended with code {code}"

    def _stop_feeding(self) -> None:
        with suppress(Empty):
            while True:
                self._waiting.get_nowait()
        self._waiting.put(None)
        self._feeder.join(_FEEDER_SECONDS)


def _feed(waiting: Queue[str | None], pipe: IO[str]) -> None:
    # The process may be gone, which the fit finds out by itself.
    with suppress(OSError):
        for line in iter(waiting.get, None):
            pipe.write(line)
            pipe.flush()
    with suppress(OSError):
        pipe.close()


class Writer(ABC):
    """What the process does with the messages of a fit; ``call`` names a method ``_take_...``."""

    def take(self, message: Mapping[str, Any]) -> None:
        """Do what a message says."""
        arguments = {key: value for key, value in message.items() if key != "call"}
        getattr(self, f"_take_{message['call']}")(**arguments)

    def describe(self, error: Exception) -> str:
        """Return on one line why a message failed."""
        return first_cause(error)

    @abstractmethod
    def close(self) -> None:
        """End a run whose fit went away without a word."""


def run_writer(writer: Writer) -> int:
    """Read stdin to its end; what fails is one line on stdout, and 1."""
    answer, sys.stdout = sys.stdout, Path(os.devnull).open("w")  # noqa: SIM115 - until the end
    try:
        write(writer, sys.stdin)
    except Exception as error:  # noqa: BLE001 - the parent decides what to do
        print(writer.describe(error), file=answer, flush=True)
        with suppress(Exception):  # its reason may be the same
            writer.close()
        return 1
    return 0


def write(writer: Writer, lines: Iterable[str]) -> None:
    """Give every line to a writer until there are no more."""
    for line in lines:
        writer.take(json.loads(line))
    writer.close()


def first_cause(error: BaseException) -> str:
    """Return the words of the first cause on one line: a library's own go on for a page."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return " ".join(str(error).split()) or type(error).__name__
