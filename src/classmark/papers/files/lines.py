"""The text of a byte stream, whole or by lines, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from classmark.errors import UnreadableSource
from classmark.papers.columns import ReadOptions

UTF8_BOM = b"\xef\xbb\xbf"
_SKIPPED_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a record cannot be read: a stable kind, and a message."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its number from 1, its text with line end, and its problem if it has one.

    With a problem, the text is as much of the line as could be read, for parsers that need to
    see the structure; it must not be used as content.
    """

    number: int
    text: str
    problem: Problem | None = None


def read_lines(stream: BinaryIO, max_bytes: int, first_number: int = 1) -> Iterator[Line]:
    """Yield the lines of a UTF-8 stream; a line over ``max_bytes`` is skipped, not held.

    Args:
        stream: from the start of a line.
        max_bytes: of a line, its end included.
        first_number: number of the first line, for a stream that is a part of a file.
    """
    number = first_number - 1
    while raw := stream.readline(max_bytes + 1):
        number += 1
        if is_cut(raw, max_bytes):
            yield Line(number, "\n", too_long(len(raw) + skip_line(stream), max_bytes))
            continue
        yield _decode(number, raw.removeprefix(UTF8_BOM) if number == 1 else raw)


def is_cut(raw: bytes, max_bytes: int) -> bool:
    """Tell whether ``readline(max_bytes + 1)`` gave only the start of a line."""
    return len(raw) > max_bytes and not raw.endswith(b"\n")


def _decode(number: int, raw: bytes) -> Line:
    problem = Problem("nul_byte", "holds NUL bytes") if b"\0" in raw else None
    try:
        return Line(number, raw.decode(), problem)
    except UnicodeDecodeError as error:
        message = (
            f"is not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start + 1}. "
            "Convert the file to UTF-8"
        )
        text = raw.decode(errors="replace")
        return Line(number, text, problem or Problem("bad_encoding", message))


def skip_line(stream: BinaryIO) -> int:
    """Read to the end of the line; return how many bytes that was."""
    skipped = 0
    while chunk := stream.readline(_SKIPPED_CHUNK_BYTES):
        skipped += len(chunk)
        if chunk.endswith(b"\n"):
            break
    return skipped


def too_long(n_bytes: int, max_bytes: int) -> Problem:
    """Return the problem of a line of so many bytes."""
    return Problem("too_long", f"{n_bytes:,} bytes, more than the limit of {max_bytes:,}; skipped")


def read_whole(stream: BinaryIO, options: ReadOptions) -> str:
    """Return all text of a stream.

    Raises:
        UnreadableSource: it is longer than ``max_record_bytes``, or not UTF-8.
    """
    raw = stream.read(options.max_record_bytes + 1)
    if len(raw) > options.max_record_bytes:
        raise UnreadableSource(
            f"{options.name} is longer than {options.max_record_bytes:,} bytes. Split it."
        )
    try:
        return raw.removeprefix(UTF8_BOM).decode()
    except UnicodeDecodeError as error:
        raise UnreadableSource(
            f"{options.name} is not UTF-8: byte 0x{raw[error.start]:02x} at {error.start}. "
            "Convert it, e.g. with iconv -f LATIN1 -t UTF-8."
        ) from error
