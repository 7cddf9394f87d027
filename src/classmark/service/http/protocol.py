"""The connection: uvicorn's protocol, with the limits on headers, bodies and number it lacks.

Bytes are counted as they come, before the parser sees them, and reach it in small pieces: its work
on one piece is bounded. It gets one request at a time; what a client sends ahead waits unparsed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from classmark.errors import Overloaded
from classmark.service.http.shares import Shares
from classmark.service.http.transport import Flow, WholeAnswers
from classmark.service.logs import log_rarely
from classmark.service.metrics import Metrics
from classmark.service.problems import Problem, problem_of
from classmark.service.requests.exchange import Fields, plain_address
from classmark.service.settings import ServiceSettings
from classmark.wire.problems import MEDIA_TYPE

PIECE_BYTES = 4096
"""Fed to the parser at once. It can hold 700 chunks of a body, a millisecond of work."""
TURN_PIECES = 4
"""Fed between two looks at other connections."""
FIELD_COST_BYTES = 32
"""Added to the length of a header field, as in HTTP/2: it takes memory and time."""
FREE_CHUNK_BYTES = 16
"""Of the framing of a chunk: its size and four line ends. More, such as extensions, is header."""

_HEAD_END = b"\r\n\r\n"
_NEVER = float("inf")


class GuardedProtocol(HttpToolsProtocol):
    """Ends connections that are late (header, body, reading), send too much, or are too many.

    One timer of the connection checks all deadlines, so that a request costs no timer.
    """

    settings: ServiceSettings
    metrics: Metrics
    on_connections: Callable[[int], None]
    fields: Callable[[], Fields]
    shares: Shares
    """All set by ``guarded_protocol``."""

    flow: Flow
    transport: Any

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection; if it is one too many, end it or another one."""
        super().connection_made(transport)
        if self.client is not None:  # one form for trusted proxies, limits and logs
            with suppress(ValueError):
                self.client = (str(plain_address(self.client[0])), self.client[1])
        self.flow = Flow(transport)
        self.transport = self._whole = WholeAnswers(transport)
        self.on_connections(len(self.connections))
        self.client_network = self.shares.client_of(self.client[0] if self.client else "")
        self.shares.add(self)
        self.body_bytes = self._framing_bytes = self._body_left = 0
        self._is_in_body = self._is_chunked = self._refused = self._is_turn_due = False
        self._held, self._tail = b"", b""
        self._header_due = self.loop.time() + self.settings.header_timeout_s
        self._body_due = self._write_due = _NEVER
        self._is_open = True
        limits = self.settings
        shortest_s = min(limits.header_timeout_s, limits.body_timeout_s, limits.write_timeout_s)
        self._watch_s = shortest_s / 2
        self._make_room()
        if not self._refused:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._is_open = False
        self._held = b""
        self._release_body()
        self.shares.remove(self)
        super().connection_lost(exc)
        self.on_connections(len(self.connections))

    def may_give_way(self) -> bool:
        """Return whether it can be closed without losing an answer."""
        return not self._refused and not self._is_answering() and not self.flow.write_paused

    def unsent_bytes(self) -> int:
        """Return how many bytes of answers the client has not read."""
        return int(self.transport.get_write_buffer_size())

    def data_received(self, data: bytes) -> None:
        """Take bytes; what cannot be parsed yet waits."""
        if self._refused:
            return
        if self._held:  # reading is paused, but these were on their way
            self._held += data
            return
        self._take(data)

    def _take(self, data: bytes) -> None:
        """Feed the parser until a request is complete or the turn is over."""
        self._unset_keepalive_if_required()
        start, size, pieces = 0, len(data), 0
        while start < size and not self._refused:
            if self._is_answering() or self.flow.write_paused:
                self._hold(data[start:])
                break
            if pieces == TURN_PIECES:
                self._hold(data[start:])
                self._go_on_soon()
                break
            if not self._is_in_body and self._header_due == _NEVER:
                self._header_due = self.loop.time() + self.settings.header_timeout_s
            end = self._end_of_piece(data, start)
            pieces += not self._body_left
            self._feed(data if end - start == size else data[start:end])
            start = end
        if self._is_in_body and not self._refused:
            self._check_bodies()

    def _end_of_piece(self, data: bytes, start: int) -> int:
        """Return the end of the next piece: of the body, or at most the end of a header.

        Another request may follow. A chunked body ends like a header.
        """
        if self._body_left:
            end = min(start + self._body_left, len(data))
            self._body_left -= end - start
            return end
        seen = self._tail + data[start : start + PIECE_BYTES]
        found = seen.find(_HEAD_END)
        if found < 0:
            self._tail = seen[1 - len(_HEAD_END) :]
            return min(start + PIECE_BYTES, len(data))
        end = start + found + len(_HEAD_END) - len(self._tail)
        self._tail = b""
        return end

    def _feed(self, piece: bytes) -> None:
        self._framing_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(piece[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("The request is not valid HTTP.")
        most = self.settings.max_header_bytes
        if self._framing_bytes > most and not self._refused:
            self.refuse(Problem("header_too_large", f"the header is larger than {most} bytes."))

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Continue with the body of a request that asks for another protocol.

        The parser takes no body after such a header, so another parser does. It is the last request
        of the connection, so that no request can get the wrong parser.
        """
        if not self._is_in_body or self._refused:
            return
        self.cycle.keep_alive = False
        framing = (
            b"transfer-encoding: chunked"
            if self._is_chunked
            else b"content-length: %d" % self._body_left
        )
        callbacks = SimpleNamespace(
            on_body=self.on_body,
            on_message_complete=self.on_message_complete,
            on_chunk_header=self.on_chunk_header,
        )
        self.parser = httptools.HttpRequestParser(callbacks)
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + _HEAD_END + rest)

    def _is_answering(self) -> bool:
        """Return whether a request is complete and its answer is not."""
        return not (self._is_in_body or self.cycle is None or self.cycle.response_complete)

    def _hold(self, data: bytes) -> None:
        self._held = data
        self.flow.pause_reading()
        self.flow.is_held = True

    def _go_on_soon(self) -> None:
        if self._held and not self._is_turn_due:
            self._is_turn_due = True
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Take the bytes that wait."""
        self._is_turn_due = False
        if self._refused or not self._is_open:
            return
        held, self._held = self._held, b""
        self.flow.is_held = False
        self._take(held)
        if not self._held:
            self.flow.resume_reading()

    def on_message_begin(self) -> None:
        """Begin a header."""
        self._is_chunked = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header field; fields after the body (trailers) are dropped."""
        self._framing_bytes += FIELD_COST_BYTES
        if not self._refused and not self._is_in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin the request."""
        self._header_due = _NEVER
        if self._refused:
            return
        problem = self._check_fields()
        if problem is not None:
            self.refuse(problem)
            return
        super().on_headers_complete()
        self._is_in_body = True
        self._body_due = self.loop.time() + self.settings.body_timeout_s

    def _check_fields(self) -> Problem | None:
        """Note how the body ends; returns the problem of fields that the parser accepts."""
        n_hosts = self._body_left = 0
        version = self.parser.get_http_version()
        for name, value in self.headers:
            if name == b"host":
                n_hosts += 1
            elif name == b"content-length":
                self._body_left = int(value)
            elif name == b"transfer-encoding":
                self._is_chunked = True
                if version == "1.0" or value.strip().lower() != b"chunked":
                    detail = "the only transfer coding here is chunked, of HTTP/1.1. Send no other."
                    return Problem("bad_request", detail)
        if n_hosts > 1 or (n_hosts == 0 and version not in ("1.0", "0.9")):
            return Problem("bad_request", f"the header has {n_hosts} Host fields. Send one.")
        return None

    def on_chunk_header(self) -> None:
        """Do not count the usual framing of a chunk."""
        self._framing_bytes = max(0, self._framing_bytes - FREE_CHUNK_BYTES)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._framing_bytes -= len(body)
        if self._refused or self.cycle.response_complete:
            return
        self.body_bytes += len(body)
        self.shares.body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        if self.parser.should_upgrade() and (self._is_chunked or self._body_left):
            return  # the parser thinks so; see _ignore_upgrade
        self._framing_bytes = 0
        self._is_in_body, self._body_due = False, _NEVER
        self._release_body()
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Continue with what the client has sent meanwhile."""
        self._whole.flush()  # the answer to a HEAD has no body
        self._release_body()
        super().on_response_complete()
        self._go_on_soon()

    def pause_writing(self) -> None:
        """Set the time by which a client must read, and limit all that waits for clients."""
        self._write_due = self.loop.time() + self.settings.write_timeout_s
        super().pause_writing()
        self.shares.note_slow_reader(self, is_slow=True)
        if self.shares.unsent_bytes() > self.settings.max_unsent_bytes:
            self.loop.call_soon(self._end_slowest_reader)

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        self._write_due = _NEVER
        super().resume_writing()
        self.shares.note_slow_reader(self, is_slow=False)
        self._go_on_soon()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, as problem+json."""
        if not self._refused:
            self.refuse(Problem("bad_request", f"{msg} Send HTTP/1.1."))

    def _make_room(self) -> None:
        """Refuse this connection if its client has too many; if there are too many, end one."""
        client, most = self.client_network, self.settings.max_connections_per_client
        if client and self.shares.count(client) > most:
            self.refuse(_busy(f"this client has more than {most} open connections"))
        elif len(self.connections) > self.settings.max_connections:
            leaving = self.shares.must_give_way(self)
            leaving.leave(_busy("too many connections are open"), is_new=leaving is self)

    def leave(self, problem: Problem, *, is_new: bool) -> None:
        """Close; send a problem only if the client waits for an answer, or will."""
        if is_new or self._framing_bytes or self._is_in_body:
            self.refuse(problem)
        else:
            self._refused = True
            self.transport.close()

    def _check_bodies(self) -> None:
        """Limit what unfinished bodies take in total."""
        if self.shares.body_bytes > self.settings.max_unfinished_bytes:
            largest = self.shares.heaviest(lambda one: one.body_bytes)
            largest.refuse(_busy("too many large bodies are on their way"))

    def _end_slowest_reader(self) -> None:
        if self.shares.unsent_bytes() > self.settings.max_unsent_bytes:
            slowest = self.shares.heaviest(lambda connection: connection.unsent_bytes())
            slowest.transport.abort()

    def _release_body(self) -> None:
        self.shares.body_bytes -= self.body_bytes
        self.body_bytes = 0

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
                detail = f"the body was not whole within {self.settings.body_timeout_s:g} s."
                self.refuse(Problem("body_timeout", detail))
        self.loop.call_later(self._watch_s, self._watch)

    def refuse(self, problem: Problem) -> None:
        """Send a problem past the application, unless an answer has begun, and close."""
        self._refused = True
        self._release_body()
        self.metrics.count("classmark_connections_refused", problem.kind)
        client = self.client[0] if self.client else ""
        log_rarely(f"connection refused: {problem.kind}", client=client, detail=problem.detail)
        if self._is_in_body and self.cycle.response_started:
            self.transport.close()
            return
        body = problem.body(request_id="none")
        fields = [
            *self.server_state.default_headers,
            (b"content-type", MEDIA_TYPE),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *self.fields(),
            *problem.header_fields(),
        ]
        head = b"".join(b"%s: %s\r\n" % field for field in fields)
        self.transport.write(STATUS_LINE[problem.status] + head + b"\r\n" + body)
        self.transport.close()


def _busy(why: str) -> Problem:
    return problem_of(Overloaded(why))


def guarded_protocol(
    settings: ServiceSettings,
    metrics: Metrics,
    on_connections: Callable[[int], None],
    fields: Callable[[], Fields],
) -> type[asyncio.Protocol]:
    """Return the protocol of a worker.

    Args:
        settings: with its limits.
        metrics: counts refused connections.
        on_connections: called with the number of open connections.
        fields: returns the header fields of every response.
    """
    bound = {
        "settings": settings,
        "metrics": metrics,
        "on_connections": staticmethod(on_connections),
        "fields": staticmethod(fields),
        "shares": Shares(settings.trusted_proxies),
    }
    return cast(type[asyncio.Protocol], type("BoundProtocol", (GuardedProtocol,), bound))
