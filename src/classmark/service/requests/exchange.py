"""One request and its reply, as the endpoints see them."""

from __future__ import annotations

import os
import random
import re
import time
from asyncio import timeout, wrap_future
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from classmark.service.problems import Problem, shown
from classmark.service.settings import parse_networks

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope

    from classmark.service.keys import Key
    from classmark.service.requests.tracing import Trace

T = TypeVar("T")

JSON = b"application/json"
DEADLINE_HEADER = "X-Classmark-Deadline-Ms"
MAX_IDEMPOTENCY_KEY_CHARS = 255
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}")
_REQUEST_ID_BITS = 96
_LENGTH_DIGITS = 20
"""The first digits of a longer length say enough: far too much."""
_MAX_CLIENT_CHARS = 100
"""An address with its zone is shorter, but a proxy may pass on anything."""
_CHANCE = random.Random()  # noqa: S311 - an id, not a secret
# Forked workers would otherwise make the same ids.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CHANCE.seed)

Fields = list[tuple[bytes, bytes]]


class Held(Protocol):
    """What answers a request, kept for it until its answer is sent."""

    def leave(self) -> None:
        """Let go of it."""


@dataclass(slots=True)
class Reply:
    """The response of an endpoint.

    Attributes:
        body: whole.
        status: HTTP status.
        media_type: of the body.
        fields: header fields in addition to those of every response.
    """

    body: bytes
    status: int = 200
    media_type: bytes = JSON
    fields: Fields = field(default_factory=list)


class Exchange:
    """One request: its header fields, its identity and its deadline.

    Attributes:
        scope, receive: as ASGI gives them.
        headers: header fields by lower-case name; the last of a repeated one.
        request_id: the client's if it is short and plain, else a new one.
        started: ``time.monotonic`` of the first byte that the application saw.
        deadline: ``time.monotonic`` by which the answer must be ready.
        client: address of the client.
        key: the API key that came with it, None without keys.
        route: the route of the application for it, None if there is none.
        path_params: parameters in its path.
        facts: further fields of its log line.
        on_whole: called once the whole request is here; raises if that is one too many.
        is_in_work: counted among the requests in work.
        version: what answers it; None while nobody has asked for it.
        trace: of its steps; None if none is kept.
    """

    def __init__(self, scope: Scope, receive: Receive, default_deadline_ms: int) -> None:
        self.scope = scope
        self.receive = receive
        self.started = time.monotonic()
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self.request_id = self._request_id()
        self.deadline = self.started + default_deadline_ms / 1000
        client = scope.get("client")
        self.client: str = client[0][:_MAX_CLIENT_CHARS] if client else ""
        self.key: Key | None = None
        self.route: BaseRoute | None = None
        self.path_params: dict[str, str] = {}
        self.facts: dict[str, Any] = {}
        self.on_whole: Callable[[Exchange], None] = lambda _: None
        self.is_in_work = False
        self.version: Held | None = None
        self.trace: Trace | None = None

    def limit_deadline(self) -> None:
        """Apply the client's deadline if it is the shorter one.

        Raises:
            Problem: it is not a positive number of milliseconds.
        """
        value = self.headers.get(b"x-classmark-deadline-ms")
        if value is None:
            return
        if not (value.isdigit() and len(value) <= 9 and int(value) > 0):
            raise Problem(
                "bad_request",
                f"{DEADLINE_HEADER} must be a whole number of milliseconds from 1 to 999,999,999, "
                f"got {shown(value.decode('latin-1'))!r}.",
            )
        self.deadline = min(self.deadline, self.started + int(value) / 1000)

    def idempotency_key(self) -> str | None:
        """Return the client's key for a request that may be sent twice, None without one.

        Raises:
            Problem: it is empty or too long.
        """
        value = self.headers.get(b"idempotency-key")
        if value is None:
            return None
        if not 0 < len(value) <= MAX_IDEMPOTENCY_KEY_CHARS:
            raise Problem(
                "bad_request",
                f"Idempotency-Key must have 1 to {MAX_IDEMPOTENCY_KEY_CHARS} characters, got "
                f"{len(value)}.",
            )
        return value.decode("latin-1")

    def check_deadline(self) -> None:
        """Raise the problem ``deadline_exceeded`` if the deadline has passed."""
        if time.monotonic() > self.deadline:
            raise deadline_exceeded(self)

    async def wait_for(self, future: Future[T]) -> T:
        """Return the result of a future.

        Raises:
            Problem: the deadline passed first.
        """
        try:
            async with timeout(self.remaining_s):
                return await wrap_future(future)
        except TimeoutError as error:
            raise deadline_exceeded(self) from error

    @property
    def holder(self) -> str:
        """Whom limits count the request for: the key, else the address (of IPv6 the network)."""
        return network_of(self.client) if self.key is None else f"key {self.key.id}"

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline; never negative."""
        return max(0.0, self.deadline - time.monotonic())

    @property
    def stated_body_bytes(self) -> int:
        """Length of the body that the header states; 0 if it states none."""
        value = self.headers.get(b"content-length", b"")
        return int(value[:_LENGTH_DIGITS]) if value.isdigit() else 0

    def _request_id(self) -> str:
        given = self.headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given.decode("ascii")
        return f"{_CHANCE.getrandbits(_REQUEST_ID_BITS):024x}"


def plain_address(text: str) -> IPv4Address | IPv6Address:
    """Return an address without its zone, and of an IPv4 client of an IPv6 socket the IPv4 address.

    Raises:
        ValueError: it is not an address.
    """
    address = ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


class Networks:
    """The addresses that a setting lists; see ``parse_networks``."""

    def __init__(self, text: str) -> None:
        self._networks = parse_networks(text)

    def __contains__(self, address: str) -> bool:
        """Return whether an address is in one of them; what is not an address, only if all are."""
        if self._networks is None or not self._networks:
            return self._networks is None
        try:
            plain = plain_address(address)
        except ValueError:
            return False
        return any(plain in network for network in self._networks)


@lru_cache(maxsize=4096)
def network_of(client: str) -> str:
    """Return the address of a client, or its /64 network: it has all the IPv6 addresses in it.

    Clients whose address is unknown or is not one (a proxy may pass on any text) are counted
    together, so that no client can choose whom it is counted for.
    """
    try:
        address = plain_address(client)
    except ValueError:
        return "without an address"
    return str(address if address.version == 4 else ip_network((address, 64), strict=False))


def deadline_exceeded(exchange: Exchange) -> Problem:
    """Return the problem of a request whose deadline has passed."""
    allowed_ms = round((exchange.deadline - exchange.started) * 1000)
    return Problem(
        "deadline_exceeded",
        f"the answer was not ready within {allowed_ms} ms. Send fewer papers at once, or allow "
        f"more time with {DEADLINE_HEADER} if you set it.",
    )
