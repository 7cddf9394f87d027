"""Tables of papers: CSV and TSV, with line breaks in quotes, streamed."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from classmark.errors import UnreadableSource, WrongColumns
from classmark.papers.columns import (
    MAX_HEADING_ROWS,
    TEXTS,
    ReadOptions,
    column_name,
    first_value,
    locate_columns,
    shown,
)
from classmark.papers.fields import Place, build_paper
from classmark.papers.files.lines import Line, Problem, read_lines
from classmark.records import BadRecord, Paper

Row = list[str]

MAX_FIELDS = 100_000
"""Of a line: a field takes up to 100 bytes, and a line of 32 MB could hold as many."""
TAB = "\t"
_SEPARATOR_LINE = "sep="
_RULE = "-:+"
"""Of these is the line below the header in Markdown, Org and the output of databases."""


def read_table(
    stream: BinaryIO, options: ReadOptions, delimiter: str = ","
) -> Iterator[Paper | BadRecord]:
    """Yield the papers of a table, below the first row that names columns of papers.

    A quoted field may go over several lines. One that holds a whole further row is taken for a
    stray quote: in TSV the quote is then a character, in CSV the row is reported, and either way
    reading goes on at the next line. Of joined tables, each header holds for the rows below it.

    Raises:
        WrongColumns: the header lacks the columns that papers are read from.
        UnreadableSource: there is no readable header.
    """
    csv.field_size_limit(max(csv.field_size_limit(), options.max_record_bytes))
    lines = _without_too_wide(read_lines(stream, options.max_record_bytes), delimiter)
    rows = _Rows(lines, delimiter, options.max_record_bytes)
    header = _read_header(rows, options)
    positions = locate_columns(header, options)
    rows.shape = shape = _Shape.of(header, positions, delimiter)
    names = set(map(column_name, header))
    for place, row in rows:
        if isinstance(row, Problem):
            yield place.bad(row.kind, row.message)
        elif _is_blank(row):
            continue  # spreadsheets save rows without a value below the last one
        elif not shape.fits(row):
            message = (
                f"{len(row)} fields, the header has {len(header)} (first field: {shown(row[0])})"
            )
            yield place.bad("wrong_field_count", message)
        elif column_name(row[shape.texts[0][0]]) in names and set(map(column_name, row)) == names:
            positions = locate_columns(map(column_name, row), options)
            rows.shape = shape = _Shape.of(row, positions, delimiter)
        else:
            values = {n: first_value(row.__getitem__, places) for n, places in positions.items()}
            yield build_paper(values, place, options)


def _is_blank(row: Row) -> bool:
    """Tell whether a row holds no value, or only dashes as below a header."""
    return all(not field.strip().strip(_RULE) for field in row)


def _without_too_wide(lines: Iterator[Line], delimiter: str) -> Iterator[Line]:
    """Yield the lines; one with too many fields is not split, and has a problem."""
    for line in lines:
        if line.text.count(delimiter) < MAX_FIELDS:
            yield line
        else:
            problem = Problem("too_long", f"holds more than {MAX_FIELDS:,} fields; skipped")
            yield Line(line.number, "\n", line.problem or problem)


def _read_header(rows: _Rows, options: ReadOptions) -> Row:
    """Return the first row that names columns of papers, else the first one."""
    first: Row = []
    for _, (place, row) in zip(range(1 + MAX_HEADING_ROWS), rows, strict=False):
        if isinstance(row, Problem):
            if first:
                break
            if row.kind != "broken_csv":
                raise UnreadableSource(f"{options.name}: {place} {row.message}.")
            raise UnreadableSource(
                f"{options.name}: the first line names no columns ({row.message}). "
                "The first line of a table must name its columns."
            )
        if row[0].lower().startswith(_SEPARATOR_LINE):
            continue
        with suppress(WrongColumns):
            locate_columns(row, options)
            return row
        first = first or row
    if first:
        return first
    raise UnreadableSource(f"{options.name} is empty. Give a file with papers.")


@dataclass(frozen=True)
class _Shape:
    """What a row of the table looks like.

    Attributes:
        n_fields: of the header.
        texts: positions of titles and of abstracts, as far as the table has them.
        delimiter: between two fields.
    """

    n_fields: int
    texts: tuple[tuple[int, ...], ...]
    delimiter: str

    @classmethod
    def of(cls, header: Row, positions: Mapping[str, tuple[int, ...]], delimiter: str) -> _Shape:
        """Return the shape of the rows below a header."""
        texts = tuple(positions[name] for name in TEXTS if name in positions)
        return cls(len(header), texts, delimiter)

    def fits(self, row: Row) -> bool:
        """Tell whether a row has the fields of the header; an empty one more is passed over."""
        return len(row) == self.n_fields or (len(row) == self.n_fields + 1 and not row[-1])

    def is_whole(self, row: Row) -> bool:
        """Tell whether a line, read by itself, is a row and not a piece of prose.

        Prose has a blank after a comma, and rarely as many commas as the table has columns.
        """
        if not self.fits(row) or (self.delimiter != TAB and any(f[:1] == " " for f in row)):
            return False
        n_texts = sum(any(" " in row[i].strip() for i in places) for places in self.texts)
        return n_texts >= (1 if self.n_fields > 2 else len(self.texts))


class _Rows:
    """The rows of a table, each with its place, or the problem of one.

    Attributes:
        shape: of its rows; None until the header is known.
    """

    def __init__(self, lines: Iterator[Line], delimiter: str, max_bytes: int) -> None:
        self._lines = lines
        self._ahead: deque[Line] = deque()
        self._delimiter = delimiter
        self._max_bytes = max_bytes
        self.shape: _Shape | None = None

    def __iter__(self) -> Iterator[tuple[Place, Row | Problem]]:
        while (line := self._next_line()) is not None:
            is_bad = line.problem is not None and _is_balanced(line.text)
            row = line.problem if is_bad else self._row_from(line)
            if row:
                yield Place("line", line.number), row

    def _next_line(self) -> Line | None:
        return self._ahead.popleft() if self._ahead else next(self._lines, None)

    def _row_from(self, line: Line) -> Row | Problem | None:
        """Return the row that begins with a line; None of an empty line."""
        try:
            return self._parse([line.text])
        except csv.Error as error:
            problem = error
        if _is_balanced(line.text):
            if "\r" in line.text.rstrip("\r\n"):  # two rows, whose ends are not those of the others
                return self._first_of_several(line)
            return self._leniently(line.text, problem)
        following: list[Line] = []
        try:
            row = self._parse(self._texts_from(line, following))
        except csv.Error:
            row = None
        if row is None or not (self.shape is None or self.shape.fits(row)):
            self._ahead.extendleft(reversed(following))
            return line.problem or self._with_stray_quote(line)
        problems = [part.problem for part in (line, *following) if part.problem is not None]
        return problems[0] if problems else row

    def _first_of_several(self, line: Line) -> Row | Problem | None:
        """Return the row before a carriage return that ends it; those after it wait."""
        texts = line.text.rstrip("\r\n").split("\r")
        first, *others = [Line(line.number, f"{text}\n", line.problem) for text in texts]
        self._ahead.extendleft(reversed(others))
        return self._row_from(first)

    def _texts_from(self, line: Line, following: list[Line]) -> Iterator[str]:
        """Yield the texts of a record with line breaks, as far as it can go."""
        n_chars = len(line.text)
        yield line.text
        while (more := self._next_line()) is not None:
            following.append(more)
            n_chars += len(more.text)
            if n_chars > self._max_bytes or self._holds_a_row(more.text):
                return
            yield more.text

    def _holds_a_row(self, text: str) -> bool:
        try:
            return self.shape is not None and self.shape.is_whole(self._parse([text]) or [])
        except csv.Error:
            return False

    def _parse(self, texts: Iterator[str] | list[str]) -> Row | None:
        """Return the one row of these texts; strictly, so that an open quote is an error."""
        return next(csv.reader(iter(texts), delimiter=self._delimiter, strict=True), None)

    def _leniently(self, text: str, problem: csv.Error) -> Row | Problem:
        """Read a line with text after a closing quote, as spreadsheets do."""
        try:
            return next(csv.reader([text], delimiter=self._delimiter))
        except csv.Error:
            return _broken(str(problem))

    def _with_stray_quote(self, line: Line) -> Row | Problem | None:
        if self._delimiter != TAB:
            return _broken("a quote is opened, and not closed before the next row")
        if "\r" in line.text.rstrip("\r\n"):
            return self._first_of_several(line)
        reader = csv.reader([line.text], delimiter=TAB, quoting=csv.QUOTE_NONE)
        return next(reader)


def _is_balanced(text: str) -> bool:
    """Tell whether every quote that a line opens could be closed on it."""
    return text.count('"') % 2 == 0


def _broken(why: str) -> Problem:
    return Problem("broken_csv", f"a field or its quotes cannot be read ({why})")
