"""Reads all files of a journal: predictions with their feedback, and a summary of them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from classmark.journal.database import bytes_of, journal_errors, live_file, readers
from classmark.journal.rows import (
    SELECT_FEEDBACK,
    SELECT_PREDICTIONS,
    feedback_of,
    prediction_of,
)
from classmark.records import FeedbackEvent, Prediction, PredictionEvent

_PAGE = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionFilter:
    """Which predictions are meant; what is None does not matter.

    Attributes:
        since_utc: at or after this time, as ``utc_text`` writes it.
        until_utc: before this time.
        model: name of the model.
        version: its version.
    """

    since_utc: str | None = None
    until_utc: str | None = None
    model: str | None = None
    version: str | None = None

    def condition(self) -> tuple[str, list[str]]:
        """Return the filter in SQL, and its values."""
        tests = (
            ("predictions.at_utc >= ?", self.since_utc),
            ("predictions.at_utc < ?", self.until_utc),
            ("models.name = ?", self.model),
            ("models.version = ?", self.version),
        )
        used = [(test, value) for test, value in tests if value is not None]
        return "".join(f" AND {test}" for test, _ in used), [value for _, value in used]


EVERYTHING = PredictionFilter()


def find_prediction(path: Path, prediction_id: str) -> Prediction | None:
    """Return a prediction with its feedback from any file of a journal, None if it is in none.

    Raises:
        InvalidJournal: a file cannot be read.
    """
    with readers(path) as opened:
        files = list(opened.values())
        for connection in reversed(files):
            query = f"{SELECT_PREDICTIONS} WHERE prediction_id = ?"
            row = connection.execute(query, (prediction_id,)).fetchone()
            if row is not None:
                feedback = _feedback_between(files, prediction_id, prediction_id)
                return Prediction(prediction_of(row), feedback.get(prediction_id, ()))
    return None


def read_predictions(path: Path, wanted: PredictionFilter = EVERYTHING) -> Iterator[Prediction]:
    """Yield the predictions of a journal by file and id, which is by time, each once.

    Feedback is joined from all files, whenever it was given. Memory does not grow with the files.

    Raises:
        InvalidJournal: a file cannot be read.
    """
    with readers(path) as opened:
        files = list(opened.values())
        for number, connection in enumerate(files):
            for page in _pages(connection, wanted):
                ids = page[0].prediction_id, page[-1].prediction_id
                older = _ids_between(files[:number], *ids)
                feedback = _feedback_between(files, *ids)
                for event in page:
                    if event.prediction_id not in older:
                        yield Prediction(event, feedback.get(event.prediction_id, ()))


def _pages(
    connection: sqlite3.Connection, wanted: PredictionFilter
) -> Iterator[list[PredictionEvent]]:
    condition, values = wanted.condition()
    query = (
        f"{SELECT_PREDICTIONS} WHERE prediction_id > ?{condition} ORDER BY prediction_id LIMIT ?"
    )
    last = ""
    while rows := connection.execute(query, (last, *values, _PAGE)).fetchall():
        page = [prediction_of(row) for row in rows]
        last = page[-1].prediction_id
        yield page


def _ids_between(files: Sequence[sqlite3.Connection], first: str, last: str) -> set[str]:
    """Return the predictions of a range: a retry may have met the next file."""
    query = "SELECT prediction_id FROM predictions WHERE prediction_id BETWEEN ? AND ?"
    return {row[0] for connection in files for row in connection.execute(query, (first, last))}


def _feedback_between(
    files: Sequence[sqlite3.Connection], first: str, last: str
) -> dict[str, tuple[FeedbackEvent, ...]]:
    """Return the feedback of a range of predictions by id: the same words once, oldest first."""
    query = f"{SELECT_FEEDBACK} WHERE prediction_id BETWEEN ? AND ?"
    latest: dict[tuple[str, str, str | None], FeedbackEvent] = {}
    for connection in files:
        for event in map(feedback_of, connection.execute(query, (first, last))):
            key = event.prediction_id, event.category, event.comment
            if key not in latest or latest[key].at_utc < event.at_utc:
                latest[key] = event
    found: dict[str, list[FeedbackEvent]] = {}
    for event in sorted(latest.values(), key=lambda event: event.at_utc):
        found.setdefault(event.prediction_id, []).append(event)
    return {prediction_id: tuple(events) for prediction_id, events in found.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalSummary:
    """What is in a journal.

    Attributes:
        path: the file that the next event goes into.
        files: all files, oldest first.
        bytes: their size, with the logs beside them.
        predictions: rows in all files.
        with_text: those that have the text of the paper.
        feedback: pieces of feedback.
        waiting_feedback: those whose prediction is in no file.
        oldest_utc: time of the oldest prediction, None if there is none.
        newest_utc: time of the newest.
        models: predictions by ``NAME@VERSION``.
    """

    path: str
    files: tuple[str, ...] = ()
    bytes: int = 0
    predictions: int = 0
    with_text: int = 0
    feedback: int = 0
    waiting_feedback: int = 0
    oldest_utc: str | None = None
    newest_utc: str | None = None
    models: dict[str, int] = field(default_factory=dict)


def summarise(path: Path) -> JournalSummary:
    """Count what is in a journal; one without files is empty.

    Raises:
        InvalidJournal: a file cannot be read.
    """
    models: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    times: list[str] = []
    # The same line in two files is one: a retry may come after the next file was begun.
    commented: set[tuple[str, str, str]] = set()
    with readers(path) as opened:
        for file, connection in opened.items():
            with journal_errors(file):
                query = "SELECT count(*), count(text), min(at_utc), max(at_utc) FROM predictions"
                n_predictions, n_texts, *between = connection.execute(query).fetchone()
                counts.update(predictions=n_predictions, with_text=n_texts)
                times += filter(None, between)
                query = "SELECT prediction_id, category, comment FROM feedback"
                commented.update(connection.execute(query))
                query = (
                    "SELECT name || '@' || version, count(*) FROM predictions "
                    "JOIN models ON models.id = predictions.model GROUP BY 1 ORDER BY 1"
                )
                models.update(dict(connection.execute(query)))
        waiting = {id for id, _, _ in commented}
        query = "SELECT 1 FROM predictions WHERE prediction_id = ?"
        for connection in opened.values():
            waiting = {i for i in waiting if not connection.execute(query, (i,)).fetchone()}
    return JournalSummary(
        path=str(live_file(path)),
        files=tuple(map(str, opened)),
        bytes=sum(bytes_of(file) for file in opened),
        predictions=counts["predictions"],
        with_text=counts["with_text"],
        feedback=len(commented),
        waiting_feedback=sum(id in waiting for id, _, _ in commented),
        oldest_utc=min(times, default=None),
        newest_utc=max(times, default=None),
        models=dict(models),
    )
