"""The body of a request: read with a bound on its size."""

from __future__ import annotations

from classmark.service.exchange import Exchange
from classmark.service.problems import Problem, shown
from classmark.service.state import Service

JOINED_AT_ONCE_BYTES = 1 << 20
"""Copied in the event loop; from here on Python lets other threads run meanwhile."""


class ClientGone(Exception):
    """The client closed the connection before the body was whole; nobody waits for a reply."""


async def read_body(service: Service, exchange: Exchange, max_bytes: int) -> bytes:
    """Return the whole body; how long it may take is the connection's business (``protocol``).

    A large one is put together in a thread: copying it takes longer than the event loop may wait.

    Raises:
        Problem: it is too large, also when only its stated length is; or it is here, and too many
            requests are in work.
        ClientGone: the connection was closed.
    """
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
        if not message.get("more_body"):
            exchange.on_whole(exchange)
            if not parts:
                return chunk
            parts.append(chunk)
            if size <= JOINED_AT_ONCE_BYTES:
                return b"".join(parts)
            return await service.in_thread(exchange, lambda: b"".join(parts))
        parts.append(chunk)


def check_media_type(exchange: Exchange, expected: bytes) -> None:
    """Raise a problem unless the body is said to be of a media type, and not compressed."""
    encoding = exchange.headers.get(b"content-encoding", b"identity").lower()
    if encoding != b"identity":
        seen = shown(encoding.decode("latin-1"))
        raise Problem(
            "unsupported_media_type", f"the content encoding is {seen!r}. Send the body as it is."
        )
    value = exchange.headers.get(b"content-type", b"")
    if value.partition(b";")[0].strip().lower() != expected:
        seen = shown(value.decode("latin-1")) or "none"
        raise Problem(
            "unsupported_media_type",
            f"the content type is {seen!r}. Send {expected.decode()}.",
        )


def _too_large(max_bytes: int) -> Problem:
    # The connection stays open: what still comes is thrown away, so that the client gets to read
    # the answer; one that never ends is closed when the body is late.
    return Problem(
        "body_too_large",
        f"the body is larger than {max_bytes} bytes. Send fewer papers at once.",
    )
