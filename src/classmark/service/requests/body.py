"""The body of a request: read, and unpacked if it is in gzip, with bounds on its size."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from classmark.papers.files.lines import UTF8_BOM
from classmark.service.http.service import MAX_DIRECT_BODY_BYTES, Service
from classmark.service.problems import Problem, shown
from classmark.service.requests.exchange import Exchange

JOINED_AT_ONCE_BYTES = 1 << 20
"""Copied in the event loop; from here on Python lets other threads run meanwhile."""

_GZIP = (b"gzip", b"x-gzip")
_PLAIN = (b"", b"identity")
_GZIP_BITS = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 64 << 10
_MAX_MEMBERS = 1024
"""Of gzip data in parts; each takes microseconds to begin, though it may hold nothing."""


class ClientGone(Exception):
    """The client closed the connection before the body was whole; nobody waits for a reply."""


async def read_body(service: Service, exchange: Exchange, max_bytes: int) -> bytes:
    """Return the whole body; how long it may take is the connection's business (``protocol``).

    A large one is put together and unpacked in a thread: that takes longer than the event loop may
    wait. A byte order mark before it is left out.

    Raises:
        Problem: it is too large, as it is sent, as its stated length says, or as it unpacks; or its
            gzip data is damaged; or it is here, and too many requests are in work.
        ClientGone: the connection was closed.
    """
    parts = await _receive(exchange, max_bytes)
    exchange.on_whole(exchange)
    is_packed = _encoding(exchange) in _GZIP
    if sum(map(len, parts)) <= (MAX_DIRECT_BODY_BYTES if is_packed else JOINED_AT_ONCE_BYTES):
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        content = unpack_little(body) if is_packed else body
        if content is not None and len(content) <= max_bytes:
            return content.removeprefix(UTF8_BOM)

    def finish() -> bytes:
        body = b"".join(parts)
        content = unpack(body, max_bytes, exchange.check_deadline) if is_packed else body
        return content.removeprefix(UTF8_BOM)

    return await service.in_thread(exchange, finish)


async def _receive(exchange: Exchange, max_bytes: int) -> list[bytes]:
    """Return the body as it was sent, in parts."""
    if exchange.stated_body_bytes > max_bytes:
        raise _too_large(max_bytes)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        parts.append(chunk)
        if not message.get("more_body"):
            return parts


def unpack_little(body: bytes) -> bytes | None:
    """Return what gzip data holds if that is as little as the event loop may parse, else None."""
    stream = zlib.decompressobj(_GZIP_BITS)
    try:
        content = stream.decompress(body, MAX_DIRECT_BODY_BYTES)
    except zlib.error:
        return None
    return content if stream.eof and not stream.unused_data else None


def unpack(body: bytes, max_bytes: int, check: Callable[[], None]) -> bytes:
    """Return what gzip data holds; no more than the bound is ever made of it.

    Args:
        body: one or more gzip members.
        max_bytes: that it may hold.
        check: called between pieces; raises to end the work.

    Raises:
        Problem: it holds more, is cut off or damaged.
    """
    content = bytearray()
    stream = zlib.decompressobj(_GZIP_BITS)
    position, n_members = 0, 1
    try:
        while position < len(body) or not stream.eof:
            check()
            if stream.eof:
                stream = zlib.decompressobj(_GZIP_BITS)
                n_members += 1
            rest = stream.unconsumed_tail
            piece = rest or body[position : position + _PIECE_BYTES]
            position += 0 if rest else len(piece)
            if not piece or n_members > _MAX_MEMBERS:
                raise _damaged("it ends too early" if not piece else "it has too many parts")
            content += stream.decompress(piece, _PIECE_BYTES)
            position -= len(stream.unused_data)
            if len(content) > max_bytes:
                raise _too_large(max_bytes, "unpacks to more")
    except zlib.error as error:
        raise _damaged(str(error).rpartition(": ")[2]) from error
    return bytes(content)


def check_media_type(exchange: Exchange, expected: bytes) -> None:
    """Raise a problem unless the body is said to be of a media type, plain or in gzip."""
    encoding = _encoding(exchange)
    if encoding not in (*_PLAIN, *_GZIP):
        seen = shown(encoding.decode("latin-1"))
        raise Problem(
            "unsupported_media_type",
            f"the content encoding is {seen!r}. Send the body as it is, or in gzip.",
            headers={"Accept-Encoding": "gzip, identity"},
        )
    value = exchange.headers.get(b"content-type", b"")
    if value.partition(b";")[0].strip().lower() != expected:
        seen = shown(value.decode("latin-1")) or "none"
        raise Problem(
            "unsupported_media_type",
            f"the content type is {seen!r}. Send {expected.decode()}.",
        )


def _encoding(exchange: Exchange) -> bytes:
    return exchange.headers.get(b"content-encoding", b"").strip().lower()


def _damaged(why: str) -> Problem:
    return Problem(
        "bad_request",
        f"the body is said to be in gzip but cannot be unpacked ({shown(why)}). Send it again, or "
        "without Content-Encoding.",
    )


def _too_large(max_bytes: int, how: str = "is larger") -> Problem:
    # The connection stays open: what still comes is thrown away, so that the client gets to read
    # the answer; one that never ends is closed when the body is late.
    return Problem(
        "body_too_large",
        f"the body {how} than {max_bytes} bytes. Send fewer papers at once.",
    )
