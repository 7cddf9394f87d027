"""Events as rows of the tables, and back."""

from __future__ import annotations

import json
from typing import Any

from classmark.records import FeedbackEvent, ModelRef, PredictionEvent

Row = tuple[Any, ...]

PREDICTION_COLUMNS = (
    *("prediction_id", "at_utc", "model", "paper_id", "text_fingerprint", "primary_code"),
    *("reason", "ranked", "prediction_set", "cross_lists", "known_share", "n_chars", "n_words"),
    *("latex_share", "latency_ms", "source", "author_category", "text"),
)
# Written first wins: a retry of a request, or of a transaction, is the same event.
INSERT_PREDICTION = (
    f"INSERT INTO predictions ({', '.join(PREDICTION_COLUMNS)}) "  # noqa: S608 - no input in it
    f"VALUES ({', '.join('?' * len(PREDICTION_COLUMNS))}) ON CONFLICT (prediction_id) DO NOTHING"
)
# Said again is said later: of A, B, A the last word is A.
INSERT_FEEDBACK = (
    "INSERT INTO feedback (prediction_id, category, comment, at_utc) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (prediction_id, category, comment) DO UPDATE SET at_utc = excluded.at_utc "
    "WHERE excluded.at_utc > feedback.at_utc"
)
SELECT_PREDICTIONS = (
    "SELECT models.name, models.version, models.digest, "  # noqa: S608 - no input in it
    + ", ".join(f"predictions.{name}" for name in PREDICTION_COLUMNS if name != "model")
    + " FROM predictions JOIN models ON models.id = predictions.model"
)
SELECT_FEEDBACK = "SELECT prediction_id, category, comment, at_utc FROM feedback"

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


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
        _encode(event.ranked),
        _encode(event.set),
        _encode(event.cross_lists),
        event.known_share,
        event.n_chars,
        event.n_words,
        event.latex_share,
        event.latency_ms,
        event.source,
        storable(event.author_category),
        storable(event.text) if keep_text else None,
    )


def prediction_of(row: Row) -> PredictionEvent:
    """Return the event of a row of ``SELECT_PREDICTIONS``."""
    values = dict(
        zip([name for name in PREDICTION_COLUMNS if name != "model"], row[3:], strict=True)
    )
    return PredictionEvent(
        model=ModelRef(*row[:3]),
        primary=values.pop("primary_code"),
        ranked=tuple((code, share) for code, share in json.loads(values.pop("ranked"))),
        set=tuple(json.loads(values.pop("prediction_set"))),
        cross_lists=tuple(json.loads(values.pop("cross_lists"))),
        **values,
    )


def feedback_row(event: FeedbackEvent) -> Row:
    """Return the values of ``INSERT_FEEDBACK``; no comment is the empty one."""
    return (
        event.prediction_id,
        storable(event.category),
        storable(event.comment) or "",
        event.at_utc,
    )


def feedback_of(row: Row) -> FeedbackEvent:
    """Return the event of a row of ``SELECT_FEEDBACK``."""
    return FeedbackEvent(
        prediction_id=row[0], category=row[1], comment=row[2] or None, at_utc=row[3]
    )


def storable(text: str | None) -> str | None:
    """Return the text with a question mark for each half of a character, which UTF-8 has not."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "replace").decode()
