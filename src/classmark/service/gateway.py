"""The outermost layer, pure ASGI: identity, limits, errors, header fields, counts and log lines.

It finds the route of a request, admits the request by the rule of that route, then lets it run.
Requests for the one hot endpoint go straight to it; all others pass through FastAPI.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.routing import Match

from classmark.service.body import ClientGone
from classmark.service.exchange import Exchange, Fields, Reply
from classmark.service.logs import AccessEntry, log_failure
from classmark.service.problems import Problem, shown
from classmark.service.state import Service
from classmark.wire.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.routing import BaseRoute
    from starlette.types import Message, Receive, Scope, Send

    from classmark.service.limits import Access

Endpoint = Callable[[Service, Exchange], Awaitable[Reply]]

UNMATCHED = "unmatched"
EXCHANGE = "classmark.exchange"
_SECURITY_FIELDS: Fields = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
]
_HANG_UP = (b"connection", b"close")


class Gateway:
    """Wraps the application; see the module.

    Attributes:
        app: as given.
    """

    def __init__(
        self, app: FastAPI, service: Service, lanes: dict[tuple[str, str], Endpoint]
    ) -> None:
        """Wrap an application.

        Args:
            app: for every request without a lane.
            service: state of this worker.
            lanes: endpoints by (method, path) that are called without the application around them,
                by the rule that their route in the application has.
        """
        self.app = app
        self._service = service
        self._lanes = {
            (method, path): (endpoint, self._route_of(method, path))
            for (method, path), endpoint in lanes.items()
        }
        self._fields = [*service.model_fields, *_SECURITY_FIELDS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
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
            self._note(exchange, sender, scope["method"])

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
        scope, service = exchange.scope, self._service
        method, path = scope["method"], scope["path"]
        endpoint, exchange.route = self._lanes.get((method, path)) or (
            None,
            self._route_of("GET" if method == "HEAD" else method, path),
        )
        access = _access_of(exchange)
        if method != "POST" and access != "health":  # of a POST, see read_body
            service.begin_work(exchange)
        exchange.limit_deadline()
        service.admission.admit(exchange, access)
        if endpoint is not None:
            await sender.reply(await endpoint(service, exchange))
            return
        if method == "HEAD":  # uvicorn drops the body of the answer to one
            scope = {**scope, "method": "GET"}
        scope[EXCHANGE] = exchange
        scope["query_string"] = b""  # no endpoint has parameters; FastAPI would parse 32 KB of them
        exchange.scope = scope
        await self.app(scope, exchange.receive, sender.forward)

    def _route_of(self, method: str, path: str) -> Any:
        """Return the route that the application will run, or say 405 for; None if there is none.

        Raises:
            Problem: there are control characters in the address. A pattern that ends with ``$``
                matches before a line feed too, and so may that of a proxy.
        """
        if not path.isprintable():
            raise Problem(
                "bad_request",
                f"the address {shown(path)!r} contains control characters. Send it without them.",
            )
        scope: Scope = {"type": "http", "method": method, "path": path}
        of_another_method: BaseRoute | None = None
        for route in self.app.routes:
            match, _ = route.matches(scope)
            if match is Match.FULL:
                return route
            if match is Match.PARTIAL and of_another_method is None:
                of_another_method = route
        return of_another_method

    def _note(self, exchange: Exchange, sender: Sender, method: str) -> None:
        seconds, facts = time.monotonic() - exchange.started, exchange.facts
        route = getattr(exchange.route, "path", UNMATCHED)
        self._service.metrics.request_done(route, method, sender.status, seconds)
        if self._service.access_log is not None:
            self._service.access_log.write(
                AccessEntry(
                    exchange.request_id,
                    method,
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


def _access_of(exchange: Exchange) -> Access:
    """Return the rule of the route of a request; what leads nowhere needs no key to be told so.

    Raises:
        Problem: the route has no rule, so that nobody may call it.
    """
    if exchange.route is None:
        return "public"
    access: Access | None = getattr(exchange.route, "access", None)
    if access is None:
        raise Problem("not_found", "this address is closed to everybody. See /openapi.json.")
    return access


def _internal_error() -> Problem:
    return Problem(
        "internal_error",
        "the service failed to answer. Try again; if it stays so, report the request id.",
    )
