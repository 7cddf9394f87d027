"""How endpoints are added to the application, each with the rule of who may call it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute

from classmark.service.exchange import Exchange, Reply
from classmark.service.gateway import EXCHANGE, Endpoint
from classmark.service.limits import Access
from classmark.service.schemas import response_schema
from classmark.service.state import Service

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


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


def as_route(service: Service, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint as FastAPI calls one."""

    async def route(request: Request) -> Response:
        return as_response(await endpoint(service, exchange_of(request)))

    route.__name__ = endpoint.__name__
    route.__doc__ = endpoint.__doc__
    return route


def exchange_of(request: Request) -> Exchange:
    """Return the exchange that the gateway made of a request."""
    exchange: Exchange = request.scope[EXCHANGE]
    return exchange


def as_response(reply: Reply) -> Response:
    """Return a reply as Starlette sends one."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reply.fields}
    return Response(reply.body, reply.status, headers, reply.media_type.decode())
