"""What one worker holds, made in its own process and closed at its end.

Endpoints work with its parts; ``http.app`` lists them.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from classmark.errors import ClassmarkError, UnknownCategory
from classmark.records import utc_text
from classmark.service.answering.answerer import Answerer
from classmark.service.answering.follower import Follower
from classmark.service.answering.journal import open_journal
from classmark.service.answering.model import Model, open_registry, read_bundle
from classmark.service.answering.versions import Roster, Version, Versions
from classmark.service.drift import DriftFile
from classmark.service.http.host import Host
from classmark.service.keys import write_last_uses
from classmark.service.logs import (
    log,
    log_failure,
    log_rarely,
)
from classmark.service.metrics import Metrics
from classmark.service.requests.file_reading import FileLimits
from classmark.service.requests.reader_pool import ReaderPool
from classmark.service.requests.threads import Threads
from classmark.service.requests.tracing import Tracer

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from classmark.bundle import Bundle
    from classmark.journal import Journal
    from classmark.service.memory import Place
    from classmark.service.requests.exchange import Exchange
    from classmark.service.settings import ServiceSettings
    from classmark.wire import ModelRef

SWITCH_WAIT_S = 0.5
COMPARER_CLOSE_S = 2.0
CHORES_PAUSE_S = 60.0
CHORES_CLOSE_S = 1.0
JOURNAL_CLOSE_S = 5.0
"""Of the grace period, for the last events of the journal."""
JOURNAL_OPEN_S = 2.0
"""A worker waits this long for the writer, so that its first events wait no longer than others."""


class Service(Host):
    """The parts of one worker.

    Attributes:
        threads: for batches and long texts.
        readers: processes that read files.
        journal: None if none is kept.
        versions: what answers.
        follower: keeps them equal to what the registry names; None without a registry.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        model: Model | Bundle | None = None,
        place: Place | None = None,
    ) -> None:
        """Prepare a worker.

        Args:
            settings: how to serve.
            model: loaded or read already; None loads the one of the settings. Of a registry it may
                be an older one, which answers if that of now cannot be loaded.
            place: among the workers of a tree; None for a service in this process alone.

        Raises:
            BundleNotFound, BundleCorrupt, BundleIncompatible: the model cannot be loaded.
            IndexCorrupt, IndexIncompatible: the index cannot be used.
            InvalidKeys: the file of API keys cannot be read.
            JournalTooNew: the journal was written by a newer classmark.
            OSError: the system has no thread left for it.
        """
        loaded = model if isinstance(model, Model) else Model(model or read_bundle(settings))
        report = settings.drift_report
        metrics = Metrics(place, drift=None if report is None else DriftFile(report))
        super().__init__(settings, metrics, place)
        self.threads = Threads(settings.threads, settings.max_queue, self.metrics)
        limits = FileLimits(max_papers=settings.max_papers, max_file_bytes=settings.max_body_bytes)
        self.readers = ReaderPool(limits, settings.max_queue)
        self.journal = open_journal(settings)
        self._loop: AbstractEventLoop | None = None
        try:
            self.versions = Versions(settings, self.metrics, self.journal, loaded)
            self.follower = self._open_follower()
            is_first = place is None or place.slot == 0
            self._chores = Chores(self.metrics, self.journal) if is_first else None
        except (ClassmarkError, OSError):
            if self.journal is not None:  # or its thread would be cut off while it writes
                self.journal.close(JOURNAL_CLOSE_S)
            raise
        self.tracer = None if settings.traces is None else Tracer(settings.traces)
        self._started_at_s = time.time() if place is None else place.started_at_s

    def start(self) -> None:
        """Answer once more in this process, with what the registry names now; then be ready."""
        self.versions.start()
        if self.follower is not None:
            self.follower.look()
        with suppress(UnknownCategory):  # what suggests the nearest ones is loaded at the first
            self.model.classifier.categories.canonical("unknown")
        if self.journal is not None:
            self.journal.flush(JOURNAL_OPEN_S)
        self.metrics.worker_started(self._started_at_s)
        self._note_champion()
        self.traffic.is_ready = True

    def follow(self, loop: AbstractEventLoop) -> None:
        """Follow the registry, if there is one.

        Args:
            loop: that of the requests; each change is made between two of its steps.

        Raises:
            OSError: the system has no thread left.
        """
        self._loop = loop
        if self.follower is not None:
            self.follower.start()

    def version_of(self, exchange: Exchange) -> Version:
        """Return what answers a request; who asks first, in the event loop, decides that."""
        held = exchange.version
        if isinstance(held, Version):
            return held
        return self.hold(exchange, self.versions.choose(exchange.holder))

    def hold(self, exchange: Exchange, version: Version) -> Version:
        """Let a version answer a request, and return it."""
        if exchange.version is not None:
            exchange.version.leave()
        exchange.version = version.enter()
        return version

    def answered_by(self, exchange: Exchange) -> ModelRef:
        """Return the model that answered a request, or would have."""
        held = exchange.version
        return (held if isinstance(held, Version) else self.versions.champion).ref

    def note_version(self, exchange: Exchange, status: int, seconds: float) -> None:
        """Count a request for papers for the version that was chosen to answer it."""
        if self.follower is None:
            return
        held = exchange.version
        is_asked = exchange.scope["method"] == "POST" and "version" not in exchange.path_params
        if isinstance(held, Version) and is_asked:
            is_single = "papers" not in exchange.facts
            self.metrics.version_done(held.role, status, seconds if is_single else None)

    @property
    def model(self) -> Model:
        """The model of the champion."""
        return self.versions.champion.model

    @property
    def answerer(self) -> Answerer:
        """Makes the answers of the champion."""
        return self.versions.champion.answerer

    def _open_follower(self) -> Follower | None:
        if self.settings.registry is None:
            return None
        registry = open_registry(self.settings.registry, self.settings)
        return Follower(registry, self.settings.channel, self.versions, self._switch)

    def _switch(self, roster: Roster) -> None:
        """Answer with other versions; returns when that is so, or the service ends."""
        if self._loop is None:  # it does not answer yet
            self._take(roster)
            return
        done = threading.Event()

        def take() -> None:
            self._take(roster)
            done.set()

        with suppress(RuntimeError):  # the loop has ended, and with it the service
            self._loop.call_soon_threadsafe(take)
            while not (done.wait(SWITCH_WAIT_S) or self.traffic.is_stopping):
                pass

    def _take(self, roster: Roster) -> None:
        before = self.versions.champion.ref
        self.versions.switch(roster)
        after = self.versions.champion.ref
        self.metrics.set("classmark_registry_sequence", roster.sequence)
        self._note_champion()
        if after != before:
            self.metrics.count("classmark_replacements")
            facts = {"bundle": after.digest, "before": before.digest}
            log("replaced", logging.INFO, model=f"{after.name}@{after.version}", **facts)

    def _note_champion(self) -> None:
        """Publish which model answers, and how old it is."""
        champion, since_s = self.versions.champion, self.versions.roster.since_s
        self.metrics.set_model(champion.ref)
        made_s = champion.model.made_s
        for name, at_s in (("model_made", made_s), ("champion_since", since_s)):
            if at_s is not None:
                self.metrics.set(f"classmark_{name}_timestamp_seconds", at_s)

    def publish(self) -> None:
        """Write the waiting log lines and update the gauges; called often and at the end."""
        if self.journal is not None:
            self.metrics.set_journal(self.journal.status())
        self.versions.publish()
        if self.follower is not None:
            self.metrics.set("classmark_registry_refused", len(self.follower.faults))
        super().publish()

    def close(self) -> int:
        """End the threads and write the journal; returns how many of its events were lost."""
        self.traffic.stop()
        if self.follower is not None:
            self.follower.close()
        self.versions.close()
        self.versions.comparer.close(COMPARER_CLOSE_S)
        self.threads.close()
        self.readers.close()
        if self.tracer is not None:
            self.tracer.close()
        if self._chores is not None:
            self._chores.close(CHORES_CLOSE_S)
        lost = 0 if self.journal is None else self.journal.close(JOURNAL_CLOSE_S)
        self.publish()
        if self.access_log is not None:
            self.access_log.close()
        return lost


class Chores:
    """What one worker does for all: notes when keys were last used, and trims the journal."""

    def __init__(
        self, metrics: Metrics, journal: Journal | None, pause_s: float = CHORES_PAUSE_S
    ) -> None:
        """Start the thread; the chores are done for the first time after a pause.

        Args:
            metrics: of all workers.
            journal: None if there is none.
            pause_s: between two times.

        Raises:
            OSError: the system has no thread left.
        """
        self._metrics, self._journal, self._pause_s = metrics, journal, pause_s
        self._written: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="classmark-chores", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, "no thread can be started; raise ulimit -u") from error

    def close(self, timeout_s: float) -> None:
        """Write the last uses of keys once more and end; leave that after the timeout."""
        self._ended.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ended.wait(self._pause_s):
            self._do(is_last=False)
        self._do(is_last=True)

    def _do(self, *, is_last: bool) -> None:
        try:
            self._note_uses()
            if self._journal is not None and not is_last:
                self._journal.delete_old()
        except Exception as error:  # noqa: BLE001 - the thread lives as long as the process
            log_failure("chores failed", error)

    def _note_uses(self) -> None:
        uses = self._metrics.last_uses()
        if uses == self._written:
            return
        try:
            write_last_uses({key: utc_text(round(at_s * 1000)) for key, at_s in uses.items()})
        except (ClassmarkError, RuntimeError) as error:  # RuntimeError: there is no home
            log_rarely("last use of keys not written", logging.WARNING, detail=str(error))
        else:
            self._written = uses
