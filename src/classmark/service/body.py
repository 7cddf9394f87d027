"""The body of a request: read with a bound on its size and on its time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from classmark.service.exchange import Exchange
from classmark.service.problems import Problem, shown

if TYPE_CHECKING:
    from starlette.types import Message


class ClientGone(Exception):
    """The client closed the connection before the body was whole; nobody waits for a reply."""


async def read_body(exchange: Exchange, max_bytes: int, timeout_s: float) -> bytes:
    """Return the whole body.

    Raises:
        Problem: it is too large (also when only its stated length is), or it came too slowly.
        ClientGone: the connection was closed.
    """
    _check_length(exchange.headers.get(b"content-length"), max_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            message = await exchange.receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                return _checked(message.get("body", b""), max_bytes)
            return await _read_rest(exchange, message, max_bytes)
    except TimeoutError as error:
        raise Problem(
            "body_timeout",
            f"the body was not whole within {timeout_s:g} s. Send it at once, or in parts.",
            headers={"Connection": "close"},
        ) from error


def check_media_type(exchange: Exchange, expected: bytes) -> None:
    """Raise a problem unless the body is said to be of a media type."""
    value = exchange.headers.get(b"content-type", b"")
    if value.partition(b";")[0].strip().lower() != expected:
        seen = shown(value.decode("latin-1")) or "none"
        raise Problem(
            "unsupported_media_type",
            f"the content type is {seen!r}. Send {expected.decode()}.",
        )


async def _read_rest(exchange: Exchange, message: Message, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        parts.append(_checked(chunk, max_bytes, size))
        if not message.get("more_body"):
            return b"".join(parts)
        message = await exchange.receive()


def _check_length(value: bytes | None, max_bytes: int) -> None:
    if value is not None and value.isdigit() and int(value[:20]) > max_bytes:
        raise _too_large(max_bytes)


def _checked(chunk: bytes, max_bytes: int, size: int | None = None) -> bytes:
    if (len(chunk) if size is None else size) > max_bytes:
        raise _too_large(max_bytes)
    return chunk


def _too_large(max_bytes: int) -> Problem:
    return Problem(
        "body_too_large",
        f"the body is larger than {max_bytes} bytes. Send fewer papers at once.",
        headers={"Connection": "close"},
    )
