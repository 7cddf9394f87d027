"""A worker process as its supervisor sees it: how it starts, what it reports, how it ends.

Signals mean the same in every process of a service: stop (SIGTERM, SIGINT) and reload (SIGHUP).
SIGHUP has a second meaning: the terminal has closed. A service that was started from a terminal
then stops in order. Under ``nohup``, and without a terminal, every SIGHUP reloads.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from typing import TYPE_CHECKING

from classmark.errors import ClassmarkError, ListenFailed, advice
from classmark.service.logs import log, log_failure

if TYPE_CHECKING:
    from classmark.bundle import Bundle
    from classmark.service.answering.model import Model
    from classmark.service.memory import Heartbeats, Place
    from classmark.service.settings import ServiceSettings

FORKS = sys.platform == "linux"
"""Workers share what is loaded. macOS forbids a fork with threads, so they are spawned there."""
READY, STOPPING, FAILED = b"ready", b"stopping", b"failed: "
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
RELOAD_SIGNALS = tuple(s for s in (getattr(signal, "SIGHUP", None),) if s)  # none on Windows
HANDLED = (*STOP_SIGNALS, *RELOAD_SIGNALS)
OTHER_DESCRIPTORS = 64
"""Of a worker, for the model, the journal, the log, and each connection that is being refused."""
_TAKEN = "Stop the program that listens there, or choose another --port"
_BIND_ADVICE = {
    errno.EADDRNOTAVAIL: "Choose another --host, which this machine has",
    errno.EACCES: "Choose a --port of 1024 or more, or let this user listen on lower ones",
}
_LONGEST_TICK_S = 1.0
_TICKS_A_VERDICT = 4

Say = Callable[[bytes], None]


@dataclass(frozen=True)
class Job:
    """What a worker is started with.

    Attributes:
        settings: how to serve.
        listener: bound socket, shared with other workers.
        place: among the other workers.
        model: loaded or read already; None reads and loads it.
    """

    settings: ServiceSettings
    listener: socket.socket
    place: Place
    model: Model | Bundle | None = None


class WorkerProcess:
    """A worker, seen from its supervisor.

    Attributes:
        pid: its number.
        news: becomes readable when it reports something, and when all of it has ended.
        is_ready: it serves, or has served.
        is_stopping: it has begun to stop.
        failure: why it could not serve, "" if it did not report that.
        exit_code: None while it lives; minus the number of the signal that killed it.
    """

    def __init__(self, job: Job) -> None:
        """Start it.

        Raises:
            OSError: no process or no pipe is available; nothing of it is left.
        """
        self.is_ready = self.is_stopping = False
        self.failure = ""
        self.exit_code: int | None = None
        self.news, theirs = connection.Pipe(duplex=False)
        try:
            with theirs, held():
                self.pid, self._wait = _start(job, theirs)
        except BaseException:
            self.news.close()
            raise

    def look(self) -> None:
        """Take note of its reports and of its end.

        Its end is the end of its pipe. The system closes that with the last thread of the process,
        while the process already counts as dead when its first thread has ended.
        """
        try:
            while self.exit_code is None and self.news.poll():
                self._note(self.news.recv_bytes())
        except (EOFError, OSError):
            self.exit_code = self._wait()
            self.news.close()

    def terminate(self) -> None:
        """Ask it to stop."""
        self._signal(signal.SIGTERM)

    def reload(self) -> None:
        """Ask it to read its keys and the settings of its log again."""
        self._signal(*RELOAD_SIGNALS)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    @property
    def ended_in_order(self) -> bool:
        """Whether it ended as asked, or died of something else before it began to stop."""
        return self.exit_code == 0 or not self.is_stopping

    def _signal(self, *numbers: int) -> None:
        if self.exit_code is None:
            for number in numbers:
                os.kill(self.pid, number)

    def _note(self, news: bytes) -> None:
        self.is_ready = self.is_ready or news == READY
        self.is_stopping = self.is_stopping or news == STOPPING
        if news.startswith(FAILED):
            self.failure = news.removeprefix(FAILED).decode()


def _start(job: Job, theirs: connection.Connection) -> tuple[int, Callable[[], int]]:
    """Start a worker.

    Returns:
        The number of its process, and what returns the exit code when the process has ended.
    """
    if FORKS:  # not by multiprocessing, which leaves pipes behind where a fork fails
        pid = os.fork()
        if pid == 0:
            _be_worker(job, theirs)
        return pid, lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    process = get_context("spawn").Process(target=_be_worker, args=(job, theirs))
    process.start()

    def wait() -> int:
        process.join()
        return process.exitcode or 0

    return process.pid or 0, wait


def _be_worker(job: Job, news: connection.Connection) -> None:
    """Be a worker, and end the process: no code of its supervisor runs at its end.

    Signals are held until the worker can handle them. Ctrl-C, and the end of a terminal, go to the
    whole group of processes, but only the supervisor acts on them, and asks the workers to stop.
    """
    exit_code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)

        def say(what: bytes) -> None:
            with suppress(OSError):  # the supervisor has died, which the worker notices
                news.send_bytes(what)

        exit_code = _work(job, say)
    finally:
        os._exit(exit_code)


def _work(job: Job, say: Say) -> int:
    """Serve; returns the exit code. An error is logged, and its reason reported."""
    from classmark.service.workers.worker import run_worker

    try:
        return run_worker(job, say)
    except ClassmarkError as error:
        log("worker failed", logging.ERROR, detail=str(error))
        say(FAILED + str(error).encode())
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the supervisor is waiting for the reason
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


class SilenceWatch:
    """Finds workers that are stuck: they have not beaten for too long.

    Attributes:
        tick_s: how often it must look.
    """

    def __init__(self, beats: Heartbeats, stuck_after_s: float) -> None:
        """Begin to watch.

        Args:
            beats: of the workers.
            stuck_after_s: a worker that is silent for this long is stuck.
        """
        self.tick_s = min(_LONGEST_TICK_S, stuck_after_s / _TICKS_A_VERDICT)
        self._beats = beats
        self._stuck_after_s = stuck_after_s
        self._looked_s = 0.0
        self._silent_s: dict[int, float] = {}
        self._counts: dict[int, int] = {}

    def stuck(self, slots: Iterable[int], now_s: float) -> list[int]:
        """Return the slots whose worker is stuck, each once for every time it is silent.

        Args:
            slots: whose workers should beat; others are forgotten.
            now_s: monotonic. Between two looks no more than two ticks count, because a machine or
                a process tree that was paused resumes all at once.
        """
        passed_s = min(now_s - self._looked_s, 2 * self.tick_s)
        self._looked_s = now_s
        before_s, self._silent_s = self._silent_s, {}
        found = []
        for slot in slots:
            count = self._beats.count(slot)
            has_beaten = count != self._counts.get(slot)
            self._counts[slot] = count
            is_known = slot in before_s and not has_beaten
            silent_s = before_s[slot] + passed_s if is_known else 0.0
            if silent_s >= self._stuck_after_s:
                found.append(slot)
                silent_s = 0.0
            self._silent_s[slot] = silent_s
        return found


def ends_with_terminal() -> bool:
    """Return whether the end of a terminal must end the service; asked before it handles signals.

    Under ``nohup`` it must not, and without a terminal there is none that could end.
    """
    is_ignored = any(signal.getsignal(s) is signal.SIG_IGN for s in RELOAD_SIGNALS)
    return not is_ignored and has_terminal()


def has_terminal() -> bool:
    """Return whether this process has a terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


@contextmanager
def held(signals: tuple[int, ...] = HANDLED) -> Iterator[None]:
    """Hold signals for the block; a process that is started in it begins with them held."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def wake_up_on_signals(handler: Callable[..., None]) -> Iterator[socket.socket]:
    """Yield a socket that becomes readable when a signal arrives."""
    wake, signalled = socket.socketpair()
    wake.setblocking(False)
    signalled.setblocking(False)
    before = {number: signal.signal(number, handler) for number in HANDLED}
    old = signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, RELOAD_SIGNALS)
    try:
        yield wake
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.set_wakeup_fd(old)
        for number, handled in before.items():
            signal.signal(number, handled)
        wake.close()
        signalled.close()


def fit_descriptors(settings: ServiceSettings, n_workers: int) -> ServiceSettings:
    """Return settings whose connections fit the limit of open files, which is raised if it can be.

    A worker without a file descriptor left can neither refuse a connection nor write its journal.

    Raises:
        ListenFailed: there is no room for a single connection.
    """
    others = OTHER_DESCRIPTORS + n_workers
    needed = settings.max_connections + others
    limit = _raised_limit(needed)
    if limit >= needed:
        return settings
    advice = "Raise it (LimitNOFILE in systemd, ulimit -n)"
    if limit <= others:
        raise ListenFailed(
            f"the limit of open files is {limit}; a worker needs {others} before its first "
            f"connection. {advice}."
        )
    most = limit - others
    advice += f", or lower CLASSMARK_SERVE_MAX_CONNECTIONS ({settings.max_connections})."
    facts = {"limit": limit, "needed": needed, "max_connections": most, "advice": advice}
    log("few file descriptors", logging.WARNING, **facts)
    return settings.model_copy(update={"max_connections": most})


def _raised_limit(needed: int) -> int:
    """Return the limit of open files, raised as far as it is needed and allowed."""
    import resource  # Windows has none

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    if soft == infinite or soft >= needed:
        return needed
    wanted = needed if hard == infinite else min(needed, hard)
    with suppress(ValueError, OSError):  # macOS has a limit of its own below the hard one
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@contextmanager
def listening(settings: ServiceSettings) -> Iterator[socket.socket]:
    """Yield a bound socket; it listens only once the model is loaded, so an open port is ready."""
    where = f"{settings.host}:{settings.port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ListenFailed(
            f"{where} is not an address of this machine ({error}). "
            f"{advice(error, 'Choose another --host')}."
        ) from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise ListenFailed(
                f"cannot listen on {where}: {error.strerror}. "
                f"{_BIND_ADVICE.get(error.errno or 0, _TAKEN)}."
            ) from error
        yield listener
