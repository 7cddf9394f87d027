"""Pages of an OAI-PMH server: asked for with pauses, bounded, checked, asked for again."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import IO
from urllib.parse import urlencode, urlsplit

from classmark.dataset.config import Patience
from classmark.dataset.download.transfer import (
    USER_AGENT,
    CarefulRedirects,
    Interruption,
    Remote,
    explain,
    shown,
)
from classmark.errors import DownloadFailed
from classmark.papers.files.oai import OaiPage, read_page

MAX_PAGE_BYTES = 64 << 20
"""Of a page, unpacked: thirty times a page of arXiv with a thousand records."""
MAX_WAIT_S = 3600.0
"""A server that asks for a longer wait ends the harvest, which can be resumed."""
_SLOWEST_PAGE = 10.0
"""A page may take so many times the seconds of silence that are allowed."""
_CHUNK_BYTES = 1 << 16
_GZIP = 16 + zlib.MAX_WBITS
_REMEDY = "Ask the archive how it lets itself be harvested."


class PageServer:
    """The server of an archive, asked for one page after the other.

    Attributes:
        requests: how many were sent.
    """

    def __init__(self, endpoint: str, patience: Patience, pause_s: float) -> None:
        self._endpoint = endpoint
        self._patience = patience
        self._pause_s = pause_s
        self._free_at = 0.0
        self._has_answered = False
        self._opener = urllib.request.build_opener(_SameHost)
        self.requests = 0

    def ask(self, query: Mapping[str, str]) -> OaiPage:
        """Return the page that answers a query; it is whole.

        Raises:
            DownloadFailed: refused, or failed too often, or what came is not a page.
            UnreadableSource: the page is not OAI-PMH, or XML that attacks its reader.
        """
        failures = 0
        while True:
            time.sleep(max(0.0, self._free_at - time.monotonic()))
            wait_s = self._pause_s
            try:
                page = self._attempt(query)
            except Interruption as error:
                failures += 1
                wait_s = max(wait_s, error.wait_s, self._patience.wait_after(failures))
                self._check_worth(error, failures)
            else:
                self._has_answered = True
                return page
            finally:
                self._free_at = time.monotonic() + wait_s

    def _check_worth(self, error: Interruption, failures: int) -> None:
        """Refuse to try once more where that would not help."""
        if error.wait_s > MAX_WAIT_S:
            raise DownloadFailed(
                f"{shown(self._endpoint)} asks to wait {error.wait_s / 60:,.0f} minutes. Run the "
                "same command again after that."
            ) from error
        is_reached = error.worth_retrying(started=self._has_answered)
        if not is_reached or failures >= self._patience.attempts:
            raise DownloadFailed(str(error)) from error

    def _attempt(self, query: Mapping[str, str]) -> OaiPage:
        """Send one request.

        Raises:
            Interruption: it may succeed if it is sent again.
        """
        joint = "&" if urlsplit(self._endpoint).query else "?"
        remote = Remote(
            url=f"{self._endpoint}{joint}{urlencode(query)}", credentials_remedy=_REMEDY
        )
        headers = {
            "User-Agent": USER_AGENT,
            "Accept": "text/xml, application/xml",
            "Accept-Encoding": "gzip",
        }
        request = urllib.request.Request(remote.url, headers=headers)  # noqa: S310 - http(s) only
        self.requests += 1
        try:
            with self._opener.open(request, timeout=self._patience.timeout_s) as response:
                body = self._body(response)
        except urllib.error.HTTPError as error:
            with error:
                body = self._error_body(error, remote)
        except (OSError, http.client.HTTPException) as error:
            raise explain(error, remote) from error
        page = read_page(body, shown(self._endpoint))
        if not page.is_whole:  # whatever its length and its packing say
            raise self._interruption("sent XML that is broken or cut short")
        return page

    def _error_body(self, error: urllib.error.HTTPError, remote: Remote) -> bytes:
        """Return the body of a refusal if it is an answer: some send errors of OAI-PMH so.

        Raises:
            DownloadFailed, Interruption: it is not one.
        """
        problem = explain(error, remote)
        is_refusal = error.code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
        if not (is_refusal and error.headers.get_content_subtype().endswith("xml")):
            raise problem from error
        try:
            return self._body(error)
        except (OSError, http.client.HTTPException) as broken:
            raise explain(broken, remote) from broken

    def _body(self, response: http.client.HTTPResponse | urllib.error.HTTPError) -> bytes:
        """Return the unpacked body of an answer."""
        if response.headers.get_content_type() == "text/html":
            raise DownloadFailed(
                f"{shown(self._endpoint)} answered with a web page, not with OAI-PMH. Check the "
                "endpoint, and whether you have to log in."
            )
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("gzip", "identity"):
            raise DownloadFailed(
                f"{shown(self._endpoint)} compressed its answer as {encoding[:40]!r}, which nobody "
                "asked for. Report it to the archive."
            )
        raw = self._received(response)
        return self._unpacked(raw) if encoding == "gzip" else raw

    def _received(self, response: IO[bytes] | http.client.HTTPResponse) -> bytes:
        until = time.monotonic() + _SLOWEST_PAGE * self._patience.timeout_s
        body = bytearray()
        while chunk := response.read1(_CHUNK_BYTES):  # type: ignore[union-attr]
            body += chunk
            if len(body) > MAX_PAGE_BYTES:
                raise self._too_large()
            if time.monotonic() > until:
                raise self._interruption("sends its page too slowly")
        return bytes(body)

    def _unpacked(self, raw: bytes) -> bytes:
        unpack = zlib.decompressobj(_GZIP)
        try:
            body = unpack.decompress(raw, MAX_PAGE_BYTES + 1)
        except zlib.error as error:
            raise self._interruption(f"sent a damaged page ({error})") from error
        if len(body) > MAX_PAGE_BYTES:
            raise self._too_large()
        return body

    def _interruption(self, what: str) -> Interruption:
        return Interruption(f"{shown(self._endpoint)} {what}. Try again.")

    def _too_large(self) -> DownloadFailed:
        return DownloadFailed(
            f"{shown(self._endpoint)} sent a page of more than {MAX_PAGE_BYTES:,} bytes. Report "
            "it to the archive, or harvest a smaller --set."
        )


class _SameHost(CarefulRedirects):
    """Follows within the host, also from http to https; another host must be asked for."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request to follow with; called by urllib.

        Raises:
            DownloadFailed: it leads to another host.
        """
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        is_upgrade = (old.scheme, new.scheme, old.port, new.port) == ("http", "https", None, None)
        if old.hostname != new.hostname or not (old.netloc == new.netloc or is_upgrade):
            raise DownloadFailed(
                f"{shown(req.full_url)} leads to another host, {shown(newurl)}. If you trust it, "
                f"give that address as --endpoint."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)
