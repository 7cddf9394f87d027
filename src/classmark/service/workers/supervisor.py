"""The process tree: workers on one listening socket, restarted when they die, stopped in order."""

from __future__ import annotations

import gc
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection

from classmark.errors import ClassmarkError, InvalidConfig, ListenFailed, WorkerFailed
from classmark.service.answering.model import OpenedModel, open_model
from classmark.service.keys import read_keys
from classmark.service.logs import log, set_up_logs
from classmark.service.memory import (
    BEATS,
    CONNECTIONS,
    RATES,
    REFUSALS,
    SERIES,
    ConnectionCounts,
    Heartbeats,
    Place,
    Series,
    TreeMemory,
)
from classmark.service.metrics import SUPERVISOR, Metrics, forget_worker
from classmark.service.requests.admission import RateTable
from classmark.service.requests.tracing import check_tracing
from classmark.service.settings import BACKLOG, ServiceSettings
from classmark.service.workers import process
from classmark.service.workers.process import (
    RELOAD_SIGNALS,
    Job,
    SilenceWatch,
    WorkerProcess,
    ends_with_terminal,
    fit_descriptors,
    has_terminal,
    held,
    listening,
    wake_up_on_signals,
)
from classmark.service.workers.shipping import JournalShipping
from classmark.service.workers.watching import RegistryWatch

HEALTHY_AFTER_S = 5.0
FIRST_DELAY_S = 0.05
LONGEST_DELAY_S = 5.0
FIRST_ATTEMPTS = 5
"""To start a process, before the first worker has served."""
START_PATIENCE = 10
"""A worker may take this many times ``stuck_after_s`` to get ready: a deep model loads slowly."""
_KILL_MARGIN_S = 1.0

Say = Callable[[str], None]


def serve(settings: ServiceSettings, say: Say = lambda _: None) -> int:
    """Serve until a signal to stop; returns the exit code.

    Args:
        settings: how to serve.
        say: called with one line that says where the service is, when it is ready.

    Raises:
        ListenFailed: it cannot listen on the address.
        BundleNotFound, BundleCorrupt, BundleIncompatible: the model cannot be loaded.
        OutOfMemory: there is not enough memory for what the workers share.
        WorkerFailed: no worker could be started, or one failed before any had served.
    """
    if not hasattr(os, "fork"):  # Windows
        raise ListenFailed("classmark serve needs Linux or macOS. On Windows run it in WSL.")
    started_at_s, needs_terminal = time.time(), ends_with_terminal()
    # A reload signal that comes now waits until there is something to reload.
    with held(RELOAD_SIGNALS), listening(settings) as listener:
        set_up_logs(file=settings.log_file, level=settings.log_level)
        check_tracing(settings.traces)
        model = open_model(settings)
        if settings.api_keys is not None:
            read_keys(settings.api_keys)
        _warn_of_settings(settings, model)
        settings = fit_descriptors(settings, model.worker_count)
        memory = _share_memory(model.worker_count)
        try:
            listener.listen(BACKLOG)
            supervisor = Supervisor(settings, listener, model, memory, say, started_at_s)
            supervisor.needs_terminal = needs_terminal
            return supervisor.run()
        finally:
            memory.close()


def _warn_of_settings(settings: ServiceSettings, model: OpenedModel) -> None:
    """Log settings that the operator may not have meant."""
    if settings.is_open_to_everybody:
        log(
            "open to everybody",
            logging.WARNING,
            host=settings.host,
            advice="Anyone who can reach this address can use the service. Require keys with "
            "--api-keys, or listen on 127.0.0.1.",
        )
    for name, reason in settings.without_effect(is_deep=model.is_deep).items():
        log("setting without effect", logging.WARNING, setting=name, reason=reason)


def _share_memory(n_workers: int) -> TreeMemory:
    """Return the memory of a tree of workers."""
    sizes = {
        CONNECTIONS: ConnectionCounts.SLOT_BYTES * n_workers,
        BEATS: Heartbeats.SLOT_BYTES * n_workers,
        RATES: RateTable.SIZE,
        REFUSALS: RateTable.SIZE,
        SERIES: Series.SLOT_BYTES * (n_workers + 1),  # the last is the supervisor's
    }
    memory = TreeMemory(sizes, is_inherited=process.FORKS)
    for part in (RATES, REFUSALS):
        RateTable.sow(memory[part])
    return memory


@dataclass
class _Slot:
    """One place for a worker.

    Attributes:
        number: from 0.
        worker: None until the next one is started.
        failures: consecutive attempts that led to no worker that serves.
        has_started: a worker was started here before.
        started_s: when the worker was started, monotonic.
        due_s: when to start the next one, monotonic.
        delay_s: how long the next one waits if this one dies young.
    """

    number: int
    worker: WorkerProcess | None = None
    failures: int = 0
    has_started: bool = False
    started_s: float = 0.0
    due_s: float = 0.0
    delay_s: float = FIRST_DELAY_S

    @property
    def is_serving(self) -> bool:
        """Whether there is a worker that is ready."""
        return self.worker is not None and self.worker.is_ready

    def postpone(self, now: float) -> float:
        """Delay the next worker, longer after each failure; returns by how many seconds."""
        delay_s, self.worker = self.delay_s, None
        self.due_s = now + delay_s
        self.delay_s = min(LONGEST_DELAY_S, delay_s * 2)
        return delay_s


@dataclass
class Supervisor:
    """Keeps workers alive until a signal to stop."""

    settings: ServiceSettings
    listener: socket.socket
    model: OpenedModel
    memory: TreeMemory
    say: Say
    started_at_s: float
    needs_terminal: bool = False
    _slots: list[_Slot] = field(default_factory=list)
    _is_stopping: bool = False
    _must_reload: bool = False
    _was_announced: bool = False
    _has_served: bool = False
    _failure: str = ""

    def run(self) -> int:
        """Serve; returns 0 if every worker ended in order, else 1.

        Raises:
            WorkerFailed: no worker could be started, or one failed before any had served.
        """
        self._slots = [_Slot(number) for number in range(self.model.worker_count)]
        own_place = Place(len(self._slots), self.memory, self.started_at_s)
        self._metrics = Metrics(own_place, SUPERVISOR)
        self._registry = RegistryWatch(self.settings, self._metrics)
        self._shipping = JournalShipping(self.settings)
        self._counts = ConnectionCounts(self.memory[CONNECTIONS])
        self._watch = SilenceWatch(Heartbeats(self.memory[BEATS]), self.settings.stuck_after_s)
        with wake_up_on_signals(self._on_signal) as wake:
            # Pages that no collection touches stay shared with the workers.
            gc.collect()
            gc.freeze()
            in_order = False
            try:
                while not self._is_stopping:
                    self.model = self._registry.look(self.model)
                    self._start_due()
                    news = [worker.news for worker in self._workers()]
                    connection.wait([*news, wake], timeout=self._wait_s())
                    with suppress(BlockingIOError):
                        wake.recv(4096)
                    self._reload_if_asked()
                    self._look()
                    self._kill_stuck()
                    self._metrics.set_process()
            finally:  # leave no worker behind, whatever happened
                in_order = self._stop()
                self._metrics.close()
        if self._failure:
            raise WorkerFailed(self._failure)
        return 0 if in_order else 1

    def _on_signal(self, number: int, *_: object) -> None:
        has_ended = self.needs_terminal and not has_terminal()
        if number in RELOAD_SIGNALS and not has_ended:
            self._must_reload = True
        else:
            self._is_stopping = True

    def _reload_if_asked(self) -> None:
        """Read the settings of the log and the keys again, here and in every worker."""
        if not self._must_reload:
            return
        self._must_reload = False
        others: list[str] = []
        problems: list[ClassmarkError] = []
        try:
            self.settings, others = self.settings.reread()
        except InvalidConfig as error:
            problems.append(error)
        try:
            set_up_logs(file=self.settings.log_file, level=self.settings.log_level)
            if self.settings.api_keys is not None:
                read_keys(self.settings.api_keys)
        except ClassmarkError as error:
            problems.append(error)
        if others:
            log("needs a restart", logging.WARNING, settings=others)
        for problem in problems:
            log("not reloaded", logging.ERROR, detail=str(problem))
        log("reloaded", workers=len(self._workers()))
        for worker in self._workers():
            worker.reload()

    def _workers(self) -> list[WorkerProcess]:
        return [slot.worker for slot in self._slots if slot.worker is not None]

    def _start_due(self) -> None:
        self._shipping.look()
        now = time.monotonic()
        for slot in self._slots:
            if slot.worker is None and slot.due_s <= now:
                place = Place(slot.number, self.memory, self.started_at_s)
                model = self.model.shared if process.FORKS else None
                try:
                    slot.worker = WorkerProcess(Job(self.settings, self.listener, place, model))
                except OSError as error:
                    self._note_no_process(slot, error)
                else:
                    self._metrics.count("classmark_worker_restarts", n=slot.has_started)
                    slot.has_started, slot.started_s = True, now

    def _note_no_process(self, slot: _Slot, error: OSError) -> None:
        """Try again later, but give up if no worker has ever served."""
        slot.failures += 1
        again_in_s = slot.postpone(time.monotonic())
        log("worker not started", logging.ERROR, detail=error.strerror, again_in_s=again_in_s)
        if slot.failures >= FIRST_ATTEMPTS and not self._has_served and not self._workers():
            self._fail(
                f"no worker process can be started ({error.strerror}, {FIRST_ATTEMPTS} attempts). "
                "Raise the limits of processes and open files (ulimit -u, ulimit -n), or free "
                "some memory."
            )

    def _fail(self, why: str) -> None:
        self._failure = self._failure or why
        self._is_stopping = True

    def _wait_s(self) -> float:
        """Return how long to wait if nothing happens."""
        due = [slot.due_s for slot in self._slots if slot.worker is None]
        until_due_s = min(due) - time.monotonic() if due else self._watch.tick_s
        return max(0.0, min(until_due_s, self._watch.tick_s))

    def _look(self) -> None:
        for worker in self._workers():
            worker.look()
        for slot in self._slots:
            if slot.is_serving:
                self._has_served, slot.failures = True, 0
        for slot in self._slots:
            if slot.worker is not None and slot.worker.exit_code is not None:
                self._bury(slot, slot.worker)
        serving = sum(slot.is_serving for slot in self._slots)
        is_settled = all(slot.is_serving or slot.failures for slot in self._slots)
        if serving and is_settled and not self._was_announced:
            self._was_announced = True
            where = _where(self.listener, self.model, serving)
            log("ready", workers=serving, model=self.model.spec, where=where)
            self.say(where)

    def _kill_stuck(self) -> None:
        """Kill every worker whose event loop is stuck, or that does not get ready."""
        now, patience_s = time.monotonic(), self.settings.stuck_after_s
        serving = {s.number: s.worker for s in self._slots if s.worker and s.is_serving}
        stuck = [(serving[number], patience_s) for number in self._watch.stuck(serving, now)]
        for slot in self._slots:
            silent_s = now - slot.started_s
            if slot.worker and not slot.is_serving and silent_s > START_PATIENCE * patience_s:
                stuck.append((slot.worker, round(silent_s, 1)))
        for worker, silent_s in stuck:
            log("worker stuck", logging.ERROR, worker=worker.pid, silent_s=silent_s)
            worker.kill()

    def _bury(self, slot: _Slot, dead: WorkerProcess) -> None:
        """Log a death, and schedule a successor."""
        now = time.monotonic()
        forget_worker(self.memory[SERIES], slot.number)
        self._counts.set(slot.number, None)
        if now - slot.started_s >= HEALTHY_AFTER_S:
            slot.delay_s = FIRST_DELAY_S
        slot.failures += not dead.is_ready
        again_in_s = slot.postpone(now)
        facts = {"worker": dead.pid, "exit_code": dead.exit_code, "again_in_s": again_in_s}
        log("worker died", logging.ERROR, **facts)
        if not self._has_served and all(slot.failures for slot in self._slots):
            # What stopped each of the first workers will stop the next.
            reason = dead.failure or f"it ended with exit code {dead.exit_code}. See the log."
            self._fail(f"no worker could serve: {reason}")

    def _stop(self) -> bool:
        """Ask every worker to stop, wait for the grace period, and kill the rest.

        Returns:
            Whether every worker that had begun to stop ended in order.
        """
        workers = self._workers()
        log("stopping", workers=len(workers))
        for worker in workers:
            worker.terminate()
        deadline = time.monotonic() + self.settings.grace_s + _KILL_MARGIN_S
        late = _wait_for_ends(workers, deadline)
        for worker in late:
            log("worker killed", logging.WARNING, worker=worker.pid)
            worker.kill()
        _wait_for_ends(late, None)
        for worker in workers:
            if worker.exit_code and worker not in late:
                facts = {"worker": worker.pid, "exit_code": worker.exit_code}
                log("worker died", logging.ERROR, **facts)
        self._shipping.close()  # the workers have closed the journal
        in_order = not late and all(worker.ended_in_order for worker in workers)
        is_well = in_order and not self._failure
        log("stopped", logging.INFO if is_well else logging.ERROR, in_order=is_well)
        return in_order


def _wait_for_ends(workers: list[WorkerProcess], deadline: float | None) -> list[WorkerProcess]:
    """Wait for workers to end, at most until a monotonic time; returns those that have not."""
    left = list(workers)
    while left:
        left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not connection.wait([worker.news for worker in left], left_s) and left_s == 0:
            break
        for worker in left:
            worker.look()
        left = [worker for worker in left if worker.exit_code is None]
    return left


def _where(listener: socket.socket, model: OpenedModel, workers: int) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    many = "1 worker" if workers == 1 else f"{workers} workers"
    return f"classmark serves {model.spec} at http://{shown}:{port} ({many})."
