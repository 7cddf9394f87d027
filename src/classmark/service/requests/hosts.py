"""By which names a service may be asked, and from which web pages.

A page elsewhere can make a browser send requests here: under our own name (a form that is posted),
or under a name of its own that it lets lead to our address (DNS rebinding), so that it may read the
answers too. Without API keys nothing else would stop it.
"""

from __future__ import annotations

import re
import socket
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from classmark.service.problems import Problem, shown
from classmark.service.requests.exchange import Exchange

if TYPE_CHECKING:
    from classmark.service.settings import ServiceSettings

ANY_HOST = "*"
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_OWN_SITES = (b"same-origin", b"none")
_MAX_HOST_CHARS = 300
"""Longer ones, which no name can be, are not worth remembering."""
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\[\]:@/?#\s]+)(:[0-9]{1,5})?")
_SETTING = "--allowed-hosts (or CLASSMARK_SERVE_ALLOWED_HOSTS)"


def parse_hosts(text: str) -> frozenset[str]:
    """Return the names of a setting, separated by commas.

    Raises:
        ValueError: one of them is not the name or the address of a host.
    """
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if not (name == ANY_HOST or _NAME.fullmatch(name) or _is_address(name)):
            raise ValueError(
                f"{name!r} is not a host. Give names without scheme and port, such as "
                "'papers.example.org', separated by commas, or '*' for every name"
            )
    return frozenset(names)


class Hosts:
    """The names that a service answers to; see the module."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Take the names of the settings, or those that an address to listen on suggests."""
        self._listed = parse_hosts(settings.allowed_hosts)
        # With keys a page elsewhere gets nothing, and a proxy may have any name and add CORS.
        self._is_keyless = settings.api_keys is None
        own = {"localhost", settings.host.lower(), socket.gethostname().lower()}
        self._names = self._listed or own
        self._is_any = ANY_HOST in self._listed or not (self._listed or self._is_keyless)
        self._is_own = lru_cache(maxsize=1024)(self._answers_to)

    def check(self, exchange: Exchange) -> None:
        """Refuse a request to a foreign name, or from a page of another site.

        Raises:
            Problem: says what was seen, and which setting allows it.
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
                    f"Send it from a page of this service, not from a browser at all, or let the "
                    f"operator add the host of that page to {_SETTING}.",
                )

    def _answers_to(self, host: bytes) -> bool:
        """Tell whether a ``Host`` is ours.

        Every address is: a browser sends one only where it stands in the address of the page, so
        that no name can have been made to lead to it. What sends no ``Host`` is not a browser.
        """
        found = _HOST.fullmatch(host.decode("latin-1"))
        if found is None:
            return not host
        name = found["name"].lower()
        return name in self._names or name.rstrip(".") in self._names or _is_address(name)

    def _is_own_page(self, site: bytes | None, origin: bytes | None, host: bytes) -> bool:
        """Tell whether a page may send requests: one of ours, or of a host that is listed.

        ``Sec-Fetch-Site`` is what the browser knows. Over plain HTTP to another machine it sends
        none; then the origin must be the host that was asked.
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


def _is_address(name: str) -> bool:
    """Tell whether a host is an IP address; of IPv6 in brackets, as in an URL."""
    is_bracketed = name.startswith("[") and name.endswith("]")
    try:
        address = ip_address(name[1:-1] if is_bracketed else name)
    except ValueError:
        return False
    return is_bracketed == isinstance(address, IPv6Address)


def _text(value: bytes | None) -> str:
    return shown((value or b"").decode("latin-1"))
