"""What is in the files of a journal, counted."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from classmark.journal.database import journal_errors, readers
from classmark.journal.files import live_file, with_logs


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

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)


def summarise(path: Path) -> JournalSummary:
    """Count what is in a journal; one without files is empty.

    Raises:
        InvalidJournal: a file cannot be read.
    """
    models: dict[str, int] = {}
    counts = {"predictions": 0, "with_text": 0, "feedback": 0}
    times: list[str] = []
    commented: set[str] = set()
    with readers(path) as opened:
        for file, connection in opened.items():
            with journal_errors(file):
                query = "SELECT count(*), count(text), min(at_utc), max(at_utc) FROM predictions"
                n_predictions, n_texts, *between = connection.execute(query).fetchone()
                counts["predictions"] += n_predictions
                counts["with_text"] += n_texts
                times += [at_utc for at_utc in between if at_utc]
                ids = [row[0] for row in connection.execute("SELECT prediction_id FROM feedback")]
                counts["feedback"] += len(ids)
                commented.update(ids)
                query = (
                    "SELECT name || '@' || version, count(*) FROM predictions "
                    "JOIN models ON models.id = predictions.model GROUP BY 1 ORDER BY 1"
                )
                for model, n in connection.execute(query):
                    models[model] = models.get(model, 0) + n
        n_waiting = _count_waiting(list(opened.values()), commented)
    return JournalSummary(
        path=str(live_file(path)),
        files=tuple(map(str, opened)),
        bytes=sum(_bytes_of(file) for file in opened),
        waiting_feedback=n_waiting,
        oldest_utc=min(times, default=None),
        newest_utc=max(times, default=None),
        models=models,
        **counts,
    )


def _count_waiting(connections: list[sqlite3.Connection], commented: set[str]) -> int:
    """Return how many pieces of feedback have no prediction in any file."""
    waiting = set(commented)
    n_waiting = 0
    query = "SELECT 1 FROM predictions WHERE prediction_id = ?"
    for connection in connections:
        waiting = {i for i in waiting if not connection.execute(query, (i,)).fetchone()}
    for connection in connections if waiting else ():
        for row in connection.execute("SELECT prediction_id FROM feedback"):
            n_waiting += row[0] in waiting
    return n_waiting


def _bytes_of(file: Path) -> int:
    total = 0
    for part in with_logs(file):
        with suppress(OSError):
            total += part.stat().st_size
    return total
