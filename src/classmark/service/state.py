"""What one worker holds: the model, its threads, its limits, its counters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from classmark.bundle import Bundle, find_bundle, load_bundle
from classmark.records import Paper
from classmark.runtime import Classifier
from classmark.service.answering import Answerer
from classmark.service.exchange import Exchange, Fields, deadline_exceeded
from classmark.service.metrics import Metrics
from classmark.service.problems import Problem
from classmark.service.settings import ServiceSettings

T = TypeVar("T")

_WARM_UP = Paper(
    title="Graph colouring with learned heuristics",
    abstract="We prove a bound on the chromatic number of sparse graphs and learn a heuristic.",
)
RETRY_AFTER_S = 1


class Model:
    """A loaded model that has answered once.

    Attributes:
        bundle: as it was read.
        classifier: ready to answer.
        card: its card in Markdown, "" if it has none.
    """

    def __init__(self, name: str | None) -> None:
        """Find, verify and load a model, and classify a paper with it.

        Raises:
            BundleNotFound, BundleCorrupt, BundleIncompatible: it cannot be loaded.
        """
        self.bundle: Bundle = load_bundle(find_bundle(name))
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


class Service:
    """State of one worker; made before its event loop runs, closed after.

    Attributes:
        settings, model: as given.
        answerer: makes published answers.
        metrics: counters of this process.
        is_ready: warmed up and not asked to stop.
        model_fields: header fields that name the model.
    """

    def __init__(
        self, settings: ServiceSettings, model: Model | None = None, metrics: Metrics | None = None
    ) -> None:
        """Prepare a worker.

        Args:
            settings: how to serve.
            model: loaded already; None loads the one of the settings.
            metrics: counters; None makes new ones.

        Raises:
            BundleNotFound, BundleCorrupt, BundleIncompatible: the model cannot be loaded.
        """
        self.settings = settings
        self.model = model or Model(settings.model)
        self.answerer = Answerer(self.model.classifier, settings.max_text_chars)
        self.metrics = metrics or Metrics()
        self.is_ready = False
        self.started_at_s = time.time()
        ref = self.model.classifier.model
        self.model_fields: Fields = [
            (b"x-classmark-model", f"{ref.name}@{ref.version}".encode("latin-1")),
            (b"x-classmark-digest", ref.digest.encode("latin-1")),
        ]
        self._queued = 0
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="classmark")

    def start(self) -> None:
        """Answer once more in this process, then be ready."""
        self.model.warm_up()
        self.metrics.worker_started(self.started_at_s)
        self.is_ready = True

    def stop_accepting(self) -> None:
        """Stop being ready; requests that come anyway are still answered."""
        self.is_ready = False

    def publish(self) -> None:
        """Publish what is counted elsewhere; called twice a second."""

    def close(self) -> None:
        """End the threads; work that waits for one is dropped."""
        self.is_ready = False
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def in_thread(self, exchange: Exchange, work: Callable[[], T]) -> T:
        """Return what a function returns that runs in a thread.

        Raises:
            Problem: too many wait for a thread already, or the deadline passed first.
        """
        if self._queued >= self.settings.max_queue:
            raise overloaded("too many batches and long texts are waiting")
        self._queued += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            async with asyncio.timeout(exchange.remaining_s):
                return await future
        except TimeoutError as error:
            raise deadline_exceeded(exchange) from error
        finally:
            self._queued -= 1


def overloaded(why: str) -> Problem:
    """Return the problem of a request that comes when there is too much to do."""
    return Problem(
        "overloaded", f"{why}. Try again in {RETRY_AFTER_S} s.", retry_after_s=RETRY_AFTER_S
    )


def _read_card(bundle: Bundle) -> str:
    if "CARD.md" not in bundle.manifest.files:
        return ""
    path: Path = bundle.file("CARD.md")
    return path.read_text("utf-8")
