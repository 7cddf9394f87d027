"""The connection: uvicorn's protocol, with the bounds on headers, bodies and number it lacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from classmark.service.exchange import Fields
from classmark.service.limits import plain_address
from classmark.service.problems import MEDIA_TYPE, Problem
from classmark.service.settings import ServiceSettings
from classmark.service.state import overloaded

_NEVER = float("inf")
_NO_REQUEST_ID = "none"


class GuardedProtocol(HttpToolsProtocol):
    """Ends connections that are late (header, body, reading), have a large header, or are too many.

    One timer of the connection looks at what is due when, so that a request costs no timer.
    """

    settings: ServiceSettings
    on_connections: Callable[[int], None]
    fields: Fields
    """All set by ``guarded_protocol``, which says what they are."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it if there are too many."""
        super().connection_made(transport)
        if self.client is not None:  # so that trusted proxies, limits and logs know it alike
            with suppress(ValueError):
                self.client = (str(plain_address(self.client[0])), self.client[1])
        self.on_connections(len(self.connections))
        self._header_bytes = 0
        self._header_is_whole = False
        self._refused = False
        self._header_due = self.loop.time() + self.settings.header_timeout_s
        self._body_due = self._write_due = _NEVER
        self._is_open = True
        self._watch_s = self._shortest_timeout_s() / 2
        if len(self.connections) > self.settings.max_connections:
            self._refuse(overloaded("too many connections are open"))
            return
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._is_open = False
        super().connection_lost(exc)
        self.on_connections(len(self.connections))

    def on_message_begin(self) -> None:
        """Note when the header of a request must be whole."""
        self._header_bytes = 0
        self._header_is_whole = False
        self._header_due = self.loop.time() + self.settings.header_timeout_s
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the address as a part of the header."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header field, unless there is too much of them.

        The fields after a chunked body, which the parser gives here too, are not the header's:
        limits and keys were checked, or may yet be, without them.
        """
        self._count(len(name) + len(value))
        if not (self._refused or self._header_is_whole):
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin the request."""
        self._header_is_whole = True
        self._header_due = _NEVER
        self._body_due = self.loop.time() + self.settings.body_timeout_s
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        self._body_due = _NEVER
        if not self._refused:
            super().on_message_complete()

    def pause_writing(self) -> None:
        """Note when a client must have read what waits for it."""
        self._write_due = self.loop.time() + self.settings.write_timeout_s
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads."""
        self._write_due = _NEVER
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, as problem+json."""
        if not self._refused:
            self._refuse(Problem("bad_request", f"{msg} Send HTTP/1.1."))

    def _count(self, n_bytes: int) -> None:
        self._header_bytes += n_bytes
        most = self.settings.max_header_bytes
        if self._header_bytes > most and not self._refused:
            self._refuse(Problem("header_too_large", f"the header is larger than {most} bytes."))

    def _shortest_timeout_s(self) -> float:
        settings = self.settings
        return min(settings.header_timeout_s, settings.body_timeout_s, settings.write_timeout_s)

    def _watch(self) -> None:
        if not self._is_open:
            return
        now = self.loop.time()
        if now >= self._write_due:
            self.transport.abort()
            return
        if not self.transport.is_closing():
            if now >= self._header_due:
                self.transport.close()
            elif now >= self._body_due:
                self._end_late_body()
        self.loop.call_later(self._watch_s, self._watch)

    def _end_late_body(self) -> None:
        if self.cycle.response_started:
            self.transport.close()
            return
        seconds = self.settings.body_timeout_s
        self._refuse(Problem("body_timeout", f"the body was not whole within {seconds:g} s."))

    def _refuse(self, problem: Problem) -> None:
        """Send a problem past the application, and close."""
        self._refused = True
        body = problem.body(_NO_REQUEST_ID)
        fields = [
            *self.server_state.default_headers,
            (b"content-type", MEDIA_TYPE),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *self.fields,
            *problem.header_fields(),
        ]
        head = b"".join(b"%s: %s\r\n" % field for field in fields)
        self.transport.write(STATUS_LINE[problem.status] + head + b"\r\n" + body)
        self.transport.close()


def guarded_protocol(
    settings: ServiceSettings, on_connections: Callable[[int], None], fields: Fields
) -> type[asyncio.Protocol]:
    """Return the protocol of a worker.

    Args:
        settings: with its bounds.
        on_connections: is told the number of open connections.
        fields: header fields of every response.
    """
    bound = {
        "settings": settings,
        "on_connections": staticmethod(on_connections),
        "fields": fields,
    }
    return cast(type[asyncio.Protocol], type("BoundProtocol", (GuardedProtocol,), bound))
