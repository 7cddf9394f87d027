"""Why a download did not work, in words: what the server or the network said, and what to do."""

from __future__ import annotations

import socket
import ssl
import urllib.error
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urlsplit

from classmark.errors import DownloadFailed

_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
_MAX_WAIT_S = 60.0


class Asked(Protocol):
    """What a request was for."""

    @property
    def url(self) -> str:
        """Return its address."""

    @property
    def credentials_remedy(self) -> str:
        """Return what to do where credentials are wanted."""


class Interruption(Exception):
    """A request ended before the file was whole.

    Attributes:
        wait_s: seconds that the server asked to wait.
    """

    def __init__(self, message: str, *, connects: bool = True, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self._connects = connects
        self.wait_s = wait_s

    def worth_retrying(self, *, started: bool) -> bool:
        """Tell whether to try again: not where the server was never reached."""
        return self._connects or started


def explain(error: Exception, asked: Asked) -> Exception:
    """Return the DownloadFailed for what stays as it is, an Interruption for what may pass."""
    where = shown(asked.url)
    if isinstance(error, urllib.error.HTTPError):
        return _status_refused(error, asked)
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, socket.gaierror):
        host = urlsplit(asked.url).hostname
        return Interruption(
            f"the name {host!r} cannot be resolved. Check the address, and the network.",
            connects=False,
        )
    if isinstance(reason, ssl.SSLError):
        return DownloadFailed(
            f"{where} has no certificate that this computer trusts ({reason}). Check the address, "
            "and SSL_CERT_FILE if a proxy stands between."
        )
    if isinstance(reason, TimeoutError):
        return Interruption(
            f"{where} was silent for too long. Try again, or raise --timeout.",
            connects=reason is error,  # urllib wraps what happens before the request is sent
        )
    if isinstance(error, urllib.error.URLError):
        return Interruption(
            f"{where} cannot be reached ({reason}). Check the address, the network and the proxy.",
            connects=False,
        )
    return Interruption(f"{where} broke off ({type(error).__name__}: {error}). Try again.")


def shown(url: str) -> str:
    """Return an address for a message, without a query, which may hold a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _status_refused(error: urllib.error.HTTPError, asked: Asked) -> Exception:
    where, status = shown(asked.url), f"HTTP {error.code}"
    if error.code in _PASSING_STATUS:
        wait = error.headers.get("Retry-After", "")
        wait_s = min(_MAX_WAIT_S, float(wait)) if wait.isdigit() else 0.0
        return Interruption(f"{where} is not able to answer ({status}). Try later.", wait_s=wait_s)
    if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return DownloadFailed(
            f"{where} refused the download ({status}): it wants credentials, or others. "
            f"{asked.credentials_remedy}"
        )
    if error.code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return DownloadFailed(f"there is no file at {where} ({status}). Check the address.")
    reason = " ".join(str(error.reason).split())
    return DownloadFailed(f"{where} refused the download ({status} {reason}). Check the address.")
