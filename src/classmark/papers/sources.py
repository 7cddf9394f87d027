"""Where bytes come from: files and streams, plain, gzip, or a zip of one file."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from classmark.errors import UnreadableSource

PREFIX_BYTES = 1 << 16

_GZIP_MAGIC = b"\x1f\x8b"
_ZIP_MAGIC = b"PK\x03\x04"
_BOMS = {
    **{codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be"},
    **{codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"},
}
"""The longer marks first: the one of UTF-32 begins with that of UTF-16."""
_SAMPLE_BYTES = 1024
_ZERO_SHARE = 0.7
_SHOWN_MEMBERS = 4
# Text is compressed 3- to 10-fold. What claims far more is made to fill memory or disk.
_MAX_ZIP_RATIO = 100
# Of the others zipfile unpacks a piece of any size at once, and LZMA asks for as much memory as the
# file says.
_BOUNDED_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SMALL_ZIP_BYTES = 16 * 1024 * 1024


Translation = Callable[[bytes, bool], bytes]


@dataclass(frozen=True)
class Source:
    """An open source.

    Attributes:
        name: for messages.
        suffix: of its name without ``.gz`` or ``.zip``, in lower case; "" if it has none.
        prefix: its first bytes, at most ``PREFIX_BYTES``; the stream still holds them.
        stream: the bytes from the start, decompressed.
        seekable: the same from the start if it can be sought, else None.
        position: tells how many bytes of the file, as it lies on disk, have been read.
    """

    name: str
    suffix: str
    prefix: bytes
    stream: BinaryIO
    seekable: BinaryIO | None
    position: Callable[[], int] = lambda: 0


@contextmanager
def open_path(path: Path) -> Iterator[Source]:
    """Open a file for the block.

    Raises:
        UnreadableSource: it is missing, a folder, not permitted, or an archive of several files.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise UnreadableSource(f"there is no file {path}. Check the name.") from error
    except IsADirectoryError as error:
        raise UnreadableSource(f"{path} is a folder. Give the files in it.") from error
    except OSError as error:
        raise UnreadableSource(f"{path} cannot be opened: {error.strerror}.") from error
    with file:
        source = open_stream(file, name=str(path), file_name=path.name)
        yield replace(source, position=file.tell) if file.seekable() else source


def open_stream(stream: BinaryIO, *, name: str, file_name: str = "") -> Source:
    """Return the source of a binary stream, which stays the caller's to close.

    Raises:
        UnreadableSource: it is damaged, or a zip that cannot be read.
    """
    with damage_named(name):
        prefix = _read_prefix(stream)
        if prefix.startswith(_ZIP_MAGIC):
            member, member_name = _open_only_member(stream, name)
            return _source(_read_prefix(member), member, name, member_name)
        if prefix.startswith(_GZIP_MAGIC):
            unzipped = cast(BinaryIO, gzip.GzipFile(fileobj=_Rejoined(prefix, stream).buffered()))
            inner_name = re.sub(r"\.gz$", "", file_name, flags=re.IGNORECASE)
            return _source(_read_prefix(unzipped), unzipped, name, inner_name)
        return _source(prefix, stream, name, file_name)


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turn errors of reading and decompressing into one that names the source."""
    try:
        yield
    except (EOFError, zlib.error, zipfile.BadZipFile, OSError) as error:
        raise UnreadableSource(
            f"{name} is damaged or cut short ({error}). Copy or download it again."
        ) from error


def _source(prefix: bytes, stream: BinaryIO, name: str, file_name: str) -> Source:
    # A gzip stream could only be sought by decompressing it again and again.
    can_seek = stream.seekable() and not isinstance(stream, gzip.GzipFile)
    joined = _Rejoined(prefix, stream).buffered()
    translate = _translation_of(prefix)
    if translate is not None:
        joined = io.BufferedReader(_Translated(joined, translate), PREFIX_BYTES)
        prefix = joined.peek(PREFIX_BYTES)[:PREFIX_BYTES]
    return Source(
        name=name,
        suffix=PurePosixPath(file_name).suffix.lower(),
        prefix=prefix,
        stream=cast(BinaryIO, joined),
        seekable=stream if can_seek else None,
    )


def _translation_of(prefix: bytes) -> Translation | None:
    """Return what turns bytes into UTF-8 with line feeds; None if they are that already."""
    encoding = next((name for mark, name in _BOMS.items() if prefix.startswith(mark)), None)
    encoding = encoding or _utf_16_without_mark(prefix)
    if encoding is not None:
        decode = codecs.getincrementaldecoder(encoding)(errors="replace").decode
        return lambda raw, final: decode(raw, final).encode()
    if b"\r" in prefix and b"\n" not in prefix and b"\0" not in prefix:
        return lambda raw, _: raw.replace(b"\r", b"\n")
    return None


def _utf_16_without_mark(prefix: bytes) -> str | None:
    """Return the byte order of UTF-16 that is mostly ASCII, whose every second byte is zero."""
    sample = prefix[:_SAMPLE_BYTES]
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = sample[offset::2], sample[1 - offset :: 2]
        if len(zeros) > 1 and zeros.count(0) > _ZERO_SHARE * len(zeros) and not others.count(0):
            return encoding
    return None


def _read_prefix(stream: BinaryIO) -> bytes:
    """Read the first bytes; of a live pipe no more than its first JSON line."""
    read = getattr(stream, "read1", stream.read)
    prefix = b""
    while len(prefix) < PREFIX_BYTES and not _is_json_line(prefix):
        chunk = read(PREFIX_BYTES - len(prefix))
        if not chunk:
            break
        prefix += chunk
    return prefix


def _is_json_line(prefix: bytes) -> bool:
    if not prefix.startswith(b"{"):
        return False
    line, end, _ = prefix.partition(b"\n")
    try:
        return bool(end) and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _open_only_member(file: BinaryIO, name: str) -> tuple[BinaryIO, str]:
    if not file.seekable():
        raise UnreadableSource(
            f"{name} is a zip, which cannot be read from a pipe. Unzip it first."
        )
    file.seek(0)
    archive = zipfile.ZipFile(file)
    members = [
        info
        for info in archive.infolist()
        if not info.is_dir() and not info.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        names = ", ".join(repr(info.filename) for info in members[:_SHOWN_MEMBERS]) or "none"
        raise UnreadableSource(
            f"{name} holds {len(members)} files ({names}), not one. Unzip it and give the file."
        )
    refuse_bomb(members[0], name)
    try:
        return cast(BinaryIO, archive.open(members[0])), members[0].filename
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or of a newer version
        raise UnreadableSource(
            f"{name} cannot be unzipped here ({error}). Unzip it first."
        ) from error


def refuse_bomb(member: zipfile.ZipInfo, name: str) -> None:
    """Refuse a member of a zip that claims to be what no text can be, or may fill the memory.

    Raises:
        UnreadableSource: it is large, and far larger than its compressed bytes; or it is compressed
            in a way that is not unpacked in pieces of bounded size.
    """
    if member.compress_type not in _BOUNDED_METHODS:
        raise UnreadableSource(
            f"{name} cannot be unzipped here (compression method {member.compress_type} is not "
            "supported, only stored and deflated files are read). Unzip it first."
        )
    ratio = member.file_size / max(1, member.compress_size)
    if member.file_size > _SMALL_ZIP_BYTES and ratio > _MAX_ZIP_RATIO:
        raise UnreadableSource(
            f"{name} would unzip to {member.file_size} bytes, {ratio:.0f} times its size, which no "
            "text does. If you trust it, unzip it and give the file."
        )


class _Rejoined(io.RawIOBase):
    """A stream with the bytes that were read from its start put back."""

    def __init__(self, prefix: bytes, rest: BinaryIO) -> None:
        self._prefix = prefix
        self._read = getattr(rest, "read1", rest.read)

    def buffered(self) -> io.BufferedReader:
        return io.BufferedReader(self, PREFIX_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        chunk = self._prefix[: len(buffer)] or self._read(len(buffer))
        self._prefix = self._prefix[len(buffer) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)


class _Translated(io.RawIOBase):
    """A stream whose bytes become others."""

    def __init__(self, stream: io.BufferedReader, translate: Translation) -> None:
        self._stream = stream
        self._translate = translate
        self._held = b""
        self._at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._held and not self._at_end:
            raw = self._stream.read1(len(buffer))
            self._at_end = not raw
            self._held = self._translate(raw, self._at_end)
        chunk, self._held = self._held[: len(buffer)], self._held[len(buffer) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)
