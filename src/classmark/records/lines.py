"""The published answer as rows of CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from classmark.records.paper import BadRecord, Paper
from classmark.wire import Answer

CSV_COLUMNS = (
    *("id", "title", "primary", "name", "reason", "probability"),
    *("set", "cross_lists"),
)
CSV_MARK = "\ufeff"
"""Begins a file that people open: Excel takes one without it for the encoding of the country."""
_BETWEEN_CODES = "; "

# The page that the service shows (app.js) follows the same rules.
_BLANK = "\x00-\x20\x7f-\xa0\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff"
_FORMULA = re.compile(f"[\t\r\n]|[{_BLANK}]*[=+@\\-\uff1d\uff0b\uff20\uff0d]")


def csv_header(top: int) -> str:
    """Return the line of column names: ``CSV_COLUMNS``, then three for each rank."""
    ranks = (f"top{i}" for i in range(1, top + 1))
    columns = (name for rank in ranks for name in (rank, f"{rank}_name", f"{rank}_probability"))
    return csv_text([[*CSV_COLUMNS, *columns]])


def csv_lines(
    results: Iterable[tuple[object, Answer | BadRecord]], *, raw_cells: bool = False
) -> str:
    """Return one line for each paper and its answer, under the columns of ``csv_header``.

    Bad records have no line.
    """
    rows = (
        _csv_row(paper, answer)
        for paper, answer in results
        if isinstance(paper, Paper) and isinstance(answer, Answer)
    )
    return csv_text(rows, raw_cells=raw_cells)


def _csv_row(paper: Paper, answer: Answer) -> list[str]:
    row = [
        *(answer.id or "", paper.title_line),
        *(answer.primary or "", answer.ranked[0].name if answer.primary else ""),
        *(answer.reason, f"{answer.probability:.6f}"),
        *(_BETWEEN_CODES.join(codes or ()) for codes in (answer.set, answer.cross_lists)),
    ]
    for ranked in answer.ranked:
        row += (ranked.code, ranked.name, f"{ranked.probability:.6f}")
    return row


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
