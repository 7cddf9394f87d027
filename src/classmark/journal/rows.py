"""Events as rows of the tables, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec

from classmark.errors import InvalidJournal
from classmark.journal.place import Connection
from classmark.records import Compared, FeedbackEvent, PredictionEvent
from classmark.wire import ModelRef

Row = tuple[Any, ...]

PREDICTION_COLUMNS = (
    *("prediction_id", "at_utc", "model", "paper_id", "text_fingerprint", "primary_code"),
    *("reason", "ranked", "prediction_set", "cross_lists", "known_share", "n_chars", "n_words"),
    *("latex_share", "latency_ms", "source", "author_category", "used_authors", "compared"),
    *("client", "service_version", "features", "text"),
)
# Written first wins: a retry of a request, or of a transaction, is the same event.
_VALUES = f"({', '.join('?' * len(PREDICTION_COLUMNS))})"


_ROWS_AT_ONCE = (500, 100, 20)  # 500 rows have 11,500 values; SQLite takes 32,766
_INSERT_MANY = {
    n_rows: f"INSERT INTO predictions ({', '.join(PREDICTION_COLUMNS)}) "  # noqa: S608 - no input
    f"VALUES {', '.join([_VALUES] * n_rows)} ON CONFLICT (prediction_id) DO NOTHING"
    for n_rows in (*_ROWS_AT_ONCE, 1)
}
# AuthorEvidence again is evidence later: of A, B, A the last word is A.
INSERT_FEEDBACK = (
    "INSERT INTO feedback (prediction_id, category, comment, at_utc, client) "
    "VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (prediction_id, category, comment, client) DO UPDATE SET at_utc = excluded.at_utc "
    "WHERE excluded.at_utc > feedback.at_utc"
)
SELECT_PREDICTIONS = (
    "SELECT models.name, models.version, models.digest, "  # noqa: S608 - no input in it
    + ", ".join(f"predictions.{name}" for name in PREDICTION_COLUMNS if name != "model")
    + " FROM predictions JOIN models ON models.id = predictions.model"
)
SELECT_FEEDBACK = "SELECT prediction_id, category, comment, at_utc, client FROM feedback"

_pack = msgspec.json.encode
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@lru_cache(8192)
def _encode_codes(codes: tuple[str, ...] | str) -> str:
    return _encode(codes)


def _encode_ranked(ranked: tuple[tuple[str, float], ...]) -> str:
    # The same few codes come again and again; as one string a third of the encoder's time.
    pairs = ",".join([f"[{_encode_codes(code)},{share!r}]" for code, share in ranked])
    return f"[{pairs}]"


def insert_predictions(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert rows of ``PREDICTION_COLUMNS``; known ids are passed over.

    Python's lock is given away at every statement, and while this thread waits to get it back the
    event loop pays at every call that lets it go: hence many rows with one statement.
    """
    first = 0
    for n_rows in _ROWS_AT_ONCE:
        statement = _INSERT_MANY[n_rows]
        while len(rows) - first >= n_rows:
            connection.execute(statement, list(chain(*rows[first : first + n_rows])))
            first += n_rows
    if first < len(rows):  # the last row fills the statement up: again, it is a known one
        rest = [*rows[first:], *[rows[-1]] * (n_rows - len(rows) + first)]
        connection.execute(statement, list(chain(*rest)))


def insert_one_by_one(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert rows of ``PREDICTION_COLUMNS`` with one short statement; known ids are passed over.

    PostgreSQL's driver sends them without waiting, and prepares the statement: a third of the time.
    """
    connection.cursor().executemany(_INSERT_MANY[1], rows)


def prediction_row(event: PredictionEvent, model: int, *, keep_text: bool) -> Row:
    """Return the values of ``PREDICTION_COLUMNS``.

    Args:
        event: what to write.
        model: row of its model in the table ``models``.
        keep_text: write its text, too.
    """
    return (
        event.prediction_id,
        event.at_utc,
        model,
        storable(event.paper_id),
        event.text_fingerprint,
        event.primary,
        event.reason,
        _encode_ranked(event.ranked),
        _encode_codes(event.set),
        _encode_codes(event.cross_lists),
        event.known_share,
        event.n_chars,
        event.n_words,
        event.latex_share,
        event.latency_ms,
        event.source,
        storable(event.author_category),
        int(event.used_authors),  # PostgreSQL has no number for a bool
        None if event.compared is None else _pack(event.compared).decode(),
        event.client,
        event.service_version,
        event.features,
        storable(event.text) if keep_text else None,
    )


def prediction_of(row: Row) -> PredictionEvent:
    """Return the event of a row of ``SELECT_PREDICTIONS``.

    Raises:
        InvalidJournal: the row is damaged.
    """
    names = [name for name in PREDICTION_COLUMNS if name != "model"]
    values = dict(zip(names, row[3:], strict=True))
    try:
        return PredictionEvent(
            model=ModelRef(*row[:3]),
            primary=values.pop("primary_code"),
            ranked=tuple((code, share) for code, share in json.loads(values.pop("ranked"))),
            set=tuple(json.loads(values.pop("prediction_set"))),
            cross_lists=tuple(json.loads(values.pop("cross_lists"))),
            used_authors=bool(values.pop("used_authors")),
            compared=_compared_of(values.pop("compared")),
            **values,
        )
    except (ValueError, TypeError) as error:
        raise InvalidJournal(
            f"the journal holds a damaged prediction, {str(row[3])[:40]!r}. Move the file away; a "
            "new one is started."
        ) from error


def _compared_of(text: str | None) -> Compared | None:
    return None if text is None else msgspec.json.decode(text, type=Compared)


def feedback_row(event: FeedbackEvent) -> Row:
    """Return the values of ``INSERT_FEEDBACK``; no comment is the empty one."""
    return (
        event.prediction_id,
        storable(event.category),
        storable(event.comment) or "",
        event.at_utc,
        event.client,
    )


def feedback_of(row: Row) -> FeedbackEvent:
    """Return the event of a row of ``SELECT_FEEDBACK``."""
    return FeedbackEvent(
        prediction_id=row[0],
        category=row[1],
        comment=row[2] or None,
        at_utc=row[3],
        client=row[4],
    )


def storable(text: str | None) -> str | None:
    """Return the text with a question mark for each half of a character, which UTF-8 has not."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "replace").decode()
