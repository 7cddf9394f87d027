"""A file of papers in chunks that are read elsewhere: by other processes, or later."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from classmark.papers.columns import ReadOptions
from classmark.papers.fields import Place
from classmark.papers.files.detect import format_of
from classmark.papers.files.jsonfiles import read_json_lines
from classmark.papers.files.lines import is_cut, skip_line, too_long
from classmark.papers.files.reader import check_format, read_source
from classmark.papers.files.sources import damage_named, open_path
from classmark.records import BadRecord, Paper

LINE_FORMAT = "jsonl"
"""The one format of which whole lines are handed on unread; of others it is records."""


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """How large a chunk gets: full with so many bytes (of text) or so many records."""

    bytes: int
    records: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Neighbouring records of a file.

    Attributes:
        content: whole lines of the file, unchanged, or records that were read.
        first_line: number of the first line, if it is lines.
        end_byte: how far the file had been read after it, in bytes on disk.
    """

    content: bytes | tuple[Paper | BadRecord, ...]
    first_line: int
    end_byte: int


def read_chunks(
    path: Path,
    size: ChunkSize,
    *,
    format: str = "auto",
    options: ReadOptions | None = None,
) -> Iterator[Chunk]:
    """Yield a file in chunks; the same file and size give the same chunks.

    Args:
        path: the file.
        size: of a chunk; a longer line makes a longer chunk.
        format: as for ``read_papers``.
        options: how records are read; its name is not used.

    Raises:
        UsageError, UnreadableSource, WrongColumns, MissingExtra: as ``read_papers``.
    """
    check_format(format)
    options = replace(options or ReadOptions(name=""), name=str(path))
    with damage_named(options.name), open_path(path) as source:
        found = format_of(source, options.columns.marks) if format == "auto" else format
        if found == LINE_FORMAT:
            yield from _line_chunks(
                source.stream, size.bytes, options.max_record_bytes, source.position
            )
        else:
            records = read_source(source, found, options)
            yield from _record_chunks(records, size, source.position)


def papers_of(chunk: Chunk, options: ReadOptions | None = None) -> Iterator[Paper | BadRecord]:
    """Yield the papers of a chunk, as ``read_papers`` would within the whole file."""
    if not isinstance(chunk.content, bytes):
        return iter(chunk.content)
    lines = io.BytesIO(chunk.content)
    return read_json_lines(lines, options or ReadOptions(name=""), chunk.first_line)


def _line_chunks(
    stream: BinaryIO, n_bytes: int, max_line_bytes: int, position: Callable[[], int]
) -> Iterator[Chunk]:
    number = 1
    while lines := stream.read(n_bytes):
        rest = b"" if lines.endswith(b"\n") else stream.readline(max_line_bytes + 1)
        if not is_cut(rest, max_line_bytes):
            lines += rest
            yield Chunk(lines, number, position())
            number += lines.count(b"\n")
            continue
        lines, end, start = lines.rpartition(b"\n")
        if end:
            yield Chunk(lines + end, number, position())
            number += lines.count(b"\n") + 1
        problem = too_long(len(start) + len(rest) + skip_line(stream), max_line_bytes)
        bad = Place("line", number).bad(problem.kind, problem.message)
        yield Chunk((bad,), number, position())
        number += 1


def _record_chunks(
    records: Iterable[Paper | BadRecord], size: ChunkSize, position: Callable[[], int]
) -> Iterator[Chunk]:
    batch: list[Paper | BadRecord] = []
    n_chars = 0
    for record in records:
        batch.append(record)
        n_chars += record.size_chars
        if len(batch) >= size.records or n_chars >= size.bytes:
            yield Chunk(tuple(batch), 0, position())
            batch, n_chars = [], 0
    if batch:
        yield Chunk(tuple(batch), 0, position())
