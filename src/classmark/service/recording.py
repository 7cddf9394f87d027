"""What the journal is told of a prediction: the answer, and features of the text."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from classmark.errors import NoHomeFolder
from classmark.journal import Journal, JournalConfig, default_journal_path
from classmark.papers import text_fingerprint
from classmark.records import (
    Paper,
    PredictionEvent,
    derived_prediction_id,
    new_prediction_id,
    utc_text,
)

if TYPE_CHECKING:
    from classmark.records import PredictionSource
    from classmark.service.settings import ServiceSettings
    from classmark.wire import Answer
from classmark.service.logs import log
from classmark.service.settings import JOURNAL_OFF

KEPT_CATEGORIES = 10
_LATEX = re.compile(r"\\(?:[A-Za-z]+|.)|[$^_{}~]", re.DOTALL)


def open_journal(settings: ServiceSettings) -> Journal | None:
    """Return the journal of a worker, None if none is kept.

    Raises:
        JournalTooNew: it was written by a newer classmark.
    """
    if settings.journal == JOURNAL_OFF:
        return None
    try:
        path = Path(settings.journal) if settings.journal else default_journal_path()
    except NoHomeFolder as error:
        log("no journal is kept", logging.WARNING, problem=str(error))
        return None
    most = None if settings.journal_max_mb is None else settings.journal_max_mb * 1_000_000
    return Journal(
        JournalConfig(
            path=path,
            keep_text=settings.journal_text,
            keep_days=settings.journal_keep_days,
            max_bytes=most,
        )
    )


class Question:
    """One paper with the category its author chose.

    Attributes:
        paper: has a text.
        author_category: canonical, None if the author chose none.
    """

    __slots__ = ("_fingerprint", "author_category", "paper")

    def __init__(self, paper: Paper, author_category: str | None = None) -> None:
        self.paper = paper
        self.author_category = author_category
        self._fingerprint = ""

    @property
    def fingerprint(self) -> str:
        """``papers.text_fingerprint``, made once."""
        if not self._fingerprint:
            self._fingerprint = text_fingerprint(self.paper)
        return self._fingerprint


class Recorder:
    """Tells the journal of the predictions of one request.

    Attributes:
        source: which endpoint answers.
    """

    __slots__ = ("_journal", "_keep_text", "_key", "_started", "source")

    def __init__(
        self,
        journal: Journal | None,
        *,
        source: PredictionSource,
        started: float,
        idempotency_key: str | None = None,
        keep_text: bool = False,
    ) -> None:
        """Begin a request.

        Args:
            journal: None keeps nothing.
            source: which endpoint answers.
            started: ``time.monotonic`` at its begin.
            idempotency_key: of the client; the same key, text and place give the same id.
            keep_text: tell the text too.
        """
        self.source = source
        self._journal = journal
        self._started = started
        self._key = idempotency_key
        self._keep_text = keep_text

    def prediction_id(self, question: Question, index: int) -> str:
        """Return the id of a prediction by its place in the request."""
        if self._key is None:
            return new_prediction_id()
        return derived_prediction_id(self._key, f"{index} {question.fingerprint}")

    def record(
        self, question: Question, answer: Answer, known_share: float, prediction_id: str
    ) -> None:
        """Tell the journal of an answer; never waits."""
        if self._journal is None:
            return
        paper = question.paper
        text = f"{paper.title}\n{paper.abstract}"
        event = PredictionEvent(
            prediction_id=prediction_id,
            at_utc=utc_text(),
            model=answer.model,
            text_fingerprint=question.fingerprint,
            primary=answer.primary,
            reason=answer.reason,
            ranked=tuple([(r.code, r.probability) for r in answer.ranked[:KEPT_CATEGORIES]]),
            set=answer.set or (),
            cross_lists=answer.cross_lists,
            known_share=known_share,
            n_chars=len(text) - 1,
            n_words=len(text.split()),
            latex_share=latex_share(text),
            latency_ms=(time.monotonic() - self._started) * 1000,
            source=self.source,
            paper_id=paper.id,
            author_category=question.author_category,
            text=text if self._keep_text else None,
        )
        self._journal.record(event)


def latex_share(text: str) -> float:
    """Return the share of characters that are commands or signs of LaTeX, 0..1."""
    if not any(sign in text for sign in "\\$^_{}~"):
        return 0.0
    # One by one: findall of a long text would hold the interpreter for 15 ms.
    return sum(len(match[0]) for match in _LATEX.finditer(text)) / len(text)
