"""The outermost layer, pure ASGI: identity, limits, errors, header fields, counts and log lines.

Requests for the one hot endpoint go straight to it; all others pass through FastAPI.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from classmark.service.body import ClientGone
from classmark.service.exchange import Exchange, Fields, Reply
from classmark.service.logs import AccessEntry, log_failure
from classmark.service.problems import MEDIA_TYPE, Problem
from classmark.service.state import Service

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Endpoint = Callable[[Service, Exchange], Awaitable[Reply]]

UNMATCHED = "unmatched"
EXCHANGE = "classmark.exchange"
_ALWAYS_ALLOWED = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
_SECURITY_FIELDS: Fields = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
]
_HANG_UP = (b"connection", b"close")


class Gateway:
    """Wraps the application; see the module."""

    def __init__(
        self, app: ASGIApp, service: Service, lanes: dict[tuple[str, str], Endpoint]
    ) -> None:
        """Wrap an application.

        Args:
            app: for every request without a lane.
            service: state of this worker.
            lanes: endpoints by (method, path) that are called without the application around them.
        """
        self._app = app
        self._service = service
        self._lanes = lanes
        self._fields = [*service.model_fields, *_SECURITY_FIELDS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, self._service.settings.deadline_ms)
        sender = Sender(send, exchange, self._all_fields())
        exchange.on_whole = self._service.begin_work
        try:
            await self._answer(exchange, sender)
        except Problem as problem:
            await sender.problem(problem)
        except ClientGone:
            sender.status = 499
        except Exception as error:
            log_failure("request failed", error, request_id=exchange.request_id)
            await sender.problem(_internal_error())
        finally:
            self._service.in_work -= exchange.is_in_work
            self._note(exchange, sender)

    def _all_fields(self) -> Fields:
        """Return the fields of a response; some say that the connection ends with it."""
        service = self._service
        if service.is_stopping:
            return [*self._fields, _HANG_UP]
        if service.hang_ups > 0:
            service.hang_ups -= 1
            return [*self._fields, _HANG_UP]
        return self._fields

    async def _answer(self, exchange: Exchange, sender: Sender) -> None:
        scope = exchange.scope
        method, path = scope["method"], scope["path"]
        service = self._service
        if method != "POST" and path not in _ALWAYS_ALLOWED:  # of a POST, see read_body
            service.begin_work(exchange)
        exchange.limit_deadline()
        if path not in _ALWAYS_ALLOWED:
            self._service.admit(exchange)
        lane = self._lanes.get((method, path))
        if lane is not None:
            exchange.facts["route"] = path
            await sender.reply(await lane(self._service, exchange))
            return
        if method == "HEAD":  # uvicorn drops the body of the answer to one
            scope = {**scope, "method": "GET"}
        scope[EXCHANGE] = exchange
        scope["query_string"] = b""  # no endpoint has parameters; FastAPI would parse 32 KB of them
        exchange.scope = scope
        await self._app(scope, exchange.receive, sender.forward)

    def _note(self, exchange: Exchange, sender: Sender) -> None:
        seconds = time.monotonic() - exchange.started
        scope, facts = exchange.scope, exchange.facts
        route = facts.pop("route", None) or getattr(scope.get("route"), "path", UNMATCHED)
        self._service.metrics.request_done(route, scope["method"], sender.status, seconds)
        if self._service.access_log is not None:
            self._service.access_log.write(
                AccessEntry(
                    exchange.request_id,
                    scope["method"],
                    route,
                    sender.status,
                    seconds * 1000,
                    exchange.client,
                    facts,
                )
            )


class Sender:
    """Sends one response with the header fields that every response has.

    Attributes:
        status: what was sent; 500 until something is.
    """

    __slots__ = ("_exchange", "_fields", "_send", "_started", "status")

    def __init__(self, send: Send, exchange: Exchange, fields: Fields) -> None:
        self._send = send
        self._exchange = exchange
        self._fields = fields
        self._started = False
        self.status = 500

    async def reply(self, reply: Reply) -> None:
        """Send a whole reply."""
        self.status = reply.status
        self._started = True
        fields = [
            (b"content-type", reply.media_type),
            (b"content-length", b"%d" % len(reply.body)),
            (b"x-request-id", self._exchange.request_id.encode("ascii")),
            *self._fields,
            *reply.fields,
        ]
        await self._send({"type": "http.response.start", "status": reply.status, "headers": fields})
        await self._send({"type": "http.response.body", "body": reply.body})

    async def problem(self, problem: Problem) -> None:
        """Send a problem, unless a response has begun already."""
        if self._started:
            return
        self._exchange.facts["problem"] = problem.kind
        body = problem.body(self._exchange.request_id)
        await self.reply(Reply(body, problem.status, MEDIA_TYPE, problem.header_fields()))

    async def forward(self, message: Message) -> None:
        """Send on what the application sends, with our header fields where it set none."""
        if message["type"] != "http.response.start":
            await self._send(message)
            return
        self.status = message["status"]
        self._started = True
        own = list(message.get("headers", []))
        named = {name for name, _ in own}
        added = [(b"x-request-id", self._exchange.request_id.encode("ascii")), *self._fields]
        message["headers"] = own + [field for field in added if field[0] not in named]
        await self._send(message)


def _internal_error() -> Problem:
    return Problem(
        "internal_error",
        "the service failed to answer. Try again; if it stays so, report the request id.",
    )
