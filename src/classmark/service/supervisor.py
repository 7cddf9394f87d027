"""The process tree: workers on one listening socket, restarted when they die, stopped in order."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classmark.errors import ClassmarkError, ListenFailed
from classmark.service.accepting import ConnectionCounts, Place
from classmark.service.heartbeat import Heartbeats, Watch
from classmark.service.logs import log, set_up_logs
from classmark.service.settings import BACKLOG, ServiceSettings

if TYPE_CHECKING:
    from classmark.bundle import Bundle
    from classmark.service.state import Model, OpenedModel

HEALTHY_AFTER_S = 5.0
FIRST_DELAY_S = 0.05
LONGEST_DELAY_S = 5.0
_KILL_MARGIN_S = 1.0
RATE_FILE, COUNTS_FILE, BEATS_FILE = "rates", "connections", "beats"
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

Say = Callable[[str], None]


def serve(settings: ServiceSettings, say: Say = lambda _: None) -> int:
    """Serve until a signal to stop; returns the exit code.

    Args:
        settings: how to serve.
        say: is told in one line where the service is, when it is ready.

    Raises:
        ListenFailed: the address cannot be listened on.
        BundleNotFound, BundleCorrupt, BundleIncompatible: the model cannot be loaded.
    """
    if not hasattr(os, "fork"):  # Windows
        raise ListenFailed("classmark serve needs Linux or macOS. On Windows run it in WSL.")
    with _listening(settings) as listener, _shared_folder() as folder:
        # Only now: the metrics client looks for its folder when it is imported.
        from classmark.service.keys import read_keys
        from classmark.service.limits import make_rate_file
        from classmark.service.state import open_model

        set_up_logs()
        model = open_model(settings)
        if settings.api_keys is not None:
            read_keys(settings.api_keys)
        make_rate_file(folder / RATE_FILE)
        listener.listen(BACKLOG)
        return Supervisor(settings, listener, model, folder, say).run()


@dataclass
class _Slot:
    """One place for a worker.

    Attributes:
        number: from 0.
        process: the worker, None while a new one is waited for.
        ready: its end of this pipe closes or sends when it is ready.
        started_s: when it was started, monotonic.
        due_s: when the next one is to be started, monotonic.
        delay_s: how long the next one waits if this one dies young.
    """

    number: int
    process: Any = None
    ready: Any = None
    is_ready: bool = False
    started_s: float = 0.0
    due_s: float = 0.0
    delay_s: float = FIRST_DELAY_S


@dataclass
class Supervisor:
    """Keeps workers alive until a signal to stop."""

    settings: ServiceSettings
    listener: socket.socket
    model: OpenedModel
    folder: Path
    say: Say
    _slots: list[_Slot] = field(default_factory=list)
    _is_stopping: bool = False
    _was_announced: bool = False
    _has_failed: bool = False

    def run(self) -> int:
        """Serve; returns 0 if every worker ended in order, else 1."""
        # Where processes are forked, workers share what is loaded; macOS forbids it with threads.
        self._context: Any = get_context("fork" if sys.platform == "linux" else "spawn")
        self._slots = [_Slot(number) for number in range(self.model.worker_count)]
        self._counts = ConnectionCounts.create(self.folder / COUNTS_FILE, len(self._slots))
        beats = Heartbeats.create(self.folder / BEATS_FILE, len(self._slots))
        self._watch = Watch(beats, self.settings.stuck_after_s)
        with _wake_up_on_signals(self._on_signal) as wake:
            # Untouched by collections, pages of what is loaded stay shared with the workers.
            gc.collect()
            gc.freeze()
            while not self._is_stopping:
                self._start_due()
                connection.wait([*self._watched(), wake], timeout=self._wait_s())
                _drain(wake)
                self._look()
                self._kill_stuck()
            return self._stop()

    def _on_signal(self, *_: Any) -> None:
        self._is_stopping = True

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            if slot.process is None and slot.due_s <= now:
                slot.ready, theirs = self._context.Pipe(duplex=False)
                files = [self.folder / name for name in (COUNTS_FILE, BEATS_FILE, RATE_FILE)]
                place = Place(slot.number, *files)
                is_forked = self._context.get_start_method() == "fork"
                model = self.model.shared if is_forked else None
                slot.process = self._context.Process(
                    target=_work, args=(self.settings, self.listener, place, theirs, model)
                )
                with _signals_held():
                    slot.process.start()
                theirs.close()
                slot.started_s, slot.is_ready = now, False

    def _watched(self) -> list[Any]:
        return [
            item
            for slot in self._slots
            if slot.process is not None
            for item in (slot.process.sentinel, *(() if slot.is_ready else (slot.ready,)))
        ]

    def _wait_s(self) -> float:
        """Return when there is something to do without anything having happened."""
        due = [slot.due_s for slot in self._slots if slot.process is None]
        until_due_s = min(due) - time.monotonic() if due else self._watch.tick_s
        return max(0.0, min(until_due_s, self._watch.tick_s))

    def _look(self) -> None:
        for slot in self._slots:
            if slot.process is None:
                continue
            if not slot.is_ready and slot.ready.poll():
                slot.is_ready = _is_ready(slot.ready)
            if not slot.process.is_alive():
                self._bury(slot)
        if not self._was_announced and all(s.process and s.is_ready for s in self._slots):
            self._was_announced = True
            where = _where(self.listener, self.model, len(self._slots))
            log("ready", workers=len(self._slots), model=self.model.spec, where=where)
            self.say(where)

    def _kill_stuck(self) -> None:
        """Kill every worker that was ready and whose event loop stands still."""
        serving = {s.number: s.process for s in self._slots if s.process and s.is_ready}
        for number in self._watch.stuck(serving, time.monotonic()):
            process = serving[number]
            silent_s = self.settings.stuck_after_s
            log("worker stuck", logging.ERROR, worker=process.pid, silent_s=silent_s)
            process.kill()

    def _bury(self, slot: _Slot) -> None:
        from classmark.service.metrics import forget_worker

        process, now = slot.process, time.monotonic()
        has_served = slot.is_ready or self._was_announced
        process.join()
        slot.ready.close()
        forget_worker(slot.number)
        self._counts.set(slot.number, None)
        if now - slot.started_s >= HEALTHY_AFTER_S:
            slot.delay_s = FIRST_DELAY_S
        slot.process, slot.due_s = None, now + slot.delay_s
        log("worker died", worker=process.pid, exit_code=process.exitcode, again_in_s=slot.delay_s)
        slot.delay_s = min(LONGEST_DELAY_S, slot.delay_s * 2)
        if not has_served:  # what hinders the first worker will hinder the next
            self._is_stopping = self._has_failed = True

    def _stop(self) -> int:
        """Ask every worker to stop, wait for the grace period, kill what is left."""
        self._look()  # a worker that died just before is not one that failed to stop
        alive = [slot.process for slot in self._slots if slot.process is not None]
        log("stopping", workers=len(alive))
        for process in alive:
            process.terminate()
        deadline = time.monotonic() + self.settings.grace_s + _KILL_MARGIN_S
        for process in alive:
            process.join(max(0.0, deadline - time.monotonic()))
        late = [process for process in alive if process.is_alive()]
        for process in late:
            log("worker killed", worker=process.pid)
            process.kill()
            process.join()
        in_order = not self._has_failed and all(process.exitcode == 0 for process in alive)
        log("stopped", in_order=in_order)
        return 0 if in_order else 1


def _is_ready(pipe: Any) -> bool:
    """Tell whether a worker said so, or its end of the pipe was closed by its death."""
    try:
        return bool(pipe.recv_bytes())
    except (EOFError, OSError):
        return False


def _work(
    settings: ServiceSettings,
    listener: socket.socket,
    place: Place,
    ready: Any,
    model: Model | Bundle | None,
) -> None:
    """Be a worker: what a new process runs.

    Signals to stop are held until the worker can handle them. Ctrl-C goes to the whole group of
    processes, but only the supervisor heeds it, and then tells the workers.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    from classmark.service.worker import run_worker

    def on_ready() -> None:
        ready.send_bytes(b"ready")
        ready.close()

    try:
        sys.exit(run_worker(settings, listener, place, model, on_ready))
    except ClassmarkError as error:
        log("worker failed", logging.ERROR, detail=str(error))
        sys.exit(error.exit_code)


@contextmanager
def _listening(settings: ServiceSettings) -> Iterator[socket.socket]:
    """Yield a bound socket; it listens when the model is loaded, so an open port is a ready one."""
    where = f"{settings.host}:{settings.port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ListenFailed(
            f"{where} is no address here ({error}). Choose another --host."
        ) from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise ListenFailed(
                f"cannot listen on {where}: {error.strerror}. Stop what listens there, or choose "
                "another --port."
            ) from error
        yield listener


@contextmanager
def _shared_folder() -> Iterator[Path]:
    """Yield a folder for what the processes share; the metrics client looks for it by name."""
    with tempfile.TemporaryDirectory(prefix="classmark-serve-", ignore_cleanup_errors=True) as name:
        before = os.environ.get(_METRICS_VARIABLE)
        os.environ[_METRICS_VARIABLE] = name
        try:
            yield Path(name)
        finally:
            if before is None:
                del os.environ[_METRICS_VARIABLE]
            else:
                os.environ[_METRICS_VARIABLE] = before


@contextmanager
def _wake_up_on_signals(handler: Callable[..., None]) -> Iterator[socket.socket]:
    """Yield a socket that becomes readable when a signal to stop arrives."""
    wake, signalled = socket.socketpair()
    wake.setblocking(False)
    signalled.setblocking(False)
    before = {number: signal.signal(number, handler) for number in _STOP_SIGNALS}
    old = signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
    try:
        yield wake
    finally:
        signal.set_wakeup_fd(old)
        for number, handled in before.items():
            signal.signal(number, handled)
        wake.close()
        signalled.close()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold signals to stop for the block; a process that is started in it begins with them held."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _drain(wake: socket.socket) -> None:
    try:
        wake.recv(4096)
    except BlockingIOError:
        return


def _where(listener: socket.socket, model: OpenedModel, workers: int) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    many = "1 worker" if workers == 1 else f"{workers} workers"
    return f"classmark serves {model.spec} at http://{shown}:{port} ({many})."
