"""Tables of papers: CSV and TSV, with quoted line ends, streamed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO

from classmark.errors import UnreadableSource
from classmark.papers.fields import Place, ReadOptions, build_paper, locate_columns, shown
from classmark.papers.lines import LineFeed, read_lines
from classmark.records import BadRecord, Paper


def read_table(
    stream: BinaryIO, options: ReadOptions, delimiter: str = ","
) -> Iterator[Paper | BadRecord]:
    """Yield the papers of a table whose first row names its columns.

    Raises:
        WrongColumns: the header lacks the columns that papers are read from.
        UnreadableSource: there is no readable header.
    """
    feed = LineFeed(read_lines(stream, options.max_record_bytes))
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


def _read_header(rows: Iterator[list[str]], feed: LineFeed, options: ReadOptions) -> list[str]:
    try:
        header = next((row for row in rows if row), None)
    except csv.Error as error:
        raise UnreadableSource(
            f"{options.name}: the first line names no columns ({error}). "
            "The first line of a table must name its columns."
        ) from error
    problem = feed.take_problem()
    if problem is not None:
        raise UnreadableSource(f"{options.name}: line {feed.number} {problem.message}.")
    if header is None:
        raise UnreadableSource(f"{options.name} is empty. Give a file with papers.")
    return header


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
