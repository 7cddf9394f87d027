"""``classmark monitor serve``: one process that looks and answers until a signal to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn

from classmark.errors import ClassmarkError, InvalidConfig, ListenFailed
from classmark.journal.reading import newest_id
from classmark.monitor.history import History
from classmark.monitor.http.api import Watch, create_watch_app
from classmark.monitor.http.looks import Looks
from classmark.monitor.look import LookOptions
from classmark.monitor.predictions import watched_model
from classmark.service.http.gateway import model_fields
from classmark.service.http.protocol import guarded_protocol
from classmark.service.logs import log, log_failure, set_up_logs
from classmark.service.settings import BACKLOG, ServiceSettings
from classmark.service.workers.process import (
    RELOAD_SIGNALS,
    STOP_SIGNALS,
    fit_descriptors,
    listening,
)
from classmark.service.workers.worker import (
    EXIT_FAILED,
    HOUSEKEEPING_S,
    SWITCH_INTERVAL_S,
    server_config,
)

Say = Callable[[str], None]


class _Server(uvicorn.Server):
    """uvicorn's server, which after a signal ends looks, drains, and ends."""

    def __init__(self, watch: Watch, say: Say, where: str) -> None:
        self._watch, self._say, self._where = watch, say, where
        self._stopping = False
        protocol = guarded_protocol(
            watch.settings, watch.metrics, lambda _: None, lambda: model_fields(watch.looks.model)
        )
        super().__init__(server_config(create_watch_app(watch), protocol, watch.settings))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and begin to look."""
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self.stop)
        for number in RELOAD_SIGNALS:
            loop.add_signal_handler(number, self._reload)
        self._housekeeping = loop.create_task(self._keep_house())
        self._watch.traffic.is_ready = True
        self._watch.looks.start()
        log("ready", where=self._where)
        self._say(self._where)

    def stop(self) -> None:
        """Make no more looks, and stop accepting a little later; a second call does so at once."""
        self._watch.traffic.stop()
        self._watch.looks.stop()
        if self._stopping:
            self.should_exit = True
            return
        self._stopping = True
        log("stopping")
        loop = asyncio.get_running_loop()
        loop.call_later(self._watch.settings.drain_s, setattr, self, "should_exit", True)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to ``startup``."""
        yield

    def _reload(self) -> None:
        """Read the keys and the settings of the log again; what is invalid changes nothing."""
        try:
            settings, _ = self._watch.settings.reread()
            self._watch.reload(settings)
        except (InvalidConfig, ClassmarkError) as error:
            log("not reloaded", logging.ERROR, detail=str(error))
        else:
            log("reloaded")

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            try:
                self._watch.publish()
            except Exception as error:  # noqa: BLE001 - the monitor keeps serving
                log_failure("housekeeping failed", error)


def serve(
    settings: ServiceSettings,
    options: LookOptions,
    history: History,
    every_s: float,
    say: Say = lambda _: None,
) -> int:
    """Look and answer until a signal to stop; returns the exit code.

    Args:
        settings: address, limits, keys and log.
        options: of a look.
        history: keeps the reports.
        every_s: from one look of the schedule to the next; 0 for looks on request only.
        say: called with one line that says where the monitor is, when it is ready.

    Raises:
        ListenFailed: it cannot listen on the address.
        BundleNotFound, RegistryNotFound ...: the model cannot be watched, as ``watched_model``.
        InvalidJournal, JournalTooNew: journal or history cannot be read.
        InvalidKeys: the file of API keys cannot be read.
        StorageFailed: the file of the log cannot be opened.
    """
    if not hasattr(os, "fork"):  # Windows has neither these signals nor limits of open files
        raise ListenFailed(
            "classmark monitor serve needs Linux or macOS. On Windows use monitor run."
        )
    with listening(settings) as listener:
        set_up_logs(file=settings.log_file, level=settings.log_level)
        model = watched_model(options.model, options.registry)
        if not newest_id(options.journal, 1):
            advice = "Serve the model with this journal, or name another with --journal."
            log("no predictions yet", logging.WARNING, advice=advice)
        history.reports(newest=1)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        looks = Looks(options, history, every_s, model.ref)
        watch = Watch(fit_descriptors(settings, 1), looks)
        watch.metrics.worker_started(time.time())
        listener.listen(BACKLOG)
        return _run(watch, listener, say)


def _run(watch: Watch, listener: socket.socket, say: Say) -> int:
    model = watch.looks.model
    where = f"classmark watches {model.name}@{model.version} at {_url(listener)}."
    server, settings = _Server(watch, say, where), watch.settings
    try:
        with suppress(KeyboardInterrupt):
            runner = asyncio.Runner(loop_factory=server.config.get_loop_factory())
            runner.run(server.serve([listener]))
    except SystemExit:
        return EXIT_FAILED
    finally:
        watch.close(settings.grace_s - settings.drain_s)
        log("stopped")
    return 0


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
