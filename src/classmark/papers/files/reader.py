"""Papers from a source of any known format: the one entry of all readers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from io import TextIOBase
from pathlib import Path
from typing import BinaryIO

from classmark.errors import UnreadableSource, UsageError
from classmark.papers.columns import DEFAULT_MAX_RECORD_BYTES, Columns, ReadOptions
from classmark.papers.files.bibtex import read_bibtex
from classmark.papers.files.detect import FORMATS, delimiter_of, format_of, likeliest_delimiter
from classmark.papers.files.jsonfiles import read_json_document, read_json_lines
from classmark.papers.files.lines import read_whole
from classmark.papers.files.parquet import read_parquet
from classmark.papers.files.sources import Source, damage_named, open_path, open_stream
from classmark.papers.files.spreadsheets import read_spreadsheet
from classmark.papers.files.tables import read_table
from classmark.papers.files.tagged import DIALECTS, read_tagged
from classmark.papers.files.xml.documents import read_xml
from classmark.records import BadRecord, Paper

STANDARD_INPUT = "standard input"


def read_papers(
    source: str | Path | BinaryIO,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | Columns | None = None,
    max_record_bytes: int = DEFAULT_MAX_RECORD_BYTES,
    strict_dates: bool = False,
    whole_labels: bool = False,
) -> Iterator[Paper | BadRecord]:
    """Yield the papers of a file or stream in order, and a BadRecord where one cannot be read.

    Tables, JSON, XML, workbooks and tagged records are streamed, so memory does not grow with the
    file. The source is opened when the first paper is asked for, and closed after the last one.

    Args:
        source: path of a file, or a binary stream (which stays open); gzip, bzip2, xz, and a zip
            of one file, are read as what is in them.
        format: one of ``detect.FORMATS``, or "auto" to find out from content and name.
        columns: field of a paper -> column or key, where they do not have the usual names; or
            ``Columns``, which distinguishes required from optional ones.
        max_record_bytes: a longer record is skipped and reported.
        strict_dates: an unreadable date makes a bad record; else it is taken as unknown.
        whole_labels: categories are the user's own labels, which may hold blanks and commas: a text
            is one label, unless it is a list in JSON or Python.

    Raises:
        UsageError: at once, for an unknown format, an unknown field in ``columns``, or a source
            that is neither a path nor a binary stream.
        UnreadableSource: at the first paper or later, if nothing (more) can be read at all.
        WrongColumns: at the first paper, if a table lacks the columns it is read from.
        MissingExtra: at the first paper, if reading needs a package that is not installed.
    """
    check_format(format)
    source = Path(source) if isinstance(source, str) else source
    if isinstance(source, TextIOBase) or not (isinstance(source, Path) or hasattr(source, "read")):
        raise UsageError(
            f"cannot read papers from a {type(source).__name__}. Give the path of a file, or a "
            'binary stream, such as open(path, "rb").'
        )
    options = ReadOptions(
        name=str(source) if isinstance(source, Path) else STANDARD_INPUT,
        columns=Columns.of(columns),
        max_record_bytes=max_record_bytes,
        strict_dates=strict_dates,
        whole_labels=whole_labels,
    )
    return _records_of(source, format, options)


def read_stream(
    stream: BinaryIO,
    *,
    format: str = "auto",
    columns: Mapping[str, str] | Columns | None = None,
    max_record_bytes: int = DEFAULT_MAX_RECORD_BYTES,
    strict_dates: bool = False,
    whole_labels: bool = False,
) -> Iterator[Paper | BadRecord]:
    """Yield the papers of standard input or another binary stream; see ``read_papers``.

    Text in no known format of records is one paper.
    """
    return read_papers(
        stream,
        format=format,
        columns=columns,
        max_record_bytes=max_record_bytes,
        strict_dates=strict_dates,
        whole_labels=whole_labels,
    )


def _records_of(
    source: Path | BinaryIO, format: str, options: ReadOptions
) -> Iterator[Paper | BadRecord]:
    with damage_named(options.name):
        if isinstance(source, Path):
            with open_path(source) as opened:
                yield from read_source(opened, format, options)
        else:
            opened = open_stream(source, name=options.name)
            yield from read_source(opened, format, options)


def check_format(format: str) -> None:
    """Refuse an unknown format.

    Raises:
        UsageError: it is not "auto" nor one of ``detect.FORMATS``.
    """
    if format not in ("auto", *FORMATS):
        raise UsageError(f"unknown format {format!r}. Choose one of auto, {', '.join(FORMATS)}")


def read_source(source: Source, format: str, options: ReadOptions) -> Iterator[Paper | BadRecord]:
    """Yield the papers of an open source; see ``read_papers``."""
    found = format_of(source, options.columns.marks) if format == "auto" else format
    if found in DIALECTS:
        return read_tagged(source.stream, options, DIALECTS[found])
    if found in _STREAM_READERS:
        return _STREAM_READERS[found](source.stream, options)
    if found in _FILE_READERS:
        what, read = _FILE_READERS[found]
        return read(_seekable(source, what), options)
    delimiter = delimiter_of(source.prefix, options.columns.marks, below_heading=True)
    delimiter = delimiter or likeliest_delimiter(source.prefix)
    return read_table(source.stream, options, "\t" if found == "tsv" else delimiter)


def _read_text(stream: BinaryIO, options: ReadOptions) -> Iterator[Paper]:
    """Yield one paper: title and abstract if the text has a second line, else an abstract.

    Raises:
        UnreadableSource: there is no text, too much of it, or it is not UTF-8.
    """
    text = read_whole(stream, options)
    if not text.strip():
        raise UnreadableSource(f"{options.name} holds no text. Give a title and an abstract.")
    yield Paper.from_text(text)


def _seekable(source: Source, what: str) -> BinaryIO:
    if source.seekable is None:
        raise UnreadableSource(
            f"{source.name} is {what} from a pipe or in gzip, bzip2 or xz, which cannot be read. "
            "Give the plain file."
        )
    return source.seekable


_Read = Callable[[BinaryIO, ReadOptions], Iterator[Paper | BadRecord]]

_STREAM_READERS: dict[str, _Read] = {
    "jsonl": read_json_lines,
    "json": read_json_document,
    "bibtex": read_bibtex,
    "xml": read_xml,
    "text": _read_text,
}
_FILE_READERS: dict[str, tuple[str, _Read]] = {
    "parquet": ("Parquet", read_parquet),
    "xlsx": ("an Excel workbook", read_spreadsheet),
}
"""Formats that need a seekable file, with what the file is called."""
