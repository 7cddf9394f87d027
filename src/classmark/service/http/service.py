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
from classmark.service.answering.answerer import Answerer, open_journal
from classmark.service.answering.batching import Batcher, BatchLimits
from classmark.service.answering.model import WARM_UP, Model, open_index, read_bundle, with_evidence
from classmark.service.http.gateway import Traffic
from classmark.service.keys import write_last_uses
from classmark.service.logs import AccessLog, level_number, log_failure, log_rarely, set_up_logs
from classmark.service.metrics import Metrics
from classmark.service.requests.admission import Admission
from classmark.service.requests.file_reading import FileLimits
from classmark.service.requests.reader_pool import ReaderPool
from classmark.service.requests.threads import Threads

if TYPE_CHECKING:
    from classmark.bundle import Bundle
    from classmark.journal import Journal
    from classmark.service.memory import Place
    from classmark.service.settings import ServiceSettings

_TIMED_PAPERS = 4
CHORES_PAUSE_S = 60.0
CHORES_CLOSE_S = 1.0
JOURNAL_CLOSE_S = 5.0
"""Of the grace period, for the last events of the journal."""
JOURNAL_OPEN_S = 2.0
"""A worker waits this long for the writer, so that its first events wait no longer than others."""


class Service:
    """The parts of one worker.

    Attributes:
        settings, model: as given.
        metrics: counters of this process.
        admission: lets requests in.
        traffic: requests in work, and whether more are wanted.
        threads: for batches and long texts.
        readers: processes that read files.
        journal: None if none is kept.
        answerer: makes published answers; its ``batcher`` is the queue of a deep model.
        access_log: None if requests are not logged.
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
            IndexCorrupt, IndexIncompatible: the index cannot be used.
            InvalidKeys: the file of API keys cannot be read.
            JournalTooNew: the journal was written by a newer classmark.
            OSError: the system has no thread left for it.
        """
        self.settings = settings
        self.model = model if isinstance(model, Model) else Model(model or read_bundle(settings))
        index = open_index(settings, self.model.classifier.model)
        self.metrics = Metrics(place)
        self.admission = Admission(settings, self.metrics, place)
        self.traffic = Traffic(settings.max_concurrency)
        self.access_log = _open_access_log(settings)
        self.threads = Threads(settings.threads, settings.max_queue, self.metrics)
        limits = FileLimits(max_papers=settings.max_papers, max_file_bytes=settings.max_body_bytes)
        self.readers = ReaderPool(limits, settings.max_queue)
        self.journal = open_journal(settings)
        try:
            is_first = place is None or place.slot == 0
            self._chores = Chores(self.metrics, self.journal) if is_first else None
        except OSError:
            if self.journal is not None:  # or its thread would be cut off while it writes
                self.journal.close(JOURNAL_CLOSE_S)
            raise
        classifier, batcher = with_evidence(self.model.classifier, index), None
        if not self.model.is_fast:  # a fast one answers as requests come
            wait_s = settings.batch_wait_ms / 1000
            batch_limits = BatchLimits(
                batch_tokens=settings.batch_tokens, queue_papers=settings.batch_queue, wait_s=wait_s
            )
            batcher = Batcher(classifier, batch_limits, self.metrics)
        self.answerer = Answerer(
            classifier, settings, self.metrics, journal=self.journal, batcher=batcher, index=index
        )
        self._started_at_s = time.time() if place is None else place.started_at_s

    def start(self) -> None:
        """Answer once more in this process, then be ready."""
        self.model.warm_up()
        with suppress(UnknownCategory):  # what suggests the nearest ones is loaded at the first
            self.model.classifier.categories.canonical("unknown")
        if self.answerer.batcher is not None:
            self.answerer.batcher.start([WARM_UP] * _TIMED_PAPERS)
        if self.journal is not None:
            self.journal.flush(JOURNAL_OPEN_S)
        self.metrics.worker_started(self._started_at_s, self.model.classifier.model)
        self.traffic.is_ready = True

    def reload(self, settings: ServiceSettings) -> None:
        """Read the keys again, and take the settings of the log, whose file is reopened.

        Raises:
            StorageFailed: the log file cannot be opened. The log continues where it was.
        """
        self.admission.reload()
        access_log = _open_access_log(settings)
        set_up_logs(file=settings.log_file, level=settings.log_level)
        self.settings, old = settings, self.access_log
        self.access_log = access_log
        if old is not None:
            old.close()

    def publish(self) -> None:
        """Write the waiting log lines and update the gauges; called often and at the end."""
        if self.access_log is not None:
            self.access_log.flush()
        if self.journal is not None:
            self.metrics.set_journal(self.journal.status())
        if self.answerer.batcher is not None:
            self.answerer.batcher.publish()
        self.metrics.set("classmark_requests_in_work", self.traffic.in_work)
        self.metrics.set_process()

    def close(self) -> int:
        """End the threads and write the journal; returns how many of its events were lost."""
        self.traffic.stop()
        if self.answerer.batcher is not None:
            self.answerer.batcher.close()
        self.threads.close()
        self.readers.close()
        if self._chores is not None:
            self._chores.close(CHORES_CLOSE_S)
        lost = 0 if self.journal is None else self.journal.close(JOURNAL_CLOSE_S)
        self.publish()
        if self.access_log is not None:
            self.access_log.close()
        return lost


def _open_access_log(settings: ServiceSettings) -> AccessLog | None:
    if not settings.access_log:
        return None
    return AccessLog(settings.log_file, level_number(settings.log_level))


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
