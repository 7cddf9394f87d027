"""The body of a request: read within limits, and unpacked if it is in gzip."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from classmark.papers.files.lines import UTF8_BOM
from classmark.service.problems import Problem, shown
from classmark.service.requests.exchange import Exchange
from classmark.service.requests.threads import Threads

MAX_DIRECT_BODY_BYTES = 32 << 10
"""The event loop parses and checks this much JSON in some 50 us; more goes to a thread unparsed."""
JOINED_AT_ONCE_BYTES = 1 << 20
"""Copied in the event loop; Python lets other threads run while it copies more."""

_GZIP = (b"gzip", b"x-gzip")
_PLAIN = (b"", b"identity")
_GZIP_BITS = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 64 << 10
_MAX_MEMBERS = 1024
"""Parts of gzip data; each takes microseconds to begin, even if it holds nothing."""


class ClientGone(Exception):
    """The client closed the connection before the body was complete; nobody waits for a reply."""


async def read_body(exchange: Exchange, threads: Threads, max_bytes: int) -> bytes:
    """Return the whole body, without a byte order mark; ``protocol`` limits how long it may take.

    A large one is joined and unpacked in a thread, which takes longer than the event loop may wait.

    Raises:
        Problem: it is too large (as sent, as its stated length says, or unpacked), or its gzip data
            is damaged.
        Overloaded: it is here, but too many requests are in progress.
        ClientGone: the connection was closed.
    """
    parts = await _receive(exchange, max_bytes)
    if exchange.trace is not None:
        exchange.trace.note("read", exchange.trace.started_ns)
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

    return await threads.run(exchange, finish)


async def _receive(exchange: Exchange, max_bytes: int) -> list[bytes]:
    """Return the body as it was sent, in parts."""
    if exchange.stated_body_bytes > max_bytes:
        raise too_large(max_bytes)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise too_large(max_bytes)
        parts.append(chunk)
        if not message.get("more_body"):
            return parts


def unpack_little(body: bytes) -> bytes | None:
    """Return what gzip data holds if it is short enough for the event loop to parse, else None."""
    stream = zlib.decompressobj(_GZIP_BITS)
    try:
        content = stream.decompress(body, MAX_DIRECT_BODY_BYTES)
    except zlib.error:
        return None
    return content if stream.eof and not stream.unused_data else None


def unpack(body: bytes, max_bytes: int, check: Callable[[], None]) -> bytes:
    """Return what gzip data holds; never unpacks more than the limit.

    Args:
        body: one or more gzip members.
        max_bytes: maximum that it may hold.
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
                raise too_large(max_bytes, "unpacks to more")
    except zlib.error as error:
        raise _damaged(str(error).rpartition(": ")[2]) from error
    return bytes(content)


def check_media_type(exchange: Exchange, expected: bytes) -> None:
    """Raise a problem unless the body is declared as a media type, plain or in gzip."""
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
        f"the body is declared as gzip but cannot be unpacked ({shown(why)}). Send it again, or "
        "without Content-Encoding.",
    )


def too_large(max_bytes: int, how: str = "is larger") -> Problem:
    """Return the problem of a body that is too large."""
    # The connection stays open and the rest is discarded, so that the client reads the answer; if
    # the body never ends, the connection is closed when it is late.
    return Problem(
        "body_too_large",
        f"the body {how} than {max_bytes} bytes. Send less in one request.",
    )
