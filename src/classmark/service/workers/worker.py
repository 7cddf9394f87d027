"""One worker: an event loop that accepts and serves until a signal to stop, then drains.

The kernel wakes any worker for a new connection, and a quick one takes them all: of four
connections to two workers, one worker had four. So a worker that has more than another lets it go
first.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import uvicorn

from classmark.errors import ClassmarkError, InvalidConfig
from classmark.service.http.app import create_app
from classmark.service.http.gateway import Gateway, model_fields
from classmark.service.http.protocol import guarded_protocol
from classmark.service.http.service import JOURNAL_CLOSE_S, Service
from classmark.service.logs import log, log_failure, log_rarely, set_up_logs
from classmark.service.memory import BEATS, CONNECTIONS, ConnectionCounts, Heartbeats, Place
from classmark.service.settings import BACKLOG, ServiceSettings
from classmark.service.workers.process import (
    HANDLED,
    READY,
    RELOAD_SIGNALS,
    STOPPING,
    Job,
    Say,
)

HOUSEKEEPING_S = 0.25
SWITCH_INTERVAL_S = 0.001
"""A thread with a batch gives the interpreter back to the event loop after this time."""
EXIT_FAILED = 3
STEP_BACK_S = 0.002
MAX_STEPS_BACK = 10
"""After 20 ms the other worker is taken to be stuck."""
FULL_PAUSE_S = 0.1
"""Between two attempts while the process has no file descriptor left."""
UNEVEN_FROM = 4
"""A smaller difference between workers does not justify ending a connection."""


class Worker(uvicorn.Server):
    """uvicorn's server, which after a signal is immediately not ready, drains, and ends.

    Attributes:
        service: what this worker holds.
    """

    def __init__(self, service: Service, place: Place, say: Say = lambda _: None) -> None:
        self.service = service
        self._counts = ConnectionCounts(place.memory[CONNECTIONS])
        self._beats = Heartbeats(place.memory[BEATS])
        self._slot = place.slot
        self._say = say
        self._parent = os.getppid()
        self._is_stopping = False
        super().__init__(_config(service, partial(self._counts.set, self._slot)))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Warm up, listen, and report that."""
        await super().startup([])
        loop = asyncio.get_running_loop()

        def on_signal(number: int, _: object) -> None:
            if not loop.is_closed():
                do = self._reload if number in RELOAD_SIGNALS else self.stop
                loop.call_soon_threadsafe(do)

        # Not the loop's own way, which lets a signal kill the process once the loop is closed.
        for number in (signal.SIGTERM, *RELOAD_SIGNALS):
            signal.signal(number, on_signal)
        # The supervisor decides when to stop; a signal that was held while we started comes now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        self._housekeeping = loop.create_task(self._keep_house())
        self._counts.set(self._slot, 0)
        self.servers = [cast(Any, self._acceptor(one)) for one in sockets or ()]
        self._say(READY)

    def _acceptor(self, listener: socket.socket) -> Acceptor:
        state = self.server_state
        protocol: Any = self.config.http_protocol_class
        make = partial(
            protocol, config=self.config, server_state=state, app_state=self.lifespan.state
        )
        return Acceptor(listener, make, lambda: len(state.connections), self._counts.lowest)

    def _reload(self) -> None:
        """Read the keys and the settings of the log again; what is invalid changes nothing."""
        settings = self.service.settings
        with suppress(InvalidConfig):  # the supervisor logs it
            settings, _ = settings.reread()
        try:
            self.service.reload(settings)
        except ClassmarkError as error:
            log("not reloaded", logging.ERROR, detail=str(error))

    def stop(self) -> None:
        """Become not ready, and stop accepting a little later; a second call does that at once."""
        self.service.traffic.stop()
        if self._is_stopping:
            self.should_exit = True
            return
        self._is_stopping = True
        self._say(STOPPING)
        end = partial(setattr, self, "should_exit", True)
        asyncio.get_running_loop().call_later(self.service.settings.drain_s, end)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to ``startup``: uvicorn's own handler ends the process by the signal."""
        yield

    async def _keep_house(self) -> None:
        """Beat, publish counters, and stop if the supervisor has died."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            self._beats.beat(self._slot)
            try:
                self.service.publish()
            except Exception as error:  # noqa: BLE001 - the worker keeps serving
                log_failure("housekeeping failed", error)
            connections = len(self.server_state.connections)
            self.service.traffic.hang_ups = surplus(connections, self._counts.lowest())
            if os.getppid() != self._parent and not self._is_stopping:
                log("supervisor gone", logging.ERROR)
                self.stop()


def surplus(count: int, lowest: int) -> int:
    """Return how many connections a worker should end so that their clients reach another.

    Clients keep their connections: a worker that was busy while another died would stay busy.
    """
    more = count - lowest
    return more // 2 if more >= UNEVEN_FROM else 0


class Acceptor:
    """Accepts connections for one worker when it is its turn; uvicorn takes it for a server."""

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        count: Callable[[], int],
        lowest: Callable[[], int],
    ) -> None:
        """Begin to accept.

        Args:
            listener: a listening socket, shared with other workers.
            make_protocol: makes the protocol of a connection.
            count: connections that this worker has.
            lowest: connections of the worker that has the fewest.
        """
        self._listener = listener
        self._make_protocol = make_protocol
        self._count = count
        self._lowest = lowest
        self._steps_back = 0
        self._is_closed = False
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()
        listener.setblocking(False)
        self._resume()

    def close(self) -> None:
        """Stop accepting."""
        self._is_closed = True
        self._loop.remove_reader(self._listener.fileno())

    async def wait_closed(self) -> None:
        """Wait until every accepted connection has its protocol."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _resume(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._loop.call_later(seconds, self._resume)

    def _accept(self) -> None:
        if self._count() > self._lowest() and self._steps_back < MAX_STEPS_BACK:
            self._steps_back += 1
            self._pause(STEP_BACK_S)
            return
        self._steps_back = 0
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            _log_refusal(error)
            self._pause(FULL_PAUSE_S)
            return
        connection.setblocking(False)
        with suppress(OSError):  # the client is gone
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._attach(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attach(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, connection)
        except OSError:
            connection.close()


def _log_refusal(error: OSError) -> None:
    """Log why no connection can be accepted, and what to do."""
    advice = "clients wait; see the error"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        advice = (
            "clients wait until others leave; raise the limit of open files (LimitNOFILE in "
            "systemd, ulimit -n), or lower CLASSMARK_SERVE_MAX_CONNECTIONS"
        )
    log_rarely("cannot accept", logging.ERROR, detail=error.strerror, advice=advice)


def run_worker(job: Job, say: Say = lambda _: None) -> int:
    """Serve until a signal to stop; returns the exit code.

    Args:
        job: what to serve, and where.
        say: called with ``READY`` when requests are accepted, ``STOPPING`` after a signal to stop.
    """
    set_up_logs(file=job.settings.log_file, level=job.settings.log_level)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    service = Service(job.settings, job.model, job.place)
    # What is loaded stays: collections can skip it.
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
    runner.get_loop()  # if this fails, no coroutine waits for it
    serving = worker.serve([listener])
    try:
        runner.run(serving)
    finally:
        serving.close()  # uvloop may fail before it begins
        try:
            runner.close()
        except Exception as error:  # noqa: BLE001 - everything that matters is done
            log_failure("event loop not closed", error)


def _config(service: Service, on_connections: Callable[[int], None]) -> uvicorn.Config:
    versions = service.versions
    protocol = guarded_protocol(
        service.settings,
        service.metrics,
        on_connections,
        lambda: model_fields(versions.champion.ref),
    )
    return server_config(create_app(service), protocol, service.settings)


def server_config(
    app: Gateway, protocol: type[asyncio.Protocol], settings: ServiceSettings
) -> uvicorn.Config:
    """Return how uvicorn serves an application.

    Args:
        app: behind its gateway.
        protocol: of ``guarded_protocol``.
        settings: with the limits.
    """
    # Answers in work may take the rest of the grace period.
    left_s = settings.grace_s - settings.drain_s - JOURNAL_CLOSE_S
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=max(1, int(left_s)),
        backlog=BACKLOG,
    )
