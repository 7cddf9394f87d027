"""Plain text: the whole source is one paper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from classmark.errors import UnreadableSource
from classmark.papers.fields import ReadOptions
from classmark.papers.files.lines import UTF8_BOM
from classmark.records import Paper


def read_text(stream: BinaryIO, options: ReadOptions) -> Iterator[Paper]:
    """Yield one paper: title and abstract if the text has a second line, else an abstract.

    Raises:
        UnreadableSource: there is no text, too much of it, or it is not UTF-8.
    """
    text = read_whole(stream, options)
    if not text.strip():
        raise UnreadableSource(f"{options.name} holds no text. Give a title and an abstract.")
    yield Paper.from_text(text)


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
