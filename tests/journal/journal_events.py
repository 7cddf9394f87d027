"""Events for the tests of the journal, and waiting for what a thread or process does."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from classmark.journal import JournalConfig, read_predictions
from classmark.journal.database import live_file, mark_closed, open_writer
from classmark.journal.migrations import transaction
from classmark.journal.place import Place
from classmark.journal.writer import writer_for
from classmark.records import FeedbackEvent, PredictionEvent, new_prediction_id, utc_text
from classmark.wire import ModelRef

PATIENCE_S = 200.0
OLD = "2020-01-01T00:00:00.000Z"
MODEL = ModelRef("fast", "1.0", "d" * 64)


def prediction(**changes: Any) -> PredictionEvent:
    """Return a prediction of now with an id of its own."""
    values: dict[str, Any] = {
        "prediction_id": new_prediction_id(),
        "at_utc": utc_text(),
        "model": MODEL,
        "paper_id": "2401.00001",
        "text_fingerprint": "0123456789abcdef",
        "primary": "cs.LG",
        "reason": "accepted",
        "ranked": (("cs.LG", 0.75), ("stat.ML", 0.125), ("cs.AI", 0.0625)),
        "set": ("cs.LG", "stat.ML"),
        "cross_lists": ("stat.ML",),
        "known_share": 0.5,
        "n_chars": 900,
        "n_words": 140,
        "latex_share": 0.25,
        "latency_ms": 1.5,
    }
    return PredictionEvent(**{**values, **changes})


def feedback(prediction_id: str, category: str = "stat.ML", **changes: Any) -> FeedbackEvent:
    """Return feedback of now."""
    values: dict[str, Any] = {"at_utc": utc_text(), "comment": None}
    return FeedbackEvent(prediction_id=prediction_id, category=category, **{**values, **changes})


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Return when a condition holds, and fail if it never does."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.005)


def has_ended(pid: int) -> bool:
    """Return whether there is no such process, or nobody has asked yet how it ended."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return not state.strip() or state.startswith("Z")


def write(path: Place, *events: object, **options: object) -> None:
    """Write events as a process of its own would."""
    writer = writer_for(JournalConfig(path=path, **options))  # type: ignore[arg-type]
    writer.write(events)  # type: ignore[arg-type]
    writer.close()


def rotate(path: Path) -> None:
    """Close the live file for good."""
    connection = open_writer(live_file(path), busy_timeout_ms=1000)
    with transaction(connection):
        mark_closed(connection)
    connection.close()


def ids_in(path: Place) -> list[str]:
    """Return the ids of all predictions of a journal."""
    return [found.event.prediction_id for found in read_predictions(path)]


def bytes_in(folder: Path) -> bytes:
    """Return what all files of a folder hold."""
    return b"".join(file.read_bytes() for file in folder.iterdir())


def old_prediction(**changes: object) -> PredictionEvent:
    """Return a prediction of ``OLD``."""
    return prediction(at_utc=OLD, prediction_id=new_prediction_id(at_ms=1), **changes)
