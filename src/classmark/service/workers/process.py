"""One worker process: how it is started, what it says of itself, how it ended."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from typing import TYPE_CHECKING, Protocol

from classmark.errors import ClassmarkError, advice
from classmark.service.logs import log, log_failure
from classmark.service.workers.signals import RELOAD_SIGNALS, held

if TYPE_CHECKING:
    from classmark.bundle import Bundle
    from classmark.service.http.service import Model
    from classmark.service.memory import Place
    from classmark.service.settings import ServiceSettings

FORKS = sys.platform == "linux"
"""Workers share what is loaded. macOS forbids a fork with threads, so they are spawned there."""
READY, STOPPING, FAILED = b"ready", b"stopping", b"failed: "

Say = Callable[[bytes], None]


@dataclass(frozen=True)
class Job:
    """What a worker is started with.

    Attributes:
        settings: how to serve.
        listener: bound socket, shared with other workers.
        place: among the other workers.
        model: loaded, or read, already; None reads and loads it.
    """

    settings: ServiceSettings
    listener: socket.socket
    place: Place
    model: Model | Bundle | None = None


class WorkerProcess:
    """A worker seen from its supervisor.

    Attributes:
        pid: its number.
        news: becomes readable when it says something, and when all of it has ended.
        is_ready: it serves, or has served.
        is_stopping: it has begun to stop.
        failure: why it could not serve, "" if it did not say.
        exit_code: None while it lives; minus the number of the signal that killed it.
    """

    def __init__(self, job: Job) -> None:
        """Start it.

        Raises:
            OSError: there is no process or no pipe to be had; nothing of it is left.
        """
        self.is_ready = self.is_stopping = False
        self.failure = ""
        self.exit_code: int | None = None
        self.news, theirs = connection.Pipe(duplex=False)
        try:
            with theirs, held():
                self._process: _Process = (_Forked if FORKS else _Spawned)(job, theirs)
        except BaseException:
            self.news.close()
            raise
        self.pid = self._process.pid

    def look(self) -> None:
        """Take note of what it has said, and of its end.

        Its end is the end of its pipe. The system closes that with the last thread of the process,
        while the process already counts as dead when its first thread has ended.
        """
        try:
            while self.exit_code is None and self.news.poll():
                self._note(self.news.recv_bytes())
        except (EOFError, OSError):
            self._bury()

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGTERM)

    def reload(self) -> None:
        """Ask it to take its keys and the settings of its log again."""
        if self.exit_code is None:
            for number in RELOAD_SIGNALS:
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        if self.exit_code is None:
            os.kill(self.pid, signal.SIGKILL)

    @property
    def ended_in_order(self) -> bool:
        """Whether it ended as asked, or died of something else before it began to stop."""
        return self.exit_code == 0 or not self.is_stopping

    def _note(self, news: bytes) -> None:
        self.is_ready = self.is_ready or news == READY
        self.is_stopping = self.is_stopping or news == STOPPING
        if news.startswith(FAILED):
            self.failure = news.removeprefix(FAILED).decode()

    def _bury(self) -> None:
        self.exit_code = self._process.wait()
        self.news.close()


class _Process(Protocol):
    """A process that was started."""

    pid: int

    def wait(self) -> int:
        """Return its exit code, when it has ended."""
        ...


class _Forked:
    """Like a process of ``multiprocessing``, which leaves pipes behind where a fork fails."""

    def __init__(self, job: Job, theirs: connection.Connection) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            _be_worker(job, theirs)

    def wait(self) -> int:
        """Return its exit code, when it has ended."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class _Spawned:
    """A process that shares nothing but what it is given."""

    def __init__(self, job: Job, theirs: connection.Connection) -> None:
        self._process = get_context("spawn").Process(target=_be_worker, args=(job, theirs))
        self._process.start()
        self.pid = self._process.pid or 0

    def wait(self) -> int:
        """Return its exit code, when it has ended."""
        self._process.join()
        return self._process.exitcode or 0


def _be_worker(job: Job, news: connection.Connection) -> None:
    """Be a worker, and end the process: nothing of its supervisor is run at its end.

    Signals are held until the worker can handle them. Ctrl-C, and the end of a terminal, go to the
    whole group of processes, but only the supervisor acts on them, and asks the workers to stop.
    """
    exit_code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)

        def say(what: bytes) -> None:
            with suppress(OSError):  # the supervisor is gone, which the worker finds out
                news.send_bytes(what)

        exit_code = _work(job, say)
    finally:
        os._exit(exit_code)


def _work(job: Job, say: Say) -> int:
    """Serve; returns the exit code. An error is logged, and its reason said to the supervisor."""
    from classmark.service.workers.worker import run_worker

    try:
        return run_worker(job, say)
    except ClassmarkError as error:
        log("worker failed", logging.ERROR, detail=str(error))
        say(FAILED + str(error).encode())
        return error.exit_code
    except Exception as error:
        log_failure("worker failed", error)
        say(FAILED + _reason(error).encode())
        return 1


def _reason(error: Exception) -> str:
    """Return why a worker failed, and what to do; the rest is in the log."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}. {advice(error, 'See the log')}."
    if isinstance(error, MemoryError):
        return "out of memory. Free some memory, or serve with fewer --workers."
    return f"{type(error).__name__}. See the log."
