"""Excel workbooks of papers (.xlsx, .xlsm); openpyxl is imported only when one is read.

A cell becomes the text that a CSV file would have in its place.
"""

from __future__ import annotations

import itertools
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

from classmark.errors import ClassmarkError, MissingExtra, UnreadableSource, WrongColumns
from classmark.papers.columns import (
    MAX_HEADING_ROWS,
    ReadOptions,
    column_name,
    first_value,
    locate_columns,
)
from classmark.papers.fields import TEXT_FIELDS, Place, build_paper
from classmark.papers.files.lines import too_long
from classmark.papers.files.sources import DAMAGE, DOCUMENT_MEMBERS, Source, refuse_bomb
from classmark.records import BadRecord, Paper

MAX_ROWS = 1_048_576
"""Of a sheet, as in Excel. Further rows can only be claimed, to be counted for ever."""
MAX_COLUMNS = 1_000
"""Of a header. Each row takes as much time and memory as its header is wide, even an empty row."""

_AS_TABLE = "which is not read. Save it as .xlsx or CSV"
_AS_TEXT = "which is not read. Give its title and abstract as plain text, or its record as BibTeX"
_DOCUMENTS = {
    "xl/workbook.bin": f"a binary Excel workbook (.xlsb), {_AS_TABLE}",
    "word/": f"a Word document (.docx), {_AS_TEXT}",
    "ppt/": f"a PowerPoint presentation (.pptx), {_AS_TEXT}",
    "content.xml": f"an OpenDocument file (.ods, .odt), {_AS_TABLE}, or as plain text",
    "": "a document or package, which is not read. Give the file of papers itself",
}
"""What begins the name of a member of a document -> what the document is."""
_LINE_ENDS = re.compile(r"_x000[9AD]_")


def is_spreadsheet(source: Source) -> bool:
    """Tell an Excel workbook from a zip of another kind.

    Raises:
        UnreadableSource: it is another document, such as one of Word.
    """
    if source.seekable is None:
        return source.suffix in (".xlsx", ".xlsm")
    try:
        names = zipfile.ZipFile(source.seekable).namelist()
    except (*DAMAGE, NotImplementedError):
        return False
    if "xl/workbook.xml" in names:
        return True
    if DOCUMENT_MEMBERS.isdisjoint(names):
        return False
    kinds = (what for start, what in _DOCUMENTS.items() if any(n.startswith(start) for n in names))
    raise UnreadableSource(f"{source.name} is {next(kinds)}.")


def unpacked_bytes(file: BinaryIO) -> int:
    """Return how many bytes a workbook unpacks to."""
    return sum(member.file_size for member in zipfile.ZipFile(file).infolist())


def read_spreadsheet(file: BinaryIO, options: ReadOptions) -> Iterator[Paper | BadRecord]:
    """Yield the papers of every sheet whose first row names the columns of papers.

    Args:
        file: seekable.
        options: how to read.

    Raises:
        MissingExtra: openpyxl is not installed.
        UnreadableSource: it is not a workbook, or damaged.
        WrongColumns: no sheet has the columns that papers are read from.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtra(f"{options.name} is an Excel workbook; reading it", "xlsx") from error
    with _named(options.name):
        for member in zipfile.ZipFile(file).infolist():
            refuse_bomb(member, options.name)
    book = _Book(file, options, openpyxl)
    headers = [header for header in map(book.header, range(book.n_sheets)) if header is not None]
    if not any(header.positions for header in headers):
        errors = (header.error for header in headers if header.error is not None)
        raise next(errors, UnreadableSource(f"{options.name} is empty. Give a file with papers."))
    pages = itertools.count(1)
    for header in headers:
        unit = "row" if len(headers) == 1 else f"sheet {header.title!r}, row"
        if header.error is not None:
            yield Place(unit, header.row).bad("wrong_columns", str(header.error))
        else:
            yield from book.papers(header, unit, next(pages))


@dataclass(frozen=True)
class _Header:
    """The row of a sheet that names its columns.

    Attributes:
        sheet: number of the sheet, from 0.
        title: of the sheet.
        row: its number, from 1.
        n_columns: how far it goes; cells to the right of it are not looked at.
        positions: field of a paper -> columns, from 0, best first.
        names: of its columns, as far as it goes.
        error: why no papers can be read from the sheet.
    """

    sheet: int
    title: str
    row: int
    n_columns: int
    positions: dict[str, tuple[int, ...]]
    names: tuple[str, ...] = ()
    error: WrongColumns | None = None

    def comes_again(self, row: Sequence[Any]) -> bool:
        """Tell whether a row is this header again, as below tables that were joined."""
        first = next(iter(self.positions.values()))[0]
        return _name(row[first]) == self.names[first] and tuple(map(_name, row)) == self.names


@dataclass(frozen=True, slots=True)
class _Unread:
    """A cell without a value, with the reason."""

    reason: str


class _Book:
    """An open workbook."""

    def __init__(self, file: BinaryIO, options: ReadOptions, openpyxl: Any) -> None:
        self._file = file
        self._options = options
        self._openpyxl = openpyxl
        self._sheets = self._open(values=True)
        self.n_sheets = len(self._sheets)

    def _open(self, *, values: bool) -> Sequence[Any]:
        """Return the sheets, with the values that were saved or with the formulas."""
        with _named(self._options.name):
            book = self._openpyxl.load_workbook(
                self._file, read_only=True, data_only=values, keep_links=False
            )
            sheets: Sequence[Any] = book.worksheets
            return sheets

    def header(self, sheet: int) -> _Header | None:
        """Return the header of a sheet; None if the sheet is empty, or hidden and not of papers.

        It is the first row that names columns of papers, else the first one, with an error.
        """
        rows = self._rows(self._sheets[sheet], MAX_COLUMNS)
        filled = (found for found in rows if _holds_anything(found[1]))
        title = str(self._sheets[sheet].title)
        first: _Header | None = None
        for number, row in itertools.islice(filled, 1 + MAX_HEADING_ROWS):
            try:
                positions = locate_columns([str(_value(cell) or "") for cell in row], self._options)
            except WrongColumns as error:
                first = first or _Header(sheet, title, number, 0, {}, error=error)
                continue
            width = max(i for i, cell in enumerate(row, 1) if cell.value is not None)
            return _Header(sheet, title, number, width, positions, tuple(map(_name, row[:width])))
        return first if self._sheets[sheet].sheet_state == "visible" else None

    def papers(self, header: _Header, unit: str, page: int) -> Iterator[Paper | BadRecord]:
        """Yield the papers of the rows below a header, but for empty rows."""
        formulas: Iterator[tuple[int, Sequence[Any]]] | None = None
        for number, row in self._rows(self._sheets[header.sheet], header.n_columns):
            if number <= header.row or not _holds_anything(row) or header.comes_again(row):
                continue
            held = list(map(_value, row))
            values = {n: first_value(held.__getitem__, i) for n, i in header.positions.items()}
            empty = [name for name in TEXT_FIELDS if name in values and values[name] is None]
            if empty:
                if formulas is None:
                    formulas = self._rows(self._open(values=False)[header.sheet], header.n_columns)
                cells = next((cells for other, cells in formulas if other == number), row)
                for name in empty:
                    if any(cells[i].data_type == "f" for i in header.positions[name]):
                        values[name] = _Unread("is a formula whose value is not saved in the file")
            yield self._paper(values, Place(unit, number, page))

    def _rows(self, sheet: Any, n_columns: int) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yield the rows of a sheet with their numbers, each of so many cells."""
        sheet.reset_dimensions()  # what a file says about its size may be wrong
        rows = sheet.iter_rows(max_col=n_columns)
        for number in itertools.count(1):
            with _named(self._options.name):
                row = next(rows, None)
            if row is None:
                return
            if number > MAX_ROWS:
                raise UnreadableSource(
                    f"{self._options.name} claims more than {MAX_ROWS:,} rows in a sheet, which "
                    "Excel cannot have. Save it again in a spreadsheet program, or as CSV."
                )
            yield number, row

    def _paper(self, values: dict[str, Any], place: Place) -> Paper | BadRecord:
        for name, value in values.items():
            if not isinstance(value, _Unread):
                continue
            if name in TEXT_FIELDS:
                return place.bad("wrong_type", f"{name} {value.reason}")
            values = {**values, name: None}
        n_chars = sum(len(value) for value in values.values() if isinstance(value, str))
        if n_chars > self._options.max_record_bytes:
            problem = too_long(n_chars, self._options.max_record_bytes)
            return place.bad(problem.kind, problem.message)
        return build_paper(values, place, self._options)


def _holds_anything(row: Sequence[Any]) -> bool:
    return any(cell.value is not None for cell in row)


def _name(cell: Any) -> str:
    return column_name(str(_value(cell) or ""))


def _value(cell: Any) -> str | float | _Unread | None:
    """Return the text of a cell, as in a CSV file; of an identifier a number may lack zeros."""
    value = cell.value
    if cell.data_type == "e":
        return _Unread(f"is the error {value}")
    if isinstance(value, str):
        return _LINE_ENDS.sub("\n", value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return value
    return None if value is None else str(value)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn whatever openpyxl raises for a damaged file into one error, and keep it from warning."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ClassmarkError, MemoryError):
        raise
    except Exception as error:
        cause = error.__cause__ or error  # openpyxl leads it by three lines of its own
        raise UnreadableSource(
            f"{name} is not a readable Excel workbook ({type(cause).__name__}: "
            f"{str(cause)[:200]}). Save it again in a spreadsheet program, or as CSV."
        ) from error
