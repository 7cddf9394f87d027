"""Tables of papers: CSV and TSV, with quoted line ends, streamed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO

from classmark.errors import UnreadableSource
from classmark.papers.fields import Place, ReadOptions, build_paper, locate_columns, shown
from classmark.papers.lines import Line, LineFeed, Problem, read_lines
from classmark.records import BadRecord, Paper

MAX_FIELDS = 100_000
"""Of a line: a field takes up to 100 bytes, and a line of 32 MB could hold as many."""


def read_table(
    stream: BinaryIO, options: ReadOptions, delimiter: str = ","
) -> Iterator[Paper | BadRecord]:
    """Yield the papers of a table whose first row names its columns.

    Raises:
        WrongColumns: the header lacks the columns that papers are read from.
        UnreadableSource: there is no readable header.
    """
    lines = read_lines(stream, options.max_record_bytes)
    feed = LineFeed(_without_too_wide(lines, delimiter))
    # One csv.reader for the whole stream: it joins quoted line ends, and holds no more than
    # csv.field_size_limit() of a quote that never ends.
    rows = csv.reader(feed, delimiter=delimiter)
    header = _read_header(rows, feed, options)
    positions = locate_columns(header, options)
    for place, row in _read_rows(rows, feed):
        if isinstance(row, BadRecord):
            yield row
        elif len(row) != len(header):
            message = (
                f"{len(row)} fields, the header has {len(header)} (first field: {shown(row[0])})"
            )
            yield place.bad("wrong_field_count", message)
        else:
            values = {name: row[position] for name, position in positions.items()}
            yield build_paper(values, place, strict_dates=options.strict_dates)


def _without_too_wide(lines: Iterator[Line], delimiter: str) -> Iterator[Line]:
    """Yield the lines; one with too many fields is not split, and has a problem."""
    for line in lines:
        if line.text.count(delimiter) < MAX_FIELDS:
            yield line
        else:
            problem = Problem("too_long", f"holds more than {MAX_FIELDS:,} fields; skipped")
            yield Line(line.number, "\n", line.problem or problem)


def _read_header(rows: Iterator[list[str]], feed: LineFeed, options: ReadOptions) -> list[str]:
    try:
        for row in rows:
            problem = feed.take_problem()
            if problem is not None:
                raise UnreadableSource(f"{options.name}: line {feed.number} {problem.message}.")
            if row:
                return row
    except csv.Error as error:
        raise UnreadableSource(
            f"{options.name}: the first line names no columns ({error}). "
            "The first line of a table must name its columns."
        ) from error
    raise UnreadableSource(f"{options.name} is empty. Give a file with papers.")


def _read_rows(
    rows: Iterator[list[str]], feed: LineFeed
) -> Iterator[tuple[Place, list[str] | BadRecord]]:
    while True:
        place = Place("line", feed.number + 1)
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            feed.take_problem()
            yield place, place.bad("broken_csv", f"a field or its quotes cannot be read ({error})")
            continue
        problem = feed.take_problem()
        if problem is not None:
            yield place, place.bad(problem.kind, problem.message)
        elif row:
            yield place, row
