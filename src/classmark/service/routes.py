"""How endpoints stand in the application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request, Response

from classmark.service.exchange import Exchange, Reply
from classmark.service.gateway import EXCHANGE, Endpoint
from classmark.service.state import Service


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
