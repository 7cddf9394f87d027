"""Who may send a request, and how often: host and site, API key, and rate of the client.

A page elsewhere can make a browser send requests here: under our own name (a form that is posted),
or under a name of its own that it resolves to our address (DNS rebinding), so that it can read the
answers too. Without API keys, only the check of hosts and sites stops it.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from classmark.errors import InvalidKeys
from classmark.service.keys import LOOK_AGAIN_S, Key, KeyRing
from classmark.service.memory import RATES, REFUSALS
from classmark.service.problems import Problem, shown
from classmark.service.requests.exchange import Networks
from classmark.service.settings import ANY_HOST, is_address, parse_hosts

if TYPE_CHECKING:
    from classmark.service.memory import Place
    from classmark.service.metrics import Metrics
    from classmark.service.requests.exchange import Exchange
    from classmark.service.settings import ServiceSettings

Access = Literal["health", "public", "metrics", "classify", "feedback", "admin"]
"""Rule of a route. ``health`` is answered to everybody at any load; ``public`` needs no key;
``metrics`` needs one with the scope ``admin``, unless the client is a scraper; the others are the
scopes that a key needs."""

N_SLOTS = 1 << 16
"""Clients share a slot by chance: of 1,000 at once, one in 65 with another."""
_SEED_BYTES = 16
_SLOT = struct.Struct("d")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="classmark"'}
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_OWN_SITES = (b"same-origin", b"none")
_MAX_HOST_CHARS = 300
"""Longer ones, which no name can be, are not worth caching."""
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\[\]:@/?#\s]+)(:[0-9]{1,5})?")
_SETTING = "--allowed-hosts (or CLASSMARK_SERVE_ALLOWED_HOSTS)"


class Admission:
    """Admits requests by the rule of their route, or refuses them with the reason."""

    def __init__(
        self, settings: ServiceSettings, metrics: Metrics, place: Place | None = None
    ) -> None:
        """Read the keys.

        Args:
            settings: with the limits.
            metrics: counts the keys that are refused.
            place: of this worker in its tree; None counts in this process alone.

        Raises:
            InvalidKeys: the file of API keys cannot be read.
        """
        self._metrics = metrics
        self._hosts = Hosts(settings)
        self._scrapers = Networks(settings.scrapers)
        self._ring = None if settings.api_keys is None else KeyRing(settings.api_keys)
        self._rates = self._refusals = None
        if settings.rate_per_minute or self._ring is not None:  # a key may have its own
            memory = None if place is None else place.memory[RATES]
            self._rates = RateTable(settings.rate_per_minute, settings.rate_burst, memory)
        refusals = settings.refused_keys_per_minute
        if self._ring is not None and refusals:
            memory = None if place is None else place.memory[REFUSALS]
            self._refusals = RateTable(refusals, max(1, int(refusals)), memory)

    def reload(self) -> None:
        """Read the file of keys again at once."""
        if self._ring is not None:
            self._ring.look_now()

    def admit(self, exchange: Exchange, access: Access) -> None:
        """Admit a request.

        Raises:
            Problem: its host or site is not allowed, its key is missing, unknown or too narrow, or
                its client has exceeded its rate.
        """
        if access == "health":
            return
        self._hosts.check(exchange)
        if self._ring is not None and self._needs_key(exchange, access):
            scope = "admin" if access == "metrics" else access
            try:
                exchange.key = self._checked_key(self._ring, exchange, scope)
            except Problem as problem:
                self._metrics.count("classmark_keys_refused", problem.kind)
                raise
            exchange.facts["key"] = exchange.key.id
            self._metrics.key_used(exchange.key.id)
        if self._rates is not None:
            own = None if exchange.key is None else exchange.key.rate_per_minute
            self._rates.check(exchange.holder, per_minute=own)

    def _needs_key(self, exchange: Exchange, access: Access) -> bool:
        is_scraper = access == "metrics" and exchange.client in self._scrapers
        return access != "public" and not is_scraper

    def _checked_key(self, ring: KeyRing, exchange: Exchange, scope: str) -> Key:
        """Return the key of a request to a route that needs one.

        Wrong keys that others send from the same address never delay a valid key.
        """
        try:
            return check_key(ring, exchange, scope)
        except Problem as problem:
            if self._refusals is not None and problem.status == 401:
                self._refusals.check(exchange.holder, "requests without a valid API key")
            raise


def check_key(ring: KeyRing, exchange: Exchange, scope: str) -> Key:
    """Return the key of a request.

    Raises:
        Problem: the key is missing, unknown or expired, or does not allow this, or the keys cannot
            be read at the moment.
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
    if key.has_expired:
        detail = f"key {key.id} expired at {key.expires_at_utc}. Ask the operator for another."
        raise Problem("key_expired", detail, headers=_CHALLENGE)
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


class Hosts:
    """The host names that a service answers to; see the module."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Take the names from the settings, or from the address to listen on."""
        self._listed = parse_hosts(settings.allowed_hosts)
        # With keys a page elsewhere gets nothing, and a proxy may use any name and add CORS.
        self._is_keyless = settings.api_keys is None
        own = {"localhost", settings.host.lower(), socket.gethostname().lower()}
        self._names = self._listed or own
        self._is_any = ANY_HOST in self._listed or not (self._listed or self._is_keyless)
        self._is_own = lru_cache(maxsize=1024)(self._answers_to)

    def check(self, exchange: Exchange) -> None:
        """Refuse a request to a foreign host, or from a page of another site.

        Raises:
            Problem: names the value seen, and the setting that allows it.
        """
        headers = exchange.headers
        host = headers.get(b"host", b"")
        if not (self._is_any or (len(host) <= _MAX_HOST_CHARS and self._is_own(host))):
            raise Problem(
                "host_not_allowed",
                f"the request is for the host {_text(host)!r}, which is not a name of this "
                f"service. The operator can add it to {_SETTING}.",
            )
        if self._is_keyless and exchange.scope["method"] not in _SAFE_METHODS:
            site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
            if not (site is origin is None or self._is_own_page(site, origin, host)):
                raise Problem(
                    "cross_site",
                    f"the request was sent by a page of another site ({_text(origin or site)!r}). "
                    "Send it from a page of this service or from a program, or ask the operator "
                    f"to add the host of that page to {_SETTING}.",
                )

    def _answers_to(self, host: bytes) -> bool:
        """Return whether a ``Host`` is ours.

        Every IP address is: a browser sends one only if it is in the address of the page, so that
        no name was resolved to it. A client that sends no ``Host`` is not a browser.
        """
        found = _HOST.fullmatch(host.decode("latin-1"))
        if found is None:
            return not host
        name = found["name"].lower()
        return name in self._names or name.rstrip(".") in self._names or is_address(name)

    def _is_own_page(self, site: bytes | None, origin: bytes | None, host: bytes) -> bool:
        """Return whether a page may send requests: it is ours, or its host is listed.

        ``Sec-Fetch-Site`` is what the browser knows. Over plain HTTP to another machine it sends
        none; then the origin must be the host of the request.
        """
        if site in _OWN_SITES:
            return True
        try:
            page = urlsplit((origin or b"").decode("latin-1").lower())
            name = page.hostname
        except ValueError:
            return False
        is_host = site is None and page.netloc == host.decode("latin-1").lower()
        return name is not None and (is_host or name in self._listed)


def _text(value: bytes | None) -> str:
    return shown((value or b"").decode("latin-1"))


class RateTable:
    """A rate for each client over all workers: the generic cell rate algorithm.

    A slot holds the time at which the client's next request would be due if it kept to the rate.
    Workers that write a slot at the same moment may admit one request too many.
    """

    SIZE = _SEED_BYTES + N_SLOTS * _SLOT.size

    def __init__(self, per_minute: float, burst: int, memory: memoryview | None = None) -> None:
        """Use a table.

        Args:
            per_minute: maximum requests of a client per minute; 0 for no limit.
            burst: maximum requests of a client at once.
            memory: shared by the workers, see ``sow``; None counts in this process alone.
        """
        self._per_minute = per_minute
        self._burst = burst
        if memory is None:
            memory = memoryview(bytearray(self.SIZE))
            self.sow(memory)
        self._table = memory
        self._seed = bytes(memory[:_SEED_BYTES])

    @staticmethod
    def sow(memory: memoryview) -> None:
        """Choose the seed that spreads clients over the table, before any worker uses it."""
        memory[:_SEED_BYTES] = os.urandom(_SEED_BYTES)

    def check(
        self, client: str, counted: str = "requests", *, per_minute: float | None = None
    ) -> None:
        """Count a request.

        Args:
            client: see ``Exchange.holder``.
            counted: what the table counts, for the message.
            per_minute: the client's own rate, None for that of the table.

        Raises:
            Problem: the client has made too many.
        """
        rate = self._per_minute if per_minute is None else per_minute
        if not rate:
            return
        interval_s = 60 / rate
        digest = blake2b(client.encode(), key=self._seed, digest_size=4).digest()
        offset = _SEED_BYTES + _SLOT.size * (int.from_bytes(digest, "big") % N_SLOTS)
        now = time.monotonic()  # one clock for all processes of a machine
        due = max(now, _SLOT.unpack_from(self._table, offset)[0])
        wait_s = due - now - interval_s * (self._burst - 1)
        if wait_s > 0:
            seconds = int(wait_s) + 1
            raise Problem(
                "rate_exceeded",
                f"more than {rate:g} {counted} a minute. Wait {seconds} s.",
                retry_after_s=seconds,
            )
        _SLOT.pack_into(self._table, offset, due + interval_s)
