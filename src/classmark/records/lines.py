"""The published answer in text: JSON lines and CSV rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable

from classmark.records.answer import Answer
from classmark.records.paper import BadRecord


def json_line(result: Answer | BadRecord) -> str:
    """Return the published object on one line, without its end."""
    return json.dumps(result.to_dict(), ensure_ascii=False)


def csv_header(top: int) -> str:
    """Return the line of column names: id, primary, reason, probability, top1 ... topk."""
    columns = ["id", "primary", "reason", "probability"]
    return _csv([[*columns, *(f"top{i}" for i in range(1, top + 1))]])


def csv_lines(answers: Iterable[Answer]) -> str:
    """Return one line for each answer, under the columns of ``csv_header``."""
    return _csv(
        [
            answer.id or "",
            answer.primary or "",
            answer.reason,
            f"{answer.probability:.6f}",
            *(ranked.code for ranked in answer.ranked),
        ]
        for answer in answers
    )


def _csv(rows: Iterable[list[str]]) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
