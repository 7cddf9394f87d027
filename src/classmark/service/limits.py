"""Who may come in, and how often: the rule of a route, API keys, and rates per client."""

from __future__ import annotations

import mmap
import os
import struct
import time
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from classmark.errors import InvalidKeys
from classmark.service.exchange import Exchange
from classmark.service.hosts import Hosts
from classmark.service.keys import LOOK_AGAIN_S, Key, KeyRing
from classmark.service.problems import Problem

if TYPE_CHECKING:
    from classmark.service.metrics import Metrics
    from classmark.service.settings import ServiceSettings

Access = Literal["health", "public", "classify", "feedback", "admin"]
"""Rule of a route. ``health`` is answered to everybody, whatever the load; ``public`` needs no key;
the others are the scopes that a key needs."""

N_SLOTS = 1 << 16
"""Clients share a slot by chance: of 1,000 at once, one in 65 with another."""
REQUESTS, REFUSALS = range(2)
"""Tables of a rate file: of requests, and of those that came without a valid key."""
_SEED_BYTES = 16
_SLOT = struct.Struct("d")
_TABLE_BYTES = N_SLOTS * _SLOT.size
_RATE_BYTES = _SEED_BYTES + 2 * _TABLE_BYTES
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="classmark"'}


class Admission:
    """Lets requests in by the rule of their route, or says why not."""

    def __init__(
        self, settings: ServiceSettings, metrics: Metrics, rate_file: Path | None = None
    ) -> None:
        """Read the keys.

        Args:
            settings: with the limits.
            metrics: counts the keys that are refused.
            rate_file: of ``make_rate_file``; None counts in this process alone.

        Raises:
            InvalidKeys: the file of API keys cannot be read.
        """
        self._metrics = metrics
        self._hosts = Hosts(settings)
        self._ring = None if settings.api_keys is None else KeyRing(settings.api_keys)
        self._rates = self._refusals = None
        if settings.rate_per_minute:
            self._rates = RateTable(settings.rate_per_minute, settings.rate_burst, rate_file)
        refusals = settings.refused_keys_per_minute
        if self._ring is not None and refusals:
            self._refusals = RateTable(refusals, max(1, int(refusals)), rate_file, REFUSALS)

    def admit(self, exchange: Exchange, access: Access) -> None:
        """Let a request in.

        Raises:
            Problem: it came by a foreign name or from another site, its key is missing, unknown or
                too narrow, or its client comes too often.
        """
        if access == "health":
            return
        self._hosts.check(exchange)
        if self._ring is not None and access != "public":
            try:
                exchange.key = self._checked_key(self._ring, exchange, access)
            except Problem as problem:
                self._metrics.key_refused(problem.kind)
                raise
            exchange.facts["key"] = exchange.key.id
        if self._rates is not None:
            self._rates.check(client_of(exchange))

    def _checked_key(self, ring: KeyRing, exchange: Exchange, scope: str) -> Key:
        """Return the key of a request to a route that needs one.

        A valid key is never held up by the wrong ones that others send from its address.
        """
        try:
            return check_key(ring, exchange, scope)
        except Problem as problem:
            if self._refusals is not None and problem.status == 401:
                self._refusals.check(client_of(exchange), "requests without a valid API key")
            raise

    def close(self) -> None:
        """Unmap the tables."""
        for table in (self._rates, self._refusals):
            if table is not None:
                table.close()


def check_key(ring: KeyRing, exchange: Exchange, scope: str) -> Key:
    """Return the key of a request.

    Raises:
        Problem: there is no key, it is not known, it does not allow this, or the keys cannot be
            read at the moment.
    """
    text = _sent_key(exchange)
    if text is None:
        detail = "send an API key as `Authorization: Bearer cmk_...`; the operator makes one."
        raise Problem("key_missing", detail, headers=_CHALLENGE)
    try:
        key = ring.find(text)
    except InvalidKeys as error:  # its text, which names a path, is in the log
        detail = "the service cannot read its API keys. The operator finds the reason in its log."
        raise Problem("keys_unreadable", detail, retry_after_s=int(LOOK_AGAIN_S)) from error
    if key is None:
        detail = "the API key is unknown or was revoked. Ask the operator for another."
        raise Problem("key_unknown", detail, headers=_CHALLENGE)
    if scope not in key.scopes:
        raise Problem(
            "scope_missing",
            f"key {key.id} allows {', '.join(key.scopes)}, this needs {scope}. Ask the operator.",
        )
    return key


def _sent_key(exchange: Exchange) -> str | None:
    kind, _, credentials = exchange.headers.get(b"authorization", b"").partition(b" ")
    if kind.lower() == b"bearer" and credentials:
        return credentials.strip().decode("latin-1")
    given = exchange.headers.get(b"x-api-key")
    return None if given is None else given.decode("latin-1")


def make_rate_file(path: Path) -> None:
    """Write the file in which the workers of a tree count together."""
    path.write_bytes(os.urandom(_SEED_BYTES) + bytes(_RATE_BYTES - _SEED_BYTES))


class RateTable:
    """A rate for each client over all workers: the generic cell rate algorithm.

    A slot holds the time at which the client's next request would be due if it kept to the rate.
    Workers that write a slot at the same moment may let one request more through.
    """

    def __init__(
        self, per_minute: float, burst: int, path: Path | None = None, table: int = REQUESTS
    ) -> None:
        """Open the table.

        Args:
            per_minute: requests that a client may make a minute, above 0.
            burst: requests that it may make at once.
            path: file of ``make_rate_file``; None counts in this process alone.
            table: which one of the file.
        """
        self._start = _SEED_BYTES + table * _TABLE_BYTES
        self._interval_s = 60 / per_minute
        self._slack_s = self._interval_s * (burst - 1)
        if path is None:
            self._table = mmap.mmap(-1, _RATE_BYTES)
            self._table[:_SEED_BYTES] = os.urandom(_SEED_BYTES)
        else:
            with path.open("r+b") as file:
                self._table = mmap.mmap(file.fileno(), 0)
        self._seed = bytes(self._table[:_SEED_BYTES])

    def check(self, client: str, counted: str = "requests") -> None:
        """Count a request.

        Args:
            client: who made it.
            counted: what the table counts, for the problem.

        Raises:
            Problem: the client has made too many.
        """
        digest = blake2b(client.encode(), key=self._seed, digest_size=4).digest()
        offset = self._start + _SLOT.size * (int.from_bytes(digest, "big") % N_SLOTS)
        now = time.monotonic()  # one clock for all processes of a machine
        due = max(now, _SLOT.unpack_from(self._table, offset)[0])
        wait_s = due - now - self._slack_s
        if wait_s > 0:
            seconds = int(wait_s) + 1
            raise Problem(
                "rate_exceeded",
                f"more than {60 / self._interval_s:g} {counted} a minute. Wait {seconds} s.",
                retry_after_s=seconds,
            )
        _SLOT.pack_into(self._table, offset, due + self._interval_s)

    def close(self) -> None:
        """Unmap the table."""
        self._table.close()


def client_of(exchange: Exchange) -> str:
    """Return whom a limit counts for: the key, else the address (of IPv6 the network)."""
    return _network_of(exchange.client) if exchange.key is None else f"key {exchange.key.id}"


def plain_address(text: str) -> IPv4Address | IPv6Address:
    """Return an address without its zone, and of an IPv4 client of an IPv6 socket the IPv4 address.

    Raises:
        ValueError: it is not an address.
    """
    address = ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=4096)
def _network_of(client: str) -> str:
    """Return the address of a client, or its /64 network: it has all the IPv6 addresses in it.

    Clients whose address is not known, or is not one (a proxy may pass on any text), are counted
    together, so that no client can choose whom it is counted for.
    """
    try:
        address = plain_address(client)
    except ValueError:
        return "without an address"
    return str(address if address.version == 4 else ip_network((address, 64), strict=False))
