"""The body of a request: read with a bound on its size."""

from __future__ import annotations

from classmark.service.exchange import Exchange
from classmark.service.problems import Problem, shown


class ClientGone(Exception):
    """The client closed the connection before the body was whole; nobody waits for a reply."""


async def read_body(exchange: Exchange, max_bytes: int) -> bytes:
    """Return the whole body; how long it may take is the connection's business (``protocol``).

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
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body"):
            exchange.on_whole(exchange)
            return b"".join([*parts, chunk]) if parts else chunk
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
