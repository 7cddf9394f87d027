"""The published answer in text: JSON lines and CSV rows."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from classmark.records.answer import Answer
from classmark.records.paper import BadRecord

# The page that the service shows (app.js) follows the same rule.
_BLANK = "\x00-\x20\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff"
_FORMULA = re.compile(f"[\t\r\n]|[{_BLANK}]*[=+@\\-\uff1d\uff0b\uff20\uff0d]")


def json_line(result: Answer | BadRecord) -> str:
    """Return the published object on one line, without its end."""
    return json.dumps(result.to_dict(), ensure_ascii=False)


def csv_header(top: int) -> str:
    """Return the line of column names: id, primary, reason, probability, top1 ... topk."""
    columns = ["id", "primary", "reason", "probability"]
    return csv_text([[*columns, *(f"top{i}" for i in range(1, top + 1))]])


def csv_lines(answers: Iterable[Answer], *, raw_cells: bool = False) -> str:
    """Return one line for each answer, under the columns of ``csv_header``."""
    rows = (
        [
            answer.id or "",
            answer.primary or "",
            answer.reason,
            f"{answer.probability:.6f}",
            *(ranked.code for ranked in answer.ranked),
        ]
        for answer in answers
    )
    return csv_text(rows, raw_cells=raw_cells)


def csv_text(rows: Iterable[Sequence[object]], *, raw_cells: bool = False) -> str:
    """Return rows as CSV for people, who open it in a spreadsheet.

    A spreadsheet takes a text for a formula if it begins with ``=``, ``+``, ``-`` or ``@``, also
    after white space or in full width; it drops a tab or a line end before one. Such texts get an
    apostrophe in front, which a spreadsheet does not show. Numbers stay numbers.

    Args:
        rows: texts, numbers and None.
        raw_cells: write texts as they are, for programs.
    """
    lines: list[str] = []
    written = rows if raw_cells else ([_harmless(cell) for cell in row] for row in rows)
    # Of the ends of lines, the writer quotes only those that are in its own: a bare CR would begin
    # a new row, with a formula perhaps.
    csv.writer(_Sink(lines.append), lineterminator="\r\n").writerows(written)
    return "".join(f"{line[:-2]}\n" for line in lines)


class _Sink(NamedTuple):
    write: Callable[[str], object]


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell
