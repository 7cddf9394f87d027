"""Who may come in, and how often: API keys with their scopes, and a rate per client."""

from __future__ import annotations

import mmap
import os
import re
import struct
import time
from hashlib import blake2b
from ipaddress import ip_network
from pathlib import Path

from classmark.service.exchange import Exchange
from classmark.service.keys import Key, KeyRing
from classmark.service.problems import Problem

N_SLOTS = 1 << 16
"""Clients share a slot by chance: of 1,000 at once, one in 65 with another."""
_SEED_BYTES = 16
_SLOT = struct.Struct("d")

_SCOPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"/v1/(classify|files)|/v2/models/.*/infer"), "classify"),
    (re.compile(r"/v1/feedback"), "feedback"),
    (re.compile(r"/v1/predictions/.*|/v1/status|/metrics"), "admin"),
)


def scope_of(path: str) -> str | None:
    """Return the scope that an address needs where keys are asked for, None if it needs none."""
    return next((scope for pattern, scope in _SCOPES if pattern.fullmatch(path)), None)


def check_key(ring: KeyRing, exchange: Exchange) -> Key | None:
    """Return the key of a request to an address that needs one, None for others.

    Raises:
        Problem: there is no key, it is not known, or it does not allow this.
    """
    scope = scope_of(exchange.scope["path"])
    if scope is None:
        return None
    text = _sent_key(exchange)
    challenge = {"WWW-Authenticate": 'Bearer realm="classmark"'}
    if text is None:
        detail = "send an API key as `Authorization: Bearer cmk_...`; the operator makes one."
        raise Problem("key_missing", detail, headers=challenge)
    key = ring.find(text)
    if key is None:
        detail = "the API key is unknown or was revoked. Ask the operator for another."
        raise Problem("key_unknown", detail, headers=challenge)
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
    path.write_bytes(os.urandom(_SEED_BYTES) + bytes(N_SLOTS * _SLOT.size))


class RateTable:
    """A rate for each client over all workers: the generic cell rate algorithm.

    A slot holds the time at which the client's next request would be due if it kept to the rate.
    Workers that write a slot at the same moment may let one request more through.
    """

    def __init__(self, per_minute: float, burst: int, path: Path | None = None) -> None:
        """Open the table.

        Args:
            per_minute: requests that a client may make a minute, above 0.
            burst: requests that it may make at once.
            path: file of ``make_rate_file``; None counts in this process alone.
        """
        self._interval_s = 60 / per_minute
        self._slack_s = self._interval_s * (burst - 1)
        if path is None:
            self._table = mmap.mmap(-1, _SEED_BYTES + N_SLOTS * _SLOT.size)
            self._table[:_SEED_BYTES] = os.urandom(_SEED_BYTES)
        else:
            with path.open("r+b") as file:
                self._table = mmap.mmap(file.fileno(), 0)
        self._seed = bytes(self._table[:_SEED_BYTES])

    def check(self, client: str) -> None:
        """Count a request.

        Raises:
            Problem: the client has made too many.
        """
        digest = blake2b(client.encode(), key=self._seed, digest_size=4).digest()
        offset = _SEED_BYTES + _SLOT.size * (int.from_bytes(digest, "big") % N_SLOTS)
        now = time.monotonic()  # one clock for all processes of a machine
        due = max(now, _SLOT.unpack_from(self._table, offset)[0])
        wait_s = due - now - self._slack_s
        if wait_s > 0:
            seconds = int(wait_s) + 1
            raise Problem(
                "rate_exceeded",
                f"more than {60 / self._interval_s:g} requests a minute. Wait {seconds} s.",
                retry_after_s=seconds,
            )
        _SLOT.pack_into(self._table, offset, due + self._interval_s)

    def close(self) -> None:
        """Unmap the table."""
        self._table.close()


def client_of(exchange: Exchange) -> str:
    """Return whom a limit counts for: the key, else the address (of IPv6 the network)."""
    if exchange.key is not None:
        return f"key {exchange.key.id}"
    return network_of(exchange.client) if ":" in exchange.client else exchange.client


def network_of(address: str) -> str:
    """Return the /64 network of an IPv6 address: a client has all the addresses in it."""
    try:
        return str(ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
