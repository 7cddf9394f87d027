"""Logs of the service: one JSON object a line on stderr, never with the text of a paper."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import Any, TextIO

LOGGER_NAME = "classmark.service"
_EXTRA = "fields"
_MAX_MESSAGE_CHARS = 500


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object: time, level, event, and what came with it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "event": record.getMessage()[:_MAX_MESSAGE_CHARS],
            "pid": record.process,
        }
        line.update(getattr(record, _EXTRA, {}))
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = _without_values(record.exc_info[1])
        return json.dumps(line, ensure_ascii=True, default=str)


def set_up_logs(stream: TextIO | None = None, *, access_log: bool = True) -> logging.Logger:
    """Send the logs of this process to stderr as JSON lines; returns the logger.

    Args:
        stream: instead of stderr.
        access_log: also one line a request.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger(LOGGER_NAME)
    for name in (LOGGER_NAME, "uvicorn.error"):
        target = logging.getLogger(name)
        target.handlers[:] = [handler]
        target.propagate = False
        target.setLevel(logging.WARNING)
    # What it has to say of a form, the reply says too.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    logger.setLevel(logging.INFO)
    logging.getLogger(f"{LOGGER_NAME}.access").setLevel(
        logging.INFO if access_log else logging.WARNING
    )
    return logger


def log(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Write one line about the service."""
    logging.getLogger(LOGGER_NAME).log(level, event, extra={_EXTRA: fields})


def log_failure(event: str, error: BaseException, **fields: Any) -> None:
    """Write where an unexpected error arose; its message may hold a text, so it is left out."""
    logging.getLogger(LOGGER_NAME).error(
        event, extra={_EXTRA: fields}, exc_info=(type(error), error, error.__traceback__)
    )


def _utc(created: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created))
    return f"{whole}.{int(created % 1 * 1000):03d}Z"


def _without_values(error: BaseException) -> dict[str, Any]:
    """Return the type of an error and its places in the code, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "type": type(error).__name__,
        "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
