"""Where bytes come from: files and streams, plain or packed (gzip, bzip2, xz, zip of one file)."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
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

ZIP_MAGIC = b"PK\x03\x04"
_SUFFIX_BY_MAGIC = {
    b"\x1f\x8b": ".gz",
    **{b"BZh%d" % level: ".bz2" for level in range(1, 10)},
    b"\xfd7zXZ\x00": ".xz",
}
PACKED_MAGIC = tuple(_SUFFIX_BY_MAGIC)
"""First bytes of packed files other than zip."""
PACKED_SUFFIXES = (".zip", ".gz", ".bz2", ".xz")
_MAX_XZ_BYTES = 80 << 20
"""Memory to unpack one xz file: ``xz -9`` needs 65 MiB, and a file may ask for gigabytes."""
DOCUMENT_MEMBERS = {"[Content_Types].xml", "mimetype"}
"""Each names the kind of a document that is a zip: of Microsoft Office, or of OpenDocument."""
_BOMS = {
    **{codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be"},
    **{codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"},
}
"""The longer marks first: the one of UTF-32 begins with that of UTF-16."""
_END_MARK = b"\x1a"
"""Control-Z, by which programs of DOS end a text."""
_SAMPLE_BYTES = 1024
_ZERO_SHARE = 0.7
_SHOWN_MEMBERS = 4
# Text is compressed 3- to 10-fold. What claims far more is made to fill memory or disk.
_MAX_RATIO = 100
# Of the others zipfile unpacks a piece of any size at once, and LZMA asks for as much memory as the
# file says.
_BOUNDED_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_SMALL_BYTES = 16 * 1024 * 1024


DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
"""What reading and unpacking raise where a file is damaged or cut short."""

Translation = Callable[[bytes, bool], bytes]
_Decompressor = bz2.BZ2Decompressor | lzma.LZMADecompressor


@dataclass(frozen=True)
class Source:
    """An open source.

    Attributes:
        name: for messages.
        suffix: of its name without that of its packing, in lower case; "" if it has none.
        prefix: its first bytes, at most ``PREFIX_BYTES``; the stream still holds them.
        stream: the bytes from the start, decompressed.
        seekable: the same from the start if it can be sought, else None.
        position: returns how many bytes of the file on disk have been read.
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
        raise UnreadableSource(f"{path} does not exist. Check the name.") from error
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
        if prefix.startswith(ZIP_MAGIC):
            archive = _open_zip(stream, name, prefix)
            if DOCUMENT_MEMBERS.isdisjoint(archive.namelist()):
                member, member_name = _open_only_member(archive, name)
                return _source(_read_prefix(member), member, name, member_name)
        packed_suffix = next((s for m, s in _SUFFIX_BY_MAGIC.items() if prefix.startswith(m)), None)
        if packed_suffix is not None:
            unpacked = _unpacked(_Rejoined(prefix, stream), packed_suffix, name)
            inner_name = re.sub(f"{re.escape(packed_suffix)}$", "", file_name, flags=re.IGNORECASE)
            return _source(_read_prefix(unpacked), unpacked, name, inner_name)
        return _source(prefix, stream, name, file_name)


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turn errors of reading and decompressing into one that names the source."""
    try:
        yield
    except DAMAGE as error:
        raise UnreadableSource(
            f"{name} is damaged or cut short ({error}). Copy or download it again."
        ) from error


def _source(prefix: bytes, stream: BinaryIO, name: str, file_name: str) -> Source:
    while prefix.startswith(codecs.BOM_UTF8 * 2):  # of a file that was joined to an empty one
        prefix = prefix.removeprefix(codecs.BOM_UTF8)
    has_end_mark = b"\0" not in prefix  # in UTF-16 it is half of a letter
    joined = _Rejoined(prefix, stream, has_end_mark=has_end_mark).buffered()
    translate = _translation_of(prefix)
    if translate is not None:
        joined = io.BufferedReader(_Translated(joined, translate), PREFIX_BYTES)
        prefix = joined.peek(PREFIX_BYTES)[:PREFIX_BYTES]
    return Source(
        name=name,
        suffix=PurePosixPath(file_name).suffix.lower(),
        prefix=prefix.rstrip(_END_MARK) if has_end_mark else prefix,
        stream=cast(BinaryIO, joined),
        seekable=stream if stream.seekable() else None,
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


def _unpacked(packed: _Rejoined, suffix: str, name: str) -> BinaryIO:
    """Return what a stream unpacks to, which ends with an error where it unpacks to too much.

    It cannot be sought: that would mean to unpack it again and again.
    """
    stream = packed.buffered()
    read: Callable[[int], bytes | None]
    match suffix:
        case ".gz":
            read = gzip.GzipFile(fileobj=stream).read1
        case ".bz2":
            read = _Streams(stream, bz2.BZ2Decompressor).read
        case _:
            read = _Streams(
                stream, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_XZ_BYTES)
            ).read
    return cast(BinaryIO, io.BufferedReader(_Bounded(read, packed, name), PREFIX_BYTES))


def _open_zip(file: BinaryIO, name: str, prefix: bytes) -> zipfile.ZipFile:
    if not file.seekable():
        is_document = any(member.encode() in prefix for member in DOCUMENT_MEMBERS)
        what = "an Excel workbook or another document" if is_document else "a zip"
        remedy = "Give the name of the file" if is_document else "Unzip it first"
        raise UnreadableSource(f"{name} is {what}, which cannot be read from a pipe. {remedy}.")
    file.seek(0)
    try:
        return zipfile.ZipFile(file)
    except NotImplementedError as error:  # its directory asks for a version that does not exist
        raise UnreadableSource(
            f"{name} cannot be unzipped here ({error}). Unzip it first."
        ) from error


def _open_only_member(archive: zipfile.ZipFile, name: str) -> tuple[BinaryIO, str]:
    members = [
        info
        for info in archive.infolist()
        if not info.filename.endswith("/") and not info.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        names = ", ".join(repr(info.filename) for info in members[:_SHOWN_MEMBERS]) or "none"
        raise UnreadableSource(
            f"{name} holds {len(members)} files ({names}), not one. Unzip it and give its files."
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
    _refuse_ratio(member.file_size, member.compress_size, f"{name} would unzip to")


def _refuse_ratio(n_unpacked: int, n_packed: int, claim: str) -> None:
    ratio = n_unpacked / max(1, n_packed)
    if n_unpacked > _SMALL_BYTES and ratio > _MAX_RATIO:
        raise UnreadableSource(
            f"{claim} {n_unpacked} bytes, {ratio:.0f} times its size, which no text does. "
            "If you trust it, unpack it and give the file."
        )


class _Rejoined(io.RawIOBase):
    """A stream with the bytes that were read from its start put back.

    Attributes:
        n_bytes: how many have been read from it.
    """

    def __init__(self, prefix: bytes, rest: BinaryIO, *, has_end_mark: bool = False) -> None:
        self._prefix = prefix
        self._has_end_mark = has_end_mark
        self._read = getattr(rest, "read1", rest.read)
        self.n_bytes = 0

    def buffered(self) -> io.BufferedReader:
        return io.BufferedReader(self, PREFIX_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        chunk = self._prefix[: len(buffer)] or self._read(len(buffer))
        self._prefix = self._prefix[len(buffer) :]
        while self._has_end_mark and chunk.endswith(_END_MARK) and not self._prefix:
            if not (more := self._read(PREFIX_BYTES)):
                chunk = chunk.rstrip(_END_MARK)
                break
            chunk, self._prefix = (chunk + more)[: len(buffer)], (chunk + more)[len(buffer) :]
        self.n_bytes += len(chunk)
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


class _Streams(io.RawIOBase):
    """What one or more compressed streams, one after the other, unpack to."""

    def __init__(self, packed: io.BufferedReader, make: Callable[[], _Decompressor]) -> None:
        self._packed = packed
        self._make = make
        self._decompressor = make()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            raw = b""
            if self._decompressor.eof:
                raw = self._start_of_next()
                if not raw:
                    return 0
                self._decompressor = self._make()
            elif self._decompressor.needs_input:
                raw = self._packed.read1(PREFIX_BYTES)
                if not raw:
                    raise EOFError("it ends in the middle")
            chunk = self._decompressor.decompress(raw, len(buffer))
            if chunk:
                buffer[: len(chunk)] = chunk
                return len(chunk)

    def _start_of_next(self) -> bytes:
        """Return the first bytes after a stream that are not zeros, which only fill up blocks."""
        raw = self._decompressor.unused_data or self._packed.read1(PREFIX_BYTES)
        while raw and not raw.strip(b"\0"):
            raw = self._packed.read1(PREFIX_BYTES)
        return raw.lstrip(b"\0")


class _Bounded(io.RawIOBase):
    """An unpacked stream that ends with an error when it is far larger than its packed bytes."""

    def __init__(self, read: Callable[[int], bytes | None], packed: _Rejoined, name: str) -> None:
        self._read = read
        self._packed = packed
        self._name = name
        self._n_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        chunk = self._read(len(buffer)) or b""
        self._n_bytes += len(chunk)
        _refuse_ratio(self._n_bytes, self._packed.n_bytes, f"{self._name} unpacks to more than")
        buffer[: len(chunk)] = chunk
        return len(chunk)
