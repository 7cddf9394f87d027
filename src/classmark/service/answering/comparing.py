"""Scores a share of the answered papers with another version, in the background.

The queue is short and never waited for: a paper that finds it full, or that has waited too long,
is not compared, which is counted. Its line of the journal is written either way.
"""

from __future__ import annotations

import errno
import queue
import random
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from msgspec import structs

from classmark.records import Compared
from classmark.service.answering.answerer import answer_papers
from classmark.service.logs import log_rarely

if TYPE_CHECKING:
    from classmark.journal import Journal
    from classmark.records import PredictionEvent
    from classmark.service.answering.answerer import AnswerOptions, Question
    from classmark.service.answering.versions import Version
    from classmark.service.metrics import Metrics
    from classmark.wire import Answer

Pair = Literal["canary", "shadow"]
"""``canary``: the challenger answered, the champion scores; ``shadow``: the champion answered."""
QUEUE_PAPERS = 64
GATHER_S = 0.02
"""The answer is sent before its paper is scored again; what has gathered meanwhile follows."""
LONGEST_WAIT_S = 0.5
"""So that the journal has a prediction within a second, as without a comparison."""


@dataclass(frozen=True)
class _Asked:
    """An answered paper that is to be scored again."""

    pairing: Pairing
    question: Question
    answer: Answer
    options: AnswerOptions
    event: PredictionEvent | None
    latency_s: float
    at: float


class Comparer:
    """One thread that scores papers again, and writes their lines of the journal."""

    def __init__(self, metrics: Metrics, journal: Journal | None) -> None:
        """Prepare; the thread starts with the first pairing.

        Args:
            metrics: count what was found.
            journal: keeps it; None if there is none.
        """
        self._metrics, self._journal = metrics, journal
        self._queue: queue.Queue[_Asked | None] = queue.Queue(QUEUE_PAPERS)
        self._thread = threading.Thread(target=self._run, name="classmark-comparer", daemon=True)
        self._is_closed = False

    def start(self) -> None:
        """Begin, unless that has been done.

        Raises:
            OSError: the system has no thread left.
        """
        if self._thread.ident is None:
            try:
                self._thread.start()
            except RuntimeError as error:
                raise OSError(errno.EAGAIN, "no thread can be started; raise ulimit -u") from error

    def offer(self, asked: _Asked) -> bool:
        """Take a paper to score again, and its line of the journal; False if there is no room."""
        try:
            if self._is_closed:
                return False
            self._queue.put_nowait(asked)
        except queue.Full:
            self._metrics.count("classmark_compared_dropped", asked.pairing.pair)
            return False
        return True

    def close(self, timeout_s: float) -> None:
        """Write the lines that wait, and compare nothing more."""
        self._is_closed = True
        if self._thread.ident is not None:
            self._queue.put(None)
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (asked := self._queue.get()) is not None:
            if time.monotonic() - asked.at < GATHER_S and not self._is_closed:
                time.sleep(GATHER_S)
            compared = None
            try:
                compared = self._compared(asked)
            except Exception as error:  # noqa: BLE001 - nobody waits for it
                problem = type(error).__name__
                log_rarely("not compared", problem=problem, model=asked.pairing.other.model.spec)
            if asked.event is not None and self._journal is not None:
                self._journal.record(structs.replace(asked.event, compared=compared))

    def _compared(self, asked: _Asked) -> Compared | None:
        pair, other = asked.pairing.pair, asked.pairing.other
        began = time.monotonic()
        if self._is_closed or began - asked.at > LONGEST_WAIT_S:
            self._metrics.count("classmark_compared_dropped", pair)
            return None
        options = replace(asked.options, top=1, explain=False, deadline=None)
        papers = options.papers_of([asked.question])
        [scored] = answer_papers(other.answerer.classifier, papers, options)
        took_s, answer = time.monotonic() - began, scored.answer
        self._count(pair, asked, answer, took_s)
        return Compared(
            model=answer.model,
            primary=answer.primary,
            code=answer.ranked[0].code,
            probability=answer.probability,
            latency_ms=took_s * 1000,
        )

    def _count(self, pair: Pair, asked: _Asked, answer: Answer, took_s: float) -> None:
        first = asked.answer
        top = "same" if first.ranked[0].code == answer.ranked[0].code else "other"
        self._metrics.count("classmark_compared", pair, top, _abstained(first, answer))
        for side, said, seconds in (
            ("answered", first, asked.latency_s),
            ("compared", answer, took_s),
        ):
            self._metrics.observe("classmark_compared_seconds", seconds, pair, side)
            self._metrics.observe("classmark_compared_probability", said.probability, pair, side)


@dataclass(frozen=True)
class Pairing:
    """What the answers of a version are compared with.

    Attributes:
        pair: the kind.
        other: scores the papers again.
        percent: of the papers, 0..100.
        comparer: does it.
    """

    pair: Pair
    other: Version
    percent: float
    comparer: Comparer

    def take(
        self,
        question: Question,
        answer: Answer,
        options: AnswerOptions,
        event: PredictionEvent | None,
    ) -> bool:
        """Take an answered paper if it is in the share; True leaves its event to the comparer."""
        if random.random() * 100 >= self.percent:  # noqa: S311 - a sample, not a secret
            return False
        now = time.monotonic()
        latency_s = now - options.started
        asked = _Asked(self, question, answer, options, event, latency_s, now)
        return self.comparer.offer(asked)


def _abstained(first: Answer, other: Answer) -> str:
    """Return who abstained: ``neither``, ``answered``, ``compared`` or ``both``."""
    if first.primary is None:
        return "both" if other.primary is None else "answered"
    return "compared" if other.primary is None else "neither"
