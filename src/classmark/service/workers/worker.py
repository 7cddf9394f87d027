"""One worker: an event loop that serves until it is told to stop, then drains."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

from classmark.errors import ClassmarkError, InvalidConfig
from classmark.service.http.app import create_app
from classmark.service.http.protocol import guarded_protocol
from classmark.service.http.service import JOURNAL_CLOSE_S, Service
from classmark.service.logs import log, log_failure, set_up_logs
from classmark.service.memory import BEATS, CONNECTIONS, Place
from classmark.service.settings import BACKLOG, ServiceSettings
from classmark.service.workers.accepting import Acceptor, ConnectionCounts, surplus
from classmark.service.workers.heartbeat import Heartbeats
from classmark.service.workers.process import READY, STOPPING, Job, Say
from classmark.service.workers.signals import HANDLED, RELOAD_SIGNALS

HOUSEKEEPING_S = 0.25
SWITCH_INTERVAL_S = 0.001
"""A thread with a batch gives the interpreter back to the event loop after as long."""
EXIT_FAILED = 3


class Worker(uvicorn.Server):
    """uvicorn's server, which on a signal is not ready at once, then drains, then ends.

    Attributes:
        service: state of this worker.
    """

    def __init__(self, service: Service, place: Place, say: Say = lambda _: None) -> None:
        self.service = service
        self._counts = ConnectionCounts(place.memory[CONNECTIONS])
        self._beats = Heartbeats(place.memory[BEATS])
        self._slot = place.slot
        self._say = say
        self._parent = os.getppid()
        self._is_stopping = False
        super().__init__(_config(service, self._note_connections))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Warm up, listen, and say so."""
        await super().startup([])
        loop = asyncio.get_running_loop()

        def on_signal(number: int, _: Any) -> None:
            if not loop.is_closed():
                do = self._reload if number in RELOAD_SIGNALS else self.stop
                loop.call_soon_threadsafe(do)

        # Not the loop's own way, which lets a signal kill the process once the loop is closed.
        for number in (signal.SIGTERM, *RELOAD_SIGNALS):
            signal.signal(number, on_signal)
        # The supervisor decides when to stop; a signal that came while we started comes now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        self._housekeeping = loop.create_task(self._keep_house())
        self._note_connections(0)
        self.servers = [self._acceptor(listener) for listener in sockets or ()]
        self._say(READY)

    def _acceptor(self, listener: socket.socket) -> Any:
        protocol: Any = self.config.http_protocol_class
        return Acceptor(
            listener,
            lambda: protocol(
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            ),
            lambda: len(self.server_state.connections),
            self._counts.lowest,
        )

    def _note_connections(self, n: int) -> None:
        self._counts.set(self._slot, n)

    def _reload(self) -> None:
        """Take the keys and the settings of the log again; what is invalid changes nothing."""
        settings = self.service.settings
        with suppress(InvalidConfig):  # the supervisor has said so
            settings, _ = settings.reread()
        try:
            self.service.reload(settings)
        except ClassmarkError as error:
            log("not reloaded", logging.ERROR, detail=str(error))

    def stop(self) -> None:
        """Be not ready from now on, stop accepting a little later; the second call does at once."""
        self.service.stop_accepting()
        if self._is_stopping:
            self.should_exit = True
            return
        self._is_stopping = True
        self._say(STOPPING)
        asyncio.get_running_loop().call_later(self.service.settings.drain_s, self._end_accepting)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to ``startup``: uvicorn's own way ends the process by the signal."""
        yield

    def _end_accepting(self) -> None:
        self.should_exit = True

    async def _keep_house(self) -> None:
        """Beat, publish what others count, and stop if the supervisor has died."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            self._beats.beat(self._slot)
            try:
                self.service.publish()
            except Exception as error:
                log_failure("housekeeping failed", error)
            connections = len(self.server_state.connections)
            self.service.hang_ups = surplus(connections, self._counts.lowest())
            if os.getppid() != self._parent and not self._is_stopping:
                log("supervisor gone", logging.ERROR)
                self.stop()


def run_worker(job: Job, say: Say = lambda _: None) -> int:
    """Serve until a signal to stop; returns the exit code.

    Args:
        job: what to serve, and where.
        say: is given ``READY`` when requests are accepted, ``STOPPING`` after a signal to stop.
    """
    set_up_logs(file=job.settings.log_file, level=job.settings.log_level)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    service = Service(job.settings, job.model, job.place)
    # What is loaded stays: a collection need not look at it again.
    gc.collect()
    gc.freeze()
    worker = Worker(service, job.place, say)
    try:
        _serve(worker, job.listener)
    except SystemExit:
        return EXIT_FAILED
    finally:
        lost = service.close()
        log("worker ended", logging.WARNING if lost else logging.INFO, journal_events_lost=lost)
    return 0


def _serve(worker: Worker, listener: socket.socket) -> None:
    runner = asyncio.Runner(loop_factory=worker.config.get_loop_factory())
    runner.get_loop()  # where this fails, no coroutine waits for it
    serving = worker.serve([listener])
    try:
        runner.run(serving)
    finally:
        serving.close()  # uvloop may fail before it begins
        try:
            runner.close()
        except Exception as error:  # all that matters is done
            log_failure("event loop not closed", error)


def _config(service: Service, on_connections: Callable[[int], None]) -> uvicorn.Config:
    settings = service.settings
    return uvicorn.Config(
        create_app(service),
        http=guarded_protocol(settings, on_connections, service.note_refusal, service.model_fields),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=_drain_s(settings),
        backlog=BACKLOG,
    )


def _drain_s(settings: ServiceSettings) -> int:
    """Return how long answers in work may take at the end: the grace without its other parts."""
    return max(1, int(settings.grace_s - settings.drain_s - JOURNAL_CLOSE_S))
