"""The outermost layer, pure ASGI: identity, limits, errors, header fields, counts and log lines.

It finds the route of a request, admits the request by the rule of that route, and runs its
endpoint. FastAPI holds and documents the routes; no request passes through it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.routing import Match

from classmark.errors import ClassmarkError
from classmark.service.logs import AccessEntry, log, log_failure
from classmark.service.problems import Problem, problem_of, shown
from classmark.service.requests.body import ClientGone
from classmark.service.requests.exchange import Exchange, Fields, Reply
from classmark.service.requests.schemas import response_schema
from classmark.wire.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from classmark.service.http.host import Host
    from classmark.service.requests.admission import Access
    from classmark.wire import ModelRef

UNMATCHED = "unmatched"
_SECURITY_FIELDS: Fields = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
]
_HANG_UP = (b"connection", b"close")
_OWN_FAULTS = ("internal_error", "journal_unavailable")


class Gateway:
    """Answers requests with the endpoints of an application; see the module.

    Attributes:
        app: as given.
    """

    def __init__(self, app: FastAPI, service: Host) -> None:
        """Wrap an application.

        Args:
            app: with its routes.
            service: admits, counts and logs.
        """
        self.app = app
        self._service = service
        self._traffic = service.traffic
        # Most requests have one of these addresses: a look-up, not a search.
        self._known = {
            (method, route.path): route
            for route in app.routes
            if isinstance(route, GuardedRoute) and "{" not in route.path
            for method in route.methods
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, self._service.settings.deadline_ms)
        hang_up = [_HANG_UP] if self._traffic.ends_connection() else []
        exchange.on_whole = self._traffic.begin
        if self._service.tracer is not None:
            exchange.trace = self._service.tracer.begin(exchange.headers)
        status = 500
        try:
            reply = await self._reply(exchange)
            status = reply.status
            request_id = (b"x-request-id", exchange.request_id.encode())
            fields = _common_fields(self._service.answered_by(exchange))
            await _send(send, reply, [request_id, *fields, *hang_up])
        except ClientGone:
            status = 499
        finally:
            self._traffic.in_work -= exchange.is_in_work
            self._note(exchange, status)
            if exchange.version is not None:
                exchange.version.leave()

    async def _reply(self, exchange: Exchange) -> Reply:
        """Return the reply to a request, also if that is a problem."""
        try:
            return await self._answer(exchange)
        except ClientGone:
            raise
        except (Problem, ClassmarkError) as error:
            problem = problem_of(error)
            if isinstance(error, ClassmarkError) and problem.kind in _OWN_FAULTS:
                facts = {"kind": error.kind, "problem": str(error)}
                log("request failed", logging.ERROR, request_id=exchange.request_id, **facts)
        except Exception as error:  # noqa: BLE001 - every request gets a reply
            problem = problem_of(error)
            log_failure("request failed", error, request_id=exchange.request_id)
        exchange.facts["problem"] = problem.kind
        body = problem.body(exchange.request_id)
        return Reply(body, problem.status, MEDIA_TYPE, problem.header_fields())

    async def _answer(self, exchange: Exchange) -> Reply:
        method, path = exchange.scope["method"], exchange.scope["path"]
        # A HEAD is answered like a GET; uvicorn leaves the body out.
        route, parameters = self._route_of("GET" if method == "HEAD" else method, path)
        exchange.route = route
        access = _access_of(route)
        if method != "POST" and access != "health":  # of a POST, see read_body
            self._traffic.begin(exchange)
        exchange.limit_deadline()
        self._service.admission.admit(exchange, access)
        if not isinstance(route, GuardedRoute):
            raise Problem(
                "not_found", f"there is nothing at {shown(path)}. See /openapi.json for the list."
            )
        if parameters is None:
            allowed = ", ".join(sorted(route.methods))
            raise Problem(
                "method_not_allowed",
                f"{shown(path)} does not accept {shown(method)}. Use {allowed}.",
                headers={"Allow": allowed},
            )
        exchange.path_params = parameters
        return await route.answer(exchange)

    def _route_of(self, method: str, path: str) -> tuple[BaseRoute | None, dict[str, str] | None]:
        """Return the route of a request, None if there is none, and the parameters in its path.

        These are None if the route is one for another method.

        Raises:
            Problem: there are control characters in the address. A pattern that ends with ``$``
                matches before a line feed too, and so may that of a proxy.
        """
        known = self._known.get((method, path))
        if known is not None:
            return known, {}
        if not path.isprintable():
            raise Problem(
                "bad_request",
                f"the address {shown(path)!r} contains control characters. Send it without them.",
            )
        scope: Scope = {"type": "http", "method": method, "path": path}
        of_another_method: BaseRoute | None = None
        for route in self.app.routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                return route, found["path_params"]
            if match is Match.PARTIAL and of_another_method is None:
                of_another_method = route
        return of_another_method, None

    def _note(self, exchange: Exchange, status: int) -> None:
        seconds, method = time.monotonic() - exchange.started, exchange.scope["method"]
        route = getattr(exchange.route, "path", UNMATCHED)
        self._service.metrics.request_done(route, method, status, seconds)
        self._service.note_version(exchange, status, seconds)
        if exchange.trace is not None and self._service.tracer is not None:
            self._service.tracer.end(exchange.trace, method, route, status, exchange.request_id)
        if self._service.access_log is not None:
            duration_ms, client, facts = seconds * 1000, exchange.client, exchange.facts
            self._service.access_log.write(
                AccessEntry(exchange.request_id, method, route, status, duration_ms, client, facts)
            )


async def _send(send: Send, reply: Reply, fields: Fields) -> None:
    """Send a whole reply; its own header fields replace those that every reply has."""
    own = reply.fields
    if reply.status != 304:  # has no content
        own = [
            (b"content-type", reply.media_type),
            (b"content-length", b"%d" % len(reply.body)),
            *own,
        ]
    named = {name for name, _ in reply.fields}
    headers = [*own, *(field for field in fields if field[0] not in named)]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def _access_of(route: BaseRoute | None) -> Access:
    """Return the rule of a route; a 404 needs no key.

    Raises:
        Problem: the route has no rule, so it may not be called.
    """
    if route is None:
        return "public"
    if not isinstance(route, GuardedRoute):
        raise Problem("not_found", "this address is closed to everybody. See /openapi.json.")
    return route.access


def model_fields(ref: ModelRef) -> Fields:
    """Return the header fields that name the model."""
    return [
        (b"x-classmark-model", f"{ref.name}@{ref.version}".encode("latin-1")),
        (b"x-classmark-digest", ref.digest.encode("latin-1")),
    ]


@lru_cache(maxsize=16)
def _common_fields(ref: ModelRef) -> Fields:
    """Return the header fields of every response."""
    return [*model_fields(ref), *_SECURITY_FIELDS]


# --- the routes of the application ----------------------------------------------------------------


class GuardedRoute(APIRoute):
    """A route with a rule, and the endpoint that the gateway runs.

    Attributes:
        access: who may call it.
        answer: returns the reply to an exchange.
        methods: those that it answers.
    """

    access: Access
    answer: Callable[[Exchange], Awaitable[Reply]]
    methods: set[str]


class Row(NamedTuple):
    """An endpoint as the table of routes lists it.

    Attributes:
        path: its address; parts in braces are parameters.
        endpoint: answers an exchange; its docstring is published.
        access: who may call it.
        schema: of its answer: published objects, or None for another media type.
        summary: its title in the OpenAPI document.
        extra: what else is said there; with a body the method is POST, else GET.
        status: of its answer.
    """

    path: str
    endpoint: Callable[[Any, Exchange], Awaitable[Reply]]
    access: Access
    schema: Any = None
    summary: str = ""
    extra: dict[str, Any] | None = None
    status: int = 200


def add_route(app: FastAPI, service: Host, row: Row, tag: str = "") -> None:
    """Add an endpoint to an application.

    Args:
        app: to add it to.
        service: the endpoint works with its parts.
        row: what to add.
        tag: its chapter of the OpenAPI document; "" leaves it out.
    """

    def document() -> None: ...

    document.__name__, document.__doc__ = row.endpoint.__name__, row.endpoint.__doc__
    app.router.add_api_route(
        row.path,
        document,
        response_model=response_schema(row.schema),
        response_class=Response if row.schema is None else JSONResponse,
        status_code=row.status,
        tags=[tag],
        summary=row.summary,
        methods=["POST" if "requestBody" in (row.extra or {}) else "GET"],
        include_in_schema=bool(tag),
        openapi_extra=row.extra,
        route_class_override=GuardedRoute,
    )
    route = cast(GuardedRoute, app.routes[-1])
    route.access, route.answer = row.access, partial(row.endpoint, service)
