"""Reads all files of a journal, or its database: predictions with their feedback, and a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from classmark.errors import UsageError
from classmark.journal.database import journal_errors, live_file, readers, size_of
from classmark.journal.place import Connection, Place
from classmark.journal.rows import (
    SELECT_FEEDBACK,
    SELECT_PREDICTIONS,
    feedback_of,
    prediction_of,
)
from classmark.records import FeedbackEvent, Prediction, PredictionEvent, utc_text_from

_AGE_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_PAGE = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionFilter:
    """Which predictions are meant; what is None does not matter.

    Attributes:
        since_utc: at or after this time, as ``utc_text`` writes it.
        until_utc: before this time.
        model: name of the model.
        version: its version.
        digest: of its bundle.
        after_id: predictions with a greater id, which is a later one.
        from_id: the same, with this one.
    """

    since_utc: str | None = None
    until_utc: str | None = None
    model: str | None = None
    version: str | None = None
    digest: str | None = None
    after_id: str | None = None
    from_id: str | None = None

    def condition(self) -> tuple[str, list[str]]:
        """Return the filter in SQL, and its values."""
        tests = (
            ("predictions.at_utc >= ?", self.since_utc),
            ("predictions.at_utc < ?", self.until_utc),
            ("models.name = ?", self.model),
            ("models.version = ?", self.version),
            ("models.digest = ?", self.digest),
            ("predictions.prediction_id > ?", self.after_id),
            ("predictions.prediction_id >= ?", self.from_id),
        )
        used = [(test, value) for test, value in tests if value is not None]
        return "".join(f" AND {test}" for test, _ in used), [value for _, value in used]


EVERYTHING = PredictionFilter()


def moment_of(text: str, name: str) -> str:
    """Return the time that an age or an ISO date means, as ``utc_text`` writes it.

    Args:
        text: a date or time such as 2026-11-24, UTC without an offset, or an age such as 7d.
        name: of the option or field that holds it, for the error.

    Raises:
        UsageError: it is neither.
    """
    try:
        return utc_text_from(text, _AGE_UNITS, sign=-1)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{name} is {text[:40]!r}, which is not a time. Give an age such as 90d, 12h or 30m, "
            "or a date such as 2026-11-24 or 2026-11-24T12:00 (UTC)."
        ) from error


def times_of(
    since: str | None, until: str | None, dashes: str = "--"
) -> tuple[str | None, str | None]:
    """Return the ends of a span as ``utc_text`` writes them; None where it is open.

    Args:
        since: its first moment, as ``moment_of`` takes it.
        until: the moment after it.
        dashes: before the names of both in an error.

    Raises:
        UsageError: one is not a time, or the span ends before it begins.
    """
    first = None if since is None else moment_of(since, f"{dashes}since")
    after = None if until is None else moment_of(until, f"{dashes}until")
    if first is not None and after is not None and first >= after:
        raise UsageError(
            f"{dashes}since {first} is not before {dashes}until {after}, so nothing can be between "
            f"them. Give the earlier time as {dashes}since, or leave one of them out."
        )
    return first, after


def span_of(text: str, name: str) -> tuple[str, str]:
    """Return both ends of a span as ``utc_text`` writes them.

    Args:
        text: two times with two dots between them, the earlier first.
        name: of the option or field that holds it, for the error.

    Raises:
        UsageError: it is not a span.
    """
    since, dots, until = text.partition("..")
    times = tuple(moment_of(part, name) for part in (since, until) if part)
    if not dots or len(times) < 2 or times[0] >= times[1]:
        raise UsageError(
            f"{name} {text[:80]!r} is not a span. Give two times, the earlier first: "
            "2026-10-01..2026-11-01."
        )
    return times[0], times[1]


def find_prediction(place: Place, prediction_id: str) -> Prediction | None:
    """Return a prediction with its feedback from any part of a journal, None if it is in none.

    Raises:
        InvalidJournal: a file or the database cannot be read.
    """
    with readers(place) as opened:
        files = list(opened.values())
        for connection in reversed(files):
            query = f"{SELECT_PREDICTIONS} WHERE prediction_id = ?"
            row = connection.execute(query, (prediction_id,)).fetchone()
            if row is not None:
                feedback = _feedback_between(files, prediction_id, prediction_id)
                return Prediction(prediction_of(row), feedback.get(prediction_id, ()))
    return None


def read_predictions(place: Place, wanted: PredictionFilter = EVERYTHING) -> Iterator[Prediction]:
    """Yield the predictions of a journal by file and id, which is by time, each once.

    Feedback is joined from all files, whenever it was given. Memory does not grow with the journal.

    Raises:
        InvalidJournal: a file or the database cannot be read.
    """
    with readers(place) as opened:
        files = list(opened.values())
        for number, connection in enumerate(files):
            for page in _pages(connection, wanted):
                ids = page[0].prediction_id, page[-1].prediction_id
                older = _ids_between(files[:number], *ids)
                feedback = _feedback_between(files, *ids)
                for event in page:
                    if event.prediction_id not in older:
                        yield Prediction(event, feedback.get(event.prediction_id, ()))


def newest_id(place: Place, n: int, wanted: PredictionFilter = EVERYTHING) -> str:
    """Return the id of the n-th newest prediction, or of the oldest one if there are fewer.

    Returns:
        "" for a journal without such predictions.

    Raises:
        InvalidJournal: a file cannot be read.
    """
    condition, values = wanted.condition()
    query = (
        "SELECT prediction_id FROM predictions JOIN models ON models.id = predictions.model "  # noqa: S608 - no input
        f"WHERE prediction_id > ''{condition} ORDER BY prediction_id DESC LIMIT ?"
    )
    found: set[str] = set()
    with readers(place) as opened:
        for connection in reversed(list(opened.values())):
            found.update(row[0] for row in connection.execute(query, (*values, n)))
    return min(sorted(found, reverse=True)[:n], default="")


def _pages(connection: Connection, wanted: PredictionFilter) -> Iterator[list[PredictionEvent]]:
    condition, values = wanted.condition()
    query = (
        f"{SELECT_PREDICTIONS} WHERE prediction_id > ?{condition} ORDER BY prediction_id LIMIT ?"
    )
    last = ""
    while rows := connection.execute(query, (last, *values, _PAGE)).fetchall():
        page = [prediction_of(row) for row in rows]
        last = page[-1].prediction_id
        yield page


def _ids_between(files: Sequence[Connection], first: str, last: str) -> set[str]:
    """Return the predictions of a range: a retry may have met the next file."""
    query = "SELECT prediction_id FROM predictions WHERE prediction_id BETWEEN ? AND ?"
    return {row[0] for connection in files for row in connection.execute(query, (first, last))}


def _feedback_between(
    files: Sequence[Connection], first: str, last: str
) -> dict[str, tuple[FeedbackEvent, ...]]:
    """Return the feedback of a range of predictions by id, oldest first.

    The same words of the same client count once.
    """
    query = (
        f"{SELECT_FEEDBACK} WHERE prediction_id BETWEEN ? AND ? "
        "ORDER BY prediction_id, category, comment, client"
    )
    latest: dict[tuple[str, str, str | None, str], FeedbackEvent] = {}
    for connection in files:
        for event in map(feedback_of, connection.execute(query, (first, last))):
            key = event.prediction_id, event.category, event.comment, event.client
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
        path: the file that the next event goes into, or the database, without its password.
        files: all files, oldest first; none of a database.
        bytes: their size, with the logs beside them, or that of the tables and indexes.
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


def summarise(place: Place) -> JournalSummary:
    """Count what is in a journal; one without files is empty.

    Raises:
        InvalidJournal: a file or the database cannot be read.
    """
    models: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    size = 0
    times: list[str] = []
    # The same line in two files is one: a retry may come after the next file was begun.
    commented: set[tuple[str, str, str, str]] = set()
    with readers(place) as opened:
        for part, connection in opened.items():
            with journal_errors(part):
                size += size_of(part, connection)
                query = "SELECT count(*), count(text), min(at_utc), max(at_utc) FROM predictions"
                n_predictions, n_texts, *between = connection.execute(query).fetchone()
                counts.update(predictions=n_predictions, with_text=n_texts)
                times += filter(None, between)
                query = "SELECT prediction_id, category, comment, client FROM feedback"
                commented.update(connection.execute(query))
                query = (
                    "SELECT name || '@' || version, count(*) FROM predictions "
                    "JOIN models ON models.id = predictions.model GROUP BY 1 ORDER BY 1"
                )
                models.update(dict(connection.execute(query)))
        waiting = {id for id, *_ in commented}
        query = "SELECT 1 FROM predictions WHERE prediction_id = ?"
        for connection in opened.values():
            waiting = {i for i in waiting if not connection.execute(query, (i,)).fetchone()}
    return JournalSummary(
        path=str(live_file(place) if isinstance(place, Path) else place),
        files=tuple(str(part) for part in opened if isinstance(part, Path)),
        bytes=size,
        predictions=counts["predictions"],
        with_text=counts["with_text"],
        feedback=len(commented),
        waiting_feedback=sum(id in waiting for id, *_ in commented),
        oldest_utc=min(times, default=None),
        newest_utc=max(times, default=None),
        models=dict(models),
    )
