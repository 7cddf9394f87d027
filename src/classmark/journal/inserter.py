"""Inserts a batch of events inside a transaction, into SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from classmark.journal.place import Connection
from classmark.journal.rows import (
    INSERT_FEEDBACK,
    Row,
    feedback_row,
    insert_predictions,
    prediction_row,
)
from classmark.records import FeedbackEvent, PredictionEvent
from classmark.wire import ModelRef

Event = PredictionEvent | FeedbackEvent


class Outcome(NamedTuple):
    """What became of a batch: events written and refused, and why the last of these was."""

    written: int
    refused: int
    problem: str | None


class Inserter:
    """Inserts events, and remembers the rows of their models while a connection lasts."""

    def __init__(
        self,
        *,
        keep_text: bool,
        faults: tuple[type[Exception], ...],
        insert_rows: Callable[[Connection, Sequence[Row]], None] = insert_predictions,
    ) -> None:
        """Know no model yet.

        Args:
            keep_text: write the texts of papers.
            faults: errors that a single event can cause; every other one concerns the database.
            insert_rows: the fastest way to insert predictions there.
        """
        self._keep_text, self._faults, self._insert_rows = keep_text, faults, insert_rows
        self._models: dict[ModelRef, int] = {}

    def insert(self, connection: Connection, events: Sequence[Event]) -> Outcome:
        """Insert events in the transaction of the caller; those at fault are left out."""
        models = {event.model for event in events if isinstance(event, PredictionEvent)}
        for model in sorted(models, key=repr):  # in one order, or two writers wait for each other
            self._know(connection, model)
        if self._insert(connection, events) is None:
            return Outcome(len(events), 0, None)
        refused, problem = 0, None
        for event in events:
            fault = self._insert(connection, [event])
            if fault is not None:
                refused += 1
                problem = f"event {event.prediction_id} was refused: {fault}"
        return Outcome(len(events) - refused, refused, problem)

    def forget_models(self) -> None:
        """Look models up again: the connection, or the transaction, has ended."""
        self._models = {}

    def _insert(self, connection: Connection, events: Sequence[Event]) -> Exception | None:
        """Insert all events or none; return what was at fault."""
        predictions = [e for e in events if isinstance(e, PredictionEvent)]
        feedback = [e for e in events if isinstance(e, FeedbackEvent)]
        connection.execute("SAVEPOINT events")
        try:
            rows = [
                prediction_row(e, self._models[e.model], keep_text=self._keep_text)
                for e in predictions
            ]
            self._insert_rows(connection, rows)
            connection.cursor().executemany(INSERT_FEEDBACK, list(map(feedback_row, feedback)))
        except self._faults as error:
            connection.execute("ROLLBACK TO events")
            return error
        connection.execute("RELEASE events")
        return None

    def _know(self, connection: Connection, model: ModelRef) -> None:
        """Learn the row of a model in the table ``models``, added if needed."""
        if model in self._models:
            return
        values = (model.name, model.version, model.digest)
        connection.execute(
            "INSERT INTO models (name, version, digest) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            values,
        )
        query = "SELECT id FROM models WHERE name = ? AND version = ? AND digest = ?"
        self._models[model] = int(connection.execute(query, values).fetchone()[0])
