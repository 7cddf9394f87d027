"""Reading one file of a client within limits; run as a module, a process that does only this.

The process receives files and returns records as JSON over the connection whose descriptor is its
first argument. On Linux its memory is limited to what it has after its start plus the bytes of its
second argument. It stops reading a file at its deadline; if it cannot, and nobody has killed it, an
alarm ends it.
"""

from __future__ import annotations

import io
import math
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, BinaryIO, cast

import defusedxml.ElementTree  # noqa: F401  (exchanges modules while it is imported: not in a thread)
import msgspec

from classmark.errors import ClassmarkError, MissingExtra, WrongColumns
from classmark.papers.columns import Columns, ReadOptions
from classmark.papers.files.detect import format_of
from classmark.papers.files.reader import read_source
from classmark.papers.files.sources import PREFIX_BYTES, Source, damage_named, open_stream
from classmark.papers.files.spreadsheets import unpacked_bytes
from classmark.records import BadRecord, Paper
from classmark.service.memory import own_bytes
from classmark.service.problems import Problem
from classmark.wire import to_json

FILE_NAME = "the file"
UNPACKED_SHARE = 4
"""A file may unpack to this many times the maximum body; text is compressed 3- to 5-fold."""
WORN_BYTES = 64 << 20
"""A process that has grown by more does not return the memory: it ends, and a new one starts."""
_NO_COLUMNS = Columns()
_COLUMNS_ADVICE = "Name yours in the form field columns: title=…,abstract=…"
_MESSAGE_RECORDS = 64
_MESSAGE_CHARS = 1 << 20
_BIBTEX_BLOCK = re.compile(rb"@\w*[ \t]*[{(]")
_BLOCKS_A_PAPER = 4
"""More blocks cannot be only strings and comments; each takes the parser 0.1 ms and 1 KB."""

Record = Paper | BadRecord


@dataclass(frozen=True, kw_only=True)
class FileLimits:
    """What the reading of a file may cost.

    Attributes:
        max_papers: maximum records of a file.
        max_file_bytes: maximum file, as it is sent, and maximum record.
    """

    max_papers: int
    max_file_bytes: int

    @property
    def max_unpacked_bytes(self) -> int:
        """Maximum bytes that a file unpacks to, and maximum characters of its papers."""
        return UNPACKED_SHARE * self.max_file_bytes


@dataclass(frozen=True)
class Job:
    """What the process gets before a file.

    Attributes:
        file_name, columns, limits: as for ``read_file``.
        remaining_s: until the deadline.
    """

    file_name: str
    columns: Columns
    limits: FileLimits
    remaining_s: float


def read_file(
    content: bytes,
    file_name: str,
    limits: FileLimits,
    check: Callable[[], None] = lambda: None,
    columns: Columns = _NO_COLUMNS,
) -> tuple[str, Iterator[Record]]:
    """Return the format of a file, and its records as they are read.

    Args:
        content: of the file.
        file_name: only its ending is used.
        limits: of this file.
        check: called between pieces and records; raises to end the reading.
        columns: read in addition to those of the usual names.

    Raises:
        Problem: nothing can be read, or too much; also while records are read.
    """
    with _as_problem():
        source = open_stream(io.BytesIO(content), name=FILE_NAME, file_name=file_name)
        found = format_of(source, columns.marks)
    options = ReadOptions(
        name=FILE_NAME,
        columns=replace(columns, advice=_COLUMNS_ADVICE),
        max_record_bytes=limits.max_file_bytes,
    )
    return found, _records(source, found, options, limits, check)


def _records(
    source: Source,
    found: str,
    options: ReadOptions,
    limits: FileLimits,
    check: Callable[[], None],
) -> Iterator[Record]:
    n_records = n_chars = 0
    with _as_problem():
        for record in _records_in(source, found, options, limits, check):
            check()
            n_records += 1
            n_chars += record.size_chars
            if n_records > limits.max_papers:
                raise _too_many(limits)
            if n_chars > limits.max_unpacked_bytes:
                raise _too_large(limits)
            yield record


def _records_in(
    source: Source,
    found: str,
    options: ReadOptions,
    limits: FileLimits,
    check: Callable[[], None],
) -> Iterator[Record]:
    if found in ("parquet", "xlsx"):
        book = source.seekable if found == "xlsx" else None
        if book is not None and unpacked_bytes(book) > limits.max_unpacked_bytes:
            raise _too_large(limits)
        return read_source(source, found, options)
    stream = cast(BinaryIO, io.BufferedReader(_Metered(source.stream, limits, check)))
    if found == "bibtex":
        stream = _checked_bibtex(stream, limits)
    return read_source(replace(source, stream=stream), found, options)


def _checked_bibtex(stream: BinaryIO, limits: FileLimits) -> BinaryIO:
    """Return the stream if it has no more blocks than a file of papers: the parser makes them all.

    Raises:
        Problem: there are too many.
    """
    content = stream.read(limits.max_file_bytes + 1)
    if sum(1 for _ in _BIBTEX_BLOCK.finditer(content)) > _BLOCKS_A_PAPER * limits.max_papers:
        raise _too_many(limits)
    return io.BytesIO(content)


class _Metered(io.RawIOBase):
    """A decompressed stream that ends with a problem when it is too long or too late.

    A small compressed piece can hold very many lines, so checking the time only when one is read is
    not enough.
    """

    def __init__(self, stream: BinaryIO, limits: FileLimits, check: Callable[[], None]) -> None:
        self._read = getattr(stream, "read1", stream.read)
        self._limits = limits
        self._check = check
        self._n_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._check()
        chunk = self._read(min(len(buffer), PREFIX_BYTES))
        self._n_bytes += len(chunk)
        if self._n_bytes > self._limits.max_unpacked_bytes:
            raise _too_large(self._limits)
        buffer[: len(chunk)] = chunk
        return len(chunk)


@contextmanager
def _as_problem() -> Iterator[None]:
    try:
        with damage_named(FILE_NAME):
            yield
    except WrongColumns as error:
        raise Problem(error.kind, str(error), columns_seen=list(error.columns_seen)) from error
    except MissingExtra as error:
        raise Problem(
            "unreadable_source",
            f"{error.feature} needs packages that this service does not have. Send CSV or JSON "
            f"lines, or ask its operator to install classmark[{error.extra}].",
        ) from error
    except ClassmarkError as error:
        raise Problem("unreadable_source", str(error)) from error
    except MemoryError as error:
        raise out_of_memory() from error


def out_of_memory() -> Problem:
    """Return the problem of a file that takes more memory to read than it may."""
    return Problem(
        "unreadable_source",
        f"{FILE_NAME} takes too much memory to read, or is damaged. Split it, or send it as CSV or "
        "JSON lines.",
    )


def _too_many(limits: FileLimits) -> Problem:
    return Problem(
        "too_many_papers",
        f"{FILE_NAME} holds more than {limits.max_papers} papers. Send them in parts.",
    )


def _too_large(limits: FileLimits) -> Problem:
    return Problem(
        "body_too_large",
        f"{FILE_NAME} unpacks to more than {limits.max_unpacked_bytes} bytes. Send it in parts.",
    )


def main() -> None:
    """Read files until the sender is gone."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that closes sends it to everybody
    connection = Connection(int(sys.argv[1]))
    _limit_memory(int(sys.argv[2]))
    base_bytes = own_bytes("resident")
    try:
        connection.send_bytes(b"ready")
        is_worn = False
        while not is_worn:
            job = msgspec.json.decode(connection.recv_bytes(), type=Job)
            signal.alarm(math.ceil(job.remaining_s) + 1)
            for message in _messages(connection.recv_bytes(), job):
                connection.send_bytes(to_json(message))
            signal.alarm(0)
            is_worn = own_bytes("resident") - base_bytes > WORN_BYTES
            connection.send_bytes(to_json({"is_worn": is_worn}))
    except (EOFError, ConnectionError):
        return


def _messages(content: bytes, job: Job) -> Iterator[dict[str, Any]]:
    """Yield the format and the records in parts, or the problem that ended the reading."""
    deadline = time.monotonic() + job.remaining_s

    def check() -> None:
        if time.monotonic() > deadline:
            raise Problem("deadline_exceeded", f"{FILE_NAME} was not read in time. Split it.")

    n_chars = 0
    batch: list[Record] = []
    try:
        found, records = read_file(content, job.file_name, job.limits, check, job.columns)
        yield {"format": found}
        for record in records:
            batch.append(record)
            n_chars += record.size_chars
            if len(batch) >= _MESSAGE_RECORDS or n_chars >= _MESSAGE_CHARS:
                yield {"records": batch}
                batch, n_chars = [], 0
        yield {"records": batch}
    except Problem as problem:
        facts = ("kind", "detail", "columns_seen")
        yield {"problem": {name: getattr(problem, name) for name in facts}}


def records_of(message: dict[str, Any]) -> Iterator[Record]:
    """Yield the records of a message of the process."""
    for fields in message.get("records", ()):
        kind: type[Paper] | type[BadRecord] = BadRecord if "kind" in fields else Paper
        yield msgspec.convert(fields, kind)


def _limit_memory(more_bytes: int) -> None:
    """Limit what is allocated from now on, and disable core files, which would hold papers."""
    import resource

    # Import what reading needs first: it counts as the base, and no file waits for it.
    import bibtexparser  # noqa: F401

    with suppress(ImportError):  # without the extra, a Parquet file says what to install
        import pyarrow.compute
        import pyarrow.parquet  # noqa: F401
    with suppress(ImportError):
        import openpyxl  # noqa: F401
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limit := own_bytes("data"):
        resource.setrlimit(resource.RLIMIT_DATA, (limit + more_bytes, limit + more_bytes))


if __name__ == "__main__":
    main()
