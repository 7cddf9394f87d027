"""The outermost layer, pure ASGI: identity, limits, errors, header fields, counts and log lines.

It finds the route of a request, admits the request by the rule of that route, then lets it run.
Requests for the one hot endpoint go straight to it; all others pass through FastAPI.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Match

from classmark.errors import ClassmarkError, Overloaded
from classmark.service.logs import AccessEntry, log, log_failure
from classmark.service.problems import Problem, problem_of, shown
from classmark.service.requests.body import ClientGone
from classmark.service.requests.exchange import Exchange, Fields, Reply
from classmark.service.requests.schemas import response_schema
from classmark.wire.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.routing import BaseRoute
    from starlette.types import Message, Receive, Scope, Send

    from classmark.service.http.service import Service
    from classmark.service.requests.admission import Access
    from classmark.wire import ModelRef

Needs = TypeVar("Needs")
Endpoint = Callable[[Exchange], Awaitable[Reply]]

UNMATCHED = "unmatched"
EXCHANGE = "classmark.exchange"
_SECURITY_FIELDS: Fields = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
]
_HANG_UP = (b"connection", b"close")
_OWN_FAULTS = ("internal_error", "journal_unavailable")


class Traffic:
    """The requests that a worker has in work, and whether it wants more.

    Attributes:
        in_work: requests that are here as a whole and being answered.
        hang_ups: this many of the next responses end their connection, see ``worker.surplus``.
        is_ready: warmed up and not asked to stop.
        is_stopping: asked to stop; connections are not kept.
    """

    def __init__(self, most_in_work: int) -> None:
        self._most_in_work = most_in_work
        self.in_work = self.hang_ups = 0
        self.is_ready = self.is_stopping = False

    def begin(self, exchange: Exchange) -> None:
        """Count a request that is here as a whole, until its answer is sent.

        Raises:
            Overloaded: too many are in work.
        """
        if self.in_work >= self._most_in_work:
            raise Overloaded("too many requests are in work")
        self.in_work += 1
        exchange.is_in_work = True

    def stop(self) -> None:
        """Stop being ready; requests that come anyway are still answered."""
        self.is_ready = False
        self.is_stopping = True

    def ends_connection(self) -> bool:
        """Return whether the connection of the next response ends with it."""
        if self.is_stopping:
            return True
        ends = self.hang_ups > 0
        self.hang_ups -= ends
        return ends


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
            service: admits, counts and logs.
            lanes: endpoints by (method, path) that are called without the application around them,
                by the rule that their route in the application has.
        """
        self.app = app
        self._service = service
        self._traffic = service.traffic
        self._lanes = {
            (method, path): (endpoint, self._route_of(method, path))
            for (method, path), endpoint in lanes.items()
        }
        self._fields = [*model_fields(service.model.classifier.model), *_SECURITY_FIELDS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, self._service.settings.deadline_ms)
        ends = self._traffic.ends_connection()
        sender = Sender(send, exchange, [*self._fields, _HANG_UP] if ends else self._fields)
        exchange.on_whole = self._traffic.begin
        try:
            await self._answer(exchange, sender)
        except (Problem, ClassmarkError) as error:
            await sender.problem(problem_for(error, exchange))
        except ClientGone:
            sender.status = 499
        except Exception as error:
            log_failure("request failed", error, request_id=exchange.request_id)
            await sender.problem(problem_of(error))
        finally:
            self._traffic.in_work -= exchange.is_in_work
            self._note(exchange, sender, scope["method"])

    async def _answer(self, exchange: Exchange, sender: Sender) -> None:
        scope = exchange.scope
        method, path = scope["method"], scope["path"]
        endpoint, exchange.route = self._lanes.get((method, path)) or (
            None,
            self._route_of("GET" if method == "HEAD" else method, path),
        )
        access = _access_of(exchange)
        if method != "POST" and access != "health":  # of a POST, see read_body
            self._traffic.begin(exchange)
        exchange.limit_deadline()
        self._service.admission.admit(exchange, access)
        if endpoint is not None:
            await sender.reply(await endpoint(exchange))
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
        if not self._started:
            await self.reply(problem_reply(problem, self._exchange))

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
    """Return the rule of the route of a request; a 404 needs no key.

    Raises:
        Problem: the route has no rule, so that nobody may call it.
    """
    if exchange.route is None:
        return "public"
    access: Access | None = getattr(exchange.route, "access", None)
    if access is None:
        raise Problem("not_found", "this address is closed to everybody. See /openapi.json.")
    return access


def model_fields(ref: ModelRef) -> Fields:
    """Return the header fields that name the model."""
    return [
        (b"x-classmark-model", f"{ref.name}@{ref.version}".encode("latin-1")),
        (b"x-classmark-digest", ref.digest.encode("latin-1")),
    ]


def problem_for(error: Problem | ClassmarkError, exchange: Exchange) -> Problem:
    """Return the problem of an error; a fault of the service is logged with its full text."""
    problem = problem_of(error)
    if isinstance(error, ClassmarkError) and problem.kind in _OWN_FAULTS:
        facts = {"kind": error.kind, "problem": str(error)}
        log("request failed", logging.ERROR, request_id=exchange.request_id, **facts)
    return problem


def problem_reply(problem: Problem, exchange: Exchange) -> Reply:
    """Return the reply that is a problem document; the log line names its kind."""
    exchange.facts["problem"] = problem.kind
    body = problem.body(exchange.request_id)
    return Reply(body, problem.status, MEDIA_TYPE, problem.header_fields())


# --- the routes of the application ----------------------------------------------------------------


class GuardedRoute(APIRoute):
    """A route with a rule, which runs only requests that the gateway authorised for it.

    Attributes:
        access: who may call it; a route without a rule is refused.
    """

    access: Access | None = None

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the endpoint."""
        if scope[EXCHANGE].route is not self:
            raise RuntimeError(f"{self.path} was reached by a request authorised for another route")
        await super().handle(scope, receive, send)


def add_route(
    app: FastAPI, path: str, route: Callable[..., Any], access: Access, **documented: Any
) -> None:
    """Add an endpoint to an application whose routes are ``GuardedRoute``.

    Args:
        app: to add it to.
        path: its address; parts in braces are parameters.
        route: as FastAPI calls it, see ``as_route``.
        access: who may call it.
        documented: the other arguments of ``FastAPI.add_api_route``; ``response_model`` may name
            published objects.
    """
    model = response_schema(documented.pop("response_model", None))
    app.add_api_route(path, route, response_model=model, **documented)
    added = app.routes[-1]
    if not isinstance(added, GuardedRoute):
        raise TypeError(f"{path} is a {type(added).__name__}, which has no rule")
    added.access = access


def as_route(
    needs: Needs, endpoint: Callable[[Needs, Exchange], Awaitable[Reply]]
) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint as FastAPI calls it.

    Args:
        needs: what the endpoint works with, its first argument.
        endpoint: answers an exchange.
    """

    async def route(request: Request) -> Response:
        return as_response(await endpoint(needs, exchange_of(request)))

    route.__name__ = endpoint.__name__
    route.__doc__ = endpoint.__doc__
    return route


def exchange_of(request: Request) -> Exchange:
    """Return the exchange that the gateway made of a request."""
    exchange: Exchange = request.scope[EXCHANGE]
    return exchange


def as_response(reply: Reply) -> Response:
    """Return a reply as Starlette sends it."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reply.fields}
    return Response(reply.body, reply.status, headers, reply.media_type.decode())
