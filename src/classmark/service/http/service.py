"""What one worker holds: the model, its threads, its limits, its counters."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeVar

from classmark.bundle import Bundle, find_bundle, load_bundle
from classmark.errors import BundleIncompatible, MissingExtra
from classmark.kernels.cascade import with_members
from classmark.kernels.encoder import THREADS_VARIABLE, default_threads, usable_cores
from classmark.records import Paper, PredictionSource
from classmark.runtime import Classifier
from classmark.service.answering.answerer import Answerer
from classmark.service.answering.batching import Batcher, BatchLimits
from classmark.service.answering.recording import Recorder, open_journal
from classmark.service.http.chores import Chores
from classmark.service.logs import AccessLog, level_number, log_rarely, set_up_logs
from classmark.service.memory import Place
from classmark.service.metrics import Metrics
from classmark.service.problems import Problem
from classmark.service.requests.admission import Admission
from classmark.service.requests.backlog import Backlog
from classmark.service.requests.exchange import Exchange, Fields, deadline_exceeded
from classmark.service.requests.file_reading import FileLimits
from classmark.service.requests.reader_pool import Readers
from classmark.service.requests.threads import started_pool
from classmark.service.settings import ServiceSettings

T = TypeVar("T")

_WARM_UP = Paper(
    title="Graph colouring with learned heuristics",
    abstract="We prove a bound on the chromatic number of sparse graphs and learn a heuristic.",
)
RETRY_AFTER_S = 1
FAST_KIND = "linear"
CARD_FILE = "CARD.md"
_TIMED_PAPERS = 4
MAX_DIRECT_BODY_BYTES = 32 << 10
"""Parsing and checking this much JSON takes the loop some 50 us; more goes to a thread unparsed."""
CHORES_CLOSE_S = 1.0
JOURNAL_CLOSE_S = 5.0
"""Of the grace period, for the last events of the journal."""


class Model:
    """A loaded model that has answered once.

    Attributes:
        bundle: as it was read.
        classifier: ready to answer.
        card: its card in Markdown, "" if it has none.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Make a classifier of a bundle, and classify a paper with it.

        Raises:
            BundleIncompatible: it cannot be run here.
        """
        self.bundle = bundle
        self.classifier = Classifier.from_bundle(self.bundle)
        self.card = _read_card(self.bundle)
        self.warm_up()

    @property
    def spec(self) -> str:
        """``NAME@VERSION``."""
        return f"{self.classifier.model.name}@{self.classifier.model.version}"

    def warm_up(self) -> None:
        """Classify a paper, alone and in a batch, so that every array and cache is touched."""
        self.classifier.classify(_WARM_UP)
        self.classifier.classify([_WARM_UP], explain=True)


@dataclass(frozen=True)
class OpenedModel:
    """What the supervisor knows of the model.

    Attributes:
        spec: ``NAME@VERSION``.
        worker_count: processes to run.
        shared: what workers are forked with. A deep model has threads, which no fork survives: its
            workers make their own of the bundle that was read.
    """

    spec: str
    worker_count: int
    shared: Model | Bundle

    @property
    def is_deep(self) -> bool:
        """Whether it has a queue of its own; see ``Batcher``."""
        return not isinstance(self.shared, Model)


def open_model(settings: ServiceSettings) -> OpenedModel:
    """Find and verify the model of a service, and load it if workers can share it.

    Raises:
        BundleNotFound, BundleCorrupt, BundleIncompatible: it cannot be loaded.
        MissingExtra: it needs packages that are not installed.
    """
    bundle = read_bundle(settings)
    manifest = bundle.manifest
    if manifest.kind == FAST_KIND:
        loaded = Model(bundle)
        return OpenedModel(loaded.spec, settings.worker_count, loaded)
    if any(find_spec(name) is None for name in ("onnxruntime", "tokenizers")):
        raise MissingExtra(f"the model {manifest.name} of kind {manifest.kind}", "onnx")
    cores, threads = usable_cores(), default_threads()
    count = settings.workers or max(1, cores // threads)
    # Workers that were asked for share the cores, unless the operator said how.
    os.environ.setdefault(THREADS_VARIABLE, str(max(1, min(threads, cores // count))))
    return OpenedModel(f"{manifest.name}@{manifest.version}", count, bundle)


def read_bundle(settings: ServiceSettings) -> Bundle:
    """Find, read and verify the bundle of a service, with the members of a cascade.

    Raises:
        BundleNotFound, BundleCorrupt, BundleIncompatible: it cannot be loaded.
    """
    return with_members(load_bundle(find_bundle(settings.model)))


class Service:
    """State of one worker; made in its own process, closed at its end.

    Attributes:
        settings, model: as given.
        backlog: the requests that wait for a thread, in bytes of their bodies.
        batcher: the queue of a deep model, None for a fast one.
        answerer: makes published answers.
        metrics: counters of this process.
        admission: lets requests in.
        access_log: None if requests are not logged.
        journal: None if none is kept.
        file_limits: what the reading of a file may cost.
        readers: processes that read files.
        in_work: requests that are here as a whole and being answered.
        hang_ups: that many of the next responses end their connection, see ``accepting.surplus``.
        is_ready: warmed up and not asked to stop.
        is_stopping: asked to stop; connections are not kept.
        model_fields: header fields that name the model.
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
            model: loaded or read already; None loads the one of the settings.
            place: among the workers of a tree; None for a service in this process alone.

        Raises:
            BundleNotFound, BundleCorrupt, BundleIncompatible: the model cannot be loaded.
            InvalidKeys: the file of API keys cannot be read.
            JournalTooNew: the journal was written by a newer classmark.
            OSError: the system has no thread left for it.
        """
        self.settings = settings
        self.model = model if isinstance(model, Model) else Model(model or read_bundle(settings))
        self.metrics = Metrics(place)
        self.admission = Admission(settings, self.metrics, place)
        self.access_log = _open_access_log(settings)
        self._pool = started_pool(settings.threads, "classmark")
        # Who looks at an overloaded service must not wait behind what overloads it.
        self._reading_pool = started_pool(1, "classmark-reading")
        self.file_limits = FileLimits(
            max_papers=settings.max_papers, max_file_bytes=settings.max_body_bytes
        )
        self.readers = Readers(self.file_limits, settings.max_queue)
        self.journal = open_journal(settings)
        try:
            is_first = place is None or place.slot == 0
            self._chores = Chores(self.metrics, self.journal) if is_first else None
        except OSError:
            if self.journal is not None:  # or its thread would be cut off while it writes
                self.journal.close(JOURNAL_CLOSE_S)
            raise
        self.batcher = _make_batcher(self.model, settings, self.metrics)
        self.answerer = Answerer(
            self.model.classifier,
            settings.max_text_chars,
            is_recorded=self.journal is not None,
            batcher=self.batcher,
        )
        self.is_ready = self.is_stopping = False
        self.started_at_s = time.time() if place is None else place.started_at_s
        ref = self.model.classifier.model
        self.model_fields: Fields = [
            (b"x-classmark-model", f"{ref.name}@{ref.version}".encode("latin-1")),
            (b"x-classmark-digest", ref.digest.encode("latin-1")),
        ]
        self.in_work = self.hang_ups = 0
        self.backlog = Backlog("batches and long texts", settings.max_queue, self.metrics)

    def begin_work(self, exchange: Exchange) -> None:
        """Count a request that is here as a whole, until its answer is sent.

        Raises:
            Problem: too many are in work.
        """
        if self.in_work >= self.settings.max_concurrency:
            raise overloaded("too many requests are in work")
        self.in_work += 1
        exchange.is_in_work = True

    def note_refusal(self, problem: Problem, client: str) -> None:
        """Count and log a connection that ends before the application has seen its request."""
        self.metrics.connection_refused(problem.kind)
        event = f"connection refused: {problem.kind}"
        log_rarely(event, client=client, detail=problem.detail)

    def recorder(self, exchange: Exchange, source: PredictionSource) -> Recorder:
        """Return what tells the journal of the predictions of a request."""
        return Recorder(
            self.journal,
            source=source,
            started=exchange.started,
            idempotency_key=exchange.idempotency_key(),
            keep_text=self.settings.journal_text,
        )

    def start(self) -> None:
        """Answer once more in this process, then be ready."""
        self.model.warm_up()
        with suppress(Problem):  # what names the nearest ones is loaded at the first
            self.answerer.known_code("unknown")
        if self.batcher is not None:
            self.batcher.start([_WARM_UP] * _TIMED_PAPERS)
        self.metrics.worker_started(self.started_at_s, self.model.classifier.model)
        self.is_ready = True

    def reload(self, settings: ServiceSettings) -> None:
        """Take the keys again, and the settings of the log, whose file is opened anew.

        Raises:
            StorageFailed: the log file cannot be opened. The log goes on where it went.
        """
        self.admission.reload()
        access_log = _open_access_log(settings)
        set_up_logs(file=settings.log_file, level=settings.log_level)
        self.settings, old = settings, self.access_log
        self.access_log = access_log
        if old is not None:
            old.close()

    def stop_accepting(self) -> None:
        """Stop being ready; requests that come anyway are still answered."""
        self.is_ready = False
        self.is_stopping = True

    def publish(self) -> None:
        """Write what waits of the log, and how things stand; called often, and at the end."""
        if self.access_log is not None:
            self.access_log.flush()
        if self.journal is not None:
            self.metrics.set_journal(self.journal.status())
        if self.batcher is not None:
            self.batcher.publish()
        self.metrics.set_in_work(self.in_work)
        self.metrics.set_process()

    def close(self) -> int:
        """End the threads and write the journal; returns how many of its events were lost."""
        self.stop_accepting()
        if self.batcher is not None:
            self.batcher.close()
        for pool in (self._pool, self._reading_pool):
            # What still runs is past its deadline or cut off; the journal need not wait for it.
            pool.shutdown(wait=False, cancel_futures=True)
        self.readers.close()
        if self._chores is not None:
            self._chores.close(CHORES_CLOSE_S)
        lost = 0 if self.journal is None else self.journal.close(JOURNAL_CLOSE_S)
        self.publish()
        if self.access_log is not None:
            self.access_log.close()
        return lost

    def check_backlog(self, exchange: Exchange) -> None:
        """Refuse a large body before it is read if its answer could not be ready in time.

        Raises:
            Problem: too much waits for a thread, or for the deep model.
        """
        if self.batcher is not None:
            self.batcher.backlog.check(exchange.remaining_s)
        stated = exchange.stated_body_bytes
        if stated > MAX_DIRECT_BODY_BYTES:
            self.backlog.check(exchange.remaining_s, stated)

    async def in_thread(self, exchange: Exchange, work: Callable[[], T], size: int = 0) -> T:
        """Return what a function returns that runs in a thread.

        Args:
            exchange: with its deadline.
            work: the function; it is not called after the deadline.
            size: bytes of what it works on; 0 where that says nothing about how long it takes.

        Raises:
            Problem: it would not be ready in time, or was not.
        """
        self.backlog.check(exchange.remaining_s, size)

        def run() -> T:
            if exchange.remaining_s <= 0:
                self.backlog.drop(1, size)
                raise deadline_exceeded(exchange)
            with self.backlog.running(size):
                return work()

        self.backlog.add(1, size)
        future = self._pool.submit(run)
        future.add_done_callback(lambda f: self.backlog.drop(1, size) if f.cancelled() else None)
        return await self.in_queue(exchange, future)

    async def aside(self, exchange: Exchange, read: Callable[[], T]) -> T:
        """Return what a function returns that reads something small for an operator.

        Raises:
            Problem: it was not ready in time.
        """
        return await self.in_queue(exchange, self._reading_pool.submit(read))

    async def in_queue(self, exchange: Exchange, future: Future[T]) -> T:
        """Return what a future gives.

        Raises:
            Problem: the deadline passed first.
        """
        try:
            async with asyncio.timeout(exchange.remaining_s):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise deadline_exceeded(exchange) from error


def _make_batcher(model: Model, settings: ServiceSettings, metrics: Metrics) -> Batcher | None:
    """Return the queue of a deep model; a fast one answers as requests come."""
    if model.bundle.manifest.kind == FAST_KIND:
        return None
    limits = BatchLimits(
        batch_tokens=settings.batch_tokens,
        queue_papers=settings.batch_queue,
        wait_s=settings.batch_wait_ms / 1000,
    )
    return Batcher(model.classifier, limits, metrics)


def _open_access_log(settings: ServiceSettings) -> AccessLog | None:
    if not settings.access_log:
        return None
    return AccessLog(settings.log_file, level_number(settings.log_level))


def journal_unavailable(why: str) -> Problem:
    """Return the problem of a request that needs a journal which is at fault; no path is in it."""
    return Problem(
        "journal_unavailable",
        f"{why}. Try again in {RETRY_AFTER_S} s; the operator finds the reason in the log.",
        retry_after_s=RETRY_AFTER_S,
    )


def overloaded(why: str) -> Problem:
    """Return the problem of a request that comes when there is too much to do."""
    return Problem(
        "overloaded", f"{why}. Try again in {RETRY_AFTER_S} s.", retry_after_s=RETRY_AFTER_S
    )


def _read_card(bundle: Bundle) -> str:
    if CARD_FILE not in bundle.contents:
        return ""
    try:
        return bundle.content(CARD_FILE).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleIncompatible(
            f"{bundle.path / CARD_FILE} is not UTF-8 ({error.reason} at byte {error.start}). "
            "Install or export the model again."
        ) from error
